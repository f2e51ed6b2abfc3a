package nat

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const stunCookie = 0x2112A442

// STUN asks a server outside which IPv4 address this machine's packets come
// from (RFC 8489). server is "host:port". It tells the server that we exist,
// so callers use it only where the administrator has allowed it.
func STUN(ctx context.Context, server string) (netip.Addr, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp4", server)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("nat: STUN server %s: %w", server, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	req := make([]byte, 20)
	req[1] = 1 // binding request
	binary.BigEndian.PutUint32(req[4:], stunCookie)
	rand.Read(req[8:])
	buf := make([]byte, 1500)
	for wait, tries := firstRetry, 0; tries < 5; wait, tries = 2*wait, tries+1 {
		if _, err := c.Write(req); err != nil {
			return netip.Addr{}, fmt.Errorf("nat: STUN server %s: %w", server, err)
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for {
			if ctx.Err() != nil {
				return netip.Addr{}, fmt.Errorf("nat: STUN server %s: %w", server, ctx.Err())
			}
			n, err := c.Read(buf)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				break
			}
			if err != nil {
				return netip.Addr{}, fmt.Errorf("nat: STUN server %s: %w", server, err)
			}
			if a, ok := stunAnswer(buf[:n], req[8:20]); ok {
				return a, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("nat: STUN server %s does not answer", server)
}

// stunAnswer reads a binding success response to the request with id.
func stunAnswer(b, id []byte) (netip.Addr, bool) {
	if len(b) < 20 || b[0] != 1 || b[1] != 1 || binary.BigEndian.Uint32(b[4:]) != stunCookie || string(b[8:20]) != string(id) {
		return netip.Addr{}, false
	}
	attrs := b[20:]
	if n := int(binary.BigEndian.Uint16(b[2:])); n <= len(attrs) {
		attrs = attrs[:n]
	}
	var plain netip.Addr
	for len(attrs) >= 4 {
		kind, n := binary.BigEndian.Uint16(attrs), int(binary.BigEndian.Uint16(attrs[2:]))
		if n > len(attrs)-4 {
			break
		}
		if v := attrs[4 : 4+n]; n == 8 && v[1] == 1 {
			a := [4]byte(v[4:8])
			switch kind {
			case 0x0001: // MAPPED-ADDRESS, which some routers rewrite
				plain = netip.AddrFrom4(a)
			case 0x0020: // XOR-MAPPED-ADDRESS
				binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])^stunCookie)
				return netip.AddrFrom4(a), true
			}
		}
		attrs = attrs[min(4+(n+3)&^3, len(attrs)):]
	}
	return plain, plain.IsValid()
}
