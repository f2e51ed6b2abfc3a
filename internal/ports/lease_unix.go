//go:build unix

package ports

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// drain closes the connections that queued up while the listener was not
// leased and says how many there were. It never waits: the descriptor is
// non-blocking. A deadline in the past would not do, net would not try at all.
func drain(ln *net.TCPListener) (int, error) {
	rc, err := ln.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	var bad error
	err = rc.Control(func(fd uintptr) {
		for n < 1024 { // a flood must not hold the session
			syscall.ForkLock.RLock()
			nfd, _, err := syscall.Accept(int(fd))
			if err == nil {
				syscall.Close(nfd)
			}
			syscall.ForkLock.RUnlock()
			switch {
			case err == nil:
				n++
			case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ECONNABORTED):
			case errors.Is(err, syscall.EAGAIN):
				return
			default:
				bad = err
				return
			}
		}
	})
	return n, errors.Join(err, bad)
}

// waiting reports whether a connection is in the listener's queue.
func waiting(ln *net.TCPListener) bool {
	rc, err := ln.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = rc.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ready = err == nil && n == 1 && p[0].Revents == unix.POLLIN
	})
	return err == nil && ready
}

// shrinkBacklog replaces the backlog net has chosen (the system's maximum).
// A second listen on a listening socket only changes the backlog; where a
// system refuses, the large one stays, which is harmless.
func shrinkBacklog(ln *net.TCPListener, n int) {
	if rc, err := ln.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), n) })
	}
}
