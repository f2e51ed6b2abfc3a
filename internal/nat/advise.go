// Package nat owns which address a client is told in passive mode and why, and
// finds out the public address: from the router (PCP, NAT-PMP, UPnP), from a
// cloud's metadata, or by STUN.
//
// Advise is pure: it decides from facts that were collected before, so that an
// answer to PASV never waits for the network. The package does not read the
// configuration and does not open passive ports.
package nat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Source says where an address comes from.
type Source string

// The sources, from the most to the least trusted among those that find the
// public address by themselves.
const (
	FromRule      Source = "rule"           // [[ftp.passive.rule]]
	FromSetting   Source = "setting"        // ftp.passive.address or the listener's
	FromControl   Source = "control"        // the address the control connection reached
	FromProxy     Source = "proxy"          // destination in the balancer's PROXY header
	FromName      Source = "name"           // look-up of the name the client used (SNI or HOST)
	FromCloud     Source = "cloud-metadata" // EC2, GCE, Azure
	FromPCP       Source = "pcp"            // router
	FromNATPMP    Source = "nat-pmp"        // router
	FromUPnP      Source = "upnp"           // router
	FromSTUN      Source = "stun"           // a server outside
	FromElsewhere Source = "elsewhere"      // told by an administrator's tool
)

// findOrder ranks the sources of Candidate.
var findOrder = []Source{FromCloud, FromPCP, FromNATPMP, FromUPnP, FromSTUN, FromElsewhere}

// Rule gives clients of some networks an address.
type Rule struct {
	Networks []netip.Prefix
	Addr     netip.Addr // the address, or what Name was last resolved to; zero: not known yet
	Name     string     // host name, "" for a fixed address
	Ports    []Shift    // ports that are other ones outside
}

// Candidate is a public address found without being configured.
type Candidate struct {
	Addr   netip.Addr
	Source Source
	Time   time.Time
}

// Network is one address of this machine with the network it is part of.
type Network struct {
	Interface string
	Prefix    netip.Prefix // the address with the length of the network
}

// Inputs are the facts a decision rests on. Only Local is always needed.
type Inputs struct {
	Local     netip.Addr   // our end of the control connection, as the socket has it
	Proxied   netip.Addr   // destination in the PROXY header; zero when there is none
	Rules     []Rule       // in order; the first that matches counts
	Setting   Rule         // ftp.passive.address; Networks is not used
	Name      string       // the name the client used, "" unless it is one of the server's configured names
	NameAddrs []netip.Addr // what Name resolves to
	Networks  []Network    // of this machine
	Gateways  []netip.Addr // routers of those networks
	Container string       // kind of container this runs in, "" when in none
	Found     []Candidate
	Mapped    []Mapping // what the router forwards at present
}

// Warning is something about a decision that will not work for some clients.
// Code is the doctor's code for the cause.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Decision is the address for one client and how it came about.
type Decision struct {
	Addr     netip.Addr `json:"address"`
	Source   Source     `json:"source"`
	Rule     string     `json:"rule,omitempty"`  // the setting that decided, if one did
	Ports    []Shift    `json:"ports,omitempty"` // where the port numbers differ, too; see Port
	Why      []string   `json:"why"`             // every step, in the order taken
	Warnings []Warning  `json:"warnings,omitempty"`
}

// Text returns the decision in words, one line for each step.
func (d *Decision) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "announced address: %s (%s)\n", d.Addr, d.Source)
	for _, w := range d.Why {
		fmt.Fprintf(&b, "  %s\n", w)
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "warning %s: %s\n", w.Code, w.Text)
	}
	return b.String()
}

var (
	cgnat        = netip.MustParsePrefix("100.64.0.0/10")
	ipv4Reserved = []netip.Prefix{ // not reachable from the Internet and not private either
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("240.0.0.0/4"),
	}
)

// Class says what an address is good for.
type Class string

// The classes.
const (
	Public    Class = "public"
	Private   Class = "private" // RFC 1918, RFC 4193
	Shared    Class = "cgnat"   // 100.64.0.0/10: the provider's own NAT, or an overlay network
	Loopback  Class = "loopback"
	LinkLocal Class = "link-local"
	Unusable  Class = "unusable"
)

// ClassOf classifies an address. Documentation addresses count as public.
func ClassOf(a netip.Addr) Class {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return Unusable
	case a.IsLoopback():
		return Loopback
	case a.IsLinkLocalUnicast():
		return LinkLocal
	case a.IsPrivate():
		return Private
	case cgnat.Contains(a):
		return Shared
	}
	for _, p := range ipv4Reserved {
		if p.Contains(a) {
			return Unusable
		}
	}
	return Public
}

type advisor struct {
	in     Inputs
	client netip.Addr
	d      Decision
	rule   int  // index, when a rule decided
	within bool // the client reaches this machine without address translation
}

func (a *advisor) because(format string, args ...any) {
	a.d.Why = append(a.d.Why, fmt.Sprintf(format, args...))
}

func (a *advisor) warn(code, format string, args ...any) {
	a.d.Warnings = append(a.d.Warnings, Warning{code, fmt.Sprintf(format, args...)})
}

func (a *advisor) choose(addr netip.Addr, s Source, rule string) bool {
	a.d.Addr, a.d.Source, a.d.Rule = addr.Unmap(), s, rule
	return true
}

// Advise decides which address the client at client is told. The result is
// always usable in a reply: when nothing better is known it is the address the
// client reached, with a warning if that cannot work.
func Advise(client netip.Addr, in Inputs) Decision {
	in.Local, in.Proxied = in.Local.Unmap(), in.Proxied.Unmap()
	a := &advisor{in: in, client: client.Unmap().WithZone("")}
	for _, step := range []func() bool{a.rules, a.inside, a.setting, a.proxied, a.reached, a.named, a.found} {
		if step() {
			a.shift()
			a.check()
			return a.d
		}
	}
	a.because("nothing better is known: the address the client reached")
	a.choose(in.Local, FromControl, "")
	if in.Proxied.IsValid() {
		a.choose(in.Proxied, FromProxy, "")
	}
	a.shift()
	a.check()
	return a.d
}

// rules takes the first explicit rule that matches.
func (a *advisor) rules() bool {
	for i, r := range a.in.Rules {
		if !slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(a.client) }) {
			continue
		}
		name := fmt.Sprintf("ftp.passive.rule %d", i+1)
		if !r.Addr.IsValid() {
			a.because("%s matches %s, but its name %s has not been resolved", name, a.client, r.Name)
			a.warn("PASV_NAME", "the name %s of %s cannot be resolved, so another address is announced", r.Name, name)
			continue
		}
		a.because("%s matches %s: %s", name, a.client, shown(r))
		a.rule = i
		return a.choose(r.Addr, FromRule, name)
	}
	if len(a.in.Rules) > 0 {
		a.because("none of %d rules has a network with %s", len(a.in.Rules), a.client)
	}
	return false
}

func shown(r Rule) string {
	if r.Name != "" {
		return fmt.Sprintf("%s (%s)", r.Addr, r.Name)
	}
	return r.Addr.String()
}

// inside finds clients that reach this machine without address translation:
// they hear the very address they reached, whatever the public one is.
func (a *advisor) inside() bool {
	class, local := ClassOf(a.client), ClassOf(a.in.Local)
	if p := a.in.Proxied; p.IsValid() { // the socket's address is between balancer and server
		if class == Private && ClassOf(p) == Private {
			a.because("%s reached the balancer at %s, an inside address", a.client, p)
			a.within = true
			return a.choose(p, FromProxy, "")
		}
		return false
	}
	if a.client.IsLoopback() {
		a.because("%s is this machine", a.client)
		a.within = true
		return a.choose(a.in.Local, FromControl, "")
	}
	for _, n := range a.in.Networks {
		if !n.Prefix.Masked().Contains(a.client) || n.Prefix.Addr().IsLoopback() {
			continue
		}
		if slices.Contains(a.in.Gateways, a.client) {
			a.because("%s is the router of %s (%s): it hides the real client, who may be outside", a.client, n.Prefix.Masked(), n.Interface)
			if a.in.Container != "" {
				a.warn("DOCKER_HIDES_CLIENT", "connections come from the container's gateway %s, so clients cannot be told apart; publish ports without the userland proxy or use the host's network", a.client)
			}
			return false
		}
		a.because("%s is in the network %s of %s", a.client, n.Prefix.Masked(), n.Interface)
		a.within = true
		return a.choose(a.in.Local, FromControl, "")
	}
	if a.in.Container == "" && class == Private && local == Public && slices.ContainsFunc(a.in.Networks, func(n Network) bool { return n.Prefix.Addr().Unmap() == a.in.Local }) {
		a.because("%s is a private address that reached this machine's own %s by routing", a.client, a.in.Local)
		a.within = true
		return a.choose(a.in.Local, FromControl, "")
	}
	if a.in.Container == "" && (class == Private || class == Shared) && (local == Private || local == Shared) {
		if a.in.Setting.Addr.IsValid() && ClassOf(a.in.Setting.Addr) != Public {
			return false // an inside address was set on purpose
		}
		a.because("%s is a private address that reached %s by routing, not through a public address", a.client, a.in.Local)
		a.within = true
		return a.choose(a.in.Local, FromControl, "")
	}
	return false
}

func (a *advisor) setting() bool {
	s := a.in.Setting
	switch {
	case s.Addr.IsValid():
		a.because("ftp.passive.address is %s", shown(s))
		return a.choose(s.Addr, FromSetting, "ftp.passive.address")
	case s.Name != "":
		a.because("ftp.passive.address is %s, which has not been resolved", s.Name)
		a.warn("PASV_NAME", "the name %s in ftp.passive.address cannot be resolved, so another address is announced", s.Name)
	}
	return false
}

func (a *advisor) proxied() bool {
	p := a.in.Proxied
	if !p.IsValid() {
		return false
	}
	if ClassOf(a.client) == Public && ClassOf(p) != Public {
		a.because("the PROXY header names %s, which a client on the Internet cannot have reached", p)
		return false
	}
	a.because("the balancer says in its PROXY header that the client reached %s", p)
	return a.choose(p, FromProxy, "")
}

// reached takes the address of the control connection where that is public.
func (a *advisor) reached() bool {
	l := a.in.Local
	if a.in.Proxied.IsValid() {
		return false
	}
	if ClassOf(l) == Public {
		a.because("the client reached %s, a public address of this machine", l)
		return a.choose(l, FromControl, "")
	}
	a.because("the client reached %s (%s), which is not public: there is a NAT in front", l, ClassOf(l))
	return false
}

// named uses the name that the client itself used to get here.
func (a *advisor) named() bool {
	if a.in.Name == "" {
		return false
	}
	for _, x := range a.in.NameAddrs {
		if x = x.Unmap(); x.Is4() && ClassOf(x) == Public {
			a.because("the client used the name %s, which is %s", a.in.Name, x)
			return a.choose(x, FromName, "")
		}
	}
	a.because("the name %s that the client used has no public IPv4 address", a.in.Name)
	return false
}

// found takes the best address that was found.
func (a *advisor) found() bool {
	var best *Candidate
	for _, s := range findOrder {
		for i := range a.in.Found {
			c := &a.in.Found[i]
			if c.Source != s || !c.Addr.Unmap().Is4() {
				continue
			}
			if ClassOf(c.Addr) != Public {
				a.because("%s says %s, which is not public (%s)", s, c.Addr, ClassOf(c.Addr))
				continue
			}
			if best == nil {
				best = c
			} else if best.Addr.Unmap() != c.Addr.Unmap() {
				a.because("%s says %s instead, which is trusted less", s, c.Addr)
				a.warn("PASV_ADDR_CONFLICT", "%s says that the public address is %s, %s says %s: there may be two NATs in a row; set ftp.passive.address", best.Source, best.Addr, c.Source, c.Addr)
			}
		}
	}
	if best == nil {
		return false
	}
	a.because("%s says that the public address is %s", best.Source, best.Addr)
	return a.choose(best.Addr, best.Source, "")
}

// check warns about addresses that the client cannot reach.
func (a *advisor) check() {
	d, client := &a.d, ClassOf(a.client)
	switch class := ClassOf(d.Addr); {
	case class == Unusable && d.Addr.IsValid() && d.Addr.IsUnspecified():
		a.warn("PASV_ADDR_ZERO", "%s is announced, which many clients cannot use", d.Addr)
	case class == Loopback && client != Loopback:
		a.warn("PASV_ADDR_PRIVATE", "%s is announced: the client would connect to itself", d.Addr)
	case client == Public && class == Shared:
		a.warn("CGNAT", "%s is announced, an address of the provider's own NAT: nobody on the Internet can connect to it", d.Addr)
	case client == Public && (class == Private || class == LinkLocal):
		code, cure := "PASV_ADDR_PRIVATE", "set ftp.passive.address to the public address and forward the passive ports"
		if a.in.Container != "" {
			code, cure = "CONTAINER_ADDRESS", "set ftp.passive.address to the host's address and publish the passive ports under the same numbers"
		}
		a.warn(code, "%s is announced to %s, which cannot reach it; %s", d.Addr, a.client, cure)
	case a.in.Container != "" && d.Source == FromControl && !a.onLink():
		a.warn("CONTAINER_ADDRESS", "%s is the container's own address, which %s outside it cannot reach; set ftp.passive.address to the host's address", d.Addr, a.client)
	}
	if d.Addr.Is6() {
		a.because("PASV cannot carry an IPv6 address; EPSV carries none, the client goes on using the one it reached")
	}
}

// onLink reports whether the client is in a network of this machine and no router stands for it.
func (a *advisor) onLink() bool {
	return a.client.IsLoopback() || !slices.Contains(a.in.Gateways, a.client) &&
		slices.ContainsFunc(a.in.Networks, func(n Network) bool { return n.Prefix.Masked().Contains(a.client) })
}
