package api

import (
	"net"
	"syscall"

	"github.com/portreeve/portreeve/internal/admin"
)

// peer names the user at the other end of a unix socket, "" when unknown.
func peer(c net.Conn) string {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ""
	}
	var cred *syscall.Ucred
	raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || cred == nil {
		return ""
	}
	return admin.LocalActor(int(cred.Uid))
}
