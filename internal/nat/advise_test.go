package nat

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func network(iface, s string) Network { return Network{iface, netip.MustParsePrefix(s)} }

func rule(addr string, nets ...string) Rule {
	r := Rule{Addr: ip(addr)}
	for _, n := range nets {
		r.Networks = append(r.Networks, netip.MustParsePrefix(n))
	}
	return r
}

func found(pairs ...string) (out []Candidate) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Candidate{Source: Source(pairs[i]), Addr: ip(pairs[i+1])})
	}
	return out
}

func TestAdvise(t *testing.T) {
	home := []Network{network("lo", "127.0.0.1/8"), network("eth0", "192.168.1.5/24")}
	gateway := []netip.Addr{ip("192.168.1.1")}
	const public, client = "198.51.100.20", "203.0.113.50"
	tests := []struct {
		name   string
		client string
		in     Inputs
		want   string
		source Source
		warn   string // codes, in order
		why    string // occurs in some step
	}{
		{"flat: public server", client, Inputs{Local: ip(public), Networks: []Network{network("eth0", "198.51.100.20/24")}}, public, FromControl, "", "public address of this machine"},
		{"behind NAT, address set, outside", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public)}, public, FromSetting, "", "ftp.passive.address is 198.51.100.20"},
		{"behind NAT, address set, LAN", "192.168.1.77", Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public)}, "192.168.1.5", FromControl, "", "network 192.168.1.0/24 of eth0"},
		{"behind NAT, found, LAN (pain 4)", "192.168.1.77", Inputs{Local: ip("192.168.1.5"), Networks: home, Found: found("upnp", public)}, "192.168.1.5", FromControl, "", ""},
		{"behind NAT, found, outside", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Found: found("upnp", public)}, public, FromUPnP, "", "there is a NAT in front"},
		{"behind NAT, nothing known", client, Inputs{Local: ip("192.168.1.5"), Networks: home}, "192.168.1.5", FromControl, "PASV_ADDR_PRIVATE", ""},
		{"IPv4 in IPv6 form", "::ffff:203.0.113.50", Inputs{Local: ip("::ffff:192.168.1.5"), Networks: home, Setting: rule(public)}, public, FromSetting, "", ""},
		{"routed inside network", "10.20.0.9", Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public)}, "192.168.1.5", FromControl, "", "by routing"},
		{"overlay network (pain 5)", "100.101.2.3", Inputs{Local: ip("100.64.0.9"), Networks: append(slices.Clone(home), network("tailscale0", "100.64.0.9/32")), Setting: rule(public)}, "100.64.0.9", FromControl, "", ""},
		{"inside address set on purpose", "10.20.0.9", Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule("10.20.0.1")}, "10.20.0.1", FromSetting, "", ""},
		{"hairpin through the router", "192.168.1.1", Inputs{Local: ip("192.168.1.5"), Networks: home, Gateways: gateway, Setting: rule(public)}, public, FromSetting, "", "hides the real client"},
		{"two uplinks: the one that was reached", client, Inputs{Local: ip("198.51.100.21"), Networks: []Network{network("a", "198.51.100.20/29"), network("b", "198.51.100.21/29")}}, "198.51.100.21", FromControl, "", ""},
		{"this machine", "127.0.0.1", Inputs{Local: ip("127.0.0.1"), Setting: rule(public)}, "127.0.0.1", FromControl, "", "this machine"},
		{"explicit rule comes first", "192.168.1.77", Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public), Rules: []Rule{rule("10.0.0.1", "10.0.0.0/8"), rule("192.168.1.6", "192.168.0.0/16", "172.16.0.0/12"), rule("1.2.3.4", "0.0.0.0/0")}}, "192.168.1.6", FromRule, "", "rule 2 matches"},
		{"no rule matches", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public), Rules: []Rule{rule("10.0.0.1", "10.0.0.0/8")}}, public, FromSetting, "", "none of 1 rules"},
		{"rule whose name does not resolve", "10.0.0.2", Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule(public), Rules: []Rule{{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Name: "in.example.org"}}}, "192.168.1.5", FromControl, "PASV_NAME", "has not been resolved"},
		{"name in the setting does not resolve", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: Rule{Name: "ftp.example.org"}, Found: found("stun", public)}, public, FromSTUN, "PASV_NAME", ""},
		{"balancer", client, Inputs{Local: ip("10.0.0.5"), Proxied: ip(public), Networks: []Network{network("eth0", "10.0.0.5/24")}}, public, FromProxy, "", "PROXY header"},
		{"second balancer (pain 6)", client, Inputs{Local: ip("10.0.0.5"), Proxied: ip("198.51.100.30"), Networks: []Network{network("eth0", "10.0.0.5/24")}, Found: found("cloud-metadata", public)}, "198.51.100.30", FromProxy, "", ""},
		{"balancer with an inside address", client, Inputs{Local: ip("10.0.0.5"), Proxied: ip("10.0.0.9"), Found: found("cloud-metadata", public)}, public, FromCloud, "", "cannot have reached"},
		{"inside client of a balancer", "10.9.9.9", Inputs{Local: ip("10.0.0.5"), Proxied: ip("10.0.0.9"), Networks: []Network{network("eth0", "10.0.0.5/8")}}, "10.0.0.9", FromProxy, "", ""},
		{"name the client used", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Name: "ftp.example.org", NameAddrs: []netip.Addr{ip("2001:db8::1"), ip("10.0.0.1"), ip(public)}}, public, FromName, "", "ftp.example.org"},
		{"name without a public address", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Name: "ftp.example.org", NameAddrs: []netip.Addr{ip("10.0.0.1")}, Found: found("pcp", public)}, public, FromPCP, "", ""},
		{"cloud before STUN", client, Inputs{Local: ip("10.0.0.5"), Found: found("stun", public, "cloud-metadata", public)}, public, FromCloud, "", ""},
		{"sources disagree", client, Inputs{Local: ip("10.0.0.5"), Found: found("stun", "198.51.100.99", "upnp", public)}, public, FromUPnP, "PASV_ADDR_CONFLICT", "trusted less"},
		{"router has no public address", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Found: found("nat-pmp", "100.70.1.2")}, "192.168.1.5", FromControl, "PASV_ADDR_PRIVATE", "not public (cgnat)"},
		{"machine inside the provider's NAT", client, Inputs{Local: ip("100.70.1.2")}, "100.70.1.2", FromControl, "CGNAT", ""},
		{"container, nothing known (pain 1)", client, Inputs{Local: ip("172.17.0.2"), Networks: []Network{network("eth0", "172.17.0.2/16")}, Container: "docker"}, "172.17.0.2", FromControl, "CONTAINER_ADDRESS", ""},
		{"container, LAN client", "192.168.1.50", Inputs{Local: ip("172.17.0.2"), Networks: []Network{network("eth0", "172.17.0.2/16")}, Container: "docker"}, "172.17.0.2", FromControl, "CONTAINER_ADDRESS", ""},
		{"container hides the client", "172.17.0.1", Inputs{Local: ip("172.17.0.2"), Networks: []Network{network("eth0", "172.17.0.2/16")}, Gateways: []netip.Addr{ip("172.17.0.1")}, Container: "docker", Setting: rule(public)}, public, FromSetting, "DOCKER_HIDES_CLIENT", ""},
		{"container beside it", "172.17.0.7", Inputs{Local: ip("172.17.0.2"), Networks: []Network{network("eth0", "172.17.0.2/16")}, Container: "docker", Setting: rule(public)}, "172.17.0.2", FromControl, "", ""},
		{"zero set", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule("0.0.0.0")}, "0.0.0.0", FromSetting, "PASV_ADDR_ZERO", ""},
		{"loopback set", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule("127.0.0.1")}, "127.0.0.1", FromSetting, "PASV_ADDR_PRIVATE", ""},
		{"private set for outside", client, Inputs{Local: ip("192.168.1.5"), Networks: home, Setting: rule("192.168.1.5")}, "192.168.1.5", FromSetting, "PASV_ADDR_PRIVATE", ""},
		{"IPv6", "2001:db8:1::9", Inputs{Local: ip("2001:db8::5"), Networks: home, Found: found("upnp", public)}, "2001:db8::5", FromControl, "", "EPSV"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Advise(ip(tt.client), tt.in)
			if d.Addr != ip(tt.want) || d.Source != tt.source {
				t.Errorf("announces %v (%s), want %s (%s)\n%s", d.Addr, d.Source, tt.want, tt.source, d.Text())
			}
			var codes []string
			for _, w := range d.Warnings {
				codes = append(codes, w.Code)
			}
			if got := strings.Join(codes, " "); got != tt.warn {
				t.Errorf("warns %q, want %q\n%s", got, tt.warn, d.Text())
			}
			if len(d.Why) == 0 || !strings.Contains(strings.Join(d.Why, "\n"), tt.why) {
				t.Errorf("no step mentions %q\n%s", tt.why, d.Text())
			}
			if (d.Rule != "") != (d.Source == FromRule || d.Source == FromSetting) {
				t.Errorf("rule %q for source %s", d.Rule, d.Source)
			}
		})
	}
}

func TestClassOf(t *testing.T) {
	for s, want := range map[string]Class{
		"8.8.8.8": Public, "198.51.100.1": Public, "10.1.2.3": Private, "172.31.0.1": Private, "172.32.0.1": Public, "192.168.0.1": Private, "fd00::1": Private,
		"100.64.0.1": Shared, "100.127.255.255": Shared, "100.128.0.1": Public, "127.0.0.9": Loopback, "::1": Loopback, "169.254.1.1": LinkLocal, "fe80::1": LinkLocal,
		"0.0.0.0": Unusable, "0.1.2.3": Unusable, "240.0.0.1": Unusable, "255.255.255.255": Unusable, "224.0.0.1": Unusable, "::ffff:10.0.0.1": Private, "2001:db8::1": Public,
	} {
		if got := ClassOf(ip(s)); got != want {
			t.Errorf("%s is %s, want %s", s, got, want)
		}
	}
	if ClassOf(netip.Addr{}) != Unusable {
		t.Error("no address has a class")
	}
}

func TestJudgeUplink(t *testing.T) {
	tests := []struct {
		u    Uplink
		kind UplinkKind
		code string
	}{
		{Uplink{}, UplinkUnknown, ""},
		{Uplink{Local: ip("198.51.100.5")}, UplinkDirect, ""},
		{Uplink{Local: ip("198.51.100.5"), Seen: ip("198.51.100.5")}, UplinkDirect, ""},
		{Uplink{Local: ip("192.168.1.5"), WAN: ip("198.51.100.20")}, UplinkNAT, ""},
		{Uplink{Local: ip("192.168.1.5"), WAN: ip("198.51.100.20"), Seen: ip("198.51.100.20")}, UplinkNAT, ""},
		{Uplink{Local: ip("192.168.1.5"), WAN: ip("198.51.100.20"), Seen: ip("203.0.113.1")}, UplinkCGNAT, "CGNAT"},
		{Uplink{Local: ip("192.168.1.5"), WAN: ip("100.70.1.2")}, UplinkCGNAT, "CGNAT"},
		{Uplink{Local: ip("192.168.1.5"), WAN: ip("192.168.0.2")}, UplinkDoubleNAT, "DOUBLE_NAT"},
		{Uplink{Local: ip("192.168.1.5"), Refused: true}, UplinkUnknown, "DOUBLE_NAT"},
		{Uplink{Local: ip("192.168.1.5"), Seen: ip("203.0.113.1")}, UplinkNAT, ""},
		{Uplink{Local: ip("100.70.1.2"), Seen: ip("203.0.113.1")}, UplinkCGNAT, "CGNAT"},
	}
	for _, tt := range tests {
		v := tt.u.Judge()
		if v.Kind != tt.kind || v.Code != tt.code || v.Text == "" || (v.Code != "") != (v.Cure != "") {
			t.Errorf("%+v: %+v, want %s %s", tt.u, v, tt.kind, tt.code)
		}
	}
}

func TestTrackerNoticesChanges(t *testing.T) {
	var tr Tracker
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	say := func(s Source, a string, after time.Duration) (Change, bool) {
		return tr.Update(Candidate{ip(a), s, now.Add(after)})
	}
	if _, changed := say(FromUPnP, "198.51.100.1", 0); changed {
		t.Error("the first address is no change")
	}
	if _, changed := say(FromUPnP, "::ffff:198.51.100.1", time.Minute); changed {
		t.Error("the same address is no change")
	}
	ch, changed := say(FromUPnP, "198.51.100.2", 2*time.Minute)
	if !changed || ch.Old != ip("198.51.100.1") || ch.New != ip("198.51.100.2") || !strings.Contains(ch.Text(), "198.51.100.2") {
		t.Errorf("%v %+v", changed, ch)
	}
	say(FromSTUN, "198.51.100.3", time.Minute)
	say(FromCloud, "198.51.100.4", time.Minute)
	got := tr.Found(now.Add(2*time.Minute), 0)
	if len(got) != 3 || got[0].Source != FromCloud || got[2].Source != FromSTUN {
		t.Errorf("%+v", got)
	}
	if got = tr.Found(now.Add(12*time.Minute), 10*time.Minute); len(got) != 1 || got[0].Source != FromUPnP {
		t.Errorf("stale ones are kept: %+v", got)
	}
	if _, changed = say(FromUPnP, "", 3*time.Minute); changed || len(tr.Found(now, 0)) != 2 {
		t.Error("a source that knows nothing any more must be forgotten")
	}
}
