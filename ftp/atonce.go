package ftp

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// atOnceBelow is the size up to which a file may go out on the session
// goroutine. It fits into an empty socket buffer, so nothing waits.
const atOnceBelow = 64 << 10

// atOnce sends a small plain file without a goroutine of its own: the peer has
// connected, the kernel takes the whole file without blocking, and 150 and 226
// go out in one write. Where any of this does not hold it reports false, and
// the transfer goes on in the ordinary way from where it stands.
func (t *transfer) atOnce(src Source) (Reply, bool) {
	c := t.c
	if t.size < 0 || t.size > atOnceBelow || !t.connected() {
		return Reply{}, false
	}
	nc := t.conn
	d := &dataConn{raw: nc}
	f, m, tc := t.kernelFile(d, src)
	if f == nil {
		return Reply{}, false
	}
	for t.moved.Load() < t.size {
		left := t.size - t.moved.Load()
		n, err := m.Grant(c.ctx, left)
		if err != nil || n < left { // refused or paced: the ordinary way words it
			return Reply{}, false
		}
		k, err := sendNow(tc, f, n)
		m.Moved(k)
		t.moved.Add(k)
		if err != nil || k == 0 {
			return Reply{}, false
		}
	}
	nc.Close()
	t.record(nc)
	if err := src.Close(nil); err != nil {
		t.marked = true
		return t.outcome(&sourceError{err}, ""), true
	}
	return Reply{Code: 226, Text: "Transfer complete.", mark: t.mark}, true
}

// connected takes the data connection of a plain binary transfer if the peer has
// connected already. Where it has not, openData waits for it.
func (t *transfer) connected() bool {
	q, is := t.setup.lease.(interface {
		TryAccept() (net.Conn, error) // a connection that has come already, or nil
	})
	if !is || t.protP || t.ascii {
		return false
	}
	nc, err := q.TryAccept()
	if err != nil || nc == nil {
		return false
	}
	if _, tcp := nc.(*net.TCPConn); !tcp || !t.c.isPeer(nc) {
		nc.Close() // a stranger; the ordinary way goes on waiting for the peer
		return false
	}
	t.setup.lease.Release()
	t.hold(nc)
	return true
}

// headWait is how long the session goroutine waits for the end of a small
// upload. Meanwhile it reads no commands: an ABOR may come this much late.
const headWait = 10 * time.Millisecond

// head is the beginning of an upload, read before the transfer has a goroutine
// of its own.
type head struct {
	buf *[]byte // of blocks
	n   int
	end error // what ended it: io.EOF, an error of the connection; nil when more may come
}

// readHead reads what a plain upload sends at once, on the session's goroutine.
// It reports whether that was all of it: then the rest is done here, too, and
// spares a small file a goroutine, its wake-ups and three splices.
func (t *transfer) readHead(sink Sink) (whole bool) {
	if !t.connected() {
		return false
	}
	if f, _, _ := t.kernelFile(&dataConn{raw: t.conn}, sink); f == nil {
		return false
	}
	t.sayMark()
	h := &t.head
	h.buf = blocks.Get().(*[]byte)
	t.conn.SetReadDeadline(time.Now().Add(headWait))
	for h.end == nil && h.n < atOnceBelow {
		var k int
		k, h.end = t.conn.Read((*h.buf)[h.n:atOnceBelow])
		h.n += k
	}
	if errors.Is(h.end, os.ErrDeadlineExceeded) {
		h.end = nil
	}
	// Any other error is kept: after a reset, the kernel would call the next
	// read's end that of the file.
	return h.end != nil
}

// storeHead stores what readHead has read; more says that the upload goes on.
func (t *transfer) storeHead(f *os.File, m Meter, tc *net.TCPConn) (more bool, err error) {
	h := t.head
	t.head = head{}
	if h.buf == nil {
		return true, nil
	}
	defer blocks.Put(h.buf)
	left := (*h.buf)[:h.n]
	err = t.kernelMove(m, int64(h.n), func(n int64) (int64, error) {
		k, err := f.Write(left[:n])
		left = left[k:]
		return int64(k), err
	}, tc)
	var se *sourceError
	switch {
	case err == nil && h.end == io.EOF:
		return false, nil
	case err == nil:
		return h.end == nil, h.end
	case !errors.As(err, &se):
		err = &sourceError{err}
	}
	return false, err
}

// record reports the data connection as openData does.
func (t *transfer) record(nc net.Conn) {
	c := t.c
	if c.srv.OnData != nil {
		c.srv.OnData(c, DataAttempt{Time: t.setup.at, Mode: t.setup.mode, Control: c.remote, Local: t.setup.announced, Remote: addrPort(nc.RemoteAddr()),
			Waited: time.Since(t.started), Reaction: t.started.Sub(t.setup.at), Code: "ok"})
	}
}
