package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// passive is what the passive probes of one family say together.
type passive struct {
	fam        string
	probes     []*Probe // that came to the data connection
	lost, fine []*Probe
	plain, tls tri // of EPSV, or of PASV where EPSV is not to be had
	implicit   tri // the same, when tls is that of the explicit way
}

// tri is whether something works: not tried, yes, no.
type tri uint8

const (
	untried tri = iota
	works
	fails
)

func (c *Client) passive(fam string) passive {
	s := passive{fam: fam}
	port := map[Security]tri{}
	for i := range c.rep.Probes {
		p := &c.rep.Probes[i]
		if p.Family != fam || !p.passive() {
			continue
		}
		switch {
		case p.dataLost():
			s.lost = append(s.lost, p)
			// A wrong address loses PASV alone; the port is what EPSV shows.
			if port[p.Security] == untried && (p.Mode == "EPSV" || p.Announced.Addr() == p.Peer.Addr()) {
				port[p.Security] = fails
			}
		case p.Outcome == OK:
			s.fine = append(s.fine, p)
			port[p.Security] = works
		}
		if p.Stage == AtData || p.Stage == AtTransfer || p.Stage == AtEnd {
			s.probes = append(s.probes, p)
		}
	}
	s.plain = port[Plain]
	// The explicit way is on the same listener as the clear one, and has its range.
	s.tls, s.implicit = port[Explicit], port[Implicit]
	if s.tls == untried {
		s.tls, s.implicit = s.implicit, untried
	}
	return s
}

func (c *Client) judgePassive(fam string) []Finding {
	s := c.passive(fam)
	out := c.judgeExtended(fam)
	if len(out) > 0 && out[0].Code == "MBOX_EXT" && len(s.lost) == 0 {
		return out
	}
	out = append(out, c.judgeRefusedSetup(fam)...)
	if f, ok := c.judgeIntermittent(&s); ok {
		return append(out, f)
	}
	address, wrong := c.judgeAddress(&s)
	if port, one := onePort(&s); one && s.tls == fails && s.plain != fails {
		return append(out, c.blockedOne(&s, port))
	}
	if s.plain == works && s.tls == fails {
		f := c.blindTLS(&s)
		if wrong { // the helper has corrected the address, too
			f.Evidence = append(f.Evidence, address.Cause)
			f.Fix += "\nand " + address.Fix
		}
		return append(append(out, f), c.judgeReuse(fam)...)
	}
	if wrong {
		out = append(out, address)
	}
	_, apart := onePort(&s)
	switch {
	case s.plain == fails && s.tls == works && apart:
		f := c.blocked(s.only(func(p *Probe) bool { return p.Security == Plain }))
		f.Severity = Warning // whoever opens the one port alone wants TLS
		f.Cause += "; with TLS, which has a port of its own here, they work"
		out = append(out, f)
	case s.plain == fails && s.tls == works:
		f := finding("MBOX_PASV_REWRITE", Error, c.fillRange(), "with TLS passive connections work, in the clear they do not: something that reads the replies spoils them")
		out = append(out, f)
	case s.plain == fails || s.tls == fails:
		if fam == "ipv6" && len(c.passive("ipv4").fine) > 0 {
			f := finding("IPV6_FW_RANGE", Error, c.fillRange(), "the control connection works over IPv6, passive data connections do not (%s); over IPv4 both work", s.lost[0].Outcome)
			return append(out, f)
		}
		out = append(out, c.blocked(&s))
	case s.tls == works && s.implicit == fails:
		f := c.blocked(s.only(func(p *Probe) bool { return p.Security == Implicit }))
		f.Cause += "; with explicit TLS they work"
		out = append(out, f)
	}
	out = append(out, c.judgeConnected(&s)...)
	return append(out, c.judgeReuse(fam)...)
}

// only is s with some of the probes that failed.
func (s *passive) only(keep func(*Probe) bool) *passive {
	sub := *s
	sub.lost = slices.DeleteFunc(slices.Clone(s.lost), func(p *Probe) bool { return !keep(p) })
	return &sub
}

// onePort is the port that a server announces for all protected connections,
// if it is one: then TLS fails where the clear range works because that port is
// closed, and not because somebody reads the dialogue.
func onePort(s *passive) (port uint16, one bool) {
	n := 0
	for _, p := range s.probes {
		switch {
		case p.Security == Plain || !p.Announced.IsValid():
			if p.Announced.Port() == port {
				return 0, false
			}
		case n > 0 && p.Announced.Port() != port:
			return 0, false
		default:
			port = p.Announced.Port()
			n++
		}
	}
	return port, n > 1
}

// blockedOne explains a single shared port that nothing reaches.
func (c *Client) blockedOne(s *passive, port uint16) Finding {
	f := c.blocked(s.only(func(p *Probe) bool { return p.Security != Plain }))
	old, one := c.fillRange(), fmt.Sprint(port)
	if old.rng == "" {
		old.rng = "of the passive range"
	}
	f.Fix = strings.ReplaceAll(f.Fix, old.rng, one)
	f.Cause += fmt.Sprintf("; with TLS this server uses the one port %s for all of them", one)
	return f
}

// fillRange knows the passive range only from a Portreeve server.
func (c *Client) fillRange() fill {
	f := c.fill()
	if c.rep.Server != nil {
		f.rng = c.rep.Server.Ports
		f.ports = fmt.Sprintf("%d, %d, %s", c.opt.PlainPort, c.opt.ImplicitPort, f.rng)
	}
	return f
}

// judgeExtended finds boxes that know PASV and PORT only.
func (c *Client) judgeExtended(fam string) []Finding {
	p := c.get(fam, Plain, "EPSV")
	pasv := c.get(fam, Plain, "PASV")
	if p == nil || p.Stage != AtSetup {
		return nil
	}
	if pasv != nil && pasv.Stage == AtSetup {
		return nil // passive mode as a whole is refused
	}
	secure := c.get(fam, Explicit, "EPSV")
	if secure == nil || secure.Stage == AtAuth || secure.Stage == AtTLS || secure.Stage == AtConnect {
		secure = c.get(fam, Implicit, "EPSV")
	}
	reached := secure != nil && secure.Stage != AtAuth && secure.Stage != AtTLS && secure.Stage != AtLogin && secure.Stage != AtConnect
	switch {
	case reached && secure.Stage == AtSetup && p.Outcome == Rejected:
		return []Finding{finding("EPSV_OFF", Note, c.fill(), "EPSV is answered \"%d %s\"", p.Reply, p.Text)}
	case reached || p.Outcome != Rejected:
		what := "gets no answer"
		if p.Outcome == Rejected {
			what = fmt.Sprintf("is answered \"%d %s\"", p.Reply, p.Text)
		} else if p.Outcome == Closed {
			what = "ends the connection"
		}
		return []Finding{finding("MBOX_EXT", Error, c.fill(), "EPSV in the clear %s, while PASV works and TLS is not concerned: something that reads the commands does not know EPSV", what)}
	}
	f := finding("EPSV_OFF", Note, c.fill(), "EPSV is answered \"%d %s\"", p.Reply, p.Text)
	f.Could = []string{"EPSV_OFF", "MBOX_EXT"}
	return []Finding{f}
}

// judgeRefusedSetup explains PASV and EPSV that the server itself refuses.
func (c *Client) judgeRefusedSetup(fam string) []Finding {
	tried := c.all(func(p *Probe) bool {
		return p.Family == fam && p.passive() && (p.Stage == AtSetup || p.Stage == AtData || p.Stage == AtTransfer || p.Stage == AtEnd)
	})
	var p *Probe
	for _, t := range tried {
		if t.Stage != AtSetup {
			return nil
		}
		if t.Outcome == Rejected && p == nil {
			p = t // others may have got no answer: vsftpd complains in the clear within TLS
		}
	}
	if p == nil {
		return nil
	}
	text := strings.ToLower(p.Text)
	if p.Reply < 500 || strings.Contains(text, "oops") || strings.Contains(text, "bind") || strings.Contains(text, "in use") {
		return []Finding{finding("RANGE_BUSY", Error, c.fillRange(), "%s is answered \"%d %s\": the server finds no free passive port", p.Mode, p.Reply, p.Text)}
	}
	return []Finding{finding("PASSIVE_OFF", Warning, c.fill(), "%s is answered \"%d %s\"", p.Mode, p.Reply, p.Text)}
}

// judgeAddress explains PASV that fails where EPSV works or would be asked at
// another address.
func (c *Client) judgeAddress(s *passive) (Finding, bool) {
	var wrong *Probe
	secure := 0 // protected replies with the right address
	for _, p := range s.probes {
		if p.Mode != "PASV" || !p.Announced.IsValid() {
			continue
		}
		if p.Announced.Addr() == p.Peer.Addr() {
			if p.Security != Plain {
				secure++
			}
			continue
		}
		if p.Outcome != OK && (wrong == nil || wrong.Security == Plain) {
			wrong = p
		}
	}
	if wrong == nil {
		return Finding{}, false
	}
	adv, peer := wrong.Announced.Addr(), wrong.Peer.Addr()
	cause := fmt.Sprintf("PASV announces %s; the control connection goes to %s", wrong.Announced, peer)
	if c.rewritten(wrong) || wrong.Security == Plain && secure > 0 {
		f := finding("MBOX_PASV_REWRITE", Error, c.fill(), "%s, and that is not what the server sends: with TLS the right address arrives", cause)
		return f, true
	}
	if e := c.get(s.fam, wrong.Security, "EPSV"); e != nil && e.Outcome == OK {
		cause += "; EPSV, which uses that, works"
	}
	var f Finding
	switch {
	case adv.IsUnspecified():
		f = finding("PASV_ADDR_ZERO", Error, c.fill(), "%s", cause)
	case isPrivate(adv) && !isPrivate(peer):
		f = finding("PASV_ADDR_PRIVATE", Error, c.fill(), "%s, and only the server's own network can reach the former", cause)
	case !isPrivate(adv) && isPrivate(peer):
		f = finding("PASV_ADDR_PUBLIC_FOR_LAN", Error, c.fill(), "%s: this client is inside and is sent outside", cause)
	case c.sameServer(adv, wrong.Peer.Port()):
		f = finding("PASV_ADDR_NOT_CONTROL", Error, c.fill(), "%s; the same server answers on both", cause)
	default:
		f = finding("PASV_ADDR_STALE", Error, c.fill(), "%s, and the server does not answer at the former", cause)
		if c.rep.Server == nil {
			f.Could = []string{"PASV_ADDR_STALE", "PASV_ADDR_NOT_CONTROL"}
		}
	}
	f.Evidence = append(f.Evidence, wrong.String(), "many clients hide this: they use the control address instead")
	return f, true
}

// rewritten compares what arrived with what the server says it sent.
func (c *Client) rewritten(p *Probe) bool {
	if c.rep.Server == nil || p.Security != Plain {
		return false
	}
	sent := false
	for _, d := range c.rep.Server.Data {
		if d.Mode != "PASV" || d.TLS {
			continue
		}
		sent = true
		if d.Announced == p.Announced {
			return false
		}
	}
	return sent
}

// sameServer asks an announced address for a greeting: the same host's other
// addresses greet alike. It is an address the server itself named.
func (c *Client) sameServer(a netip.Addr, port uint16) bool {
	d := c.look(c.ctx, a, port)
	return d.Outcome == OK && d.Banner != "" && d.Banner == c.door(c.addrs[0], c.opt.PlainPort).Banner
}

// blindTLS is plain works, TLS does not, on the same kind of ports: somebody
// opens them by reading the dialogue. Which side it is on the way tells.
func (c *Client) blindTLS(s *passive) Finding {
	f := finding("ALG_BLIND_TLS", Error, c.fillRange(), "passive connections work in the clear and fail with TLS (%s), with the same server and ports: an FTP helper opens them by reading the commands, which TLS hides", s.lost[0].Outcome)
	f.Could = []string{"SERVER_ALG_BLIND_TLS", "CLIENT_FW_OUT_HIGH"}
	server := func(box string) {
		f.Code, f.Title, f.Box, f.Fix, f.Could = "SERVER_ALG_BLIND_TLS", causes["SERVER_ALG_BLIND_TLS"].Title, box, c.fillRange().in(causes["SERVER_ALG_BLIND_TLS"].Fix), nil
	}
	reach, dead := c.ways2(s)
	if why, yes := c.local.blocks(true, s.fam == "ipv6", s.lost[0].Announced.Port()); yes {
		g := finding("CLIENT_FW_OUT_HIGH", Error, c.fillRange(), "%s; this computer's own firewall stops them: %s", f.Cause, why)
		g.Box = "client"
		return g
	}
	switch z := whereDies(reach, dead); {
	case c.sees("passive-data") == "closed":
		server("server")
	case z == pastGateway && c.sees("passive-data") == "open", z == atGateway:
		server("server-router")
	case z == pastGateway:
		server("server")
		f.Evidence = append(f.Evidence, "if the server's own firewall has nothing to do with it, the same holds for the router right before it")
	case z == atClientRouter || z == atClient:
		f.Could = []string{"CLIENT_FW_OUT_HIGH", "SERVER_ALG_BLIND_TLS"}
		f.Box = "client-router"
	case c.othersFine():
		f.Box = "client-router"
	}
	c.evidence(&f, reach, dead)
	return f
}

// ways2 are the traces to a port that answers and to the passive port.
func (c *Client) ways2(s *passive) (reach, dead *Trace) {
	a := s.lost[0].Peer.Addr()
	doors := map[uint16]bool{}
	for _, d := range c.rep.Doors {
		doors[d.port] = true
	}
	return c.openTrace(a), c.traceOf(a, func(p uint16) bool { return !doors[p] })
}

func (c *Client) evidence(f *Finding, reach, dead *Trace) {
	if reach != nil && dead != nil {
		f.Evidence = append(f.Evidence, reach.String(), dead.String())
	}
	if s := c.rep.Server; s != nil {
		f.Evidence = append(f.Evidence, fmt.Sprintf("the server says its own firewall is %s for passive data; other networks reached passive ports %s times, %s times not", c.sees("passive-data"), s.OthersOK, s.OthersBad))
	}
}

// sees is the server's word on its own firewall, "" when it did not say.
func (c *Client) sees(purpose string) string {
	if c.rep.Server == nil {
		return ""
	}
	return c.rep.Server.Firewall[purpose]
}

// othersFine reports that the server knows other networks that reach its ports.
func (c *Client) othersFine() bool {
	if c.rep.Server == nil {
		return false
	}
	ok, _ := strconv.Atoi(c.rep.Server.OthersOK)
	bad, _ := strconv.Atoi(c.rep.Server.OthersBad)
	return ok >= 3 && bad <= ok/4
}

// blocked explains passive ports that nothing reaches.
func (c *Client) blocked(s *passive) Finding {
	p := s.lost[0]
	for _, q := range s.lost { // one with the right address says most
		if q.Announced.Addr() == q.Peer.Addr() {
			p = q
			break
		}
	}
	fam6 := s.fam == "ipv6"
	cause := fmt.Sprintf("log-in works, passive data connections to %s get %s", p.Peer.Addr(), map[Outcome]string{Timeout: "no answer", Refused: "refused", Unreachable: "\"" + p.Errno + "\""}[p.Outcome])
	if why, yes := c.local.blocks(true, fam6, p.Announced.Port()); yes {
		f := finding("CLIENT_FW_OUT_HIGH", Error, c.fillRange(), "%s: this computer's own firewall stops them: %s", cause, why)
		f.Box = "client"
		return f
	}
	if state := c.sees("passive-data"); state == "closed" || state == "limited" {
		code := "SERVER_FW_RANGE"
		if c.rep.Server.Firewall["passive-data code"] == "SERVER_ALG_BLIND_TLS" && s.plain != fails {
			code = "SERVER_ALG_BLIND_TLS"
		}
		f := finding(code, Error, c.fillRange(), "%s, and the server says that its own firewall is %s for them", cause, state)
		f.Box = "server"
		return f
	}
	reach, dead := c.ways2(s)
	f := c.blockedWhere(s, p, cause, reach, dead)
	if in, other := c.renumbered(p); other {
		f.Cause += fmt.Sprintf("; the server announces other numbers outside than its own TCP %s", c.rep.Server.Ports)
		f.Fix = fmt.Sprintf("forward TCP %s outside to %s of the server, one to one and in this order; or take external_ports out of its configuration and forward the same numbers", in, c.rep.Server.Ports)
	}
	if c.othersFine() && slices.Contains(f.Could, "CLIENT_FW_OUT_HIGH") {
		f.Could = slices.DeleteFunc(f.Could, func(code string) bool { return code != "CLIENT_FW_OUT_HIGH" && code != "UPSTREAM_FW_SOURCE" })
		if len(f.Could) == 1 {
			f = finding(f.Could[0], Error, c.fillRange(), "%s; clients of other networks reach them", cause)
		}
	}
	c.evidence(&f, reach, dead)
	if len(f.Could) > 0 {
		f.Fix += "\nto find out which: try from another network (a phone's); works there: it is this side's firewall"
		if c.rep.Server == nil || c.sees("passive-data") == "unknown" {
			f.Fix += "\non the server: its own firewall (portreeve doctor there, as root); open there: it is the router or filter in front"
		}
	}
	return f
}

// renumbered reports that the server announces the passive ports under the
// numbers that a router is to give them.
func (c *Client) renumbered(p *Probe) (outside string, other bool) {
	if c.rep.Server == nil || c.rep.Server.Outside == "" {
		return "", false
	}
	first, last, ok := strings.Cut(c.rep.Server.Outside, "-")
	if !ok {
		last = first
	}
	lo, err := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	port := uint64(p.Announced.Port())
	return c.rep.Server.Outside, err == nil && err2 == nil && lo <= port && port <= hi
}

// slowly is how long an address that nobody has needs to be called unreachable.
const slowly = 2 * time.Second

func (c *Client) blockedWhere(s *passive, p *Probe, cause string, reach, dead *Trace) Finding {
	one := func(code string, could ...string) Finding {
		f := finding(code, Error, c.fillRange(), "%s", cause)
		if len(could) > 0 {
			f.Could = append([]string{code}, could...)
		}
		return f
	}
	some := func(could ...string) Finding {
		f := finding("PASSIVE_BLOCKED", Error, c.fillRange(), "%s", cause)
		f.Could = could
		return f
	}
	open := c.sees("passive-data") == "open"
	fronted := reach != nil && reach.fronted() || dead != nil && dead.fronted()
	if c.rep.Server != nil && c.rep.Server.Reached.IsValid() && c.rep.Server.Reached.Addr() != p.Peer.Addr() {
		fronted = true
	}
	z := whereDies(reach, dead)
	if p.Outcome == Unreachable && p.DialTook > slowly && z != atClient && z != atClientRouter {
		return one("FORWARD_WRONG_HOST")
	}
	switch z {
	case atClient:
		f := one("CLIENT_FW_OUT_HIGH")
		f.Box = "client"
		return f
	case atClientRouter:
		return one("CLIENT_FW_OUT_HIGH")
	case atGateway:
		if p.Outcome == Refused && c.inDocker() {
			return one("DOCKER_PUBLISH", "RANGE_NOT_FORWARDED")
		}
		if fronted && p.Outcome == Refused {
			return one("RANGE_NOT_FORWARDED", "DOCKER_PUBLISH", "UPSTREAM_FW_RANGE", "UPSTREAM_FW_SOURCE")
		}
		if fronted {
			if p.Outcome == Timeout && !isPrivate(p.Peer.Addr()) && len(reach.Hops) > 3 {
				return one("RANGE_NOT_FORWARDED")
			}
			return one("RANGE_NOT_FORWARDED", "UPSTREAM_FW_RANGE", "UPSTREAM_FW_SOURCE")
		}
		return one("UPSTREAM_FW_RANGE", "UPSTREAM_FW_SOURCE", "ASYM_ROUTE")
	}
	switch {
	case z == pastGateway && p.Outcome == Timeout && open && fronted:
		return one("RANGE_SHIFTED", "FORWARD_WRONG_HOST", "UPSTREAM_FW_RANGE")
	case z == pastGateway && p.Outcome == Timeout && open:
		return one("UPSTREAM_FW_RANGE", "UPSTREAM_FW_SOURCE", "ASYM_ROUTE")
	case z == pastGateway && p.Outcome == Timeout && fronted:
		return one("SERVER_FW_RANGE", "RANGE_SHIFTED", "UPSTREAM_FW_RANGE", "FORWARD_WRONG_HOST")
	case z == pastGateway && p.Outcome == Timeout:
		return one("SERVER_FW_RANGE", "UPSTREAM_FW_RANGE")
	case p.Outcome == Refused && z == pastGateway && open && c.inDocker():
		return one("DOCKER_PUBLISH")
	case p.Outcome == Refused && z == pastGateway && open:
		return one("FORWARD_WRONG_HOST", "RANGE_SHIFTED", "DOCKER_PUBLISH", "CONN_LIMIT")
	case p.Outcome == Refused && z == pastGateway && fronted:
		return one("SERVER_FW_RANGE", "FORWARD_WRONG_HOST", "DOCKER_PUBLISH", "CONN_LIMIT")
	case z == pastGateway:
		return one("SERVER_FW_RANGE", "CONN_LIMIT", "DOCKER_PUBLISH")
	}
	could := []string{"RANGE_NOT_FORWARDED", "SERVER_FW_RANGE", "CLIENT_FW_OUT_HIGH", "UPSTREAM_FW_RANGE", "UPSTREAM_FW_SOURCE"}
	if p.Outcome == Refused {
		could = []string{"SERVER_FW_RANGE", "RANGE_NOT_FORWARDED", "DOCKER_PUBLISH", "FORWARD_WRONG_HOST", "CONN_LIMIT", "CLIENT_FW_OUT_HIGH"}
	}
	if open {
		could = slices.DeleteFunc(could, func(code string) bool { return code == "SERVER_FW_RANGE" })
	}
	return some(could...)
}

var dockerNet = netip.MustParsePrefix("172.16.0.0/12")

func (c *Client) inDocker() bool {
	return c.rep.Server != nil && dockerNet.Contains(c.rep.Server.Reached.Addr())
}
