package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// parseIptables reads the output of iptables-save or ip6tables-save.
func parseIptables(text, family string) (*ruleset, error) {
	p := &iptParser{rs: &ruleset{chains: map[string]*chain{}}, family: family}
	count := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
		case line[0] == '*':
			p.table = line[1:]
			count++
		case p.table == "":
			return nil, fmt.Errorf("firewall: this is not the output of iptables-save: %.60q stands before any table", line)
		case line[0] == ':':
			p.chain(line[1:])
		default:
			p.rule(line)
		}
	}
	if count == 0 {
		return nil, errors.New("firewall: this is not the output of iptables-save: it has no table; is the command run as root, and is iptables in use at all?")
	}
	return p.rs, nil
}

type iptParser struct {
	rs     *ruleset
	family string
	table  string
}

var (
	iptHooks = map[string]string{"INPUT": "input", "OUTPUT": "output", "PREROUTING": "prerouting", "POSTROUTING": "postrouting"}
	iptPrio  = map[string]int{"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
	// passing targets do something and let the packet go on.
	passing = []string{"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "CT", "TRACE", "SET", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "AUDIT", "MASQUERADE", "SNAT", "NOTRACK", "SECMARK", "CONNSECMARK", "ECN", "TTL", "HL"}
)

func (p *iptParser) name(chain string) string { return p.table + " " + chain }

func (p *iptParser) chain(s string) {
	f := strings.Fields(s)
	if len(f) == 0 {
		return
	}
	c := &chain{name: p.name(f[0]), family: p.family, table: p.table, policy: "accept"}
	if len(f) > 1 && f[1] != "-" {
		c.hook, c.prio = iptHooks[f[0]], iptPrio[p.table]
		if f[1] == "DROP" {
			c.policy = "drop"
		}
	}
	p.rs.chains[c.name] = c
}

// fields splits a rule into words; quotes hold words together.
func fields(s string) []string {
	var out []string
	var b strings.Builder
	quoted, open := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			quoted, open = !quoted, true
		case c == ' ' && !quoted:
			if b.Len() > 0 || open {
				out = append(out, b.String())
				b.Reset()
				open = false
			}
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() > 0 || open {
		out = append(out, b.String())
	}
	return out
}

func (p *iptParser) rule(line string) {
	if line[0] == '[' { // counters of iptables-save -c
		_, line, _ = strings.Cut(line, "] ")
	}
	args := fields(line)
	if len(args) < 2 || args[0] != "-A" {
		p.rs.unknown(p.table, line)
		return
	}
	c := p.rs.chains[p.name(args[1])]
	if c == nil {
		p.rs.unknown(p.table, line)
		return
	}
	r := rule{where: fmt.Sprintf("%s, rule %d (%s)", c.name, len(c.rules)+1, line)}
	args = args[2:]
	for len(args) > 0 {
		n := p.option(&r, args)
		if n == 0 {
			p.rs.unknown(fmt.Sprintf("%s, rule %d", c.name, len(c.rules)+1), line)
			r.conds = append(r.conds, constant(maybe, dependsUnknown))
			n = 1
			for n < len(args) && !strings.HasPrefix(args[n], "-") && args[n] != "!" {
				n++
			}
		}
		args = args[n:]
	}
	c.rules = append(c.rules, r)
}

// parameters belong to a match module that has made the rule "maybe" or "no" already.
var parameters = []string{"--limit", "--limit-burst", "--hashlimit-upto", "--hashlimit-above", "--hashlimit-burst", "--hashlimit-mode", "--hashlimit-name",
	"--connlimit-above", "--connlimit-upto", "--connlimit-mask", "--seconds", "--hitcount", "--name", "--mask", "--mac-source",
	"--rt-type", "--rt-segsleft", "--rt-len", "--fragid", "--hl-eq", "--hl-lt", "--hl-gt", "--ttl-eq", "--ttl-lt", "--ttl-gt",
	"--icmp-type", "--icmpv6-type", "--quota", "--mode", "--probability", "--every", "--packet"}

// module notes what loading a match module says by itself; false means that
// it is not known.
func (p *iptParser) module(r *rule, name string) bool {
	switch name {
	case "limit", "hashlimit", "connlimit", "recent", "quota", "statistic":
		p.cond(r, false, constant(maybe, dependsRate))
	case "mac", "hl", "ttl":
		p.cond(r, false, constant(maybe, dependsClient))
	case "rt", "frag", "ah", "esp": // headers that the first packet of an FTP client does not have
		p.cond(r, false, constant(no, ""))
	case "udp", "icmp", "icmp6", "ipv6-icmp", "sctp":
		p.cond(r, false, constant(no, ""))
	case "tcp", "multiport", "conntrack", "state", "comment", "addrtype", "set", "pkttype":
	default:
		return false
	}
	return true
}

// flag reads an option that has no value.
func (p *iptParser) flag(r *rule, neg bool, name string) bool {
	switch name {
	case "--syn":
		p.cond(r, neg, constant(yes, ""))
	case "--update", "--rcheck", "--set", "--remove": // -m recent
		p.cond(r, neg, constant(maybe, dependsRate))
	case "--rttl", "--rsource", "--rdest", "--connlimit-saddr", "--connlimit-daddr", "--random", "--persistent":
	default:
		return false
	}
	return true
}

// option reads one option at the start of args and says how many words it
// took; 0 means that it is not known.
func (p *iptParser) option(r *rule, args []string) int {
	neg, n := false, 0
	if args[0] == "!" {
		neg, n, args = true, 1, args[1:]
	}
	if len(args) == 0 {
		return 0
	}
	if p.flag(r, neg, args[0]) {
		return n + 1
	}
	if len(args) < 2 {
		return 0
	}
	v := args[1]
	switch args[0] {
	case "-m", "--match":
		if !p.module(r, v) {
			return 0
		}
	case "-p", "--protocol":
		p.cond(r, neg, constant(map[bool]tri{true: yes, false: no}[slices.Contains([]string{"tcp", "6", "all", "0"}, v)], ""))
	case "--dport", "--dports", "--destination-port", "--sport", "--sports", "--source-port":
		rs, ok := iptPorts(v)
		if !ok {
			return 0
		}
		field := "dport"
		if strings.HasPrefix(args[0], "--s") {
			field = "sport"
		}
		p.cond(r, neg, portCond(field, rs))
	case "-s", "--source", "-d", "--destination":
		c := p.addr(v, args[0] == "-s" || args[0] == "--source")
		if c == nil {
			return 0
		}
		p.cond(r, neg, c)
	case "-i", "--in-interface", "-o", "--out-interface":
		p.cond(r, neg, ifaceCond(v, strings.HasPrefix(args[0], "-i") || strings.HasPrefix(args[0], "--in")))
	case "--ctstate", "--state":
		states := strings.Split(v, ",")
		if slices.Contains(states, "RELATED") && !neg {
			p.rs.related = true
		}
		p.cond(r, neg, constant(map[bool]tri{true: yes, false: no}[slices.Contains(states, "NEW")], ""))
	case "--dst-type":
		p.cond(r, neg, constant(map[bool]tri{true: yes, false: no}[slices.Contains(strings.Split(v, ","), "LOCAL")], ""))
	case "--tcp-flags":
		if len(args) < 3 {
			return 0
		}
		p.cond(r, neg, constant(firstFlags(v, args[2]), ""))
		return n + 3
	case "--match-set":
		if len(args) < 3 || args[2] != "src" {
			return 0
		}
		p.cond(r, neg, constant(maybe, dependsClient))
		return n + 3
	case "--pkt-type":
		p.cond(r, neg, constant(map[bool]tri{true: yes, false: no}[v == "unicast"], ""))
	case "--comment":
		r.comment = v
	case "-j", "--jump", "-g", "--goto":
		p.jump(r, v, args[0] == "-g" || args[0] == "--goto")
		if v == "CT" && slices.Contains(args, "--helper") {
			p.rs.helper = true
		}
		return n + len(args) // options of the target follow: they say nothing about the match
	default:
		if !slices.Contains(parameters, args[0]) {
			return 0
		}
	}
	return n + 2
}

func (p *iptParser) cond(r *rule, neg bool, c cond) {
	if neg {
		c = negate(c)
	}
	r.conds = append(r.conds, c)
}

func (p *iptParser) jump(r *rule, target string, goTo bool) {
	switch {
	case target == "ACCEPT":
		r.action = "accept"
	case target == "DROP", target == "REJECT", target == "TARPIT":
		r.action = "drop"
	case target == "RETURN":
		r.action = "return"
	case target == "DNAT", target == "REDIRECT", target == "TPROXY":
		r.action = "divert"
	case p.rs.chains[p.name(target)] != nil:
		r.action, r.target = "jump", p.name(target)
		if goTo {
			r.action = "goto"
		}
	case slices.Contains(passing, target):
	default:
		r.action = "unknown"
		p.rs.unknown(r.where, "target "+target)
	}
}

// firstFlags says whether the first packet of a connection, which has SYN
// alone, has the flags set out of those in mask.
func firstFlags(mask, set string) tri {
	if !slices.ContainsFunc(strings.Split(mask, ","), func(s string) bool { return s == "SYN" || s == "ALL" }) {
		return map[bool]tri{true: yes, false: no}[set == "NONE"]
	}
	return map[bool]tri{true: yes, false: no}[set == "SYN"]
}

// ifaceCond is a condition on the interface a packet comes in or goes out by.
func ifaceCond(name string, in bool) cond {
	return func(pk *packet) (tri, string) {
		switch {
		case name == "lo" || in == pk.out:
			return no, ""
		case name == "+":
			return yes, ""
		}
		return maybe, dependsIface
	}
}

// addr is a condition on an address list: "10.0.0.0/8" or "10.0.0.1,10.0.0.2".
func (p *iptParser) addr(v string, source bool) cond {
	var items []any
	for s := range strings.SplitSeq(v, ",") {
		pre, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil
			}
			pre = netip.PrefixFrom(a, a.BitLen())
		}
		items = append(items, map[string]any{"prefix": map[string]any{"addr": pre.Addr().String(), "len": float64(pre.Bits())}})
	}
	field := "daddr"
	if source {
		field = "saddr"
	}
	return (&nftParser{}).addrCond(field, items)
}

func iptPorts(v string) ([]ports.PortRange, bool) {
	var out []ports.PortRange
	for s := range strings.SplitSeq(v, ",") {
		a, b, two := strings.Cut(s, ":")
		if !two {
			b = a
		}
		if a == "" {
			a = "0"
		}
		if b == "" {
			b = "65535"
		}
		x, err1 := strconv.ParseUint(a, 10, 16)
		y, err2 := strconv.ParseUint(b, 10, 16)
		if err1 != nil || err2 != nil {
			return nil, false
		}
		out = append(out, ports.PortRange{First: uint16(x), Last: uint16(y)})
	}
	return out, true
}
