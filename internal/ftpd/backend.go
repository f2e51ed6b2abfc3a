// Package ftpd is the FTP front: it turns calls of the engine in package ftp
// into calls on a session.Session, and faults into replies. It decides
// nothing: rights, quota, pace and audit are the session's, commands and data
// connections the engine's.
package ftpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/transcript"
)

// Options say how one listener behaves. They do not change: a reload makes a
// new Backend, and connections of the old one live on with it.
type Options struct {
	Listener  string                                    // name of the [[listen]] entry
	CertLogin bool                                      // USER alone logs in when the client's certificate belongs to the account (232)
	Hosts     []string                                  // names HOST accepts; "*.example.org" covers one label; empty: any
	Log       *slog.Logger                              // nil: silent
	Diagnose  func(context.Context, *ftp.Conn) []string // lines for SITE DIAG; nil: none
}

// Backend implements ftp.Backend, ftp.Admitter and ftp.HostChecker for one
// listener. All methods may be called concurrently.
type Backend struct {
	opt Options
	m   *session.Manager

	mu     sync.Mutex
	guests map[*ftp.Conn]*guest
}

// guest is what the front keeps about a connection.
type guest struct {
	*session.Guest
	user string // logged in, or the last one that was
}

// New returns a backend whose connections are admitted by m.
func New(m *session.Manager, o Options) *Backend {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{opt: o, m: m, guests: map[*ftp.Conn]*guest{}}
}

// Connections returns how many connections this backend holds.
func (b *Backend) Connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.guests)
}

// Who returns the session's id and the user of a connection, as events name
// them; empty when there is none.
func (b *Backend) Who(c *ftp.Conn) (id, user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.guests[c]; g != nil {
		return g.ID(), g.user
	}
	return "", ""
}

// Connect asks the session manager for admission. See ftp.Admitter.
func (b *Backend) Connect(ctx context.Context, c *ftp.Conn) error {
	g, err := b.m.Connect(ctx, b.origin(c))
	if err != nil {
		return b.refuse(err, phaseGuest, "connect", "")
	}
	c.SetID(g.ID())
	g.OnKick(func(reason string) { c.Close(fault.Sentence(reason)) })
	g.OnTape(func(t *transcript.Tape) {
		if t == nil {
			c.SetTrace(nil)
			return
		}
		c.SetTrace(t.Line)
	})
	b.mu.Lock()
	b.guests[c] = &guest{Guest: g}
	b.mu.Unlock()
	return nil
}

// Data notes a data connection in the session's transcript, if there is one.
func (b *Backend) Data(c *ftp.Conn, a *ftp.DataAttempt) {
	b.mu.Lock()
	g := b.guests[c]
	b.mu.Unlock()
	if g == nil || g.Tape() == nil {
		return
	}
	text := "data connection by " + a.Mode
	if a.Local.IsValid() {
		text += ", server's end " + a.Local.String()
	}
	if a.Remote.IsValid() {
		text += ", client's end " + a.Remote.String()
	}
	switch {
	case a.TLS && a.Resumed:
		text += ", TLS resumed from the control connection"
	case a.TLS:
		text += ", TLS not resumed"
	default:
		text += ", in the clear"
	}
	if a.Stranger.IsValid() {
		text += ", turned away " + a.Stranger.String()
	}
	text += ", waited " + a.Waited.Round(time.Millisecond).String() + ": " + a.Code
	if a.Err != nil {
		text += ", " + a.Err.Error()
	}
	g.Tape().Note("%s", text)
}

// Disconnect gives the connection's place back. See ftp.Admitter.
func (b *Backend) Disconnect(c *ftp.Conn, cause error) {
	b.mu.Lock()
	g := b.guests[c]
	delete(b.guests, c)
	b.mu.Unlock()
	if g != nil {
		if errors.Is(cause, ftp.ErrHostile) {
			b.m.Hostile(context.Background(), g.Origin(), cause.Error())
		}
		g.Close(ended(cause))
	}
}

// Moved notes in the transcript what went over a data connection.
func (b *Backend) Moved(c *ftp.Conn, verb string, octets int64, took time.Duration) {
	b.mu.Lock()
	g := b.guests[c]
	b.mu.Unlock()
	if g != nil && g.Tape() != nil {
		g.Tape().Note("%s moved %d octets in %s", verb, octets, took.Round(time.Millisecond))
	}
}

// Host accepts or refuses a virtual host (RFC 7151 section 3). See ftp.HostChecker.
func (b *Backend) Host(_ context.Context, c *ftp.Conn, name string) error {
	if !acceptsHost(b.opt.Hosts, name, c.LocalAddr().Addr()) {
		return &ftp.Error{Code: 504, Message: "This server does not serve the host " + name + "; leave HOST out or name another."}
	}
	return nil
}

// acceptsHost reports whether name is one of hosts. An address literal, which
// RFC 7151 section 3.1 allows in brackets, is accepted when the client reached it.
func acceptsHost(hosts []string, name string, local netip.Addr) bool {
	if len(hosts) == 0 {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	literal := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if a, err := netip.ParseAddr(literal); err == nil {
		return a.Unmap() == local.Unmap().WithZone("")
	}
	for _, h := range hosts {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if h == name {
			return true
		}
		tail, wild := strings.CutPrefix(h, "*")
		if label, rest, ok := strings.Cut(name, "."); wild && ok && label != "" && "."+rest == tail {
			return true
		}
	}
	return false
}

// Login checks the credentials. See ftp.Backend.
func (b *Backend) Login(ctx context.Context, c *ftp.Conn, cred ftp.Credentials) (ftp.Session, error) {
	b.mu.Lock()
	g := b.guests[c]
	b.mu.Unlock()
	if g == nil {
		return nil, b.refuse(fault.New(fault.Internal, "login", "", errors.New("ftpd: log-in on a connection that was not admitted")), phaseGuest, "login", "")
	}
	g.SetOrigin(b.origin(c)) // AUTH TLS and HOST may have come since the greeting
	g.SetTLS(tlsText(c.TLS()))
	var offer auth.Credential = auth.Password{User: cred.User, Secret: cred.Password, Joined: true}
	if !cred.Complete {
		g.Restart()
		offer = b.certificate(c, cred.User)
		if offer == nil {
			return nil, ftp.ErrPassword
		}
	}
	s, err := g.Login(ctx, offer)
	var more *auth.More
	if cred.Complete && errors.As(err, &more) && slices.Contains(more.Next, account.FactorKey) {
		if cert := b.certificate(c, cred.User); cert != nil {
			s, err = g.Login(ctx, cert)
		}
	}
	switch {
	case err == nil:
		b.mu.Lock()
		g.user = s.User()
		b.mu.Unlock()
		return newSession(b, c, s), nil
	case !cred.Complete && (errors.Is(err, auth.ErrMore) || fault.KindOf(err) == fault.Login || errors.Is(err, auth.ErrBad)):
		return nil, ftp.ErrPassword // the certificate is not enough, or nobody's: ask
	case errors.As(err, &more) && slices.Contains(more.Next, account.FactorChange):
		return &waiting{b: b, c: c, g: g, user: cred.User}, nil
	case errors.As(err, &more) && slices.Contains(more.Next, account.FactorKey):
		return nil, &ftp.Error{Code: 530, Message: "This account needs a key besides the password: a client certificate here, or an SSH key over SFTP."}
	case errors.Is(err, auth.ErrMore):
		return nil, &ftp.Error{Code: 530, Message: "This account needs more than FTP has a way to ask for in this order. Use SFTP."}
	case errors.Is(err, auth.ErrBad):
		err = fault.New(fault.Login, "login", "", err)
	}
	return nil, b.refuse(err, phaseGuest, "login", "")
}

// certificate returns the client's certificate as a credential for user, or
// nil when there is none or the listener does not take it for a log-in.
func (b *Backend) certificate(c *ftp.Conn, user string) auth.Credential {
	if !b.opt.CertLogin {
		return nil
	}
	st := c.TLS()
	if st == nil || len(st.PeerCertificates) == 0 {
		return nil
	}
	return auth.ClientCert{User: user, Leaf: st.PeerCertificates[0], Chains: st.VerifiedChains}
}

// tlsText is what the live view shows, "" in the clear.
func tlsText(st *tls.ConnectionState) string {
	if st == nil {
		return ""
	}
	return tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
}

// ended classifies why the engine ends a session or transfer. What is no fault
// yet comes from the network or the client (a reset, a timeout, ABOR), which is
// neither a bug nor a failing storage.
func ended(cause error) error {
	var fe *fault.Error
	switch {
	case cause == nil, errors.As(cause, &fe):
		return cause
	case errors.Is(cause, ftp.ErrPanic):
		return fault.New(fault.Internal, "session", "", cause)
	}
	return fault.New(fault.Canceled, "", "", cause)
}

// origin describes the connection as it is now.
func (b *Backend) origin(c *ftp.Conn) auth.Origin {
	o := auth.Origin{Protocol: "ftp", Listener: b.opt.Listener, Remote: c.RemoteAddr(), Local: c.LocalAddr(), Host: c.Host()}
	if c.Implicit() || c.TLS() != nil {
		o.Protocol, o.TLS = "ftps", true
	}
	return o
}
