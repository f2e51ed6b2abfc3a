package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// ParseTarget checks a URL such as ftp://host, ftps://host:990 or ftp://user@host:2121.
func ParseTarget(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address such as ftp://ftp.example.org", s)
	}
	switch {
	case u.Scheme != "ftp" && u.Scheme != "ftps" && u.Scheme != "ftpes":
		return nil, fmt.Errorf("%q does not begin with ftp:// or ftps://", s)
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
	if w, ok := c.best(); ok { // last, so that it takes nobody's place
		c.watchIdle(ctx, w)
		c.finishIdle(ctx)
	}
}

func (c *Client) resolve(ctx context.Context) bool {
	rctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	as, err := net.DefaultResolver.LookupNetIP(rctx, "ip", c.host)
	if err != nil {
		c.rep.Findings = append(c.rep.Findings, finding("NAME_UNKNOWN", Error, c.fill(), "%v", err))
		return false
	}
	for _, a := range as { // one of each family is enough to tell
		a = a.Unmap()
		if !slices.ContainsFunc(c.addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			c.addrs = append(c.addrs, a)
		}
	}
	slices.SortFunc(c.addrs, func(a, b netip.Addr) int { return a.Compare(b) }) // IPv4 first
	return true
}

// knock looks at the control ports of each address: the one that is asked for
// alone, since something may count connections, and then the others at once.
func (c *Client) knock(ctx context.Context) {
	type job struct {
		addr netip.Addr
		port uint16
	}
	var jobs []job
	for _, a := range c.addrs {
		seen := map[uint16]bool{}
		for _, p := range []uint16{c.opt.PlainPort, c.opt.ImplicitPort, 21, 990, 2121, 22} {
			if !seen[p] {
				seen[p] = true
				jobs = append(jobs, job{a, p})
			}
		}
	}
	c.say("looking at the control ports of %s", c.host)
	doors := make([]Door, len(jobs))
	for _, first := range []bool{true, false} {
		var wg sync.WaitGroup
		for i, j := range jobs {
			if (j.port == c.port) == first {
				wg.Go(func() { doors[i] = c.look(ctx, j.addr, j.port) })
			}
		}
		wg.Wait()
	}
	c.rep.Doors = doors
}

// look connects once and reads what is said first.
func (c *Client) look(ctx context.Context, a netip.Addr, port uint16) Door {
	d := Door{Family: way{addr: a}.family(), Addr: netip.AddrPortFrom(a, port).String(), Says: "silent", addr: a, port: port}
	begin := time.Now()
	nd := net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}
	nc, err := nd.DialContext(ctx, "tcp", d.Addr)
	d.Took = time.Since(begin)
	if err != nil {
		var p Probe
		p.fail(err, &recording{})
		d.Outcome, d.Error, d.Says = p.Outcome, p.Error, ""
		return d
	}
	defer nc.Close()
	d.Outcome = OK
	wait := 3 * time.Second
	if port == c.opt.ImplicitPort || port == 990 {
		wait = 300 * time.Millisecond // such a port waits for us
	}
	nc.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 512)
	n, err := nc.Read(buf)
	first, _, _ := strings.Cut(string(buf[:n]), "\n")
	d.Banner = strings.ToValidUTF8(strings.TrimSpace(first), "?")
	switch {
	case strings.HasPrefix(d.Banner, "220"), strings.HasPrefix(d.Banner, "120"), strings.HasPrefix(d.Banner, "421"):
		d.Says = "ftp"
	case strings.HasPrefix(d.Banner, "SSH-"):
		d.Says = "ssh"
	case n > 0:
		d.Says = "other"
	case err != nil && !isTimeout(err):
		d.Says = "closed"
	}
	return d
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (c *Client) door(a netip.Addr, port uint16) Door {
	for _, d := range c.rep.Doors {
		if d.addr == a && d.port == port {
			return d
		}
	}
	return Door{}
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

// watchIdle opens the quiet control connection, once.
func (c *Client) watchIdle(ctx context.Context, w way) {
	if c.idle != nil || c.opt.Idle < 0 {
		return
	}
	if cl, _, _ := c.connect(ctx, w, ftp.DataEPSV, false); cl != nil {
		c.idle, c.idleSince, c.idleSec = cl, time.Now(), w.sec
	}
}

// finishIdle sees whether the quiet connection still lives.
func (c *Client) finishIdle(ctx context.Context) {
	if c.idle == nil {
		return
	}
	defer c.idle.Close()
	if left := c.opt.Idle - time.Since(c.idleSince); left > 0 {
		c.say("watching a quiet connection for %s", left.Round(time.Second))
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
	c.idleDied = time.Since(c.idleSince)
	nctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	if err := c.idle.Noop(nctx); err != nil {
		c.idleErr = err
		return
	}
	c.idle.Quit(nctx)
}

// best returns the first way whose log-in works, protected ones first.
func (c *Client) best() (way, bool) {
	var out []way
	for _, sec := range []Security{Explicit, Implicit, Plain} {
		for _, p := range c.rep.Probes {
			if p.Security == sec && p.Peer.IsValid() && !slices.Contains([]Stage{AtConnect, AtBanner, AtTLS, AtAuth, AtLogin}, p.Stage) {
				out = append(out, way{p.Peer.Addr(), p.Peer.Port(), sec})
			}
		}
	}
	if len(out) == 0 {
		return way{}, false
	}
	return out[0], true
}

// rounds are repeated passive data connections, to find what is intermittent.
type rounds struct {
	quick, slow []Probe
}

// again repeats EPSV, or PASV where only that works, if passive mode works at
// all or did so in part.
func (c *Client) again(ctx context.Context, w way) {
	var mode ftp.DataMode
	found := false
	for _, p := range c.rep.Probes {
		if p.passive() && p.Outcome == OK && p.Family == w.family() {
			if w.sec != p.Security && !found {
				w.sec, w.port = p.Security, p.Peer.Port()
			}
			if !found || p.Mode == "EPSV" {
				mode = map[string]ftp.DataMode{"EPSV": ftp.DataEPSV, "PASV": ftp.DataPASV}[p.Mode]
			}
			found = found || p.Security == w.sec
		}
	}
	if mode == ftp.DataAuto {
		return
	}
	c.confirm(ctx)
	c.say("repeating %s, %s", w.sec, modeNames[mode])
	c.rounds.quick = c.burst(ctx, w, mode, 8, 0)
	if slices.ContainsFunc(c.rounds.quick, func(p Probe) bool { return p.dataLost() }) {
		c.say("repeating slowly")
		c.rounds.slow = c.burst(ctx, w, mode, 5, 2*time.Second)
	}
}

// confirm repeats one lost passive probe of each way, so that a single bad port
// is not taken for a rule.
func (c *Client) confirm(ctx context.Context) {
	seen := map[string]bool{}
	for _, p := range c.all(func(p *Probe) bool { return p.dataLost() }) {
		key := p.Family + string(p.Security)
		if seen[key] || p.Announced.Addr() != p.Peer.Addr() {
			continue
		}
		seen[key] = true
		mode := map[string]ftp.DataMode{"EPSV": ftp.DataEPSV, "PASV": ftp.DataPASV}[p.Mode]
		c.say("%s, %s, %s once more", p.Family, p.Security, p.Mode)
		again := c.probe(ctx, way{p.Peer.Addr(), p.Peer.Port(), p.Security}, mode, false)
		c.flaky = c.flaky || again.Outcome == OK
	}
	for _, p := range c.rep.Probes {
		if p.Security == Explicit && p.Mode == "EPSV" && p.Outcome == OK && c.fresh == nil {
			f := c.probe(ctx, way{p.Peer.Addr(), p.Peer.Port(), p.Security}, ftp.DataEPSV, true)
			c.fresh = &f
		}
	}
}

// burst runs n listings on one control connection, or on new ones after failures.
func (c *Client) burst(ctx context.Context, w way, mode ftp.DataMode, n int, pause time.Duration) []Probe {
	var out []Probe
	var cl *ftp.Client
	var rec *recording
	var base Probe
	lost := 0
	for range n {
		if ctx.Err() != nil || lost == 3 {
			break
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		if cl == nil {
			if cl, rec, base = c.connect(ctx, w, mode, false); cl == nil {
				break
			}
		}
		rec.mu.Lock()
		rec.dials = rec.dials[:1]
		rec.mu.Unlock()
		p := base
		p.Mode = modeNames[mode]
		bytes, err := list(ctx, cl)
		p.transfer(bytes, err, cl, rec)
		out = append(out, p)
		if err != nil {
			lost++
			if p.Outcome != Timeout && p.Outcome != Refused && p.Outcome != Unreachable {
				cl.Close()
				cl = nil
			}
		}
	}
	if cl != nil {
		qctx, cancel := context.WithTimeout(ctx, time.Second)
		cl.Quit(qctx)
		cancel()
		cl.Close()
	}
	return out
}

// traces follows the way to the control port and to a passive port that failed.
func (c *Client) traces(ctx context.Context) {
	const wait = 700 * time.Millisecond
	for _, a := range c.addrs {
		fam := way{addr: a}.family()
		lost := slices.IndexFunc(c.rep.Probes, func(p Probe) bool { return p.Family == fam && p.dataLost() })
		dead := -1
		open := -1
		for i, d := range c.rep.Doors {
			if d.addr != a {
				continue
			}
			if d.Outcome == OK && open < 0 {
				open = i
			}
			if d.port == c.port && d.Outcome != OK {
				dead = i
			}
		}
		if lost < 0 && dead < 0 {
			continue
		}
		c.say("following the packets to %s", a)
		if open >= 0 {
			c.trace(ctx, netip.AddrPortFrom(a, c.rep.Doors[open].port), wait)
		}
		if dead >= 0 {
			c.trace(ctx, netip.AddrPortFrom(a, c.rep.Doors[dead].port), wait)
		}
		if lost >= 0 {
			p := &c.rep.Probes[lost]
			to := netip.AddrPortFrom(a, p.Announced.Port())
			w := way{a, p.Peer.Port(), p.Security}
			if cl, _, _ := c.connect(ctx, w, ftp.DataEPSV, false); cl != nil { // a port that is open meanwhile
				for _, cmd := range []string{"EPSV", "PASV"} {
					r, err := cl.Cmd(ctx, cmd)
					if err != nil {
						break
					}
					if port, err := ftp.ParseEPSVReply(r.Text); err == nil && r.Code == 229 {
						to = netip.AddrPortFrom(a, port)
						break
					}
					if ap, err := ftp.ParsePASVReply(r.Text); err == nil && r.Code == 227 {
						to = netip.AddrPortFrom(a, ap.Port())
						break
					}
				}
				c.trace(ctx, to, wait)
				cl.Close()
			} else {
				c.trace(ctx, to, wait)
			}
		}
	}
}

func (c *Client) trace(ctx context.Context, to netip.AddrPort, wait time.Duration) {
	if t, ok := traceTo(ctx, to, wait); ok && len(t.Hops) > 0 {
		c.rep.Traces = append(c.rep.Traces, t)
	}
}

func (c *Client) fill() fill { return fill{server: c.host, port: fmt.Sprint(c.port)} }
