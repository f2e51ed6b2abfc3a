//go:build !linux

package ports

import (
	"net"
	"net/netip"
	"runtime"
)

type other struct{}

// Host returns the reader for the machine this runs on. Outside Linux it knows
// the interfaces only.
func Host() HostReader { return other{} }

func (other) Facts() HostFacts {
	h := HostFacts{OS: runtime.GOOS, Unknown: []string{"ports in use and reserved: not read on " + runtime.GOOS}}
	ifs, err := net.Interfaces()
	if err != nil {
		h.Unknown = append(h.Unknown, "network interfaces: "+err.Error())
		return h
	}
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		x := Interface{Name: i.Name}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				x.Addrs = append(x.Addrs, p)
			}
		}
		h.Interfaces = append(h.Interfaces, x)
	}
	return h
}
