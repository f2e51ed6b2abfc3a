//go:build !unix

package ftp

import "syscall"

func reuseAddr(_, _ string, _ syscall.RawConn) error { return nil }
