package doctor

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// traceTo finds the way of a TCP connection to a port: it tries to connect with
// few hops to live and reads who says that they were used up. This needs no
// privilege on Linux from 5.8 on. It stops at the first answer of the target,
// so that a port is connected to once at most. ok is false when no socket can
// be had. Routers that stay silent cost wait each.
func traceTo(ctx context.Context, to netip.AddrPort, wait time.Duration) (t Trace, ok bool) {
	t.To = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	silent := 0
	for ttl := 1; ttl <= maxHops && ctx.Err() == nil; ttl++ {
		h, err := hop(ctx, t.To, ttl, wait)
		if err != nil {
			return t, false
		}
		t.Hops = append(t.Hops, h)
		if h.Kind == HopSilent {
			silent++
		} else if silent = 0; h.Kind != HopExceeded {
			return t, true
		}
		if silent == 4 { // whoever is next does not answer either
			t.Hops = slices.DeleteFunc(t.Hops, func(h Hop) bool { return h.TTL > ttl-3 })
			break
		}
	}
	return t, true
}

func hop(ctx context.Context, to netip.AddrPort, ttl int, wait time.Duration) (Hop, error) {
	h := Hop{TTL: ttl, Kind: HopSilent}
	family, level, ttlOpt, errOpt := syscall.AF_INET, syscall.IPPROTO_IP, syscall.IP_TTL, syscall.IP_RECVERR
	var sa syscall.Sockaddr
	if to.Addr().Is4() {
		sa = &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, level, ttlOpt, errOpt = syscall.AF_INET6, syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS, syscall.IPV6_RECVERR
		sa = &syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return h, err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, level, ttlOpt, ttl); err != nil {
		return h, err
	}
	if err := syscall.SetsockoptInt(fd, level, errOpt, 1); err != nil {
		return h, err
	}
	// A connection that comes about is cut, not closed: nothing lingers.
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	switch err := syscall.Connect(fd, sa); err {
	case nil, syscall.EINPROGRESS:
	case syscall.ECONNREFUSED:
		h.Kind = HopReset
		return h, nil
	default:
		h.Kind, h.Text = HopRefused, err.Error() // this machine itself has no way or no permission
		return h, nil
	}
	for end := time.Now().Add(wait); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(3 * time.Millisecond) {
		if readErrors(fd, &h) {
			return h, nil
		}
		if _, err := syscall.Getpeername(fd); err == nil {
			h.Kind = HopOpen
			return h, nil
		}
		if n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && n != 0 {
			if readErrors(fd, &h) {
				return h, nil
			}
			if h.Kind, h.Text = HopReset, syscall.Errno(n).Error(); syscall.Errno(n) != syscall.ECONNREFUSED {
				h.Kind = HopRefused
			}
			return h, nil
		}
	}
	return h, nil
}

// readErrors takes one ICMP message off the socket's error queue.
func readErrors(fd int, h *Hop) bool {
	oob := make([]byte, 512)
	_, n, _, _, err := syscall.Recvmsg(fd, make([]byte, 64), oob, syscall.MSG_ERRQUEUE|syscall.MSG_DONTWAIT)
	if err != nil {
		return false
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return false
	}
	for _, m := range msgs {
		v4 := m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == syscall.IP_RECVERR
		v6 := m.Header.Level == syscall.IPPROTO_IPV6 && m.Header.Type == syscall.IPV6_RECVERR
		// struct sock_extended_err: errno, origin, type, code, pad, info, data; the offender's address follows.
		if b := m.Data; (v4 || v6) && len(b) >= 16+16 {
			origin, typ, code := b[4], b[5], b[6]
			switch sa := b[16:]; {
			case origin == 2 && binary.NativeEndian.Uint16(sa) == syscall.AF_INET:
				h.From = netip.AddrFrom4([4]byte(sa[4:8]))
			case origin == 3 && binary.NativeEndian.Uint16(sa) == syscall.AF_INET6 && len(sa) >= 24:
				h.From = netip.AddrFrom16([16]byte(sa[8:24]))
			default:
				continue
			}
			h.Kind, h.Text = HopRefused, icmpText(origin, typ, code)
			if origin == 2 && typ == 11 || origin == 3 && typ == 3 {
				h.Kind = HopExceeded
			}
			return true
		}
	}
	return false
}

func icmpText(origin, typ, code byte) string {
	switch {
	case origin == 2 && typ == 3 && (code == 9 || code == 10 || code == 13), origin == 3 && typ == 1 && (code == 1 || code >= 5):
		return "administratively prohibited"
	case origin == 2 && typ == 3 && code == 3, origin == 3 && typ == 1 && code == 4:
		return "port unreachable"
	case origin == 2 && typ == 3 && code == 1, origin == 3 && typ == 1 && code == 3:
		return "host unreachable"
	case origin == 2 && typ == 3 && code == 0, origin == 3 && typ == 1 && code == 0:
		return "network unreachable"
	}
	return "unreachable"
}
