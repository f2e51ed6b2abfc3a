package ports

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// enough is how often something must have happened before it is called a pattern.
const enough = 3

// tally sums one network's cells.
type tally struct {
	ok, unreached, refused, silent, misdirected uint64
}

func (t *tally) add(c *Cell) {
	t.ok += c.OK
	t.unreached += c.Outcomes["PR-D01"] + c.Outcomes["PR-D10"]
	t.refused += c.Outcomes["PR-D05"]
	t.silent += c.Outcomes["PR-D06"] + c.Outcomes["PR-D07"]
	t.misdirected += c.Outcomes["PR-D11"]
}

// works and fails are clear cases; anything else is not.
func (t *tally) works() bool { return t.ok > 0 && t.unreached <= t.ok/4 }
func (t *tally) fails() bool { return t.ok == 0 && t.unreached >= enough }

// network is what the matrix says about one client network.
type network struct {
	prefix                           netip.Prefix
	pasv, epsv                       tally
	plainPassive, tlsPassive, active tally
	plainActive, tlsActive           tally
}

func networks(m *Matrix) []network {
	var out []network
	for i := range m.Cells {
		c := &m.Cells[i]
		j := slices.IndexFunc(out, func(n network) bool { return n.prefix == c.Network })
		if j < 0 {
			out, j = append(out, network{prefix: c.Network}), len(out)
		}
		n := &out[j]
		passive, active := &n.plainPassive, &n.plainActive
		if c.TLS {
			passive, active = &n.tlsPassive, &n.tlsActive
		}
		switch c.Mode {
		case "PASV":
			n.pasv.add(c)
			passive.add(c)
		case "EPSV":
			n.epsv.add(c)
			passive.add(c)
		default:
			n.active.add(c)
			active.add(c)
		}
	}
	return out
}

// judge says what the counts mean. Codes and cures are the doctor's. Where the
// server alone cannot tell a cause it says so.
func judge(m *Matrix, odd []Attempt) []Check {
	c := &checker{}
	ns := networks(m)
	all, blocked, fine, helped := tally{}, []string{}, 0, []string{}
	for i := range ns {
		n := &ns[i]
		p := tally{ok: n.pasv.ok + n.epsv.ok, unreached: n.pasv.unreached + n.epsv.unreached}
		all.ok += p.ok
		all.unreached += p.unreached
		judgeNetwork(c, n, &helped)
		switch {
		case p.works():
			fine++
		case p.fails():
			blocked = append(blocked, n.prefix.String())
		}
	}
	switch {
	case len(blocked) > 0 && fine > 0:
		c.add("CLIENT_FW_OUT_HIGH", Warning, "passive ports", fmt.Sprintf("clients of %s never reach a passive port, and clients of %d other networks do: the firewall on their side, or a filter for their network, blocks it", strings.Join(blocked, ", "), fine),
			"give their network team the page that \"portreeve ports plan --client\" prints; \"portreeve doctor ftp://...\" on such a client confirms it")
	case len(blocked) > 0 && all.ok == 0:
		c.add("RANGE_UNREACHED", Error, "passive ports", fmt.Sprintf("no passive port was ever reached (%d tries from %s): this machine's firewall, the router's port forward, a filter of the provider, or the clients' own firewalls", all.unreached, strings.Join(blocked, ", ")),
			"\"portreeve doctor\" here checks this machine; \"portreeve doctor ftp://...\" on a client tells which of the others it is")
	}
	judgePorts(c, m, &all)
	if len(helped) > 0 {
		who := "SERVER_ALG_BLIND_TLS"
		side := "an FTP helper on this side"
		if len(helped) == 1 && len(ns) > 1 {
			side = "an FTP helper on this side or theirs"
		}
		c.add(who, Warning, "passive ports", fmt.Sprintf("for clients of %s passive data connections work in the clear and never with TLS: %s opens the ports by reading the replies, which TLS hides from it", strings.Join(helped, ", "), side),
			"open the passive range with a rule of its own: portreeve ports open --for TARGET; and forward it on the router")
	}
	judgeOdd(c, odd)
	return c.out
}

func judgeNetwork(c *checker, n *network, helped *[]string) {
	who := "clients of " + n.prefix.String()
	if n.plainPassive.works() && n.tlsPassive.fails() {
		*helped = append(*helped, n.prefix.String())
	}
	if n.epsv.works() && n.pasv.fails() {
		c.add("PASV_ADDR_STALE", Warning, who, "EPSV works and PASV does not, on the same ports: the address that PASV announces is not reachable for them", "portreeve explain pasv --from ADDRESS shows what they are told and why; correct ftp.passive.address or add an [[ftp.passive.rule]]")
	}
	if n.pasv.works() && n.epsv.fails() {
		c.add("MBOX_EXT", Warning, who, "PASV works and EPSV does not, on the same ports: a firewall or router between knows PASV only", "switch FTP inspection off there, use TLS, or set the client to PASV")
	}
	if n.plainActive.works() && n.tlsActive.ok == 0 && n.tlsActive.misdirected >= enough {
		c.add("CLIENT_ALG_BLIND_TLS", Warning, who, "active mode works in the clear and not with TLS: their router corrects the address in PORT, which TLS hides from it", "use passive mode with TLS")
	} else if n.active.ok == 0 && n.active.misdirected >= enough {
		c.add("CLIENT_NAT_ACTIVE", Note, who, "their PORT and EPRT name an address inside their own network, so active mode cannot work", "use passive mode")
	}
	if n.active.ok == 0 && n.active.silent >= enough {
		c.add("ACTIVE_BLOCKED", Note, who, "active data connections get no answer: a firewall on their side, or one on the way out from here", "use passive mode; portreeve ports verify checks this machine's own output rules")
	}
}

// judgePorts finds single ports that are dead while others work.
func judgePorts(c *checker, m *Matrix, all *tally) {
	if all.ok < 2*all.unreached || all.ok == 0 {
		return
	}
	var dead []PortRange
	for _, p := range m.Ports {
		if p.OK == 0 && p.Unreached >= 2 && (p.Networks > 1 || p.Unreached >= enough) {
			dead = append(dead, PortRange{p.Port, p.Port})
		}
	}
	if len(dead) > 0 {
		c.add("RANGE_PARTIAL", Warning, "passive ports", "nobody ever reached port "+JoinRanges(MergeRanges(dead), "-", ", ")+" while others of the range work",
			"compare the range in the router's and the firewalls' rules with ftp.passive.ports: they must be equal; or leave these ports out of the range")
	}
}

func judgeOdd(c *checker, odd []Attempt) {
	strangers := 0
	var example Attempt
	for _, a := range odd {
		if a.Code == "PR-D02" {
			strangers++
			example = a
		}
	}
	if strangers >= enough {
		c.add("SOURCE_MISMATCH", Warning, "passive ports", fmt.Sprintf("%d data connections came from another address than their control connection, last %s for a client at %s: a balancer, a proxy, or a NAT with several addresses", strangers, example.Stranger.Addr(), example.Control.Addr()),
			"if it is your balancer, let it send PROXY headers and route the passive range to this machine, unchanged; if it is the client's, TLS with session reuse")
	}
}
