//go:build unix

package ftp

import (
	"net"
	"syscall"
)

// setUrgentInline leaves TCP urgent data in the stream, so that the Telnet
// Synch before ABOR arrives as ordinary bytes (RFC 959 section 4.1.3).
func setUrgentInline(nc net.Conn) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1) })
}
