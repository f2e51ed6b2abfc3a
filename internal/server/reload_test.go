package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// TestReload adds and removes listeners while a session on a removed one moves
// a file, and changes settings of one that stays.
func TestReload(t *testing.T) {
	a, b, c := freePort(t), freePort(t), freePort(t)
	addr := func(p int) string { return fmt.Sprintf("127.0.0.1:%d", p) }
	r := start(t, listenTOML("ftp", addr(a), `tls = "off"`)+listenTOML("ftp", addr(b), `tls = "off"`))
	base, _, _ := strings.Cut(r.toml, "\n[[listen]]")

	stays := dialRaw(t, addr(a))
	stays.expect("220")
	stays.login()
	busy, err := r.tryDial(addr(b), ftp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := busy.Store(context.Background(), "/slow.bin", in, 0)
		sent <- err
	}()
	out.Write(make([]byte, 1<<20))
	eventually(t, "the upload to run", func() bool { return r.s.Status().Transfers == 1 })
	before := r.s.sockets[0].acc

	r.write(base + listenTOML("ftp", addr(a), "tls = \"off\"\nbanner = \"New sign.\"") + listenTOML("ftps", addr(c), ""))
	rep, err := r.s.Reload(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(rep.Opened) != "[ftps "+addr(c)+"]" || fmt.Sprint(rep.Closed) != "[ftp "+addr(b)+"]" {
		t.Errorf("report: %+v", rep)
	}
	if r.s.sockets[0].acc != before {
		t.Error("the listener that stays has a new socket")
	}
	if c, err := net.DialTimeout("tcp", addr(b), 5*time.Second); err == nil {
		c.Close()
		t.Error("the removed listener still accepts")
	}
	l := dialRaw(t, addr(a))
	if got := l.expect("220"); !strings.Contains(got, "New sign.") {
		t.Errorf("the new greeting is not in force: %q", got)
	}
	l.c.Close()
	put(t, r.dial(1, ftp.ClientOptions{TLS: ftp.ImplicitTLS}), "/new.bin", []byte("over the new listener"))
	stays.send("NOOP")
	stays.expect("200")
	out.Write(make([]byte, 1<<20))
	out.Close()
	if err := <-sent; err != nil {
		t.Errorf("the transfer on the removed listener failed: %v", err)
	}
	busy.Close()
	stays.send("QUIT")
	stays.expect("221")

	// Replaced fronts go once their connections have.
	eventually(t, "the sessions to end", func() bool { return r.s.Status().Sessions <= 1 })
	r.s.prune(time.Now().Add(time.Hour))
	r.s.mu.Lock()
	n := len(r.s.retired)
	r.s.mu.Unlock()
	if n != 0 {
		t.Errorf("%d replaced fronts are kept although nobody uses them", n)
	}
}

// TestBadReloadChangesNothing: every problem is told with its line, and what
// ran goes on.
func TestBadReloadChangesNothing(t *testing.T) {
	a := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r := start(t, listenTOML("ftp", a, "tls = \"off\"\nbanner = \"Old sign.\""))
	good := r.toml
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := freePort(t)
	tests := []struct {
		name, toml string
		want       []string
	}{
		{"two mistakes", good + "protokol = 1\n[limits]\nmax_connections = -5\n", []string{"portreeve.toml:", "protokol", "max_connections"}},
		{"not toml", "[[listen\n", []string{"portreeve.toml:1"}},
		{"no listener", strings.Split(good, "[[listen]]")[0], []string{"[[listen]]"}},
		{"certificate missing", good + "[tls]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\n", []string{"/nowhere/cert.pem"}},
		{"port taken", good + listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", free), "") + listenTOML("ftp", taken.Addr().String(), "tls = \"off\""), []string{"port " + fmt.Sprint(taken.Addr().(*net.TCPAddr).Port) + " is taken"}},
	}
	for _, tt := range tests {
		r.write(tt.toml)
		rep, err := r.s.Reload(context.Background())
		if err == nil {
			t.Errorf("%s: accepted with %+v", tt.name, rep)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is missing in: %v", tt.name, w, err)
			}
		}
		l := dialRaw(t, a)
		if got := l.expect("220"); !strings.Contains(got, "Old sign.") {
			t.Errorf("%s: greeting %q", tt.name, got)
		}
		l.login()
		l.c.Close()
		if n := len(r.s.Status().Listeners); n != 1 {
			t.Errorf("%s: %d listeners", tt.name, n)
		}
	}
	if c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", free), 5*time.Second); err == nil {
		c.Close()
		t.Error("a listener of a refused configuration stayed open")
	}
	r.write(good)
	if _, err := r.s.Reload(context.Background()); err != nil {
		t.Errorf("the good file again: %v", err)
	}
}

// TestReloadNamesRestartKeys: what cannot change is named, what can is in force.
func TestReloadNamesRestartKeys(t *testing.T) {
	r := start(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", freePort(t)), `tls = "off"`)+"[limits]\nmax_connections = 50\nlogin_failures = 5\n[anonymous]\nenabled = false\n[log]\nformat = \"text\"\n")
	toml := strings.NewReplacer("max_connections = 50", "max_connections = 1", "login_failures = 5", "login_failures = 6",
		"enabled = false", fmt.Sprintf("enabled = true\nhome = %q", r.dir), `"text"`, `"json"`).Replace(r.toml)
	r.write(toml)
	rep, err := r.s.Reload(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	changed, restart := strings.Join(rep.Changed, " "), strings.Join(rep.Restart, " ")
	contains(t, changed, "limits.max_connections", "anonymous.enabled", "anonymous.home")
	contains(t, restart, "log.format", "limits.login_failures")
	if strings.Contains(restart, "anonymous") || strings.Contains(changed, "log.format") {
		t.Errorf("changed %q, restart %q", changed, restart)
	}
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("USER anonymous")
	l.expect("331")
	l.send("PASS a@b.example")
	l.expect("230")
	second := dialRaw(t, r.address(0))
	if got := second.expect("421"); !strings.Contains(got, "maximum of 1") {
		t.Errorf("the new ceiling says %q", got)
	}
}

// TestReloadOverlap: moving a listener to an overlapping address is refused
// with a sentence that says why.
func TestReloadOverlap(t *testing.T) {
	p := freePort(t)
	r := start(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", p), `tls = "off"`))
	r.write(strings.Replace(r.toml, "127.0.0.1:", "0.0.0.0:", 1))
	_, err := r.s.Reload(context.Background())
	if err == nil {
		t.Fatal("bound twice")
	}
	contains(t, err.Error(), fmt.Sprintf("port %d", p), "restart the server")
}

func TestReloadDuringStop(t *testing.T) {
	r := start(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", freePort(t)), `tls = "off"`))
	r.halt()
	if _, err := r.s.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("a reload of a stopped server gives %v", err)
	}
}

// TestReloadUnderLoad: connections that arrive while fronts are exchanged are all served.
func TestReloadUnderLoad(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r := start(t, listenTOML("ftp", addr, `tls = "off"`))
	stop, failed := make(chan struct{}), make(chan error, 4)
	for range 4 {
		go func() {
			var err error
			defer func() { failed <- err }()
			for err == nil {
				select {
				case <-stop:
					return
				default:
				}
				var c net.Conn
				if c, err = net.DialTimeout("tcp", addr, 5*time.Second); err != nil {
					return
				}
				c.SetDeadline(time.Now().Add(5 * time.Second))
				buf := make([]byte, 4)
				if _, err = io.ReadFull(c, buf); err == nil && !bytes.Equal(buf, []byte("220 ")) {
					err = errors.New(string(buf))
				}
				c.Close()
			}
		}()
	}
	base := r.toml
	for i := range 10 {
		r.write(strings.Replace(base, `tls = "off"`, fmt.Sprintf("tls = \"off\"\nbanner = \"Number %d.\"", i), 1))
		if _, err := r.s.Reload(context.Background()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range 4 {
		if err := <-failed; err != nil {
			t.Errorf("a client during a reload: %v", err)
		}
	}
}
