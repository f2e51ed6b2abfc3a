package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// dataSetup is what PASV, EPSV, PORT or EPRT agreed on. It serves one transfer.
type dataSetup struct {
	mode      string // the command, "" when nothing was agreed on
	lease     Lease
	target    netip.AddrPort
	announced netip.AddrPort
	at        time.Time
}

func (d *dataSetup) passive(mode string, l Lease) {
	*d = dataSetup{mode: mode, lease: l, at: time.Now()}
}
func (d *dataSetup) active(mode string, to netip.AddrPort) {
	*d = dataSetup{mode: mode, target: to, at: time.Now()}
}

// drop gives up what was agreed on; a pending passive port is closed.
func (d *dataSetup) drop() {
	if d.lease != nil {
		d.lease.Release()
	}
	*d = dataSetup{}
}

func (d *dataSetup) take() dataSetup {
	t := *d
	*d = dataSetup{}
	return t
}

// dataReady checks what every transfer needs before it starts.
func (c *Conn) dataReady() (Reply, bool) {
	if c.srv.DataTLS == TLSRequired && !c.protP {
		c.data.drop()
		return ok(521, "Data connections must be protected here: send PBSZ 0 and PROT P."), false
	}
	if c.data.mode == "" {
		return ok(425, "Send EPSV, PASV, EPRT or PORT first."), false
	}
	return Reply{}, true
}

// dataConn is an open data connection.
type dataConn struct {
	raw  net.Conn
	tls  *tls.Conn  // nil when clear
	bulk *bulkConn  // under tls
	rec  RecordConn // has taken over from tls; nil when not
}

// Codes of failed data connections, stable for people and programs.
const (
	codeNobody      = "PR-D01" // no connection reached the passive port
	codeStranger    = "PR-D02" // only connections from other addresses
	codeTLS         = "PR-D03" // the TLS handshake failed
	codeNotResumed  = "PR-D04" // TLS, but not the session of the control connection
	codeRefused     = "PR-D05" // active: the client's port refused
	codeTimeout     = "PR-D06" // active: no answer from the client's port
	codeUnreachable = "PR-D07" // active: no way to the client
	codeLocal       = "PR-D08" // active: our own socket failed
	codeCut         = "PR-D09" // ABOR, kick or end of the control connection meanwhile
)

// openData brings the data connection about and says 150 at the right moment:
// after the peer has connected, before TLS starts, since clients begin their
// handshake after 150.
func (t *transfer) openData() (*dataConn, *Error) {
	c := t.c
	a := DataAttempt{Time: t.setup.at, Mode: t.setup.mode, TLS: t.protP, Control: c.remote, Local: t.setup.announced, Reaction: t.started.Sub(t.setup.at), Code: "ok"}
	d := &dataConn{}
	var fail *Error
	if t.conn != nil { // atOnce has it already
		d.raw = t.conn
		t.hold(d.raw)
	} else if t.setup.lease != nil {
		fail = t.accept(d, &a)
	} else {
		fail = t.dial(d, &a)
	}
	a.Waited = time.Since(t.started)
	if fail == nil {
		a.Remote = addrPort(d.raw.RemoteAddr())
		t.sayMark()
		if t.protP && d.tls == nil {
			fail = t.protect(d, &a)
		}
	}
	if fail != nil && d.raw != nil {
		d.raw.Close()
	}
	if fail != nil {
		if cause := t.cause(); cause != nil {
			fail, a.Code = endedBy(cause), codeCut
		}
		a.Err = fail
		c.srv.Logger.Warn("data connection failed", "session", c.id, "remote", c.remote, "mode", a.Mode, "tls", a.TLS, "code", a.Code, "local", a.Local, "peer", a.Remote, "stranger", a.Stranger, "err", fail.Message)
	}
	if c.srv.OnData != nil {
		c.srv.OnData(c, a)
	}
	return d, fail
}

// patience is how long the peer may take to connect before 150 is sent ahead:
// a few clients connect only then.
const patience = 250 * time.Millisecond

func (t *transfer) accept(d *dataConn, a *DataAttempt) *Error {
	c := t.c
	defer t.setup.lease.Release()
	port := t.setup.announced.Port()
	limit := time.Now().Add(c.srv.DataTimeout)
	shared, _ := t.setup.lease.(*sharedLease)
	if shared != nil { // the handshake that shows whose connection it is comes after 150
		shared.begin(t.upload)
		t.sayMark()
	}
	for {
		wait := limit
		if p := t.started.Add(patience); !t.marked && p.Before(limit) {
			wait = p
		}
		ctx, cancel := context.WithDeadline(t.ctx, wait)
		nc, err := t.setup.lease.Accept(ctx)
		cancel()
		if err == nil {
			if sc, is := nc.(*sharedConn); is { // its ticket vouches for it
				d.raw, d.tls, d.bulk = sc.bulk.Conn, sc.Conn, sc.bulk
				t.hold(d.raw)
				return t.settle(d, a, sc.seen, sc.handover)
			}
			if c.isPeer(nc) {
				d.raw = nc
				t.hold(d.raw)
				return nil
			}
			a.Stranger = addrPort(nc.RemoteAddr())
			nc.Close() // the rightful peer may still come
			continue
		}
		switch {
		case t.ctx.Err() != nil:
			return &Error{426, "The transfer was ended before a data connection came."}
		case time.Now().Before(limit) && !t.marked:
			t.sayMark()
			continue
		case errors.Is(err, errNotResumed), shared != nil && shared.noted():
			return shared.failed(a)
		case a.Stranger.IsValid():
			a.Code = codeStranger
			return &Error{425, fmt.Sprintf("A connection reached port %d from another address than %s, where your control connection comes from, and was turned away; a proxy or NAT with several addresses lies between. [%s]", port, c.remote.Addr(), a.Code)}
		default:
			a.Code = codeNobody
			return &Error{425, fmt.Sprintf("Nobody reached port %d from %s within %s: something between blocks the passive ports, or the announced address %s is not reachable for you. [%s]", port, c.remote.Addr(), human(c.srv.DataTimeout), t.setup.announced.Addr(), a.Code)}
		}
	}
}

// isPeer reports whether a data connection comes from where it may.
func (c *Conn) isPeer(nc net.Conn) bool {
	peer := addrPort(nc.RemoteAddr()).Addr()
	return peer.WithZone("") == c.remote.Addr().WithZone("") || allowed(c.srv.FXP, peer) || allowed(c.srv.DataPeers, peer)
}

func (t *transfer) dial(d *dataConn, a *DataAttempt) *Error {
	c := t.c
	to := t.setup.target
	a.Remote = to
	nc, err := t.dialFrom(c.srv.ActivePort, to)
	if err != nil && c.srv.ActivePort != 0 && t.ctx.Err() == nil &&
		(errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)) {
		nc, err = t.dialFrom(0, to) // the fixed source port is busy towards this peer
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) && t.ctx.Err() == nil {
		// Behind a balancer the address that the client reached is not ours.
		nd := net.Dialer{Timeout: c.srv.DataTimeout, KeepAlive: -1}
		nc, err = nd.DialContext(t.ctx, "tcp", to.String())
	}
	if err == nil {
		d.raw = nc
		a.Local = addrPort(nc.LocalAddr())
		t.hold(nc)
		return nil
	}
	var ne net.Error
	switch {
	case t.ctx.Err() != nil:
		a.Code = codeCut
		return &Error{426, "The transfer was ended before a data connection came."}
	case errors.Is(err, syscall.ECONNREFUSED):
		a.Code = codeRefused
		return &Error{425, fmt.Sprintf("%s refused the data connection: the client does not listen there, or a firewall on its side rejects it. Try passive mode (EPSV or PASV). [%s]", to, a.Code)}
	case errors.As(err, &ne) && ne.Timeout():
		a.Code = codeTimeout
		return &Error{425, fmt.Sprintf("No answer from %s within %s: a firewall or router on the client's side blocks connections from the server. Try passive mode (EPSV or PASV). [%s]", to, human(c.srv.DataTimeout), a.Code)}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		a.Code = codeUnreachable
		return &Error{425, fmt.Sprintf("There is no way from the server to %s. Try passive mode (EPSV or PASV). [%s]", to, a.Code)}
	}
	a.Code = codeLocal
	c.srv.Logger.Error("active data connection could not be opened", "session", c.id, "to", to, "err", err)
	return &Error{425, fmt.Sprintf("The server could not open a connection to %s. Try passive mode (EPSV or PASV). [%s]", to, a.Code)}
}

func (t *transfer) dialFrom(port int, to netip.AddrPort) (net.Conn, error) {
	nd := net.Dialer{
		Timeout:   t.c.srv.DataTimeout,
		KeepAlive: -1,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.c.local.Addr(), uint16(port))),
		Control:   reuseAddr,
	}
	return nd.DialContext(t.ctx, "tcp", to.String())
}

// protect runs the TLS handshake on an accepted or dialled connection.
func (t *transfer) protect(d *dataConn, a *DataAttempt) *Error {
	c := t.c
	cfg, seen := c.bind.dataConfig(c, t.upload)
	d.bulk = newBulkConn(d.raw)
	var h Handover
	if t.wantsRecords() {
		h = c.srv.Records()
		h.Watch(cfg)
		d.bulk.exact = true
	}
	d.tls = tls.Server(d.bulk, cfg)
	d.raw.SetDeadline(time.Now().Add(c.srv.DataTimeout))
	err := d.tls.Handshake()
	if err == nil {
		err = d.bulk.flush()
	}
	if err != nil {
		if h != nil {
			h.Drop()
		}
		d.bulk.flush() // the alert, which tells the client why
		d.bulk.release()
		a.Code = codeTLS
		hint := "the client sent no TLS although PROT P is in force"
		var re tls.RecordHeaderError
		var ne net.Error
		switch {
		case errors.As(err, &re):
		case errors.As(err, &ne) && ne.Timeout():
			hint = "the client did not start TLS in time"
		case strings.HasPrefix(err.Error(), "tls: "):
			hint = "the server refused it (" + strings.TrimPrefix(err.Error(), "tls: ") + ")"
		default:
			hint = "the client broke it off"
		}
		c.srv.Logger.Info("data connection: TLS failed", "session", c.id, "err", err)
		return &Error{425, fmt.Sprintf("The TLS handshake on the data connection failed: %s. [%s]", hint, a.Code)}
	}
	seen.done(d.tls)
	return t.settle(d, a, *seen, h)
}

// settle applies the policy on resumption to a finished handshake, which h has
// watched unless it is nil.
func (t *transfer) settle(d *dataConn, a *DataAttempt, seen ticketSeen, h Handover) *Error {
	c := t.c
	a.Resumed = seen.resumed
	if !c.bind.admits(c.srv.Binding, seen) {
		if h != nil {
			h.Drop()
		}
		d.tls.CloseWrite()
		d.bulk.flush()
		d.bulk.release()
		a.Code = codeNotResumed
		return &Error{522, fmt.Sprintf("The data connection must resume the TLS session of this control connection. Switch on TLS session reuse in the client, or ask the administrator to allow data_session = \"off\". [%s]", a.Code)}
	}
	t.takeOver(d, h)
	return nil
}
