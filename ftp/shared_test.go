package ftp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// startShared serves sessions whose protected data connections share one port.
func startShared(t *testing.T, b *memBackend, p *SharedPort, binding TLSBinding) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Port = uint16(ln.Addr().(*net.TCPAddr).Port)
	done := make(chan error, 1)
	go func() { done <- p.Serve(ln) }()
	t.Cleanup(func() {
		p.Close()
		<-done
	})
	_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Shared: p, Passive: &PortRange{First: 46000, Last: 46999}, Binding: binding, DataTimeout: 3 * time.Second})
	return addr
}

// TestSharedPortManyClients transfers with 64 clients of one address at once,
// every one through the same port.
func TestSharedPortManyClients(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			b := newMemBackend()
			p := &SharedPort{}
			addr := startShared(t, b, p, BindRequire)
			var wg sync.WaitGroup
			for i := range 64 {
				wg.Go(func() {
					name, want := fmt.Sprint("f", i), bytes.Repeat([]byte{byte(i)}, 100_000+i)
					c := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: &tls.Config{MaxVersion: version}, StrictClose: true})
					for round := range 3 {
						if _, err := c.Store(t.Context(), name, bytes.NewReader(want), 0); err != nil {
							t.Errorf("client %d, round %d: STOR: %v", i, round, err)
							return
						}
						if port := c.LastData().Remote.Port(); port != p.Port {
							t.Errorf("client %d: data went to port %d, not to %d", i, port, p.Port)
						}
						r, err := c.Retrieve(t.Context(), name, 0)
						if err != nil {
							t.Errorf("client %d, round %d: RETR: %v", i, round, err)
							return
						}
						got, err := io.ReadAll(r)
						if cerr := r.Close(); err != nil || cerr != nil || !bytes.Equal(got, want) {
							t.Errorf("client %d, round %d: %d bytes, %v, %v", i, round, len(got), err, cerr)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestSharedPortRefusesStrangersAndThieves(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "secret content")
	p := &SharedPort{Fallback: FallbackRefuse}
	addr := startShared(t, b, p, BindPrefer)
	max := &tls.Config{MaxVersion: tls.VersionTLS13}
	owner := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: max})
	thief := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: max})
	shared := fmt.Sprintf("127.0.0.1:%d", p.Port)
	if _, err := owner.Cmd(t.Context(), "PBSZ 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Cmd(t.Context(), "PROT P"); err != nil {
		t.Fatal(err)
	}
	if r, err := owner.Cmd(t.Context(), "EPSV"); err != nil || r.Code != 229 {
		t.Fatal(r, err)
	}
	if err := owner.send(t.Context(), "RETR f"); err != nil {
		t.Fatal(err)
	}
	for what, cache := range map[string]tls.ClientSessionCache{"a stranger": nil, "a thief with another session's ticket": &thief.session} {
		nc, err := net.Dial("tcp", shared)
		if err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", ClientSessionCache: cache})
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		got, _ := io.ReadAll(tc)
		if len(got) > 0 {
			t.Errorf("%s got %q", what, got)
		}
		nc.Close()
	}
	// The owner still gets its file.
	nc, err := net.Dial("tcp", shared)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", ClientSessionCache: &owner.session})
	if got, err := io.ReadAll(tc); string(got) != "secret content" {
		t.Errorf("the owner got %q, %v", got, err)
	}
}

func TestSharedPortFallbacks(t *testing.T) {
	b := newMemBackend()
	b.File("/f", "hello")
	get := func(t *testing.T, c *Client) error {
		r, err := c.Retrieve(t.Context(), "f", 0)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.ReadAll(r)
		if err == nil {
			err = r.Close()
		}
		return err
	}
	fresh := ClientOptions{TLS: ExplicitTLS, FreshDataTLS: true}
	t.Run("address", func(t *testing.T) {
		c := tlsClient(t, startShared(t, b, &SharedPort{}, BindPrefer), fresh)
		if err := get(t, c); err != nil {
			t.Error(err)
		}
	})
	t.Run("require has no fallback", func(t *testing.T) {
		c := tlsClient(t, startShared(t, b, &SharedPort{}, BindRequire), fresh)
		if err := get(t, c); codeOf(err) != 522 || !strings.Contains(err.Error(), "did not resume") {
			t.Error(err)
		}
	})
	t.Run("range", func(t *testing.T) {
		c := tlsClient(t, startShared(t, b, &SharedPort{Fallback: FallbackRange}, BindPrefer), fresh)
		if err := get(t, c); codeOf(err) != 425 {
			t.Errorf("first: %v", err)
		}
		if err := get(t, c); err != nil {
			t.Errorf("second: %v", err)
		}
	})
	t.Run("clear sessions use the range", func(t *testing.T) {
		c := tlsClient(t, startShared(t, b, &SharedPort{}, BindPrefer), ClientOptions{})
		if err := get(t, c); err != nil {
			t.Error(err)
		}
		if port := c.LastData().Remote.Port(); port < 46000 || port > 46999 {
			t.Errorf("data went to port %d", port)
		}
	})
}

// TestSharedPortTwoProcesses: while a new process takes over, the sessions of
// both use one port, which the new one serves. Connections are passed over with
// what was read of them, as over a socket between processes.
func TestSharedPortTwoProcesses(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, binding := range map[string]TLSBinding{"require": BindRequire, "prefer": BindPrefer} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				t.Parallel()
				b, older, newer := newMemBackend(), &SharedPort{}, &SharedPort{}
				first, second := startShared(t, b, older, binding), startShared(t, b, newer, binding)
				older.Port = newer.Port
				var passed sync.Map
				toNewer := func(nc net.Conn, read []byte, _ bool) bool { newer.Adopt(nc, bytes.Clone(read), nil); return true }
				toOlder := func(nc net.Conn, read []byte, final bool) bool {
					passed.Store(nc.RemoteAddr().String(), true)
					back := PassFunc(toNewer)
					if final {
						back = nil
					}
					older.Adopt(nc, bytes.Clone(read), back)
					return true
				}
				newer.SetPass(toOlder)
				older.Retire()
				var wg sync.WaitGroup
				for i := range 12 {
					wg.Go(func() {
						addr := []string{first, second}[i%2]
						c := tlsClient(t, addr, ClientOptions{TLS: ExplicitTLS, TLSConfig: &tls.Config{MaxVersion: version}, StrictClose: true})
						want := bytes.Repeat([]byte{byte(i)}, 80_000+i)
						for round := range 3 {
							if _, err := c.Store(t.Context(), fmt.Sprint("g", i), bytes.NewReader(want), 0); err != nil {
								t.Errorf("client %d, round %d: %v", i, round, err)
								return
							}
						}
						r, err := c.Retrieve(t.Context(), fmt.Sprint("g", i), 0)
						if err != nil {
							t.Errorf("client %d: %v", i, err)
							return
						}
						got, err := io.ReadAll(r)
						if cerr := r.Close(); err != nil || cerr != nil || !bytes.Equal(got, want) {
							t.Errorf("client %d: %d bytes, %v, %v", i, len(got), err, cerr)
						}
					})
				}
				wg.Wait()
				n := 0
				passed.Range(func(any, any) bool { n++; return true })
				if n < 6*4 {
					t.Errorf("%d connections went to the old process; its sessions made %d", n, 6*4)
				}
			})
		}
	}
}

// TestSharedPortForeignStranger: what belongs to neither process is closed by both.
func TestSharedPortForeignStranger(t *testing.T) {
	older, newer := &SharedPort{}, &SharedPort{}
	startShared(t, newMemBackend(), older, BindRequire)
	startShared(t, newMemBackend(), newer, BindRequire)
	newer.SetPass(func(nc net.Conn, read []byte, _ bool) bool { older.Adopt(nc, bytes.Clone(read), nil); return true })
	for name, said := range map[string]string{"TLS": "", "HTTP": "GET / HTTP/1.0\r\n\r\n"} {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", newer.Port))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if said == "" {
			if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
				t.Errorf("%s: a stranger got through", name)
			}
		} else {
			io.WriteString(c, said)
			if b, err := io.ReadAll(c); len(b) > 64 || err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		c.Close()
	}
}
