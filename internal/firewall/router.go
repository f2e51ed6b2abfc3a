package firewall

import (
	"slices"

	"github.com/portreeve/portreeve/internal/ports"
)

// insideLines explains the address that a router forwards to.
func (w *writer) insideLines() []string {
	if w.guess {
		return []string{"REPLACE " + w.inside + " by the inside address of this machine, and give it a fixed DHCP lease."}
	}
	return []string{"The inside address is " + w.inside + ": give the machine a fixed DHCP lease, so that it stays so."}
}

// numbers says what becomes of the port numbers.
func (w *writer) numbers() string {
	if w.plan.Shifted() {
		return "The passive ports have other numbers outside (external_ports); a second router in front forwards the outside numbers."
	}
	return sameNumbers
}

const sameNumbers = "Port numbers stay the same inside and outside; a second router in front needs the same forwards."

func mikrotik(w *writer) {
	w.header(append(w.insideLines(), w.numbers(),
		"Paste into the terminal of the router. WAN is the interface list of the default configuration.",
		"The FTP helper is switched off: it cannot read TLS and rewrites correct replies.")...)
	w.ln(`/ip firewall service-port set [find name="ftp"] disabled=yes`)
	v4, v6 := w.families()
	if v4 {
		dst := "in-interface-list=WAN"
		if isIP(w.outer) {
			dst = "dst-address=" + w.outer
		}
		for _, f := range w.shifted() {
			w.ln(`/ip firewall nat add chain=dstnat action=dst-nat protocol=tcp %s dst-port=%s to-addresses=%s to-ports=%s comment="portreeve"`, dst, f.Outside, w.inside, f.Inside)
		}
		for _, rs := range chunks(w.unshifted(), 15) {
			s := ports.JoinRanges(rs, "-", ",")
			w.ln(`/ip firewall nat add chain=dstnat action=dst-nat protocol=tcp %s dst-port=%s to-addresses=%s comment="portreeve"`, dst, s, w.inside)
		}
		w.c("Clients of the same LAN that use the public address (hairpin):")
		w.ln(`/ip firewall nat add chain=srcnat action=masquerade protocol=tcp src-address=%s dst-address=%s comment="portreeve hairpin"`, network24(w.inside), w.inside)
		w.c("The default configuration accepts forwarded connections that were dst-natted; without that rule:")
		w.c(`/ip firewall filter add chain=forward action=accept connection-nat-state=dstnat comment="portreeve" place-before=0`)
	}
	if a, ok := w.ipv6Inside(); ok && v6 {
		for _, rs := range chunks(w.portsFor("ipv6"), 15) {
			w.ln(`/ipv6 firewall filter add chain=forward action=accept protocol=tcp dst-address=%s/128 dst-port=%s comment="portreeve" place-before=0`, a, ports.JoinRanges(rs, "-", ","))
		}
	}
}

// shifted returns what a router passes on under other port numbers.
func (w *writer) shifted() []ports.Forward {
	return slices.DeleteFunc(w.plan.Forwards(), func(f ports.Forward) bool { return f.Outside == f.Inside })
}

// unshifted returns the IPv4 ports that a router passes on under their own numbers.
func (w *writer) unshifted() []ports.PortRange {
	if !w.plan.Shifted() {
		return w.portsFor("ipv4")
	}
	var out []ports.PortRange
	for _, f := range w.plan.Forwards() {
		if f.Outside == f.Inside {
			out = append(out, f.Inside)
		}
	}
	return ports.MergeRanges(out)
}

func openwrt(w *writer) {
	w.header(append(w.insideLines(), w.numbers(),
		"Run on the router:  portreeve ports open --for openwrt | ssh root@router sh",
		"It may be run again: each section is deleted first.")...)
	v4, v6 := w.families()
	if v4 {
		fs := w.shifted()
		for _, r := range w.unshifted() {
			fs = append(fs, ports.Forward{Outside: r, Inside: r})
		}
		for _, f := range fs {
			r := f.Outside
			name := "portreeve_" + ruleName(r)
			w.ln("uci -q delete firewall.%s", name)
			w.ln("uci set firewall.%s=redirect", name)
			for _, kv := range [][2]string{{"name", "portreeve " + r.String()}, {"target", "DNAT"}, {"family", "ipv4"}, {"proto", "tcp"}, {"src", "wan"}, {"src_dport", r.String()},
				{"dest", "lan"}, {"dest_ip", w.inside}, {"dest_port", f.Inside.String()}, {"reflection", "1"}} {
				w.ln("uci set firewall.%s.%s='%s'", name, kv[0], kv[1])
			}
		}
	}
	if a, ok := w.ipv6Inside(); ok && v6 {
		w.ln("uci -q delete firewall.portreeve_ipv6")
		w.ln("uci set firewall.portreeve_ipv6=rule")
		for _, kv := range [][2]string{{"name", "portreeve IPv6"}, {"target", "ACCEPT"}, {"family", "ipv6"}, {"proto", "tcp"}, {"src", "wan"}, {"dest", "lan"}, {"dest_ip", a.String()}, {"dest_port", ports.JoinRanges(w.portsFor("ipv6"), "-", " ")}} {
			w.ln("uci set firewall.portreeve_ipv6.%s='%s'", kv[0], kv[1])
		}
	}
	w.ln("uci commit firewall")
	w.ln("service firewall reload")
}

// haproxy writes a whole configuration: it can be started as it is.
func haproxy(w *writer) {
	w.header(append(w.insideLines(),
		"Control connections carry a PROXY header (version 2) with the client's address. In portreeve.toml give",
		"each listener  proxy = [\"ADDRESS OF THE BALANCER\"]  and set ftp.passive.address to the address clients use.",
		"Data connections carry none: the server takes them from the balancers named there.",
		"Timeouts: a control connection is quiet during a long transfer, so they must be long.",
		"",
		"Try:  portreeve ports open --for haproxy > portreeve.cfg && haproxy -c -f portreeve.cfg")...)
	w.ln("defaults\n    mode tcp\n    timeout connect 10s\n    timeout client 4h\n    timeout server 4h\n    option clitcpka\n    option srvtcpka")
	taken := map[string]string{} // family, by name
	for i := range w.plan.Flows {
		f := &w.plan.Flows[i]
		if f.Direction != ports.In || f.Local() {
			continue
		}
		name := "portreeve_" + ruleName(f.Internal.Ports)
		if taken[name] == f.Family || taken[name] == "any" || taken[name] != "" && f.Family == "any" {
			w.c("%s on %s: needs an address of its own on the balancer; add a bind line for it.", f.Internal.Ports, f.Internal.Addr)
			continue
		}
		first := taken[name] == ""
		taken[name] = f.Family
		if !first {
			name += "_" + f.Family
		}
		binds := []string{":" + f.Internal.Ports.String()}
		switch f.Family {
		case "any":
			binds = []string{"0.0.0.0:" + f.Internal.Ports.String(), "[::]:" + f.Internal.Ports.String() + " v6only"}
		case "ipv4":
			binds = []string{"0.0.0.0:" + f.Internal.Ports.String()}
		case "ipv6":
			binds = []string{"[::]:" + f.Internal.Ports.String() + " v6only"}
		}
		w.ln("\nfrontend %s", name)
		for _, b := range binds {
			w.ln("    bind %s", b)
		}
		w.ln("    default_backend %s", name)
		w.ln("\nbackend %s", name)
		inside := w.inside
		if f.Internal.Addr.IsValid() {
			inside = f.Internal.Addr.String()
		}
		if f.Internal.Addr.Is6() {
			inside = "[" + inside + "]"
		}
		if f.Purpose == ports.Control {
			w.ln("    server portreeve %s:%s send-proxy-v2", inside, f.Internal.Ports)
		} else { // no port: the one the client connected to
			w.ln("    server portreeve %s", inside)
		}
	}
}
