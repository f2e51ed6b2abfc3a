package ftp

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// binding ties data connections to their control connection: every ticket that
// this control connection hands out carries its token, and on a data
// connection only a ticket with this token resumes.
type binding struct {
	token []byte
	// resumed says that a data connection has resumed a ticket that the control
	// connection handed out, so that the client knows how.
	resumed bool
	// unshared sends the session to the range instead of a shared port. It is
	// set by a transfer and read when the next one is set up.
	unshared bool
	// client names who is logged in, and from where; nil before and after. The
	// handshakes of other sessions read it.
	client atomic.Pointer[[]byte]
}

const (
	tokenPrefix  = "ftp-session:"
	clientPrefix = "ftp-client:"
	dataMark     = "ftp-data:" // the ticket was handed out on a data connection
)

func (b *binding) init() {
	if b.token == nil {
		id := make([]byte, 16)
		rand.Read(id)
		b.token = append([]byte(tokenPrefix), id...)
	}
}

// entered and left keep the client's name right. The account and the address
// are hashed, so that the entry in a ticket is short.
func (b *binding) entered(user string, from netip.Addr) {
	sum := sha256.Sum256([]byte(from.Unmap().String() + " " + user))
	id := append([]byte(clientPrefix), sum[:]...)
	b.client.Store(&id)
}

func (b *binding) left() { b.client.Store(nil) }

// wrap puts the token, and the client once it is known, into a ticket, in
// place of those of an earlier session.
func (b *binding) wrap(base *tls.Config, data bool) func(tls.ConnectionState, *tls.SessionState) ([]byte, error) {
	return func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = slices.DeleteFunc(ss.Extra, func(e []byte) bool {
			return bytes.HasPrefix(e, []byte(tokenPrefix)) || bytes.HasPrefix(e, []byte(clientPrefix)) || string(e) == dataMark
		})
		ss.Extra = append(ss.Extra, b.token)
		if data {
			ss.Extra = append(ss.Extra, []byte(dataMark))
		}
		if id := b.client.Load(); id != nil {
			ss.Extra = append(ss.Extra, *id)
		}
		return base.EncryptTicket(cs, ss)
	}
}

// kin says whether a ticket of another session proves the same client: the
// same account from the same address. Clients that keep several sessions share
// one cache among them (curl --parallel), so that any ticket may turn up on any
// data connection. The other session may still be logging in; then kin waits.
func (c *Conn) kin(ss *tls.SessionState) bool {
	own := c.bind.client.Load()
	if own == nil {
		return false
	}
	for _, e := range ss.Extra {
		switch {
		case bytes.HasPrefix(e, []byte(clientPrefix)):
			return bytes.Equal(e, *own)
		case bytes.HasPrefix(e, []byte(tokenPrefix)):
			if c.kinSession(string(e), *own) {
				return true
			}
		}
	}
	return false
}

// kinWait bounds the wait for the log-in of the session that a ticket is from.
const kinWait = 5 * time.Second

func (c *Conn) kinSession(token string, own []byte) bool {
	for end := time.Now().Add(kinWait); c.ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		other, live := c.srv.tokens.Load(token)
		if !live {
			return false
		}
		if id := other.(*binding).client.Load(); id != nil {
			return bytes.Equal(*id, own)
		}
		if time.Now().After(end) {
			return false
		}
	}
	return false
}

// controlConfig is for the control connection: any valid ticket of this server
// resumes and is issued anew with this session's token.
func (b *binding) controlConfig(base *tls.Config) *tls.Config {
	b.init()
	cfg := base.Clone()
	cfg.GetConfigForClient = nil
	cfg.WrapSession = b.wrap(base, false)
	cfg.UnwrapSession = base.DecryptTicket
	return cfg
}

// ticketSeen is what a data connection's handshake says about its client.
type ticketSeen struct {
	own     bool // a ticket of this session came
	control bool // one that the control connection handed out
	kin     bool // a ticket of another session of the same client
	resumed bool // own was used; set after the handshake
}

// note fills in own and control.
func (s *ticketSeen) note(ss *tls.SessionState) {
	s.own = true
	s.control = !slices.ContainsFunc(ss.Extra, func(e []byte) bool { return string(e) == dataMark })
}

// done is called after the handshake.
func (s *ticketSeen) done(t *tls.Conn) { s.resumed = s.own && t.ConnectionState().DidResume }

const extensionPSK = 41 // pre_shared_key, RFC 8446 section 4.2.11

// dataConfig is for one data connection. Its hooks run on the handshake's
// goroutine and may change it, since it serves one connection only.
func (b *binding) dataConfig(c *Conn, upload bool) (*tls.Config, *ticketSeen) {
	b.init()
	base, seen := c.srv.TLS, &ticketSeen{}
	cfg := base.Clone()
	cfg.WrapSession = b.wrap(base, true)
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		psk := slices.Contains(hello.Extensions, extensionPSK)
		if psk && len(base.CurvePreferences) == 0 {
			// The PSK carries the strength of the control connection's hybrid
			// key exchange into this one; paying for it again buys nothing.
			cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
		}
		if upload && !psk && slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			cfg.SessionTicketsDisabled = true
		}
		return nil, nil
	}
	cfg.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		if upload && cs.Version == tls.VersionTLS13 {
			// A ticket sent now would lie unread in the socket of a client that
			// only writes; when it closes, the kernel resets the connection and
			// the tail of the upload is lost.
			cfg.SessionTicketsDisabled = true
		}
		ss, err := base.DecryptTicket(ticket, cs)
		if err != nil || ss == nil {
			return nil, err
		}
		if !slices.ContainsFunc(ss.Extra, func(e []byte) bool { return bytes.Equal(e, b.token) }) {
			seen.kin = c.srv.Binding == BindPrefer && b.resumed && c.kin(ss)
			return nil, nil // another session's ticket: a full handshake
		}
		seen.note(ss)
		return ss, nil
	}
	return cfg, seen
}

// admits applies the policy to a finished data handshake. Under BindPrefer the
// first use of a ticket of the control connection shows that the client
// resumes. One of an earlier data connection shows nothing: Java and Go keep
// tickets by address and port, and resume when chance brings a port again. A
// ticket of kin never suffices where resumption is required.
func (b *binding) admits(p TLSBinding, seen ticketSeen) bool {
	switch p {
	case BindOff:
		return true
	case BindRequire:
		return seen.resumed
	}
	if seen.resumed && seen.control {
		b.resumed = true
	}
	return seen.resumed || seen.kin || !b.resumed
}

// startTLS runs the handshake on the control connection.
func (c *Conn) startTLS() error {
	var under net.Conn = c.raw
	if c.srv.AllowCCC {
		under = &recordConn{Conn: c.raw}
	}
	t := tls.Server(under, c.bind.controlConfig(c.srv.TLS))
	c.srv.tokens.Store(string(c.bind.token), &c.bind)
	c.raw.SetDeadline(minTime(time.Now().Add(30*time.Second), c.opened.Add(c.srv.LoginTimeout)))
	err := onOwnStack(t.Handshake)
	c.raw.SetDeadline(time.Time{})
	if err != nil {
		c.tlsFailed(err)
		return fmt.Errorf("ftp: TLS handshake: %w", err)
	}
	st := t.ConnectionState()
	c.wmu.Lock()
	c.tls, c.out = t, t
	if st.ServerName != "" {
		c.host = strings.ToLower(st.ServerName)
	}
	c.wmu.Unlock()
	c.rd.reset(t)
	if c.srv.Implicit {
		c.protP = true // data is private unless the client asks otherwise
	}
	return nil
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// tlsFailed tells a client at the wrong door, in clear text, what this port expects.
func (c *Conn) tlsFailed(err error) {
	var re tls.RecordHeaderError
	var ne net.Error
	c.srv.Logger.Info("TLS handshake failed", "session", c.id, "remote", c.remote, "implicit", c.srv.Implicit, "err", err)
	silent := errors.As(err, &ne) && ne.Timeout()
	if !c.srv.Implicit || !silent && !(errors.As(err, &re) && re.Conn != nil) {
		return
	}
	what := "That was not TLS."
	if silent {
		what = "No TLS arrived."
	}
	c.finish(ok(421, "%s This port speaks implicit FTPS: TLS from the first byte.%s", what, c.ports()))
}

func (c *Conn) cmdAUTH(arg string) Reply {
	switch strings.ToUpper(arg) {
	case "TLS", "TLS-C", "SSL", "TLS-P":
	default:
		return ok(504, "AUTH takes TLS; %q is not offered.", arg)
	}
	switch {
	case c.srv.TLS == nil || c.srv.ControlTLS == TLSOff && !c.srv.Implicit:
		return ok(502, "TLS is not offered on this port.")
	case c.tlsConn() != nil:
		return ok(503, "The control connection is protected already.")
	case c.rd.buffered() > 0: // commands injected behind AUTH (CVE-2011-0411 and kin)
		r := ok(421, "Bytes arrived behind AUTH before TLS; closing.")
		r.close, r.hostile = true, true
		return r
	}
	c.logout(nil) // RFC 2228 section 3: a new security state starts from nothing
	c.pbsz, c.protP = false, strings.EqualFold(arg, "SSL") || strings.EqualFold(arg, "TLS-P")
	c.reply(ok(234, "AUTH %s accepted; start the TLS handshake.", strings.ToUpper(arg)))
	if err := c.startTLS(); err != nil {
		c.cancel(err)
		return Reply{}
	}
	return Reply{}
}

func (c *Conn) cmdADAT(string) Reply {
	return ok(503, "ADAT is not used with TLS; send AUTH TLS.")
}

func (c *Conn) cmdNotProtected(string) Reply {
	if c.tlsConn() == nil {
		return ok(503, "Send AUTH TLS first.")
	}
	return ok(533, "TLS protects the whole control connection; send the command as it is.")
}

func (c *Conn) cmdPBSZ(arg string) Reply {
	if c.tlsConn() == nil {
		return ok(503, "Send AUTH TLS first.")
	}
	n, good := number(arg)
	if !good || n > 1<<32-1 {
		return ok(501, "PBSZ takes a number; 0 with TLS.")
	}
	c.pbsz = true
	return ok(200, "PBSZ=0")
}

func (c *Conn) cmdPROT(arg string) Reply {
	if c.tlsConn() == nil {
		return ok(503, "Send AUTH TLS first.")
	}
	if !c.pbsz {
		return ok(503, "Send PBSZ 0 first.")
	}
	switch strings.ToUpper(arg) {
	case "P":
		if c.srv.DataTLS == TLSOff {
			return ok(536, "Private data connections are switched off here.")
		}
		c.protP = true
		return ok(200, "Data connections are private.")
	case "C":
		if c.srv.DataTLS == TLSRequired {
			return ok(534, "Data connections must be private here (PROT P).")
		}
		c.protP = false
		return ok(200, "Data connections are clear.")
	case "S", "E":
		return ok(536, "PROT %s is not offered with TLS; use P or C.", strings.ToUpper(arg))
	}
	return ok(504, "PROT takes P or C.")
}

// cmdCCC ends TLS on the control connection, for networks whose FTP helper must read it.
func (c *Conn) cmdCCC(string) Reply {
	t := c.tlsConn()
	switch {
	case t == nil:
		return ok(533, "The control connection is clear already.")
	case c.sess == nil:
		return ok(530, "Log in first, with USER and PASS.")
	case !c.srv.AllowCCC:
		return ok(534, "CCC is switched off here: the control connection stays private.")
	}
	if c.rd.buffered() > 0 {
		return Reply{Code: 421, Text: "Bytes arrived behind CCC; closing.", close: true}
	}
	c.reply(ok(200, "TLS ends on the control connection now."))
	c.wmu.Lock()
	t.CloseWrite()
	c.tls, c.out = nil, c.raw
	c.wmu.Unlock()
	c.raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	var b [1]byte
	if n, err := t.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) {
		err = fmt.Errorf("ftp: no close_notify after CCC: %v", err)
		c.cancel(err)
		return Reply{}
	}
	c.rd.reset(c.raw)
	return Reply{}
}

// recordConn reads no further than the end of the current TLS record, so that
// clear text behind close_notify is left for the clear connection.
type recordConn struct {
	net.Conn
	head [5]byte
	have int // bytes of head read
	left int // bytes of the record's body not yet read
}

func (r *recordConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	want := r.left
	if want == 0 {
		want = len(r.head) - r.have
	}
	n, err := r.Conn.Read(p[:min(len(p), want)])
	if r.left > 0 {
		r.left -= n
		return n, err
	}
	copy(r.head[r.have:], p[:n])
	if r.have += n; r.have == len(r.head) {
		r.have, r.left = 0, int(r.head[3])<<8|int(r.head[4])
	}
	return n, err
}
