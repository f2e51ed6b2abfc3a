package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// transfer is a command that takes time: a file, a listing, a hash. It runs on
// a goroutine of its own while the session goroutine reads on for ABOR, STAT,
// NOOP and QUIT.
type transfer struct {
	c       *Conn
	verb    string
	name    string
	setup   dataSetup
	ascii   bool
	protP   bool
	upload  bool
	mark    string // text of the 150
	marked  bool
	started time.Time
	size    int64 // of what is to move, -1 when unknown
	moved   atomic.Int64
	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{}

	mu   sync.Mutex
	conn net.Conn
	why  error // of a cut

	loose   bool // an upload over TLS ended without close_notify, as policy allows
	refused bool // storage refused an upload; linger reads what still comes
	head    head // of an upload
}

// newTransfer takes over what was agreed on for the data connection.
func (c *Conn) newTransfer(verb, name string) *transfer {
	return &transfer{c: c, verb: verb, name: name, ascii: c.ascii && !c.srv.RawASCII, protP: c.protP, setup: c.data.take(), started: time.Now(), size: -1}
}

// begin starts work. The reply to the command is what work returns.
func (c *Conn) begin(verb, name string, work func(t *transfer) Reply) {
	c.newTransfer(verb, name).start(work)
}

func (t *transfer) start(work func(t *transfer) Reply) {
	t.enter()
	go t.run(work)
}

// enter makes t the transfer of its session.
func (t *transfer) enter() {
	t.done = make(chan struct{})
	t.ctx, t.cancel = context.WithCancelCause(t.c.ctx)
	t.c.wmu.Lock()
	t.c.xfer = t
	t.c.wmu.Unlock()
}

func (t *transfer) run(work func(t *transfer) Reply) {
	r := t.guarded(work)
	if t.setup.lease != nil {
		t.setup.lease.Release()
	}
	c := t.c
	if c.srv.OnMoved != nil && t.marked {
		c.srv.OnMoved(c, t.verb, t.moved.Load(), time.Since(t.started))
	}
	c.reply(r)
	c.wmu.Lock()
	c.xfer = nil
	stop := c.draining
	if !c.closing {
		c.armIdle()
	}
	c.wmu.Unlock()
	t.cancel(nil)
	close(t.done)
	if stop {
		c.Close("The server is stopping; try again in a moment.")
	}
	t.linger()
}

func (t *transfer) guarded(work func(t *transfer) Reply) (r Reply) {
	defer func() {
		if p := recover(); p != nil {
			t.c.srv.Logger.Error("transfer ended by a fault in the server", "session", t.c.id, "verb", t.verb, "panic", p, "stack", string(debug.Stack()))
			t.close()
			r = ok(451, "The server met a fault of its own; the administrator finds the details in the log.")
		}
	}()
	return work(t)
}

// hold remembers the data connection so that cut can close it.
func (t *transfer) hold(nc net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = nc
	if t.why != nil {
		nc.Close()
	}
}

// cut ends the transfer from another goroutine.
func (t *transfer) cut(why error) {
	t.mu.Lock()
	if t.why == nil {
		t.why = why
	}
	if t.conn != nil {
		if lc, is := t.conn.(interface{ SetLinger(sec int) error }); is && !errors.Is(why, errAbort) {
			// Without TLS a FIN would look like the end of the file, and what
			// the kernel still holds would go on to a client that was sent away.
			lc.SetLinger(0)
		}
		t.conn.Close()
	}
	t.mu.Unlock()
	t.cancel(why)
}

// cause returns why the transfer was cut, or nil.
func (t *transfer) cause() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why != nil {
		return t.why
	}
	if t.ctx != nil && t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return nil
}

func endedBy(cause error) *Error {
	var fe *Error
	switch {
	case errors.Is(cause, errAbort):
		return &Error{426, "Transfer aborted, as ABOR asked."}
	case errors.As(cause, &fe):
		return &Error{426, fe.Message}
	}
	return &Error{426, "Transfer ended: the control connection is gone."}
}

// sayMark sends the 150 once.
func (t *transfer) sayMark() {
	if !t.marked {
		t.marked = true
		t.c.reply(ok(150, "%s", t.mark))
	}
}

func (t *transfer) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.conn.Close()
	}
}

// renew renews the deadline of the data connection.
func (t *transfer) renew(d *dataConn) { d.raw.SetDeadline(time.Now().Add(t.c.srv.StallTimeout)) }

// endSending tells the client that nothing more comes: close_notify and FIN.
// The connection is read on after the reply (linger), since closing it with
// unread bytes would reset it and destroy what the client has not read yet.
func (t *transfer) endSending(d *dataConn) error {
	if d.tls == nil {
		return d.raw.Close()
	}
	t.renew(d)
	err := d.closeNotify()
	if ferr := d.finishTLS(); ferr != nil {
		err = ferr
	}
	if cw, is := d.raw.(interface{ CloseWrite() error }); is {
		cw.CloseWrite()
	}
	return err
}

func (t *transfer) linger() {
	t.mu.Lock()
	nc := t.conn
	t.mu.Unlock()
	if nc == nil {
		return
	}
	defer nc.Close()
	if t.refused && !t.wasCut() {
		swallow(nc)
		return
	}
	if !t.protP || t.upload || t.wasCut() {
		return
	}
	nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	var junk [512]byte
	for range 64 {
		if _, err := nc.Read(junk[:]); err != nil {
			return
		}
	}
}

// swallow reads what a client sends of an upload that was refused in the
// middle. Clients that look at the reply only after they have sent everything
// (curl) would meet a reset otherwise and never read why.
func swallow(nc net.Conn) {
	const most, longest = 256 << 20, 5 * time.Second
	nc.SetReadDeadline(time.Now().Add(longest))
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	for n := 0; n < most; {
		k, err := nc.Read(*buf)
		if err != nil {
			return
		}
		n += k
	}
}

// confirm waits a moment before a plain upload counts as complete. When a
// client dies, the kernel ends its data and its control connection at the same
// time, and nothing in the data tells that from a file's end. The moment is a
// fiftieth of what the upload took, so that it costs fast uploads nothing.
func (t *transfer) confirm() error {
	wait := min(time.Since(t.started)/50, 10*time.Millisecond)
	if wait < time.Millisecond {
		return t.cause()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-t.ctx.Done():
	case <-timer.C:
	}
	return t.cause()
}

func (t *transfer) wasCut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why != nil
}

// sendReader sends src through our memory, for everything the kernel cannot
// send by itself: TLS, ASCII, listings, storage that is no file.
func (t *transfer) sendReader(d *dataConn, src io.Reader) error {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	long := false
	for {
		n, err := readBlock(src, *buf)
		if n == blockSize && !long {
			long = true
			joinSegments(d.raw)
		}
		if n > 0 {
			if werr := t.write(d, (*buf)[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &sourceError{err}
		}
	}
}

// readBlock fills buf as far as the source goes without waiting for more than
// one short read: sources of files fill it, paced ones give what they may.
func readBlock(src io.Reader, buf []byte) (int, error) {
	for range 100 {
		n, err := src.Read(buf)
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (t *transfer) write(d *dataConn, p []byte) error {
	t.renew(d)
	var n int
	var err error
	if d.tls != nil {
		n, err = d.sendTLS(p, t.moved.Load()+int64(len(p)) == t.size)
	} else {
		n, err = d.raw.Write(p)
	}
	t.moved.Add(int64(n))
	return err
}

// sourceError marks an error of the storage, as against one of the connection.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// maxGrant is how much the kernel is asked to move in one go.
const maxGrant = 4 << 20

// kernelFile returns the file and meter behind x if the kernel may move the bytes.
func (t *transfer) kernelFile(d *dataConn, x any) (*os.File, Meter, *net.TCPConn) {
	tc, isTCP := d.raw.(*net.TCPConn)
	of, isFile := x.(OSFiler)
	m, metered := x.(Meter)
	if !isTCP || !isFile || !metered || d.tls != nil || t.ascii {
		return nil, nil, nil
	}
	if f := of.OSFile(); f != nil {
		return f, m, tc
	}
	return nil, nil, nil
}

// joinSegments has TCP hold a short segment back while others are on their way
// (Nagle, RFC 1122 section 4.2.3.4), which Go switches off. Between the pieces of
// a long download it saves a fifth of the CPU; the end of the data does not
// wait, since closing pushes it out.
func joinSegments(nc net.Conn) {
	if tc, is := nc.(*net.TCPConn); is {
		tc.SetNoDelay(false) // the transfer does without it
	}
}

// sendFile has the kernel send up to limit bytes (-1: all) from f (sendfile).
func (t *transfer) sendFile(f *os.File, m Meter, tc *net.TCPConn, limit int64) error {
	if t.size < 0 || t.size > atOnceBelow {
		joinSegments(tc)
	}
	return t.kernelMove(m, limit, func(n int64) (int64, error) {
		return tc.ReadFrom(&io.LimitedReader{R: f, N: n})
	}, tc)
}

// receiveFile has the kernel move the connection's bytes into f (splice).
func (t *transfer) receiveFile(f *os.File, m Meter, tc *net.TCPConn) error {
	if more, err := t.storeHead(f, m, tc); !more || err != nil {
		return err
	}
	err := t.kernelMove(m, -1, func(n int64) (int64, error) {
		return f.ReadFrom(&io.LimitedReader{R: tc, N: n})
	}, tc)
	// One call reads and writes, and its error names neither side. What is not
	// known to come of TCP is the storage's: a network file system has errors
	// of its own.
	var no syscall.Errno
	if errors.As(err, &no) && !slices.Contains(tcpErrors, no) {
		return &sourceError{err}
	}
	return err
}

var tcpErrors = []syscall.Errno{syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ECONNREFUSED}

// kernelMove asks for grants and lets move use them up until the source ends.
// The deadline holds for a grant as a whole, so running into it after some
// bytes have moved is slowness, not a stall.
func (t *transfer) kernelMove(m Meter, limit int64, move func(int64) (int64, error), tc *net.TCPConn) error {
	for limit != 0 {
		ask := int64(maxGrant)
		if limit > 0 {
			ask = min(ask, limit)
		}
		n, err := m.Grant(t.ctx, ask)
		if err != nil {
			return &sourceError{err}
		}
		tc.SetDeadline(time.Now().Add(t.c.srv.StallTimeout))
		k, err := move(n)
		m.Moved(k)
		t.moved.Add(k)
		if limit > 0 {
			limit -= k
		}
		switch {
		case err != nil && k > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return err
		case k < n:
			return nil
		}
	}
	return nil
}

// outcome turns the end of a transfer into its final reply.
func (t *transfer) outcome(err error, done string) Reply {
	if err == nil {
		return ok(226, "%s", done)
	}
	if cause := t.cause(); cause != nil {
		e := endedBy(cause)
		return ok(e.Code, "%s", e.Message)
	}
	var se *sourceError
	if errors.As(err, &se) {
		r := refusal(se.err, shown(t.name))
		if r.Code == 550 || r.Code == 502 {
			r.Code = 451
		}
		return r
	}
	var ne net.Error
	switch {
	case errors.Is(err, errNoCloseNotify):
		return ok(426, "The data connection ended without a TLS close: the file may be cut short and was not stored.")
	case errors.As(err, &ne) && ne.Timeout():
		return ok(426, "No data moved for %s; transfer ended.", human(t.c.srv.StallTimeout))
	}
	t.c.srv.Logger.Info("data connection broke", "session", t.c.id, "verb", t.verb, "err", err)
	return ok(426, "The data connection broke after %d bytes; transfer ended.", t.moved.Load())
}

var errNoCloseNotify = errors.New("ftp: data connection closed without close_notify")

// errorOf gives sessions the cause in their own terms.
func (t *transfer) errorOf(err error) error {
	if err == nil {
		return nil
	}
	if cause := t.cause(); cause != nil {
		return cause
	}
	var se *sourceError
	if errors.As(err, &se) {
		return se.err
	}
	return fmt.Errorf("ftp: data connection: %w", err)
}
