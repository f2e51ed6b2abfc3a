package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/localfs"
)

// rig is a server on a directory of its own, with the real verifiers for keys
// and a table of accounts whose password is "secret".
type rig struct {
	t    *testing.T
	s    *Server
	m    *session.Manager
	addr string
	dir  string // what the account sees as /
	host ssh.PublicKey
	ca   *auth.UserCA

	mu    sync.Mutex
	users map[string]account.User
	seen  []events.Event
	quota [2]int64
	log   bytes.Buffer
}

func (r *rig) UserByName(_ context.Context, name string) (account.User, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.users[name]
	if !ok {
		return u, fault.New(fault.NotExist, "load user", "", nil)
	}
	return u, nil
}

// Verify is the password verifier; hashing is not what is tested here.
func (r *rig) Verify(ctx context.Context, _ auth.Origin, c auth.Credential) (auth.Identity, error) {
	p, ok := c.(auth.Password)
	u, err := r.UserByName(ctx, c.Username())
	if !ok || err != nil || p.Secret != "secret" || u.KeyOnly {
		return auth.Identity{}, auth.ErrBad
	}
	return auth.Identity{User: u, Method: "password"}, nil
}

// chain is the verifiers together, as the server has them.
type chain struct{ auth.Chain }

func (r *rig) Accepts(c auth.Credential) bool { _, ok := c.(auth.Password); return ok }

func (r *rig) Append(_ context.Context, es []events.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, es...)
	return nil
}

func (r *rig) QuotaUsed(context.Context, string) (int64, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quota[0], r.quota[1], nil
}

func (r *rig) AddQuota(_ context.Context, _ string, b, f int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quota[0] += b
	r.quota[1] += f
	return nil
}

// events waits for n events of a kind.
func (r *rig) events(k events.Kind, n int) []events.Event {
	r.t.Helper()
	var out []events.Event
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		out = out[:0]
		for _, e := range r.seen {
			if e.Kind == k {
				out = append(out, e)
			}
		}
		r.mu.Unlock()
		if len(out) >= n {
			return out
		}
	}
	r.t.Fatalf("%d events of kind %s, want %d", len(out), k, n)
	return nil
}

type lockedWriter struct{ r *rig }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(p)
}

func hostKey(t testing.TB) HostKey {
	t.Helper()
	file, err := NewHostKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseHostKey(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRig(t *testing.T, set func(*Options)) *rig {
	r := &rig{t: t, users: map[string]account.User{}, dir: t.TempDir()}
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}}})
	bus := events.NewBus(events.Options{Sink: r})
	t.Cleanup(func() { bus.Close(context.Background()) })
	l := limits.New(limits.Config{NoLoginDelay: true, Quota: r})
	verifier := chain{auth.Chain{&auth.KeyVerifier{Users: r, CA: func() *auth.UserCA { return r.ca }}, r}}
	open := func(context.Context, account.Mount, account.Policy) (vfs.FS, error) {
		return localfs.New(r.dir, localfs.Options{})
	}
	r.m = session.NewManager(session.Config{Users: r}, verifier, open, l, bus)
	k := hostKey(t)
	r.host = k.signer.PublicKey()
	o := Options{Listener: "test", HostKeys: []HostKey{k}, Algorithms: algorithmsOf(config.Default()), Log: slog.New(slog.NewTextHandler(lockedWriter{r}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if set != nil {
		set(&o)
	}
	var err error
	if r.s, err = New(r.m, o); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.s.Shutdown(ctx)
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if n := r.s.Connections(); n != 0 {
			t.Errorf("%d connections are left after Shutdown", n)
		}
		if bytes.Contains(r.log.Bytes(), []byte("panic")) {
			t.Errorf("the server panicked:\n%s", r.log.String())
		}
	})
	return r
}

func (r *rig) user(u account.User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.Home == "" {
		u.Home = r.dir
	}
	u.PasswordHash = "x"
	r.users[u.Name] = u
}

// newKey makes a client key and its authorized_keys line.
func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s, string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func (r *rig) dial(user string, m ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", r.addr, &ssh.ClientConfig{User: user, Auth: m, HostKeyCallback: ssh.FixedHostKey(r.host), Timeout: 10 * time.Second})
}

// client logs in as ann with her password.
func (r *rig) client() *ssh.Client {
	r.t.Helper()
	c, err := r.dial("ann", ssh.Password("secret"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) sftp() *pkgsftp.Client {
	r.t.Helper()
	x, err := pkgsftp.NewClient(r.client(), pkgsftp.UseConcurrentWrites(true))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { x.Close() })
	return x
}

// run executes a command and returns its output and exit status.
func (r *rig) run(c *ssh.Client, in, command string) (out, errs string, code int) {
	r.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	var o, e bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = bytes.NewReader([]byte(in)), &o, &e
	err = s.Run(command)
	var x *ssh.ExitError
	if errors.As(err, &x) {
		code = x.ExitStatus()
	} else if err != nil {
		code = -1
	}
	return o.String(), e.String(), code
}

func (r *rig) put(name, text string) {
	r.t.Helper()
	p := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) get(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// names lists the directory on disk, hidden names too.
func (r *rig) names() []string {
	r.t.Helper()
	es, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}

type (
	sshChannel = ssh.Channel
	sshRequest = ssh.Request
)

func originOf(remote string) auth.Origin {
	return auth.Origin{Protocol: "sftp", Listener: "test", Remote: netip.MustParseAddrPort(remote)}
}

func passwordOf(user string) auth.Credential { return auth.Password{User: user, Secret: "secret"} }
