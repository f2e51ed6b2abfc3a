package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/nat"
)

// testBook is the book of a machine at 192.168.1.5 behind the router 192.168.1.1.
func testBook(t *testing.T, lookup lookupFunc) *addressBook {
	t.Helper()
	b := newAddressBook(slog.New(slog.DiscardHandler))
	b.lookup, b.container = lookup, ""
	b.local = func() ([]nat.Network, error) {
		return []nat.Network{{Interface: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Interface: "eth0", Prefix: netip.MustParsePrefix("192.168.1.5/24")}}, nil
	}
	b.routers = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.168.1.1")}, nil }
	return b
}

func prefix(s string) config.Prefix { return config.Prefix{Prefix: netip.MustParsePrefix(s)} }

func portRange(first, last uint16) *config.PortRange {
	return &config.PortRange{First: first, Last: last}
}

func TestAnnounce(t *testing.T) {
	resolve := func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip4" {
			t.Errorf("looked up %s", network)
		}
		switch host {
		case "ftp.example.org":
			return []netip.Addr{netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("203.0.113.77")}, nil
		case "inside.example.org":
			return []netip.Addr{netip.MustParseAddr("10.0.0.5")}, nil
		}
		return nil, errors.New("no such host")
	}
	rules := []config.PassiveRule{
		{Networks: []config.Prefix{prefix("10.9.0.0/16"), prefix("192.0.2.0/24")}, Address: "198.18.0.1", External: portRange(61000, 61999)},
		{Networks: []config.Prefix{prefix("172.16.0.0/12")}, Address: "inside.example.org"},
	}
	const here, outside = "192.168.1.5", "203.0.113.5"
	tests := []struct {
		name    string
		address string
		own     string // of the listener
		hosts   []string
		rules   []config.PassiveRule
		from    caller
		want    string
		port    uint16 // announced for 50001; 0: the same
	}{
		{"empty", "", "", nil, nil, caller{client: netip.MustParseAddr(outside)}, here, 60001},
		{"literal", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr(outside)}, "203.0.113.1", 60001},
		{"literal, IPv4 in IPv6", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("::ffff:203.0.113.5")}, "203.0.113.1", 60001},
		{"listener's own", "203.0.113.1", "203.0.113.2", nil, nil, caller{client: netip.MustParseAddr(outside)}, "203.0.113.2", 60001},
		{"neighbour", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("192.168.1.9")}, here, 0},
		{"the router stands for somebody outside", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("192.168.1.1")}, "203.0.113.1", 60001},
		{"private client by routing", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("10.20.0.9")}, here, 0},
		{"this machine", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("127.0.0.1"), local: netip.MustParseAddr("127.0.0.1")}, "127.0.0.1", 0},
		{"private address on purpose", "10.1.1.1", "", nil, nil, caller{client: netip.MustParseAddr("10.20.0.9")}, "10.1.1.1", 60001},
		{"rule wins over the inside", "203.0.113.1", "", nil, rules, caller{client: netip.MustParseAddr("10.9.1.1")}, "198.18.0.1", 61001},
		{"rule for a public network", "203.0.113.1", "", nil, rules, caller{client: netip.MustParseAddr("192.0.2.5")}, "198.18.0.1", 61001},
		{"rule with a name and no other ports", "203.0.113.1", "", nil, rules, caller{client: netip.MustParseAddr("172.20.0.1")}, "10.0.0.5", 0},
		{"no rule matches", "203.0.113.1", "", nil, rules, caller{client: netip.MustParseAddr(outside)}, "203.0.113.1", 60001},
		{"name", "ftp.example.org", "", nil, nil, caller{client: netip.MustParseAddr(outside)}, "203.0.113.77", 60001},
		{"name for a private client", "ftp.example.org", "", nil, nil, caller{client: netip.MustParseAddr("10.0.0.9")}, here, 0},
		{"name unknown", "gone.example.org", "", nil, nil, caller{client: netip.MustParseAddr(outside)}, here, 60001},
		{"balancer", "", "", nil, nil, caller{client: netip.MustParseAddr(outside), proxied: netip.MustParseAddr("198.51.100.20")}, "198.51.100.20", 60001},
		{"balancer, inside client", "203.0.113.1", "", nil, nil, caller{client: netip.MustParseAddr("10.0.0.9"), proxied: netip.MustParseAddr("10.0.0.200")}, "10.0.0.200", 0},
		{"SNI or HOST", "", "", []string{"ftp.example.org", "*.example.org"}, nil, caller{client: netip.MustParseAddr(outside), name: "FTP.example.org."}, "203.0.113.77", 60001},
		{"a name that is not ours", "", "", []string{"ftp.example.org"}, nil, caller{client: netip.MustParseAddr(outside), name: "evil.example.org"}, here, 60001},
	}
	for _, tt := range tests {
		b := testBook(t, resolve)
		l := &config.Listen{PassiveAddress: tt.own, Hosts: tt.hosts}
		a, hosts := newAnnouncer(b, &config.Passive{Ports: *portRange(50000, 50999), ExternalPorts: portRange(60000, 60999), Address: tt.address, Rules: tt.rules}, l)
		b.set(t.Context(), hosts, time.Minute, a.names...)
		if !tt.from.local.IsValid() {
			tt.from.local = netip.MustParseAddr(here)
		}
		d := a.decide(tt.from)
		if d.Addr.String() != tt.want || len(d.Why) == 0 {
			t.Errorf("%s: %s, want %s\n%s", tt.name, d.Addr, tt.want, d.Text())
		}
		if want := max(tt.port, 50001); d.Port(50001) != want {
			t.Errorf("%s: port 50001 is announced as %d, want %d\n%s", tt.name, d.Port(50001), want, d.Text())
		}
	}
}

// TestInsideAndOutsideTogether: one server behind a NAT that also renumbers the
// ports tells each client, at the same time, what works from where it is.
func TestInsideAndOutsideTogether(t *testing.T) {
	r := prepare(t, "address = \"198.51.100.20\"\n"+listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nproxy = [\"127.0.0.1\"]"))
	in := r.config().FTP.Passive.Ports
	r.write(strings.Replace(r.toml, "[ftp.passive]\n", fmt.Sprintf("[ftp.passive]\nexternal_ports = \"%d-%d\"\n", in.First+30000, in.Last+30000), 1))
	r.run()
	enter := func(client, reached string) *rawClient {
		l := dialRaw(t, r.address(0))
		l.send("PROXY TCP4 " + client + " " + reached + " 12345 21")
		l.expect("220")
		l.login()
		return l
	}
	ask := func(l *rawClient, addr string, first uint16) {
		t.Helper()
		var h [4]byte
		var hi, lo, port uint16
		l.send("PASV")
		reply := l.expect("227")
		if _, err := fmt.Sscanf(reply[strings.Index(reply, "("):], "(%d,%d,%d,%d,%d,%d)", &h[0], &h[1], &h[2], &h[3], &hi, &lo); err != nil {
			t.Fatalf("%q: %v", reply, err)
		}
		if got := netip.AddrFrom4(h).String(); got != addr {
			t.Errorf("PASV announces %s, want %s", got, addr)
		}
		if port = hi<<8 | lo; port < first || port > first+49 {
			t.Errorf("PASV announces port %d, want one of %d-%d", port, first, first+49)
		}
		l.send("EPSV")
		reply = l.expect("229")
		if _, err := fmt.Sscanf(reply[strings.Index(reply, "(|||"):], "(|||%d|)", &port); err != nil || port < first || port > first+49 {
			t.Errorf("EPSV announces %q (%v), want a port of %d-%d", reply, err, first, first+49)
		}
	}
	lan, out := enter("192.168.1.77", "192.168.1.5"), enter("203.0.113.9", "198.51.100.20")
	for range 3 {
		ask(lan, "192.168.1.5", in.First)
		ask(out, "198.51.100.20", in.First+30000)
	}
}

// TestAddressChange: a new public address is told at once, and leaves a line
// and an event.
func TestAddressChange(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	sub := r.s.Bus().Subscribe("test", events.AddressChanged)
	defer sub.Close()
	b := r.s.book
	a, _ := newAnnouncer(b, &config.Passive{}, &config.Listen{})
	told := func() string {
		return a.decide(caller{client: netip.MustParseAddr("203.0.113.9"), local: netip.MustParseAddr("192.168.1.5")}).Addr.String()
	}
	answers := []string{"198.51.100.20", "198.51.100.20", "198.51.100.77"}
	o := newOutside(b, &config.NAT{STUN: "stun.example.org:3478"}, b.log)
	o.stun = func(context.Context, string) (netip.Addr, error) {
		if len(answers) == 0 {
			return netip.Addr{}, errors.New("no answer")
		}
		defer func() { answers = answers[1:] }()
		return netip.MustParseAddr(answers[0]), nil
	}
	for _, want := range []string{"198.51.100.20", "198.51.100.20", "198.51.100.77", "198.51.100.77"} {
		o.look(t.Context())
		if got := told(); got != want {
			t.Errorf("clients are told %s, want %s", got, want)
		}
	}
	select {
	case e := <-sub.C():
		contains(t, e.Detail, "changed from 198.51.100.20 to 198.51.100.77")
	case <-time.After(10 * time.Second):
		t.Error("no event")
	}
	contains(t, r.logs.String(), "changed from 198.51.100.20 to 198.51.100.77", "does not tell the public address")
}

// TestMappedPorts: a router that gives other numbers is believed, for clients
// outside only, and only as long as the mapping stands.
func TestMappedPorts(t *testing.T) {
	b := testBook(t, nil)
	a, _ := newAnnouncer(b, &config.Passive{Ports: *portRange(50000, 50003)}, &config.Listen{})
	b.refresh(t.Context())
	m := nat.Mapping{Internal: 50001, External: 41001, Addr: netip.MustParseAddr("198.51.100.20"), Source: nat.FromPCP}
	b.setMapping(m, false)
	b.foundAddress(nat.Candidate{Addr: m.Addr, Source: m.Source})
	for client, want := range map[string]netip.AddrPort{
		"203.0.113.9": netip.MustParseAddrPort("198.51.100.20:41001"), "192.168.1.9": netip.MustParseAddrPort("192.168.1.5:50001"),
	} {
		d := a.decide(caller{client: netip.MustParseAddr(client), local: netip.MustParseAddr("192.168.1.5")})
		if got := netip.AddrPortFrom(d.Addr, d.Port(50001)); got != want || d.Port(50002) != 50002 {
			t.Errorf("%s is told %s, want %s\n%s", client, got, want, d.Text())
		}
	}
	if b.setMapping(m, true); a.renumbers() {
		t.Error("a mapping that is gone still counts")
	}
}

// TestUplinkIsJudged: what stands in the way is said once, with the cure.
func TestUplinkIsJudged(t *testing.T) {
	var logs logBuffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	b := testBook(t, nil)
	o := newOutside(b, &config.NAT{Router: true}, log)
	o.local = func(netip.Addr) netip.Addr { return netip.MustParseAddr("192.168.1.5") }
	wan := "100.72.0.9"
	o.find = func(context.Context, netip.Addr) (nat.Mapper, nat.Uplink, error) {
		return &nat.PortControl{}, nat.Uplink{WAN: netip.MustParseAddr(wan)}, nil
	}
	o.look(t.Context())
	o.look(t.Context())
	if n := strings.Count(logs.String(), "code=CGNAT"); n != 1 {
		t.Errorf("said %d times:\n%s", n, logs.String())
	}
	wan = "192.168.178.20"
	o.look(t.Context())
	contains(t, logs.String(), "code=DOUBLE_NAT", "192.168.178.20")
}

// TestExplainIsTheServersOwn: the command and the server answer alike.
func TestExplainIsTheServersOwn(t *testing.T) {
	lookup := func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.9.0.1")}, nil
	}
	cfg := config.Default()
	cfg.FTP.Passive.Address = "203.0.113.1"
	cfg.FTP.Passive.Rules = []config.PassiveRule{{Networks: []config.Prefix{prefix("10.9.0.0/16")}, Address: "name.example.org"}}
	l := &config.Listen{Protocol: config.ProtocolFTP, Address: ":21"}
	for client, want := range map[string]string{"198.51.100.7": "203.0.113.1", "192.168.1.20": "192.168.1.5", "10.9.3.4": "10.9.0.1"} {
		d := explainPASV(t.Context(), testBook(t, lookup), cfg, l, netip.MustParseAddr(client), netip.MustParseAddr("192.168.1.5"), "")
		if d.Addr.String() != want || len(d.Why) == 0 {
			t.Errorf("%s is told %s because %v, want %s", client, d.Addr, d.Why, want)
		}
	}
}

// TestNamesAreLookedUpAgain: the book follows a dynamic address, keeps the last
// one while the name does not resolve, and tries again soon.
func TestNamesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[netip.Addr]
		point := func(s string) {
			a := netip.MustParseAddr(s)
			now.Store(&a)
		}
		point("203.0.113.1")
		b := testBook(t, func(context.Context, string, string) ([]netip.Addr, error) {
			if a := now.Load(); a != nil {
				return []netip.Addr{*a}, nil
			}
			return nil, errors.New("SERVFAIL")
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		b.set(ctx, []string{"dyn.example.org"}, 5*time.Minute)
		go func() { b.run(ctx); close(done) }()
		check := func(want string) {
			t.Helper()
			if got := b.addrOf("dyn.example.org").String(); got != want {
				t.Errorf("after %v: %s, want %s", time.Now(), got, want)
			}
		}
		check("203.0.113.1")
		point("203.0.113.2")
		time.Sleep(4 * time.Minute)
		check("203.0.113.1")
		time.Sleep(2 * time.Minute)
		check("203.0.113.2")
		now.Store(nil)
		time.Sleep(20 * time.Minute)
		check("203.0.113.2") // stale is better than nothing
		point("203.0.113.3")
		time.Sleep(lookupAgain + time.Second)
		check("203.0.113.3")
		cancel()
		<-done
	})
}

// TestLookupBlocksNobody: while a look-up hangs, sessions get what is known.
func TestLookupBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBook(t, func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begin := time.Now()
		a, hosts := newAnnouncer(b, &config.Passive{Address: "slow.example.org"}, &config.Listen{})
		b.set(t.Context(), hosts, time.Minute)
		if d := time.Since(begin); d > lookupTime {
			t.Errorf("the start waited %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.run(ctx); close(done) }()
		time.Sleep(lookupAgain + time.Second) // a look-up is under way
		begin = time.Now()
		a.decide(caller{client: netip.MustParseAddr("203.0.113.5"), local: netip.MustParseAddr("192.168.1.5")})
		if d := time.Since(begin); d != 0 {
			t.Errorf("a session waited %s", d)
		}
		cancel()
		<-done
	})
}
