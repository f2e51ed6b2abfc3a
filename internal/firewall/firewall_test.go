package firewall

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/ports"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update rewrites it)\n--- got\n%s\n--- want\n%s", file, got, want)
	}
}

// testPlans are the golden plans of package ports and a few made from them.
func testPlans(t *testing.T) map[string]ports.Plan {
	t.Helper()
	read := func(name string) (p ports.Plan) {
		b, err := os.ReadFile(filepath.Join("..", "ports", "testdata", name+".json"))
		if err == nil {
			err = json.Unmarshal(b, &p)
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	m := map[string]ports.Plan{"public": read("public"), "nat": read("nat"), "names": read("names"), "container": read("trouble")}
	// Each listener on an address of its own, IPv4 and IPv6, many single ports.
	p := ports.Plan{}
	add := func(addr, family string, first, last uint16, purpose ports.Purpose) {
		f := ports.Flow{Direction: ports.In, Protocol: "tcp", Purpose: purpose, Services: []string{"ftp"}, Listeners: []string{"x"}, Family: family}
		f.Internal.Ports = ports.PortRange{First: first, Last: last}
		if addr != "" {
			f.Internal.Addr = netip.MustParseAddr(addr)
		}
		p.Flows = append(p.Flows, f)
	}
	add("192.168.1.5", "ipv4", 21, 21, ports.Control)
	add("2001:db8::5", "ipv6", 21, 21, ports.Control)
	add("", "ipv4", 990, 990, ports.Control)
	add("", "ipv6", 991, 991, ports.Control)
	for i := range uint16(9) {
		add("", "any", 3000+2*i, 3000+2*i, ports.Control)
		add("", "any", 20000+20*i, 20009+20*i, ports.PassiveData)
	}
	add("127.0.0.1", "ipv4", 2121, 2121, ports.Control)
	f := ports.Flow{Direction: ports.Out, Protocol: "tcp", Purpose: ports.ActiveData, Family: "any"}
	f.Internal.Ports, f.Remote.Ports = ports.PortRange{First: 20, Last: 20}, ports.PortRange{First: 1024, Last: 65535}
	p.Flows = append(p.Flows, f)
	m["many"] = p
	return m
}

func TestGolden(t *testing.T) {
	for name, plan := range testPlans(t) {
		for _, target := range Targets() {
			t.Run(name+"/"+target.Name, func(t *testing.T) {
				out, err := Generate(target.Name, plan)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, name+"/"+target.Name, out)
			})
		}
	}
}

func TestEveryTargetOpensEveryPort(t *testing.T) {
	plan := testPlans(t)["nat"]
	for _, target := range Targets() {
		out, err := Generate(target.Name, plan)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out, "# Portreeve: rules for "+target.Title) {
			t.Errorf("%s: no header", target.Name)
		}
		rules := withoutComments(out)
		for _, want := range []string{"990", "20000", "20099"} {
			if !strings.Contains(rules, want) {
				t.Errorf("%s does not mention %s:\n%s", target.Name, want, rules)
			}
		}
		if strings.Contains(rules, "2121") {
			t.Errorf("%s opens a port that is not in the plan", target.Name)
		}
		if strings.Contains(rules, "REPLACE") {
			t.Errorf("%s has a placeholder although the inside address is known", target.Name)
		}
	}
}

func withoutComments(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestGenerateErrors(t *testing.T) {
	if _, err := Generate("nft", testPlans(t)["nat"]); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "nftables") {
		t.Errorf("unknown target: %v", err)
	}
	if _, err := Generate("nftables", ports.Plan{}); !errors.Is(err, ErrNothing) {
		t.Errorf("empty plan: %v", err)
	}
}

func TestPortLimitsOfTools(t *testing.T) {
	plan := testPlans(t)["many"]
	for _, target := range []string{"iptables", "mikrotik"} {
		out, err := Generate(target, plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"--dports ", "dst-port="} {
			for part := range strings.SplitSeq(out, key) {
				list, _, _ := strings.Cut(part, " ")
				if n := len(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ':' || r == '-' })); strings.Contains(list, ",") && n > 15 {
					t.Errorf("%s: %s has %d ports, the tool takes 15", target, list, n)
				}
			}
		}
	}
}

// tool runs a checker on text. A missing tool is said, and fails where CI is
// set: there every checker must be installed.
func tool(t *testing.T, text string, argv ...string) (ran bool) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		const msg = "%s is not installed: its output was compared with the golden file only, not loaded by the real tool"
		if os.Getenv("CI") == "true" {
			t.Errorf(msg, argv[0])
		} else {
			t.Logf(msg, argv[0])
		}
		return false
	}
	if needsNamespace[argv[0]] { // changes nothing outside, and needs no root
		argv = slices.Concat([]string{"unshare"}, userFlags(), argv)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s\n%s", strings.Join(argv, " "), err, out, text)
	}
	return true
}

var needsNamespace = map[string]bool{"nft": true, "iptables-restore": true, "ip6tables-restore": true, "sh": true}

func userFlags() []string {
	if os.Geteuid() == 0 {
		return []string{"--net"}
	}
	return []string{"--user", "--map-root-user", "--net"}
}

// TestRealTools loads the output with the tools it is meant for.
func TestRealTools(t *testing.T) {
	for name, plan := range testPlans(t) {
		generate := func(target string) string {
			out, err := Generate(target, plan)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		t.Run(name, func(t *testing.T) {
			tool(t, generate("nftables"), "nft", "-c", "-f", "-")
			tool(t, generate("iptables"), "iptables-restore", "--test", "--noflush")
			tool(t, generate("iptables"), "ip6tables-restore", "--test", "--noflush")
			cfg := filepath.Join(t.TempDir(), "haproxy.cfg")
			if err := os.WriteFile(cfg, []byte(generate("haproxy")), 0o644); err != nil {
				t.Fatal(err)
			}
			tool(t, "", "haproxy", "-c", "-f", cfg)
			if name != "nat" && name != "container" {
				return // one with published ports, one without: starting the tool is slow
			}
			file := filepath.Join(t.TempDir(), "compose.yaml")
			if err := os.WriteFile(file, []byte(generate("compose")), 0o644); err != nil {
				t.Fatal(err)
			}
			if exec.Command("docker", "compose", "version").Run() == nil {
				tool(t, "", "docker", "compose", "-f", file, "config", "--quiet")
			} else {
				tool(t, "", "docker-compose", "-f", file, "config", "--quiet")
			}
		})
	}
}

// TestMoreTools checks syntax where further tools happen to be installed; CI need not have them.
func TestMoreTools(t *testing.T) {
	has := func(name string) bool {
		if _, err := exec.LookPath(name); err != nil {
			t.Logf("%s is not installed: its output was compared with the golden file only", name)
			return false
		}
		return true
	}
	plans := testPlans(t)
	for _, name := range []string{"nat", "many"} { // starting these tools is slow
		for _, target := range Targets() {
			out, err := Generate(target.Name, plans[name])
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasSuffix(target.Name, "-terraform") && has("terraform"):
				tool(t, out, "terraform", "fmt", "-check", "-diff", "-")
			case slices.Contains([]string{"ufw", "firewalld", "aws-cli", "gcp-cli", "azure-cli", "openwrt"}, target.Name):
				if err := exec.Command("sh", "-n", "-c", out).Run(); err != nil {
					t.Errorf("%s/%s is no shell script: %v", name, target.Name, err)
				}
			case target.Name == "kubernetes" && strings.Contains(out, "kind: Service") && has("kubectl"):
				file := filepath.Join(t.TempDir(), "service.yaml")
				if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				tool(t, "", "kubectl", "label", "--local", "-f", file, "checked=yes", "-o", "name")
			}
		}
	}
}

// TestOtherNumbersOutside: a router that forwards other port numbers is told
// both, and the machine's own firewall only the inside ones.
func TestOtherNumbersOutside(t *testing.T) {
	cfg := config.Default()
	cfg.Listen = []config.Listen{{Name: "ftp-2121", Protocol: config.ProtocolFTP, Address: "0.0.0.0:2121", TLS: config.Required, DataTLS: config.Required}}
	p := &cfg.FTP.Passive
	p.Address, p.Ports, p.ExternalPorts = "198.51.100.20", config.PortRange{First: 20000, Last: 20009}, &config.PortRange{First: 40000, Last: 40009}
	p.Shared, p.SharedFallback, p.SharedExternal = ":2989", config.SharedRange, 989
	host := ports.HostFacts{Interfaces: []ports.Interface{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.1.5/24")}}}}
	plan := ports.Compile(cfg, host)
	if !plan.Shifted() || !plan.Forward {
		t.Fatalf("shifted %t, forward %t", plan.Shifted(), plan.Forward)
	}
	for target, want := range map[string][]string{
		"mikrotik": {"dst-port=40000-40009 to-addresses=192.168.1.5 to-ports=20000-20009", "dst-port=989 to-addresses=192.168.1.5 to-ports=2989", "dst-port=2121 to-addresses=192.168.1.5 comment"},
		"openwrt":  {"src_dport='40000-40009'", "dest_port='20000-20009'", "src_dport='989'", "dest_port='2989'", "src_dport='2121'", "dest_port='2121'"},
		"nftables": {"tcp dport { 2121, 2989, 20000-20009 }", "--dport 40000:40009 -j DNAT --to-destination 192.168.1.5:20000-20009/40000", "dport 2121 dnat to 192.168.1.5"},
	} {
		text, err := Generate(target, plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is missing in\n%s", target, w, text)
			}
		}
	}
	for page, want := range map[string][]string{
		plan.ClientPage(""): {"| 198.51.100.20 | 40000-40009 |", "| 198.51.100.20 | 989 |"},
		plan.ServerPage():   {"198.51.100.20 port 40000-40009 | 192.168.1.5 port 20000-20009", "other numbers outside"},
		plan.Text():         {"ports 2121, 2989, 20000-20009", "ports 989, 2121, 40000-40009"},
	} {
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%q is missing in\n%s", w, page)
			}
		}
	}
}
