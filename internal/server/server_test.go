package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
)

const (
	testUser     = "ann"
	testPassword = "correct horse battery"
)

// rig is a running server in a directory of its own.
type rig struct {
	t    *testing.T
	s    *Server
	dir  string // data_dir and configuration
	home string
	logs *logBuffer
	stop context.CancelFunc
	done chan error

	mu   sync.Mutex
	toml string
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// passiveRange returns a range of ports of its own for a test, as far as chance allows.
func passiveRange() string {
	first := 20000 + 50*rand.IntN(200)
	return fmt.Sprintf("%d-%d", first, first+49)
}

// listenTOML is one entry.
func listenTOML(protocol, address, more string) string {
	return fmt.Sprintf("\n[[listen]]\nprotocol = %q\naddress = %q\n%s\n", protocol, address, more)
}

// start runs a server with the given listeners and further TOML. It is stopped,
// and checked for leaks, when the test ends.
func start(t *testing.T, more string) *rig {
	t.Helper()
	r := prepare(t, more)
	r.run()
	return r
}

// prepare writes the configuration and the account without starting.
func prepare(t *testing.T, more string) *rig {
	t.Helper()
	noLeaks(t)
	r := &rig{t: t, dir: t.TempDir(), logs: &logBuffer{}}
	r.home = filepath.Join(r.dir, "home")
	r.toml = fmt.Sprintf("data_dir = %q\ndrain = \"20s\"\n[ftp.passive]\nports = %q\n", filepath.Join(r.dir, "data"), passiveRange()) + more
	r.write(r.toml)
	r.addUser(account.User{Name: testUser, Home: r.home})
	return r
}

func (r *rig) write(toml string) {
	r.t.Helper()
	r.mu.Lock()
	r.toml = toml
	r.mu.Unlock()
	if err := os.WriteFile(r.file(), []byte(toml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) file() string { return filepath.Join(r.dir, "portreeve.toml") }

func (r *rig) config() *config.Config {
	r.t.Helper()
	cfg, err := config.Load(r.file(), nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

// addUser makes an account with testPassword; no server may run.
func (r *rig) addUser(u account.User) {
	r.t.Helper()
	ctx := context.Background()
	db, err := openStore(ctx, filepath.Join(r.dir, "data"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	h, err := auth.NewHasher(auth.HasherOptions{Params: auth.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	if err != nil {
		r.t.Fatal(err)
	}
	if u.PasswordHash, err = h.Hash(ctx, testPassword); err != nil {
		r.t.Fatal(err)
	}
	if _, err := db.CreateUser(ctx, u); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) options() Options {
	return Options{Version: "test", Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Load: func() (*config.Config, error) { return config.Load(r.file(), nil, nil) }}
}

func (r *rig) run(services ...Service) {
	r.t.Helper()
	opt := r.options()
	opt.Services = services
	ready := make(chan struct{})
	opt.Ready = func(*Server) { close(ready) }
	s, err := New(r.config(), opt)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.s, r.stop, r.done = s, cancel, make(chan error, 1)
	go func() { r.done <- s.Run(ctx) }()
	r.t.Cleanup(func() {
		r.halt()
		if r.t.Failed() {
			r.t.Logf("log:\n%s", r.logs)
		}
	})
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		r.t.Fatal("the server is not ready after 20 s")
	}
}

// halt stops the server and waits; more than one call is fine.
func (r *rig) halt() {
	r.t.Helper()
	if r.done == nil {
		return
	}
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run: %v", err)
		}
		r.done = nil
	case <-time.After(60 * time.Second):
		buf := make([]byte, 1<<20)
		r.t.Fatalf("the server does not stop:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// address is that of the n-th listener.
func (r *rig) address(n int) string {
	r.t.Helper()
	ls := r.s.Status().Listeners
	if n >= len(ls) {
		r.t.Fatalf("there are only %d listeners", len(ls))
	}
	return ls[n].Address
}

// trust is a TLS configuration that accepts the server's own certificate only.
func (r *rig) trust() *tls.Config {
	r.t.Helper()
	pem, err := os.ReadFile(filepath.Join(r.dir, "data", "tls", selfSigned))
	if err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		r.t.Fatal("no certificate in the server's file")
	}
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// dial connects and logs in.
func (r *rig) dial(n int, o ftp.ClientOptions) *ftp.Client {
	r.t.Helper()
	c, err := r.tryDial(r.address(n), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) tryDial(addr string, o ftp.ClientOptions) (*ftp.Client, error) {
	if o.TLS != ftp.NoTLS {
		o.TLSConfig = r.trust()
	}
	o.Timeout = 20 * time.Second
	ctx := context.Background()
	c, err := ftp.Dial(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	if err := c.Login(ctx, testUser, testPassword); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func put(t *testing.T, c *ftp.Client, name string, data []byte) {
	t.Helper()
	if _, err := c.Store(context.Background(), name, bytes.NewReader(data), 0); err != nil {
		t.Fatalf("STOR %s: %v", name, err)
	}
}

func get(t *testing.T, c *ftp.Client, name string) []byte {
	t.Helper()
	rd, err := c.Retrieve(context.Background(), name, 0)
	if err != nil {
		t.Fatalf("RETR %s: %v", name, err)
	}
	data, err := io.ReadAll(rd)
	if err = errors.Join(err, rd.Close()); err != nil {
		t.Fatalf("RETR %s: %v", name, err)
	}
	return data
}

// noLeaks compares goroutines and descriptors at the end of a test with those at its beginning.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		var g, f int
		for range 100 {
			runtime.GC()
			if g, f = runtime.NumGoroutine(), openFiles(t); g <= goroutines && f <= files {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("leak: %d goroutines after %d, %d descriptors after %d\n%s", g, goroutines, f, files, buf[:runtime.Stack(buf, true)])
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// freePort is one that nobody uses now.
func freePort(t *testing.T) int {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

var inClear = ftp.ClientOptions{}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}
