package ftp

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
)

// readyPorts has leases that tell whether the peer has connected already, as
// those of kept listeners do.
type readyPorts struct{ PortRange }

type readyLease struct{ Lease }

func (p *readyPorts) Lease(ctx context.Context, c *Conn) (Lease, error) {
	l, err := p.PortRange.Lease(ctx, c)
	if err != nil {
		return nil, err
	}
	return readyLease{l}, nil
}

func (l readyLease) TryAccept() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.Accept(ctx)
}

// headBackend counts uploads that were committed.
type headBackend struct {
	dirBackend
	committed *atomic.Int32
}

func (b headBackend) Login(ctx context.Context, c *Conn, cred Credentials) (Session, error) {
	s, err := b.dirBackend.Login(ctx, c, cred)
	if err != nil {
		return nil, err
	}
	return headSession{s.(dirSession), b.committed}, nil
}

type headSession struct {
	dirSession
	committed *atomic.Int32
}

func (s headSession) Create(ctx context.Context, name string, o CreateOptions) (Sink, error) {
	k, err := s.dirSession.Create(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return headSink{k.(*dirFile), s.committed}, nil
}

type headSink struct {
	*dirFile
	committed *atomic.Int32
}

func (s headSink) Commit(context.Context) error {
	s.committed.Add(1)
	if bytes.Contains(debug.Stack(), []byte("(*Conn).loop")) {
		onSession.Add(1)
	}
	return nil
}

// onSession counts the uploads that were committed on a session's goroutine.
var onSession atomic.Int32

func startHead(t *testing.T) (dir string, committed *atomic.Int32, c *rawConn) {
	dir, committed = t.TempDir(), new(atomic.Int32)
	_, addr := startEngine(t, Config{Backend: headBackend{dirBackend{dir}, committed}, Passive: &readyPorts{PortRange{First: 42000, Last: 43999}}})
	c = dialRaw(t, addr).login()
	c.do(200, "TYPE I")
	return dir, committed, c
}

// TestUploadsInPieces sends uploads that are read whole on the session's
// goroutine, ones that are not, and ones that pause where it gives up waiting.
func TestUploadsInPieces(t *testing.T) {
	dir, committed, c := startHead(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 300<<10/16)
	want := int32(0)
	for _, size := range []int{0, 1, 4096, atOnceBelow - 1, atOnceBelow, atOnceBelow + 1, len(data)} {
		for _, pause := range []time.Duration{0, 2 * headWait} {
			d := c.passive()
			c.do(150, "STOR f")
			half := size / 2
			time.Sleep(pause)
			d.Write(data[:half])
			time.Sleep(pause)
			d.Write(data[half:size])
			d.Close()
			c.expect(226)
			want++
			if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%d octets with a pause of %s: %d stored, %v", size, pause, len(got), err)
			}
			if n := committed.Load(); n != want {
				t.Fatalf("%d of %d uploads were committed", n, want)
			}
		}
	}
}

// TestSmallUploadNeedsNoGoroutine: what it spares is a fifth of the CPU and of the
// time of a small upload.
func TestSmallUploadNeedsNoGoroutine(t *testing.T) {
	_, _, c := startHead(t)
	before := onSession.Load()
	const uploads = 20
	for range uploads {
		d := c.passive()
		c.say("STOR f")
		io.WriteString(d, "all of it")
		d.Close()
		c.expect(150)
		c.expect(226)
	}
	if n := onSession.Load() - before; n < uploads/2 { // others came late, on a busy machine
		t.Errorf("%d of %d small uploads were done on the session's goroutine", n, uploads)
	}
}

// TestResetIsNoEnd: the kernel reports a reset once, and an end after it.
func TestResetIsNoEnd(t *testing.T) {
	_, committed, c := startHead(t)
	for i := range 40 {
		d := c.passive()
		c.do(150, "STOR f")
		io.WriteString(d, "half of it")
		time.Sleep(time.Duration(i) * headWait / 20) // before and after it gives up waiting
		d.(*net.TCPConn).SetLinger(0)
		d.Close()
		c.expect(426)
	}
	if n := committed.Load(); n != 0 {
		t.Errorf("%d uploads were committed that a reset had ended", n)
	}
}

// TestAbortOfSilentUpload: the session listens again soon, although it began the
// upload itself.
func TestAbortOfSilentUpload(t *testing.T) {
	_, committed, c := startHead(t)
	d := c.passive()
	c.do(150, "STOR f")
	io.WriteString(d, "half of it")
	c.do(213, "STAT")
	c.say("ABOR")
	c.expect(426)
	c.expect(226)
	if n := committed.Load(); n != 0 {
		t.Error("it was committed")
	}
}
