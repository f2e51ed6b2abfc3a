//go:build unix

package ftp

import (
	"net"
	"syscall"
	"testing"
)

// sendUrgent sends b with the last byte as TCP urgent data.
func sendUrgent(t *testing.T, c net.Conn, b string) {
	t.Helper()
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	rc.Control(func(fd uintptr) { serr = syscall.Sendto(int(fd), []byte(b), syscall.MSG_OOB, nil) })
	if serr != nil {
		t.Fatal(serr)
	}
}
