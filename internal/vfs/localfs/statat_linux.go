//go:build linux && (amd64 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x)

package localfs

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// statAt describes the entry of the directory fd whose name stands in a buffer
// of getdents64, with the NUL behind it: fstatat(2) without following links and
// without the copy of the name that unix.Fstatat makes for each entry.
func statAt(fd int, raw []byte, st *unix.Stat_t) error {
	_, _, errno := syscall.Syscall6(unix.SYS_NEWFSTATAT, uintptr(fd), uintptr(unsafe.Pointer(&raw[0])), uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
