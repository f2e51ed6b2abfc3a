package doctor

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/firewall"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/ports"
)

func TestSettle(t *testing.T) {
	fs := Settle([]Finding{
		{Code: "B", Severity: Warning, Because: []string{"A"}},
		{Code: "N", Severity: Note},
		{Code: "A", Severity: Error},
		{Code: "A", Severity: Error},
		{Code: "C", Severity: Error, Because: []string{"X"}},
	})
	var got []string
	for _, f := range fs {
		got = append(got, f.Code)
	}
	if !slices.Equal(got, []string{"A", "C", "N"}) || !slices.Equal(fs[0].Hides, []string{"B"}) {
		t.Errorf("settled %v, hides %v", got, fs[0].Hides)
	}
	if Found([]Finding{{Severity: Note}}) || !Found(fs) {
		t.Error("notes are findings, or errors are none")
	}
	if two := Settle([]Finding{{Code: "A", Because: []string{"B"}}, {Code: "B", Because: []string{"A"}}}); len(two) != 2 {
		t.Error("findings that explain each other hid each other")
	}
}

func TestWhereDies(t *testing.T) {
	hops := func(kinds string) *Trace {
		tr := &Trace{To: netip.MustParseAddrPort("5.6.8.10:21")}
		for i, k := range kinds {
			h := Hop{TTL: i + 1, Kind: map[rune]HopKind{'x': HopExceeded, 'X': HopExceeded, '.': HopSilent, 'o': HopOpen, 'r': HopReset, 'i': HopRefused}[k]}
			switch k {
			case 'x':
				h.From = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			case 'X': // a router that has the target's address
				h.From = tr.To.Addr()
			case 'i': // it is one hop behind where its word comes
				h.From = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			}
			tr.Hops = append(tr.Hops, h)
		}
		return tr
	}
	tests := []struct {
		reach, dead string
		want        zone
	}{
		{"xxxo", "xxx....", pastGateway},
		{"xxxo", "xx....", atGateway},
		{"xxxo", "x....", atClientRouter},
		{"xxxo", "....", atClient},
		{"xxxxxo", "xxx....", inBetween},
		{"xxxo", "xxxr", pastGateway},
		{"xxXo", "xxr", atGateway},
		{"xxxo", "xxr", inBetween},
		{"xxxo", "xr", atClientRouter},
		{"xxxo", "r", atClientRouter},
		{"xxxo", "xi", atClientRouter},
		{"xxxo", "xxi", inBetween},
		{"xxxo", "xxxi", atGateway},
		{"xxo", "x....", atGateway},
		{"o", "....", pastGateway},
		{"o", "r", pastGateway},
		{"...o", "....", nowhere}, // routers that never say anything
		{"....", "....", nowhere},
	}
	for _, tt := range tests {
		if got := whereDies(hops(tt.reach), hops(tt.dead)); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.reach, tt.dead, got, tt.want)
		}
	}
	if whereDies(nil, hops("x")) != nowhere {
		t.Error("a place without a trace")
	}
}

func TestParseTarget(t *testing.T) {
	for _, good := range []string{"ftp://host", "ftps://host:990", "ftp://ann@host:2121/", "ftp://[2001:db8::1]:21"} {
		if _, err := ParseTarget(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"host", "http://host", "ftp://", "ftp://host/path", "ftp://ann:secret@host", "ftp://host:0", "ftp://host:99999", "ftp://%zz"} {
		if _, err := ParseTarget(bad); err == nil {
			t.Errorf("%s was taken", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the message repeats the password: %v", err)
		}
	}
}

func TestParseSight(t *testing.T) {
	s := parseSight([]string{"What this server saw of you:",
		"you from=203.0.113.5:41000 reached=10.0.0.2:21 listener=ftp-21", "passive ports=50000-50999 announced=198.51.100.1 outside=60000-60999", "active allowed=true",
		"firewall of=passive-data state=closed code=SERVER_FW_RANGE", "others reached=4 unreached=1", "something new=1",
		"data at=2026-01-02T03:04:05.5Z mode=PASV tls=true code=PR-D02 announced=198.51.100.1:50001 stranger=192.0.2.9:4 waited=1s"})
	if s == nil || s.From.Port() != 41000 || s.Ports != "50000-50999" || s.Outside != "60000-60999" || s.Firewall["passive-data"] != "closed" || !s.Active || s.OthersOK != "4" {
		t.Fatalf("read %+v", s)
	}
	if d := s.Data[0]; !d.TLS || d.Code != "PR-D02" || d.Stranger.Port() != 4 || d.At.IsZero() {
		t.Errorf("data %+v", d)
	}
	for _, junk := range [][]string{nil, {"SITE DIAG ok"}, {"you from=nonsense"}, {"data"}, {"you"}} {
		if parseSight(junk) != nil {
			t.Errorf("%q is taken for a record", junk)
		}
	}
}

func FuzzParseSight(f *testing.F) {
	f.Add("you from=203.0.113.5:41000 reached=10.0.0.2:21\ndata at=x mode=PASV announced=:::1")
	f.Fuzz(func(t *testing.T, text string) { parseSight(strings.Split(text, "\n")) })
}

func TestParseRoutes(t *testing.T) {
	const text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0158A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t0058A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nppp0\t00000000\t00000000\t0001\t0\t0\t9\t00000000\t0\t0\t0\nshort\n"
	got := parseRoutes(text)
	if len(got) != 2 || got[0].String() != "192.168.88.1" || got[1].IsValid() {
		t.Errorf("gateways %v", got)
	}
}

// env is a server behind a NAT that is set up well.
func env(t *testing.T, text string) *Env {
	t.Helper()
	cfg, err := config.Parse("portreeve.toml", []byte("data_dir = \"/srv/data\"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return &Env{
		Config: cfg, Running: 7, Now: time.Now(),
		Host: ports.HostFacts{OS: "linux", CanBindLow: true, UnprivilegedStart: 1024, Ephemeral: ports.PortRange{First: 32768, Last: 60999},
			Interfaces: []ports.Interface{{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.88.10/24")}}},
			Listening:  []ports.Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:21"), Owner: "portreeve"}}},
		Routes: Routes{Known: true, Gateways: []netip.Addr{netip.MustParseAddr("192.168.88.1")}},
		Rules:  func(context.Context) []firewall.RuleSet { return nil },
		Cert:   func(string) ([]byte, error) { return nil, os.ErrNotExist },
		Bind:   func(string, string) error { return nil },
	}
}

const goodConfig = "[[listen]]\nprotocol = \"ftp\"\naddress = \":21\"\n[ftp.passive]\nports = \"20000-20199\"\naddress = \"5.6.2.2\"\n[limits]\nmax_connections = 100\n"

func TestServerChecks(t *testing.T) {
	const dropAll = "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 21 -j ACCEPT\nCOMMIT\n"
	blocked := func() *ports.Matrix {
		return &ports.Matrix{Findings: []ports.Check{{Code: "RANGE_UNREACHED", Severity: ports.Error, Cause: "c", Cure: "x"}}}
	}
	tests := []struct {
		name   string
		config string
		change func(*Env)
		want   []string // codes, notes left out
		hides  string
	}{
		{"good", goodConfig, nil, nil, ""},
		{"not running", goodConfig, func(e *Env) { e.Running, e.Host.Listening = 0, nil }, []string{"NOT_RUNNING"}, ""},
		{"port taken", goodConfig, func(e *Env) {
			e.Running = 0
			e.Host.Listening = []ports.Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:21"), Owner: "vsftpd", PID: 3}}
			e.Bind = func(string, string) error { return syscall.EADDRINUSE }
		}, []string{"PORT_IN_USE"}, "NOT_RUNNING"},
		{"taken by nobody known", goodConfig, func(e *Env) {
			e.Running, e.Host.Listening = 0, nil
			e.Bind = func(string, string) error { return syscall.EADDRINUSE }
		}, []string{"PORT_IN_USE"}, "NOT_RUNNING"},
		{"no permission", goodConfig, func(e *Env) {
			e.Running, e.Host.Listening = 0, nil
			e.Bind = func(string, string) error { return syscall.EACCES }
		}, []string{"PORT_PERMISSION"}, "NOT_RUNNING"},
		{"not listening", goodConfig, func(e *Env) { e.Host.Listening[0].Addr = netip.MustParseAddrPort("0.0.0.0:2121") }, []string{"BIND_ADDR"}, ""},
		{"private address", strings.Replace(goodConfig, "address = \"5.6.2.2\"", "", 1), nil, []string{"PASV_ADDR_PRIVATE"}, ""},
		{"own firewall hides the rest", goodConfig, func(e *Env) {
			e.Matrix = blocked()
			e.Rules = func(context.Context) []firewall.RuleSet {
				return []firewall.RuleSet{{Format: firewall.FormatIptables, Text: dropAll}}
			}
		}, []string{"SERVER_FW_RANGE"}, "RANGE_UNREACHED"},
		{"recorder alone", goodConfig, func(e *Env) { e.Matrix = blocked() }, []string{"RANGE_UNREACHED"}, ""},
		{"missing tool", goodConfig, func(e *Env) {
			e.Rules = func(context.Context) []firewall.RuleSet {
				return []firewall.RuleSet{{Format: "nftables", Err: errors.New("nft is not installed")}}
			}
		}, nil, ""},
		{"no route", goodConfig, func(e *Env) { e.Routes.Gateways = nil }, []string{"SERVER_ROUTE"}, ""},
		{"two uplinks", goodConfig, func(e *Env) {
			e.Routes.Gateways = append(e.Routes.Gateways, netip.MustParseAddr("10.0.0.1"))
			e.Routes.Leaves = func(context.Context, netip.Addr) (string, bool) { return "eth1", true }
		}, []string{"ASYM_ROUTE"}, ""},
		{"second NAT", goodConfig, func(e *Env) {
			e.Router = func(context.Context, netip.Addr) nat.Uplink {
				return nat.Uplink{WAN: netip.MustParseAddr("192.168.1.7")}
			}
		}, []string{"DOUBLE_NAT"}, ""},
		{"provider's NAT", goodConfig, func(e *Env) {
			e.Router = func(context.Context, netip.Addr) nat.Uplink {
				return nat.Uplink{WAN: netip.MustParseAddr("100.64.3.4")}
			}
		}, []string{"CGNAT"}, ""},
		{"stale address", goodConfig, func(e *Env) {
			e.Router = func(context.Context, netip.Addr) nat.Uplink { return nat.Uplink{WAN: netip.MustParseAddr("5.6.2.3")} }
		}, []string{"PASV_ADDR_STALE"}, ""},
		{"certificate file broken", goodConfig, func(e *Env) { e.Cert = func(string) ([]byte, error) { return []byte("no PEM"), nil } }, []string{"CERT_PROBLEM"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := env(t, tt.config)
			if tt.change != nil {
				tt.change(e)
			}
			var got []string
			var hides []string
			for _, f := range RunChecks(t.Context(), ServerChecks(), e, nil) {
				if f.Fix == "" || f.Cause == "" || f.Title == "" || strings.Contains(f.Fix, "{") && !strings.Contains(f.Fix, "{ ") {
					t.Errorf("%s: title %q, cause %q, fix %q", f.Code, f.Title, f.Cause, f.Fix)
				}
				if f.Severity != Note && !slices.Contains(got, f.Code) {
					got = append(got, f.Code)
				}
				hides = append(hides, f.Hides...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("findings %v, want %v", got, tt.want)
			}
			if tt.hides != "" && !slices.Contains(hides, tt.hides) {
				t.Errorf("hidden %v, want %s", hides, tt.hides)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	e := env(t, "[[listen]]\nprotocol = \"ftp\"\naddress = \":2121\"\n[[listen]]\nprotocol = \"ftps\"\naddress = \":2990\"\n[ftp.passive]\nports = \"20000-20199\"\n")
	tests := []struct {
		ask, topic string
		says       []string
		not        []string
	}{
		{"which ports does FTPS use?", "Which ports does FTPS use?", []string{"2121", "2990", "20000-20199", "2120 or 2989"}, []string{"port 989"}},
		{"21 or 990?", "21 or 990?", []string{"Port 2121 is explicit", "Port 2990 is implicit"}, nil},
		{"explicit or implicit", "21 or 990?", []string{"2121"}, nil},
		{"what must my client's firewall open?", "What must my client's firewall open?", []string{"client's side", "20000-20199"}, nil},
		{"do I need to open port 20?", "What are ports 20 and 989 for?", []string{"source ports", "no inbound rule"}, nil},
		{"active or passive", "Active or passive?", []string{"the client opens both"}, nil},
		{"why does my listing hang", "Why does the log-in work and the listing hang?", []string{"20000-20199", "portreeve doctor"}, nil},
		{"is ftps on 22", "Is it FTPS or SFTP?", []string{"no SFTP listener", "does not use port 22"}, nil},
		{"which ports do I forward on my router", "What must the server's firewall and router open?", []string{"server's side"}, nil},
		{"what is the meaning of life", "", nil, nil},
	}
	for _, tt := range tests {
		topic, text := Answer(tt.ask, e.Config, e.Plan())
		if topic != tt.topic {
			t.Errorf("%q was taken as %q", tt.ask, topic)
		}
		for _, s := range tt.says {
			if !strings.Contains(text, s) {
				t.Errorf("%q: the answer lacks %q:\n%s", tt.ask, s, text)
			}
		}
		for _, s := range tt.not {
			if strings.Contains(text, s) {
				t.Errorf("%q: the answer has %q:\n%s", tt.ask, s, text)
			}
		}
	}
	for _, q := range Questions() {
		if topic, text := Answer(q, e.Config, e.Plan()); topic != q || text == "" {
			t.Errorf("%q is understood as %q", q, topic)
		}
	}
}

// TestAnswersOnUnusualPorts: the answers name this server's ports, also those
// outside, and do not repeat the customary ones where they are wrong (S2-S24, S30).
func TestAnswersOnUnusualPorts(t *testing.T) {
	const listeners = "[[listen]]\nprotocol = \"ftp\"\naddress = \":3021\"\ntls = \"offered\"\n[[listen]]\nprotocol = \"ftps\"\naddress = \":4990\"\ndata_tls = \"required\"\n[[listen]]\nprotocol = \"sftp\"\naddress = \":3022\"\n"
	plain := "[ftp.passive]\nports = \"40000-40099\"\nexternal_ports = \"50000-50099\"\naddress = \"5.6.2.2\"\n"
	shared := plain + "shared = \":4989\"\nshared_external = 989\n"
	for _, tt := range []struct {
		name, config, question string
		want, not              []string
	}{
		{"range", plain, "which ports does FTPS use?", []string{"port 3021", "port 4990", "ports 40000-40099 (ports 50000-50099 outside)"}, []string{"990 outside", " 21 "}},
		{"range", plain, "21 or 990?", []string{"Port 3021 is explicit", "Port 4990 is implicit", "40000-40099", "not how strong"}, []string{"port 21", "Port 990"}},
		{"range", plain, "What are ports 20 and 989 for?", []string{"source ports", "its port 3020 or 4989"}, nil},
		{"range", plain, "does ftps use port 22?", []string{"SFTP on port 3022", "FTPS does not use it"}, nil},
		{"range", plain, "what must my client's firewall open?", []string{"| 5.6.2.2 | 3021 |", "| 5.6.2.2 | 50000-50099 |", "| 5.6.2.2 | 3022 |"}, []string{"40000"}},
		{"range", plain, "what must the server's firewall and router open?", []string{"40000-40099", "5.6.2.2 port 50000-50099", "port 40000-40099 | TCP"}, []string{"stay the same"}},
		{"shared", shared, "which ports does FTPS use?", []string{"port 4989 (port 989 outside)", "clients do connect to it"}, []string{"40000"}},
		{"shared", shared, "which ports does passive mode use?", []string{"port 4989 (port 989 outside) with TLS", "ports 40000-40099 (ports 50000-50099 outside) without"}, nil},
		{"shared", shared, "What are ports 20 and 989 for?", []string{"its port 3020 or any port", "port 4989"}, []string{"3020 or 4989"}},
		{"shared", shared, "what must my client's firewall open?", []string{"| 5.6.2.2 | 989 | data of FTPS (passive mode), all of it on this one port |", "| 5.6.2.2 | 50000-50099 | data (passive mode) that does not use the shared port"}, nil},
		{"shared, range for those who do not resume", shared + "shared_fallback = \"range\"\n", "which ports does FTPS use?", []string{"ports 4989, 40000-40099"}, nil},
		{"no active mode", "[ftp]\nactive = false\n" + plain, "What are ports 20 and 989 for?", []string{"switched off"}, []string{"3020"}},
	} {
		e := env(t, tt.config+listeners)
		_, text := Answer(tt.question, e.Config, e.Plan())
		for _, w := range tt.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s, %s: %q is missing in\n%s", tt.name, tt.question, w, text)
			}
		}
		for _, w := range tt.not {
			if strings.Contains(text, w) {
				t.Errorf("%s, %s: %q is in\n%s", tt.name, tt.question, w, text)
			}
		}
	}
}

// Whoever is not root is refused by every tool alike, which is one thing to say.
func TestFirewallUnread(t *testing.T) {
	e := env(t, goodConfig)
	e.Rules = func(context.Context) []firewall.RuleSet {
		return []firewall.RuleSet{{Format: firewall.FormatNftables, Err: errors.New("not permitted\nyou must be root")}, {Format: firewall.FormatIptables, Err: errors.New("denied")}}
	}
	fs := checkFirewall(t.Context(), e)
	if len(fs) != 1 || fs[0].Code != "FW_UNREAD" || fs[0].Cause != "not permitted you must be root" || !slices.Equal(fs[0].Evidence, []string{"denied"}) {
		t.Errorf("%+v", fs)
	}
}
