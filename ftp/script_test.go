package ftp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// script is a server that says what a test tells it to.
type script struct {
	t    *testing.T
	nc   net.Conn
	buf  []byte
	ln   net.Listener
	fail error
}

func scripted(t *testing.T, play func(*script), o ClientOptions) *Client {
	t.Helper()
	c, err := dialScript(t, play, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login(t.Context(), "ann", "secret"); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialScript(t *testing.T, play func(*script), o ClientOptions) (*Client, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		s := &script{t: t, nc: nc, ln: dln}
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		play(s)
		if s.fail != nil {
			t.Error(s.fail)
			return
		}
		io.Copy(io.Discard, nc)
	}()
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	c, err := Dial(t.Context(), ln.Addr().String(), o)
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
		ln.Close()
		dln.Close()
		<-done
	})
	return c, err
}

func (s *script) say(line string) { io.WriteString(s.nc, line+"\r\n") }

func (s *script) expect(cmd, answer string) {
	if s.fail != nil {
		return
	}
	for !bytes.Contains(s.buf, []byte("\r\n")) {
		b := make([]byte, 512)
		n, err := s.nc.Read(b)
		if err != nil {
			s.fail = fmt.Errorf("waiting for %q: %w", cmd, err)
			return
		}
		s.buf = append(s.buf, b[:n]...)
	}
	line, rest, _ := bytes.Cut(s.buf, []byte("\r\n"))
	if string(line) != cmd {
		s.fail = fmt.Errorf("got %q, want %q", line, cmd)
		s.nc.Close()
		return
	}
	s.buf = bytes.Clone(rest)
	if strings.Contains(answer, "%s") {
		answer = fmt.Sprintf(answer, FormatPort(addrPort(s.ln.Addr())))
	}
	if answer != "" {
		s.say(answer)
	}
}

func (s *script) login() {
	s.say("220 x")
	s.expect("USER ann", "331 x")
	s.expect("PASS secret", "230 x")
	s.expect("FEAT", "502 x")
	s.expect("TYPE I", "200 x")
}

func (s *script) data(text string) {
	nc, err := s.ln.Accept()
	if err != nil {
		s.fail = err
		return
	}
	io.WriteString(nc, text)
	nc.Close()
}

// RFC 959 section 5.4: 120 comes before 220.
func TestClientGreeting(t *testing.T) {
	t.Parallel()
	if _, err := dialScript(t, func(s *script) { s.say("120 wait"); s.say("220-Hello"); s.say("220 x") }, ClientOptions{}); err != nil {
		t.Error(err)
	}
	var fe *Error
	if _, err := dialScript(t, func(s *script) { s.say("421 full") }, ClientOptions{}); !errors.As(err, &fe) || fe.Code != 421 {
		t.Error(err)
	}
	var pe *ProtocolError
	if _, err := dialScript(t, func(s *script) { s.say("SSH-2.0-x") }, ClientOptions{}); !errors.As(err, &pe) {
		t.Error(err)
	}
	if _, err := dialScript(t, func(s *script) {}, ClientOptions{Timeout: 100 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no reply from 127.0.0.1:") {
		t.Error(err)
	}
	if _, err := dialScript(t, func(s *script) { s.nc.Close() }, ClientOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// RFC 4217 section 4: what came before the handshake does not count.
func TestClientStartTLSInjection(t *testing.T) {
	t.Parallel()
	_, err := dialScript(t, func(s *script) {
		s.say("220 x")
		s.expect("AUTH TLS", "234 go\r\n230 you are logged in")
	}, ClientOptions{TLS: ExplicitTLS})
	var pe *ProtocolError
	if !errors.As(err, &pe) {
		t.Error(err)
	}
	var fe *Error
	if _, err := dialScript(t, func(s *script) { s.say("220 x"); s.expect("AUTH TLS", "502 no") }, ClientOptions{TLS: ExplicitTLS}); !errors.As(err, &fe) || fe.Code != 502 {
		t.Error("TLS was given up:", err)
	}
}

// A private address in 227 that is not the server's is not believed.
func TestClientPASVAddress(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{"10,1,2,3", "0,0,0,0", "192,168,1,1", "169,254,1,1"} {
		c := scripted(t, func(s *script) {
			s.login()
			port := strings.SplitN(FormatPort(addrPort(s.ln.Addr())), ",", 5)[4]
			s.expect("EPSV", "502 x")
			s.expect("PASV", "227 ok ("+ip+","+port+")")
			s.expect("RETR f", "150 x")
			s.data("data")
			s.say("226 x")
			s.expect("PASV", "425 x") // EPSV is not tried again
		}, ClientOptions{})
		if got := readAll(t, c, "f", 0); got != "data" {
			t.Errorf("%q", got)
		}
		if a := c.LastData().Announced.Addr(); a.String() != strings.ReplaceAll(ip, ",", ".") {
			t.Error(a)
		}
		var fe *Error
		if _, err := c.Retrieve(t.Context(), "f", 0); !errors.As(err, &fe) || fe.Code != 425 {
			t.Error(err)
		}
	}
	c := scripted(t, func(s *script) {
		s.login()
		s.expect("PASV", "227 ok (127,0,0,9,1,1)")
	}, ClientOptions{Data: DataPASV, StrictPASV: true})
	if _, err := c.Retrieve(t.Context(), "f", 0); err == nil || !strings.Contains(err.Error(), "127.0.0.9:257") {
		t.Error(err)
	}
}

// The server's reason counts when the data connection fails after 150.
func TestClientLateRefusal(t *testing.T) {
	t.Parallel()
	c := scripted(t, func(s *script) {
		s.login()
		s.expect("PASV", "227 (%s)")
		s.expect("RETR f", "150 x")
		s.data("half")
		s.say("451 disk on fire")
		s.expect("PASV", "227 (%s)")
		s.expect("STOR f", "553 no")
		s.expect("NOOP", "200 x")
	}, ClientOptions{Data: DataPASV})
	r, err := c.Retrieve(t.Context(), "f", 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	var fe *Error
	if string(b) != "half" || !errors.As(err, &fe) || fe.Code != 451 {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := c.Store(t.Context(), "f", strings.NewReader("x"), 0); !errors.As(err, &fe) || fe.Code != 553 {
		t.Error(err)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
}

// An active client reports the server's 425 without waiting for the timeout.
func TestClientActiveRefused(t *testing.T) {
	t.Parallel()
	port := ""
	c := scripted(t, func(s *script) {
		s.login()
		for !bytes.Contains(s.buf, []byte("\r\n")) {
			b := make([]byte, 512)
			n, err := s.nc.Read(b)
			if err != nil {
				s.fail = err
				return
			}
			s.buf = append(s.buf, b[:n]...)
		}
		port = strings.TrimSpace(string(s.buf))
		s.buf = nil
		s.say("200 x")
		s.expect("RETR f", "150 x")
		s.say("425 cannot connect")
	}, ClientOptions{Data: DataEPRT, ActiveAnnounce: netip.MustParseAddr("192.0.2.7"), Timeout: 8 * time.Second})
	start := time.Now()
	var fe *Error
	if _, err := c.Retrieve(t.Context(), "f", 0); !errors.As(err, &fe) || fe.Code != 425 || time.Since(start) > 4*time.Second {
		t.Error(err, time.Since(start))
	}
	if !strings.HasPrefix(port, "EPRT |1|192.0.2.7|") {
		t.Error(port)
	}
}

func TestClientVerifiesCertificate(t *testing.T) {
	t.Parallel()
	addr := testServer(t, newMemBackend(), nil)
	_, err := Dial(t.Context(), addr, ClientOptions{TLS: ExplicitTLS, Timeout: 5 * time.Second})
	var ce *tls.CertificateVerificationError
	if !errors.As(err, &ce) {
		t.Error(err)
	}
}

// FreshDataTLS shows the server a session that is not the control connection's.
func TestClientFreshDataTLS(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.File("/a", "x")
	c := dialTest(t, testServer(t, b, func(c *Config) { c.Binding = BindRequire }), ClientOptions{TLS: ExplicitTLS, FreshDataTLS: true})
	var fe *Error
	r, err := c.Retrieve(t.Context(), "a", 0)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	if !errors.As(err, &fe) || fe.Code != 425 && fe.Code != 522 {
		t.Error(err)
	}
	c = dialTest(t, testServer(t, b, nil), ClientOptions{TLS: ExplicitTLS, ClearData: true})
	if got := readAll(t, c, "a", 0); got != "x" || c.LastData().TLS != nil {
		t.Errorf("%q", got)
	}
}
