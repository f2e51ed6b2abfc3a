package ports

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/config"
)

// Direction is seen from the server.
type Direction string

// The directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// Purpose says what a flow carries.
type Purpose string

// The purposes.
const (
	Control     Purpose = "control"      // commands and replies; for SFTP everything
	PassiveData Purpose = "passive-data" // listings and files, the client connects
	ActiveData  Purpose = "active-data"  // listings and files, the server connects
	NameLookup  Purpose = "name-lookup"  // DNS, when announced addresses are host names
)

// anyClientPort is what clients choose their own ports from.
var anyClientPort = PortRange{First: 1024, Last: 65535}

// Endpoint is one side of a flow. A zero Addr is any address.
type Endpoint struct {
	Addr  netip.Addr `json:"address,omitzero"`
	Ports PortRange  `json:"ports"`
}

// External says where clients of some networks connect to.
type External struct {
	Clients []netip.Prefix `json:"clients,omitempty"` // empty: all who match no other entry
	Addr    string         `json:"address,omitempty"` // IP address or host name; empty: the one the client reached
	Ports   PortRange      `json:"ports"`
	Source  string         `json:"source"` // what the address comes from
}

// Flow is one kind of connection that every firewall on the way must permit.
type Flow struct {
	Direction Direction  `json:"direction"`
	Protocol  string     `json:"protocol"` // "tcp" or "udp"
	Purpose   Purpose    `json:"purpose"`
	Services  []string   `json:"services"`  // ftp, ftps, sftp
	Listeners []string   `json:"listeners"` // names of the configured listeners
	Family    string     `json:"family"`    // "any", "ipv4" or "ipv6"
	Internal  Endpoint   `json:"internal"`  // the server's side
	Remote    Endpoint   `json:"remote"`    // the other side
	External  []External `json:"external,omitempty"`
	Shared    bool       `json:"shared,omitempty"` // one port for the protected data connections of all sessions
	Note      string     `json:"note,omitempty"`
}

// Local reports whether the flow never leaves the machine.
func (f *Flow) Local() bool { return f.Internal.Addr.IsLoopback() }

// Plan is every socket the configuration asks for, with what is wrong about
// it. It is plain data: compiling it opens and changes nothing.
type Plan struct {
	Flows   []Flow   `json:"flows"`
	Checks  []Check  `json:"checks"`
	Host    HostNote `json:"host"`
	Forward bool     `json:"forward"` // clients from outside come through an address that is not this machine's
}

// HostNote is what the plan says about the machine.
type HostNote struct {
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Container string       `json:"container,omitempty"`
}

// Compile computes the plan of cfg on a machine. cfg need not come from
// config.Load: whatever is wrong with it is among the checks.
func Compile(cfg *config.Config, host HostFacts) Plan {
	p := Plan{Host: HostNote{Container: host.Container}}
	for _, a := range host.addrs() {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			p.Host.Addresses = append(p.Host.Addresses, a)
		}
	}
	for i := range cfg.Listen {
		p.addControl(cfg, &cfg.Listen[i], host)
	}
	for i := range cfg.Listen {
		if l := &cfg.Listen[i]; l.Protocol != config.ProtocolSFTP {
			p.addPassive(cfg, l, host)
		}
	}
	if cfg.FTP.Active {
		for i := range cfg.Listen {
			if l := &cfg.Listen[i]; l.Protocol != config.ProtocolSFTP {
				p.addActive(cfg, l)
			}
		}
	}
	p.addLookup(cfg)
	for _, f := range p.Flows {
		for _, e := range f.External {
			a, err := netip.ParseAddr(e.Addr)
			switch {
			case len(e.Clients) > 0 || e.Addr == "" || len(host.Interfaces) == 0:
			case err == nil:
				p.Forward = p.Forward || isPublic(a) && !host.has(a)
			default: // a name: without a public address here it is the router's
				p.Forward = p.Forward || !slices.ContainsFunc(p.Host.Addresses, isPublic)
			}
		}
	}
	p.Checks = check(cfg, host, &p)
	return p
}

func family(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "any"
	case a.Unmap().Is4():
		return "ipv4"
	}
	return "ipv6"
}

// bindAddr returns the address of a listener as firewalls see it: none for all addresses.
func bindAddr(l *config.Listen) netip.Addr {
	if a := l.Host().Unmap(); a.IsValid() && !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

func listenFamily(l *config.Listen) string { return family(l.Host()) }

func listenName(l *config.Listen) string {
	return cmp.Or(l.Name, string(l.Protocol)+" "+l.Address)
}

func (p *Plan) addControl(cfg *config.Config, l *config.Listen, host HostFacts) {
	port := l.Port()
	if port == 0 {
		return // reported by a check: a port that the system chooses cannot be planned
	}
	r := PortRange{First: port, Last: port}
	note := ""
	switch l.Protocol {
	case config.ProtocolFTP:
		note = "commands; TLS after AUTH TLS"
		if l.TLS == config.Off {
			note = "commands, without TLS"
		}
	case config.ProtocolFTPS:
		note = "commands; TLS from the first byte"
	case config.ProtocolSFTP:
		note = "SSH: commands and data on this one port"
	}
	f := Flow{
		Direction: In, Protocol: "tcp", Purpose: Control, Services: []string{string(l.Protocol)}, Listeners: []string{listenName(l)},
		Family: listenFamily(l), Internal: Endpoint{bindAddr(l), r}, Remote: Endpoint{Ports: anyClientPort}, Note: note,
	}
	f.External = externals(cfg, l, host, r)
	p.Flows = append(p.Flows, f)
}

// addPassive adds the shared port for protected data connections, where there
// is one, and the range, unless the shared port makes it superfluous.
func (p *Plan) addPassive(cfg *config.Config, l *config.Listen, host HostFacts) {
	if s := cfg.FTP.Passive.Shared; s != "" && l.DataTLS != config.Off {
		at := config.Listen{Address: s}
		p.addData(cfg, l, host, bindAddr(&at), sharedPort(cfg),
			"PASV and EPSV under PROT P: the protected data connections of all sessions; the TLS session tells whose they are", true)
		if l.DataTLS == config.Required && cfg.FTP.Passive.SharedFallback != config.SharedRange {
			return
		}
	}
	p.addData(cfg, l, host, bindAddr(l), PortRange(cfg.Ports(l)), "PASV and EPSV: the client connects to the port it was told, for each listing and file", false)
}

func (p *Plan) addData(cfg *config.Config, l *config.Listen, host HostFacts, at netip.Addr, r PortRange, note string, shared bool) {
	if r.First == 0 || r.Last < r.First {
		return // reported by a check
	}
	ext := externals(cfg, l, host, r)
	for i := range p.Flows { // listeners with equal ranges and addresses share the pool
		f := &p.Flows[i]
		if f.Purpose == PassiveData && f.Internal == (Endpoint{at, r}) && f.Family == listenFamily(l) && sameExternals(f.External, ext) {
			f.Listeners = append(f.Listeners, listenName(l))
			if !slices.Contains(f.Services, string(l.Protocol)) {
				f.Services = append(f.Services, string(l.Protocol))
			}
			return
		}
	}
	p.Flows = append(p.Flows, Flow{
		Direction: In, Protocol: "tcp", Purpose: PassiveData, Services: []string{string(l.Protocol)}, Listeners: []string{listenName(l)},
		Family: listenFamily(l), Internal: Endpoint{at, r}, Remote: Endpoint{Ports: anyClientPort}, External: ext,
		Shared: shared, Note: note,
	})
}

// addActive adds what the server dials. The well-known 20 and 989 are source
// ports here: nobody connects to them, so they need no inbound rule.
func (p *Plan) addActive(cfg *config.Config, l *config.Listen) {
	src := anyClientPort
	note := "PORT and EPRT: the server connects to the client"
	if cfg.FTP.ActiveSource != config.SourceAny && l.Port() > 1 {
		src = PortRange{First: l.Port() - 1, Last: l.Port() - 1}
		note += ", from this source port where the system permits it; no inbound rule is needed for it"
	}
	if src == sharedPort(cfg) { // a port that is listened on cannot be the source of a connection
		src = anyClientPort
		note = "PORT and EPRT: the server connects to the client, from any port, since the customary one is the shared data port here"
	}
	in := Endpoint{bindAddr(l), src}
	for i := range p.Flows {
		if f := &p.Flows[i]; f.Purpose == ActiveData && f.Internal == in && f.Family == listenFamily(l) {
			f.Listeners = append(f.Listeners, listenName(l))
			if !slices.Contains(f.Services, string(l.Protocol)) {
				f.Services = append(f.Services, string(l.Protocol))
			}
			return
		}
	}
	p.Flows = append(p.Flows, Flow{
		Direction: Out, Protocol: "tcp", Purpose: ActiveData, Services: []string{string(l.Protocol)}, Listeners: []string{listenName(l)},
		Family: listenFamily(l), Internal: in, Remote: Endpoint{Ports: anyClientPort}, Note: note,
	})
}

func (p *Plan) addLookup(cfg *config.Config) {
	names := []string{}
	add := func(a string) {
		if _, err := netip.ParseAddr(a); a != "" && err != nil && !slices.Contains(names, a) {
			names = append(names, a)
		}
	}
	add(cfg.FTP.Passive.Address)
	for _, r := range cfg.FTP.Passive.Rules {
		add(r.Address)
	}
	for i := range cfg.Listen {
		add(cfg.Listen[i].PassiveAddress)
	}
	if len(names) == 0 {
		return
	}
	p.Flows = append(p.Flows, Flow{
		Direction: Out, Protocol: "udp", Purpose: NameLookup, Family: "any", Internal: Endpoint{Ports: anyClientPort},
		Remote: Endpoint{Ports: PortRange{First: 53, Last: 53}}, Note: "looks up " + strings.Join(names, ", ") + ", which passive clients are told",
	})
}

// externals says which address clients of which networks connect to, in the
// order in which they are matched.
func externals(cfg *config.Config, l *config.Listen, host HostFacts, r PortRange) []External {
	var out []External
	p := &cfg.FTP.Passive
	add := func(clients []netip.Prefix, addr, source string) {
		out = append(out, External{Clients: clients, Addr: addr, Ports: r, Source: source})
	}
	outside := func(set *config.PortRange) { // the last one is reached under other port numbers
		e := &out[len(out)-1]
		switch {
		case set != nil && r == PortRange(p.Ports):
			e.Ports = PortRange(*set)
		case p.SharedExternal != 0 && r == sharedPort(cfg):
			e.Ports = PortRange{First: uint16(p.SharedExternal), Last: uint16(p.SharedExternal)}
		}
	}
	if a := bindAddr(l); a.IsLoopback() {
		add(nil, a.String(), "listener, this machine only")
		return out
	}
	for _, rule := range cfg.FTP.Passive.Rules {
		var nets []netip.Prefix
		for _, n := range rule.Networks {
			nets = append(nets, n.Prefix)
		}
		add(nets, rule.Address, "ftp.passive.rule")
		if rule.External != nil && r == PortRange(p.Ports) {
			out[len(out)-1].Ports = PortRange(*rule.External)
		}
	}
	addr, source := l.PassiveAddress, "passive_address of the listener"
	if addr == "" {
		addr, source = cfg.FTP.Passive.Address, "ftp.passive.address"
	}
	if addr == "" {
		if a := bindAddr(l); a.IsValid() {
			add(nil, a.String(), "address of the listener")
		} else {
			add(nil, "", "address the client reached")
		}
		outside(p.ExternalPorts)
		return out
	}
	if a, err := netip.ParseAddr(addr); err != nil || isPublic(a) {
		if nets := host.localNetworks(); len(nets) > 0 {
			add(nets, "", "same network as this machine: address the client reached")
		}
	}
	add(nil, addr, source)
	outside(p.ExternalPorts)
	return out
}

// sharedPort is the port of ftp.passive.shared, none when it is not set.
func sharedPort(cfg *config.Config) PortRange {
	if cfg.FTP.Passive.Shared == "" {
		return PortRange{}
	}
	at := config.Listen{Address: cfg.FTP.Passive.Shared}
	return PortRange{First: at.Port(), Last: at.Port()}
}

// Shifted reports whether some port has another number outside.
func (p *Plan) Shifted() bool {
	return slices.ContainsFunc(p.Flows, func(f Flow) bool {
		return slices.ContainsFunc(f.External, func(e External) bool { return e.Ports != f.Internal.Ports })
	})
}

func sameExternals(a, b []External) bool {
	return slices.EqualFunc(a, b, func(x, y External) bool {
		return x.Addr == y.Addr && x.Ports == y.Ports && x.Source == y.Source && slices.Equal(x.Clients, y.Clients)
	})
}

// Opening is a set of TCP ports that must be reachable on one address.
type Opening struct {
	Addr   netip.Addr // zero: every address of the family
	Family string     // "any", "ipv4", "ipv6"
	Ports  []PortRange
}

// Inbound returns what must be open for connections from outside, merged to as
// few rules as possible: adjacent ranges become one. Flows of this machine
// only are left out, and so is an address when all addresses have the port.
func (p *Plan) Inbound() []Opening {
	var out []Opening
	for i := range p.Flows {
		f := &p.Flows[i]
		if f.Direction != In || f.Local() {
			continue
		}
		j := slices.IndexFunc(out, func(o Opening) bool { return o.Addr == f.Internal.Addr && o.Family == f.Family })
		if j < 0 {
			out = append(out, Opening{Addr: f.Internal.Addr, Family: f.Family})
			j = len(out) - 1
		}
		out[j].Ports = append(out[j].Ports, f.Internal.Ports)
	}
	for i := range out {
		out[i].Ports = MergeRanges(out[i].Ports)
	}
	slices.SortStableFunc(out, func(a, b Opening) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Family, b.Family))
	})
	return out
}

// ActiveSources returns the source ports of active data connections, merged;
// the range 1024-65535 stands for any.
func (p *Plan) ActiveSources() []PortRange {
	var out []PortRange
	for i := range p.Flows {
		if f := &p.Flows[i]; f.Purpose == ActiveData && !f.Local() {
			out = append(out, f.Internal.Ports)
		}
	}
	return MergeRanges(out)
}
