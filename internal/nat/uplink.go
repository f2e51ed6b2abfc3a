package nat

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// UplinkKind is what stands between this machine and the Internet.
type UplinkKind string

// The kinds.
const (
	UplinkDirect    UplinkKind = "direct"     // a public address of its own
	UplinkNAT       UplinkKind = "nat"        // one router, which can forward ports
	UplinkDoubleNAT UplinkKind = "double-nat" // two routers; both must forward
	UplinkCGNAT     UplinkKind = "cgnat"      // the provider's NAT: nothing can be forwarded
	UplinkUnknown   UplinkKind = "unknown"
)

// Uplink says what is known about the way to the Internet. Zero addresses are not known.
type Uplink struct {
	Local   netip.Addr // of this machine, towards its default route
	WAN     netip.Addr // the router's outer address, from the router
	Seen    netip.Addr // ours as a server outside sees it
	Refused bool       // the router answered that it has no outer address or may not map
}

// Verdict is the conclusion about an uplink. Code is the doctor's code, "" when nothing is wrong.
type Verdict struct {
	Kind UplinkKind `json:"kind"`
	Code string     `json:"code,omitempty"`
	Text string     `json:"text"`
	Cure string     `json:"cure,omitempty"`
}

const cgnatCure = "ask the provider for a public IPv4 address, offer the service over IPv6, or use a tunnel or VPN to a machine that has one"

// Judge concludes from what is known. It does not guess: where two causes look
// the same it says so.
func (u Uplink) Judge() Verdict {
	wan, seen := ClassOf(u.WAN), ClassOf(u.Seen)
	switch {
	case ClassOf(u.Local) == Public && (!u.Seen.IsValid() || u.Seen.Unmap() == u.Local.Unmap()):
		return Verdict{Kind: UplinkDirect, Text: fmt.Sprintf("this machine has the public address %s", u.Local)}
	case u.WAN.IsValid() && wan == Shared:
		return Verdict{UplinkCGNAT, "CGNAT", fmt.Sprintf("the router's outer address is %s, of the range 100.64.0.0/10 that providers use for their own NAT: connections from the Internet cannot come in", u.WAN), cgnatCure}
	case u.WAN.IsValid() && wan == Private:
		return Verdict{UplinkDoubleNAT, "DOUBLE_NAT", fmt.Sprintf("the router's outer address is %s, a private one: there is another router in front of it", u.WAN),
			"forward the same ports on the outer router to " + u.WAN.String() + ", or set it to bridge mode; if it belongs to the provider, " + cgnatCure}
	case u.WAN.IsValid() && wan == Public && seen == Public && u.WAN.Unmap() != u.Seen.Unmap():
		return Verdict{UplinkCGNAT, "CGNAT", fmt.Sprintf("the router's outer address is %s, but connections arrive outside from %s: there is another NAT behind the router", u.WAN, u.Seen), cgnatCure}
	case u.WAN.IsValid() && wan == Public:
		return Verdict{Kind: UplinkNAT, Text: fmt.Sprintf("one router with the public address %s", u.WAN)}
	case ClassOf(u.Local) == Shared:
		return Verdict{UplinkCGNAT, "CGNAT", fmt.Sprintf("this machine's address is %s, of the range that providers use for their own NAT", u.Local), cgnatCure}
	case u.Refused:
		return Verdict{UplinkUnknown, "DOUBLE_NAT", "the router refuses to map ports, as routers do whose own outer address is not public: the provider's NAT or a second router, which looks the same from here",
			"look at the router's status page: an outer address of 100.64.0.0/10 is the provider's NAT, another private one a second router"}
	case seen == Public:
		return Verdict{Kind: UplinkNAT, Text: fmt.Sprintf("connections arrive outside from %s; whether ports can be forwarded is for the router to say, which did not answer", u.Seen)}
	}
	return Verdict{Kind: UplinkUnknown, Text: "the router did not say its outer address and nobody outside was asked"}
}

// Tracker keeps the addresses that were found and notices when the public one
// changes. The zero value is ready; it may be used concurrently.
type Tracker struct {
	mu    sync.Mutex
	found map[Source]Candidate
}

// Change is a change of the public address.
type Change struct {
	Old, New netip.Addr
	Source   Source
	Time     time.Time
}

// Text says the change in words.
func (c Change) Text() string {
	return fmt.Sprintf("the public address changed from %s to %s (%s); clients are told the new one from now on", c.Old, c.New, c.Source)
}

// Update records what a source says now. changed is true when the source said
// another valid address before. An invalid address forgets the source.
func (t *Tracker) Update(c Candidate) (ch Change, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		t.found = map[Source]Candidate{}
	}
	old, had := t.found[c.Source]
	if !c.Addr.IsValid() {
		delete(t.found, c.Source)
		return Change{}, false
	}
	c.Addr = c.Addr.Unmap()
	t.found[c.Source] = c
	if !had || old.Addr == c.Addr {
		return Change{}, false
	}
	return Change{old.Addr, c.Addr, c.Source, c.Time}, true
}

// Found returns the present candidates, the most trusted first, without those
// older than maxAge before now (0: no limit).
func (t *Tracker) Found(now time.Time, maxAge time.Duration) []Candidate {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Candidate
	for _, s := range findOrder {
		if c, ok := t.found[s]; ok && (maxAge == 0 || now.Sub(c.Time) <= maxAge) {
			out = append(out, c)
		}
	}
	return out
}
