package ftp

import (
	"errors"
	"net"
	"slices"
)

// While a new process takes a server over, both have sessions whose data
// connections arrive on the one shared port, and only the tickets tell whose
// they are. Each process therefore looks at the first message of a connection
// and passes those on that are not its own, with what it has read.

// PassFunc hands a connection of unknown owner to another process. read is
// what was read from it. With final the other has the last word; without, it
// takes the connection only when the ticket is its own, and hands it back
// otherwise. It owns nc when it returns true.
type PassFunc func(nc net.Conn, read []byte, final bool) bool

// errForeign ends a handshake here that may go on elsewhere. Nothing of it is sent.
var errForeign = errors.New("ftp: the connection is not one of this process's sessions")

const extensionTicket = 35

// SetPass tells Serve where connections of unknown owner go; nil: nowhere.
func (p *SharedPort) SetPass(f PassFunc) {
	p.mu.Lock()
	p.pass = f
	p.mu.Unlock()
}

// Adopt takes a connection that another process accepted and read the
// beginning of. pass is where it goes when its ticket is not of one of our
// sessions; nil: nowhere else, so the address may decide. It returns at once.
func (p *SharedPort) Adopt(nc net.Conn, read []byte, pass PassFunc) {
	if !p.admit(nc) {
		nc.Close()
		return
	}
	go p.identify(nc, read, pass)
}

// Retire stops accepting; sessions go on, with the connections that Adopt brings.
func (p *SharedPort) Retire() {
	p.mu.Lock()
	p.retired = true
	lns := p.lns
	p.lns = nil
	p.mu.Unlock()
	for _, ln := range lns {
		ln.Close()
	}
}

// tapConn keeps what the handshake reads, until the owner is known.
type tapConn struct {
	net.Conn
	got   []byte
	wrote bool // an answer went out: nobody else can go on
}

func (t *tapConn) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.got = append(t.got, p[:max(n, 0)]...)
	return n, err
}

func (t *tapConn) Write(p []byte) (int, error) {
	t.wrote = true
	return t.Conn.Write(p)
}

// preload makes b return what was read before.
func (b *bulkConn) preload(read []byte) {
	if len(read) == 0 || len(read) > blockSize {
		return
	}
	b.rbuf = blocks.Get().(*[]byte)
	b.r, b.w = 0, copy(*b.rbuf, read)
}

// elsewhere reports whether a hello without a ticket of ours should go to the
// other process: it has none at all and nobody here waits for its address.
func (h *sharedHello) elsewhere(extensions []uint16, pending []*sharedLease) bool {
	if h.pass == nil || slices.Contains(extensions, extensionPSK) || slices.Contains(extensions, extensionTicket) {
		return false
	}
	return !slices.ContainsFunc(pending, func(l *sharedLease) bool { return l.c.remote.Addr() == h.peer.Addr() })
}

// handOn passes a connection on that is not ours.
func (h *sharedHello) handOn(tap *tapConn) bool {
	return h.foreign && tap != nil && !tap.wrote && h.pass(tap.Conn, tap.got, h.byAddr == nil)
}
