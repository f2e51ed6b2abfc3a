package ports

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Stats are the numbers of a Pool: the state now, over all local addresses in
// use, and totals since the start.
type Stats struct {
	First, Last uint16
	Usable      int // ports of the range that are used: without those in Skipped
	Skipped     []uint16
	Leased      int // now in use
	Kept        int // idle listeners held open for reuse
	Free        int
	Taken       int // held by other programs or refused by the system, when last tried
	Waiting     int // sessions waiting for a port

	Leases     uint64 // total leases given
	Reused     uint64 // of these, with a kept listener
	NoPort     uint64 // total refusals because the range was used up
	Strangers  uint64 // total connections that came to a kept listener before its lease
	TakenTotal uint64 // total binds refused
}

// Stats returns the pool's numbers.
func (p *Pool) Stats() Stats {
	s := Stats{
		First: p.opt.First, Last: p.opt.Last, Usable: len(p.usable), Skipped: slices.Clone(p.skipped),
		Leases: p.stats.leases.Load(), Reused: p.stats.reused.Load(), NoPort: p.stats.noPort.Load(),
		Strangers: p.stats.strangers.Load(), TakenTotal: p.stats.taken.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.groups {
		s.Leased += len(g.leased)
		s.Kept += g.kept.len()
		s.Free += g.free.len()
		s.Taken += len(g.taken)
		s.Waiting += len(g.waiters)
	}
	return s
}

// LiveSocket is one open socket of the server.
type LiveSocket struct {
	Addr    netip.AddrPort `json:"addr"`
	State   string         `json:"state"`             // of a passive port: "leased", or "idle": open for reuse; "shared": the shared data port; "control": a listener
	Client  netip.AddrPort `json:"client"`            // of a leased port: peer of the control connection
	Since   time.Time      `json:"since,omitzero"`    // of a passive port
	Use     string         `json:"use,omitempty"`     // of a listener: its name
	Waiting int            `json:"waiting,omitempty"` // of the shared port: sessions that wait for a data connection there
}

// Live returns the open passive ports, sorted by address. It names clients:
// it is for administrators.
func (p *Pool) Live() []LiveSocket {
	var out []LiveSocket
	p.mu.Lock()
	for _, g := range p.groups {
		for _, l := range g.leased {
			if l != nil { // nil: about to be opened
				out = append(out, LiveSocket{Addr: l.bound, State: "leased", Client: l.client, Since: l.start})
			}
		}
		for i := range g.kept.n {
			e := g.kept.buf[(g.kept.head+i)%len(g.kept.buf)]
			out = append(out, LiveSocket{Addr: netip.AddrPortFrom(g.addr, e.port), State: "idle", Since: e.since})
		}
	}
	p.mu.Unlock()
	slices.SortFunc(out, func(a, b LiveSocket) int {
		return cmp.Or(a.Addr.Addr().Compare(b.Addr.Addr()), cmp.Compare(a.Addr.Port(), b.Addr.Port()))
	})
	return out
}
