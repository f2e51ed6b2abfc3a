//go:build linux && !(amd64 || arm64 || loong64 || ppc64 || ppc64le || riscv64 || s390x)

package localfs

import "golang.org/x/sys/unix"

// statAt describes the entry raw of the directory fd, without following links.
func statAt(fd int, raw []byte, st *unix.Stat_t) error {
	return unix.Fstatat(fd, string(raw), st, unix.AT_SYMLINK_NOFOLLOW)
}
