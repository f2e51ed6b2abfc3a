package firewall

import (
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// nftSet writes ports for nftables: one bare, several in braces.
func nftSet(rs []ports.PortRange) string {
	s := ports.JoinRanges(rs, "-", ", ")
	if len(rs) > 1 {
		return "{ " + s + " }"
	}
	return s
}

// nftMatch writes the condition on family and destination of an opening.
func nftMatch(o ports.Opening) string {
	switch {
	case o.Addr.Is4():
		return "ip daddr " + o.Addr.String() + " "
	case o.Addr.IsValid():
		return "ip6 daddr " + o.Addr.WithZone("").String() + " "
	case o.Family == "ipv4":
		return "meta nfproto ipv4 "
	case o.Family == "ipv6":
		return "meta nfproto ipv6 "
	}
	return ""
}

func nftables(w *writer) {
	w.header(
		"They go into the table that Debian, Arch, Alpine and others use, inet filter. An accept in a table of",
		"its own would not help: a drop in another table still counts. If your rules are in another table or",
		"chain, change the names below; with firewalld or ufw use --for firewalld or --for ufw.",
		"",
		"Try:   portreeve ports open --for nftables | nft -c -f -",
		"Load:  portreeve ports open --for nftables | nft -f -",
		"Keep:  add the output to /etc/nftables.conf, after the table there.",
		"When loaded again, leave out the insert lines: the jumps are there already.")
	w.ln("add table inet filter")
	w.ln("add chain inet filter input { type filter hook input priority filter; }")
	w.ln("add chain inet filter portreeve_in")
	w.ln("flush chain inet filter portreeve_in")
	for _, o := range w.in {
		w.ln(`add rule inet filter portreeve_in %stcp dport %s ct state new accept comment "portreeve: control and passive data"`, nftMatch(o), nftSet(o.Ports))
	}
	w.ln(`insert rule inet filter input jump portreeve_in comment "portreeve"`)
	if len(w.src) > 0 {
		w.ln("")
		w.c("Active mode: needed only where outgoing connections are filtered.")
		w.ln("add chain inet filter output { type filter hook output priority filter; }")
		w.ln("add chain inet filter portreeve_out")
		w.ln("flush chain inet filter portreeve_out")
		w.ln(`add rule inet filter portreeve_out tcp sport %s tcp dport 1024-65535 ct state new accept comment "portreeve: active data"`, nftSet(w.src))
		w.ln(`insert rule inet filter output jump portreeve_out comment "portreeve"`)
	}
	if w.anySrc {
		w.activeAnywhere()
	}
	if w.plan.Forward {
		w.ln("")
		w.c("On a Linux router in front, not here (wan is its outer interface):")
		for _, f := range w.shifted() {
			w.c("  iptables -t nat -A PREROUTING -i wan -p tcp --dport %s -j DNAT --to-destination %s:%s/%d", strings.ReplaceAll(f.Outside.String(), "-", ":"), w.inside, f.Inside, f.Outside.First)
		}
		for _, o := range w.in {
			if w.plan.Shifted() {
				o.Ports = w.unshifted()
			}
			if o.Family == "ipv6" || len(o.Ports) == 0 {
				continue
			}
			w.c("  nft add rule ip nat prerouting iifname \"wan\" tcp dport %s dnat to %s", nftSet(o.Ports), w.target(o))
		}
		w.c("  nft add rule inet filter forward ct status dnat accept")
	}
}

// target is the inside address an opening is forwarded to.
func (w *writer) target(o ports.Opening) string {
	if o.Addr.Is4() {
		return o.Addr.String()
	}
	return w.inside
}

func (w *writer) activeAnywhere() {
	w.ln("")
	w.c("Active mode starts from any port here: where outgoing connections are filtered, permit TCP from this")
	w.c("machine to ports 1024-65535, or set ftp.active_source = \"control-1\" for fixed source ports.")
}

func iptables(w *writer) {
	w.header(
		"One file for both families: -4 lines are for iptables only, -6 lines for ip6tables only.",
		"",
		"Try:   iptables-restore --test --noflush FILE; ip6tables-restore --test --noflush FILE",
		"Load:  iptables-restore --noflush FILE; ip6tables-restore --noflush FILE",
		"Keep:  netfilter-persistent save (Debian), service iptables save (Red Hat)",
		"When loaded again, leave out the -I lines: the jumps are there already.")
	w.ln("*filter")
	w.ln(":PORTREEVE-IN - [0:0]")
	if len(w.src) > 0 {
		w.ln(":PORTREEVE-OUT - [0:0]")
	}
	for _, o := range w.in {
		match := ""
		switch {
		case o.Addr.Is4():
			match = "-4 -A PORTREEVE-IN -d " + o.Addr.String()
		case o.Addr.IsValid():
			match = "-6 -A PORTREEVE-IN -d " + o.Addr.WithZone("").String()
		case o.Family == "ipv4":
			match = "-4 -A PORTREEVE-IN"
		case o.Family == "ipv6":
			match = "-6 -A PORTREEVE-IN"
		default:
			match = "-A PORTREEVE-IN"
		}
		for _, rs := range chunks(o.Ports, 15) {
			w.ln(`%s -p tcp -m multiport --dports %s -m conntrack --ctstate NEW -m comment --comment "portreeve: control and passive data" -j ACCEPT`, match, ports.JoinRanges(rs, ":", ","))
		}
	}
	for _, rs := range chunks(w.src, 15) {
		w.ln(`-A PORTREEVE-OUT -p tcp -m multiport --sports %s -m tcp --dport 1024:65535 -m conntrack --ctstate NEW -m comment --comment "portreeve: active data" -j ACCEPT`, ports.JoinRanges(rs, ":", ","))
	}
	w.ln("-I INPUT 1 -j PORTREEVE-IN")
	if len(w.src) > 0 {
		w.ln("-I OUTPUT 1 -j PORTREEVE-OUT")
	}
	w.ln("COMMIT")
	if w.anySrc {
		w.activeAnywhere()
	}
	if w.plan.Forward {
		w.c("")
		w.c("On a Linux router in front, not here (wan is its outer interface):")
		for _, o := range w.in {
			if o.Family == "ipv6" {
				continue
			}
			for _, rs := range chunks(o.Ports, 15) {
				s := ports.JoinRanges(rs, ":", ",")
				w.c("  iptables -t nat -A PREROUTING -i wan -p tcp -m multiport --dports %s -j DNAT --to-destination %s", s, w.target(o))
				w.c("  iptables -I FORWARD -d %s -p tcp -m multiport --dports %s -j ACCEPT", w.target(o), s)
			}
		}
	}
}

// destinations returns how an opening is written where a destination stands
// for the family: any, one address, or all of IPv4 or IPv6.
func destination(o ports.Opening) string {
	switch {
	case o.Addr.IsValid():
		return o.Addr.WithZone("").String()
	case o.Family == "ipv4":
		return "0.0.0.0/0"
	case o.Family == "ipv6":
		return "::/0"
	}
	return "any"
}

func ufw(w *writer) {
	w.header(
		"Load:    portreeve ports open --for ufw | sh",
		"Repeat:  ufw skips rules it already has.",
		"Remove:  the same lines with \"ufw delete allow\" in place of \"ufw allow\".")
	for _, o := range w.in {
		for _, r := range o.Ports {
			w.ln("ufw allow proto tcp to %s port %s comment 'portreeve'", destination(o), r.Join(":"))
		}
	}
	if len(w.src) > 0 {
		w.ln("")
		w.c("Active mode: needed only after \"ufw default deny outgoing\".")
		for _, r := range w.src {
			w.c("ufw allow out proto tcp from any port %s to any port 1024:65535 comment 'portreeve'", r.Join(":"))
		}
	}
	if w.anySrc {
		w.activeAnywhere()
	}
}

func firewalld(w *writer) {
	w.header(
		"The predefined service \"ftp\" is not used: it opens port 21 and adds a helper that cannot read TLS.",
		"Rules go to the default zone; add --zone=NAME for another one.",
		"",
		"Load:    portreeve ports open --for firewalld | sh",
		"Repeat:  firewalld warns about what it already has and goes on.")
	for _, o := range w.in {
		for _, r := range o.Ports {
			family, dst := o.Family, ""
			if o.Addr.IsValid() {
				dst = ` destination address="` + o.Addr.WithZone("").String() + `"`
			}
			if family == "any" {
				w.ln("firewall-cmd --permanent --add-port=%s/tcp", r)
			} else {
				w.ln(`firewall-cmd --permanent --add-rich-rule='rule family="%s"%s port port="%s" protocol="tcp" accept'`, family, dst, r)
			}
		}
	}
	w.ln("firewall-cmd --reload")
	if len(w.src)+len(w.plan.ActiveSources()) > 0 {
		w.ln("")
		w.c("Active mode needs nothing here: firewalld lets outgoing connections pass unless a policy forbids it.")
	}
}

func pf(w *writer) {
	w.header(
		"Load:  put the lines into /etc/pf.conf after the blocking rules (the last match decides), or into an",
		"       anchor:  anchor \"portreeve\" in pf.conf, then pfctl -a portreeve -f FILE",
		"Try:   pfctl -nf FILE")
	for _, o := range w.in {
		family, dst := "", "any"
		if o.Family != "any" {
			family = map[string]string{"ipv4": " inet", "ipv6": " inet6"}[o.Family]
		}
		if o.Addr.IsValid() {
			dst = o.Addr.WithZone("").String()
		}
		w.ln(`pass in quick%s proto tcp from any to %s port { %s } flags S/SA keep state label "portreeve"`, family, dst, ports.JoinRanges(o.Ports, ":", " "))
	}
	if len(w.src) > 0 {
		w.c("Active mode: needed only where outgoing connections are blocked.")
		w.ln(`pass out quick proto tcp from any port { %s } to any port 1024:65535 flags S/SA keep state label "portreeve"`, ports.JoinRanges(w.src, ":", " "))
	}
	if w.anySrc {
		w.activeAnywhere()
	}
}

func windows(w *writer) {
	w.header(
		"Run in PowerShell as administrator. It may be run again: the old rules of the group go first.",
		"The stateful FTP filter is switched off because it breaks FTPS and is not needed with these rules.")
	w.ln("$ErrorActionPreference = 'Stop'")
	w.ln("Remove-NetFirewallRule -Group 'Portreeve' -ErrorAction SilentlyContinue")
	for i, o := range w.in {
		var quoted []string
		for _, r := range o.Ports {
			quoted = append(quoted, "'"+r.String()+"'")
		}
		local := "Any"
		switch {
		case o.Addr.IsValid():
			local = o.Addr.WithZone("").String()
		case o.Family == "ipv4":
			local = "'0.0.0.0-255.255.255.255'"
		case o.Family == "ipv6":
			local = "'::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'"
		}
		name := "Portreeve in"
		if i > 0 {
			name += " " + string(rune('1'+i))
		}
		w.ln("New-NetFirewallRule -Group 'Portreeve' -DisplayName '%s' -Direction Inbound -Action Allow -Protocol TCP -LocalAddress %s -LocalPort %s -Profile Any | Out-Null", name, local, strings.Join(quoted, ","))
	}
	if len(w.src) > 0 {
		var quoted []string
		for _, r := range w.src {
			quoted = append(quoted, "'"+r.String()+"'")
		}
		w.ln("New-NetFirewallRule -Group 'Portreeve' -DisplayName 'Portreeve active data' -Direction Outbound -Action Allow -Protocol TCP -LocalPort %s -RemotePort '1024-65535' -Profile Any | Out-Null", strings.Join(quoted, ","))
	}
	w.ln("netsh advfirewall set global StatefulFtp disable | Out-Null")
	if w.anySrc {
		w.activeAnywhere()
	}
}
