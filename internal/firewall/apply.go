package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// Change is what would be done to the firewall of this machine. Show Text
// before Run.
type Change struct {
	Target string
	Text   string // the commands and their input, for people
	cmds   []command
}

type command struct {
	argv  []string
	stdin string
}

// Empty reports whether there is nothing to do.
func (c *Change) Empty() bool { return len(c.cmds) == 0 }

// Prepare works out the change that makes the firewall of this machine follow
// the plan. Only nftables, ufw and firewalld can be changed. current is the
// present rule set as nft prints it (nft -j list ruleset); it is used for
// nftables, where it must not be empty. Nothing is run.
func Prepare(target string, plan ports.Plan, current string) (Change, error) {
	c := Change{Target: target}
	rules, err := Generate(target, plan)
	if err != nil {
		return c, err
	}
	switch target {
	case "nftables":
		return prepareNft(c, plan, rules, current)
	case "ufw", "firewalld":
		for line := range strings.Lines(rules) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				c.cmds = append(c.cmds, command{argv: shellWords(line)})
				c.Text += line + "\n"
			}
		}
		return c, nil
	}
	return c, fmt.Errorf("firewall: rules for %s cannot be applied from here, only printed; nftables, ufw and firewalld can", target)
}

// shellWords splits a line in which only single quotes are special.
func shellWords(s string) []string {
	var out []string
	for i, part := range strings.Split(s, "'") {
		if i%2 == 0 {
			out = append(out, strings.Fields(part)...)
			continue
		}
		if n := len(out); n > 0 && strings.HasSuffix(out[n-1], "=") {
			out[n-1] += part
		} else {
			out = append(out, part)
		}
	}
	return out
}

func prepareNft(c Change, plan ports.Plan, rules, current string) (Change, error) {
	report, err := Verify(FormatNftables, current, plan)
	if err != nil {
		return c, fmt.Errorf("%w; nothing can be applied without knowing the present rules", err)
	}
	if report.Clean() {
		return c, nil
	}
	rs, err := parseNft(current)
	if err != nil {
		return c, err
	}
	more, err := elsewhere(rs, &plan)
	if err != nil {
		return c, err
	}
	jumps := map[string]bool{}
	for _, ch := range rs.chains {
		for i := range ch.rules {
			if r := &ch.rules[i]; r.action == "jump" {
				jumps[ch.name+" "+r.target] = true
			}
		}
	}
	var b strings.Builder
	for line := range strings.Lines(rules) {
		text := strings.TrimSpace(line)
		if text == "" || text[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(text, "insert rule "); ok { // the jump may be there from last time
			f := strings.Fields(rest)
			if jumps[strings.Join(f[:3], " ")+" inet filter "+f[4]] {
				continue
			}
		}
		b.WriteString(line)
	}
	b.WriteString(more)
	c.Text = "nft -f - <<'EOF'\n" + b.String() + "EOF\n"
	c.cmds = []command{{[]string{"nft", "-f", "-"}, b.String()}}
	return c, nil
}

// Elsewhere returns the lines that the rules of this machine need beside those
// of Generate, because chains other than inet filter input and output refuse
// something, too: an accept in one chain does not undo a drop in another.
// current is the output of nft -j list ruleset. It is empty when nothing is
// needed.
func Elsewhere(plan ports.Plan, current string) (string, error) {
	rs, err := parseNft(current)
	if err != nil {
		return "", err
	}
	return elsewhere(rs, &plan)
}

func elsewhere(rs *ruleset, plan *ports.Plan) (string, error) {
	v := verifier{rs: rs, plan: plan, format: FormatNftables}
	needs := map[string][]ports.PortRange{} // by the line up to the ports
	for i := range plan.Flows {
		f := &plan.Flows[i]
		if f.Local() || f.Protocol != "tcp" {
			continue
		}
		for _, v6 := range []bool{false, true} {
			if !v.wanted(f, v6) {
				continue
			}
			if err := rs.refusals(f, v6, needs); err != nil {
				return "", err
			}
		}
	}
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(needs)) {
		fmt.Fprintf(&b, "insert rule %s %s ct state new accept comment \"portreeve\"\n", line, nftSet(ports.MergeRanges(needs[line])))
	}
	return b.String(), nil
}

// refusals adds the ports of a flow that base chains refuse for certain.
func (rs *ruleset) refusals(f *ports.Flow, v6 bool, needs map[string][]ports.PortRange) error {
	hooks, out, word := []string{"prerouting", "input"}, f.Direction == ports.Out, "tcp dport"
	if out {
		hooks, word = []string{"output", "postrouting"}, "tcp sport"
	}
	if out && f.Internal.Ports.Len() > 1024 {
		return nil // any source port: what Generate says of it must do
	}
	for _, c := range rs.bases(v6, hooks...) {
		if c.name == "inet filter "+c.hook {
			continue
		}
		for p := int(f.Internal.Ports.First); p <= int(f.Internal.Ports.Last); p++ {
			pk, steps := &packet{out: out, v6: v6, local: f.Internal.Addr, dport: uint16(p)}, 0
			if out {
				pk.dport, pk.sport = 0, uint16(p)
			}
			w := &walk{rs: rs, pk: pk, steps: &steps}
			verdict, at := w.follow(c, true, 0)
			if verdict == "" {
				verdict, at = c.policy, "the policy of "+c.name
			}
			if verdict == "accept" || len(w.accepts) > 0 {
				continue
			}
			family, table, _ := strings.Cut(c.name, " ")
			table, _, _ = strings.Cut(table, " ")
			if verdict == "divert" || c.hook == "prerouting" || c.hook == "postrouting" || rs.compat[family+" "+table] {
				return fmt.Errorf("firewall: port %d is refused by %s, which no rule of ours can change; print the rules (for iptables: --for iptables) and put them there by hand", p, at)
			}
			match := c.name + " "
			if f.Internal.Addr.IsValid() && !f.Internal.Addr.IsUnspecified() && !out {
				match += map[bool]string{false: "ip daddr ", true: "ip6 daddr "}[v6] + f.Internal.Addr.String() + " "
			}
			needs[match+word] = append(needs[match+word], ports.PortRange{First: uint16(p), Last: uint16(p)})
		}
	}
	return nil
}

// Run makes the change. It stops at the first command that fails; a tool that
// is missing is said, and nothing is changed then.
func (c *Change) Run(ctx context.Context) error {
	for i, cmd := range c.cmds {
		x := exec.CommandContext(ctx, cmd.argv[0], cmd.argv[1:]...)
		x.Stdin = strings.NewReader(cmd.stdin)
		out, err := x.CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("firewall: %s is not installed here, so nothing was changed; portreeve ports open --for %s prints the rules", cmd.argv[0], c.Target)
		}
		if err != nil {
			return fmt.Errorf("firewall: %s failed after %d of %d commands: %w: %s", strings.Join(cmd.argv, " "), i, len(c.cmds), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// RuleSet is a rule set of this machine as its tool prints it.
type RuleSet struct {
	Format string // for Verify
	Text   string
	Err    error // why there is no text: a missing tool, or no permission
}

// ReadLocal reads the rule sets of this machine by running nft and the older
// iptables tools. It needs root. An entry with an error is a set that could not
// be read, and must be reported: it may forbid what the others permit.
//
// iptables keeps its rules in nftables or, in its older variant, beside them;
// both are read as iptables-save prints them. Judge the result with VerifyAll.
func ReadLocal(ctx context.Context) []RuleSet {
	var out []RuleSet
	read := func(format string, optional bool, argv ...string) {
		b, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		var exit *exec.ExitError
		switch {
		case errors.Is(err, exec.ErrNotFound):
			if optional {
				return
			}
			err = fmt.Errorf("firewall: %s is not installed, so its rules, if there are any, were not read", argv[0])
		case errors.As(err, &exit):
			err = fmt.Errorf("firewall: %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(exit.Stderr)))
		}
		if err == nil && optional && !strings.Contains(string(b), "\n*") {
			return // no table: this variant is not in use
		}
		out = append(out, RuleSet{format, string(b), err})
	}
	read(FormatNftables, false, "nft", "-j", "list", "ruleset")
	for _, tool := range []string{"iptables-save", "iptables-legacy-save"} {
		read(FormatIptables, true, tool)
	}
	for _, tool := range []string{"ip6tables-save", "ip6tables-legacy-save"} {
		read(FormatIp6tables, true, tool)
	}
	return out
}
