package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

// Hop is what happened to the first packet of a connection that may cross a
// limited number of routers.
type Hop struct {
	TTL  int        `json:"ttl"`
	Kind HopKind    `json:"kind"`
	From netip.Addr `json:"from,omitzero"` // who sent the ICMP message; unknown for a reset
	Text string     `json:"text,omitempty"`
}

// HopKind says what came back.
type HopKind string

// The kinds.
const (
	HopSilent   HopKind = "silent"
	HopExceeded HopKind = "exceeded" // the router From is on the way
	HopOpen     HopKind = "open"     // a connection came about
	HopReset    HopKind = "reset"
	HopRefused  HopKind = "icmp" // an ICMP message of From: unreachable or prohibited
)

// Trace is the way of a connection to one port.
type Trace struct {
	To   netip.AddrPort `json:"to"`
	Hops []Hop          `json:"hops"`
}

const maxHops = 16

// last returns the greatest distance from which a router said that it is on
// the way, 0 for none.
func (t *Trace) last() (ttl int, from netip.Addr) {
	for _, h := range t.Hops {
		if h.Kind == HopExceeded && h.TTL > ttl {
			ttl, from = h.TTL, h.From
		}
	}
	return ttl, from
}

// end returns the first hop of a kind that ends the way, nil for none.
func (t *Trace) end() *Hop {
	for i := range t.Hops {
		if k := t.Hops[i].Kind; k == HopOpen || k == HopReset || k == HopRefused {
			return &t.Hops[i]
		}
	}
	return nil
}

// fronted reports that a router answered in the name of the target itself:
// the address is a router's, which forwards ports.
func (t *Trace) fronted() bool {
	for _, h := range t.Hops {
		if h.Kind == HopExceeded && h.From == t.To.Addr().Unmap() {
			return true
		}
	}
	return false
}

// String is the way in one line.
func (t *Trace) String() string {
	var s []string
	for _, h := range t.Hops {
		switch h.Kind {
		case HopSilent:
			s = append(s, fmt.Sprintf("%d: silence", h.TTL))
		case HopExceeded:
			s = append(s, fmt.Sprintf("%d: %s", h.TTL, h.From))
		case HopOpen:
			s = append(s, fmt.Sprintf("%d: connected", h.TTL))
		case HopReset:
			s = append(s, fmt.Sprintf("%d: reset", h.TTL))
		case HopRefused:
			s = append(s, fmt.Sprintf("%d: %s from %s", h.TTL, h.Text, h.From))
		}
	}
	return "port " + fmt.Sprint(t.To.Port()) + ": " + strings.Join(s, ", ")
}
