package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/doctor"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/server"
)

type doctorFlags struct {
	asJSON, verbose, quick, noRouter bool
	user                             string
	passwordStdin                    bool
	write, clear, insecure           bool
	plainPort, implicitPort          uint16
	timeout, idle                    time.Duration
	knownHosts, ca                   string
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	c := &cobra.Command{Use: "doctor [ftp://HOST[:PORT] | ftps://HOST[:PORT] | sftp://HOST[:PORT]]", Short: "Find out why data connections fail", Args: args("[ADDRESS]"),
		Long: `Without an address: check this machine, where the server runs or will run: its
configuration, ports, firewall, routes, certificates, and what the running
server has recorded. As root it sees more.

With an address: examine that server from here, whichever product it is. Every
mode is tried with a listing: plain, explicit and implicit TLS; PASV, EPSV,
PORT, EPRT; IPv4 and IPv6. A Portreeve server is asked what it saw. With ftp://
the password travels unprotected, as it does when the mode is used; with
ftps:// it does not, unless --clear is given.

With sftp:// (and, as notes, where SSH is found beside FTP): what answers, the host
keys with fingerprints and SSHFP records, the algorithms on offer, the ways to log
in, and with an account a listing and, with --write, a small file. The password is
sent only to a host key that --known-hosts has, or with --insecure.

Each finding names the cause, the box and the cure. Exit code 3: there are findings.`,
		Example: `  sudo portreeve doctor
  portreeve doctor ftp://ftp.example.org
  echo secret | portreeve doctor ftps://ftp.example.org --user ann --password-stdin`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return a.doctorHere(cmd.Context(), &f)
			}
			return a.doctorThere(cmd, given[0], &f)
		}}
	fl := c.Flags()
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "also print every probe")
	fl.BoolVar(&f.noRouter, "no-router", false, "here: do not ask the router for its outer address")
	fl.StringVar(&f.user, "user", "", "log in as `NAME` (default: anonymous)")
	fl.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from standard input")
	fl.BoolVar(&f.write, "write", false, "also store a small file, read it back and remove it")
	fl.BoolVar(&f.clear, "clear", false, "with ftps://: also send the password unprotected, to compare")
	fl.BoolVar(&f.insecure, "insecure", false, "with ftps:// and sftp://: send the password although certificate or host key cannot be verified")
	fl.StringVar(&f.ca, "ca", "", "PEM `FILE` with the server's certificate or its authority, for a server that no public authority vouches for")
	fl.StringVar(&f.knownHosts, "known-hosts", "", "compare SSH host keys with this `FILE`, such as ~/.ssh/known_hosts")
	fl.Uint16Var(&f.plainPort, "plain-port", 0, "`PORT` of FTP and explicit FTPS (default 21)")
	fl.Uint16Var(&f.implicitPort, "implicit-port", 0, "`PORT` of implicit FTPS (default 990)")
	fl.DurationVar(&f.timeout, "timeout", 7*time.Second, "how `LONG` to wait for each connection; under 4s some causes look alike")
	fl.DurationVar(&f.idle, "idle", 20*time.Second, "how `LONG` to watch a quiet connection")
	fl.BoolVar(&f.quick, "quick", false, "do not watch a quiet connection")
	return c
}

// progress shows what is being done on a terminal, on one line that goes away.
func (a *app) progress() (say func(string), done func()) {
	if _, tty := terminal(a.err); !tty {
		return nil, func() {}
	}
	return func(s string) { fmt.Fprintf(a.err, "\r\x1b[K%s ...", plain(s)) }, func() { fmt.Fprint(a.err, "\r\x1b[K") }
}

// doctorAnswer is the answer of doctor --json on the server's machine.
type doctorAnswer struct {
	Running  int              `json:"running"` // process, 0 when none runs
	Crypto   string           `json:"crypto_policy,omitempty"`
	Findings []doctor.Finding `json:"findings"`
}

func (a *app) doctorHere(ctx context.Context, f *doctorFlags) error {
	if f.user != "" || f.write || f.clear || f.passwordStdin {
		return errors.New("these flags are for examining a server from a client; give its address, such as ftp://ftp.example.org")
	}
	say, done := a.progress()
	cfg, err := a.load()
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		fs := []doctor.Finding{}
		for _, m := range mistakes {
			fs = append(fs, doctor.Finding{Code: "CONFIG", Title: "the configuration has mistakes", Box: "server", Severity: doctor.Error, Cause: m.Error(), Fix: "correct the file; the rest cannot be checked before"})
		}
		return a.told(f, doctorAnswer{Findings: fs}, fs)
	}
	if err != nil {
		return err
	}
	env := &doctor.Env{Config: cfg, Host: ports.Host().Facts(), Running: server.HolderOf(cfg.DataDir), Routes: doctor.ReadRoutes(), Now: time.Now()}
	if !f.noRouter {
		env.Router = doctor.AskRouter
	}
	if env.Running != 0 {
		cl := api.NewClient(cfg.Admin.Socket)
		if m, err := cl.Matrix(ctx); err == nil {
			env.Matrix = &m
		}
		cl.Close()
	}
	fs := doctor.RunChecks(ctx, doctor.ServerChecks(), env, say)
	done()
	if !f.asJSON {
		fmt.Fprintf(a.out, "crypto policy: %s\n\n", cfg.Crypto().Name)
	}
	return a.told(f, doctorAnswer{Running: env.Running, Crypto: string(cfg.Crypto().Name), Findings: fs}, fs)
}

// told prints an answer and chooses the exit code.
func (a *app) told(f *doctorFlags, v any, fs []doctor.Finding) error {
	if f.asJSON {
		if err := writeJSON(a.out, v); err != nil {
			return err
		}
	} else {
		showFindings(a.out, fs)
	}
	if doctor.Found(fs) {
		return errFindings
	}
	return nil
}

func showFindings(w io.Writer, fs []doctor.Finding) {
	if len(fs) == 0 {
		fmt.Fprintln(w, "Nothing found.")
		return
	}
	for i := range fs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		for line := range strings.Lines(fs[i].Text()) {
			fmt.Fprintln(w, plain(strings.TrimRight(line, "\n")))
		}
	}
}

func (a *app) doctorThere(cmd *cobra.Command, address string, f *doctorFlags) error {
	u, err := doctor.ParseTarget(address)
	if err != nil {
		return usagef(cmd, "%v", err)
	}
	o := doctor.ClientOptions{User: f.user, Write: f.write, Clear: f.clear, Insecure: f.insecure, Timeout: f.timeout, Idle: f.idle, PlainPort: f.plainPort, ImplicitPort: f.implicitPort, KnownHosts: f.knownHosts}
	if f.quick {
		o.Idle = -1
	}
	if f.ca != "" {
		if o.Roots, err = rootsWith(f.ca); err != nil {
			return err
		}
	}
	if f.passwordStdin {
		if o.Password, err = a.readPassword(); err != nil {
			return err
		}
	}
	say, done := a.progress()
	o.Progress = say
	rep, err := doctor.Examine(cmd.Context(), u, o)
	done()
	if err != nil {
		return err
	}
	if !f.asJSON {
		showReport(a.out, rep, f.verbose)
	}
	return a.told(f, rep, rep.Findings)
}

// marks are the signs of the matrix.
var marks = map[doctor.Outcome]string{doctor.OK: "ok"}

func showReport(w io.Writer, r *doctor.Report, verbose bool) {
	fmt.Fprintf(w, "%s  %s\n\n", r.Target, plain(r.Product))
	rows := [][]string{{"", "PASV", "EPSV", "PORT", "EPRT"}}
	for _, fam := range []string{"ipv4", "ipv6"} {
		for _, sec := range []doctor.Security{doctor.Plain, doctor.Explicit, doctor.Implicit} {
			row := []string{fam + " " + string(sec), "-", "-", "-", "-"}
			tried := false
			for i := range r.Probes {
				p := &r.Probes[i]
				if p.Family != fam || p.Security != sec {
					continue
				}
				tried = true
				said := marks[p.Outcome]
				if said == "" {
					said = string(p.Outcome)
					if p.Stage != doctor.AtData {
						said += "@" + string(p.Stage)
					}
				}
				for j, m := range rows[0] {
					if m == p.Mode && j > 0 {
						row[j] = said
					}
				}
			}
			if tried {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) > 1 {
		table(w, rows)
		fmt.Fprintln(w)
	}
	for i := range r.SSH {
		showSSH(w, &r.SSH[i], verbose)
	}
	if verbose {
		for _, d := range r.Doors {
			fmt.Fprintf(w, "port %s: %s %s %s\n", d.Addr, d.Outcome, d.Says, plain(d.Banner+d.Error))
		}
		for i := range r.Probes {
			fmt.Fprintln(w, plain(r.Probes[i].String()))
		}
		for i := range r.Traces {
			fmt.Fprintln(w, r.Traces[i].String())
		}
		if r.Server != nil {
			for _, l := range r.Server.Lines {
				fmt.Fprintln(w, "server:", plain(l))
			}
		}
		fmt.Fprintln(w)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n\n", n)
	}
}

// rootsWith returns the authorities of the system and those of a PEM file.
func rootsWith(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--ca: %s contains no certificate in PEM form", plain(file))
	}
	return pool, nil
}

func showSSH(w io.Writer, s *doctor.SSH, verbose bool) {
	fmt.Fprintf(w, "SSH at %s  %s\n", s.Addr, plain(s.Version))
	rows := [][]string{{"HOST KEY", "BITS", "FINGERPRINT", "KNOWN"}}
	for _, k := range s.Keys {
		bits := "-"
		if k.Bits > 0 {
			bits = strconv.Itoa(k.Bits)
		}
		rows = append(rows, []string{plain(k.Type), bits, k.Fingerprint, orDash(k.Known)})
	}
	table(w, rows)
	if len(s.Auth) > 0 {
		fmt.Fprintf(w, "log-in by %s\n", strings.Join(s.Auth, ", "))
	}
	if s.Login != "" {
		fmt.Fprintf(w, "log-in: %s\n", plain(s.Login))
	}
	if s.Transfer != "" {
		fmt.Fprintf(w, "SFTP: %s\n", s.Transfer)
	}
	if verbose {
		for _, k := range s.Keys {
			if k.SSHFP != "" {
				fmt.Fprintln(w, k.SSHFP)
			}
		}
		for _, l := range [][2]string{{"key exchange", strings.Join(s.Kex, " ")}, {"host keys", strings.Join(s.HostKeys, " ")}, {"ciphers", strings.Join(s.Ciphers, " ")}, {"MACs", strings.Join(s.MACs, " ")}} {
			fmt.Fprintf(w, "%s: %s\n", l[0], plain(l[1]))
		}
	}
	fmt.Fprintln(w)
}
