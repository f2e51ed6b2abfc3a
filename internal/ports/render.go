package ports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
)

// JSON returns the plan for programs, indented, with a final newline.
func (p *Plan) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	return append(b, '\n'), err
}

// Text returns the plan for a terminal.
func (p *Plan) Text() string {
	var b strings.Builder
	section := func(title string, dir Direction) {
		if !slices.ContainsFunc(p.Flows, func(f Flow) bool { return f.Direction == dir }) {
			return
		}
		fmt.Fprintf(&b, "%s\n", title)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for i := range p.Flows {
			f := &p.Flows[i]
			if f.Direction != dir {
				continue
			}
			if dir == In {
				fmt.Fprintf(w, "  %s %s\t%s\t%s\ton %s\t%s\n", f.Protocol, f.Internal.Ports, f.Purpose, f.who(), f.where(), f.Note)
			} else {
				fmt.Fprintf(w, "  %s from port %s\t%s\t%s\tto port %s\t%s\n", f.Protocol, anyPort(f.Internal.Ports), f.Purpose, f.who(), anyPort(f.Remote.Ports), f.Note)
			}
		}
		w.Flush()
		b.WriteByte('\n')
	}
	section("Inbound: these must be reachable", In)
	section("Outbound: the server opens these", Out)
	if rows := p.addressRows(); len(rows) > 0 {
		b.WriteString("Where clients connect to\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, r := range rows {
			fmt.Fprintf(w, "  %s\t%s\tports %s\t(%s)\n", r.clients, r.addr, JoinRanges(MergeRanges(r.ports), "-", ", "), r.source)
		}
		w.Flush()
		b.WriteByte('\n')
	}
	if p.Forward {
		b.WriteString("The announced address is not this machine's: the router must forward the inbound ports here, " + unshifted(p, "unchanged", "to the numbers of the inside") + ".\n\n")
	}
	b.WriteString(p.ChecksText())
	return b.String()
}

// ChecksText returns the findings for a terminal; it says so when there are none.
func (p *Plan) ChecksText() string {
	if len(p.Checks) == 0 {
		return "Checks: nothing found.\n"
	}
	var b strings.Builder
	b.WriteString("Checks\n")
	for _, c := range p.Checks {
		fmt.Fprintf(&b, "  %s %s, %s: %s\n      cure: %s\n", c.Severity, c.Code, c.Subject, c.Cause, c.Cure)
	}
	return b.String()
}

// Worst returns the worst severity among the checks, "" when there are none.
func (p *Plan) Worst() Severity {
	if len(p.Checks) == 0 {
		return ""
	}
	return p.Checks[0].Severity
}

func anyPort(r PortRange) string {
	if r == anyClientPort {
		return "any"
	}
	return r.String()
}

func (f *Flow) who() string {
	if len(f.Listeners) > 0 {
		return strings.Join(f.Listeners, ", ")
	}
	return "server"
}

func (f *Flow) where() string {
	switch {
	case f.Internal.Addr.IsValid():
		return f.Internal.Addr.String()
	case f.Family == "ipv4":
		return "all IPv4 addresses"
	case f.Family == "ipv6":
		return "all IPv6 addresses"
	}
	return "all addresses"
}

type addressRow struct {
	ports                 []PortRange
	clients, addr, source string
}

// addressRows lists who connects where, one row for each address and group of clients.
func (p *Plan) addressRows() []addressRow {
	var out []addressRow
	for i := range p.Flows {
		f := &p.Flows[i]
		for _, e := range f.External {
			r := addressRow{clients: "clients of " + prefixes(e.Clients), addr: e.Addr, source: e.Source}
			if len(e.Clients) == 0 {
				r.clients = "all others"
				if len(f.External) == 1 {
					r.clients = "all clients"
				}
			}
			if e.Addr == "" {
				r.addr, r.source = "the address they reached", cmp.Or(strings.TrimSuffix(strings.TrimSuffix(e.Source, "address the client reached"), ": "), "no address is set")
			}
			j := slices.IndexFunc(out, func(o addressRow) bool { return o.clients == r.clients && o.addr == r.addr && o.source == r.source })
			if j < 0 {
				out, j = append(out, r), len(out)
			}
			out[j].ports = append(out[j].ports, e.Ports)
		}
	}
	return out
}

func prefixes(ps []netip.Prefix) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

// ServerPage returns a Markdown page for those who run the firewalls and
// routers on the server's side.
func (p *Plan) ServerPage() string {
	var b strings.Builder
	b.WriteString("# Ports of this FTP server: the server's side\n\n")
	b.WriteString("All connections are TCP. Replies belong to the same connections; a stateful firewall lets them through by itself.\n\n")
	b.WriteString("## Let in\n\n| Port | On | For | Listener |\n|---|---|---|---|\n")
	for i := range p.Flows {
		if f := &p.Flows[i]; f.Direction == In && !f.Local() {
			fmt.Fprintf(&b, "| %s | %s | %s (%s) | %s |\n", f.Internal.Ports, f.where(), purposeText(f.Purpose), f.Note, f.who())
		}
	}
	var out []*Flow
	for i := range p.Flows {
		if p.Flows[i].Direction == Out {
			out = append(out, &p.Flows[i])
		}
	}
	if len(out) > 0 {
		b.WriteString("\n## Let out\n\n| Protocol | Source port | Destination port | For |\n|---|---|---|---|\n")
		for _, f := range out {
			fmt.Fprintf(&b, "| %s | %s | %s | %s (%s) |\n", f.Protocol, anyPort(f.Internal.Ports), anyPort(f.Remote.Ports), purposeText(f.Purpose), f.Note)
		}
		b.WriteString("\nPorts 20 and 989, where they appear, are *source* ports of the server. Nobody connects to them: they need no inbound rule.\n")
		if s := p.sharedPort(); s != "" {
			fmt.Fprintf(&b, "The shared data port %s is another matter: clients do connect to it.\n", s)
		}
	}
	if rows := p.forwardRows(); len(rows) > 0 {
		b.WriteString("\n## Forward on the router\n\n| From | To | Protocol |\n|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s | %s | TCP |\n", r[0], r[1])
		}
		b.WriteString("\n" + unshifted(p, "The port numbers stay the same on both sides.", "The passive ports have other numbers outside, in the same order.") + " With two routers in a row, the outer one forwards the same ports to the inner one.\n")
	}
	b.WriteString("\n## Helpers\n\nSwitch off \"FTP ALG\", \"FTP helper\" or \"FTP inspection\" for this server: with TLS they cannot read the commands, and without it they rewrite correct replies. The rules above replace them.\n")
	if len(p.Checks) > 0 {
		b.WriteString("\n## Found while planning\n\n")
		for _, c := range p.Checks {
			fmt.Fprintf(&b, "- **%s** (%s, %s): %s. *Cure:* %s.\n", c.Code, c.Severity, c.Subject, c.Cause, c.Cure)
		}
	}
	return b.String()
}

func purposeText(p Purpose) string {
	return map[Purpose]string{Control: "control", PassiveData: "passive data", ActiveData: "active data", NameLookup: "name look-up"}[p]
}

// unshifted chooses between two texts: same numbers on both sides, or others.
func unshifted(p *Plan, same, other string) string {
	if p.Shifted() {
		return other
	}
	return same
}

// Forward is a range of ports that a router in front passes on.
type Forward struct{ Outside, Inside PortRange }

// Forwards returns what a router must forward over IPv4 where port numbers
// differ, flow by flow; where they do not, Inbound says it in fewer rules.
func (p *Plan) Forwards() []Forward {
	var out []Forward
	for i := range p.Flows {
		f := &p.Flows[i]
		if f.Direction != In || f.Local() || f.Family == "ipv6" {
			continue
		}
		w := Forward{f.Internal.Ports, f.Internal.Ports}
		if n := len(f.External); n > 0 {
			w.Outside = f.External[n-1].Ports
		}
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// forwardRows pairs external with internal endpoints where they differ.
func (p *Plan) forwardRows() [][2]string {
	if !p.Forward {
		return nil
	}
	var out [][2]string
	for i := range p.Flows {
		f := &p.Flows[i]
		if f.Direction != In || f.Local() || len(f.External) == 0 {
			continue
		}
		e := f.External[len(f.External)-1] // all others: the outside
		if e.Addr == "" {
			continue
		}
		inside := "this machine"
		if f.Internal.Addr.IsValid() {
			inside = f.Internal.Addr.String()
		} else if a := p.ForwardTarget(); a.IsValid() {
			inside = a.String()
		}
		out = append(out, [2]string{e.Addr + " port " + e.Ports.String(), inside + " port " + f.Internal.Ports.String()})
	}
	return out
}

// ForwardTarget returns the inside IPv4 address that a router should forward
// to when the listeners are on all addresses: the machine's only private one.
// It is invalid when there is none or more than one.
func (p *Plan) ForwardTarget() netip.Addr {
	var found netip.Addr
	for _, a := range p.Host.Addresses {
		if a.Is4() && !isPublic(a) {
			if found.IsValid() {
				return netip.Addr{}
			}
			found = a
		}
	}
	return found
}

// ClientPage returns a Markdown page for the network team of a client: what
// their firewall must let out. server is the name or address clients use; empty
// takes the announced one.
func (p *Plan) ClientPage(server string) string {
	if server == "" {
		server = p.OutsideAddr()
	}
	title := "# Reaching the FTP server " + server
	if server == "" {
		title, server = "# Reaching the FTP server", "the server's address"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the client's side\n\n", title)
	b.WriteString("Please let these TCP connections out, from the clients' computers (any source port) to the server:\n\n| To | Port | For |\n|---|---|---|\n")
	active := []*Flow{}
	for i := range p.Flows {
		f := &p.Flows[i]
		if f.Direction == In && !f.Local() {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", server, externalPorts(f), p.clientUse(f))
		}
		if f.Purpose == ActiveData && !f.Local() {
			active = append(active, f)
		}
	}
	b.WriteString("\nOne service is enough: for FTP and FTPS take the control port in use and the data ports, for SFTP its one port. Connections are opened by the client only.\n")
	b.WriteString("\nWith TLS a firewall cannot read the FTP commands, so its FTP helper (ALG, inspection) cannot open the data ports by itself: the rule for the data ports is needed. Switch the helper off for this server if plain FTP works and FTPS does not.\n")
	if len(active) > 0 {
		b.WriteString("\n## Only for clients set to active mode\n\nPassive mode needs nothing of this and is the usual setting. In active mode the *server* opens the data connection:\n\n| From | Source port | To | Port |\n|---|---|---|---|\n")
		for _, f := range active {
			fmt.Fprintf(&b, "| %s | %s | the client | %s, chosen by the client |\n", server, anyPort(f.Internal.Ports), f.Remote.Ports)
		}
		b.WriteString("\nA client behind address translation cannot use it, unless its router understands FTP and the session is not encrypted.\n")
	}
	return b.String()
}

// OutsideAddr returns the address or name that clients from outside are told,
// "" when it is the one they reached.
func (p *Plan) OutsideAddr() string {
	for i := range p.Flows {
		if f := &p.Flows[i]; f.Direction == In && !f.Local() {
			for _, e := range f.External {
				if len(e.Clients) == 0 && e.Addr != "" {
					return e.Addr
				}
			}
		}
	}
	return ""
}

func externalPorts(f *Flow) string {
	if len(f.External) > 0 {
		return f.External[len(f.External)-1].Ports.String()
	}
	return f.Internal.Ports.String()
}

// sharedPort is the shared data port, "" when there is none.
func (p *Plan) sharedPort() string {
	for i := range p.Flows {
		if p.Flows[i].Shared {
			return p.Flows[i].Internal.Ports.String()
		}
	}
	return ""
}

func (p *Plan) clientUse(f *Flow) string {
	switch {
	case f.Shared:
		return "data of FTPS (passive mode), all of it on this one port"
	case f.Purpose == PassiveData && p.sharedPort() != "":
		return "data (passive mode) that does not use the shared port: FTP without TLS, and FTPS clients that cannot resume"
	case f.Purpose == PassiveData:
		return "data of FTP and FTPS (passive mode)"
	case slices.Contains(f.Services, "ftps"):
		return "implicit FTPS: commands, encrypted from the start"
	case slices.Contains(f.Services, "sftp"):
		return "SFTP (over SSH): commands and data"
	}
	return "FTP, and explicit FTPS (AUTH TLS): commands"
}
