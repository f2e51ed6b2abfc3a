package ftp

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// sendNow has the kernel send up to n bytes of f as far as the socket takes
// them without waiting. 0 and no error means that it takes none now.
func sendNow(tc *net.TCPConn, f *os.File, n int64) (sent int64, err error) {
	out, err := tc.SyscallConn()
	if err != nil {
		return 0, err
	}
	in, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var serr, oerr error
	err = in.Control(func(src uintptr) {
		oerr = out.Control(func(dst uintptr) {
			for {
				var k int
				k, serr = syscall.Sendfile(int(dst), int(src), nil, int(n))
				if serr != syscall.EINTR {
					sent = int64(max(k, 0))
					return
				}
			}
		})
	})
	if serr == syscall.EAGAIN {
		serr = nil
	}
	return sent, errors.Join(err, oerr, serr)
}
