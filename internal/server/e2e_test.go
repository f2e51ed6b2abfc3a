package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// TestTransfers moves files in every way of connecting, and looks at what the
// server says and keeps about it.
func TestTransfers(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`)+listenTOML("ftps", "127.0.0.1:0", "")+listenTOML("ftp", "[::1]:0", `tls = "off"`))
	data := make([]byte, 3<<20)
	rand.Read(data)
	tests := []struct {
		name string
		n    int
		o    ftp.ClientOptions
	}{
		{"plain", 0, ftp.ClientOptions{}},
		{"explicit", 0, ftp.ClientOptions{TLS: ftp.ExplicitTLS}},
		{"implicit", 1, ftp.ClientOptions{TLS: ftp.ImplicitTLS}},
		{"ipv6", 2, ftp.ClientOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			c, err := r.tryDial(r.address(tt.n), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			name := "/" + tt.name + ".bin"
			put(t, c, name, data)
			if got := get(t, c, name); !bytes.Equal(got, data) {
				t.Errorf("%d octets came back changed", len(got))
			}
			if onDisk, err := os.ReadFile(filepath.Join(r.home, name)); err != nil || !bytes.Equal(onDisk, data) {
				t.Errorf("the file on disk differs: %v", err)
			}
			if err := c.Mkdir(ctx, "/d-"+tt.name); err != nil {
				t.Error(err)
			}
			found := map[string]bool{}
			for e, err := range c.List(ctx, "/") {
				if err != nil {
					t.Fatal(err)
				}
				found[e.Name] = true
			}
			if !found[tt.name+".bin"] || !found["d-"+tt.name] {
				t.Errorf("the listing has %v", found)
			}
			_, err = c.Retrieve(ctx, "/missing", 0)
			var fe *ftp.Error
			if !errors.As(err, &fe) || fe.Code != 550 || !strings.Contains(fe.Message, "/missing: no such file") {
				t.Errorf("a missing file gives %v", err)
			}
			if err := c.Quit(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	st := r.s.Status()
	if st.BytesUp < 4*int64(len(data)) || st.BytesDown < 4*int64(len(data)) {
		t.Errorf("counted %d up, %d down", st.BytesUp, st.BytesDown)
	}
	if len(st.Listeners) != 3 || st.Listeners[0].TLS != "offered" || st.Listeners[1].TLS != "implicit" || st.Listeners[2].TLS != "off" {
		t.Errorf("listeners: %+v", st.Listeners)
	}
	if len(st.Certificates) == 0 || !st.Certificates[0].SelfSigned || st.Certificates[0].Fingerprint == "" {
		t.Errorf("certificates: %+v", st.Certificates)
	}
	r.halt()
	kept := r.events()
	for kind, n := range map[events.Kind]int{events.Start: 1, events.Login: 4, events.Upload: 4, events.Download: 4, events.Mkdir: 4, events.Logout: 4, events.Stop: 1} {
		if kept[kind] != n {
			t.Errorf("%d events %s are kept, want %d (all: %v)", kept[kind], kind, n, kept)
		}
	}
}

// events counts the kept events of a stopped server that went well.
func (r *rig) events() map[events.Kind]int {
	r.t.Helper()
	db, err := openStore(context.Background(), filepath.Join(r.dir, "data"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	es, err := db.ListEvents(context.Background(), store.EventFilter{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	n := map[events.Kind]int{}
	for _, e := range es {
		if e.Result == "ok" {
			n[e.Kind]++
		}
	}
	return n
}

func TestLoginTimeIsKept(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	before := time.Now().Add(-time.Second)
	r.dial(0, ftp.ClientOptions{}).Quit(context.Background())
	r.halt()
	db, err := openStore(context.Background(), filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	u, err := db.UserByName(context.Background(), testUser)
	if err != nil || u.LastLogin.Before(before) {
		t.Errorf("last log-in is %v, %v", u.LastLogin, err)
	}
}

func TestWrongPassword(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	c, err := ftp.Dial(context.Background(), r.address(0), ftp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Login(context.Background(), testUser, "wrong")
	var fe *ftp.Error
	if !errors.As(err, &fe) || fe.Code != 530 || strings.Contains(fe.Message, "fault") {
		t.Errorf("a wrong password gives %v", err)
	}
	if err := c.Login(context.Background(), testUser, testPassword); err != nil {
		t.Errorf("the right one after it: %v", err)
	}
}

func TestRequiredTLSRefusesClear(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "required"`))
	if c, err := r.tryDial(r.address(0), ftp.ClientOptions{}); err == nil {
		c.Close()
		t.Error("a log-in in the clear was accepted")
	}
	r.dial(0, ftp.ClientOptions{TLS: ftp.ExplicitTLS})
}

// TestKick: the client is told 421 with the reason, the session is gone.
func TestKick(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	for _, loggedIn := range []bool{true, false} {
		l := dialRaw(t, r.address(0))
		l.expect("220")
		if loggedIn {
			l.login()
		}
		ss := r.s.Sessions()
		if len(ss) != 1 || loggedIn && ss[0].User != testUser {
			t.Fatalf("sessions: %+v", ss)
		}
		if !r.s.Kick(ss[0].ID, "maintenance of the disk") {
			t.Error("Kick found nobody")
		}
		if got := l.expect("421"); !strings.Contains(got, "aintenance of the disk") {
			t.Errorf("the client is told %q", got)
		}
		l.eof()
		eventually(t, "the session to go", func() bool { return len(r.s.Sessions()) == 0 })
		if r.s.Kick(ss[0].ID, "again") {
			t.Error("a session that is gone was kicked")
		}
	}
}

// TestDrain: a stop lets a transfer finish and tells an idle session 421 at once.
func TestDrain(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	idle := dialRaw(t, r.address(0))
	idle.expect("220")
	idle.login()
	busy := r.dial(0, ftp.ClientOptions{})
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := busy.Store(context.Background(), "/slow.bin", in, 0)
		sent <- err
	}()
	half := bytes.Repeat([]byte("x"), 1<<20)
	out.Write(half)
	eventually(t, "the upload to run", func() bool { return r.s.Status().Transfers == 1 })
	addr := r.address(0)
	r.s.Stop("test")
	idle.expect("421")
	idle.eof()
	eventually(t, "the port to close", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if !r.s.Status().Stopping {
		t.Error("the status does not say that the server stops")
	}
	out.Write(half)
	out.Close()
	if err := <-sent; err != nil {
		t.Errorf("the transfer that was under way failed: %v", err)
	}
	r.halt()
	if st, err := os.Stat(filepath.Join(r.home, "slow.bin")); err != nil || st.Size() != 2<<20 {
		t.Errorf("the file: %v, %v", st, err)
	}
}

// TestStopTwiceCuts: the second stop does not wait for transfers.
func TestStopTwiceCuts(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	busy := r.dial(0, ftp.ClientOptions{})
	in, out := io.Pipe()
	defer out.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := busy.Store(context.Background(), "/never.bin", in, 0)
		in.CloseWithError(errors.New("over"))
		sent <- err
	}()
	out.Write(make([]byte, 1<<20))
	eventually(t, "the upload to run", func() bool { return r.s.Status().Transfers == 1 })
	begin := time.Now()
	r.s.Stop("first")
	r.s.Stop("second")
	r.halt()
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("the second stop took %s", d)
	}
	out.Write(make([]byte, 8<<20))
	if err := <-sent; err == nil {
		t.Error("the cut upload was reported complete")
	}
	if _, err := os.Stat(filepath.Join(r.home, "never.bin")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a file is visible: %v", err)
	}
}

// TestServices: they run beside the server, still during a drain, and their
// failure stops it.
func TestServices(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	ended := make(chan struct{})
	r.run(func(ctx context.Context, s *Server) error {
		<-ctx.Done()
		if len(s.Sessions()) != 0 {
			t.Error("a service ended before the sessions")
		}
		close(ended)
		return nil
	})
	r.halt()
	<-ended

	opt := r.options()
	opt.Services = []Service{func(context.Context, *Server) error { return errors.New("socket in use") }}
	s, err := New(r.config(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "socket in use") {
		t.Errorf("a failed service gives %v", err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	for range 2 { // the second time shows that nothing is left of the first
		s, err := New(r.config(), r.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestManySessions: sessions that end in all kinds of places leave nothing.
func TestManySessions(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	addr := r.address(0)
	for i := range 60 {
		l := dialRaw(t, addr)
		l.expect("220")
		switch i % 5 {
		case 1:
			l.send("USER " + testUser)
		case 2:
			l.login()
			l.send("EPSV")
			l.expect("229")
		case 3:
			l.login()
			l.send("RETR /x")
		case 4:
			l.send("AUTH TLS")
			l.expect("234")
			l.send("garbage instead of a handshake")
		}
		l.c.Close()
	}
	eventually(t, "all sessions to go", func() bool { st := r.s.Status(); return st.Sessions == 0 && st.PassiveInUse == 0 })
	r.dial(0, ftp.ClientOptions{}).Quit(context.Background())
}

// TestActiveSourcePort: active data comes from the control port minus 1, as
// port 20 belongs to 21, and Status says so.
func TestActiveSourcePort(t *testing.T) {
	var r *rig
	for { // two free ports in a row
		p := freePort(t)
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", p-1))
		if err != nil {
			continue
		}
		ln.Close()
		r = start(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", p), `tls = "off"`))
		break
	}
	_, text, _ := net.SplitHostPort(r.address(0))
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.s.Status().Listeners[0].ActiveSource; got != fmt.Sprintf("port %d", port-1) {
		t.Errorf("Status says %q", got)
	}
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.login()
	for range 3 { // TIME_WAIT of the one before does not matter
		data := plainListen(t, "127.0.0.1:0")
		p := data.Addr().(*net.TCPAddr).Port
		l.send(fmt.Sprintf("PORT 127,0,0,1,%d,%d", p>>8, p&255))
		l.expect("200")
		l.send("NLST")
		c, err := data.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr().(*net.TCPAddr).Port; got != port-1 {
			t.Errorf("data comes from port %d, want %d", got, port-1)
		}
		io.Copy(io.Discard, c)
		c.Close()
		l.expect("150")
		l.expect("226")
	}
}

// TestOutOfDescriptors: when not even accept gets a descriptor, the server
// waits, says so once, and serves the client later.
func TestOutOfDescriptors(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	addr, err := net.ResolveTCPAddr("tcp4", r.address(0))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore := func() {
		if !restored {
			restored = true
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer restore()
	sa := &syscall.SockaddrInet4{Port: addr.Port}
	copy(sa.Addr[:], addr.IP.To4())
	if err := syscall.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log line", func() bool { return strings.Contains(r.logs.String(), "cannot accept connections for the moment") })
	time.Sleep(50 * time.Millisecond) // several attempts
	restore()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(f, buf); err != nil || string(buf) != "220 " {
		t.Errorf("after the shortage: %q, %v", buf, err)
	}
	if n := strings.Count(r.logs.String(), "cannot accept connections for the moment"); n != 1 {
		t.Errorf("%d log lines about one shortage", n)
	}
}
