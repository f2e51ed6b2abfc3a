package ftp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testServer serves b; change may alter the configuration.
func testServer(t *testing.T, b Backend, change func(*Config)) string {
	t.Helper()
	return testServerAt(t, "127.0.0.1:0", b, change)
}

func testServerAt(t *testing.T, at string, b Backend, change func(*Config)) string {
	t.Helper()
	cfg := Config{Backend: b, Passive: testPorts, DataTimeout: 5 * time.Second,
		TLS: &tls.Config{Certificates: []tls.Certificate{testCert(t, "ftp.test")}, NextProtos: []string{"ftp"}}}
	cfg.Records = engineRecords
	if change != nil {
		change(&cfg)
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	srv := &Server{Config: cfg}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return ln.Addr().String()
}

func clientTLS(t *testing.T) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(testCert(t, "ftp.test").Leaf)
	return &tls.Config{RootCAs: pool, ServerName: "ftp.test"}
}

func dialTest(t *testing.T, addr string, o ClientOptions) *Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.TLS != NoTLS {
		o.TLSConfig = clientTLS(t)
	}
	c, err := Dial(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(t.Context(), "ann", "secret"); err != nil {
		t.Fatal(err)
	}
	return c
}

func readAll(t *testing.T, c *Client, name string, offset int64) string {
	t.Helper()
	r, err := c.Retrieve(t.Context(), name, offset)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every protection, data mode and address family moves bytes both ways.
func TestClientTransfers(t *testing.T) {
	modes := map[string]DataMode{"auto": DataAuto, "epsv": DataEPSV, "pasv": DataPASV, "eprt": DataEPRT, "port": DataPORT}
	payload := strings.Repeat("0123456789abcdef\r\n\x00\xff", 30_000) // 600 kB
	for tlsName, mode := range map[string]ClientTLS{"plain": NoTLS, "explicit": ExplicitTLS, "implicit": ImplicitTLS} {
		for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
			for dataName, data := range modes {
				v6 := strings.HasPrefix(at, "[")
				if v6 && (data == DataPASV || data == DataPORT) {
					continue // RFC 2428 section 1: these carry IPv4 addresses alone
				}
				t.Run(fmt.Sprintf("%s/%s/v6=%v", tlsName, dataName, v6), func(t *testing.T) {
					t.Parallel()
					b := newMemBackend()
					addr := testServerAt(t, at, b, func(c *Config) {
						c.Implicit = mode == ImplicitTLS
						c.Binding = BindRequire
					})
					c := dialTest(t, addr, ClientOptions{TLS: mode, Data: data, StrictClose: true})
					for i := range 2 {
						n, err := c.Store(t.Context(), "up", strings.NewReader(payload), 0)
						if err != nil || n != int64(len(payload)) {
							t.Fatal(i, n, err)
						}
						if got, _ := b.Content("/up"); got != payload {
							t.Fatalf("stored %d bytes of %d", len(got), len(payload))
						}
						if got := readAll(t, c, "up", 0); got != payload {
							t.Fatalf("received %d bytes of %d", len(got), len(payload))
						}
					}
					d := c.LastData()
					if (d.TLS != nil) != (mode != NoTLS) || !d.Remote.IsValid() || !d.Announced.IsValid() {
						t.Errorf("%+v", d)
					}
					if d.TLS != nil && (!d.TLS.DidResume || !d.CloseNotify) {
						t.Errorf("resumed %v, close_notify %v", d.TLS.DidResume, d.CloseNotify)
					}
					if _, is := c.ConnectionState(); is != (mode != NoTLS) {
						t.Error("ConnectionState", is)
					}
					if err := c.Quit(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

func TestClientFiles(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.Hosts = []string{"a.example"}
	ctx := t.Context()
	addr := testServer(t, b, nil)
	c, err := Dial(ctx, addr, ClientOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.Banner().Code != 220 {
		t.Error(c.Banner())
	}
	must(c.Host(ctx, "a.example"))
	must(c.Login(ctx, "ann", "secret"))
	f, err := c.Features(ctx)
	must(err)
	if offered, on := f.Facts(); !f.Has("size") || f["REST"] != "STREAM" || !slices.Contains(offered, "type") || len(on) == 0 || len(f.Names()) != len(f) {
		t.Errorf("%v", f)
	}
	must(c.Noop(ctx))
	must(c.Mkdir(ctx, `d "q" ü`))
	must(c.ChangeDir(ctx, `d "q" ü`))
	dir, err := c.WorkingDir(ctx)
	must(err)
	if dir != `/d "q" ü` {
		t.Errorf("%q", dir)
	}
	n, err := c.Store(ctx, " a b", strings.NewReader("hello"), 0)
	if err != nil || n != 5 {
		t.Fatal(n, err)
	}
	_, err = c.Append(ctx, " a b", strings.NewReader(" you"))
	must(err)
	_, err = c.Store(ctx, " a b", strings.NewReader("there"), 6)
	must(err)
	if got := readAll(t, c, " a b", 6); got != "there" {
		t.Errorf("%q", got)
	}
	size, err := c.Size(ctx, " a b")
	if err != nil || size != 11 {
		t.Error(size, err)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(c.SetModTime(ctx, " a b", when))
	if got, err := c.ModTime(ctx, " a b"); err != nil || !got.Equal(when) {
		t.Error(got, err)
	}
	must(c.Chmod(ctx, " a b", 0o604))
	e, err := c.Stat(ctx, " a b")
	if err != nil || e.Size != 11 || e.Mode != 0o604 || !e.ModTime.Equal(when) || !strings.HasSuffix(e.Name, "/ a b") {
		t.Errorf("%+v, %v", e, err)
	}
	h, err := c.Hash(ctx, " a b", "SHA-1")
	if err != nil || h.Algorithm != "SHA-1" || h.Sum != "6e71b3cac15d32fe2d36c270887df9479c25c640" {
		t.Errorf("%+v, %v", h, err)
	}
	name, n, err := c.StoreUnique(ctx, "", strings.NewReader("unique"))
	if err != nil || n != 6 || name == "" {
		t.Error(name, n, err)
	}
	must(c.Rename(ctx, name, "renamed"))
	var all []string
	for e, err := range c.List(ctx, "") {
		must(err)
		all = append(all, e.Name)
	}
	names, err := c.NameList(ctx, "")
	if err != nil || !slices.Equal(all, []string{" a b", "renamed"}) || !slices.Equal(names, all) {
		t.Errorf("%q, %q, %v", all, names, err)
	}
	must(c.Remove(ctx, " a b"))
	must(c.Remove(ctx, "renamed"))
	must(c.ChangeDir(ctx, "/"))
	must(c.Rmdir(ctx, `d "q" ü`))
	var fe *Error
	if _, err := c.Size(ctx, "nothing"); !errors.As(err, &fe) || fe.Code != 550 {
		t.Error(err)
	}
	if _, err := c.Retrieve(ctx, "nothing", 0); !errors.As(err, &fe) || fe.Code != 550 {
		t.Error(err)
	}
	must(c.Abort(ctx))
	must(c.Quit(ctx))
	if err := c.Noop(ctx); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// List falls back to LIST where FEAT does not name MLST.
func TestClientListFallback(t *testing.T) {
	t.Parallel()
	c := scripted(t, func(s *script) {
		s.login()
		s.expect("PASV", "227 Entering Passive Mode (%s)")
		s.expect("LIST d", "150 x")
		s.data("total 5\r\ndrwxr-xr-x 2 a b 4096 Jan 1 2020 sub\r\ngarbage\r\n-rw-r--r-- 1 a b 6 Jan 1 2020 f\n")
		s.say("226 x")
	}, ClientOptions{Data: DataPASV})
	var got []string
	for e, err := range c.List(t.Context(), "d") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Name)
	}
	if !slices.Equal(got, []string{"sub", "f"}) {
		t.Errorf("%q", got)
	}
}

func TestClientEarlyClose(t *testing.T) {
	t.Parallel()
	for _, mode := range []ClientTLS{NoTLS, ExplicitTLS} {
		b := newMemBackend()
		b.Zeros("/big", 64<<20)
		for i := range 100 {
			b.File(fmt.Sprintf("/d/%d", i), "x")
		}
		c := dialTest(t, testServer(t, b, nil), ClientOptions{TLS: mode})
		r, err := c.Retrieve(t.Context(), "big", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := c.Noop(t.Context()); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil {
			t.Error("Read after Close")
		}
		for e, err := range c.List(t.Context(), "d") {
			if err != nil || e.Name != "0" {
				t.Error(e, err)
			}
			break
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestClientAbort(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.Zeros("/big", 64<<20)
	c := dialTest(t, testServer(t, b, nil), ClientOptions{})
	r, err := c.Retrieve(t.Context(), "big", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrAborted) {
		t.Error(err)
	}
	r.Close()
	pr, pw := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := c.Store(t.Context(), "up", pr, 0)
		done <- err
	}()
	pw.Write([]byte("some"))
	if err := c.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := pw.Write([]byte("more")); err != nil {
				return
			}
		}
	}()
	if err := <-done; !errors.Is(err, ErrAborted) {
		t.Error(err)
	}
	pr.Close()
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientCanceled(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.Zeros("/big", 64<<20)
	c := dialTest(t, testServer(t, b, nil), ClientOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Retrieve(ctx, "big", 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.Close()
	if err := c.Noop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error("the control connection did not survive:", err)
	}
}

type failingReader struct{ n int }

func (r *failingReader) Read(p []byte) (int, error) {
	if r.n -= len(p); r.n < 0 {
		return 0, os.ErrInvalid
	}
	return len(p), nil
}

// A source that fails must not leave a file that looks complete.
func TestClientSourceFails(t *testing.T) {
	t.Parallel()
	for _, mode := range []ClientTLS{NoTLS, ExplicitTLS} {
		b := newMemBackend()
		c := dialTest(t, testServer(t, b, nil), ClientOptions{TLS: mode})
		if _, err := c.Store(t.Context(), "up", &failingReader{200_000}, 0); !errors.Is(err, os.ErrInvalid) {
			t.Error(err)
		}
		if _, ok := b.Content("/up"); ok {
			t.Error("the server kept half a file")
		}
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestClientQuota(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.Quota = 1000
	c := dialTest(t, testServer(t, b, nil), ClientOptions{})
	var fe *Error
	if _, err := c.Store(t.Context(), "up", io.LimitReader(zeroReader{}, 64<<20), 0); !errors.As(err, &fe) || fe.Code != 552 {
		t.Error(err)
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientOSFiles(t *testing.T) {
	t.Parallel()
	b := newMemBackend()
	b.Zeros("/big", 3<<20)
	c := dialTest(t, testServer(t, b, nil), ClientOptions{})
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Retrieve(t.Context(), "big", 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(out, r); n != 3<<20 || err != nil {
		t.Fatal(n, err)
	}
	r.Close()
	out.Seek(0, io.SeekStart)
	if n, err := c.Store(t.Context(), "copy", out, 0); n != 3<<20 || err != nil {
		t.Fatal(n, err)
	}
	if got, _ := b.Content("/copy"); !bytes.Equal([]byte(got), make([]byte, 3<<20)) {
		t.Error(len(got))
	}
}

func TestClientTrace(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var lines []string
	c := dialTest(t, testServer(t, newMemBackend(), nil), ClientOptions{OnTrace: func(sent bool, line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprint(sent, " ", line))
	}})
	c.Quit(t.Context())
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(lines, "\n")
	if strings.Contains(all, "secret") || !strings.Contains(all, "true PASS ****") || !strings.Contains(all, "true USER ann") || !strings.Contains(all, "false 230 ") {
		t.Error(all)
	}
}

func TestClientRefusesInjection(t *testing.T) {
	t.Parallel()
	c := dialTest(t, testServer(t, newMemBackend(), nil), ClientOptions{})
	if err := c.Mkdir(t.Context(), "a\r\nDELE b"); err == nil {
		t.Error("a carriage return was sent")
	}
	if err := c.Login(t.Context(), "ann", "x\nQUIT"); err == nil {
		t.Error("a password with a line end was sent")
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Error(err)
	}
}
