package ftp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// keptPorts keeps a descriptor of each data connection, to look at its options
// when the transfer is over.
type keptPorts struct {
	*PortRange
	files chan *os.File
}

func (k keptPorts) Lease(ctx context.Context, c *Conn) (Lease, error) {
	l, err := k.PortRange.Lease(ctx, c)
	if err != nil {
		return nil, err
	}
	return keptLease{l, k.files}, nil
}

type keptLease struct {
	Lease
	files chan *os.File
}

func (l keptLease) Accept(ctx context.Context) (net.Conn, error) {
	nc, err := l.Lease.Accept(ctx)
	if err == nil {
		f, ferr := nc.(*net.TCPConn).File()
		if ferr != nil {
			return nil, ferr
		}
		l.files <- f
	}
	return nc, err
}

// TestLongDownloadsJoinSegments fails when a long download goes out with
// Nagle's algorithm off, as Go leaves it: a fifth more CPU.
func TestLongDownloadsJoinSegments(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := make(chan *os.File, 1)
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}, TLS: serverTLS(), Passive: keptPorts{testPorts, kept}})
	for _, mode := range []ClientTLS{NoTLS, ExplicitTLS} {
		c, err := Dial(t.Context(), addr, ClientOptions{TLS: mode, TLSConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(t.Context(), "ann", "secret"); err != nil {
			t.Fatal(err)
		}
		r, err := c.Retrieve(t.Context(), "file", 0)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.CopyN(io.Discard, r, 1<<20); n != 1<<20 || err != nil {
			t.Fatalf("%d octets, %v", n, err)
		}
		f := <-kept
		if v, err := syscall.GetsockoptInt(int(f.Fd()), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); v != 0 || err != nil {
			t.Errorf("TLS %v: TCP_NODELAY is %d (%v) after a long download", mode, v, err)
		}
		f.Close() // the last descriptor: only now the client sees the end
		if n, err := io.Copy(io.Discard, r); n != 0 || err != nil {
			t.Fatalf("%d octets more, %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		c.Close()
	}
}
