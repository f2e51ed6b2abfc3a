package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/firewall"
)

// ClientOptions say what Examine probes and with what it may log in.
type ClientOptions struct {
	User, Password string         // default anonymous
	Write          bool           // store a small file, read it back and remove it
	Clear          bool           // with ftps://: the password may also travel unprotected, to compare
	Insecure       bool           // send the password even if the certificate cannot be verified; ftp:// implies it
	Roots          *x509.CertPool // nil: the system's
	Timeout        time.Duration  // for each connection; default 7 s
	Idle           time.Duration  // least time a quiet control connection is watched; negative: not at all
	PlainPort      uint16         // of FTP and explicit FTPS; default the URL's, or 21
	ImplicitPort   uint16         // of implicit FTPS; default the URL's, or 990
	KnownHosts     string         // file of SSH host keys to compare with; "": none
	Progress       func(string)   // nil: none
	Rules          func(context.Context) []firewall.RuleSet
}

// Door is what a control port does.
type Door struct {
	Family  string        `json:"family"`
	Addr    string        `json:"address"`
	Says    string        `json:"says"` // "ftp", "tls", "ssh", "silent", "other"
	Outcome Outcome       `json:"outcome"`
	Error   string        `json:"error,omitempty"`
	Banner  string        `json:"banner,omitempty"`
	Took    time.Duration `json:"took_ns"`

	addr netip.Addr
	port uint16
}

// Report is the outcome of an examination from a client.
type Report struct {
	Target   string    `json:"target"`
	Product  string    `json:"product,omitempty"` // the greeting
	Doors    []Door    `json:"doors"`
	Probes   []Probe   `json:"probes"`
	Traces   []Trace   `json:"traces,omitempty"`
	Server   *Sight    `json:"server,omitempty"` // what the server saw, when it tells
	SSH      []SSH     `json:"ssh,omitempty"`    // of each address, or the one beside FTP
	Findings []Finding `json:"findings"`
	Notes    []string  `json:"notes,omitempty"`
}

// Client examines one server.
type Client struct {
	opt   ClientOptions
	host  string
	tls   bool // ftps://
	port  uint16
	trust *trust
	addrs []netip.Addr
	rep   Report

	ctx   context.Context
	feat  string // what FEAT names
	fresh *Probe // a data connection that does not resume the TLS session
	flaky bool   // a passive probe failed and worked when repeated

	idle      *ftp.Client // a quiet control connection
	idleSince time.Time
	idleSec   Security
	idleDied  time.Duration
	idleErr   error
	rounds    rounds
	local     *localRules
}

// ParseTarget checks a URL such as ftp://host, ftps://host:990, sftp://host or ftp://user@host:2121.
func ParseTarget(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address such as ftp://ftp.example.org", s)
	}
	switch {
	case u.Scheme != "ftp" && u.Scheme != "ftps" && u.Scheme != "ftpes" && u.Scheme != "sftp":
		return nil, fmt.Errorf("%q does not begin with ftp://, ftps:// or sftp://", s)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", s)
	case u.Path != "" && u.Path != "/":
		return nil, fmt.Errorf("%q has a path; the doctor takes a server: %s://%s", s, u.Scheme, u.Host)
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("a password in the address is seen by everybody on this machine; use --password-stdin")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%q is not a port", p)
		}
	}
	return u, nil
}

// Examine probes the server that u names, from here, and judges. It connects
// to that host alone: to its control port, the customary control ports, and
// the ports the server itself announces. An error means that nothing could be
// examined; a server that is down is a finding.
func Examine(ctx context.Context, u *url.URL, o ClientOptions) (*Report, error) {
	c := &Client{opt: o, host: u.Hostname(), tls: u.Scheme == "ftps"}
	if u.User.Username() != "" && c.opt.User == "" {
		c.opt.User = u.User.Username()
	}
	if c.opt.User == "" {
		c.opt.User, c.opt.Password = "anonymous", "doctor@portreeve"
	}
	if c.opt.Timeout <= 0 {
		c.opt.Timeout = 7 * time.Second
	}
	if c.opt.Idle == 0 {
		c.opt.Idle = 20 * time.Second
	}
	if c.opt.Rules == nil {
		c.opt.Rules = firewall.ReadLocal
	}
	c.ports(u)
	c.trust = &trust{host: c.host, roots: o.Roots, insecure: o.Insecure || u.Scheme == "ftp" || c.opt.User == "anonymous"}
	c.rep = Report{Target: u.Redacted(), Doors: []Door{}, Probes: []Probe{}, Findings: []Finding{}}
	if u.Scheme == "sftp" {
		c.examineSSH(ctx, u)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.rep.Findings = Settle(c.rep.Findings)
		return &c.rep, nil
	}
	c.run(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.rep.Findings = Settle(c.judge())
	return &c.rep, nil
}

func (c *Client) ports(u *url.URL) {
	n, _ := strconv.ParseUint(u.Port(), 10, 16)
	given := uint16(n)
	if c.tls {
		if c.opt.ImplicitPort == 0 {
			c.opt.ImplicitPort = given
		}
	} else if c.opt.PlainPort == 0 {
		c.opt.PlainPort = given
	}
	if c.opt.PlainPort == 0 {
		c.opt.PlainPort = 21
	}
	if c.opt.ImplicitPort == 0 {
		c.opt.ImplicitPort = 990
	}
	c.port = c.opt.PlainPort
	if c.tls {
		c.port = c.opt.ImplicitPort
	}
}

func (c *Client) say(format string, args ...any) {
	if c.opt.Progress != nil {
		c.opt.Progress(fmt.Sprintf(format, args...))
	}
}

func (c *Client) run(ctx context.Context) {
	c.ctx = ctx
	c.say("looking up %s", c.host)
	if !c.resolve(ctx) {
		return
	}
	c.knock(ctx)
	c.local = readRules(ctx, c.opt.Rules)
	for _, w := range c.ways() {
		c.matrix(ctx, w)
	}
	if w, ok := c.best(); ok {
		c.again(ctx, w)
		if c.opt.Write {
			c.write(ctx, w)
		}
		c.ask(ctx, w)
	}
	c.traces(ctx)
	c.besides(ctx)
	if w, ok := c.best(); ok { // last, so that it takes nobody's place
		c.watchIdle(ctx, w)
		c.finishIdle(ctx)
	}
}

// ways lists the ways to try: those whose port answers, and without a password
// in the clear unless that is permitted.
func (c *Client) ways() []way {
	var out []way
	clear := !c.tls || c.opt.Clear || c.opt.User == "anonymous"
	for _, a := range c.addrs {
		if c.door(a, c.opt.PlainPort).Says == "ftp" {
			if clear {
				out = append(out, way{a, c.opt.PlainPort, Plain})
			}
			out = append(out, way{a, c.opt.PlainPort, Explicit})
		}
		if d := c.door(a, c.opt.ImplicitPort); d.Outcome == OK && d.Says != "ftp" && d.Says != "ssh" {
			out = append(out, way{a, c.opt.ImplicitPort, Implicit})
		}
	}
	if !clear {
		c.rep.Notes = append(c.rep.Notes, "without --clear the password is not sent unprotected, so modes are not compared with and without TLS")
	}
	return out
}

// matrix tries the modes of one way. When the control connection itself fails
// one try is enough.
func (c *Client) matrix(ctx context.Context, w way) {
	modes := []ftp.DataMode{ftp.DataPASV, ftp.DataEPSV, ftp.DataPORT, ftp.DataEPRT}
	switch {
	case !w.addr.Is4():
		modes = []ftp.DataMode{ftp.DataEPSV, ftp.DataEPRT}
	case w.sec == Implicit:
		modes = modes[:2]
	}
	for _, m := range modes {
		if ctx.Err() != nil {
			return
		}
		c.say("%s, %s, %s", w.family(), w.sec, modeNames[m])
		p := c.probe(ctx, w, m, false)
		c.rep.Probes = append(c.rep.Probes, p)
		if c.rep.Product == "" {
			c.rep.Product = p.Banner
		}
		if p.Stage < AtSetup && slices.Contains([]Stage{AtConnect, AtBanner, AtTLS, AtAuth, AtLogin}, p.Stage) {
			return
		}
	}
}

func (c *Client) fill() fill { return fill{server: c.host, port: fmt.Sprint(c.port)} }
