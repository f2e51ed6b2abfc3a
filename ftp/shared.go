package ftp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// SharedFallback says what becomes of a data connection on a SharedPort whose
// client does not resume its TLS session.
type SharedFallback uint8

// The fallbacks. With BindRequire there is none: such connections are refused.
const (
	// FallbackAddress takes it for the one session from that address that waits
	// for a data connection. Two that wait cannot be told apart: it is refused.
	FallbackAddress SharedFallback = iota
	// FallbackRange refuses it, and gives that session ports of the range from then on.
	FallbackRange
	// FallbackRefuse refuses it.
	FallbackRefuse
)

// SharedPort is one port on which the protected data connections of all
// sessions arrive. The TLS ticket that a client resumes tells which session a
// connection belongs to, also for many clients behind one address. Sessions
// without PROT P get their ports from Config.Passive. Several Servers may
// share one SharedPort. Safe for concurrent use.
type SharedPort struct {
	Port     uint16 // to announce; it may differ from the one bound
	Fallback SharedFallback
	Logger   *slog.Logger // nil: silent
	// Handshake limits the time a connection may take to show whose it is; default 15 s.
	Handshake time.Duration
	// Unknown and UnknownPerAddress limit connections that have not shown yet
	// whose they are; defaults 512 and 128.
	Unknown, UnknownPerAddress int

	mu      sync.Mutex
	waiting map[*sharedLease]struct{}
	unknown map[netip.Addr]int
	total   int
	closed  bool
	retired bool
	pass    PassFunc
	lns     []net.Listener
	wg      sync.WaitGroup
}

// sharedLease is one session's claim on the shared port.
type sharedLease struct {
	p    *SharedPort
	c    *Conn
	got  chan *sharedConn
	gone chan struct{}
	once sync.Once
	must bool // only a connection that resumes will do

	mu       sync.Mutex
	upload   bool
	stranger netip.AddrPort
	why      string // why a connection that may have been meant for it was refused
	hurry    chan struct{}
}

// sharedConn is a data connection whose handshake is done and whose session is known.
type sharedConn struct {
	*tls.Conn
	bulk     *bulkConn
	seen     ticketSeen
	handover Handover // nil: crypto/tls keeps the connection
}

// Lease claims the shared port for the next data connection of c.
func (p *SharedPort) Lease(_ context.Context, c *Conn) (Lease, error) {
	c.bind.init()
	l := &sharedLease{p: p, c: c, must: c.srv.Binding == BindRequire || c.srv.Binding == BindPrefer && c.bind.resumed, got: make(chan *sharedConn, 1), gone: make(chan struct{}), hurry: make(chan struct{}, 1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if p.waiting == nil {
		p.waiting = make(map[*sharedLease]struct{})
	}
	p.waiting[l] = struct{}{}
	return l, nil
}

// Serve accepts data connections on ln until Close. It may be called for several listeners.
func (p *SharedPort) Serve(ln net.Listener) error {
	p.mu.Lock()
	if p.closed || p.retired {
		p.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	p.lns = append(p.lns, ln)
	p.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err != nil {
			p.mu.Lock()
			closed := p.closed || p.retired
			p.mu.Unlock()
			if closed {
				return ErrServerClosed
			}
			var te interface{ Temporary() bool }
			if errors.As(err, &te) && te.Temporary() {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			return err
		}
		if !p.admit(nc) {
			nc.Close()
			continue
		}
		p.mu.Lock()
		pass := p.pass
		p.mu.Unlock()
		go p.identify(nc, nil, pass)
	}
}

// Waiting returns how many sessions wait for a data connection.
func (p *SharedPort) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// Close stops accepting and waits for handshakes under way.
func (p *SharedPort) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, ln := range p.lns {
		ln.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// admit counts a connection of unknown owner, unless there are too many.
func (p *SharedPort) admit(nc net.Conn) bool {
	a := addrPort(nc.RemoteAddr()).Addr()
	most, each := p.Unknown, p.UnknownPerAddress
	if most <= 0 {
		most = 512
	}
	if each <= 0 {
		each = 128
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.total >= most || p.unknown[a] >= each {
		return false
	}
	if p.unknown == nil {
		p.unknown = make(map[netip.Addr]int)
	}
	p.unknown[a]++
	p.total++
	p.wg.Add(1)
	return true
}

func (p *SharedPort) known(a netip.Addr) {
	p.mu.Lock()
	if p.unknown[a]--; p.unknown[a] == 0 {
		delete(p.unknown, a)
	}
	p.total--
	p.mu.Unlock()
	p.wg.Done()
}

// identify finds out by the TLS handshake whose data connection this is. read
// is what was read of it elsewhere; pass, unless nil, takes what is not ours.
func (p *SharedPort) identify(nc net.Conn, read []byte, pass PassFunc) {
	peer := addrPort(nc.RemoteAddr())
	defer p.known(peer.Addr())
	limit := p.Handshake
	if limit <= 0 {
		limit = 15 * time.Second
	}
	nc.SetDeadline(time.Now().Add(limit))
	h := &sharedHello{p: p, peer: peer, pass: pass}
	bulk := newBulkConn(nc)
	bulk.exact = true
	bulk.preload(read)
	var tap *tapConn
	if pass != nil {
		tap = &tapConn{Conn: nc, got: slices.Clone(read)}
		bulk.Conn = tap
	}
	t := tls.Server(bulk, h.config())
	err := t.Handshake()
	if err == nil {
		err = bulk.flush()
	}
	l := h.lease
	if err != nil || l == nil {
		h.drop()
		bulk.release() // what it was about to send stays unsent
		if h.handOn(tap) {
			return
		}
		nc.Close()
		p.refused(h, err)
		return
	}
	bulk.Conn = nc
	nc.SetDeadline(time.Time{})
	h.seen.done(t)
	sc := &sharedConn{Conn: t, bulk: bulk, seen: h.seen, handover: h.handover}
	if !l.deliver(sc) {
		h.drop()
		bulk.release()
		nc.Close()
	}
}

// sharedHello is the state of one handshake; it lives on that goroutine alone.
type sharedHello struct {
	p     *SharedPort
	peer  netip.AddrPort
	lease *sharedLease
	seen  ticketSeen
	many  bool // several sessions from the address wait
	cfg   *tls.Config

	handover Handover

	pass    PassFunc     // nil: there is no other process
	foreign bool         // the connection may be one of the other process's
	byAddr  *sharedLease // that the address points to
}

// config builds the configuration of one handshake. The hooks may change it.
func (h *sharedHello) config() *tls.Config {
	h.cfg = &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	h.cfg.GetConfigForClient = h.hello
	return h.cfg
}

// hello takes the certificates and keys of the session that this most likely
// is: the tickets decide, and where there is none the address.
func (h *sharedHello) hello(info *tls.ClientHelloInfo) (*tls.Config, error) {
	pending := h.p.pending()
	if h.foreign = len(pending) == 0 || h.elsewhere(info.Extensions, pending); h.foreign && h.pass != nil {
		return nil, errForeign
	}
	if len(pending) == 0 {
		return nil, errors.New("ftp: no session waits for a data connection")
	}
	psk := slices.Contains(info.Extensions, extensionPSK)
	byAddr := h.byAddress(pending)
	h.byAddr = byAddr
	first := pending[0]
	if byAddr != nil {
		first = byAddr
	}
	base := first.c.srv.TLS
	cfg := base.Clone()
	cfg.GetConfigForClient = nil
	if psk && len(base.CurvePreferences) == 0 {
		cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	}
	cfg.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss := h.match(ticket, cs)
		if ss == nil && h.pass != nil {
			h.foreign = true
			return nil, errForeign
		}
		if ss != nil && h.lease.uploading() && cs.Version == tls.VersionTLS13 {
			cfg.SessionTicketsDisabled = true // see binding.dataConfig
		}
		return ss, nil
	}
	cfg.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		l := h.lease
		if l == nil {
			l = byAddr
		}
		if l == nil {
			return first.c.srv.TLS.EncryptTicket(cs, ss)
		}
		return l.c.bind.wrap(l.c.srv.TLS, true)(cs, ss)
	}
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if h.lease == nil { // a full handshake: the address has to do
			if h.lease = byAddr; byAddr == nil {
				return errors.New("ftp: the client did not resume the TLS session of its control connection")
			}
		}
		if verify != nil {
			return verify(cs)
		}
		return nil
	}
	if byAddr != nil && !psk && byAddr.uploading() && slices.Contains(info.SupportedVersions, tls.VersionTLS13) {
		cfg.SessionTicketsDisabled = true
	}
	if records := first.c.srv.Records; records != nil {
		h.handover = records()
		h.handover.Watch(cfg)
	}
	return cfg, nil
}

func (h *sharedHello) drop() {
	if h.handover != nil {
		h.handover.Drop()
	}
}

// byAddress is the one session from the peer's address that waits, if the
// policy lets the address decide.
func (h *sharedHello) byAddress(pending []*sharedLease) *sharedLease {
	var one *sharedLease
	for _, l := range pending {
		if l.c.remote.Addr() != h.peer.Addr() {
			continue
		}
		if one != nil {
			h.many = true
			return nil
		}
		one = l
	}
	if one == nil || one.must || h.p.Fallback != FallbackAddress {
		return nil
	}
	return one
}

// match finds the waiting session whose token the ticket carries.
func (h *sharedHello) match(ticket []byte, cs tls.ConnectionState) *tls.SessionState {
	tried := map[*tls.Config]*tls.SessionState{}
	for _, l := range h.p.pending() {
		base := l.c.srv.TLS
		ss, done := tried[base]
		if !done {
			ss, _ = base.DecryptTicket(ticket, cs)
			tried[base] = ss
		}
		if ss != nil && slices.ContainsFunc(ss.Extra, func(e []byte) bool { return bytes.Equal(e, l.c.bind.token) }) {
			h.lease = l
			h.seen.note(ss)
			return ss
		}
	}
	return nil
}

func (p *SharedPort) pending() []*sharedLease {
	p.mu.Lock()
	defer p.mu.Unlock()
	ls := make([]*sharedLease, 0, len(p.waiting))
	for l := range p.waiting {
		ls = append(ls, l)
	}
	return ls
}

// refused tells the sessions that the connection may have been meant for.
func (p *SharedPort) refused(h *sharedHello, err error) {
	if p.Logger != nil {
		p.Logger.Info("connection on the shared data port refused", "remote", h.peer, "err", err)
	}
	for _, l := range p.pending() {
		if l.c.remote.Addr() != h.peer.Addr() {
			continue
		}
		why := "it did not resume the TLS session of this control connection"
		if h.many {
			why += ", and several sessions from your address wait, so that the address cannot tell whose it is"
		}
		l.note(h.peer, why)
	}
}

func (l *sharedLease) uploading() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.upload
}

func (l *sharedLease) note(peer netip.AddrPort, why string) {
	l.mu.Lock()
	l.stranger, l.why = peer, why
	l.mu.Unlock()
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

func (l *sharedLease) noted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why != ""
}

// deliver hands the connection to the session; false when it no longer waits.
func (l *sharedLease) deliver(sc *sharedConn) bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if _, waits := l.p.waiting[l]; !waits {
		return false
	}
	delete(l.p.waiting, l)
	l.got <- sc // room for one, and only one is delivered
	return true
}

// Addr announces the shared port.
func (l *sharedLease) Addr() netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, l.p.Port) }

// errNotResumed ends the wait of a session whose client connected without resuming.
var errNotResumed = errors.New("ftp: a connection came that did not resume")

// afterRefusal is how long a session waits on for a better connection after
// one that may have been its own was refused.
const afterRefusal = 3 * time.Second

// Accept waits for the connection that shows this session's ticket.
func (l *sharedLease) Accept(ctx context.Context) (net.Conn, error) {
	var soon <-chan time.Time
	for {
		select {
		case sc := <-l.got:
			return sc, nil
		case <-l.hurry:
			if soon == nil {
				t := time.NewTimer(afterRefusal)
				defer t.Stop()
				soon = t.C
			}
		case <-soon:
			return nil, errNotResumed
		case <-l.gone:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Release gives the claim up; a connection that was delivered and not taken is closed.
func (l *sharedLease) Release() {
	l.once.Do(func() {
		l.p.mu.Lock()
		delete(l.p.waiting, l)
		l.p.mu.Unlock()
		close(l.gone)
		select {
		case sc := <-l.got:
			sc.bulk.Conn.Close()
			sc.bulk.release()
			if sc.handover != nil {
				sc.handover.Drop()
			}
		default:
		}
	})
}

// begin tells the lease what the transfer is, before 150 goes out.
func (l *sharedLease) begin(upload bool) {
	l.mu.Lock()
	l.upload = upload
	l.mu.Unlock()
}

// failed words the 425 for a connection that did not resume.
func (l *sharedLease) failed(a *DataAttempt) *Error {
	l.mu.Lock()
	a.Stranger, a.Code = l.stranger, codeNotResumed
	why := l.why
	l.mu.Unlock()
	if l.p.Fallback == FallbackRange && l.c.srv.Passive != nil {
		l.c.bind.unshared = true
		return &Error{425, fmt.Sprintf("A connection from your address reached port %d, but %s. Try again: this session gets a port of its own from now on. [%s]", l.p.Port, why, a.Code)}
	}
	return &Error{522, fmt.Sprintf("A connection from your address reached port %d, but %s. Switch on TLS session reuse in the client. [%s]", l.p.Port, why, a.Code)}
}
