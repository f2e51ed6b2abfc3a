package doctor

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// Security is how a probe protects its connection.
type Security string

// The ways.
const (
	Plain    Security = "plain"
	Explicit Security = "explicit"
	Implicit Security = "implicit"
)

// Outcome is what became of a probe.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"
	Timeout     Outcome = "timeout"     // no answer to a connection
	Refused     Outcome = "refused"     // a reset in answer to a connection
	Unreachable Outcome = "unreachable" // an ICMP message, or no route
	NoReply     Outcome = "no-reply"    // the control connection fell silent
	Closed      Outcome = "closed"      // somebody closed or reset the control connection
	Rejected    Outcome = "rejected"    // the reply has a code of 4yz or 5yz
	BadTLS      Outcome = "tls"         // the handshake failed
	Untrusted   Outcome = "untrusted"   // the certificate could not be verified, so nothing secret was sent
	Stalled     Outcome = "stalled"     // the data connection is there, the bytes are not
	Empty       Outcome = "empty"       // connected, and no byte where others get a listing
	Failed      Outcome = "failed"
)

// Stage is how far a probe came.
type Stage string

// The stages, in order.
const (
	AtConnect  Stage = "connect"
	AtBanner   Stage = "banner"
	AtTLS      Stage = "tls"  // of the control connection
	AtAuth     Stage = "auth" // AUTH TLS
	AtLogin    Stage = "login"
	AtProtect  Stage = "protect"  // PBSZ, PROT
	AtSetup    Stage = "setup"    // EPSV, PASV, EPRT, PORT
	AtData     Stage = "data"     // the data connection
	AtTransfer Stage = "transfer" // the listing or file
	AtEnd      Stage = "end"
)

// Probe is one try.
type Probe struct {
	Family    string         `json:"family"` // ipv4 or ipv6
	Security  Security       `json:"security"`
	Mode      string         `json:"mode"` // PASV, EPSV, PORT, EPRT; "" for the control connection alone
	Stage     Stage          `json:"stage"`
	Outcome   Outcome        `json:"outcome"`
	Error     string         `json:"error,omitempty"`
	Errno     string         `json:"errno,omitempty"`
	Reply     int            `json:"reply,omitempty"`        // code of the reply that ended it
	Text      string         `json:"reply_text,omitempty"`   // and its text
	Took      time.Duration  `json:"took_ns"`                // the whole probe
	DialTook  time.Duration  `json:"dial_took_ns,omitempty"` // of the data connection
	Local     netip.AddrPort `json:"local,omitzero"`         // our end of the control connection
	Peer      netip.AddrPort `json:"peer,omitzero"`          // the server's
	Announced netip.AddrPort `json:"announced,omitzero"`     // by the reply, or by our PORT
	DataPeer  netip.AddrPort `json:"data_peer,omitzero"`
	Resumed   bool           `json:"resumed,omitempty"` // the data connection resumed the TLS session
	Bytes     int            `json:"bytes"`
	Banner    string         `json:"banner,omitempty"`
	Cert      string         `json:"certificate,omitempty"`      // fingerprint and name, of the control connection
	DataCert  string         `json:"data_certificate,omitempty"` // and of the data connection
}

func (p *Probe) passive() bool { return p.Mode == "PASV" || p.Mode == "EPSV" }

// dataLost reports that the client could not reach the passive port.
func (p *Probe) dataLost() bool {
	return p.passive() && p.Stage == AtData && (p.Outcome == Timeout || p.Outcome == Refused || p.Outcome == Unreachable)
}

func (p *Probe) String() string {
	s := fmt.Sprintf("%s %s %s: %s", p.Family, p.Security, p.Mode, p.Outcome)
	if p.Outcome != OK {
		s += " at " + string(p.Stage)
	}
	if p.Announced.IsValid() {
		s += " (announced " + p.Announced.String() + ")"
	}
	if p.Error != "" {
		s += ": " + p.Error
	}
	return s
}

// way is one way of connecting: address and protection.
type way struct {
	addr netip.Addr
	port uint16
	sec  Security
}

func (w way) family() string {
	if w.addr.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// dialled is one connection a client opened.
type dialled struct {
	err  error
	took time.Duration
}

// recording is a Dialer that remembers, and the dialogue beside it.
type recording struct {
	d net.Dialer

	mu    sync.Mutex
	dials []dialled
	verb  string // of the last command
	code  string // of the last reply
}

func (r *recording) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	begin := time.Now()
	c, err := r.d.DialContext(ctx, network, address)
	r.mu.Lock()
	r.dials = append(r.dials, dialled{err, time.Since(begin)})
	r.mu.Unlock()
	return c, err
}

func (r *recording) trace(sent bool, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent {
		r.verb, _, _ = strings.Cut(line, " ")
		r.code = ""
	} else if len(line) >= 3 {
		r.code = line[:3]
	}
}

// bannerWait is how long a greeting may take; servers look names up before it.
const bannerWait = 10 * time.Second

// trust checks a certificate and remembers the outcome.
type trust struct {
	host     string
	roots    *x509.CertPool
	insecure bool

	mu   sync.Mutex
	err  error
	leaf *x509.Certificate
}

var errUntrusted = errors.New("the server's certificate cannot be verified")

func (t *trust) config() *tls.Config {
	return &tls.Config{ServerName: t.host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, VerifyConnection: func(cs tls.ConnectionState) error {
		err := t.verify(cs.PeerCertificates)
		t.mu.Lock()
		t.err = err
		if len(cs.PeerCertificates) > 0 {
			t.leaf = cs.PeerCertificates[0]
		}
		t.mu.Unlock()
		if err != nil && !t.insecure {
			return fmt.Errorf("%w: %w", errUntrusted, err)
		}
		return nil
	}}
}

func (t *trust) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	inter := x509.NewCertPool()
	for _, c := range chain[1:] {
		inter.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: t.host, Roots: t.roots, Intermediates: inter})
	return err
}

// connect opens a control connection and logs in. The probe tells how far it
// came; the client is nil unless that was the end.
func (c *Client) connect(ctx context.Context, w way, mode ftp.DataMode, fresh bool) (*ftp.Client, *recording, Probe) {
	p := Probe{Family: w.family(), Security: w.sec, Stage: AtConnect}
	rec := &recording{d: net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}}
	rec.d.SetMultipathTCP(false)
	begin := time.Now()
	o := ftp.ClientOptions{Data: mode, StrictPASV: true, FreshDataTLS: fresh, Timeout: max(c.opt.Timeout, bannerWait), Dialer: rec, OnTrace: rec.trace, TLSConfig: c.trust.config()}
	switch w.sec {
	case Explicit:
		o.TLS = ftp.ExplicitTLS
	case Implicit:
		o.TLS = ftp.ImplicitTLS
	}
	cl, err := ftp.Dial(ctx, netip.AddrPortFrom(w.addr, w.port).String(), o)
	if err != nil {
		p.opening(err, rec, w.sec)
		p.Took = time.Since(begin)
		return nil, rec, p
	}
	p.Local, p.Peer, p.Banner = addrPortOf(cl.LocalAddr()), addrPortOf(cl.RemoteAddr()), cl.Banner().Text
	if cs, ok := cl.ConnectionState(); ok {
		p.Cert = certOf(&cs)
	}
	p.Stage = AtLogin
	if err := cl.Login(ctx, c.opt.User, c.opt.Password); err != nil {
		p.fail(err, rec)
		if rec.verb == "PBSZ" || rec.verb == "PROT" {
			p.Stage = AtProtect
		}
		cl.Close()
		p.Took = time.Since(begin)
		return nil, rec, p
	}
	p.Stage, p.Outcome, p.Took = AtEnd, OK, time.Since(begin)
	return cl, rec, p
}

// opening classifies why Dial failed.
func (p *Probe) opening(err error, rec *recording, sec Security) {
	p.fail(err, rec)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	switch {
	case len(rec.dials) == 0 || rec.dials[0].err != nil:
		p.Stage = AtConnect
	case rec.verb == "" && rec.code == "" && sec == Implicit:
		p.Stage = AtTLS
		if p.Outcome == Failed || p.Outcome == Closed || p.Outcome == Timeout {
			p.Outcome = BadTLS
		}
	case rec.verb == "":
		p.Stage = AtBanner
	case rec.verb == "AUTH" && rec.code == "234":
		p.Stage = AtTLS
		if p.Outcome == Failed || p.Outcome == Closed || p.Outcome == Timeout {
			p.Outcome = BadTLS
		}
	default:
		p.Stage = AtAuth
	}
}

// fail classifies an error; the stage is the caller's to know.
func (p *Probe) fail(err error, rec *recording) {
	p.Error = err.Error()
	p.Outcome = Failed
	var fe *ftp.Error
	var en syscall.Errno
	var ne net.Error
	if errors.As(err, &en) {
		p.Errno = en.Error()
	}
	switch {
	case errors.Is(err, errUntrusted):
		p.Outcome = Untrusted
	case errors.As(err, &fe):
		p.Outcome, p.Reply, p.Text = Rejected, fe.Code, fe.Message
	case strings.Contains(p.Error, "no reply from"):
		p.Outcome = NoReply
	case errors.Is(err, syscall.ECONNREFUSED):
		p.Outcome = Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		p.Outcome = Unreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		p.Outcome = Closed
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		p.Outcome = Timeout
	}
}

var modeNames = map[ftp.DataMode]string{ftp.DataPASV: "PASV", ftp.DataEPSV: "EPSV", ftp.DataPORT: "PORT", ftp.DataEPRT: "EPRT"}

// probe tries one mode with a listing.
func (c *Client) probe(ctx context.Context, w way, mode ftp.DataMode, fresh bool) Probe {
	begin := time.Now()
	cl, rec, p := c.connect(ctx, w, mode, fresh)
	p.Mode = modeNames[mode]
	if cl == nil {
		return p
	}
	defer func() {
		quit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		cl.Quit(quit) // without it the server could not tell a given up port from a slow client
		cancel()
		cl.Close()
	}()
	n, err := list(ctx, cl)
	p.transfer(n, err, cl, rec)
	p.Took = time.Since(begin)
	return p
}

// list fetches a listing and returns how many bytes came.
func list(ctx context.Context, cl *ftp.Client) (n int, err error) {
	for l, err := range cl.Lines(ctx, "LIST") {
		if err != nil {
			return n, err
		}
		n += len(l)
	}
	return n, nil
}

// transfer fills in what became of a listing.
func (p *Probe) transfer(n int, err error, cl *ftp.Client, rec *recording) {
	d := cl.LastData()
	p.Announced, p.DataPeer, p.Bytes = d.Announced, d.Remote, n
	if !p.passive() && p.Mode != "" {
		p.DataPeer = d.Remote
	}
	p.Resumed = d.TLS != nil && d.TLS.DidResume
	if d.TLS != nil {
		p.DataCert = certOf(d.TLS)
	}
	p.Stage, p.Outcome = AtEnd, OK
	rec.mu.Lock()
	dials, verb := rec.dials, rec.verb
	rec.mu.Unlock()
	if len(dials) > 1 {
		p.DialTook = dials[len(dials)-1].took
	}
	if err == nil {
		return
	}
	p.fail(err, rec)
	connected := d.Remote.IsValid()
	switch {
	case len(dials) > 1 && dials[len(dials)-1].err != nil:
		p.Stage = AtData
	case verb == "PBSZ" || verb == "PROT":
		p.Stage = AtProtect
	case verb == "EPSV" || verb == "PASV" || verb == "PORT" || verb == "EPRT":
		p.Stage = AtSetup
	case strings.Contains(p.Error, "TLS handshake on the data connection"):
		p.Stage = AtTransfer // the server explained it
		if p.Outcome != Rejected {
			p.Stage, p.Outcome = AtData, BadTLS
		}
	case !connected && !p.passive():
		p.Stage = AtData
	default:
		p.Stage = AtTransfer
		if p.Outcome == Timeout || p.Outcome == NoReply {
			p.Outcome = Stalled
		}
	}
}

// certOf tells certificates apart, "" for none.
func certOf(cs *tls.ConnectionState) string {
	if len(cs.PeerCertificates) == 0 {
		return ""
	}
	leaf := cs.PeerCertificates[0]
	return fmt.Sprintf("%x (%s)", sha256.Sum256(leaf.Raw), leaf.Subject)
}

func addrPortOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
