package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/ports"
)

// initFlags are what init may be told.
type initFlags struct {
	dataDir, address, passive, public string
	ftpPort, ftpsPort, sftpPort       uint16
	user, home                        string
	admin, adminAddress               string
	pw                                passwordFlags
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{Use: "init", Short: "Write a configuration and make a certificate", Args: args(),
		Long: `Write a commented portreeve.toml, make a certificate, and say which ports to open
and what to do next. An existing file is never overwritten.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initialise(cmd, &f) }}
	fl := c.Flags()
	fl.StringVar(&f.dataDir, "data-dir", "", "`DIR` of database, certificate and control socket (default: portreeve-data beside the file; /var/lib/portreeve for a file in /etc)")
	fl.StringVar(&f.address, "address", "", "listen on this IP `ADDRESS` only (default: all)")
	fl.Uint16Var(&f.ftpPort, "ftp-port", 0, "control `PORT` of FTP with explicit TLS (default: 21, or 2121 where only root may use 21)")
	fl.Uint16Var(&f.ftpsPort, "ftps-port", 0, "`PORT` of implicit FTPS (default: 990 or 2990)")
	fl.Uint16Var(&f.sftpPort, "sftp-port", 2022, "`PORT` of SFTP and SCP; 22 is often the system's own")
	fl.StringVar(&f.passive, "passive-ports", "", "`RANGE` of ports for passive data connections (default: 50000-50999, or 30000-30999 where the system gives the former to outgoing connections)")
	fl.StringVar(&f.public, "public-address", "", "`ADDRESS` or name that clients outside of a NAT reach")
	fl.StringVar(&f.user, "user", "", "make a first account with this `NAME`")
	fl.StringVar(&f.home, "home", "", "its home `DIR` (default: in the data directory)")
	fl.StringVar(&f.admin, "admin", "", "make a first administrator with this `NAME` and print a token that works once, within a day")
	fl.StringVar(&f.adminAddress, "admin-address", "", "IP address and port of the administrative interface over HTTPS (`ADDRESS`; default with --admin: 127.0.0.1:8443)")
	f.pw.register(c)
	return c
}

func (a *app) initialise(cmd *cobra.Command, f *initFlags) error {
	if f.user == "" && (f.home != "" || f.pw.stdin || f.pw.generate) {
		return usagef(cmd, "--home, --generate and --password-stdin are for the first account; name it with --user")
	}
	if f.admin != "" && f.adminAddress == "" {
		f.adminAddress = "127.0.0.1:8443"
	}
	if err := account.ValidName(f.admin); f.admin != "" && err != nil {
		return usagef(cmd, "--admin: %v", err)
	}
	file := a.configFlag
	if file == "" {
		file = a.getenv("PORTREEVE_CONFIG")
	}
	if file == "" {
		file = "portreeve.toml"
	}
	if f.passive == "" {
		f.passive = passiveRange(ports.Host().Facts())
	}
	text := f.file(file)
	// A bad flag must not leave a bad file behind.
	if _, err := config.Parse(file, []byte(text)); err != nil {
		return err
	}
	secret, show := "", false
	if f.user != "" {
		var err error
		if secret, show, err = f.pw.get(a, cmd, f.user); err != nil {
			return err
		}
	}
	if err := writeNew(file, text); err != nil {
		return err
	}
	cfg, err := config.Load(file, a.env, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "wrote %s\n", plain(file))
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w; make it yourself and give it to the server's user, or change data_dir in %s", err, file)
	}
	cs, err := certificatesOf(cfg)
	if err != nil {
		return err
	}
	for _, c := range cs {
		fmt.Fprintf(a.out, "certificate for %s\n  SHA-256 %s\n", strings.Join(c.Names, ", "), c.Fingerprint)
	}
	keys, err := hostKeysOf(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, "SSH host keys")
	for _, k := range keys {
		if k.Offered {
			fmt.Fprintf(a.out, "  %s %s\n", k.Type, k.Fingerprint)
		}
	}
	a.formerAccounts(cmd, cfg)
	if f.admin != "" {
		if err := a.firstAdministrator(cmd.Context(), cfg, f); err != nil {
			return err
		}
	}
	if f.user != "" {
		if err := a.firstUser(cmd.Context(), cfg, f, secret, show); err != nil {
			return err
		}
	}
	return a.nextSteps(file, f, cfg)
}

// formerAccounts names the accounts that are in the data directory already: of a
// quick start, mostly, whose password has been on a screen. They are about to
// be reachable from other machines.
func (a *app) formerAccounts(cmd *cobra.Command, cfg *config.Config) {
	if !exists(filepath.Join(cfg.DataDir, "portreeve.db")) {
		return
	}
	a.withAccounts(cmd, func(ctx context.Context, acc accounts) error { // whoever cannot read them cannot serve them either
		users, _, err := acc.Users(ctx, admin.ListOptions{Limit: 10})
		if err != nil || len(users) == 0 {
			return err
		}
		names := []string{}
		for _, u := range users {
			names = append(names, u.Name)
		}
		fmt.Fprintf(a.out, "accounts that %s has already, and that can log in here, too: %s\n  whoever should not: portreeve user rm NAME\n",
			plain(cfg.DataDir), strings.Join(names, ", "))
		return nil
	})
}

func (a *app) firstUser(ctx context.Context, cfg *config.Config, f *initFlags, secret string, show bool) error {
	n := admin.NewUser{Name: f.user, Password: secret}
	if f.home != "" {
		home, err := directory(f.home)
		if err != nil {
			return err
		}
		n.Home = home
	}
	return a.inProcess(ctx, cfg, func(ctx context.Context, acc accounts) error {
		u, err := acc.CreateUser(ctx, n)
		if err != nil {
			return fmt.Errorf("%w\nThe configuration is written; only the account is missing. Make it with \"portreeve user add\"", err)
		}
		if !show {
			secret = ""
		}
		return a.madeUser(u, u.Home, secret, false)
	})
}

// firstTokenFor is how long the token of the first administrator can be used.
const firstTokenFor = 24 * time.Hour

// firstAdministrator makes an administrator and a token that can be traded for
// a lasting one, once: a token that was seen on a screen should not live on.
func (a *app) firstAdministrator(ctx context.Context, cfg *config.Config, f *initFlags) error {
	return a.inProcess(ctx, cfg, func(ctx context.Context, acc accounts) error {
		ad, err := acc.CreateAdministrator(ctx, admin.NewAdministrator{Name: f.admin, AdministratorSettings: admin.AdministratorSettings{Scopes: &[]string{"all"}}})
		if err != nil {
			return fmt.Errorf("%w\nThe configuration is written; only the administrator is missing. Make it with \"portreeve admin add\"", err)
		}
		t, err := acc.CreateToken(ctx, admin.NewToken{Administrator: ad.Name, Comment: "first, made by init", Once: true, Expires: time.Now().Add(firstTokenFor)})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, `administrator %s made. This token works for one call, until %s:
  %s
Trade it for a lasting one when the server runs:
  curl --cacert %s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
    -d '{"administrator": "%s"}' https://%s/v1/tokens
`, ad.Name, t.Expires.Local().Format(time.DateTime), t.Secret, quoteArg(filepath.Join(cfg.DataDir, "tls", "selfsigned-cert.pem")), ad.Name, f.adminAddress)
		return nil
	})
}

// nextSteps prints the ports and the three commands that come next.
func (a *app) nextSteps(file string, f *initFlags, cfg *config.Config) error {
	fmt.Fprintln(a.out, "\nOpen these TCP ports in every firewall on the way:")
	p := plan(cfg)
	for _, fl := range p.Flows {
		if fl.Direction == ports.In {
			fmt.Fprintf(a.out, "  %-12s %s (%s)\n", fl.Internal.Ports, fl.Purpose, strings.Join(fl.Listeners, ", "))
		}
	}
	with := ""
	if file != "portreeve.toml" && file != a.getenv("PORTREEVE_CONFIG") && file != systemConfig {
		with = " --config " + quoteArg(file)
	}
	name := "ann"
	if f.user != "" {
		name = "another"
	}
	fmt.Fprintf(a.out, "\nNext:\n  portreeve check%s\n  portreeve user add %s --generate%s\n  portreeve serve%s\n",
		with, name, with, with)
	return nil
}

// quoteArg makes s one word for a shell.
func quoteArg(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+=:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// writeNew makes the file with its directory, and refuses to replace one.
func writeNew(file, text string) error {
	if dir := filepath.Dir(file); dir != "." {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	w, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is left as it is; name another file with --config, or edit that one and try it with \"portreeve check\"", file)
	}
	if err != nil {
		return fmt.Errorf("cannot write the configuration: %w", err)
	}
	if _, err = w.WriteString(text); err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// file is the text of the new configuration.
func (f *initFlags) file(name string) string {
	dir := f.dataDir
	if dir == "" {
		dir = quickDir
		if abs, err := filepath.Abs(name); err == nil && strings.HasPrefix(abs, "/etc/") {
			dir = "/var/lib/portreeve"
		}
	} else if abs, err := filepath.Abs(dir); err == nil {
		dir = abs // relative to this shell, not to the file
	}
	ftp, ftps := f.ftpPort, f.ftpsPort
	low := mayBindLow()
	if ftp == 0 {
		ftp = choose(low, uint16(21), 2121)
	}
	if ftps == 0 {
		ftps = choose(low, uint16(990), 2990)
	}
	at := func(port uint16) string {
		return strconv.Quote(net.JoinHostPort(strings.Trim(f.address, "[]"), strconv.Itoa(int(port))))
	}
	text := fmt.Sprintf(initText, strconv.Quote(dir), at(ftp), at(ftps), at(f.sftpPort), strconv.Quote(f.passive), strconv.Quote(f.public))
	if f.adminAddress != "" {
		text += fmt.Sprintf(adminText, strconv.Quote(f.adminAddress))
	}
	return text
}

// passiveRange is a range for passive data connections that the system does
// not give to outgoing connections, as it does with the customary 50000-50999
// on Linux.
func passiveRange(host ports.HostFacts) string {
	def := config.Default().FTP.Passive.Ports
	for _, r := range []config.PortRange{def, {First: 30000, Last: 30999}, {First: 20000, Last: 20999}} {
		if e := host.Ephemeral; r.Last < e.First || e.Last < r.First {
			return r.String()
		}
	}
	return def.String()
}

func choose[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

// mayBindLow reports whether this user may listen below 1024, as far as that
// can be told without trying: the server may run as somebody else anyway.
func mayBindLow() bool {
	if os.Geteuid() == 0 {
		return true
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && n <= 21
}

const adminText = `
# The administrative interface over HTTPS, for administrators with a token.
[admin]
address = %s
`

const initText = `# Configuration of Portreeve. After a change:  portreeve check  and  portreeve reload
# Every key, with its meaning and default:      portreeve config example
# Users are not here but in the database:       portreeve user add

# The database, the certificate and the control socket. Include it in backups.
data_dir = %s

# FTP. A session begins in the clear and turns to TLS before the password
# (explicit FTPS).  required: no log-in without TLS;  offered: the client may
# choose;  off: plain FTP only.
[[listen]]
protocol = "ftp"
address  = %s
tls      = "required"

# FTPS with TLS from the first byte (implicit FTPS).
[[listen]]
protocol = "ftps"
address  = %s

# SFTP and SCP over SSH, for the same accounts. Keys: portreeve user key add
[[listen]]
protocol = "sftp"
address  = %s

# Passive mode: clients open a second connection to one of these ports for each
# transfer. Open the whole range in every firewall on the way.
[ftp.passive]
ports   = %s
# Behind NAT: the address or name that clients reach from outside.
# Empty: the address that the client connected to.
address = %s

# Without this section a self-signed certificate is made in data_dir/tls, and
# clients must be told to trust it.
# [tls]
# cert = "/etc/portreeve/cert.pem"
# key  = "/etc/portreeve/key.pem"
`
