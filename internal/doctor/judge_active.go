package doctor

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// judgeActive explains PORT and EPRT. Passive mode is what clients should use,
// so nothing here is worse than a warning.
func (c *Client) judgeActive() []Finding {
	family := "ipv4" // IPv6 says no more where both are there
	if len(c.all(func(p *Probe) bool { return p.Family == family && p.Mode != "" })) == 0 {
		family = "ipv6"
	}
	active := c.all(func(p *Probe) bool {
		return (p.Mode == "PORT" || p.Mode == "EPRT") && p.Family == family && (p.Stage == AtSetup || p.Stage == AtData || p.Stage == AtTransfer || p.Stage == AtEnd)
	})
	if len(active) == 0 {
		return nil
	}
	state := func(sec Security) (t tri, bad *Probe) {
		for _, p := range active {
			switch {
			case p.Security != sec:
			case p.Outcome == OK:
				t = works
			case family == "ipv4" && p.Mode == "EPRT" && p.Outcome != Rejected && p.Stage == AtSetup, family == "ipv4" && p.Mode == "EPRT" && extension(p):
				// a box or server without EPRT: PORT says more
			default:
				if t == untried {
					t = fails
				}
				if bad == nil {
					bad = p
				}
			}
		}
		return t, bad
	}
	plain, badPlain := state(Plain)
	secure, badSecure := state(Explicit)
	switch {
	case plain == works && secure == fails:
		f := finding("CLIENT_ALG_BLIND_TLS", Warning, c.fill(), "active mode works in the clear and not with TLS (%s): the client's router corrects the address in PORT or opens the port, which TLS hides from it", short(badSecure))
		if why, yes := c.local.blocks(false, family == "ipv6", badSecure.Announced.Port()); yes {
			f = finding("CLIENT_FW_IN", Warning, c.fill(), "this computer's own firewall stops the server's connection: %s; in the clear a helper lets it in", why)
		} else if badSecure.Outcome != Rejected || badSecure.Stage != AtSetup {
			f.Could = []string{"CLIENT_ALG_BLIND_TLS", "SERVER_ALG_BLIND_TLS"}
		}
		return []Finding{f}
	case badPlain != nil && plain != works:
		return []Finding{c.activeFailed(badPlain)}
	case badSecure != nil && secure != works:
		return []Finding{c.activeFailed(badSecure)}
	}
	return nil
}

// extension reports that the server just does not know the command.
func extension(p *Probe) bool {
	return p.Stage == AtSetup && (p.Reply == 500 || p.Reply == 502) && strings.Contains(strings.ToLower(p.Text), "not")
}

func short(p *Probe) string {
	if p.Reply != 0 {
		return strings.TrimSpace(strings.Join([]string{string(p.Outcome), p.Text}, " "))
	}
	return string(p.Outcome)
}

var ipv4Text = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)

func (c *Client) activeFailed(p *Probe) Finding {
	if p.Stage == AtSetup && p.Outcome == Rejected && !(p.Reply == 425) {
		return c.activeRefused(p)
	}
	switch {
	case c.sees("active-data") == "closed":
		return finding("SERVER_FW_OUT", Warning, c.fill(), "the server cannot connect to %s (%s), and says that its own firewall stops it", p.Announced, short(p))
	}
	if why, yes := c.local.blocks(false, p.Family == "ipv6", p.Announced.Port()); yes {
		return finding("CLIENT_FW_IN", Warning, c.fill(), "the server's connection to %s does not arrive: this computer's own firewall stops it: %s", p.Announced, why)
	}
	if c.behindNAT(p.Peer.Addr()) && !isPrivate(p.Peer.Addr()) {
		return finding("CLIENT_NAT_ACTIVE", Warning, c.fill(), "the server is told to connect to %s, an address of this client's own network, and does not arrive", p.Announced)
	}
	f := finding("ACTIVE_BLOCKED", Warning, c.fill(), "the server's connection to %s does not come about: %s", p.Announced, short(p))
	f.Could = []string{"CLIENT_FW_IN", "SERVER_FW_OUT", "UPSTREAM_FW_OUT", "ACTIVE_SRC_PORT"}
	if c.sees("active-data") == "open" {
		f.Could = []string{"CLIENT_FW_IN", "UPSTREAM_FW_OUT", "ACTIVE_SRC_PORT"}
	}
	return f
}

// inside reports that we, the server and the address it sees of us are in one
// private network. Masks are not known; a /24 is what such networks are.
func (c *Client) inside(own, from netip.Addr) bool {
	if c.rep.Server == nil || !own.Is4() || !isPrivate(own) {
		return false
	}
	net, err := own.Prefix(24)
	return err == nil && net.Contains(from) && net.Contains(c.rep.Server.Reached.Addr())
}

// activeRefused explains a PORT that is refused for its address: somebody
// between changed what the server sees of us.
func (c *Client) activeRefused(p *Probe) Finding {
	own, peer := p.Local.Addr(), p.Peer.Addr()
	var from netip.Addr
	if c.rep.Server != nil {
		from = c.rep.Server.From.Addr()
		if !c.rep.Server.Active {
			return finding("ACTIVE_OFF", Note, c.fill(), "%s is answered \"%d %s\"", p.Mode, p.Reply, p.Text)
		}
	}
	if !from.IsValid() {
		for _, s := range ipv4Text.FindAllString(p.Text, -1) {
			if a, err := netip.ParseAddr(s); err == nil && a != own {
				from = a
			}
		}
	}
	seen := ""
	if from.IsValid() {
		seen = ", and to the server this client is " + from.String()
	}
	if nat64.Contains(peer) {
		return finding("NAT64", Warning, c.fill(), "the server is reached over IPv4 through %s and cannot connect to %s, an IPv6 address: \"%d %s\"", peer, own, p.Reply, p.Text)
	}
	if from.IsValid() && from != own && c.inside(own, from) {
		inner := c.rep.Server.Reached.Addr()
		f := finding("HAIRPIN", Warning, c.fill(), "this client and the server (%s) are in one network, but connect by the router's public address, so that the server sees the router (%s) and refuses to connect to %s", inner, from, own)
		f.Box, f.Fix = "client", fmt.Sprintf("connect to %s from inside, or let the name resolve to it there; passive mode works either way", inner)
		return f
	}
	nat := finding("CLIENT_NAT_ACTIVE", Warning, c.fill(), "%s names %s, this client's own address%s; the server answers \"%d %s\"", p.Mode, own, seen, p.Reply, p.Text)
	switch {
	case from.IsValid() && isPrivate(from) && !isPrivate(peer):
		code := "LB_HIDES_CLIENT"
		if dockerNet.Contains(from) {
			code = "DOCKER_HIDES_CLIENT"
		}
		f := finding(code, Warning, c.fill(), "the server sees this client as %s, an address of its own side, so it refuses to connect to %s", from, own)
		f.Could = []string{code, map[string]string{"LB_HIDES_CLIENT": "DOCKER_HIDES_CLIENT", "DOCKER_HIDES_CLIENT": "LB_HIDES_CLIENT"}[code]}
		return f
	case from.IsValid() && from != own, isPrivate(own) && !isPrivate(peer):
		return nat
	case from == own, strings.Contains(strings.ToLower(p.Text), "off"), p.Reply == 502, p.Reply == 500 && !strings.Contains(strings.ToLower(p.Text), "illegal"):
		return finding("ACTIVE_OFF", Note, c.fill(), "%s is answered \"%d %s\"", p.Mode, p.Reply, p.Text)
	}
	nat.Could = []string{"CLIENT_NAT_ACTIVE", "LB_HIDES_CLIENT", "DOCKER_HIDES_CLIENT", "ACTIVE_OFF"}
	return nat
}
