//go:build lab

package netlab

import (
	"fmt"
	"strings"
)

// post is a rule for packets that leave.
func post(rule string) string {
	return "table ip nat {\n chain post {\n type nat hook postrouting priority srcnat\n " + rule + "\n }\n}\n"
}

// local is a chain of one node's own firewall; hook is "input" or "output".
func local(hook, rule string) string {
	return "table inet filter {\n chain " + hook + " {\n type filter hook " + hook + " priority filter\n " + rule + "\n }\n}\n"
}

// listeners are an FTP and an implicit FTPS listener at other ports, with the
// same lines added to both.
func listeners(ftp, ftps, lines string) string {
	return "[[listen]]\nprotocol = \"ftp\"\naddress = \"" + ftp + "\"\ntls = \"offered\"\n" + lines + "[[listen]]\nprotocol = \"ftps\"\naddress = \"" + ftps + "\"\n" + lines
}

const renumbered = "[ftp.passive]\nports = \"" + passive + "\"\naddress = \"" + routerOuter + "\"\nexternal_ports = \"40000-40019\"\n"

// renumber forwards n ports from other numbers, one to one.
func renumber(outside, inside, n int) string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("%d : 192.168.88.10 . %d", outside+i, inside+i))
	}
	return fmt.Sprintf(" ip daddr 5.6.2.2 tcp dport %d-%d dnat ip to tcp dport map { %s }", outside, outside+n-1, strings.Join(pairs, ", "))
}

func shared(address string) string {
	return "[ftp.passive]\nports = \"" + passive + "\"\nshared = \":989\"\naddress = \"" + address + "\"\n"
}

// container puts the server into one: a node behind a bridge of s, which
// publishes some ports.
func container(top topology, published string) topology {
	top.nodes, top.on = []string{"d"}, "d"
	top.links = []string{"docker0 s 172.17.0.1/16 d 172.17.0.2/16"}
	top.setup = append([]string{"d: ip route add default via 172.17.0.1"}, top.setup...)
	rules := map[string]string{}
	for node, r := range top.rules {
		rules[node] = r
	}
	rules["s"] += post("ip saddr 172.17.0.0/16 oifname != docker0 masquerade")
	if published != "" {
		rules["s"] += pre("iifname != docker0 tcp dport " + published + " dnat to 172.17.0.2")
	}
	top.rules = rules
	return top
}

func containerTopologies() []topology {
	all := "{ 21, 990, 20000-20019 }"
	return []topology{
		container(topology{name: "docker-good", config: announce(serverPublic), want: ".... .... ..", curl: true}, all),
		container(topology{name: "docker-range-not-published", config: announce(serverPublic), want: "RR.. RR.. RR", could: "DOCKER_PUBLISH", box: "server",
			cure: &cure{rules: map[string]string{"s": pre("iifname != docker0 tcp dport 20000-20019 dnat to 172.17.0.2")}}}, "{ 21, 990 }"),
		container(topology{name: "docker-inner-address", want: "U... U... U.", code: "PASV_ADDR_PRIVATE", box: "server", cure: &cure{config: announce(serverPublic)}}, all),
		container(topology{name: "docker-userland-proxy", config: announce(serverPublic) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + serverPublic + "\"\n",
			tools: []string{"s: forward 0.0.0.0 21,990,20000-20019 172.17.0.2"}, want: "..PP ..PP ..", code: "DOCKER_HIDES_CLIENT", box: "server", curl: true}, ""),
		container(topology{name: "docker-proxy-without-the-range", config: announce(serverPublic) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + serverPublic + "\"\n",
			tools: []string{"s: forward 0.0.0.0 21,990 172.17.0.2"}, want: "RRPP RRPP RR", code: "DOCKER_PUBLISH", box: "server"}, ""),
		container(topology{name: "docker-one-port", config: shared(serverPublic), want: "RR.. .... ..", could: "DOCKER_PUBLISH", box: "server"}, "{ 21, 990, 989 }"),
		// A service for the control port alone, and the node hides the client.
		container(topology{name: "kubernetes-control-only", config: announce(serverPublic) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + serverPublic + "\"\n",
			setup: []string{"d: ip addr flush dev docker0", "d: ip addr add 10.244.1.5/24 dev docker0", "d: ip route add default via 10.244.1.1", "s: ip addr add 10.244.1.1/24 dev docker0"},
			rules: map[string]string{"s": pre("tcp dport { 21, 990 } dnat to 10.244.1.5") + post("ip daddr 10.244.1.5 masquerade")}, want: "RRPP RRPP RR", could: "DOCKER_PUBLISH", box: "server-router"}, ""),
	}
}

func balancerTopologies() []topology {
	range_ := pre("ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.10")
	haproxy := func(send string) []string {
		return []string{"sr: printf 'defaults\\n mode tcp\\n timeout connect 5s\\n timeout client 60s\\n timeout server 60s\\nlisten c\\n bind 5.6.2.2:21\\n server s 192.168.88.10:21 " + send + "\\nlisten t\\n bind 5.6.2.2:990\\n server s 192.168.88.10:990 " + send + "\\n' >haproxy.cfg; haproxy -D -f haproxy.cfg"}
	}
	known := listeners(":21", ":990", "proxy = [\"192.168.88.1/32\"]\n")
	return []topology{
		{name: "haproxy-good", serverNAT: true, config: known + announce(routerOuter), rules: map[string]string{"sr": range_}, setup: haproxy("send-proxy-v2"), want: ".... .... ..", curl: true},
		{name: "haproxy-header-unexpected", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": range_}, setup: haproxy("send-proxy-v2"), want: "?", code: "PROXY_UNEXPECTED", box: "server",
			cure: &cure{config: known + announce(routerOuter)}},
		{name: "haproxy-header-v1-unexpected", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": range_}, setup: haproxy("send-proxy"), want: "?", code: "PROXY_UNEXPECTED", box: "server",
			cure: &cure{config: known + announce(routerOuter)}},
		{name: "haproxy-header-missing", serverNAT: true, config: known + announce(routerOuter), rules: map[string]string{"sr": range_}, setup: haproxy(""), want: "?", could: "PROXY_MISSING"},
		{name: "haproxy-no-header-range-direct", serverNAT: true, config: announce(routerOuter) + "[[ftp.passive.rule]]\nnetworks = [\"0.0.0.0/0\"]\naddress = \"" + routerOuter + "\"\n", rules: map[string]string{"sr": range_}, setup: haproxy(""), want: "44PP 44PP 44", could: "LB_HIDES_CLIENT", box: "balancer"},
		{name: "balancer-wrong-node", serverNAT: true, config: announce(routerOuter),
			rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n ip daddr 5.6.2.2 tcp dport 20000-20019 dnat to 192.168.88.20")},
			tools: []string{"l: accept 0.0.0.0 20000-20019"}, want: "?", could: "LB_WRONG_NODE", box: "balancer"},
		{name: "balancer-dead-node", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10")},
			tools: []string{"sr: forward 5.6.2.2 20000-20019 192.168.88.20"}, want: "?", could: "LB_WRONG_NODE", box: "balancer"},
		{name: "source-pool", clientNAT: true, rules: map[string]string{"cr": post("oifname wan1 tcp dport { 21, 990 } snat to 5.6.1.2\n oifname wan1 snat to 5.6.1.3")},
			setup: []string{"cr: nft flush chain ip nat post", "cr: nft add rule ip nat post oifname wan1 tcp dport '{ 21, 990 }' snat to 5.6.1.2", "cr: nft add rule ip nat post oifname wan1 snat to 5.6.1.3", "cr: ip addr add 5.6.1.3/24 dev wan1"},
			want:  "44PP 44PP 44", code: "SOURCE_MISMATCH", box: "client-router"},
		{name: "source-pool-one-port", clientNAT: true, config: shared(""),
			setup: []string{"cr: nft flush chain ip nat post", "cr: nft add rule ip nat post oifname wan1 tcp dport '{ 21, 990 }' snat to 5.6.1.2", "cr: nft add rule ip nat post oifname wan1 snat to 5.6.1.3", "cr: ip addr add 5.6.1.3/24 dev wan1"},
			want:  "44PP ..PP ..", code: "SOURCE_MISMATCH", box: "client-router"},
	}
}

func portTopologies() []topology {
	odd := listeners(":2121", ":9990", "")
	far := "[ftp.passive]\nports = \"60100-60119\"\n"
	both := map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport 8021 dnat to 192.168.88.10:2121\n ip daddr 5.6.2.2 tcp dport 60100-60119 dnat to 192.168.88.10")}
	return []topology{
		{name: "odd-ports", config: odd + far, target: "ftp://5.6.8.10:2121", want: ".... .... --", curl: true},
		{name: "odd-ports-fw-drop", config: odd + far, target: "ftp://5.6.8.10:2121", rules: map[string]string{"s": local("input", "iif lo accept\n ct state established accept\n meta l4proto icmp accept\n tcp dport { 2121, 9990 } accept\n drop")},
			want: "TT.. TT.. --", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "control-shifted", serverNAT: true, config: odd + "[ftp.passive]\nports = \"60100-60119\"\naddress = \"" + routerOuter + "\"\n", target: "ftp://5.6.2.2:8021", rules: both, want: ".... .... --", curl: true},
		{name: "helper-at-odd-port", serverNAT: true, config: odd, target: "ftp://5.6.2.2:2121",
			rules: map[string]string{"sr": "table ip help {\n ct helper ftp {\n type \"ftp\" protocol tcp\n }\n chain pre {\n type filter hook prerouting priority filter\n tcp dport 2121 ct helper set \"ftp\"\n }\n}\n" + pre("ip daddr 5.6.2.2 tcp dport { 2121, 9990 } dnat to 192.168.88.10") + dropRest},
			want:  ".... TT.. --", code: "SERVER_ALG_BLIND_TLS", box: "server-router", curl: true},
		{name: "helper-not-at-odd-port", config: odd, target: "ftp://5.6.8.10:2121",
			rules: map[string]string{"s": helper + local("input", "ct state established,related accept\n iif lo accept\n meta l4proto icmp accept\n tcp dport { 2121, 9990 } accept\n drop")},
			want:  "TT.. TT.. --", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "listeners-with-own-ranges", config: listeners(":21", ":990", "passive_ports = \"20000-20009\"\n") + listeners(":2121", ":9990", "passive_ports = \"30000-30009\"\n"), target: "ftp://5.6.8.10:2121",
			rules: map[string]string{"s": local("input", "iif lo accept\n ct state established accept\n meta l4proto icmp accept\n tcp dport { 21, 990, 2121, 9990, 20000-20009 } accept\n drop")},
			want:  "TT.. TT.. ..", code: "SERVER_FW_RANGE", box: "server"},
		{name: "one-port-good", config: shared(""), rules: map[string]string{"s": local("input", "iif lo accept\n ct state established accept\n tcp dport { 21, 989, 990 } accept\n drop")}, target: "ftps://5.6.8.10", flags: []string{"--insecure"}, want: "---- .... ..", curl: true},
		{name: "one-port-closed", config: shared(""), rules: map[string]string{"s": local("input", "iif lo accept\n ct state established accept\n meta l4proto icmp accept\n tcp dport { 21, 990, 20000-20019 } accept\n drop")},
			want: ".... TT.. TT", code: "SERVER_FW_RANGE", box: "server", curl: true, cure: &cure{open: "nftables"}},
		{name: "one-port-not-forwarded", serverNAT: true, config: shared(routerOuter), rules: map[string]string{"sr": pre(forwardAll) + dropRest}, want: ".... TT.. TT", code: "RANGE_NOT_FORWARDED", box: "server-router", curl: true,
			cure: &cure{rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport 989 dnat to 192.168.88.10")}}},
		{name: "one-port-client-firewall", config: shared(""), rules: map[string]string{"cr": forward("iifname lan tcp dport 989 drop")}, want: ".... TT.. TT", code: "CLIENT_FW_OUT_HIGH", box: "client-router", curl: true},
		// Other numbers outside, which the server knows of.
		{name: "range-renumbered", serverNAT: true, config: renumbered, rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n" + renumber(40000, 20000, 20))}, want: ".... .... ..", curl: true},
		{name: "range-renumbered-not-forwarded", serverNAT: true, config: renumbered, rules: map[string]string{"sr": pre(forwardAll) + dropRest}, want: "TT.. TT.. TT", code: "RANGE_NOT_FORWARDED", box: "server-router", fix: "40000-40019",
			cure: &cure{rules: map[string]string{"sr": pre(renumber(40000, 20000, 20))}}},
		{name: "one-port-renumbered", serverNAT: true, config: shared(routerOuter) + "shared_external = 8989\n", rules: map[string]string{"sr": pre(forwardAll + "\n" + renumber(8989, 989, 1))}, want: ".... .... ..", curl: true},
		{name: "one-port-renumbered-not-forwarded", serverNAT: true, config: shared(routerOuter) + "shared_external = 8989\n", rules: map[string]string{"sr": pre(forwardAll+"\n ip daddr 5.6.2.2 tcp dport 989 dnat to 192.168.88.10") + dropRest}, want: ".... TT.. TT", code: "RANGE_NOT_FORWARDED", box: "server-router", fix: "8989", curl: true,
			cure: &cure{rules: map[string]string{"sr": pre(renumber(8989, 989, 1))}}},
		{name: "range-half-on-the-server", rules: map[string]string{"s": local("input", "iif lo accept\n ct state established accept\n meta l4proto icmp accept\n tcp dport { 21, 990, 20000-20009 } accept\n drop")}, want: "~", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "other-table-fw", rules: map[string]string{"s": strings.ReplaceAll(input("drop"), "inet filter", "inet corporate")}, want: "TT.. TT.. TT", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "other-tables-fw-policy", config: odd, target: "ftp://5.6.8.10:2121", rules: map[string]string{"s": "table ip guard {\n chain services {\n tcp dport { 2121, 9990 } accept\n }\n chain in {\n type filter hook input priority 10\n policy drop\n iif lo accept\n ct state established accept\n jump services\n }\n}\n" +
			local("input", "ct state established accept\n iif lo accept\n tcp dport { 2121, 9990, 20000-20009 } accept\n reject")}, want: "?", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "range-one-in-four-dead", rules: map[string]string{"sr": forward("tcp dport { 20001, 20005, 20009, 20013, 20017 } drop")}, want: "~", code: "RANGE_PARTIAL", box: "server-router"},
	}
}

func wayTopologies() []topology {
	silent := map[string]string{"inet": forward("icmp type destination-unreachable drop") + local("output", "icmp type destination-unreachable drop"), "cr": local("output", "icmp type destination-unreachable drop")}
	transparent := "table ip tp {\n chain pre {\n type nat hook prerouting priority dstnat\n iifname wan1 tcp dport 21 redirect to :2100\n }\n chain own {\n type filter hook prerouting priority mangle\n iifname wan2 meta l4proto tcp socket transparent 1 meta mark set 1\n }\n}\n"
	routes := []string{"inet: ip rule add fwmark 1 lookup 100", "inet: ip route add local default dev lo table 100"}
	return []topology{
		// The SYN to the range comes in by another router than the answer leaves by.
		{name: "asymmetric", nodes: []string{"r2"}, links: []string{"wan3 inet 5.6.3.1/24 r2 5.6.3.2/24", "eth9 r2 5.6.8.2/24 sr 169.254.9.1/30"},
			rules: map[string]string{"sr": forward("ct state invalid drop"), "inet": "table ip two {\n chain pre {\n type filter hook prerouting priority mangle\n tcp dport 20000-20019 meta mark set 7\n }\n}\n"},
			setup: []string{"sr: sysctl -qw net.bridge.bridge-nf-call-iptables=0 || true", "sr: ip link set eth9 master lan", "inet: ip rule add fwmark 7 lookup 107", "inet: ip route add default via 5.6.3.2 table 107", "r2: ip route add default via 5.6.3.1"}, want: "TT.. TT.. TT", could: "ASYM_ROUTE"},
		{name: "hairpin-good", serverNAT: true, from: "l", config: announce(routerOuter), rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990, 20000-20019 } dnat to 192.168.88.10") + post("ip saddr 192.168.88.0/24 ip daddr 192.168.88.10 masquerade")},
			want: "..PP ..PP ..", code: "HAIRPIN", box: "client", curl: true},
		{name: "hairpin-without-snat", serverNAT: true, from: "l", config: announce(routerOuter), rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990, 20000-20019 } dnat to 192.168.88.10")}, setup: []string{"sr: sysctl -qw net.bridge.bridge-nf-call-iptables=0 || true"}, want: "---- ---- --", could: "HAIRPIN"},
		{name: "client-double-nat", clientNAT: true, rules: map[string]string{"inet": post("ip saddr 5.6.1.0/24 oifname wan2 snat to 5.6.2.1")}, want: "..PP ..PP ..", code: "CLIENT_NAT_ACTIVE", box: "client", curl: true},
		{name: "client-nat-and-server-nat", clientNAT: true, serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": pre(forwardAll)}, want: "..PP ..PP ..", code: "CLIENT_NAT_ACTIVE", box: "client", curl: true},
		{name: "mtu-blackhole-client-side", flags: []string{"--write"}, rules: silent, setup: []string{"cr: ip link set wan1 mtu 600", "inet: ip link set wan1 mtu 600"}, want: ".... LLLL LL", code: "MTU_BLACKHOLE", curl: true},
		{name: "nat64", target: "ftp://[64:ff9b::506:80a]", setup: []string{"c: ip addr flush dev lan scope global", "c: ip addr add " + client6 + "/64 dev lan nodad", "c: ip -6 route replace default via 2a0a:e5c1:7::1", "cr: ip -6 route add local 64:ff9b::/96 dev lan"},
			tools: []string{"cr: nat64 21,990,20000-20019"}, want: "---- ---- -- .P .P", code: "NAT64", box: "client", curl: true},
		{name: "port-20-rejected", rules: map[string]string{"s": local("output", "ct state new tcp sport { 20, 989 } reject")}, want: "..DD ..DD ..", code: "SERVER_FW_OUT", box: "server", curl: true},
		{name: "port-20-rejected-upstream", rules: map[string]string{"sr": forward("oifname wan2 ct state new tcp sport { 20, 989 } reject")}, want: "..DD ..DD ..", could: "UPSTREAM_FW_OUT", box: "unknown", curl: true},
		{name: "ftp-proxy", rules: map[string]string{"inet": transparent}, setup: routes, tools: []string{"inet: ftpproxy 2100 5.6.8.10:21 5.6.1.1"}, want: ".P.P AAAA ..", code: "MBOX_AUTH", box: "middlebox", curl: true},
		{name: "ftp-proxy-without-data", rules: map[string]string{"inet": transparent}, setup: routes, tools: []string{"inet: ftpproxy 2100 5.6.8.10:21 5.6.1.99 dead"}, want: "UP.P AAAA ..", could: "MBOX_AUTH", box: "middlebox"},
		{name: "tls-inspection", rules: map[string]string{"inet": transparent}, setup: routes, tools: []string{"inet: inspect 2100 5.6.8.10:21"}, want: ".... .... ..", code: "MBOX_TLS", box: "middlebox", curl: true},
		{name: "client-fw-out-prohibited", rules: map[string]string{"cr": forward("iifname lan tcp dport 1024-65535 ct state new reject with icmpx admin-prohibited")}, want: "UU.. UU.. UU", code: "CLIENT_FW_OUT_HIGH", box: "client-router"},
		{name: "client-fw-out-reset", rules: map[string]string{"cr": forward("iifname lan tcp dport 1024-65535 ct state new reject with tcp reset")}, want: "RR.. RR.. RR", could: "CLIENT_FW_OUT_HIGH"},
		{name: "upstream-fw-source", rules: map[string]string{"sr": forward("ip saddr 5.6.7.0/24 tcp dport 20000-20019 drop")}, want: "TT.. TT.. TT", could: "UPSTREAM_FW_SOURCE", box: "server-router"},
		{name: "forwarded-as-udp", serverNAT: true, config: announce(routerOuter), rules: map[string]string{"sr": pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10\n ip daddr 5.6.2.2 udp dport 20000-20019 dnat to 192.168.88.10") + dropRest},
			want: "TT.. TT.. TT", code: "RANGE_NOT_FORWARDED", box: "server-router"},
		{name: "port-21-blocked-by-the-provider", rules: map[string]string{"inet": forward("tcp dport 21 drop")}, want: "---- ---- ..", could: "CONTROL_BLOCKED_21"},
		{name: "no-way-back", setup: []string{"s: ip route del default"}, want: "---- ---- --", could: "SERVER_ROUTE"},
		{name: "no-way-back-on-the-server", here: true, setup: []string{"s: ip route del default", "s: ip -6 route del default"}, code: "SERVER_ROUTE", box: "server", cure: &cure{shell: []string{"s: ip route add default via 5.6.8.1"}}},
		{name: "helper-only-on-the-server", here: true, rules: map[string]string{"s": helper + local("input", "ct state established,related accept\n iif lo accept\n meta l4proto { icmp, ipv6-icmp } accept\n tcp dport { 21, 990 } accept\n drop")},
			code: "SERVER_ALG_BLIND_TLS", box: "server", cure: &cure{open: "nftables"}},
		{name: "loopback-only", config: listeners("127.0.0.1:21", "127.0.0.1:990", ""), want: "---- ---- --", could: "BIND_ADDR"},
		{name: "loopback-only-on-the-server", here: true, config: listeners("127.0.0.1:21", "127.0.0.1:990", ""), code: "BIND_ADDR", box: "server"},
		{name: "ipv6-only-server-fw", target: "ftp://[2a0a:e5c1:8::10]", rules: map[string]string{"s": input("drop")}, want: "---- ---- -- T. T.", code: "SERVER_FW_RANGE", box: "server", cure: &cure{open: "nftables"}},
		{name: "ipv6-only-upstream-fw", target: "ftp://[2a0a:e5c1:8::10]", rules: map[string]string{"sr": forward("iifname wan2 tcp dport 20000-20019 drop")}, want: "---- ---- -- T. T.", could: "UPSTREAM_FW_RANGE", box: "server-router"},
		{name: "ipv6-client-fw-in", target: "ftp://[2a0a:e5c1:8::10]", rules: map[string]string{"c": local("input", "ct state new meta l4proto tcp drop")}, want: "---- ---- -- .D .D", code: "CLIENT_FW_IN", box: "client", curl: true},
	}
}
