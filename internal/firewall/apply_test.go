package firewall

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestPrepareNftables(t *testing.T) {
	plan := testPlans(t)["public"]
	c, err := Prepare("nftables", plan, readRules(t, "range-missing.json"))
	if err != nil || c.Empty() || !strings.Contains(c.Text, "insert rule inet filter input jump portreeve_in") || !strings.Contains(c.Text, "20000-20099") {
		t.Errorf("missing range: %v\n%s", err, c.Text)
	}
	if c, err = Prepare("nftables", plan, readRules(t, "open.json")); err != nil || !c.Empty() {
		t.Errorf("nothing is missing: %v\n%s", err, c.Text)
	}
	c, err = Prepare("nftables", plan, readRules(t, "stale.json"))
	if err != nil || c.Empty() || strings.Contains(c.Text, "insert rule inet filter input") || !strings.Contains(c.Text, "flush chain inet filter portreeve_in") {
		t.Errorf("the jump is there already: %v\n%s", err, c.Text)
	}
	closed := `{"nftables": [{"chain": {"family": "inet", "table": "mine", "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}]}`
	c, err = Prepare("nftables", plan, closed)
	if err != nil || !strings.Contains(c.Text, "insert rule inet mine in tcp dport { 21-22, 990, 20000-20099 } ct state new accept") {
		t.Errorf("a drop in another table: %v\n%s", err, c.Text)
	}
	if more, err := Elsewhere(plan, closed); err != nil || !strings.Contains(more, "insert rule inet mine in tcp dport") || strings.Contains(more, "inet filter") {
		t.Errorf("lines for another table: %v\n%s", err, more)
	}
	if more, err := Elsewhere(plan, readRules(t, "range-missing.json")); err != nil || more != "" {
		t.Errorf("lines for inet filter, which Generate has: %v\n%s", err, more)
	}
	early := strings.ReplaceAll(closed, `"input"`, `"prerouting"`)
	if _, err = Prepare("nftables", plan, early); err == nil || !strings.Contains(err.Error(), "inet mine in") {
		t.Errorf("a drop before input: %v", err)
	}
	if _, err = Prepare("nftables", plan, ""); err == nil {
		t.Error("applied without knowing the present rules")
	}
}

func TestPrepareCommands(t *testing.T) {
	plans := testPlans(t)
	c, err := Prepare("ufw", plans["public"], "")
	if err != nil || len(c.cmds) != 3 || !slices.Equal(c.cmds[2].argv, []string{"ufw", "allow", "proto", "tcp", "to", "any", "port", "20000:20099", "comment", "portreeve"}) {
		t.Errorf("%v %+v", err, c.cmds)
	}
	c, err = Prepare("firewalld", plans["many"], "")
	want := `--add-rich-rule=rule family="ipv4" destination address="192.168.1.5" port port="21" protocol="tcp" accept`
	if err != nil || !slices.ContainsFunc(c.cmds, func(c command) bool { return len(c.argv) == 3 && c.argv[2] == want }) {
		t.Errorf("%v %+v", err, c.cmds)
	}
	for _, target := range []string{"iptables", "aws-cli", "nonsense"} {
		if _, err := Prepare(target, plans["public"], "{}"); err == nil {
			t.Errorf("%s was accepted", target)
		}
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	c := Change{Target: "ufw", cmds: []command{{argv: []string{"portreeve-no-such-tool", "x"}}}}
	if err := c.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "not installed") || !strings.Contains(err.Error(), "--for ufw") {
		t.Errorf("missing tool: %v", err)
	}
	c.cmds = []command{{argv: []string{"cat"}, stdin: "x"}, {argv: []string{"sh", "-c", "echo broken >&2; exit 3"}}, {argv: []string{"true"}}}
	if err := c.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "after 1 of 3") || !strings.Contains(err.Error(), "broken") {
		t.Errorf("failing command: %v", err)
	}
	c.cmds = c.cmds[:1]
	if err := c.Run(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestReadLocalNeverHidesAFailure(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	sets := ReadLocal(context.Background())
	if len(sets) != 1 || sets[0].Err == nil || !strings.Contains(sets[0].Err.Error(), "nft is not installed") {
		t.Errorf("%+v", sets)
	}
}

// TestCallingChainsEnd: chains that call each other must not take for ever.
func TestCallingChainsEnd(t *testing.T) {
	plan := testPlans(t)["public"]
	plan.Flows = plan.Flows[:1]
	rules := strings.TrimSuffix(strings.Repeat(`{"rule": {"family": "inet", "table": "t", "chain": "a", "handle": 2, "expr": [{"jump": {"target": "a"}}]}},`, 50), ",")
	r, err := Verify(FormatNftables, `{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "a", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},`+rules+`]}`, plan)
	if err != nil || len(r.Drift) != 2 || r.Drift[0].Status != Unclear {
		t.Errorf("%v %v", short(r), err)
	}
}
