package ftp

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// parkSoon parks sessions after a few milliseconds for the rest of the test.
func parkSoon(t *testing.T) {
	enginePark = 5 * time.Millisecond
	t.Cleanup(func() { enginePark = 0 })
}

// parked waits until n sessions are parked.
func parked(t *testing.T, srv *Server, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		srv.lot.mu.Lock()
		got := len(srv.lot.cars)
		srv.lot.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d sessions are parked, want %d", got, n)
		}
	}
}

// TestParkedSessions: a session that is parked between its commands, also in
// the middle of one, behaves as any other.
func TestParkedSessions(t *testing.T) {
	parkSoon(t)
	b := newMemBackend()
	srv, addr := startEngine(t, Config{Backend: b, TLS: serverTLS()})
	for _, secure := range []bool{false, true} {
		c := dialRaw(t, addr)
		if secure {
			c.expect(220)
			c.do(234, "AUTH TLS")
			tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test"})
			if err := tc.Handshake(); err != nil {
				t.Fatal(err)
			}
			c = &rawConn{tc, t, &bytes.Buffer{}}
			c.say("USER ann")
			c.expect(331)
			c.do(230, "PASS secret")
		} else {
			c = c.login()
		}
		for range 5 {
			parked(t, srv, 1)
			c.do(200, "NOOP")
		}
		parked(t, srv, 1)
		io.WriteString(c.Conn, "NO") // the rest comes much later
		time.Sleep(50 * time.Millisecond)
		io.WriteString(c.Conn, "OP\r\nPWD\r\nNOOP\r\n")
		c.expect(200)
		c.expect(257)
		c.expect(200)
		parked(t, srv, 1)
		io.WriteString(c.Conn, strings.Repeat("x", 10_000)) // an over-long line with a pause in it
		time.Sleep(50 * time.Millisecond)
		io.WriteString(c.Conn, "NOOP\r\nNOOP\r\n")
		c.expect(500)
		c.expect(200)
		parked(t, srv, 1)
		c.do(221, "QUIT")
	}
	c := dialRaw(t, addr).login()
	parked(t, srv, 1)
	c.Conn.Close() // the end of the connection wakes it, too
	parked(t, srv, 0)
	c = dialRaw(t, addr).login()
	parked(t, srv, 1)
	for _, s := range srv.stop() {
		s.Close("Go away.")
	}
	c.expect(421)
	parked(t, srv, 0)
}

// TestParkedSessionsEnd: the time without a command is that of the
// configuration, whether parked or not, and transfers count as none of it.
func TestParkedSessionsEnd(t *testing.T) {
	parkSoon(t)
	srv, addr := startEngine(t, Config{Backend: newMemBackend(), IdleTimeout: 300 * time.Millisecond})
	c := dialRaw(t, addr).login()
	began := time.Now()
	d := c.passive()
	c.say("STOR f")
	c.expect(150)
	time.Sleep(500 * time.Millisecond)
	io.WriteString(d, "text")
	d.Close()
	c.expect(226)
	parked(t, srv, 1)
	if time.Since(began) < 500*time.Millisecond {
		t.Error("the transfer was not waited for")
	}
	began = time.Now()
	c.expect(421)
	if took := time.Since(began); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("421 after %v, want 300 ms", took)
	}
	parked(t, srv, 0)
}

// TestNotParked: nobody is parked before the log-in, during a transfer, or on a
// connection that is no TCP connection.
func TestNotParked(t *testing.T) {
	parkSoon(t)
	b := newMemBackend()
	srv, addr := startEngine(t, Config{Backend: b})
	stranger := dialRaw(t, addr)
	c := dialRaw(t, addr).login()
	d := c.passive()
	c.say("STOR f")
	c.expect(150)
	time.Sleep(60 * time.Millisecond)
	parked(t, srv, 0)
	c.say("STAT")
	c.expect(213)
	d.Close()
	c.expect(226)
	parked(t, srv, 1)
	c.do(221, "QUIT")
	stranger.Conn.Close()
	x, y := net.Pipe()
	go srv.ServeConn(y)
	p := &rawConn{x, t, &bytes.Buffer{}}
	p.login()
	time.Sleep(60 * time.Millisecond)
	parked(t, srv, 0)
	p.do(200, "NOOP")
	x.Close()
}

// TestParkingEnds: a server that has stopped leaves no goroutine, no descriptor
// and no session behind.
func TestParkingEnds(t *testing.T) {
	parkSoon(t)
	srv := &Server{Config: Config{Backend: newMemBackend()}, parkAfter: enginePark}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	c := dialRaw(t, ln.Addr().String()).login()
	parked(t, srv, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-done
	c.expect(421)
	if srv.lot.file.SetReadDeadline(time.Time{}) == nil {
		t.Error("the epoll descriptor is still open")
	}
	srv.Close() // once more
}
