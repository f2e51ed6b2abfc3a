package ports

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialHalf connects like somebody far away: the last packet of the handshake
// comes up to 200 ms after the others, which Linux does for a socket that is
// told to save acknowledgements.
func dialHalf(t *testing.T, to string) net.Conn {
	t.Helper()
	var bad error
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { bad = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
	}}
	c, err := d.Dial("tcp", to)
	if err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestHandshakeOfAnEarlierLease: whoever began to connect during one lease and
// arrives during the next one, from the address of its client, gets nothing.
// It is in no queue that could be emptied when the next lease begins.
func TestHandshakeOfAnEarlierLease(t *testing.T) {
	for _, queued := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the queue %v", queued), func(t *testing.T) {
			p := newTestPool(t, 1, func(o *Options) { o.KeepFor = time.Minute })
			for range busyLeases - 1 {
				mustLease(t, p).Release()
			}
			l := mustLease(t, p)
			late := dialHalf(t, l.bound.String())
			time.Sleep(50 * time.Millisecond) // well before the next lease, by the kernel's coarse clock, too
			l.Release()
			l = mustLease(t, p)
			defer l.Release()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for queued && !waiting(l.entry.ln) && p.Stats().Strangers == 0 {
				time.Sleep(5 * time.Millisecond)
				if ctx.Err() != nil {
					t.Fatal("the late one never came")
				}
			}
			came := make(chan net.Conn, 1)
			time.AfterFunc(400*time.Millisecond, func() {
				right, err := net.Dial("tcp", l.bound.String())
				if err != nil {
					t.Error(err)
				}
				came <- right
			})
			c, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			right := <-came
			defer right.Close()
			if c.RemoteAddr().String() == late.LocalAddr().String() {
				t.Fatal("a connection that began in an earlier lease was taken for this one's")
			}
			if s := p.Stats(); s.Strangers != 1 {
				t.Errorf("%d strangers were turned away, want 1", s.Strangers)
			}
		})
	}
}

// TestClockThatStandsStill: where the kernel's clock makes every client seem to
// have begun before its lease, each is served all the same, a little later, and
// the last who came is taken.
func TestClockThatStandsStill(t *testing.T) {
	for _, queued := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the queue %v", queued), func(t *testing.T) {
			p := newTestPool(t, 1, func(o *Options) { o.KeepFor = time.Minute })
			p.early = func(*net.TCPConn, time.Time) bool { return true }
			for range busyLeases {
				mustLease(t, p).Release()
			}
			l := mustLease(t, p)
			defer l.Release()
			var last net.Conn
			for range 3 {
				c, err := net.Dial("tcp", l.bound.String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				last = c
			}
			if queued {
				if c, err := l.TryAccept(); c != nil || err != nil {
					t.Fatalf("TryAccept: %v, %v", c, err)
				}
			}
			got, err := l.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if got.RemoteAddr().String() != last.LocalAddr().String() {
				t.Errorf("accepted %v, want the last, %v", got.RemoteAddr(), last.LocalAddr())
			}
			if s := p.Stats(); s.Strangers != 2 {
				t.Errorf("%d strangers, want 2", s.Strangers)
			}
		})
	}
}

// TestSuspectWaitsOverCalls: the engine asks again after a quarter of a second;
// that a call ends does not make a suspect the lease's client.
func TestSuspectWaitsOverCalls(t *testing.T) {
	p := newTestPool(t, 1, func(o *Options) { o.KeepFor = time.Minute })
	p.early = func(*net.TCPConn, time.Time) bool { return true }
	for range busyLeases {
		mustLease(t, p).Release()
	}
	l := mustLease(t, p)
	defer l.Release()
	c, err := net.Dial("tcp", l.bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for began := time.Now(); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		got, err := l.Accept(ctx)
		cancel()
		took := time.Since(began)
		if err == nil {
			got.Close()
			if took < suspectFor-50*time.Millisecond {
				t.Errorf("taken after %v", took)
			}
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
			t.Fatalf("after %v: %v", took, err)
		}
	}
}

// TestSuspectIsCutByRelease: a connection that is held back does not outlive its lease.
func TestSuspectIsCutByRelease(t *testing.T) {
	p := newTestPool(t, 1, func(o *Options) { o.KeepFor = time.Minute })
	p.early = func(*net.TCPConn, time.Time) bool { return true }
	for range busyLeases {
		mustLease(t, p).Release()
	}
	l := mustLease(t, p)
	c, err := net.Dial("tcp", l.bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c, err := l.TryAccept(); c != nil || err != nil {
		t.Fatalf("TryAccept: %v, %v", c, err)
	}
	l.Release()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, want the end", err)
	}
}

// TestSlowHandshakeIsServed: a client that is far away is no stranger.
func TestSlowHandshakeIsServed(t *testing.T) {
	p := newTestPool(t, 1, nil)
	for _, pause := range []time.Duration{0, 300 * time.Millisecond} {
		l := mustLease(t, p)
		c := dialHalf(t, l.bound.String())
		time.Sleep(pause)
		got, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("after %v: accepted %v", pause, got.RemoteAddr())
		}
		got.Close()
		l.Release()
	}
}
