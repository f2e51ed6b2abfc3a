package ports

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// slack is the longest tick of the kernel's coarse clock.
const slack = 10 * time.Millisecond

// early reports whether a connection that was just accepted began before start.
// A handshake that is under way sits in no queue that drain could empty, and
// survives rest: whoever sent its first packet during an earlier lease may
// arrive now, from the address of this lease's client when both are behind one
// NAT. The kernel's first measured round trip is how long the handshake took.
// What cannot be told, as with SYN cookies, is not early. A client that connects
// after start seems early only when the coarse clock stood still meanwhile, as
// on a virtual machine whose processor the host has taken away for a while.
func early(conn *net.TCPConn, start time.Time) bool {
	rc, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	if rc.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }) != nil || err != nil {
		return false
	}
	age := time.Duration(info.Last_ack_recv)*time.Millisecond - slack // of its last packet, at least
	return time.Duration(info.Rtt)*time.Microsecond > time.Since(start)-max(age, 0)
}
