package nat

import (
	"fmt"
	"slices"
)

// Shift says that internal ports are reached from outside under other
// numbers: First..Last as To, To+1 and so on. A router that maps ports one by
// one gives one Shift for each.
type Shift struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
	To    uint16 `json:"to"`
}

// Of returns the external number of an internal port; ok is false when s is
// not about it.
func (s Shift) Of(port uint16) (external uint16, ok bool) {
	if port < s.First || port > s.Last {
		return port, false
	}
	return s.To + (port - s.First), true
}

// String is "50000-50999 is 60000-60999 outside".
func (s Shift) String() string {
	if s.First == s.Last {
		return fmt.Sprintf("port %d is %d outside", s.First, s.To)
	}
	return fmt.Sprintf("ports %d-%d are %d-%d outside", s.First, s.Last, s.To, s.To+(s.Last-s.First))
}

// Port returns the number under which the client finds an internal port.
func (d *Decision) Port(internal uint16) uint16 {
	for _, s := range d.Ports {
		if p, ok := s.Of(internal); ok {
			return p
		}
	}
	return internal
}

// shift chooses the port numbers that go with the address: those of the rule,
// those that were set, and what a router says that it maps. Inside, and where
// the client reaches this machine's own public address, nothing stands between.
func (a *advisor) shift() {
	switch d := &a.d; {
	case d.Source == FromRule:
		d.Ports = a.in.Rules[a.rule].Ports
	case a.within:
		return
	case len(a.in.Setting.Ports) > 0:
		d.Ports = slices.Clone(a.in.Setting.Ports)
	}
	if a.d.Source != FromRule && a.d.Source != FromProxy && !(a.d.Source == FromControl && ClassOf(a.d.Addr) == Public) {
		for _, m := range a.in.Mapped { // ports the setting says something about are the administrator's
			set := slices.ContainsFunc(a.d.Ports, func(s Shift) bool { _, ok := s.Of(m.Internal); return ok })
			if m.External != 0 && m.External != m.Internal && !set {
				a.d.Ports = append(a.d.Ports, Shift{m.Internal, m.Internal, m.External})
			}
		}
	}
	for i, s := range a.d.Ports {
		if i == 3 {
			a.because("and %d more ports that are other ones outside", len(a.d.Ports)-i)
			break
		}
		a.because("%s", s)
	}
}
