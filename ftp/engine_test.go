package ftp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var engineCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ftp.test"}, DNSNames: []string{"ftp.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{engineCert()}, NextProtos: []string{"ftp"}, DynamicRecordSizingDisabled: true}
}

// startEngine serves cfg on loopback until the test ends.
func startEngine(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	if cfg.Backend == nil {
		cfg.Backend = newMemBackend()
	}
	if cfg.Passive == nil {
		cfg.Passive = &PortRange{First: 42000, Last: 43999}
	}
	cfg.Records = engineRecords
	srv := &Server{Config: cfg, parkAfter: enginePark}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return srv, ln.Addr().String()
}

// rawConn is a control connection under full control of the test.
type rawConn struct {
	net.Conn
	t testing.TB
	r *bytes.Buffer
}

func dialRaw(t testing.TB, addr string) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawConn{c, t, &bytes.Buffer{}}
}

func (c *rawConn) say(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, format+"\r\n", args...); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *rawConn) line() string {
	c.t.Helper()
	for {
		if i := bytes.IndexByte(c.r.Bytes(), '\n'); i >= 0 {
			return strings.TrimRight(string(c.r.Next(i+1)), "\r\n")
		}
		var b [512]byte
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b[:])
		c.r.Write(b[:n])
		if n == 0 && err != nil {
			c.t.Fatalf("read: %v (have %q)", err, c.r)
		}
	}
}

// expect reads one reply and checks its code.
func (c *rawConn) expect(code int) string {
	c.t.Helper()
	l := c.line()
	all := l
	if len(l) > 3 && l[3] == '-' {
		for end := l[:3] + " "; !strings.HasPrefix(l, end); {
			l = c.line()
			all += "\n" + l
		}
	}
	if !strings.HasPrefix(l, fmt.Sprint(code, " ")) {
		c.t.Fatalf("want %d, got %q", code, all)
	}
	return all
}

func (c *rawConn) do(code int, format string, args ...any) string {
	c.t.Helper()
	c.say(format, args...)
	return c.expect(code)
}

func (c *rawConn) login() *rawConn {
	c.t.Helper()
	c.expect(220)
	c.do(331, "USER ann")
	c.do(230, "PASS secret")
	return c
}

// passive opens a data connection.
func (c *rawConn) passive() net.Conn {
	c.t.Helper()
	text := c.do(229, "EPSV")
	var port int
	fmt.Sscanf(text[strings.Index(text, "|||"):], "|||%d|", &port)
	d, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { d.Close() })
	return d
}

func TestAbortEndsTransferWithTwoReplies(t *testing.T) {
	// RFC 959 section 4.1.3: 426 for the transfer, then 226 for ABOR, whatever Telnet wraps it in.
	for name, abort := range map[string]string{"bare": "ABOR\r\n", "telnet": "\xff\xf4\xff\xf2ABOR\r\n", "urgent lost": "\xf2ABOR\r\n"} {
		t.Run(name, func(t *testing.T) {
			b := newMemBackend()
			b.Zeros("/endless", 1<<40)
			_, addr := startEngine(t, Config{Backend: b})
			c := dialRaw(t, addr).login()
			c.do(200, "TYPE I")
			d := c.passive()
			c.do(150, "RETR endless")
			io.CopyN(io.Discard, d, 1<<20)
			io.WriteString(c, abort)
			c.expect(426)
			c.expect(226)
			c.do(200, "NOOP")
			b.File("/small", "abc")
			d = c.passive()
			c.do(150, "RETR small")
			if got, _ := io.ReadAll(d); string(got) != "abc" {
				t.Errorf("after ABOR got %q", got)
			}
			c.expect(226)
		})
	}
}

func TestStatusAndNoopDuringTransfer(t *testing.T) {
	b := newMemBackend()
	b.Zeros("/endless", 1<<40)
	_, addr := startEngine(t, Config{Backend: b})
	c := dialRaw(t, addr).login()
	c.do(200, "TYPE I")
	d := c.passive()
	c.do(150, "RETR endless")
	io.CopyN(io.Discard, d, 1<<20)
	if s := c.do(213, "STAT"); !strings.Contains(s, "RETR /endless") {
		t.Errorf("STAT says %q", s)
	}
	c.do(200, "NOOP")
	d.Close()
	c.expect(426)
	c.do(211, "STAT")
}

func TestQuitWaitsForTransfer(t *testing.T) {
	b := newMemBackend()
	b.Zeros("/file", 8<<20)
	_, addr := startEngine(t, Config{Backend: b})
	c := dialRaw(t, addr).login()
	c.do(200, "TYPE I")
	d := c.passive()
	c.do(150, "RETR file")
	c.say("QUIT")
	if n, err := io.Copy(io.Discard, d); n != 8<<20 || err != nil {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	c.expect(226)
	c.expect(221)
}

func TestPipelinedCommandsWaitForTheirTurn(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	_, addr := startEngine(t, Config{Backend: b})
	c := dialRaw(t, addr).login()
	d := c.passive()
	c.say("RETR f\r\nPWD\r\nDELE f\r\nSYST")
	c.expect(150)
	if got, _ := io.ReadAll(d); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	for _, code := range []int{226, 257, 250, 215} {
		c.expect(code)
	}
}

func TestStrangerDoesNotHurtTransfer(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	var got DataAttempt
	_, addr := startEngine(t, Config{Backend: b, OnData: func(_ *Conn, a DataAttempt) { got = a }})
	c := dialRaw(t, addr).login()
	text := c.do(229, "EPSV")
	var port int
	fmt.Sscanf(text[strings.Index(text, "|||"):], "|||%d|", &port)
	target := fmt.Sprintf("127.0.0.1:%d", port)
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	s, err := other.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c.say("RETR f")
	s.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("the stranger got %d bytes, %v", n, err)
	}
	d, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c.expect(150)
	if data, _ := io.ReadAll(d); string(data) != "hello" {
		t.Errorf("the peer got %q", data)
	}
	c.expect(226)
	if !got.Stranger.IsValid() || got.Code != "ok" {
		t.Errorf("recorded %+v", got)
	}
}

func TestDataConnectionThatNeverComes(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	_, addr := startEngine(t, Config{Backend: b, DataTimeout: 400 * time.Millisecond})
	c := dialRaw(t, addr).login()
	c.do(229, "EPSV")
	c.do(150, "RETR f")
	if s := c.expect(425); !strings.Contains(s, "PR-D01") || !strings.Contains(s, "127.0.0.1") {
		t.Errorf("the reply does not explain: %q", s)
	}
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	c.do(200, "EPRT |1|127.0.0.1|%d|", port)
	if s := c.do(425, "RETR f"); !strings.Contains(s, "PR-D05") {
		t.Errorf("the reply does not explain: %q", s)
	}
}

func TestInjectionBehindAuthIsRefused(t *testing.T) {
	// CVE-2011-0411 and its kin: clear text after AUTH must never be carried out.
	_, addr := startEngine(t, Config{TLS: serverTLS()})
	c := dialRaw(t, addr)
	c.expect(220)
	io.WriteString(c, "AUTH TLS\r\nUSER ann\r\n")
	c.expect(421)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stays open")
	}
}

func TestWrongDoors(t *testing.T) {
	_, plain := startEngine(t, Config{TLS: serverTLS()})
	_, implicit := startEngine(t, Config{TLS: serverTLS(), Implicit: true})
	for _, first := range []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "SSH-2.0-OpenSSH_9.2\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c := dialRaw(t, plain)
		c.expect(220)
		io.WriteString(c, first)
		c.expect(421)
	}
	c := dialRaw(t, implicit)
	c.say("USER ann")
	if s := c.expect(421); !strings.Contains(s, "implicit FTPS") {
		t.Errorf("got %q", s)
	}
}

func tlsClient(t testing.TB, addr string, o ClientOptions) *Client {
	t.Helper()
	o.TLSConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", MaxVersion: o.tlsMax()}
	c, err := Dial(context.Background(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(context.Background(), "ann", "secret"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (o ClientOptions) tlsMax() uint16 {
	if o.TLSConfig != nil {
		return o.TLSConfig.MaxVersion
	}
	return 0
}

func TestTLSSmallAndLargeFilesAreWhole(t *testing.T) {
	// crypto/tls sets the write deadline to now on close; joined records must survive that.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{0, 1, 100, 16384, 16385, 256 << 10, 256<<10 + 1, 3 << 20} {
			t.Run(fmt.Sprint(tls.VersionName(version), "/", size), func(t *testing.T) {
				b := newMemBackend()
				_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), ControlTLS: TLSRequired, DataTLS: TLSRequired, Binding: BindRequire})
				c := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: &tls.Config{MaxVersion: version}, StrictClose: true})
				want := make([]byte, size)
				mrand.NewChaCha8([32]byte{1}).Read(want)
				if _, err := c.Store(t.Context(), "f", bytes.NewReader(want), 0); err != nil {
					t.Fatal(err)
				}
				r, err := c.Retrieve(t.Context(), "f", 0)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if cerr := r.Close(); err != nil || cerr != nil || !bytes.Equal(got, want) {
					t.Fatalf("got %d of %d bytes, %v, %v", len(got), size, err, cerr)
				}
			})
		}
	}
}

func TestDataConnectionMustResumeItsOwnSession(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), DataTLS: TLSRequired, Binding: BindRequire})
			get := func(c *Client) error {
				r, err := c.Retrieve(t.Context(), "f", 0)
				if err == nil {
					_, err = io.ReadAll(r)
					err = errors.Join(err, r.Close())
				}
				return err
			}
			max := &tls.Config{MaxVersion: version}
			own := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: max})
			if err := get(own); err != nil {
				t.Errorf("own session: %v", err)
			}
			fresh := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: max, FreshDataTLS: true})
			if err := get(fresh); codeOf(err) != 522 {
				t.Errorf("without resumption: %v", err)
			}
			// A second session that presents the first one's tickets.
			thief := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: max})
			thief.session.s = own.session.s
			if err := get(thief); codeOf(err) != 522 {
				t.Errorf("with another session's ticket: %v", err)
			}
		})
	}
}

// Clients with several sessions share one cache of tickets among them, so under
// BindPrefer a ticket of the same account from the same address will do, also
// when that session's log-in is still on its way; another account's never does.
func TestPreferKnowsTheSameClientInAnotherSession(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	get := func(c *Client) error {
		r, err := c.Retrieve(t.Context(), "f", 0)
		if err == nil {
			_, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		return err
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), DataTLS: TLSRequired})
			dial := func(user string) *Client {
				cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", MaxVersion: version}
				c, err := Dial(t.Context(), addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: cfg})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				// With TLS 1.3 the ticket is read along with a reply.
				if _, err := c.Cmd(t.Context(), "FEAT"); err != nil || c.session.s == nil {
					t.Fatal(err, "no ticket came")
				}
				if user != "" {
					if err := c.Login(t.Context(), user, "secret"); err != nil {
						t.Fatal(err)
					}
				}
				return c
			}
			first, second, other, late := dial("ann"), dial("ann"), dial("bob"), dial("")
			if err := get(first); err != nil {
				t.Fatal(err)
			}
			// A ticket of the other session's control connection.
			first.session.s = second.session.s
			if err := get(first); err != nil {
				t.Errorf("a ticket of the same account: %v", err)
			}
			// One of a session that is logging in.
			first.session.s = late.session.s
			go func() {
				time.Sleep(100 * time.Millisecond)
				late.Login(context.Background(), "ann", "secret")
			}()
			if err := get(first); err != nil {
				t.Errorf("a ticket of the same account, still logging in: %v", err)
			}
			first.session.s = other.session.s
			if err := get(first); codeOf(err) != 522 {
				t.Errorf("a ticket of another account: %v", err)
			}
			// One of a session that is gone and had not logged in.
			gone := dial("")
			first.session.s = gone.session.s
			gone.Close()
			if err := get(first); codeOf(err) != 522 {
				t.Errorf("a ticket without an account: %v", err)
			}
		})
	}
}

// Java's and Go's clients keep tickets by address and port: they resume when
// chance brings a passive port again, and cannot when it does not.
func TestPreferLearnsFromTicketsOfTheControlConnection(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Implicit: true})
			cfg := func(cache tls.ClientSessionCache) *tls.Config {
				return &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", MaxVersion: version, ClientSessionCache: cache}
			}
			control, data := tls.NewLRUClientSessionCache(1), tls.NewLRUClientSessionCache(1)
			tc, err := tls.Dial("tcp", addr, cfg(control))
			if err != nil {
				t.Fatal(err)
			}
			c := (&rawConn{tc, t, &bytes.Buffer{}}).login()
			get := func(cache tls.ClientSessionCache, resumes bool, code int) {
				t.Helper()
				d := tls.Client(c.passive(), cfg(cache))
				defer d.Close()
				c.say("RETR f")
				c.expect(150)
				io.ReadAll(d)
				if got := d.ConnectionState().DidResume; got != resumes {
					t.Fatalf("resumed: %v", got)
				}
				c.expect(code)
			}
			get(data, false, 226)
			get(data, true, 226) // the ticket of the data connection before
			get(nil, false, 226) // nothing was shown by that
			get(control, true, 226)
			get(nil, false, 522) // but now it was
			get(data, true, 226)
		})
	}
}

func codeOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestUploadWithoutCloseNotifyIsNotStored(t *testing.T) {
	for _, loose := range []bool{false, true} {
		b := newMemBackend()
		_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Implicit: true, LooseClose: loose})
		cache := tls.NewLRUClientSessionCache(1)
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", ClientSessionCache: cache}
		tc, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := (&rawConn{tc, t, &bytes.Buffer{}}).login()
		d := c.passive()
		c.say("STOR f")
		c.expect(150)
		dt := tls.Client(d, cfg)
		io.WriteString(dt, "half a fi")
		dt.NetConn().(*net.TCPConn).CloseWrite() // FIN without close_notify
		if loose {
			c.expect(226)
		} else {
			c.expect(426)
		}
		if _, stored := b.Content("/f"); stored != loose {
			t.Errorf("loose=%v: stored=%v", loose, stored)
		}
	}
}

func TestOverlongLines(t *testing.T) {
	_, addr := startEngine(t, Config{})
	c := dialRaw(t, addr)
	c.expect(220)
	long := strings.Repeat("x", 10000)
	c.do(500, "%s", long)
	c.do(331, "USER ann")
	c.do(500, "%s", long)
	c.do(421, "%s", long)
}

func TestLoginDeadlineIsAbsolute(t *testing.T) {
	_, addr := startEngine(t, Config{LoginTimeout: 600 * time.Millisecond})
	c := dialRaw(t, addr)
	c.expect(220)
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		c.do(200, "NOOP")
	}
	start := time.Now()
	c.expect(421)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("closed only after %s", took)
	}
}

func TestShutdownLetsTransfersFinish(t *testing.T) {
	b := newMemBackend()
	b.Zeros("/file", 4<<20)
	srv, addr := startEngine(t, Config{Backend: b})
	busy, idle := dialRaw(t, addr).login(), dialRaw(t, addr).login()
	busy.do(200, "TYPE I")
	d := busy.passive()
	busy.do(150, "RETR file")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- srv.Shutdown(ctx)
	}()
	idle.expect(421)
	if n, err := io.Copy(io.Discard, d); n != 4<<20 || err != nil {
		t.Errorf("transfer was cut: %d, %v", n, err)
	}
	busy.expect(226)
	busy.expect(421)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNothingLeaks ends sessions in random places and counts what is left.
func TestNothingLeaks(t *testing.T) {
	sessions := 10000
	b := newMemBackend()
	b.Zeros("/big", 1<<30)
	b.File("/small", "small")
	srv := &Server{Config: Config{Backend: b, TLS: serverTLS(), Passive: &PortRange{First: 44000, Last: 45999}, DataTimeout: 200 * time.Millisecond}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	work := make(chan uint64)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for seed := range work {
				wander(ln.Addr().String(), mrand.New(mrand.NewPCG(seed, 7)))
			}
		})
	}
	for i := range sessions {
		work <- uint64(i)
	}
	close(work)
	wg.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for {
		g, f := runtime.NumGoroutine(), openFiles(t)
		if g <= goroutines && f <= files && b.Open() == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left over: %d goroutines, %d files, %d sessions", g-goroutines, f-files, b.Open())
		}
		time.Sleep(50 * time.Millisecond)
	}
	srv.Close()
	if b.logins == 0 {
		t.Error("no session logged in: the test did nothing")
	}
}

func openFiles(t testing.TB) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// wander walks some steps of a session and vanishes.
func wander(addr string, rnd *mrand.Rand) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer nc.Close()
	read := func() {
		var buf [512]byte
		nc.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // a reply missed is as good as one more place to end in
		nc.Read(buf[:])
	}
	steps := []string{"USER ann", "PASS secret", "TYPE I", "EPSV", "RETR small", "EPSV", "RETR big", "ABOR", "EPSV", "STOR x", "EPSV", "LIST", "AUTH TLS", "QUIT"}
	end := rnd.IntN(len(steps) + 1)
	for i, s := range steps[:end] {
		if rnd.IntN(10) == 0 && i > 1 {
			continue
		}
		read()
		fmt.Fprintf(nc, "%s\r\n", s)
		if s == "EPSV" && rnd.IntN(2) == 0 {
			var buf [512]byte
			n, _ := nc.Read(buf[:])
			if at := strings.LastIndex(string(buf[:n]), "|||"); at >= 0 {
				var port int
				fmt.Sscanf(string(buf[at:n]), "|||%d|", &port)
				if d, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
					defer d.Close()
				}
			}
		}
	}
	if rnd.IntN(2) == 0 {
		read()
	}
}

// lftp sends EPRT with the address that its socket listens on, "::".
func TestEPRTToAnyAddressMeansTheClient(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	srv, _ := startEngine(t, Config{Backend: b})
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(ln)
	c := dialRaw(t, ln.Addr().String()).login()
	data, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	c.do(200, "EPRT |2|::|%d|", data.Addr().(*net.TCPAddr).Port)
	c.say("RETR f")
	d, err := data.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if from := d.RemoteAddr().(*net.TCPAddr).IP; !from.Equal(net.IPv6loopback) {
		t.Errorf("the connection came from %v", from)
	}
	c.expect(150)
	if got, err := io.ReadAll(d); string(got) != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c.expect(226)
	c.do(504, "EPRT |2|2001:db8::1|%d|", data.Addr().(*net.TCPAddr).Port)
}
