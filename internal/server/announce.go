package server

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/nat"
)

// target is a configured address: a literal or a host name.
type target struct {
	addr netip.Addr
	host string
}

func parseTarget(s string) target {
	if a, err := netip.ParseAddr(s); err == nil {
		return target{addr: a.Unmap()}
	}
	return target{host: s}
}

// announcer chooses the address and port that PASV and EPSV name to a client.
// It collects the facts; nat.Advise decides, for the server and for
// portreeve explain alike.
type announcer struct {
	book  *addressBook
	rules []announceRule
	main  target      // empty: the address the client reached
	ports []nat.Shift // that go with main
	names []string    // hosts of the listener that may be looked up
}

type announceRule struct {
	networks []netip.Prefix
	to       target
	ports    []nat.Shift
}

// newAnnouncer returns the announcer of l and the host names it needs.
func newAnnouncer(book *addressBook, p *config.Passive, l *config.Listen) (*announcer, []string) {
	a := &announcer{book: book}
	var hosts []string
	take := func(s string) target {
		t := parseTarget(s)
		if t.host != "" {
			hosts = append(hosts, t.host)
		}
		return t
	}
	for _, r := range p.Rules {
		a.rules = append(a.rules, announceRule{prefixes(r.Networks), take(r.Address), shifts(p, l, r.External)})
	}
	switch {
	case l.PassiveAddress != "":
		a.main = take(l.PassiveAddress)
	case p.Address != "":
		a.main = take(p.Address)
	default: // the name that a client used tells the address only when nothing is set
		for _, h := range l.Hosts {
			if !strings.HasPrefix(h, "*") {
				a.names = append(a.names, strings.ToLower(h))
			}
		}
	}
	a.ports = shifts(p, l, p.ExternalPorts)
	if p.SharedExternal != 0 {
		if at := (&config.Listen{Address: p.Shared}); at.Port() != 0 {
			a.ports = append(a.ports, nat.Shift{First: at.Port(), Last: at.Port(), To: uint16(p.SharedExternal)})
		}
	}
	return a, hosts
}

// shifts says how the passive range is renumbered; a listener with a range of
// its own is not concerned.
func shifts(p *config.Passive, l *config.Listen, to *config.PortRange) []nat.Shift {
	if to == nil || l.PassivePorts != nil {
		return nil
	}
	return []nat.Shift{{First: p.Ports.First, Last: p.Ports.Last, To: to.First}}
}

// caller is what is known of a control connection.
type caller struct {
	client  netip.Addr // behind a balancer: the real one
	local   netip.Addr // our end of the socket
	proxied netip.Addr // destination in the PROXY header; zero: none
	name    string     // of SNI or HOST
}

// callerOf reads it off a connection.
func callerOf(c *ftp.Conn) caller {
	w := caller{client: c.RemoteAddr().Addr(), local: c.LocalAddr().Addr(), name: c.Host()}
	if p, ok := c.NetConn().(*proxiedConn); ok {
		w.proxied, w.local = w.local, addrOf(p.TCPConn.LocalAddr()).Addr()
	}
	return w
}

// decide says what the client is told, and why.
func (a *announcer) decide(w caller) nat.Decision {
	in := nat.Inputs{Local: w.local, Proxied: w.proxied, Setting: nat.Rule{Addr: a.resolve(a.main), Name: a.main.host, Ports: a.ports}}
	for _, r := range a.rules {
		in.Rules = append(in.Rules, nat.Rule{Networks: r.networks, Addr: a.resolve(r.to), Name: r.to.host, Ports: r.ports})
	}
	if name := strings.ToLower(strings.TrimSuffix(w.name, ".")); slices.Contains(a.names, name) {
		in.Name = name
		if x := a.book.addrOf(name); x.IsValid() {
			in.NameAddrs = []netip.Addr{x}
		}
	}
	a.book.facts(&in)
	return nat.Advise(w.client, in)
}

// address and port are the engine's questions.
func (a *announcer) address(c *ftp.Conn) netip.Addr { return a.decide(callerOf(c)).Addr }

func (a *announcer) port(c *ftp.Conn, leased uint16) uint16 {
	if !a.renumbers() {
		return leased
	}
	d := a.decide(callerOf(c))
	return d.Port(leased)
}

// renumbers reports whether any port has another number outside.
func (a *announcer) renumbers() bool {
	return len(a.ports) > 0 || a.book.mapsPorts() || slices.ContainsFunc(a.rules, func(r announceRule) bool { return len(r.ports) > 0 })
}

func (a *announcer) resolve(t target) netip.Addr {
	if t.host != "" {
		return a.book.addrOf(t.host)
	}
	return t.addr
}

// String says what is announced, for the status page.
func (a *announcer) String() string {
	s := "the address the client reached"
	switch {
	case a.main.host != "":
		s = a.main.host
		if now := a.book.addrOf(a.main.host); now.IsValid() {
			s += " (now " + now.String() + ")"
		}
	case a.main.addr.IsValid():
		s = a.main.addr.String()
	default:
		if c, ok := a.book.public(); ok {
			s = c.Addr.String() + " outside (" + string(c.Source) + "), inside the address the client reached"
		}
	}
	if len(a.rules) > 0 {
		s += ", with other addresses for some networks"
	}
	return s
}

func prefixes(in []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(in))
	for i, p := range in {
		out[i] = p.Prefix
	}
	return out
}

// ExplainPASV decides what a client at client would be told by the listener l
// of a server with this configuration on this machine, and why: the server's
// own logic with facts collected now. reached is our end of the control
// connection; when invalid it is the address this machine would use towards
// the client. name is what the client calls the server, "" for nothing. What
// [nat] permits to ask is asked once.
func ExplainPASV(ctx context.Context, cfg *config.Config, l *config.Listen, client, reached netip.Addr, name string) nat.Decision {
	return explainPASV(ctx, newAddressBook(slog.New(slog.DiscardHandler)), cfg, l, client, reached, name)
}

func explainPASV(ctx context.Context, b *addressBook, cfg *config.Config, l *config.Listen, client, reached netip.Addr, name string) nat.Decision {
	a, hosts := newAnnouncer(b, &cfg.FTP.Passive, l)
	b.set(ctx, hosts, cfg.FTP.Passive.Resolve.Std(), a.names...)
	o := newOutside(b, &cfg.NAT, b.log)
	o.look(ctx)
	if !reached.IsValid() {
		if reached = l.Host(); !reached.IsValid() || reached.IsUnspecified() {
			reached = towards(client)
		}
	}
	return a.decide(caller{client: client, local: reached, name: name})
}

// towards is the local address that the machine would use. Nothing is sent.
func towards(client netip.Addr) netip.Addr {
	c, err := net.Dial("udp", netip.AddrPortFrom(client, 9).String())
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
