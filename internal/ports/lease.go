package ports

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// lease is one passive port in use; it implements ftp.Lease.
type lease struct {
	pool   *Pool
	group  *group
	entry  entry
	bound  netip.AddrPort
	client netip.AddrPort
	start  time.Time

	mu        sync.Mutex
	accepting uint64 // number of the Accept in progress, 0 when none
	calls     uint64
	released  bool
	suspect   *net.TCPConn // seems to have begun before the lease; nil when none
	heldAt    time.Time    // the first of the suspects
}

// suspectFor is how long a suspect waits for somebody who is none. The lease's
// own client is in the queue by then, or a round trip away, or sends its first
// packet once more, which it does after a second.
const suspectFor = 1500 * time.Millisecond

// past is a deadline that wakes a blocked Accept.
var past = time.Unix(1, 0)

// Addr returns the port; the engine chooses what is announced for it.
func (l *lease) Addr() netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, l.bound.Port()) }

// Accept waits for a connection until ctx ends (the error wraps ctx.Err()) or
// the lease is released (net.ErrClosed). One Accept at a time. Who seems to have
// begun to connect before the lease gets it only when nobody else comes within
// suspectFor, over as many calls as that takes.
func (l *lease) Accept(ctx context.Context) (net.Conn, error) {
	end, _ := ctx.Deadline() // the zero time is no deadline
	for {
		deadline, holds := l.until(end)
		conn, err := l.accept(ctx, deadline)
		switch {
		case conn != nil && l.mayTake(conn):
			return conn, nil
		case conn == nil && holds && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			if c := l.hold(nil); c != nil {
				return c, nil
			}
		case conn == nil:
			return nil, err // not conn: a nil *net.TCPConn would be a Conn
		}
	}
}

// until is when to stop waiting: at end, or earlier when a suspect is held.
func (l *lease) until(end time.Time) (deadline time.Time, holds bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspect == nil {
		return end, false
	}
	d := l.heldAt.Add(suspectFor)
	if soon := time.Now().Add(10 * time.Millisecond); d.Before(soon) { // who is in the queue comes first
		d = soon
	}
	if end.IsZero() || d.Before(end) {
		return d, true
	}
	return end, false
}

// mayTake reports whether conn is this lease's. One that seems to have begun
// before it is held back: the kernel's clock may have stood still, and then it
// is the client's own.
func (l *lease) mayTake(conn *net.TCPConn) bool {
	suspect := l.entry.used && l.pool.early(conn, l.start)
	held := conn
	if !suspect {
		held = nil
	}
	if old := l.hold(held); old != nil { // the client's own is the last of them
		old.SetLinger(0)
		old.Close()
		l.pool.stats.strangers.Add(1)
	}
	return !suspect
}

// hold holds conn as the suspect, nil for none, and returns the one before.
func (l *lease) hold(conn *net.TCPConn) (old *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return conn
	}
	if old, l.suspect = l.suspect, conn; old == nil {
		l.heldAt = time.Now()
	}
	return old
}

// TryAccept returns a connection that waits in the queue already, or nil. It
// never waits and sets no timer, which would wake the scheduler.
func (l *lease) TryAccept() (net.Conn, error) {
	for waiting(l.entry.ln) {
		conn, err := l.accept(nil, time.Time{}) // what is in the queue stays there until it is taken
		if conn == nil {
			return nil, err
		}
		if l.mayTake(conn) {
			return conn, nil
		}
	}
	return nil, nil
}

// accept is Accept; without ctx only the deadline and Release end it.
func (l *lease) accept(ctx context.Context, deadline time.Time) (*net.TCPConn, error) {
	l.mu.Lock()
	if l.released {
		l.mu.Unlock()
		return nil, fmt.Errorf("ports: passive port %s was released: %w", l.bound, net.ErrClosed)
	}
	if l.accepting != 0 {
		l.mu.Unlock()
		return nil, fmt.Errorf("ports: passive port %s is already waiting for a connection", l.bound)
	}
	l.calls++
	call := l.calls
	l.accepting = call
	l.entry.ln.SetDeadline(deadline) // under mu: Release may set another after it
	l.mu.Unlock()
	stop := func() bool { return true }
	if ctx != nil {
		stop = context.AfterFunc(ctx, func() { l.wake(call) })
	}
	conn, err := l.entry.ln.AcceptTCP()
	stop()

	l.mu.Lock()
	l.accepting = 0
	released := l.released
	l.mu.Unlock()
	if released {
		if conn != nil {
			conn.Close()
		}
		l.pool.put(l.group, l.entry) // Release left this to us
		return nil, fmt.Errorf("ports: passive port %s was released: %w", l.bound, net.ErrClosed)
	}
	if err == nil {
		return conn, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		cause := context.DeadlineExceeded // the listener's clock may be a moment ahead of the context's
		if ctx != nil && ctx.Err() != nil {
			cause = ctx.Err()
		}
		return nil, fmt.Errorf("ports: nobody connected to passive port %s: %w", l.bound, cause)
	}
	return nil, fmt.Errorf("ports: passive port %s: %w", l.bound, err)
}

// wake ends the Accept with the given number, if it is still running.
func (l *lease) wake(call uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accepting == call && !l.released {
		l.entry.ln.SetDeadline(past)
	}
}

// Release returns the port to the pool and ends an Accept in progress.
func (l *lease) Release() {
	l.mu.Lock()
	if l.released {
		l.mu.Unlock()
		return
	}
	l.released = true
	if l.suspect != nil {
		l.suspect.Close()
		l.suspect = nil
	}
	accepting := l.accepting != 0
	if accepting {
		l.entry.ln.SetDeadline(past) // Accept returns the port
	}
	l.mu.Unlock()
	if !accepting {
		l.pool.put(l.group, l.entry)
	}
}

// listen opens a listener on exactly ap: never port 0, which makes the kernel
// search (29 ms with 24,000 sockets in TIME_WAIT) and ignores the range. net
// sets SO_REUSEADDR on Unix systems, so a TIME_WAIT does not block the bind.
func listen(ap netip.AddrPort) (*net.TCPListener, error) {
	if ap.Port() == 0 {
		return nil, errors.New("ports: port 0 must never be bound")
	}
	lc := net.ListenConfig{KeepAlive: -1} // data connections need none: four system calls less
	lc.SetMultipathTCP(false)             // splice and sendfile want plain TCP
	network := "tcp4"
	if ap.Addr().Is6() {
		network = "tcp6"
	}
	ln, err := lc.Listen(context.Background(), network, ap.String())
	if err != nil {
		return nil, err
	}
	t := ln.(*net.TCPListener)
	shrinkBacklog(t, acceptBacklog)
	return t, nil
}
