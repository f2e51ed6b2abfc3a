package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/certs"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/store"
)

const (
	quickUser  = "demo"
	quickMeta  = "quickstart.user" // the account that the first start made
	quickFiles = "files"           // its home, in the data directory
	quickTries = 100               // ports tried after one that is taken
	quickConns = 1000              // connections at most: it is a first try, and systems often allow few files
	selfSigned = "selfsigned-cert.pem"
)

// QuickOptions say where a server without a configuration file lives.
type QuickOptions struct {
	Dir     string       // data directory; default "portreeve-data" in the working directory
	Address string       // IP address to listen on; default 127.0.0.1. Any other than a loopback one requires TLS.
	Env     []string     // overrides of keys, as of os.Environ; nil: none
	Log     *slog.Logger // nil: silent
}

// Quick is what there is to tell about a quick start.
type Quick struct {
	Config   *config.Config // for New
	Dir      string         // data directory, absolute
	Home     string         // where the account's files are, absolute
	User     string         // the first account
	Password string         // only when the account was made just now
	Ports    []QuickPort
	Passive  string   // "50000-50099"
	CA       string   // certificate file for clients, absolute; "" when they trust the server's anyway
	Curl     string   // one line to copy; it asks for the password when it is not known
	SFTP     string   // another, for SFTP
	Notes    []string // sentences: ports that were taken, how to reset the password
}

// QuickPort is one port of a quick start.
type QuickPort struct {
	Address string // "127.0.0.1:2121"
	What    string // "FTP, with TLS on request (AUTH TLS)"
}

// QuickStart prepares a data directory with a first account and returns the
// configuration to run. It starts nothing. Ports that are taken are replaced
// by the next free ones, which Notes tell.
func QuickStart(o QuickOptions) (*Quick, error) {
	if o.Dir == "" {
		o.Dir = "portreeve-data"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %q: %w", o.Dir, err)
	}
	cfg, err := config.QuickStart(dir, o.Address, o.Env...)
	if err != nil {
		return nil, err
	}
	dir = cfg.DataDir // the environment may have moved it
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w; go to a directory where you may write, or name another with PORTREEVE_DATA_DIR", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	QuickLimits(cfg)
	q := &Quick{Config: cfg, Dir: dir, Home: filepath.Join(dir, quickFiles), Passive: cfg.FTP.Passive.Ports.String()}
	if err := q.choosePorts(); err != nil {
		return nil, err
	}
	if err := q.account(context.Background()); err != nil {
		return nil, err
	}
	cs, err := certs.Open(cfg, o.Log) // makes the certificate that the curl line names
	if err != nil {
		return nil, err
	}
	if all := cs.Describe(); len(all) > 0 && all[0].SelfSigned && cfg.TLS.Cert == "" {
		q.CA = filepath.Join(dir, "tls", selfSigned)
	}
	q.Curl, q.SFTP = q.curl(), q.sftp()
	return q, nil
}

// quickRanges are passive ranges for a first try, the best first.
var quickRanges = []config.PortRange{{First: 50000, Last: 50099}, {First: 30000, Last: 30099}, {First: 20000, Last: 20099}}

// QuickLimits gives cfg the limits of a quick start on this machine, so that
// other commands judge the server that runs and not the defaults of a real one.
func QuickLimits(cfg *config.Config) { quickLimits(cfg, ports.Host().Facts()) }

// quickLimits replaces defaults that are meant for a real server, unless the
// environment has set them: fewer connections, and a small passive range that
// the system does not give to outgoing connections.
func quickLimits(cfg *config.Config, host ports.HostFacts) {
	def := config.Default()
	if cfg.Limits.MaxConnections == def.Limits.MaxConnections {
		cfg.Limits.MaxConnections = quickConns
	}
	if cfg.FTP.Passive.Ports != def.FTP.Passive.Ports {
		return
	}
	cfg.FTP.Passive.Ports = quickRanges[0]
	for _, r := range quickRanges {
		if e := host.Ephemeral; r.Last < e.First || e.Last < r.First {
			cfg.FTP.Passive.Ports = r
			return
		}
	}
}

// choosePorts moves listeners off ports that are taken.
func (q *Quick) choosePorts() error {
	cfg := q.Config
	used := map[uint16]bool{}
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		want, tries := l.Port(), 0
		for {
			err := tryPort(l)
			if err == nil && !used[l.Port()] {
				break
			}
			if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
				return err
			}
			if tries++; tries > quickTries {
				return err
			}
			next := l.Port() + 1
			host, _, _ := net.SplitHostPort(l.Address)
			l.Address, l.Name = net.JoinHostPort(host, strconv.Itoa(int(next))), ""
		}
		used[l.Port()] = true
		if l.Port() != want {
			owner := portOwner(want)
			if owner == "" {
				owner = "another program"
			}
			q.Notes = append(q.Notes, fmt.Sprintf("Port %d is taken by %s, so %s is on port %d this time.", want, owner, what(l), l.Port()))
		}
	}
	if err := cfg.Complete(); err != nil {
		return err
	}
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		q.Ports = append(q.Ports, QuickPort{Address: l.Address, What: what(l)})
	}
	return nil
}

func tryPort(l *config.Listen) error {
	ln, err := bind(l, nil)
	if err == nil {
		ln.Close()
	}
	return err
}

func what(l *config.Listen) string {
	switch {
	case l.Protocol == config.ProtocolSFTP:
		return "SFTP and SCP (SSH)"
	case l.Implicit():
		return "FTP over TLS (implicit FTPS)"
	case l.TLS == config.Required:
		return "FTP, TLS required (explicit FTPS, AUTH TLS)"
	case l.TLS == config.Offered:
		return "FTP, with TLS on request (explicit FTPS, AUTH TLS)"
	}
	return "FTP without TLS"
}

// account finds the first account or makes it.
func (q *Quick) account(ctx context.Context) error {
	db, err := openStore(ctx, q.Dir)
	if err != nil {
		return err
	}
	err = q.accountIn(ctx, db)
	return errors.Join(err, db.Close())
}

func (q *Quick) accountIn(ctx context.Context, db *store.DB) error {
	name, err := db.Meta(ctx, quickMeta)
	if err != nil && fault.KindOf(err) != fault.NotExist {
		return err
	}
	if name != "" {
		u, err := db.UserByName(ctx, name)
		if err == nil {
			q.known(u)
			return nil
		}
		if fault.KindOf(err) != fault.NotExist {
			return err
		}
	}
	users, err := db.ListUsers(ctx, "", 1)
	if err != nil {
		return err
	}
	if len(users) > 0 { // somebody's own accounts: do not add one with a password nobody asked for
		q.known(users[0])
		return nil
	}
	if err := os.MkdirAll(q.Home, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory for files: %w", err)
	}
	h, err := auth.NewHasher(auth.HasherOptions{})
	if err != nil {
		return err
	}
	password := auth.RandomPassword()
	hash, err := h.Hash(ctx, password)
	if err != nil {
		return err
	}
	if _, err := db.CreateUser(ctx, account.User{Name: quickUser, Comment: "made by the first start without a configuration", PasswordHash: hash, Home: q.Home}); err != nil {
		return err
	}
	q.User, q.Password = quickUser, password
	q.Notes = append(q.Notes, "This password is shown only now; it is stored as a hash. Write it down, or set another with: portreeve user passwd "+quickUser)
	return db.SetMeta(ctx, quickMeta, quickUser)
}

func (q *Quick) known(u account.User) {
	q.User = u.Name
	if u.Home != "" {
		q.Home = u.Home
	}
	q.Notes = append(q.Notes, fmt.Sprintf("The account %s exists from an earlier start. If its password is lost, set a new one with: portreeve user passwd %s", u.Name, u.Name))
}

// curl is a command that uploads a small file over explicit TLS. The server's
// own certificate file makes curl verify the server as it would any other.
func (q *Quick) curl() string {
	host, port := q.reach(config.ProtocolFTP)
	login := q.User
	if q.Password != "" {
		login += ":" + q.Password
	}
	trust := ""
	if q.CA != "" {
		trust = " --cacert " + shellQuote(q.CA)
	}
	return fmt.Sprintf("echo hello | curl --ssl-reqd%s --user %s --upload-file - ftp://%s/hello.txt",
		trust, shellQuote(login), net.JoinHostPort(host, port))
}

// sftp is a command that opens an SFTP session; it asks for the password.
func (q *Quick) sftp() string {
	host, port := q.reach(config.ProtocolSFTP)
	return fmt.Sprintf("sftp -P %s %s@%s", port, shellQuote(q.User), host)
}

// reach returns where a client on this machine finds the listener of a protocol.
func (q *Quick) reach(p config.Protocol) (host, port string) {
	host = "127.0.0.1"
	for i := range q.Config.Listen {
		l := &q.Config.Listen[i]
		if l.Protocol != p {
			continue
		}
		if a := l.Host(); a.IsValid() && !a.IsUnspecified() {
			host = a.String()
		} else if a == netip.IPv6Unspecified() {
			host = "::1"
		}
		port = strconv.Itoa(int(l.Port()))
	}
	return host, port
}

// shellQuote makes s one word for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
