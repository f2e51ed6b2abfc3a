package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

func proxyV2(cmd, family byte, body []byte) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|cmd, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func TestProxyBytesAreExact(t *testing.T) {
	v4 := []byte{203, 0, 113, 9, 198, 51, 100, 1, 0x30, 0x39, 0, 21}
	tests := []struct{ name, in string }{
		{"v1", "PROXY TCP4 203.0.113.9 198.51.100.1 12345 21\r\n"},
		{"v1 unknown", "PROXY UNKNOWN\r\n"},
		{"v1 ipv6", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 21\r\n"},
		{"v2", proxyV2(1, 0x11, v4)},
		{"v2 with tlv", proxyV2(1, 0x11, append(bytes.Clone(v4), 4, 0, 3, 'a', 'b', 'c'))},
		{"v2 local", proxyV2(0, 0, nil)},
	}
	for _, tt := range tests {
		in := strings.NewReader(tt.in + "\x16\x03\x01next")
		got, err := proxyBytes(in)
		rest, _ := io.ReadAll(in)
		if err != nil || string(got) != tt.in || string(rest) != "\x16\x03\x01next" {
			t.Errorf("%s: %q, %v, and %q is left", tt.name, got, err, rest)
		}
	}
	for _, bad := range []string{"USER ann\r\n", "PROXYTCP4 ", "\x16\x03\x01\x00\x00\x00\x00\x00", "PROXY TCP4 " + strings.Repeat("1", 120) + "\r\n",
		"\r\n\r\n\x00\r\nQUIX\n\x21\x11\x00\x00", proxyV2(1, 0x11, make([]byte, proxyMax2+1)), "PROXY", ""} {
		if got, err := proxyBytes(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q was taken for a header: %q", bad, got)
		}
	}
}

// TestProxy: from a trusted proxy the client's own address counts everywhere;
// TLS and commands right behind the header are not lost.
func TestProxy(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"127.0.0.1\"]")+listenTOML("ftps", "127.0.0.1:0", "proxy = [\"127.0.0.1\"]"))
	dst := "198.51.100.1"
	v2 := proxyV2(1, 0x11, []byte{203, 0, 113, 10, 198, 51, 100, 1, 0x30, 0x39, 0, 21})
	for header, client := range map[string]string{"PROXY TCP4 203.0.113.9 " + dst + " 12345 21\r\n": "203.0.113.9:12345", v2: "203.0.113.10:12345"} {
		l := dialRaw(t, r.address(0))
		l.send(header + "USER " + testUser) // in one segment
		l.expect("220")
		l.expect("331")
		l.send("PASS " + testPassword)
		l.expect("230")
		ss := r.s.Sessions()
		if len(ss) != 1 || ss[0].Remote.String() != client {
			t.Errorf("the session is %+v, want remote %s", ss, client)
		}
		l.send("PASV")
		if got := l.expect("227"); !strings.Contains(got, "(198,51,100,1,") {
			t.Errorf("PASV announces %q, not the address that the client reached", got)
		}
		l.send("QUIT")
		l.expect("221")
		eventually(t, "the session to go", func() bool { return len(r.s.Sessions()) == 0 })
	}

	c, err := net.Dial("tcp", r.address(1))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "PROXY TCP4 203.0.113.11 "+dst+" 12345 990\r\n")
	tc := tls.Client(c, r.trust())
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 3)
	if _, err := io.ReadFull(tc, buf); err != nil || string(buf) != "220" {
		t.Errorf("TLS behind the header: %q, %v", buf, err)
	}
	tc.Close()

	l := dialRaw(t, r.address(0)) // a health check: LOCAL keeps the real address
	io.WriteString(l.c, proxyV2(0, 0, nil))
	l.expect("220")
	if ss := r.s.Sessions(); len(ss) == 0 || !ss[len(ss)-1].Remote.Addr().IsLoopback() {
		t.Errorf("sessions after a LOCAL header: %+v", ss)
	}
	l.c.Close()
}

func TestProxyHeaderMissing(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"127.0.0.1\"]")+listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"192.0.2.1\"]"))
	l := dialRaw(t, r.address(0))
	l.send("USER ann and no header")
	if _, err := io.ReadAll(l.c); err != nil {
		// closed, by FIN or reset
		t.Logf("closed by %v", err)
	}
	eventually(t, "the log line", func() bool { return strings.Contains(r.logs.String(), "no usable PROXY header from a trusted proxy") })
	if n := len(r.s.Sessions()); n != 0 {
		t.Errorf("%d sessions without a header", n)
	}
	// A proxy that is not trusted cannot forge addresses: its header is a command like any other.
	l = dialRaw(t, r.address(1))
	l.expect("220")
	l.send("PROXY TCP4 203.0.113.9 198.51.100.1 12345 21")
	l.expect("50")
	if ss := r.s.Sessions(); len(ss) != 1 || !ss[0].Remote.Addr().IsLoopback() {
		t.Errorf("sessions: %+v", ss)
	}
}

// TestSilentProxyBlocksNobody: a proxy that sends nothing does not keep others waiting, nor the stop.
func TestSilentProxyBlocksNobody(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"127.0.0.1\"]"))
	for range 10 {
		dialRaw(t, r.address(0))
	}
	begin := time.Now()
	l := dialRaw(t, r.address(0))
	l.send("PROXY TCP4 203.0.113.9 198.51.100.1 12345 21")
	l.expect("220")
	r.halt()
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestSpareDescriptors: a connection whose descriptor is one of the spare ones
// is told 421 and the log tells the cure.
func TestSpareDescriptors(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	s, err := New(r.config(), r.options())
	if err != nil {
		t.Fatal(err)
	}
	s.sockets[0].acc.limit = 0 // every number is spare now
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	l := dialRaw(t, s.Status().Listeners[0].Address)
	if got := l.expect("421"); !strings.Contains(got, "too many connections") {
		t.Errorf("the client is told %q", got)
	}
	l.eof()
	s.Stop("test")
	if err := <-done; err != nil {
		t.Error(err)
	}
	contains(t, r.logs.String(), "out of file descriptors", "LimitNOFILE")
}

// TestDataOfProxiedClients: passive transfers work behind a PROXY header, when
// the destination it names is this machine's.
func TestDataOfProxiedClients(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"127.0.0.1\"]"))
	addr := r.address(0)
	c, err := r.tryDial(addr, ftp.ClientOptions{Dialer: headerDialer{control: addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put(t, c, "/proxied", []byte("content"))
	if got := get(t, c, "/proxied"); string(got) != "content" {
		t.Errorf("got %q", got)
	}
}

// headerDialer sends a PROXY header first on control connections, as a balancer would.
type headerDialer struct{ control string }

func (d headerDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil && addr == d.control {
		_, err = fmt.Fprintf(c, "PROXY TCP4 127.0.0.1 127.0.0.1 %d 21\r\n", c.LocalAddr().(*net.TCPAddr).Port)
	}
	return c, err
}
