package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// parseNft reads the output of nft -j list ruleset.
func parseNft(text string) (*ruleset, error) {
	var doc struct {
		Nftables []map[string]json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("firewall: this is not the output of nft -j list ruleset: %w", err)
	}
	if doc.Nftables == nil {
		return nil, fmt.Errorf("firewall: this is not the output of nft -j list ruleset: it has no \"nftables\" list")
	}
	n := &nftParser{rs: &ruleset{chains: map[string]*chain{}, compat: map[string]bool{}}, sets: map[string][]any{}}
	for _, pass := range []func(string, json.RawMessage){n.declare, n.addRule} { // chains and sets first
		for _, obj := range doc.Nftables {
			for kind, raw := range obj {
				pass(kind, raw)
			}
		}
	}
	return n.rs, nil
}

type nftParser struct {
	rs      *ruleset
	sets    map[string][]any // by "family table name"
	scope   string           // "family table" of the rule being read
	where   string
	current *rule
}

func nftFamily(f string) string {
	return map[string]string{"inet": "any", "ip": "ipv4", "ip6": "ipv6"}[f]
}

func (n *nftParser) declare(kind string, raw json.RawMessage) {
	var o struct {
		Family, Table, Name, Type, Hook, Policy string
		Prio                                    int
		Elem                                    []any
	}
	if json.Unmarshal(raw, &o) != nil {
		return
	}
	switch kind {
	case "chain":
		family := nftFamily(o.Family)
		if family == "" {
			if o.Hook != "" {
				n.rs.notes = append(n.rs.notes, fmt.Sprintf("chain %s %s %s was not judged: it is not about IP connections to this machine", o.Family, o.Table, o.Name))
			}
			return
		}
		if o.Hook == "ingress" || o.Hook == "egress" {
			n.rs.notes = append(n.rs.notes, fmt.Sprintf("chain %s %s %s was not judged: it works on a device, before connections are known", o.Family, o.Table, o.Name))
		}
		c := &chain{name: o.Family + " " + o.Table + " " + o.Name, family: family, hook: o.Hook, prio: o.Prio, policy: o.Policy, table: o.Table}
		if c.policy == "" {
			c.policy = "accept"
		}
		n.rs.chains[c.name] = c
	case "set", "map":
		n.sets[o.Family+" "+o.Table+" "+o.Name] = o.Elem
	}
}

func (n *nftParser) addRule(kind string, raw json.RawMessage) {
	if kind != "rule" {
		return
	}
	var o struct {
		Family, Table, Chain, Comment string
		Handle                        int
		Expr                          []map[string]any
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		n.rs.unknown("a rule", string(raw))
		return
	}
	c := n.rs.chains[o.Family+" "+o.Table+" "+o.Chain]
	if c == nil {
		return // of a family that is not judged
	}
	n.scope = o.Family + " " + o.Table
	n.where = fmt.Sprintf("%s, handle %d", c.name, o.Handle)
	r := rule{where: n.where, comment: o.Comment}
	n.current = &r
	for _, e := range o.Expr {
		for k, v := range e {
			if k == "vmap" {
				c.rules = append(c.rules, n.vmap(r, v)...)
				continue
			}
			n.statement(&r, k, v)
		}
	}
	c.rules = append(c.rules, r)
}

// harmless statements change nothing about whether a connection is let in.
var harmless = []string{"counter", "log", "mangle", "notrack", "comment", "set", "map", "flow", "tproxy-mark", "secmark", "masquerade", "snat", "ct timeout", "ct expectation"}

func (n *nftParser) statement(r *rule, kind string, v any) {
	m, _ := v.(map[string]any)
	switch kind {
	case "match":
		r.conds = append(r.conds, n.match(m))
		if left, _ := m["left"].(map[string]any); left != nil {
			if ct, _ := left["ct"].(map[string]any); ct != nil && ct["key"] == "state" && slices.Contains(words(m["right"]), "related") {
				n.rs.related = true
			}
		}
	case "accept", "return":
		r.action = kind
	case "drop", "reject":
		r.action = "drop"
	case "jump", "goto":
		r.action, r.target = kind, n.scope+" "+fmt.Sprint(m["target"])
	case "dnat", "redirect", "tproxy":
		r.action = "divert"
	case "limit", "ct count", "quota", "meter":
		r.conds = append(r.conds, constant(maybe, dependsRate))
	case "ct helper":
		n.rs.helper = true
	case "queue", "xt":
		if kind == "xt" { // made by iptables: iptables-save shows what it means
			n.rs.compat[n.scope] = true
		}
		n.unknown(r, kind, v)
		if kind == "queue" {
			r.action = "unknown"
		}
	default:
		if !slices.Contains(harmless, kind) {
			n.unknown(r, kind, v)
		}
	}
}

func (n *nftParser) unknown(r *rule, kind string, v any) {
	b, _ := json.Marshal(map[string]any{kind: v})
	n.rs.unknown(n.where, string(b))
	r.conds = append(r.conds, constant(maybe, dependsUnknown))
}

func constant(t tri, why string) cond {
	return func(*packet) (tri, string) { return t, why }
}

// match makes a condition of {"op", "left", "right"}.
func (n *nftParser) match(m map[string]any) cond {
	op, _ := m["op"].(string)
	c := n.compare(m["left"], m["right"])
	if c == nil || !slices.Contains([]string{"==", "!=", "in", "<", ">", "<=", ">="}, op) {
		b, _ := json.Marshal(m)
		n.rs.unknown(n.where, string(b))
		return constant(maybe, dependsUnknown)
	}
	switch op {
	case "!=":
		return negate(c)
	case "<", ">", "<=", ">=":
		return n.order(op, m)
	}
	return c
}

// negate turns a condition round. A condition on another protocol's header
// stays false: nftables checks the protocol first.
func negate(c cond) cond {
	return func(pk *packet) (tri, string) {
		t, why := c(pk)
		if why == otherProtocol {
			return no, why
		}
		return t.not(), why
	}
}

const otherProtocol = "another protocol"

func (n *nftParser) order(op string, m map[string]any) cond {
	v, ok := m["right"].(float64)
	if !ok || v < 0 || v > 65535 {
		return n.notUnderstood(m)
	}
	r := map[string]ports.PortRange{"<": {First: 0, Last: uint16(max(v-1, 0))}, "<=": {First: 0, Last: uint16(v)},
		">": {First: uint16(min(v+1, 65535)), Last: 65535}, ">=": {First: uint16(v), Last: 65535}}[op]
	left, _ := m["left"].(map[string]any)
	p, _ := left["payload"].(map[string]any)
	if p == nil || p["protocol"] != "tcp" && p["protocol"] != "th" {
		return n.notUnderstood(m)
	}
	return portCond(fmt.Sprint(p["field"]), []ports.PortRange{r})
}

func (n *nftParser) notUnderstood(m map[string]any) cond {
	b, _ := json.Marshal(m)
	n.rs.unknown(n.where, string(b))
	return constant(maybe, dependsUnknown)
}

func (n *nftParser) compare(left, right any) cond {
	l, _ := left.(map[string]any)
	for kind, v := range l {
		m, _ := v.(map[string]any)
		switch kind {
		case "payload":
			return n.payload(m, right)
		case "meta":
			return n.meta(fmt.Sprint(m["key"]), right)
		case "ct":
			return n.ct(fmt.Sprint(m["key"]), right)
		case "fib":
			if m["result"] == "type" {
				return constant(map[bool]tri{true: yes, false: no}[slices.Contains(words(right), "local")], "")
			}
		case "&":
			return tcpFlags(v, right)
		}
	}
	return nil
}

func (n *nftParser) payload(m map[string]any, right any) cond {
	proto, field := fmt.Sprint(m["protocol"]), fmt.Sprint(m["field"])
	switch proto {
	case "tcp", "th":
		switch field {
		case "dport", "sport":
			if rs, ok := n.portSet(right); ok {
				return portCond(field, rs)
			}
		case "flags":
			return constant(map[bool]tri{true: yes, false: no}[slices.Contains(words(right), "syn")], "")
		}
		return nil
	case "udp", "icmp", "icmpv6", "sctp", "dccp", "udplite", "esp", "ah", "igmp", "arp", "vlan":
		return constant(no, otherProtocol)
	case "ip", "ip6":
		v6 := proto == "ip6"
		var c cond
		switch field {
		case "saddr", "daddr":
			c = n.addrCond(field, right)
		case "protocol", "nexthdr":
			c = constant(isTCP(right), "")
		default:
			return nil
		}
		return func(pk *packet) (tri, string) {
			if pk.v6 != v6 {
				return no, otherProtocol
			}
			return c(pk)
		}
	case "ether":
		return constant(maybe, dependsClient)
	}
	return nil
}

// addrCond knows our side of a connection, if the plan names an address, and
// never the client's.
func (n *nftParser) addrCond(field string, right any) cond {
	nets, ok := n.addrSet(right)
	return func(pk *packet) (tri, string) {
		ours := (field == "daddr") != pk.out
		if ours && pk.local.IsValid() && ok {
			return map[bool]tri{true: yes, false: no}[slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(pk.local) })], ""
		}
		if ok && slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			return yes, ""
		}
		if ok && !ours && len(nets) > 0 && !slices.ContainsFunc(nets, outside) {
			return no, "" // loopback and the like: no client outside has such an address
		}
		if ours {
			return maybe, dependsIface
		}
		return maybe, dependsClient
	}
}

// outside reports whether clients can have an address in p.
func outside(p netip.Prefix) bool {
	a := p.Addr()
	return !a.IsLoopback() && !a.IsMulticast()
}

func isTCP(right any) tri {
	for _, w := range words(right) {
		if w == "tcp" || w == "6" {
			return yes
		}
	}
	return no
}

func (n *nftParser) meta(key string, right any) cond {
	switch key {
	case "l4proto":
		return constant(isTCP(right), "")
	case "nfproto", "protocol":
		ws := words(right)
		return func(pk *packet) (tri, string) {
			names := []string{"ipv4", "ip", "2", "8"}
			if pk.v6 {
				names = []string{"ipv6", "ip6", "10"}
			}
			return map[bool]tri{true: yes, false: no}[slices.ContainsFunc(ws, func(w string) bool { return slices.Contains(names, w) })], ""
		}
	case "iifname", "iif", "oifname", "oif":
		in := strings.HasPrefix(key, "iif")
		ws := words(n.resolve(right))
		return func(pk *packet) (tri, string) {
			switch {
			case in == pk.out:
				return no, "" // a packet on its way in has no outgoing interface
			case len(ws) > 0 && !slices.ContainsFunc(ws, func(w string) bool { return w != "lo" }):
				return no, ""
			}
			return maybe, dependsIface
		}
	case "pkttype":
		return constant(map[bool]tri{true: yes, false: no}[slices.ContainsFunc(words(right), func(w string) bool { return w == "host" || w == "unicast" })], "")
	}
	return nil
}

func (n *nftParser) ct(key string, right any) cond {
	switch key {
	case "state":
		return constant(map[bool]tri{true: yes, false: no}[slices.Contains(words(right), "new")], "")
	case "direction":
		return constant(map[bool]tri{true: yes, false: no}[slices.Contains(words(right), "original")], "")
	case "status", "helper":
		return constant(no, "") // nothing was translated or expected yet
	}
	return nil
}

// tcpFlags judges tcp flags & MASK == VALUE for a first packet, which has SYN alone.
func tcpFlags(and, right any) cond {
	parts, _ := and.([]any)
	if len(parts) != 2 {
		return nil
	}
	p, _ := parts[0].(map[string]any)
	payload, _ := p["payload"].(map[string]any)
	if payload == nil || payload["field"] != "flags" {
		return nil
	}
	mask, want := words(parts[1]), words(right)
	if len(mask) == 0 {
		return nil
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "0" || s == "0x0" })
	if slices.Contains(mask, "syn") {
		return constant(map[bool]tri{true: yes, false: no}[len(want) == 1 && want[0] == "syn"], "")
	}
	return constant(map[bool]tri{true: yes, false: no}[len(want) == 0], "")
}

// portCond is a condition on a TCP port.
func portCond(field string, rs []ports.PortRange) cond {
	return func(pk *packet) (tri, string) {
		p := pk.dport
		if field == "sport" {
			p = pk.sport
		}
		if p != 0 {
			return map[bool]tri{true: yes, false: no}[slices.ContainsFunc(rs, func(r ports.PortRange) bool { return r.Contains(p) })], ""
		}
		all := ports.PortRange{First: 1024, Last: 65535} // what clients use
		for _, r := range rs {
			if r.First <= all.First && r.Last == all.Last {
				return yes, ""
			}
		}
		if !slices.ContainsFunc(rs, func(r ports.PortRange) bool { return r.Last >= all.First }) {
			return no, ""
		}
		return maybe, "the client's port"
	}
}

// vmap makes one rule of each entry of a verdict map.
func (n *nftParser) vmap(r rule, v any) []rule {
	m, _ := v.(map[string]any)
	data := n.resolve(m["data"])
	entries, ok := data.([]any)
	if set, is := data.(map[string]any); is {
		entries, ok = set["set"].([]any)
	}
	var out []rule
	for _, e := range entries {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			ok = false
			break
		}
		x := r
		x.conds = append(slices.Clone(r.conds), n.match(map[string]any{"op": "==", "left": m["key"], "right": pair[0]}))
		action, _ := pair[1].(map[string]any)
		for k, t := range action {
			n.statement(&x, k, t)
		}
		out = append(out, x)
	}
	if !ok {
		n.unknown(&r, "vmap", v)
		r.action = "unknown"
		return []rule{r}
	}
	return out
}
