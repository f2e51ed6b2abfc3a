package doctor

import (
	"net"
	"net/netip"
)

// zone is a part of the way from client to server.
type zone string

const (
	nowhere        zone = ""
	atClient       zone = "this computer"
	atClientRouter zone = "the first router, the client's own"
	inBetween      zone = "a router in between"
	atGateway      zone = "the last router before the server"
	pastGateway    zone = "the server or the firewall right in front of it"
)

// whereDies compares the way to a port that answers with the way to one that
// does not. A router answers a packet whose hops are used up before it applies
// its forwarding rules, but not one it takes for itself, so the box that stops
// a connection is the last that answered or the one after it.
func whereDies(reach, dead *Trace) zone {
	if reach == nil || dead == nil || reach.end() == nil {
		return nowhere
	}
	server := reach.end().TTL
	if e := dead.end(); e != nil && e.Kind != HopOpen {
		switch k := whoRefused(reach, dead); {
		case k >= server:
			return pastGateway
		case k == server-1:
			return atGateway
		case k <= 1:
			return atClientRouter
		}
		return inBetween
	}
	last, _ := dead.last()
	known, _ := reach.last()
	switch {
	case last == 0 && server == 1:
		return pastGateway // the same network: only the two machines are left
	case last == 0 && known > 0 && firstAnswers(reach):
		return atClient
	case known == 0:
		return nowhere // routers on this way never say anything
	case last >= server-1:
		return pastGateway
	case last == server-2 && last > 1:
		return atGateway
	case last == 1:
		if server-2 == 1 {
			return atGateway
		}
		return atClientRouter
	}
	return inBetween
}

// whoRefused is how far away the box is that refused dead. A router refuses for
// others only after it has counted the hop, so its word comes one hop later
// than its place; for an address of its own it does so at once. An ICMP message
// names its sender.
func whoRefused(reach, dead *Trace) int {
	e, target := dead.end(), dead.To.Addr().Unmap()
	for _, t := range []*Trace{dead, reach} {
		for _, h := range t.Hops {
			if h.Kind == HopExceeded && (e.Kind == HopRefused && h.From == e.From || h.TTL == e.TTL && h.From == target) {
				return h.TTL
			}
		}
	}
	if server := reach.end().TTL; e.TTL >= server {
		return server // the machine itself, or the router before it: the same picture
	}
	for _, h := range reach.Hops {
		if h.TTL == e.TTL && h.Kind == HopExceeded && h.From.IsValid() {
			return e.TTL - 1 // the router there has another address than the target
		}
	}
	return e.TTL
}

func firstAnswers(t *Trace) bool {
	return len(t.Hops) > 0 && t.Hops[0].TTL == 1 && t.Hops[0].Kind == HopExceeded
}

// localTowards is this machine's address for reaching a; no packet is sent.
func localTowards(a netip.Addr) netip.Addr {
	nc, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String())
	if err != nil {
		return netip.Addr{}
	}
	defer nc.Close()
	u, ok := nc.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return u.AddrPort().Addr().Unmap()
}
