package firewall

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/ports"
)

func readRules(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "rules", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// short writes a report as "code family ports status", one line for each.
func short(r Report) []string {
	var out []string
	for _, d := range r.Drift {
		out = append(out, fmt.Sprintf("%s %s %s %s", d.Code, d.Family, d.Ports, d.Status))
	}
	return out
}

// TestVerify follows rule sets that the real tools have printed; the .nft
// files beside them are what was loaded. The plan is: 21, 22, 990 and
// 20000-20099 in, from 20 and 989 out, IPv4 and IPv6.
func TestVerify(t *testing.T) {
	plan := testPlans(t)["public"]
	tests := []struct {
		file     string
		want     []string
		reasons  []string // each occurs in some reason
		unparsed int
		notes    string
	}{
		{"open.json", nil, nil, 0, ""},
		{"range-missing.json", []string{"SERVER_FW_RANGE ipv4 20050-20099 closed", "SERVER_FW_RANGE ipv6 20050-20099 closed"}, []string{"the policy of inet filter input"}, 0, ""},
		{"helper.json", []string{"SERVER_ALG_BLIND_TLS ipv4 20000-20099 closed", "SERVER_ALG_BLIND_TLS ipv6 20000-20099 closed"}, []string{"inet filter input, handle 9", "cannot read TLS"}, 0, ""},
		{"clients.json", []string{
			"SERVER_FW_RANGE ipv4 21 limited", "SERVER_FW_RANGE ipv6 21 closed",
			"SERVER_FW_RANGE ipv4 990 limited", "SERVER_FW_RANGE ipv6 990 limited",
			"SERVER_FW_RANGE ipv4 22 limited", "SERVER_FW_RANGE ipv6 22 limited",
			"SERVER_FW_RANGE ipv6 20000-20099 closed",
		}, []string{"the client's address", "the interface", "a rate or connection limit"}, 0, "refuses some connections, depending on the client's address"},
		{"out.json", []string{"SERVER_FW_OUT ipv4 989 closed", "SERVER_FW_OUT ipv6 989 closed"}, []string{"the policy of inet filter output"}, 0, ""},
		{"two-tables.json", nil, nil, 0, ""},
		{"unclear.json", []string{
			"FW_UNCLEAR ipv4 21 unclear", "FW_UNCLEAR ipv6 21 unclear", "FW_UNCLEAR ipv4 990 unclear", "FW_UNCLEAR ipv6 990 unclear",
		}, []string{"was not understood"}, 2, ""},
		{"stale.json", []string{"FW_EXTRA any 2121 open", "FW_EXTRA any 20100-20199 open"}, []string{"inet filter portreeve_in, handle"}, 0, ""},
		{"docker.json", []string{"SERVER_FW_RANGE ipv4 990 limited"}, []string{"elsewhere"}, 0, ""},
		{"office.iptables", []string{"SERVER_FW_RANGE ipv4 990 limited", "SERVER_FW_OUT ipv4 20 closed"}, []string{"filter INPUT, rule 8", "the policy of filter OUTPUT"}, 0, "filter F2B, rule 1"},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			format := FormatNftables
			if strings.HasSuffix(tt.file, ".iptables") {
				format = FormatIptables
			}
			r, err := Verify(format, readRules(t, tt.file), plan)
			if err != nil {
				t.Fatal(err)
			}
			if got := short(r); !slices.Equal(got, tt.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
			all := ""
			for _, d := range r.Drift {
				all += d.Reason + "\n"
				if d.Reason == "" || d.Cure == "" {
					t.Errorf("no reason or no cure: %+v", d)
				}
			}
			for _, want := range tt.reasons {
				if !strings.Contains(all, want) {
					t.Errorf("no reason mentions %q:\n%s", want, all)
				}
			}
			if len(r.Unparsed) != tt.unparsed {
				t.Errorf("not understood: %q, want %d", r.Unparsed, tt.unparsed)
			}
			if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, tt.notes) {
				t.Errorf("notes %q do not mention %q", notes, tt.notes)
			}
			if r.Clean() != (len(tt.want) == 0) || r.Rules == 0 {
				t.Errorf("clean %v with %d rules", r.Clean(), r.Rules)
			}
		})
	}
}

// nftRule wraps one rule of a chain whose policy is drop.
func nftRule(expr string) string {
	return `{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "t"}},
	{"chain": {"family": "inet", "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
	{"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 2, "expr": [` + expr + `]}}]}`
}

// TestNothingIsGuessed: what is not understood makes the verdict unclear.
func TestNothingIsGuessed(t *testing.T) {
	plan := testPlans(t)["public"]
	plan.Flows = plan.Flows[:1] // port 21
	for _, expr := range []string{
		`{"match": {"op": "==", "left": {"payload": {"base": "th", "offset": 16, "len": 16}}, "right": 21}}, {"accept": null}`,
		`{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}, {"accept": null}`,
		`{"match": {"op": "~", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 21}}, {"accept": null}`,
		`{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": "ftp"}}, {"accept": null}`,
		`{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": "@missing"}}, {"accept": null}`,
		`{"xt": {"type": "match", "name": "geoip"}}, {"accept": null}`,
		`{"queue": {"num": 0}}`,
		`{"synproxy": {}}, {"accept": null}`,
		`{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@missing"}}`,
		`{"jump": {"target": "missing"}}`,
		`{"newthing": {"x": 1}}, {"accept": null}`,
	} {
		r, err := Verify(FormatNftables, nftRule(expr), plan)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if len(r.Drift) != 2 || r.Drift[0].Status != Unclear || r.Drift[0].Code != "FW_UNCLEAR" {
			t.Errorf("%s: %v", expr, short(r))
		}
		if len(r.Unparsed) == 0 && !strings.Contains(expr, "jump") {
			t.Errorf("%s: not among the rules that were not understood", expr)
		}
	}
	save := "*filter\n:INPUT DROP [0:0]\n-A INPUT %s\nCOMMIT\n"
	for _, rule := range []string{
		"-p tcp -m tcp --dport 21 -m geoip --source-country XX -j ACCEPT",
		"-p tcp -m set --match-set ports dst -j ACCEPT",
		"-p tcp --dport ftp -j ACCEPT",
		"-p tcp -j NFQUEUE --queue-num 1",
		"-s example.org -p tcp -j ACCEPT",
	} {
		r, err := Verify(FormatIptables, fmt.Sprintf(save, rule), plan)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		if len(r.Drift) != 1 || r.Drift[0].Status != Unclear || len(r.Unparsed) == 0 {
			t.Errorf("%s: %v, not understood %q", rule, short(r), r.Unparsed)
		}
	}
}

func TestVerifyRefusesOtherText(t *testing.T) {
	for format, texts := range map[string][]string{
		FormatNftables:  {"", "table inet filter {", "{}", `{"nftables": null}`, "[]"},
		FormatIptables:  {"", "iptables: command not found", "Chain INPUT (policy ACCEPT)\n"},
		FormatIp6tables: {"# Warning: tables present, use iptables-legacy-save\n"},
		"pf":            {"pass"},
	} {
		for _, text := range texts {
			if r, err := Verify(format, text, ports.Plan{}); err == nil {
				t.Errorf("%s: %q was taken for a rule set: %+v", format, text, r)
			}
		}
	}
	r, err := Verify(FormatNftables, `{"nftables": [{"metainfo": {"version": "1.0.6"}}]}`, testPlans(t)["public"])
	if err != nil || !r.Clean() {
		t.Errorf("an empty rule set lets everything through: %v %v", short(r), err)
	}
}

func TestIptablesWords(t *testing.T) {
	tests := map[string][]string{
		`-A INPUT -j ACCEPT`:              {"-A", "INPUT", "-j", "ACCEPT"},
		`-A X --comment "a \"b\" c" -j Y`: {"-A", "X", "--comment", `a "b" c`, "-j", "Y"},
		`-A X --log-prefix ""`:            {"-A", "X", "--log-prefix", ""},
	}
	for in, want := range tests {
		if got := fields(in); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for _, tt := range []struct {
		rule string
		want Status
	}{
		{"! -i lo -p tcp -m multiport --dports 20:22,990 -j ACCEPT", Open},
		{"-p tcp -m multiport ! --dports 22,23 -j ACCEPT", Open},
		{"-p tcp -m tcp ! --dport 21 -j ACCEPT", Closed},
		{"-p udp -m udp --dport 21 -j ACCEPT", Closed},
		{"-i lo -j ACCEPT", Closed},
		{"-s 127.0.0.0/8 -j ACCEPT", Closed},
		{"-s 0.0.0.0/0 -p tcp --dport :1023 -j ACCEPT", Open},
		{"-p tcp --dport 1024: -j ACCEPT", Closed},
		{"-m conntrack ! --ctstate INVALID -p tcp -j ACCEPT", Open},
		{"! -s 10.0.0.0/8 -p tcp -j ACCEPT", Limited},
		{"-p tcp -m connlimit --connlimit-upto 5 --connlimit-mask 32 --connlimit-saddr -j ACCEPT", Limited},
		{"-p tcp -m set --match-set office src -j ACCEPT", Limited},
		{"-p tcp -m pkttype --pkt-type unicast -j ACCEPT", Open},
		{"-p tcp -j LOG --log-prefix \"x -j ACCEPT\"", Closed},
	} {
		plan := testPlans(t)["public"]
		plan.Flows = plan.Flows[:1]
		r, err := Verify(FormatIptables, "*filter\n:INPUT DROP [0:0]\n[12:34] -A INPUT "+tt.rule+"\nCOMMIT\n", plan)
		if err != nil {
			t.Fatal(err)
		}
		got := Open
		if len(r.Drift) > 0 {
			got = r.Drift[0].Status
		}
		if got != tt.want || len(r.Unparsed) > 0 {
			t.Errorf("%s: %s, want %s; not understood %q", tt.rule, got, tt.want, r.Unparsed)
		}
	}
}

// TestLoadedRulesVerify loads the generated rules into a closed firewall in a
// namespace of its own and expects Verify to find every port open, and every
// one missing before.
func TestLoadedRulesVerify(t *testing.T) {
	plan := testPlans(t)["public"]
	run := func(script, stdin string) string {
		cmd := exec.Command("unshare", append(userFlags(), "sh", "-e", "-c", script)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", script, err)
		}
		return string(out)
	}
	has := func(name string) bool {
		_, err := exec.LookPath(name)
		if err != nil && os.Getenv("CI") == "true" {
			t.Errorf("%s is not installed", name)
		} else if err != nil {
			t.Logf("%s is not installed: its rules were not loaded", name)
		}
		return err == nil
	}
	check := func(format, text string, want int) {
		t.Helper()
		r, err := Verify(format, text, plan)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if len(r.Drift) != want || len(r.Unparsed) > 0 {
			t.Errorf("%s: %d findings, want %d: %v, not understood %q", format, len(r.Drift), want, short(r), r.Unparsed)
		}
	}
	if has("nft") {
		rules, _ := Generate("nftables", plan)
		closed := `nft add table inet filter; nft "add chain inet filter input { type filter hook input priority filter; policy drop; }"; nft "add chain inet filter output { type filter hook output priority filter; policy drop; }"; `
		check(FormatNftables, run(closed+"nft -j list ruleset", ""), 12)
		check(FormatNftables, run(closed+"nft -f -; nft -j list ruleset", rules), 0)
	}
	if has("iptables-restore") {
		rules, _ := Generate("iptables", plan)
		for _, x := range [][2]string{{"iptables", FormatIptables}, {"ip6tables", FormatIp6tables}} {
			closed := fmt.Sprintf("%[1]s -P INPUT DROP; %[1]s -P OUTPUT DROP; ", x[0])
			check(x[1], run(closed+x[0]+"-save", ""), 6)
			check(x[1], run(closed+x[0]+"-restore --noflush; "+x[0]+"-save", rules), 0)
		}
	}
}

// TestUfw: what ufw has loaded from its generated commands, as the three tools
// print it. nft alone cannot show the meaning of rules that iptables has made.
func TestUfw(t *testing.T) {
	plan := testPlans(t)["public"]
	sets := []RuleSet{{Format: FormatNftables, Text: readRules(t, "ufw.json")}, {Format: FormatIptables, Text: readRules(t, "ufw.iptables")}, {Format: FormatIp6tables, Text: readRules(t, "ufw.ip6tables")}}
	if r := VerifyAll(sets, plan); !r.Clean() || len(r.Unparsed) > 0 || r.Rules < 100 {
		t.Errorf("%v, not understood %q, %d rules", short(r), r.Unparsed, r.Rules)
	}
	if r := VerifyAll(sets[:1], plan); r.Clean() || r.Drift[0].Status != Unclear || len(r.Unparsed) == 0 {
		t.Errorf("nft alone: %v", short(r))
	}
	plan.Flows[3].Internal.Ports.Last = 20150
	r := VerifyAll(sets, plan)
	if got, want := short(r), []string{"SERVER_FW_RANGE ipv4 20100-20150 closed", "SERVER_FW_RANGE ipv6 20100-20150 closed"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r = VerifyAll([]RuleSet{{Format: FormatNftables, Err: errors.New("nft is not installed")}, {Format: FormatIptables, Text: "rubbish"}}, plan)
	if len(r.Unparsed) != 2 {
		t.Errorf("unreadable sets: %q", r.Unparsed)
	}
}

func FuzzVerify(f *testing.F) {
	for _, name := range []string{"open.json", "clients.json", "two-tables.json", "office.iptables"} {
		b, err := os.ReadFile(filepath.Join("testdata", "rules", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(nftRule(`{"goto": {"target": "c"}}`))
	plan := ports.Plan{Flows: []ports.Flow{{Direction: ports.In, Protocol: "tcp", Family: "any", Internal: ports.Endpoint{Ports: ports.PortRange{First: 21, Last: 23}}}}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range []string{FormatNftables, FormatIptables} {
			if r, err := Verify(format, text, plan); err == nil && r.Rules < 0 {
				t.Fatal("negative number of rules")
			}
		}
	})
}
