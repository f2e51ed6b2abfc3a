package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/nat"
)

// judge goes through the decision tree: control, TLS, passive, active, late.
func (c *Client) judge() []Finding {
	out := slices.Clone(c.rep.Findings)
	if len(c.addrs) == 0 {
		return out
	}
	out = append(out, c.judgeControl()...)
	out = append(out, c.judgeLogin()...)
	for _, f := range c.judgeTLS() {
		if f.Code == "TLS_CONTROL" {
			f.Because = []string{"CONTROL_BLOCKED", "BUSY"}
		}
		out = append(out, f)
	}
	limit, limited := c.judgeLimit()
	for _, fam := range []string{"ipv4", "ipv6"} {
		for _, f := range c.judgePassive(fam) {
			if limited {
				f.Because = append(f.Because, limit.Code)
			}
			out = append(out, f)
		}
	}
	if limited {
		out = append(out, limit)
	}
	out = append(out, c.judgeActive()...)
	if c.idleErr != nil {
		f := finding("CONTROL_IDLE", Error, c.fill(), "a control connection that was quiet for %s was dead afterwards (%v): some box forgets connections without traffic sooner, so transfers that take longer never get their final reply", c.idleDied.Round(1e9), c.idleErr)
		out = append(out, f)
	}
	return out
}

// judgeLimit finds control connections that are refused in the middle of the
// examination, from a port that answered before: something counts us.
func (c *Client) judgeLimit() (Finding, bool) {
	for _, p := range c.all(func(p *Probe) bool { return p.Stage == AtConnect && p.Outcome != OK }) {
		f := finding("CONN_LIMIT", Error, c.fill(), "the control port answered at first; after some connections from here it does not any more (%s)", p.Outcome)
		f.Could = []string{"CONN_LIMIT", "SYN_LIMIT", "CLIENT_BANNED"}
		return f, true
	}
	return Finding{}, false
}

// get returns the probe of a way and mode, nil when it was not tried.
func (c *Client) get(fam string, sec Security, mode string) *Probe {
	for i := range c.rep.Probes {
		if p := &c.rep.Probes[i]; p.Family == fam && p.Security == sec && p.Mode == mode {
			return p
		}
	}
	return nil
}

func (c *Client) all(match func(*Probe) bool) []*Probe {
	var out []*Probe
	for i := range c.rep.Probes {
		if p := &c.rep.Probes[i]; match(p) {
			out = append(out, p)
		}
	}
	return out
}

func isPrivate(a netip.Addr) bool { return nat.ClassOf(a) != nat.Public }

// traceOf returns the trace to a port of an address.
func (c *Client) traceOf(a netip.Addr, match func(uint16) bool) *Trace {
	for i := range c.rep.Traces {
		if t := &c.rep.Traces[i]; t.To.Addr() == a && match(t.To.Port()) {
			return t
		}
	}
	return nil
}

// openTrace is the trace to a port that answers: how far the server is.
func (c *Client) openTrace(a netip.Addr) *Trace {
	for i := range c.rep.Traces {
		if t := &c.rep.Traces[i]; t.To.Addr() == a && t.end() != nil && t.end().Kind == HopOpen {
			return t
		}
	}
	return nil
}

func (c *Client) judgeControl() []Finding {
	var out []Finding
	alive := map[netip.Addr]bool{}
	for _, a := range c.addrs {
		d := c.door(a, c.port)
		alive[a] = d.Outcome == OK && d.Says != "closed" && d.Says != "other" && d.Says != "ssh"
	}
	for _, a := range c.addrs {
		d := c.door(a, c.port)
		other := slices.ContainsFunc(c.addrs, func(b netip.Addr) bool { return b != a && alive[b] })
		switch {
		case d.Outcome == OK:
			out = append(out, c.judgeDoor(d)...)
		case other && a.Is4():
			if d.Outcome == Unreachable {
				f := finding("NAT64", Warning, c.fill(), "IPv4 is not there at all (%s), IPv6 works: this client reaches IPv4 through NAT64 or not at all", d.Error)
				if !nat64.Contains(c.addrs[1]) {
					f = finding("CLIENT_NO_V4", Note, c.fill(), "IPv4 is not there at all (%s), IPv6 works", d.Error)
				}
				out = append(out, f)
				continue
			}
			out = append(out, c.controlDead(a, d)...)
		case other:
			if d.Outcome == Unreachable {
				continue // this client has no IPv6: nobody's fault
			}
			code := "IPV6_FW_CONTROL"
			if d.Outcome == Refused {
				code = "BIND_ADDR"
			}
			out = append(out, finding(code, Warning, c.fill(), "IPv4 works; port %d of %s, which the name %s has too, does not: %s", c.port, a, c.host, d.Error))
		default:
			out = append(out, c.controlDead(a, d)...)
		}
	}
	return out
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// judgeDoor looks at a port that accepts connections.
func (c *Client) judgeDoor(d Door) []Finding {
	implicit := d.port == c.opt.ImplicitPort
	switch {
	case d.Says == "ssh":
		f := finding("WRONG_DOOR", Error, c.fill(), "port %d speaks SSH (%s): SFTP is another protocol than FTPS", d.port, d.Banner)
		f.Fix = fmt.Sprintf("use sftp://%s:%d for this port, or the port of the server's FTP", c.host, d.port)
		return []Finding{f}
	case strings.HasPrefix(d.Banner, "421"):
		return []Finding{finding("BUSY", Error, c.fill(), "the server greets with %q", d.Banner)}
	case d.Says == "other":
		return []Finding{finding("NOT_FTP", Error, c.fill(), "port %d answers %q", d.port, d.Banner)}
	case d.Says == "closed":
		f := finding("CONTROL_BLOCKED", Error, c.fill(), "port %d accepts the connection and closes it without a greeting", d.port)
		f.Could = []string{"CLIENT_BANNED", "PROXY_MISSING", "LB_WRONG_NODE"}
		return []Finding{f}
	case implicit && d.Says == "ftp" && c.tls:
		return []Finding{finding("WRONG_DOOR", Error, c.fill(), "port %d greets in the clear: it speaks FTP with explicit TLS; use ftp://%s:%d", d.port, c.host, d.port)}
	case !implicit && d.Says == "silent":
		f := finding("PROXY_MISSING", Error, c.fill(), "port %d accepts the connection and says nothing", d.port)
		f.Could = []string{"PROXY_MISSING", "WRONG_DOOR"}
		f.Fix = "if it is an implicit FTPS port, use ftps://" + c.host + ":" + fmt.Sprint(d.port) + "; otherwise: " + f.Fix
		return []Finding{f}
	}
	return nil
}

// controlDead explains a control port that cannot be connected to.
func (c *Client) controlDead(a netip.Addr, d Door) []Finding {
	var open []string
	for _, o := range c.rep.Doors {
		if o.addr == a && o.Outcome == OK {
			open = append(open, fmt.Sprint(o.port))
		}
	}
	if why, yes := c.local.blocks(true, !a.Is4(), c.port); yes {
		f := finding("CLIENT_FW_OUT_21", Error, c.fill(), "this computer's own firewall stops connections to port %d: %s", c.port, why)
		f.Box = "client"
		return []Finding{f}
	}
	dead := c.traceOf(a, func(p uint16) bool { return p == c.port })
	reach := c.openTrace(a)
	var f Finding
	switch {
	case len(open) > 0 && d.Outcome == Refused:
		f = finding("CONTROL_NOT_FORWARDED", Error, c.fill(), "port %d of %s refuses connections, ports %s answer", c.port, a, strings.Join(open, ", "))
		f.Could = []string{"CONTROL_NOT_FORWARDED", "BIND_ADDR", "NOT_RUNNING"}
		if dead != nil && reach != nil && dead.end() != nil {
			if dead.end().TTL < reach.end().TTL {
				f.Could = nil
			} else {
				f.Could = []string{"NOT_RUNNING", "BIND_ADDR"}
				f.Code, f.Title, f.Box, f.Fix = "BIND_ADDR", causes["BIND_ADDR"].Title, "server", c.fill().in(causes["BIND_ADDR"].Fix)
			}
		}
	case len(open) > 0:
		f = finding("CONTROL_NOT_FORWARDED", Error, c.fill(), "port %d of %s does not answer (%s), ports %s do", c.port, a, d.Outcome, strings.Join(open, ", "))
		f.Could = []string{"CONTROL_NOT_FORWARDED", "CONTROL_BLOCKED_21", "CLIENT_FW_OUT_21"}
		if dead != nil && reach != nil {
			switch zone := whereDies(reach, dead); zone {
			case atClientRouter, atClient:
				f = finding("CLIENT_FW_OUT_21", Error, c.fill(), "%s; the packets to port %d get no further than %s", f.Cause, c.port, zone)
			case atGateway, pastGateway:
				f.Could = f.Could[:2]
			}
		}
	case d.Outcome == Refused:
		f = finding("CONTROL_BLOCKED", Error, c.fill(), "every control port of %s refuses connections", a)
		f.Could = []string{"NOT_RUNNING", "BIND_ADDR", "PORT_PERMISSION", "CONTROL_NOT_FORWARDED", "HAIRPIN"}
		if dead != nil && dead.end() != nil && dead.end().TTL == 1 && !isPrivate(a) && c.behindNAT(a) {
			f = finding("HAIRPIN", Error, c.fill(), "%s is this network's own router: it refuses the connection itself", a)
		}
	case d.Outcome == Unreachable:
		f = finding("CONTROL_BLOCKED", Error, c.fill(), "there is no way to %s: %s", a, d.Error)
		f.Could = []string{"CLIENT_NO_V4", "SERVER_ROUTE", "CONTROL_NOT_FORWARDED"}
	default:
		f = finding("CONTROL_BLOCKED", Error, c.fill(), "no control port of %s answers", a)
		f.Could = []string{"CONTROL_NOT_FORWARDED", "DOUBLE_NAT", "CGNAT", "SERVER_FW_RANGE", "SERVER_ROUTE", "ASYM_ROUTE", "HAIRPIN", "CLIENT_BANNED", "CLIENT_FW_OUT_21", "NOT_RUNNING"}
	}
	if dead != nil {
		f.Evidence = append(f.Evidence, dead.String())
	}
	if len(open) > 0 {
		f.Fix += "\nuntil then port " + open[0] + " can be used"
	}
	return []Finding{f}
}

// behindNAT reports that this client's own address towards a is private.
func (c *Client) behindNAT(a netip.Addr) bool {
	for _, p := range c.rep.Probes {
		if p.Local.IsValid() && p.Peer.Addr() == a {
			return isPrivate(p.Local.Addr())
		}
	}
	return isPrivate(localTowards(a))
}

// strangeHeader finds replies to something that we never sent: a PROXY header
// before our first command. A server that knows no such header answers USER as
// an unknown command, or names what it read.
func (c *Client) strangeHeader() (Finding, bool) {
	for _, p := range c.all(func(p *Probe) bool { return p.Outcome == Rejected && p.Reply >= 500 && p.Reply <= 503 }) {
		named := strings.Contains(p.Text, "PROXY") || strings.HasPrefix(p.Text, `""`)
		if !named && (p.Stage != AtLogin || p.Security != Plain) || p.Stage != AtLogin && p.Stage != AtAuth {
			continue
		}
		f := finding("PROXY_UNEXPECTED", Error, c.fill(), "the server answers the first command \"%d %s\", as if it had been sent something else before it: a balancer in front sends a PROXY header", p.Reply, p.Text)
		if !named {
			f.Could = []string{"PROXY_UNEXPECTED", "NOT_FTP"}
		}
		return f, true
	}
	return Finding{}, false
}

func (c *Client) judgeLogin() []Finding {
	var rejected, busy, closed *Probe
	for i := range c.rep.Probes {
		p := &c.rep.Probes[i]
		if p.Stage == AtSetup || p.Stage == AtData || p.Stage == AtTransfer || p.Stage == AtEnd || p.Stage == AtProtect {
			return nil // somebody was let in
		}
		if p.Outcome == Rejected && p.Reply == 421 {
			busy = p
		} else if p.Stage == AtLogin && p.Outcome == Rejected {
			rejected = p
		} else if (p.Stage == AtLogin || p.Stage == AtBanner) && p.Outcome != Untrusted {
			closed = p
		}
	}
	if f, ok := c.strangeHeader(); ok {
		return []Finding{f}
	}
	greeted := slices.ContainsFunc(c.rep.Doors, func(d Door) bool { return strings.HasPrefix(d.Banner, "421") })
	switch {
	case busy != nil && greeted:
		return nil // said already
	case closed != nil && busy == nil && rejected == nil:
		f := finding("CONTROL_BLOCKED", Error, c.fill(), "the server greets, and then the connection is dead: %s", closed.Error)
		f.Could = []string{"CLIENT_BANNED", "LB_WRONG_NODE", "MTU_BLACKHOLE"}
		f.Because = nil
		return []Finding{f}
	case busy != nil:
		return []Finding{finding("BUSY", Error, c.fill(), "%d %s", busy.Reply, busy.Text)}
	case rejected != nil:
		f := finding("LOGIN", Error, c.fill(), "%s, user %s: %d %s", rejected.Security, c.opt.User, rejected.Reply, rejected.Text)
		if c.opt.User == "anonymous" {
			f.Fix = "give an account: --user NAME --password-stdin"
		}
		return []Finding{f}
	}
	return nil
}

func (c *Client) judgeTLS() []Finding {
	var out []Finding
	for _, p := range c.rep.Probes {
		if p.Outcome == Untrusted {
			out = append(out, finding("CERT_UNTRUSTED", Error, c.fill(), "%s: %s; the password was not sent", p.Security, p.Error))
			return out
		}
	}
	if err := c.trust.err; err != nil {
		code := "CERT_UNTRUSTED"
		switch leaf := c.trust.leaf; {
		case strings.Contains(err.Error(), "expired or is not yet valid"):
			code = "CERT_EXPIRED"
		case leaf != nil && leaf.VerifyHostname(c.host) != nil:
			code = "CERT_NAME"
		}
		out = append(out, finding(code, Note, c.fill(), "%v", err))
	}
	for _, p := range c.all(func(p *Probe) bool { return p.Cert != "" && p.DataCert != "" && p.Cert != p.DataCert }) {
		f := finding("MBOX_TLS", Error, c.fill(), "the control connection shows another certificate than its data connection: something on the way opens the TLS of the former, and can read the password")
		f.Evidence = []string{"control: " + p.Cert, "data: " + p.DataCert}
		out = append(out, f)
		break
	}
	for _, fam := range []string{"ipv4", "ipv6"} {
		out = append(out, c.judgeAuth(fam)...)
	}
	return out
}

// judgeAuth explains an explicit way that fails before the log-in.
func (c *Client) judgeAuth(fam string) []Finding {
	works := func(sec Security) bool {
		return len(c.all(func(p *Probe) bool {
			spoke := p.Stage != AtLogin || p.Outcome == Rejected
			return p.Family == fam && p.Security == sec && spoke && p.Stage != AtConnect && p.Stage != AtBanner && p.Stage != AtAuth && p.Stage != AtTLS
		})) > 0
	}
	broken := func(sec Security) *Probe {
		for _, p := range c.all(func(p *Probe) bool { return p.Family == fam && p.Security == sec }) {
			if p.Stage == AtAuth || p.Stage == AtTLS {
				return p
			}
		}
		return nil
	}
	p, imp := broken(Explicit), broken(Implicit)
	alive := works(Plain) || p != nil
	switch {
	case p != nil && p.Stage == AtAuth && p.Outcome == Rejected:
		if works(Implicit) || strings.Contains(c.feat, "AUTH") {
			return []Finding{finding("MBOX_AUTH", Error, c.fill(), "AUTH TLS was answered \"%d %s\" although the server has TLS: something on the way changes the command or the answer", p.Reply, p.Text)}
		}
		return []Finding{finding("TLS_OFF", Note, c.fill(), "AUTH TLS is answered \"%d %s\", and no other way offers TLS", p.Reply, p.Text)}
	case p != nil && p.Stage == AtAuth && !works(Plain) && !works(Implicit):
		f := finding("TLS_CONTROL", Error, c.fill(), "after AUTH TLS the connection is dead (%s)", p.Error)
		f.Could = []string{"MBOX_AUTH", "CLIENT_BANNED"}
		return []Finding{f}
	case p != nil && p.Stage == AtAuth:
		return []Finding{finding("MBOX_AUTH", Error, c.fill(), "after AUTH TLS the connection is dead (%s): something on the way does not permit it", p.Outcome)}
	case p != nil && alive && strings.Contains(p.Error, "deadline") || p == nil && imp != nil && works(Plain) && strings.Contains(imp.Error, "deadline"):
		f := finding("MTU_BLACKHOLE", Error, c.fill(), "the connection works until the server sends its certificate, the first full-size packets; then nothing arrives")
		if p == nil || imp == nil {
			f.Could = []string{"MTU_BLACKHOLE", "MBOX_AUTH"}
		}
		return []Finding{f}
	case p != nil && works(Implicit):
		return []Finding{finding("MBOX_AUTH", Error, c.fill(), "the TLS handshake after AUTH TLS is cut (%s), implicit TLS works: something on the way does not permit it", p.Error)}
	case p != nil && p.Outcome != Untrusted:
		return []Finding{finding("TLS_CONTROL", Error, c.fill(), "%s", p.Error)}
	case imp != nil && imp.Outcome != Untrusted && c.tls:
		return []Finding{finding("TLS_CONTROL", Error, c.fill(), "%s", imp.Error)}
	}
	return nil
}
