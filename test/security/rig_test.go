package security

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/server"
	"github.com/portreeve/portreeve/internal/store"
)

const password = "correct horse battery"

// rig is a running server with the user ann, whose home is home, beside which
// lies a directory that nobody may see.
type rig struct {
	t       *testing.T
	s       *server.Server
	dir     string
	data    string
	home    string
	outside string // beside home, its name begins with that of home
	logs    *logBuffer
	load    func() (*config.Config, error) // of a reload; nil: cannot
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

// The listeners: in the clear, TLS required, and behind a proxy, where the
// client says which address it comes from.
const (
	clear = iota
	secure
	proxied
)

// start runs a server; more is TOML for the top of the file, users are added to ann.
func start(t *testing.T, more string, users ...account.User) *rig {
	t.Helper()
	return run(t, t.TempDir(), "", more, users...)
}

// startIn runs a server on a data directory that exists.
func startIn(t *testing.T, data string) *rig {
	t.Helper()
	return run(t, t.TempDir(), data, "")
}

func run(t *testing.T, dir, data, more string, users ...account.User) *rig {
	t.Helper()
	if data == "" {
		data = filepath.Join(dir, "data")
	}
	r := &rig{t: t, dir: dir, data: data, home: filepath.Join(dir, "srv", "ann"), outside: filepath.Join(dir, "srv", "ann-secret"), logs: &logBuffer{}}
	for _, d := range []string{r.home, r.outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.file(filepath.Join(r.outside, "secret.txt"), "secret")
	first := 20000 + 50*rand.IntN(200)
	toml := fmt.Sprintf("data_dir = %q\ndrain = \"5s\"\n%s\n[ftp.passive]\nports = \"%d-%d\"\n", data, more, first, first+49) +
		"[[listen]]\nname = \"clear\"\nprotocol = \"ftp\"\naddress = \"127.0.0.1:0\"\ntls = \"offered\"\n" +
		"[[listen]]\nname = \"secure\"\nprotocol = \"ftp\"\naddress = \"127.0.0.1:0\"\n" +
		"[[listen]]\nname = \"proxied\"\nprotocol = \"ftp\"\naddress = \"127.0.0.1:0\"\ntls = \"off\"\nproxy = [\"127.0.0.1\"]\n"
	cfg, err := config.Parse(filepath.Join(dir, "portreeve.toml"), []byte(toml))
	if err != nil {
		t.Fatal(err)
	}
	r.accounts(append([]account.User{{Name: "ann", Home: r.home}}, users...))
	ready := make(chan struct{})
	r.s, err = server.New(cfg, server.Options{Version: "test", Load: func() (*config.Config, error) { return r.load() }, Log: slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelWarn})), Ready: func(*server.Server) { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.logs)
		}
	})
	<-ready
	return r
}

func (r *rig) accounts(users []account.User) {
	r.t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(r.data, store.FileName))
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	h, err := auth.NewHasher(auth.HasherOptions{Params: auth.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, u := range users {
		if u.PasswordHash == "" {
			if u.PasswordHash, err = h.Hash(ctx, password); err != nil {
				r.t.Fatal(err)
			}
		}
		if u.PasswordHash == "none" {
			u.PasswordHash = ""
		}
		if _, err := db.CreateUser(ctx, u); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) file(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// originOf is the origin of some session.
func originOf() auth.Origin { return auth.Origin{Protocol: "ftp", Listener: "clear"} }

func (r *rig) address(listener int) string { return r.s.Status().Listeners[listener].Address }

// client speaks lines.
type client struct {
	t   *testing.T
	raw net.Conn
	c   net.Conn
	r   *bufio.Reader
}

func (r *rig) connect(listener int) *client {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.address(listener), 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t: r.t, raw: c, c: c, r: bufio.NewReader(c)}
}

// from connects as if from another address; "" when it is not greeted.
func (r *rig) from(addr string) (*client, string) {
	r.t.Helper()
	c := r.connect(proxied)
	fmt.Fprintf(c.c, "PROXY TCP4 %s 127.0.0.1 4000 21\r\n", addr)
	reply, err := c.read()
	if err != nil {
		return c, ""
	}
	return c, reply
}

// login connects in the clear and logs in.
func (r *rig) login(name string) *client {
	r.t.Helper()
	c := r.connect(clear)
	c.want("220")
	c.do("USER "+name, "331")
	c.do("PASS "+password, "230")
	return c
}

func (c *client) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, line+"\r\n"); err != nil {
		c.t.Fatalf("sending %q: %v", line, err)
	}
}

// read returns one whole reply.
func (c *client) read() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if len(line) > 3 && line[3] == ' ' && strings.Trim(line[:3], "0123456789") == "" {
			return all.String(), nil
		}
	}
}

// want reads a reply that begins with one of the codes.
func (c *client) want(codes ...string) string {
	c.t.Helper()
	reply, err := c.read()
	if err != nil {
		c.t.Fatalf("waiting for %v: %q, %v", codes, reply, err)
	}
	last := reply[strings.LastIndex(strings.TrimRight(reply, "\r\n"), "\n")+1:]
	for _, code := range codes {
		if strings.HasPrefix(last, code) {
			return reply
		}
	}
	c.t.Fatalf("got %q, want %v", reply, codes)
	return ""
}

func (c *client) do(line string, codes ...string) string {
	c.t.Helper()
	c.send(line)
	reply, err := c.read()
	if err != nil {
		c.t.Fatalf("%q: %q, %v", line, reply, err)
	}
	last := reply[strings.LastIndex(strings.TrimRight(reply, "\r\n"), "\n")+1:]
	for _, code := range codes {
		if strings.HasPrefix(last, code) {
			return reply
		}
	}
	c.t.Fatalf("%q: got %q, want %v", line, reply, codes)
	return ""
}

// gone checks that the server ends the connection.
func (c *client) gone() {
	c.t.Helper()
	c.raw.SetReadDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Error("the connection is still open")
		}
	}
}

// authTLS protects the control connection.
func (c *client) authTLS() {
	c.t.Helper()
	c.do("AUTH TLS", "234")
	c.shake()
}

func (c *client) shake() {
	c.t.Helper()
	tc := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.c, c.r = tc, bufio.NewReader(tc)
}

// passive asks for a data port.
func (c *client) passive() string {
	c.t.Helper()
	reply := c.do("EPSV", "229")
	_, after, _ := strings.Cut(reply, "|||")
	port, _, _ := strings.Cut(after, "|")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		c.t.Fatalf("EPSV: %q", reply)
	}
	return "127.0.0.1:" + port
}

func (c *client) dialData() net.Conn {
	c.t.Helper()
	d, err := net.DialTimeout("tcp", c.passive(), 10*time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	d.SetDeadline(time.Now().Add(30 * time.Second))
	return d
}

// fetch runs a command that sends data; the reply is the refusal or the end.
func (c *client) fetch(line string) (data, reply string) {
	c.t.Helper()
	d := c.dialData()
	defer d.Close()
	c.send(line)
	reply, err := c.read()
	if err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	if !strings.HasPrefix(reply, "1") {
		return "", reply
	}
	b, _ := io.ReadAll(d)
	return string(b), c.want("2", "4", "5")
}

// store runs a command that receives data and returns its last reply.
func (c *client) store(line, data string) string {
	c.t.Helper()
	d := c.dialData()
	defer d.Close()
	c.send(line)
	reply, err := c.read()
	if err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	if !strings.HasPrefix(reply, "1") {
		return reply
	}
	io.WriteString(d, data)
	d.Close()
	return c.want("2", "4", "5")
}

func refused(reply string) bool {
	return strings.HasPrefix(reply, "4") || strings.HasPrefix(reply, "5")
}

// untouched checks that the secret beside the home is as it was.
func (r *rig) untouched() {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.outside, "secret.txt"))
	es, _ := os.ReadDir(r.outside)
	if err != nil || string(b) != "secret" || len(es) != 1 {
		r.t.Errorf("something outside was changed: %q, %d entries, %v", b, len(es), err)
	}
	top, _ := os.ReadDir(filepath.Dir(r.home))
	if len(top) != 2 {
		r.t.Errorf("something was made beside the home: %v", top)
	}
}

// alive checks that the server still serves others.
func (r *rig) alive() {
	r.t.Helper()
	c := r.login("ann")
	c.do("NOOP", "200")
	c.do("QUIT", "221")
}
