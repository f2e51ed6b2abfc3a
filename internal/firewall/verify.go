package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// Status is what a rule set does with new connections to a port.
type Status string

// The statuses.
const (
	Open    Status = "open"
	Closed  Status = "closed"
	Limited Status = "limited" // only some clients or interfaces get through
	Unclear Status = "unclear" // it depends on rules that were not understood
)

// Drift is a difference between the plan and the rules of this machine.
type Drift struct {
	Code     string          `json:"code"` // as the doctor's: SERVER_FW_RANGE, SERVER_FW_OUT, SERVER_ALG_BLIND_TLS, FW_EXTRA, FW_UNCLEAR
	Status   Status          `json:"status"`
	Family   string          `json:"family"` // "ipv4" or "ipv6"
	Purpose  ports.Purpose   `json:"purpose,omitempty"`
	Ports    ports.PortRange `json:"ports"`
	Listener []string        `json:"listeners,omitempty"`
	Reason   string          `json:"reason"` // names the rule
	Cure     string          `json:"cure"`
}

// Report is the outcome of a comparison.
type Report struct {
	Drift    []Drift  `json:"drift"`
	Unparsed []string `json:"unparsed,omitempty"` // rules that were not understood, as they are written
	Notes    []string `json:"notes,omitempty"`    // rules that shut out some clients, and the like
	Rules    int      `json:"rules"`              // how many rules were read
}

// Clean reports whether nothing differs from the plan. A clean report of
// VerifyAll can still have a rule set in Unparsed that could not be read.
func (r *Report) Clean() bool { return len(r.Drift) == 0 }

// Rule set formats for Verify.
const (
	FormatNftables  = "nftables"  // output of nft -j list ruleset
	FormatIptables  = "iptables"  // output of iptables-save
	FormatIp6tables = "ip6tables" // output of ip6tables-save
)

// Verify compares the rules of this machine, given as text, with the plan. It
// follows a new connection from outside through the rules. What it does not
// understand is reported and makes the ports concerned Unclear: it never
// guesses. The error says that the text as a whole could not be read.
//
// iptables rules hold for IPv4 only and ip6tables rules for IPv6; nftables has
// both. All three may be in use at once: then each must be verified.
func Verify(format, text string, plan ports.Plan) (Report, error) {
	rs, err := parse(format, text)
	if err != nil {
		return Report{}, err
	}
	v := &verifier{rs: rs, plan: &plan, format: format}
	return v.run(), nil
}

func parse(format, text string) (*ruleset, error) {
	switch format {
	case FormatNftables:
		return parseNft(text)
	case FormatIptables:
		return parseIptables(text, "ipv4")
	case FormatIp6tables:
		return parseIptables(text, "ipv6")
	}
	return nil, fmt.Errorf("firewall: unknown rule set format %q; there are %s, %s and %s", format, FormatNftables, FormatIptables, FormatIp6tables)
}

// VerifyAll compares everything that ReadLocal has read with the plan. A set
// that could not be read, or not be understood as a whole, is among Unparsed.
// Tables that iptables keeps in nftables are judged by the output of
// iptables-save where there is one, as nft cannot show all of their rules.
func VerifyAll(sets []RuleSet, plan ports.Plan) Report {
	var all Report
	have := map[string]bool{}
	for _, s := range sets {
		have[s.Format] = have[s.Format] || s.Err == nil && strings.Contains(s.Text, "*")
	}
	for _, s := range sets {
		rs, err := (*ruleset)(nil), s.Err
		if err == nil {
			rs, err = parse(s.Format, s.Text)
		}
		if err != nil {
			all.Unparsed = append(all.Unparsed, err.Error())
			continue
		}
		for table := range rs.compat {
			if strings.HasPrefix(table, "ip ") && have[FormatIptables] || strings.HasPrefix(table, "ip6 ") && have[FormatIp6tables] {
				rs.without(table)
			}
		}
		r := (&verifier{rs: rs, plan: &plan, format: s.Format}).run()
		all.Drift = append(all.Drift, r.Drift...)
		all.Unparsed = append(all.Unparsed, r.Unparsed...)
		all.Notes = append(all.Notes, r.Notes...)
		all.Rules += r.Rules
	}
	return all
}

// tri is the outcome of a match for a packet of which not everything is known.
type tri uint8

const (
	no tri = iota
	maybe
	yes
)

func (t tri) not() tri { return yes - t }

// packet is the first packet of a connection, as far as it is known: it comes
// from or goes to some client outside.
type packet struct {
	out          bool
	v6           bool
	local        netip.Addr // our side; zero: any of our addresses
	sport, dport uint16     // 0: any
}

// why a match is maybe.
const (
	dependsClient  = "the client's address"
	dependsIface   = "the interface"
	dependsRate    = "a rate or connection limit"
	dependsUnknown = "something not understood"
)

// cond is one condition of a rule. why counts when the outcome is maybe.
type cond func(*packet) (t tri, why string)

// rule is a rule of either kind of firewall.
type rule struct {
	where   string // for people: table, chain and number
	conds   []cond
	action  string // "accept", "drop", "return", "jump", "goto", "divert", "unknown" or "" for none
	target  string // of jump and goto
	comment string
}

type chain struct {
	name   string // unique, with table and family
	family string // "ipv4", "ipv6", "any"
	hook   string // "input", "output", "prerouting"; "" for others
	prio   int
	policy string
	rules  []rule
	table  string
}

type ruleset struct {
	chains   map[string]*chain
	unparsed []string
	notes    []string
	helper   bool            // an FTP helper is assigned to connections
	related  bool            // a rule accepts related connections
	compat   map[string]bool // nftables: "family table" that iptables has made
}

// without drops a table, which another rule set shows better.
func (rs *ruleset) without(table string) {
	for name := range rs.chains {
		if strings.HasPrefix(name, table+" ") {
			delete(rs.chains, name)
		}
	}
	rs.unparsed = slices.DeleteFunc(rs.unparsed, func(s string) bool { return strings.HasPrefix(s, table+" ") })
}

func (rs *ruleset) unknown(where, text string) {
	rs.unparsed = append(rs.unparsed, where+": "+text)
}

// bases returns the chains of a hook in the order in which they see a packet.
func (rs *ruleset) bases(v6 bool, hooks ...string) []*chain {
	family := "ipv4"
	if v6 {
		family = "ipv6"
	}
	var out []*chain
	for _, h := range hooks {
		var part []*chain
		for _, c := range rs.chains {
			if c.hook == h && (c.family == "any" || c.family == family) {
				part = append(part, c)
			}
		}
		slices.SortFunc(part, func(a, b *chain) int { return cmp.Or(cmp.Compare(a.prio, b.prio), cmp.Compare(a.name, b.name)) })
		out = append(out, part...)
	}
	return out
}

// walk is the way of one packet through one hook.
type walk struct {
	rs      *ruleset
	pk      *packet
	accepts []hit // rules that may accept
	drops   []hit // rules that may drop
	steps   *int  // rules looked at so far; chains that call each other could go on for ever
}

// maxSteps is far beyond any real rule set and keeps one packet under a second.
const maxSteps = 1 << 18

type hit struct{ where, why string }

// follow walks a chain. sure is false when it is not certain that the packet
// gets there. It returns a final verdict with the rule's place, or "".
func (w *walk) follow(c *chain, sure bool, depth int) (verdict, where string) {
	if depth > 32 {
		w.unknown(c.name)
		return "", ""
	}
	reason := ""
	for i := range c.rules {
		r := &c.rules[i]
		if *w.steps++; *w.steps > maxSteps {
			w.unknown(c.name)
			return "", ""
		}
		t, why := r.match(w.pk)
		if t == no || r.action == "" {
			continue
		}
		certain := sure && t == yes && reason == ""
		if why == "" {
			why = reason
		}
		switch r.action {
		case "accept", "drop", "divert":
			if certain {
				return r.action, r.where
			}
			if r.action == "accept" {
				w.accepts = addHit(w.accepts, hit{r.where, why})
			} else {
				w.drops = addHit(w.drops, hit{r.where, why})
			}
		case "unknown":
			w.unknown(r.where)
		case "return":
			if t == yes && reason == "" {
				return "", ""
			}
			reason = cmp.Or(why, dependsUnknown) // the rest of this chain is reached by some only
		case "jump", "goto":
			next := w.rs.chains[r.target]
			if next == nil {
				w.unknown(r.where)
				continue
			}
			sub := &walk{rs: w.rs, pk: w.pk, steps: w.steps}
			v, at := sub.follow(next, certain, depth+1)
			w.merge(sub, certain, why)
			if certain && v != "" {
				return v, at
			}
			if r.action == "goto" {
				if certain {
					return "", ""
				}
				reason = cmp.Or(why, dependsUnknown)
			}
		}
	}
	return "", ""
}

// unknown notes a place that may do anything.
func (w *walk) unknown(where string) {
	h := hit{where, dependsUnknown}
	w.accepts, w.drops = addHit(w.accepts, h), addHit(w.drops, h)
}

// addHit leaves out repetitions: a rule may be reached on many ways.
func addHit(hs []hit, h hit) []hit {
	if slices.Contains(hs[max(0, len(hs)-8):], h) {
		return hs
	}
	return append(hs, h)
}

// merge takes over what a called chain may do; behind an uncertain jump the
// reason is that of the jump where the rule itself has none.
func (w *walk) merge(sub *walk, certain bool, why string) {
	add := func(to, from []hit) []hit {
		for _, h := range from {
			if !certain && h.why == "" {
				h.why = cmp.Or(why, dependsUnknown)
			}
			to = addHit(to, h)
		}
		return to
	}
	w.accepts, w.drops = add(w.accepts, sub.accepts), add(w.drops, sub.drops)
}

func (r *rule) match(pk *packet) (tri, string) {
	t, reason := yes, ""
	for _, c := range r.conds {
		m, why := c(pk)
		if m == no {
			return no, ""
		}
		if m == maybe {
			t = maybe
			if reason == "" || why == dependsUnknown {
				reason = why
			}
		}
	}
	return t, reason
}

// verdict is what all chains of the hooks make of a packet.
type verdict struct {
	status Status
	reason string
	notes  []string
}

func (rs *ruleset) judge(pk *packet) verdict {
	hooks := []string{"prerouting", "input"}
	if pk.out {
		hooks = []string{"output", "postrouting"}
	}
	final := verdict{status: Open}
	worse := func(s Status, reason string) {
		rank := map[Status]int{Open: 0, Limited: 1, Unclear: 2, Closed: 3}
		if rank[s] > rank[final.status] {
			final.status, final.reason = s, reason
		}
	}
	steps := 0
	for _, c := range rs.bases(pk.v6, hooks...) {
		w := &walk{rs: rs, pk: pk, steps: &steps}
		v, at := w.follow(c, true, 0)
		if v == "" {
			v, at = c.policy, "the policy of "+c.name
		}
		if v == "accept" {
			for _, h := range w.drops {
				switch h.why {
				case dependsUnknown:
					worse(Unclear, h.where+" may refuse it: that rule was not understood")
				case dependsIface:
					worse(Limited, h.where+" refuses it or sends it elsewhere on some interfaces")
				default:
					final.notes = append(final.notes, h.where+" refuses some connections, depending on "+h.why)
				}
			}
			continue
		}
		limited := ""
		for _, h := range w.accepts {
			if h.why == dependsUnknown {
				worse(Unclear, h.where+" may accept it, that rule was not understood; else "+at+" refuses it")
				limited = "-"
				break
			}
			limited = fmt.Sprintf("%s accepts it depending on %s; all others are refused by %s", h.where, h.why, at)
		}
		switch {
		case v == "divert":
			worse(Closed, at+" sends it elsewhere")
		case limited == "":
			worse(Closed, "refused by "+at)
		case limited != "-":
			worse(Limited, limited)
		}
	}
	return final
}

type verifier struct {
	rs     *ruleset
	plan   *ports.Plan
	format string
	report Report
}

func (v *verifier) run() Report {
	v.report.Unparsed = slices.Compact(slices.Sorted(slices.Values(v.rs.unparsed)))
	v.report.Notes = append(v.report.Notes, v.rs.notes...)
	for _, c := range v.rs.chains {
		v.report.Rules += len(c.rules)
	}
	for i := range v.plan.Flows {
		f := &v.plan.Flows[i]
		if f.Local() || f.Protocol != "tcp" {
			continue
		}
		for _, v6 := range []bool{false, true} {
			if v.wanted(f, v6) {
				v.flow(f, v6)
			}
		}
	}
	v.extra()
	v.report.Notes = slices.Compact(slices.Sorted(slices.Values(v.report.Notes)))
	return v.report
}

// wanted reports whether a flow exists in a family that these rules judge.
func (v *verifier) wanted(f *ports.Flow, v6 bool) bool {
	family := map[bool]string{false: "ipv4", true: "ipv6"}[v6]
	if f.Family != "any" && f.Family != family || v.format == FormatIptables && v6 || v.format == FormatIp6tables && !v6 {
		return false
	}
	return len(v.plan.Host.Addresses) == 0 || slices.ContainsFunc(v.plan.Host.Addresses, func(a netip.Addr) bool { return a.Is6() == v6 })
}

// flow judges every port of a flow and reports runs of ports with one outcome.
func (v *verifier) flow(f *ports.Flow, v6 bool) {
	var run ports.PortRange
	var now verdict
	flush := func() {
		if run.First != 0 && now.status != Open {
			v.report.Drift = append(v.report.Drift, v.drift(f, v6, run, now))
		}
	}
	r := f.Internal.Ports
	if f.Direction == ports.Out && r.Len() > 1024 {
		r.Last = r.First // any source port: one stands for all
	}
	for p := int(r.First); p <= int(r.Last); p++ {
		pk := &packet{out: f.Direction == ports.Out, v6: v6, local: f.Internal.Addr}
		if pk.out {
			pk.sport = uint16(p)
			if f.Internal.Ports.Len() > 1024 {
				pk.sport = 0
			}
		} else {
			pk.dport = uint16(p)
		}
		got := v.rs.judge(pk)
		v.report.Notes = append(v.report.Notes, got.notes...)
		if p > int(r.First) && got.status == now.status && got.reason == now.reason {
			run.Last = uint16(p)
			continue
		}
		flush()
		run, now = ports.PortRange{First: uint16(p), Last: uint16(p)}, got
		v.report.Notes = slices.Compact(slices.Sorted(slices.Values(v.report.Notes)))
	}
	flush()
}

func (v *verifier) drift(f *ports.Flow, v6 bool, r ports.PortRange, got verdict) Drift {
	target := map[string]string{FormatNftables: "nftables", FormatIptables: "iptables", FormatIp6tables: "iptables"}[v.format]
	d := Drift{Code: "SERVER_FW_RANGE", Status: got.status, Family: map[bool]string{false: "ipv4", true: "ipv6"}[v6], Purpose: f.Purpose, Ports: r, Listener: f.Listeners,
		Reason: got.reason, Cure: "portreeve ports open --for " + target + " prints the missing rule"}
	switch {
	case got.status == Unclear:
		d.Code, d.Cure = "FW_UNCLEAR", "read the rule named here, or test from outside with portreeve doctor"
	case got.status == Limited:
		d.Cure = "nothing if only these clients shall connect; else " + d.Cure
	}
	if f.Direction == ports.Out && got.status != Unclear {
		d.Code = "SERVER_FW_OUT"
	}
	if f.Purpose == ports.PassiveData && got.status == Closed && v.rs.helper && v.rs.related {
		d.Code = "SERVER_ALG_BLIND_TLS"
		d.Reason += "; an FTP helper opens the ports of plain sessions only, it cannot read TLS"
	}
	return d
}

// extra looks for rules of ours that open ports which the plan no longer has.
func (v *verifier) extra() {
	var planned []ports.PortRange
	for _, o := range v.plan.Inbound() {
		planned = append(planned, o.Ports...)
	}
	has := func(p uint16) bool {
		return slices.ContainsFunc(planned, func(r ports.PortRange) bool { return r.Contains(p) })
	}
	for _, c := range v.rs.chains {
		for i := range c.rules {
			r := &c.rules[i]
			if r.action != "accept" || !strings.HasPrefix(r.comment, "portreeve") || strings.Contains(r.comment, "active") {
				continue
			}
			var open []ports.PortRange
			for p := 1; p <= 65535; p++ {
				if has(uint16(p)) {
					continue
				}
				t4, _ := r.match(&packet{dport: uint16(p)})
				t6, _ := r.match(&packet{dport: uint16(p), v6: true})
				if t4 != no || t6 != no {
					open = append(open, ports.PortRange{First: uint16(p), Last: uint16(p)})
				}
			}
			for _, x := range ports.MergeRanges(open) {
				v.report.Drift = append(v.report.Drift, Drift{Code: "FW_EXTRA", Status: Open, Family: c.family, Ports: x,
					Reason: r.where + " still opens ports that the plan no longer has", Cure: "delete the rule and load the present ones"})
			}
		}
	}
}
