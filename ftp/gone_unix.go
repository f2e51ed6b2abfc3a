//go:build unix

package ftp

import (
	"net"
	"syscall"
)

// gone reports whether the peer of nc has ended the connection already, though
// nobody may have read that far. It takes no bytes and does not wait.
func gone(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	if rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ended = n == 0 && err == nil || err == syscall.ECONNRESET || err == syscall.EPIPE
	}) != nil {
		return true // closed on our side
	}
	return ended
}
