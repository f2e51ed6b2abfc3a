package ports

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/portreeve/portreeve/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
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

func prefix(s string) config.Prefix { return config.Prefix{Prefix: netip.MustParsePrefix(s)} }

// testConfig is built by hand, as Compile must also judge what Load refuses.
func testConfig(change func(*config.Config)) *config.Config {
	c := config.Default()
	c.Listen = []config.Listen{
		{Name: "ftp-21", Protocol: config.ProtocolFTP, Address: ":21", TLS: config.Required},
		{Name: "ftps-990", Protocol: config.ProtocolFTPS, Address: ":990", TLS: config.Required},
		{Name: "sftp-22", Protocol: config.ProtocolSFTP, Address: ":22"},
	}
	c.FTP.Passive.Ports = config.PortRange{First: 20000, Last: 20099}
	c.Limits.MaxConnections = 100
	if change != nil {
		change(c)
	}
	return c
}

func iface(name string, addrs ...string) Interface {
	i := Interface{Name: name}
	for _, a := range addrs {
		i.Addrs = append(i.Addrs, netip.MustParsePrefix(a))
	}
	return i
}

func testHost(change func(*HostFacts)) HostFacts {
	h := HostFacts{
		OS: "linux", Interfaces: []Interface{iface("lo", "127.0.0.1/8", "::1/128"), iface("eth0", "203.0.113.7/24", "2001:db8::7/64", "fe80::1/64")},
		Ephemeral: PortRange{First: 32768, Last: 60999}, UnprivilegedStart: 1024, CanBindLow: true, FileLimit: 1 << 20,
	}
	if change != nil {
		change(&h)
	}
	return h
}

func behindNAT(h *HostFacts) {
	h.Interfaces = []Interface{iface("lo", "127.0.0.1/8"), iface("eth0", "192.168.1.5/24")}
}

func TestPlanPages(t *testing.T) {
	tests := []struct {
		name string
		cfg  *config.Config
		host HostFacts
	}{
		{"public", testConfig(nil), testHost(nil)},
		{"nat", testConfig(func(c *config.Config) {
			c.FTP.Passive.Address = "198.51.100.20"
			c.FTP.Passive.Rules = []config.PassiveRule{{Networks: []config.Prefix{prefix("10.8.0.0/16")}, Address: "10.8.0.1"}}
		}), testHost(behindNAT)},
		{"trouble", testConfig(func(c *config.Config) {
			c.Listen[1].Address = "0.0.0.0:20050"
			c.FTP.Passive.Ports = config.PortRange{First: 20000, Last: 20009}
			c.Listen[0].PassivePorts = &config.PortRange{First: 50000, Last: 50999}
			c.Listen[1].PassivePorts = &config.PortRange{First: 20005, Last: 20060}
			c.Limits.MaxConnections = 20000
		}), testHost(func(h *HostFacts) {
			behindNAT(h)
			h.CanBindLow, h.Container, h.FileLimit = false, "docker", 1024
			h.Listening = []Listener{{netip.MustParseAddrPort("0.0.0.0:22"), 812, "sshd"}, {netip.MustParseAddrPort("127.0.0.1:20007"), 0, ""}}
		})},
		{"names", testConfig(func(c *config.Config) {
			c.Listen = c.Listen[:1]
			c.Listen[0].Address = "192.168.1.5:2121"
			c.FTP.Passive.Address = "ftp.example.org"
			c.FTP.ActiveSource = config.SourceAny
		}), testHost(behindNAT)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Compile(tt.cfg, tt.host)
			golden(t, tt.name+".txt", p.Text())
			golden(t, tt.name+"-server.md", p.ServerPage())
			golden(t, tt.name+"-client.md", p.ClientPage(""))
			b, err := p.JSON()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".json", string(b))
			var back Plan
			if err := json.Unmarshal(b, &back); err != nil || len(back.Flows) != len(p.Flows) {
				t.Errorf("the JSON does not read back: %v", err)
			}
		})
	}
}

func codes(p Plan) (out []string) {
	for _, c := range p.Checks {
		if c.Cause == "" || c.Cure == "" || c.Subject == "" {
			out = append(out, "INCOMPLETE:"+c.Code)
		}
		out = append(out, c.Code)
	}
	return out
}

func TestChecks(t *testing.T) {
	listener := func(addr string, proto config.Protocol) func(*config.Config) {
		return func(c *config.Config) {
			c.Listen = append(c.Listen, config.Listen{Name: "extra", Protocol: proto, Address: addr})
		}
	}
	passive := func(first, last uint16) func(*config.Config) {
		return func(c *config.Config) { c.FTP.Passive.Ports = config.PortRange{First: first, Last: last} }
	}
	address := func(a string) func(*config.Config) {
		return func(c *config.Config) { c.FTP.Passive.Address = a }
	}
	tests := []struct {
		name string
		cfg  func(*config.Config)
		host func(*HostFacts)
		want []string // codes, worst first; nil means a clean plan
	}{
		{"clean", nil, nil, nil},
		{"no listener", func(c *config.Config) { c.Listen = nil }, nil, []string{"NO_LISTENER"}},
		{"same port twice", listener(":21", config.ProtocolFTP), nil, []string{"PORT_CLASH"}},
		{"any and one address", listener("203.0.113.7:990", config.ProtocolFTPS), nil, []string{"PORT_CLASH"}},
		{"other address", func(c *config.Config) {
			c.Listen[0].Address = "127.0.0.1:21"
			listener("203.0.113.7:21", config.ProtocolFTP)(c)
		}, nil, []string{"BIND_ADDR"}}, // the loopback one
		{"IPv4 beside IPv6", func(c *config.Config) {
			c.Listen[0].Address = "0.0.0.0:21"
			listener("[::]:21", config.ProtocolFTP)(c)
		}, nil, nil},
		{"not our address", listener("198.51.100.1:2121", config.ProtocolFTP), nil, []string{"BIND_ADDR"}},
		{"port chosen by the system", listener(":0", config.ProtocolFTP), nil, []string{"PORT_UNKNOWN"}},
		{"port in use", nil, func(h *HostFacts) {
			h.Listening = []Listener{{netip.MustParseAddrPort("[::]:990"), 7, "stunnel"}}
		}, []string{"PORT_IN_USE"}},
		{"port in use by ourselves", nil, func(h *HostFacts) {
			h.Listening = []Listener{{netip.MustParseAddrPort("[::]:990"), 7, "portreeve"}}
		}, nil},
		{"port in use elsewhere", func(c *config.Config) { c.Listen[1].Address = "203.0.113.7:990" }, func(h *HostFacts) {
			h.Listening = []Listener{{netip.MustParseAddrPort("127.0.0.1:990"), 7, "stunnel"}}
		}, nil},
		{"reversed", passive(20099, 20000), nil, []string{"RANGE_INVALID"}},
		{"below 1024", passive(900, 1100), nil, []string{"RANGE_INVALID"}},
		{"over a listener", func(c *config.Config) {
			passive(20000, 20199)(c)
			listener(":20150", config.ProtocolFTP)(c)
		}, nil, []string{"RANGE_LISTENER"}},
		{"two ranges overlap", func(c *config.Config) { c.Listen[1].PassivePorts = &config.PortRange{First: 20050, Last: 20149} }, nil, []string{"RANGE_SHARED"}},
		{"two ranges apart", func(c *config.Config) { c.Listen[1].PassivePorts = &config.PortRange{First: 20100, Last: 20199} }, nil, nil},
		{"ephemeral", passive(50000, 50099), nil, []string{"RANGE_EPHEMERAL"}},
		{"ephemeral at the edge", passive(32700, 32799), nil, []string{"RANGE_EPHEMERAL"}},
		{"ephemeral but reserved", passive(50000, 50099), func(h *HostFacts) {
			h.Reserved = []PortRange{{First: 8080, Last: 8080}, {First: 50000, Last: 50049}, {First: 50050, Last: 50099}}
		}, nil},
		{"a program inside", nil, func(h *HostFacts) {
			h.Listening = []Listener{{netip.MustParseAddrPort("0.0.0.0:20010"), 9, "java"}}
		}, []string{"RANGE_BUSY"}},
		{"SIP inside", passive(5000, 5099), nil, []string{"RANGE_MEDDLED"}},
		{"SIP only", func(c *config.Config) { passive(5060, 5061)(c); c.Limits.MaxConnections = 2 }, nil, []string{"RANGE_MEDDLED"}},
		{"far too small", func(c *config.Config) { c.Limits.MaxConnections = 1001 }, nil, []string{"RANGE_SMALL"}},
		{"smaller", func(c *config.Config) { c.Limits.MaxConnections = 101 }, nil, []string{"RANGE_SMALL"}},
		{"no session cap", func(c *config.Config) { c.Limits.MaxConnections = 0 }, nil, []string{"RANGE_SMALL"}},
		{"few files", nil, func(h *HostFacts) { h.FileLimit = 256 }, []string{"FILE_LIMIT"}},
		{"no privileges", nil, func(h *HostFacts) { h.CanBindLow = false },
			[]string{"PORT_PERMISSION", "PORT_PERMISSION", "PORT_PERMISSION", "ACTIVE_SRC_PORT", "ACTIVE_SRC_PORT"}},
		{"no privileges, system allows from 21", nil, func(h *HostFacts) { h.CanBindLow, h.UnprivilegedStart = false, 21 }, []string{"ACTIVE_SRC_PORT"}},
		{"no privileges, any source", func(c *config.Config) { c.FTP.ActiveSource = config.SourceAny }, func(h *HostFacts) { h.CanBindLow, h.UnprivilegedStart = false, 21 }, nil},
		{"no privileges, no active mode", func(c *config.Config) { c.FTP.Active = false }, func(h *HostFacts) { h.CanBindLow, h.UnprivilegedStart = false, 21 }, nil},
		{"private, no address", nil, behindNAT, []string{"PASV_ADDR_PRIVATE"}},
		{"private, address set", address("198.51.100.20"), behindNAT, nil},
		{"private, name set", address("ftp.example.org"), behindNAT, nil},
		{"private, rule for everybody", func(c *config.Config) {
			c.FTP.Passive.Rules = []config.PassiveRule{{Networks: []config.Prefix{prefix("0.0.0.0/0")}, Address: "198.51.100.20"}}
		}, behindNAT, nil},
		{"shared address space", nil, func(h *HostFacts) { h.Interfaces = []Interface{iface("eth0", "100.64.3.4/10")} }, []string{"PASV_ADDR_PRIVATE"}},
		{"one of two uplinks public", nil, func(h *HostFacts) { h.Interfaces = append(h.Interfaces, iface("eth1", "10.0.0.1/8")) }, nil},
		{"container", nil, func(h *HostFacts) {
			h.Interfaces = []Interface{iface("eth0", "172.17.0.2/16")}
			h.Container = "docker"
		}, []string{"CONTAINER_ADDRESS"}},
		{"container, wide range", func(c *config.Config) { address("198.51.100.20")(c); passive(20000, 20999)(c) }, func(h *HostFacts) {
			h.Interfaces = []Interface{iface("eth0", "172.17.0.2/16")}
			h.Container = "docker"
		}, []string{"RANGE_PUBLISHED"}},
		{"private announced to all", address("192.168.1.5"), behindNAT, []string{"PASV_ADDR_PRIVATE"}},
		{"zero announced", address("0.0.0.0"), nil, []string{"PASV_ADDR_ZERO"}},
		{"loopback announced", address("127.0.0.1"), nil, []string{"PASV_ADDR_PRIVATE"}},
		{"IPv6 announced", address("2001:db8::7"), nil, []string{"PASV_ADDR_FAMILY"}},
		{"nothing known about the host", nil, func(h *HostFacts) { *h = HostFacts{} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Compile(testConfig(tt.cfg), testHost(tt.host))
			if got := codes(p); !slices.Equal(got, tt.want) {
				t.Errorf("found %v, want %v\n%s", got, tt.want, p.ChecksText())
			}
			for i := 1; i < len(p.Checks); i++ {
				if p.Checks[i-1].Severity == Note && p.Checks[i].Severity != Note {
					t.Error("a note stands before a worse finding")
				}
			}
		})
	}
}

func TestSourcePortsAreOutbound(t *testing.T) {
	p := Compile(testConfig(nil), testHost(nil))
	for _, o := range p.Inbound() {
		for _, r := range o.Ports {
			if r.Contains(20) || r.Contains(989) {
				t.Errorf("%v is opened inbound: 20 and 989 are source ports", r)
			}
		}
	}
	if got := JoinRanges(p.ActiveSources(), "-", ","); got != "20,989" {
		t.Errorf("source ports %s, want 20,989", got)
	}
	if !strings.Contains(p.ServerPage(), "*source* ports") || strings.Contains(p.ClientPage(""), "| 20 | for") {
		t.Error("the pages do not say what 20 and 989 are")
	}
}

func TestInboundIsMerged(t *testing.T) {
	p := Compile(testConfig(func(c *config.Config) {
		c.Listen = append(c.Listen,
			config.Listen{Name: "a", Protocol: config.ProtocolFTP, Address: ":20100"},
			config.Listen{Name: "b", Protocol: config.ProtocolFTP, Address: "127.0.0.1:2121"},
			config.Listen{Name: "c", Protocol: config.ProtocolSFTP, Address: "203.0.113.7:2222"})
	}), testHost(nil))
	in := p.Inbound()
	if len(in) != 2 || JoinRanges(in[0].Ports, "-", ",") != "21-22,990,20000-20100" || in[0].Addr.IsValid() ||
		JoinRanges(in[1].Ports, "-", ",") != "2222" || in[1].Addr.String() != "203.0.113.7" {
		t.Errorf("%+v", in)
	}
}

func TestSuggestAvoidsEverything(t *testing.T) {
	cfg, host := testConfig(nil), testHost(func(h *HostFacts) {
		h.Listening = []Listener{{netip.MustParseAddrPort("0.0.0.0:32005"), 1, "x"}}
	})
	for _, n := range []int{1, 100, 1000, 5000} {
		r, ok := Suggest(cfg, host, n)
		if !ok || r.Len() != n {
			t.Fatalf("%d ports: %v %v", n, r, ok)
		}
		cfg.FTP.Passive.Ports = config.PortRange(r)
		cfg.Limits.MaxConnections = n
		if p := Compile(cfg, host); len(p.Checks) != 0 {
			t.Errorf("%v: %s", r, p.ChecksText())
		}
	}
	if r, ok := Suggest(cfg, host, 60000); ok {
		t.Errorf("suggests %v for 60000 ports", r)
	}
}

func TestLinuxFacts(t *testing.T) {
	root := fstest.MapFS{}
	file := func(name, text string) { root[name] = &fstest.MapFile{Data: []byte(text)} }
	file("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
	file("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,50000-50999\n")
	file("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n")
	file("proc/self/status", "Name:\tx\nCapEff:\t0000000000000400\n")
	file("proc/1/cgroup", "0::/docker/abc\n")
	file("proc/net/tcp", `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0015 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0
   1: 0100007F:0016 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0 100 0 0 10 0
`)
	file("proc/net/tcp6", `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:03DE 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0
   1: 00000000000000000000000001000000:03DF 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 778 1 0
`)
	links := func() ([]Interface, error) { return []Interface{iface("eth0", "192.168.1.5/24")}, nil }
	h := Linux{Root: root, Links: links}.Facts()
	if h.Ephemeral != (PortRange{First: 32768, Last: 60999}) || h.UnprivilegedStart != 80 || !h.CanBindLow || h.Container != "docker" || len(h.Unknown) != 0 {
		t.Errorf("%+v", h)
	}
	if got := JoinRanges(h.Reserved, "-", ","); got != "8080,50000-50999" {
		t.Errorf("reserved %s", got)
	}
	var ls []string
	for _, l := range h.Listening {
		ls = append(ls, l.Addr.String())
		if l.PID != 0 {
			t.Errorf("an inode is left as process id: %+v", l)
		}
	}
	if want := []string{"127.0.0.1:21", "[::]:990", "[::1]:991"}; !slices.Equal(ls, want) {
		t.Errorf("listening %v, want %v", ls, want)
	}
	if h := (Linux{Root: fstest.MapFS{}, Links: links}).Facts(); len(h.Unknown) != 3 || h.CanBindLow || h.Container != "" {
		t.Errorf("from an empty root: %+v", h)
	}
	for mark, want := range map[string]string{".dockerenv": "docker", "run/.containerenv": "podman", "var/run/secrets/kubernetes.io/x": "kubernetes"} {
		if got := (Linux{Root: fstest.MapFS{mark: {}}, Links: links}).Facts().Container; got != want {
			t.Errorf("%s: container %q, want %q", mark, got, want)
		}
	}
}

func TestThisHost(t *testing.T) {
	h := Host().Facts()
	if len(h.Interfaces) == 0 {
		t.Errorf("no interface: %+v", h)
	}
	if h.OS == "linux" && (h.Ephemeral.First == 0 || h.FileLimit == 0) {
		t.Errorf("%+v", h)
	}
}
