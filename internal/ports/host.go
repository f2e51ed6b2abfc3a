package ports

import (
	"net/netip"
	"slices"
)

// HostFacts is what the plan needs to know about a machine. The zero value is
// a machine nothing is known about: checks that need a fact are then silent.
type HostFacts struct {
	OS                string      `json:"os"` // as runtime.GOOS
	Interfaces        []Interface `json:"interfaces"`
	Ephemeral         PortRange   `json:"ephemeral"`          // ports the system gives to outgoing connections; zero: unknown
	Reserved          []PortRange `json:"reserved"`           // taken out of Ephemeral by the administrator
	UnprivilegedStart uint16      `json:"unprivileged_start"` // lowest port that needs no permission; 0 means unknown
	CanBindLow        bool        `json:"can_bind_low"`       // root or CAP_NET_BIND_SERVICE
	Container         string      `json:"container"`          // "docker", "podman", "kubernetes", "lxc", "container"; "" when none
	FileLimit         uint64      `json:"file_limit"`         // open files of this process; 0 means unknown
	Listening         []Listener  `json:"listening"`          // TCP listeners of the whole machine
	Unknown           []string    `json:"unknown,omitempty"`  // what could not be read, and why
}

// Interface is a network interface that is up.
type Interface struct {
	Name  string         `json:"name"`
	Addrs []netip.Prefix `json:"addrs"` // the address with the length of its network
}

// Listener is a listening TCP socket.
type Listener struct {
	Addr  netip.AddrPort `json:"addr"`
	PID   int            `json:"pid"`   // 0 when not visible
	Owner string         `json:"owner"` // program name, "" when not visible
}

// HostReader reads the facts of a machine.
type HostReader interface {
	// Facts never fails as a whole: what cannot be read is in Unknown.
	Facts() HostFacts
}

var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// isPublic reports whether a can be meant to be reached from the Internet.
// Addresses for documentation count as public here: examples use them as such.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !cgnat.Contains(a)
}

func (h *HostFacts) addrs() []netip.Addr {
	var out []netip.Addr
	for _, i := range h.Interfaces {
		for _, p := range i.Addrs {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

func (h *HostFacts) has(a netip.Addr) bool { return slices.Contains(h.addrs(), a.Unmap()) }

// localNetworks returns the private networks this machine is part of.
func (h *HostFacts) localNetworks() []netip.Prefix {
	var out []netip.Prefix
	for _, i := range h.Interfaces {
		for _, p := range i.Addrs {
			a := p.Addr().Unmap()
			if a.IsLoopback() || a.IsLinkLocalUnicast() || isPublic(a) || !a.IsGlobalUnicast() {
				continue
			}
			if m := netip.PrefixFrom(a, p.Bits()).Masked(); !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out
}

// reserved reports whether every port of r is taken out of the ephemeral range.
func (h *HostFacts) reserved(r PortRange) bool {
	for _, x := range MergeRanges(h.Reserved) {
		if x.First <= r.First && r.Last <= x.Last {
			return true
		}
	}
	return false
}

// overlap returns the common part of two ranges.
func overlap(a, b PortRange) (PortRange, bool) {
	r := PortRange{First: max(a.First, b.First), Last: min(a.Last, b.Last)}
	return r, r.First <= r.Last && r.First != 0
}
