package ftp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one control connection. The methods are safe for concurrent use;
// everything else belongs to the session goroutine.
type Conn struct {
	srv    *Server
	id     string
	raw    net.Conn
	local  netip.AddrPort
	remote netip.AddrPort
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{}

	// wmu guards the writing side and what other goroutines may look at.
	wmu      sync.Mutex
	out      net.Conn // raw, or the TLS connection on it
	tls      *tls.Conn
	closing  bool // 421 or 221 was sent
	draining bool
	xfer     *transfer
	host     string
	loginEnd time.Time // nobody is logged in: writing ends with the time for it
	idleEnd  time.Time // of the time for the next command

	parked     atomic.Uint64 // number in the lot, 0 when not there
	unparkable bool

	rd       lineReader
	trace    atomic.Pointer[func(sent bool, line string)] // see SetTrace
	opened   time.Time                                    // begin of the time for a log-in: accept, or the last log-out
	user     string                                       // USER as given
	acct     string
	sess     Session
	admitted bool
	failures int
	errs     int // syntax errors in a row

	cwd     string
	ascii   bool
	protP   bool
	pbsz    bool
	epsvAll bool
	once    pending
	data    dataSetup
	bind    binding
	facts   factSet
	hash    int // index into hashes
	idle    time.Duration
	cmds    int64
	moved   int64 // bytes of all transfers
}

// pending is what one command leaves for the next; see clearPending.
type pending struct {
	rest       int64
	rnfr, cpfr string
	alloc      int64
	rangeStart int64
	rangeEnd   int64 // exclusive end + 1 of RANG; 0: none
}

func newConn(s *Server, nc net.Conn) *Conn {
	c := &Conn{srv: s, raw: nc, out: nc, opened: time.Now(), ended: make(chan struct{}), cwd: "/", ascii: true, facts: allFacts, idle: s.IdleTimeout}
	var id [16]byte
	rand.Read(id[:])
	c.id = hex.EncodeToString(id[:])
	c.local, c.remote = addrPort(nc.LocalAddr()), addrPort(nc.RemoteAddr())
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.loginEnd = c.opened.Add(s.LoginTimeout)
	c.rd.max = s.MaxLine
	c.rd.reset(nc)
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	if t, ok := a.(*net.TCPAddr); ok {
		ap = t.AddrPort()
	} else if a != nil {
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ID is a random identifier of the connection, 32 hex digits.
func (c *Conn) ID() string { return c.id }

// SetID replaces the identifier, so that the engine's log lines carry the
// session id of the backend. It may only be called from Admitter.Connect.
func (c *Conn) SetID(id string) { c.id = id }

// RemoteAddr is the client's address (behind a PROXY header: the real client's).
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is the address the client reached.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// NetConn is the connection as it was accepted, for what its addresses and type
// tell; reading from it or writing to it breaks the session.
func (c *Conn) NetConn() net.Conn { return c.raw }

// SetTrace lets fn see every protocol line of this connection from now on, with
// secrets cut, besides Config.OnTrace; nil ends that. It may be called at any
// time. fn must not block and must not call methods of c, whose locks may be held.
func (c *Conn) SetTrace(fn func(sent bool, line string)) {
	if fn == nil {
		c.trace.Store(nil)
		return
	}
	c.trace.Store(&fn)
}

// traced reports whether anybody wants to see protocol lines.
func (c *Conn) traced() bool { return c.srv.OnTrace != nil || c.trace.Load() != nil }

// tell shows a line, secrets cut, to whoever wants it.
func (c *Conn) tell(sent bool, line string) {
	if c.srv.OnTrace != nil {
		c.srv.OnTrace(c, sent, line)
	}
	if fn := c.trace.Load(); fn != nil {
		(*fn)(sent, line)
	}
}

// Context is canceled when the connection ends; its cause says why.
func (c *Conn) Context() context.Context { return c.ctx }

// Implicit reports whether the listener speaks TLS from the first byte.
func (c *Conn) Implicit() bool { return c.srv.Implicit }

// TLS returns the state of the control connection's TLS, or nil when it is clear.
func (c *Conn) TLS() *tls.ConnectionState {
	c.wmu.Lock()
	t := c.tls
	c.wmu.Unlock()
	if t == nil {
		return nil
	}
	st := t.ConnectionState()
	return &st
}

// Host is the name the client chose by HOST (RFC 7151) or TLS SNI, "" when none.
func (c *Conn) Host() string {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.host
}

func (c *Conn) setHost(h string) {
	c.wmu.Lock()
	c.host = h
	c.wmu.Unlock()
}

var (
	errQuit  = errors.New("ftp: client said QUIT")
	errAbort = errors.New("ftp: transfer aborted by ABOR")
)

// Close ends the connection: a transfer is cut, the client gets "421 reason".
func (c *Conn) Close(reason string) {
	c.wmu.Lock()
	t := c.xfer
	if c.closing {
		c.wmu.Unlock()
		c.raw.Close()
		c.unpark()
		return
	}
	c.wmu.Unlock()
	c.cancel(&Error{421, reason})
	if t != nil {
		t.cut(&Error{426, reason})
	}
	c.finish(Reply{Code: 421, Text: reason})
}

// drain ends an idle connection now and a busy one after its transfer.
func (c *Conn) drain() {
	c.wmu.Lock()
	busy := c.xfer != nil
	c.draining = true
	c.wmu.Unlock()
	if !busy {
		c.Close("The server is stopping; try again in a moment.")
	}
}

// finish sends a last reply and makes the reading side fail.
func (c *Conn) finish(r Reply) {
	c.send(r, true)
	if t, ok := c.raw.(interface{ CloseWrite() error }); ok && c.tlsConn() == nil {
		t.CloseWrite()
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerControl))
	c.unpark()
}

// lingerControl is how long a closed control connection is read on, so that
// bytes still on their way do not turn the last reply into a reset.
const lingerControl = 500 * time.Millisecond

func (c *Conn) tlsConn() *tls.Conn {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.tls
}

// reply sends one reply with one write.
func (c *Conn) reply(r Reply) { c.send(r, false) }

func (c *Conn) send(r Reply, last bool) {
	if r.Code == 0 {
		return
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closing {
		return
	}
	c.closing = last
	var small [256]byte
	b := appendReply(small[:0], r)
	c.raw.SetWriteDeadline(c.writeBy(time.Now()))
	if _, err := c.out.Write(b); err != nil {
		c.cancel(fmt.Errorf("ftp: reply not written: %w", err))
		c.raw.SetReadDeadline(time.Unix(1, 0))
		c.unpark()
	}
	if last && c.tls != nil {
		c.tls.CloseWrite()
	}
	if c.traced() {
		for l := range strings.Lines(string(appendReply(nil, r))) {
			c.tell(true, strings.TrimRight(l, "\r\n"))
		}
	}
}

// writeBy is the deadline for a reply; wmu is held. A stranger who does not
// read replies gets no more time than one who sends no commands, but for the
// moment that the last reply needs.
func (c *Conn) writeBy(now time.Time) time.Time {
	by := now.Add(30 * time.Second)
	if c.loginEnd.IsZero() || by.Before(c.loginEnd) {
		return by
	}
	if soon := now.Add(time.Second); soon.After(c.loginEnd) {
		return soon
	}
	return c.loginEnd
}

func (c *Conn) sendTelnet(b []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.closing {
		c.raw.SetWriteDeadline(c.writeBy(time.Now()))
		c.out.Write(b)
	}
}

// serve runs the session from its beginning.
func (c *Conn) serve() { c.run(c.open) }

// run runs the session until it ends or is parked. A session has one such
// goroutine, or none while it is parked.
func (c *Conn) run(turn func() error) {
	cause := c.watched(turn)
	for errors.Is(cause, errParked) {
		if c.park() {
			return
		}
		c.unparkable = true
		cause = c.watched(c.loop)
	}
	defer close(c.ended)
	defer c.srv.forget(c)
	c.cleanup(cause)
}

// watched ends the session when turn panics.
func (c *Conn) watched(turn func() error) (cause error) {
	defer func() {
		if p := recover(); p != nil {
			cause = fmt.Errorf("%w: %v", ErrPanic, p)
			c.srv.Logger.Error("session ended by a fault in the server", "session", c.id, "remote", c.remote, "err", cause, "stack", string(debug.Stack()))
			c.finish(Reply{Code: 421, Text: "The server met a fault of its own in this session. The administrator finds the details in the log."})
		}
	}()
	return turn()
}

// open does what comes before the first command.
func (c *Conn) open() error {
	setUrgentInline(c.raw)
	if c.srv.Implicit {
		if err := c.startTLS(); err != nil {
			return err
		}
	}
	if err := c.admit(); err != nil {
		return err
	}
	c.reply(ok(220, "%s", c.srv.Greeting))
	c.armRead()
	if done, err := c.wrongDoor(); done {
		return err
	}
	return c.loop()
}

// admit asks the backend whether this peer may connect at all.
func (c *Conn) admit() error {
	if a, is := c.srv.Backend.(Admitter); is {
		if err := a.Connect(c.ctx, c); err != nil {
			r := refusal(err, "connection")
			if r.Code != 421 {
				r = ok(421, "%s", r.Text)
			}
			c.finish(r)
			return err
		}
		c.admitted = true
	}
	return nil
}

func (c *Conn) cleanup(cause error) {
	if cc := context.Cause(c.ctx); cc != nil && (cause == nil || !errors.Is(cause, errQuit)) {
		cause = cc
	}
	if errors.Is(cause, errQuit) {
		cause = nil
	}
	c.cancel(errors.Join(errors.New("ftp: connection ended"), cause))
	if t := c.current(); t != nil {
		t.cut(errors.New("ftp: control connection ended"))
		<-t.done
	}
	c.unused()
	c.data.drop()
	if c.sess != nil {
		c.sess.Close(cause)
		c.sess = nil
	}
	if c.admitted {
		c.srv.Backend.(Admitter).Disconnect(c, cause)
	}
	c.drainControl()
	c.raw.Close()
}

// drainControl reads what the client still sends for a moment: closing a
// socket with unread bytes would reset it and could destroy the last reply.
func (c *Conn) drainControl() {
	c.wmu.Lock()
	said := c.closing
	c.wmu.Unlock()
	if !said {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerControl))
	var junk [512]byte
	for range 128 {
		if _, err := c.raw.Read(junk[:]); err != nil {
			return
		}
	}
}

// current returns the running transfer, or nil.
func (c *Conn) current() *transfer {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.xfer
}

// armRead sets the deadline for the next command. During a transfer there is none.
func (c *Conn) armRead() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.xfer != nil {
		c.raw.SetReadDeadline(time.Time{})
		return
	}
	if !c.closing {
		c.armIdle()
	}
}

// armIdle sets the deadline for the next command, or until the session is
// parked; wmu is held and there is no transfer.
func (c *Conn) armIdle() {
	now := time.Now()
	d := now.Add(c.idle)
	c.loginEnd = time.Time{}
	if c.sess == nil {
		c.loginEnd = c.opened.Add(c.srv.LoginTimeout)
		d = minTime(d, c.loginEnd)
	}
	c.idleEnd = d
	if c.sess != nil && canPark && !c.unparkable {
		d = minTime(d, now.Add(c.srv.parkAfter))
	}
	c.raw.SetReadDeadline(d)
}

func (c *Conn) loop() error {
	for long := 0; ; {
		c.armRead()
		line, err := c.command()
		switch {
		case errors.Is(err, errLineTooLong):
			if long++; long >= 3 {
				c.finish(ok(421, "Too many over-long lines; closing."))
				return fmt.Errorf("%w: %w", ErrHostile, err)
			}
			c.reply(ok(500, "Command line longer than %d bytes; it was ignored.", c.srv.MaxLine))
			continue
		case errors.Is(err, errParked):
			return err
		case err != nil:
			return c.readFailed(err)
		}
		if len(c.rd.answer) > 0 {
			c.sendTelnet(c.rd.answer)
			c.rd.answer = nil
		}
		r := c.dispatch(line)
		if r.close {
			c.finish(r)
			if r.Code == 221 {
				return errQuit
			}
			if r.hostile {
				return fmt.Errorf("%w: %w", ErrHostile, &Error{r.Code, r.Text})
			}
			return &Error{r.Code, r.Text}
		}
		c.reply(r)
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
	}
}

func (c *Conn) readFailed(err error) error {
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() || c.ctx.Err() != nil {
		return err
	}
	if c.sess == nil && time.Since(c.opened) >= c.srv.LoginTimeout {
		c.finish(ok(421, "No log-in within %s; closing.", human(c.srv.LoginTimeout)))
		return errors.New("ftp: log-in timeout")
	}
	c.finish(ok(421, "No command for %s; closing.", human(c.idle)))
	return errors.New("ftp: idle timeout")
}

func human(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
