package nat

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// LocalNetworks returns the addresses of the interfaces that are up, with
// their networks, for Inputs.
func LocalNetworks() ([]Network, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Network
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return out, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, Network{i.Name, p})
			}
		}
	}
	return out, nil
}

// Gateways returns the IPv4 routers of the default routes. Only Linux tells
// without a tool; elsewhere the error says so.
func Gateways() ([]netip.Addr, error) {
	b, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, errors.New("nat: the default router cannot be read on this system")
	}
	return parseRoutes(string(b)), nil
}

// parseRoutes reads /proc/net/route: default routes that are up and have a gateway.
func parseRoutes(table string) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		raw, err2 := hex.DecodeString(f[2])
		if err != nil || err2 != nil || len(raw) != 4 || flags&3 != 3 { // RTF_UP, RTF_GATEWAY
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(raw))
		if gw := netip.AddrFrom4(a); !slices.Contains(out, gw) {
			out = append(out, gw)
		}
	}
	return out
}
