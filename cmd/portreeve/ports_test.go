package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/ports"
)

// TestShowPorts: the list has every socket and says which ports nobody reached.
func TestShowPorts(t *testing.T) {
	r := ports.NewRecorder()
	client := netip.MustParseAddrPort("198.51.100.7:40000")
	for _, port := range []uint16{50001, 50001, 50009} {
		r.Add(ports.NewAttempt("ftp-21", "s1", "ann", netip.MustParseAddrPort("192.0.2.1:21"),
			ftp.DataAttempt{Mode: "PASV", Control: client, Local: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), Code: "PR-D01"}))
	}
	m := r.Matrix()
	now := time.Now()
	p := api.Ports{Pools: []ports.Stats{{First: 50000, Last: 50099, Leased: 1}}, Sockets: []ports.LiveSocket{
		{Addr: netip.MustParseAddrPort("[::]:21"), State: "control", Use: "ftp-21"},
		{Addr: netip.MustParseAddrPort("[::]:989"), State: "shared", Waiting: 3},
		{Addr: netip.MustParseAddrPort("192.0.2.1:50001"), State: "leased", Client: client, Since: now.Add(-time.Second)},
	}}
	var b strings.Builder
	if err := showPorts(&b, p, &m, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"control ftp-21", "shared, 3 waiting", "leased", "198.51.100.7:40000", "2 of 2", "1 further passive port"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := showNetwork(&b, &m, ports.NetworkOf(client.Addr())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"All clients of 198.51.100.0/24", "PASV", "PR-D01 3"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := showNetwork(&b, &m, netip.MustParsePrefix("203.0.113.0/24")); err != nil || b.Len() > 0 {
		t.Errorf("%v, of another network:\n%s", err, b.String())
	}
}
