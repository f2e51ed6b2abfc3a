//go:build !linux

package api

import "net"

// peer is unknown here: there is no portable way to ask.
func peer(net.Conn) string { return "" }
