package nat

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// PortControl talks PCP (RFC 6887) to a router and NAT-PMP (RFC 6886) to those
// that know only the older protocol.
type PortControl struct {
	Gateway netip.Addr // the router; port 5351 is used
	// Secret, when set, makes the nonces of PCP mappings, so that whoever has
	// it can renew and remove them, also after a restart. Otherwise they are
	// random, and a mapping of a program that died stays until its lease ends.
	Secret []byte
	port   uint16 // another port, for tests
	old    atomic.Bool
}

// Source says which protocol the router speaks, as far as it is known.
func (p *PortControl) Source() Source {
	if p.old.Load() {
		return FromNATPMP
	}
	return FromPCP
}

const (
	opMap        = 1
	response     = 0x80
	unsupported  = 1 // result code of both protocols: this version is not known
	firstRetry   = 250 * time.Millisecond
	portControls = 5351
)

var natPMPResults = map[uint16]string{1: "it does not know this version", 2: "mapping is switched off or not permitted", 3: "it has no outer address itself", 4: "its table is full", 5: "it does not know this request"}

var pcpResults = map[byte]string{1: "it does not know this version", 2: "mapping is switched off or not permitted", 3: "it calls the request malformed", 4: "it does not know this request",
	5: "it does not know an option", 6: "it calls an option malformed", 7: "it has no outer address itself", 8: "it cannot map at present: its table is full or it has no outer address", 9: "it cannot map TCP", 10: "the quota of this machine is used up",
	11: "the external port or address cannot be had", 12: "it sees another address than ours, so there is a second NAT between", 13: "too many peers"}

// ask sends a request until a valid answer comes or ctx ends. accept says
// whether a packet is the answer; others are ignored, as anybody may send some.
func (p *PortControl) ask(ctx context.Context, req func(local netip.Addr) []byte, accept func([]byte) bool) ([]byte, error) {
	port := p.port
	if port == 0 {
		port = portControls
	}
	gw := netip.AddrPortFrom(p.Gateway, port)
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(gw)) // connected: only the router's packets arrive
	if err != nil {
		return nil, fmt.Errorf("nat: router %s: %w", gw, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	msg := req(c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
	buf := make([]byte, 1100) // RFC 6887 section 7: at most 1100 octets
	for wait, tries := firstRetry, 0; tries < 5; wait, tries = 2*wait, tries+1 {
		if _, err := c.Write(msg); err != nil {
			return nil, fmt.Errorf("nat: router %s: %w", gw, err)
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("nat: router %s: %w", gw, ctx.Err())
			}
			n, err := c.Read(buf)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("nat: router %s does not speak PCP or NAT-PMP: %w", gw, err)
			}
			if accept(buf[:n]) {
				return buf[:n], nil
			}
		}
	}
	return nil, fmt.Errorf("nat: router %s does not answer PCP or NAT-PMP", gw)
}

// External asks by NAT-PMP, which PCP routers answer too; PCP itself has no
// such question.
func (p *PortControl) External(ctx context.Context) (netip.Addr, error) {
	b, err := p.ask(ctx, func(netip.Addr) []byte { return []byte{0, 0} }, func(b []byte) bool {
		return len(b) >= 4 && (b[0] == 0 && b[1] == response && len(b) >= 12 || b[1]&response != 0 && binary.BigEndian.Uint16(b[2:])&0xff == unsupported || b[0] == 0 && b[1] == response && binary.BigEndian.Uint16(b[2:]) != 0)
	})
	if err != nil {
		return netip.Addr{}, err
	}
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		return netip.Addr{}, refusedOld(code)
	}
	return netip.AddrFrom4([4]byte(b[8:12])), nil
}

func refusedOld(code uint16) error {
	text := natPMPResults[code]
	if text == "" {
		text = "an unknown reason"
	}
	return &RefusedError{FromNATPMP, int(code), text}
}

// Map asks for a mapping; see Mapper.
func (p *PortControl) Map(ctx context.Context, internal, external uint16, lifetime time.Duration, prev Mapping) (Mapping, error) {
	if internal == 0 {
		return Mapping{}, errors.New("nat: port 0 cannot be mapped")
	}
	if !p.old.Load() {
		m, err := p.mapPCP(ctx, internal, external, seconds(lifetime), prev)
		var r *RefusedError
		if !errors.As(err, &r) || r.Code != unsupported {
			return m, err
		}
		p.old.Store(true) // RFC 6887 section 9: fall back to version 0
	}
	return p.mapOld(ctx, internal, external, seconds(lifetime))
}

// Unmap removes a mapping.
func (p *PortControl) Unmap(ctx context.Context, m Mapping) error {
	var err error
	if m.Source == FromNATPMP {
		_, err = p.mapOld(ctx, m.Internal, 0, 0)
	} else {
		_, err = p.mapPCP(ctx, m.Internal, 0, 0, m)
	}
	return err
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 1), 1<<31))
}

func (p *PortControl) mapOld(ctx context.Context, internal, external uint16, life uint32) (Mapping, error) {
	req := make([]byte, 12)
	req[1] = 2 // map TCP
	binary.BigEndian.PutUint16(req[4:], internal)
	binary.BigEndian.PutUint16(req[6:], external)
	binary.BigEndian.PutUint32(req[8:], life)
	b, err := p.ask(ctx, func(netip.Addr) []byte { return req }, func(b []byte) bool {
		if len(b) < 4 || b[0] != 0 || b[1] != response|2 {
			return false
		}
		return binary.BigEndian.Uint16(b[2:]) != 0 || len(b) >= 16 && binary.BigEndian.Uint16(b[8:]) == internal
	})
	if err != nil {
		return Mapping{}, err
	}
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		return Mapping{}, refusedOld(code)
	}
	m := Mapping{Internal: internal, External: binary.BigEndian.Uint16(b[10:]), Lifetime: time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second, Source: FromNATPMP}
	if life == 0 {
		return m, nil
	}
	if m.External == 0 {
		return m, errors.New("nat: the router answered with external port 0, which is none")
	}
	if a, err := p.External(ctx); err == nil {
		m.Addr = a
	}
	return m, nil
}

func (p *PortControl) mapPCP(ctx context.Context, internal, external uint16, life uint32, prev Mapping) (Mapping, error) {
	nonce := prev.nonce
	switch {
	case nonce != [12]byte{}:
	case p.Secret != nil:
		h := hmac.New(sha256.New, p.Secret)
		fmt.Fprintf(h, "pcp tcp %d", internal)
		copy(nonce[:], h.Sum(nil))
	default:
		rand.Read(nonce[:])
	}
	req := func(local netip.Addr) []byte {
		b := make([]byte, 60)
		b[0], b[1] = 2, opMap
		binary.BigEndian.PutUint32(b[4:], life)
		a := local.As16() // IPv4 as ::ffff:a.b.c.d, RFC 6887 section 5
		copy(b[8:], a[:])
		copy(b[24:], nonce[:])
		b[36] = 6 // TCP
		binary.BigEndian.PutUint16(b[40:], internal)
		binary.BigEndian.PutUint16(b[42:], external)
		want := netip.IPv6Unspecified().As16()
		if local.Is4() {
			want = netip.MustParseAddr("::ffff:0.0.0.0").As16() // "any IPv4 address"
		}
		if prev.Addr.IsValid() && life > 0 {
			want = prev.Addr.As16()
		}
		copy(b[44:], want[:])
		return b
	}
	b, err := p.ask(ctx, req, func(b []byte) bool {
		switch {
		case len(b) >= 4 && b[0] != 2: // an older router answers in its own version
			return b[1]&response != 0 && binary.BigEndian.Uint16(b[2:]) == unsupported
		case len(b) < 24 || b[1] != response|opMap:
			return false
		case b[3] != 0:
			return true
		}
		return len(b) >= 60 && [12]byte(b[24:36]) == nonce && binary.BigEndian.Uint16(b[40:]) == internal
	})
	if err != nil {
		return Mapping{}, err
	}
	if b[0] != 2 {
		return Mapping{}, &RefusedError{FromPCP, unsupported, pcpResults[unsupported]}
	}
	if code := b[3]; code != 0 {
		text := pcpResults[code]
		if text == "" {
			text = "an unknown reason"
		}
		return Mapping{}, &RefusedError{FromPCP, int(code), text}
	}
	m := Mapping{Internal: internal, External: binary.BigEndian.Uint16(b[42:]), Lifetime: time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second, Source: FromPCP, nonce: nonce}
	if life > 0 {
		if m.External == 0 {
			return m, errors.New("nat: the router answered with external port 0, which is none")
		}
		m.Addr = netip.AddrFrom16([16]byte(b[44:60])).Unmap()
	}
	return m, nil
}
