//go:build !unix

package ftp

import "net"

// gone cannot tell here; the session goroutine notices a moment later.
func gone(net.Conn) bool { return false }
