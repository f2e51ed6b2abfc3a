//go:build !unix

package ftp

import "net"

// setUrgentInline does nothing here: the urgent byte is lost and strip copes with that.
func setUrgentInline(net.Conn) {}
