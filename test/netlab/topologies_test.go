//go:build lab

package netlab

const (
	forwardAll = "ip daddr 5.6.2.2 tcp dport { 21, 990, 20000-20019 } dnat to 192.168.88.10"
	dropRest   = "table inet own {\n chain input {\n type filter hook input priority filter\n ct state established,related accept\n meta l4proto { icmp, ipv6-icmp } accept\n drop\n }\n}\n"
	helper     = "table ip help {\n ct helper ftp {\n type \"ftp\" protocol tcp\n }\n chain pre {\n type filter hook prerouting priority filter\n tcp dport 21 ct helper set \"ftp\"\n }\n}\n"
)

// input is a server firewall that admits the control ports and drops or
// rejects the rest of the new connections.
func input(verdict string) string {
	return "table inet filter {\n chain input {\n type filter hook input priority filter\n iif lo accept\n ct state established accept\n meta l4proto { icmp, ipv6-icmp } accept\n tcp dport { 21, 990 } accept\n tcp dport 1024-65535 ct state new " + verdict + "\n }\n}\n"
}

func forward(rule string) string {
	return "table inet fw {\n chain forward {\n type filter hook forward priority filter\n " + rule + "\n }\n}\n"
}

func pre(rule string) string {
	return "table ip nat {\n chain pre {\n type nat hook prerouting priority dstnat\n " + rule + "\n }\n}\n"
}

func announce(addr string) string {
	return "[ftp.passive]\nports = \"" + passive + "\"\naddress = \"" + addr + "\"\n"
}

func topologies() []topology {
	return []topology{
		{name: "flat", want: ".... .... ..", curl: true},
		{name: "flat-two-families", target: "ftp://both.lab", want: ".... .... .. .. ..", curl: true},
		{name: "dnat-good", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": pre(forwardAll)}, want: ".... .... ..", curl: true},

		// announced addresses
		{name: "pasv-leak", serverNAT: true, rules: map[string]string{"sr": pre(forwardAll)}, want: "T... T... T.", code: "PASV_ADDR_PRIVATE", box: "server",
			cure: &cure{config: announce(routerOuter)}},
		{name: "pasv-wrong-external", serverNAT: true, config: announce("7.7.7.7"), rules: map[string]string{"sr": pre(forwardAll)}, want: "T... T... T.", code: "PASV_ADDR_STALE", box: "server",
			cure: &cure{config: announce(routerOuter)}},
		{name: "lan-client-external-pasv", serverNAT: true, from: "l", target: "ftp://" + serverPrivate,
			config: announce(routerOuter) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + routerOuter + "\"\n",
			rules:  map[string]string{"sr": pre("iifname wan2 " + forwardAll)}, want: "R... R... R.", code: "PASV_ADDR_PUBLIC_FOR_LAN", box: "server",
			cure: &cure{config: announce(routerOuter) + "[[ftp.passive.rule]]\nnetworks = [\"192.168.88.0/24\"]\naddress = \"" + serverPrivate + "\"\n"}},
		{name: "multihomed-wrong-advert", config: announce("5.6.8.11"), setup: []string{"s: ip addr add 5.6.8.11/24 dev eths"}, want: "R... R... R.", code: "PASV_ADDR_NOT_CONTROL", box: "server"},

		// the range
		{name: "range-not-forwarded", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10") + dropRest}, want: "TT.. TT.. TT", code: "RANGE_NOT_FORWARDED", box: "server-router",
			cure: &cure{rules: map[string]string{"sr": "add rule ip nat pre ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.10\n"}}},
		{name: "range-not-forwarded-reset", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10")}, want: "RR.. RR.. RR", code: "RANGE_NOT_FORWARDED", box: "server-router"},
		{name: "range-partial", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990, 20000-20009 } dnat to 192.168.88.10") + dropRest}, want: "~", code: "RANGE_PARTIAL", box: "server-router"},
		{name: "range-shifted", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.10:30000-30019"),
				"s": "table inet filter {\n chain input {\n type filter hook input priority filter\n tcp dport 30000-30019 drop\n }\n}\n"}, want: "TT.. TT.. TT", could: "RANGE_SHIFTED", box: "server-router"},
		{name: "forward-wrong-host-dead", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.99")}, want: "UU.. UU.. UU", code: "FORWARD_WRONG_HOST", box: "server-router"},
		{name: "forward-wrong-host-live", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.20")}, want: "RR.. RR.. RR", could: "FORWARD_WRONG_HOST", box: "server-router"},

		// firewalls
		{name: "server-fw-drop", rules: map[string]string{"s": input("drop")}, want: "TT.. TT.. TT", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "server-fw-rst", rules: map[string]string{"s": input("reject with tcp reset")}, want: "RR.. RR.. RR", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "server-fw-prohibited", rules: map[string]string{"s": input("reject with icmpx admin-prohibited")}, want: "UU.. UU.. UU", code: "SERVER_FW_RANGE", box: "server"},
		{name: "server-fw-drop-on-the-server", here: true, rules: map[string]string{"s": input("drop")}, code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "upstream-fw", rules: map[string]string{"sr": forward("iifname wan2 tcp dport 20000-20019 drop")}, want: "TT.. TT.. TT", could: "UPSTREAM_FW_RANGE", box: "server-router"},
		{name: "client-fw-out-high", rules: map[string]string{"cr": forward("iifname lan tcp dport 1024-65535 ct state new drop")}, want: "TT.. TT.. TT", code: "CLIENT_FW_OUT_HIGH", box: "client-router"},
		{name: "client-fw-own", rules: map[string]string{"c": "table inet f {\n chain o {\n type filter hook output priority filter\n tcp dport 1024-65535 ct state new drop\n }\n}\n"}, want: "TT.. TT.. TT", code: "CLIENT_FW_OUT_HIGH", box: "client"},
		{name: "client-fw-in", rules: map[string]string{"c": "table inet f {\n chain i {\n type filter hook input priority filter\n ct state new tcp dport 1024-65535 drop\n }\n}\n"}, want: "..DD ..DD ..", code: "CLIENT_FW_IN", box: "client", curl: true},
		{name: "server-egress-drop", rules: map[string]string{"s": "table inet filter {\n chain output {\n type filter hook output priority filter\n ct state new tcp sport { 20, 989 } drop\n }\n}\n"}, want: "..DD ..DD ..", code: "SERVER_FW_OUT", box: "server", curl: true},
		{name: "ipv6-fw-data", target: "ftp://both.lab", rules: map[string]string{"sr": forward("meta nfproto ipv6 tcp dport 20000-20019 drop")}, want: ".... .... .. T. T.", code: "IPV6_FW_RANGE", box: "server-router", curl: true},
		{name: "ipv6-fw-control", target: "ftp://both.lab", rules: map[string]string{"sr": forward("meta nfproto ipv6 meta l4proto tcp drop")}, want: ".... .... ..", code: "IPV6_FW_CONTROL", box: "server-router", curl: true},

		// helpers and meddlers
		{name: "fw-related-helper", rules: map[string]string{"s": helper + "table inet filter {\n chain input {\n type filter hook input priority filter\n ct state established,related accept\n iif lo accept\n meta l4proto { icmp, ipv6-icmp } accept\n tcp dport { 21, 990 } accept\n drop\n }\n}\n"},
			want: ".... TT.. TT", code: "SERVER_ALG_BLIND_TLS", box: "server", curl: true},
		{name: "server-alg-only", serverNAT: true, rules: map[string]string{"sr": helper + pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10") + dropRest},
			want: ".... TT.. TT", code: "SERVER_ALG_BLIND_TLS", box: "server-router", curl: true},
		{name: "client-alg", clientNAT: true, rules: map[string]string{"cr": helper}, want: ".... ..PP ..", code: "CLIENT_ALG_BLIND_TLS", box: "client-router", curl: true},
		{name: "client-nat-noalg", clientNAT: true, want: "..PP ..PP ..", code: "CLIENT_NAT_ACTIVE", box: "client", curl: true},
		{name: "alg-strip-auth", rules: map[string]string{"inet": forward("tcp dport 21 @ih,0,32 0x41555448 @ih,0,32 set 0x58585858")}, want: ".... AAAA ..", code: "MBOX_AUTH", box: "middlebox", curl: true},
		{name: "alg-drop-epsv", rules: map[string]string{"inet": forward("tcp dport 21 @ih,0,32 0x45505356 drop\n tcp dport 21 @ih,0,32 0x45505254 drop")}, want: ".p.p .... ..", code: "MBOX_EXT", box: "middlebox", curl: true},
		{name: "alg-rewrite-pasv", rules: map[string]string{"inet": forward("tcp sport 21 @ih,0,32 0x32323720 @ih,216,8 set 0x37")}, want: "T... .... ..", code: "MBOX_PASV_REWRITE", box: "middlebox"},

		// balancers
		{name: "lb-source-check", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre(forwardAll) + "add rule ip nat post ip daddr 192.168.88.10 tcp dport 20000-20019 masquerade\n"}, want: "44.. 44.. 44", code: "LB_SOURCE_CHECK", box: "balancer"},
		{name: "lb-hides-client", serverNAT: true, config: announce(routerOuter) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + routerOuter + "\"\n",
			rules: map[string]string{"sr": pre(forwardAll) + "add rule ip nat post ip daddr 192.168.88.10 masquerade\n"}, want: "..PP ..PP ..", could: "LB_HIDES_CLIENT", box: "balancer", curl: true},

		{name: "conn-limit", rules: map[string]string{"sr": "table ip lim {\n set cl {\n type ipv4_addr\n flags dynamic\n }\n chain forward {\n type filter hook forward priority filter\n iifname wan2 tcp dport { 21, 990, 20000-20019 } ct state new add @cl { ip saddr ct count over 1 } reject with tcp reset\n }\n}\n"},
			want: "?", could: "CONN_LIMIT", box: "server-router"},
		{name: "client-banned", rules: map[string]string{"s": "table inet f {\n chain i {\n type filter hook input priority filter\n ip saddr 5.6.7.0/24 drop\n }\n}\n"}, want: "---- ---- --", could: "CLIENT_BANNED", box: "unknown"},
		{name: "upstream-fw-out", rules: map[string]string{"sr": forward("oifname wan2 ct state new tcp sport { 20, 989 } drop")}, want: "..DD ..DD ..", could: "UPSTREAM_FW_OUT", box: "unknown", curl: true},
		{name: "server-alg-external-set", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": helper + pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10") + dropRest},
			want: "T... TT.. TT", code: "SERVER_ALG_BLIND_TLS", box: "server-router"},

		// control
		{name: "21-not-forwarded", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 990, 20000-20019 } dnat to 192.168.88.10") + dropRest}, want: "---- ---- ..", code: "CONTROL_NOT_FORWARDED", box: "server-router"},
		{name: "double-nat-inner-only", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": dropRest}, want: "---- ---- --", could: "DOUBLE_NAT", box: "unknown"},
		{name: "hairpin-none", serverNAT: true, from: "l", config: announce(routerOuter), rules: map[string]string{"sr": pre("iifname wan2 " + forwardAll)}, want: "---- ---- --", code: "HAIRPIN", box: "server-router"},
		{name: "nat-idle", clientNAT: true, flags: []string{"--idle", "12s"},
			rules: map[string]string{"cr": forward("ct state invalid drop")},
			setup: []string{"cr: sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=5 net.netfilter.nf_conntrack_tcp_loose=0"},
			want:  "..PP ..PP ..", code: "CONTROL_IDLE", box: "client-router", curl: true},
		{name: "mtu-blackhole", flags: []string{"--write"},
			rules: map[string]string{"inet": forward("icmp type destination-unreachable drop") + "table inet o {\n chain output {\n type filter hook output priority filter\n icmp type destination-unreachable drop\n }\n}\n",
				"sr": "table inet o {\n chain output {\n type filter hook output priority filter\n icmp type destination-unreachable drop\n }\n}\n"},
			setup: []string{"inet: ip link set wan2 mtu 600", "sr: ip link set wan2 mtu 600"}, want: ".... LLLL LL", code: "MTU_BLACKHOLE", box: "server-router", curl: true},
		{name: "port-in-use", here: true, config: "[[listen]]\nprotocol = \"ftp\"\naddress = \":21\"\ntls = \"offered\"\n", setup: []string{"s: (python3 -m http.server 21 >/dev/null 2>&1 &) ; sleep 1"}, code: "PORT_IN_USE", box: "server"},
		{name: "nothing-runs-there", setup: []string{"s: true"}, target: "ftp://5.6.8.20", want: "---- ---- --", could: "NOT_RUNNING", box: "unknown"},
	}
}
