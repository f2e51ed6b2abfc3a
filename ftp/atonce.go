package ftp

import (
	"net"
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
	q, is := t.setup.lease.(interface {
		TryAccept() (net.Conn, error) // a connection that has come already, or nil
	})
	if !is || t.protP || t.ascii || t.size < 0 || t.size > atOnceBelow {
		return Reply{}, false
	}
	nc, err := q.TryAccept()
	if err != nil || nc == nil {
		return Reply{}, false
	}
	if _, tcp := nc.(*net.TCPConn); !tcp || !c.isPeer(nc) {
		nc.Close() // a stranger; the ordinary way goes on waiting for the peer
		return Reply{}, false
	}
	t.setup.lease.Release()
	t.conn = nc
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

// record reports the data connection as openData does.
func (t *transfer) record(nc net.Conn) {
	c := t.c
	if c.srv.OnData != nil {
		c.srv.OnData(c, DataAttempt{Time: t.setup.at, Mode: t.setup.mode, Control: c.remote, Local: t.setup.announced, Remote: addrPort(nc.RemoteAddr()),
			Waited: time.Since(t.started), Reaction: t.started.Sub(t.setup.at), Code: "ok"})
	}
}
