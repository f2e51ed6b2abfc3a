package nat

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	table := `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	100	00000000	0	0	0
eth1	00000000	0100000A	0003	0	0	200	00000000	0	0	0
eth0	0001A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
tun0	00000000	00000000	0001	0	0	0	00000080	0	0	0
eth2	00000000	zz	0003	0	0	0	00000000	0	0	0
eth0	00000000	0101A8C0	0003	0	0	300	00000000	0	0	0
`
	if got, want := parseRoutes(table), []netip.Addr{ip("192.168.1.1"), ip("10.0.0.1")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := parseRoutes("nonsense"); got != nil {
		t.Errorf("%v", got)
	}
}

func TestLocalNetworks(t *testing.T) {
	ns, err := LocalNetworks()
	if err != nil || !slices.ContainsFunc(ns, func(n Network) bool { return n.Prefix.Addr().IsLoopback() }) {
		t.Errorf("%v %v", ns, err)
	}
}
