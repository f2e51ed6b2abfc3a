//go:build unix

package ports

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// keepable says that listeners may be kept between leases.
const keepable = true

// drain closes what sits in the queue of a listener between two leases, all of
// them strangers, and says how many they were.
func drain(ln *net.TCPListener) (strangers int, err error) {
	err = control(ln, func(fd int) error { strangers = drainFD(fd); return nil })
	return strangers, err
}

func drainFD(fd int) (strangers int) {
	for strangers < 1024 { // a flood must not hold the session
		syscall.ForkLock.RLock()
		nfd, _, err := syscall.Accept(fd)
		if err == nil {
			syscall.Close(nfd)
		}
		syscall.ForkLock.RUnlock()
		if err == nil {
			strangers++
		} else if !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.ECONNABORTED) {
			break // EAGAIN, or what the next call will report, too
		}
	}
	return strangers
}

// rest takes a listener out of service but keeps its port: newcomers are
// refused until resume, as if it were closed. It says how many connections sat
// in the queue, all of them strangers. Only Linux can do this; after an error
// the listener must be closed.
func rest(ln *net.TCPListener) (strangers int, err error) {
	err = control(ln, func(fd int) error {
		strangers = drainFD(fd)
		return unix.Shutdown(fd, unix.SHUT_RD)
	})
	return strangers, err
}

// resume ends rest.
func resume(ln *net.TCPListener) error {
	return control(ln, func(fd int) error { return unix.Listen(fd, acceptBacklog) })
}

func control(ln *net.TCPListener, f func(fd int) error) error {
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var bad error
	err = rc.Control(func(fd uintptr) { bad = f(int(fd)) })
	return errors.Join(err, bad)
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
