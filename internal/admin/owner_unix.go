//go:build unix

package admin

import (
	"fmt"
	"os"
	"syscall"

	"github.com/portreeve/portreeve/internal/fault"
)

// giveTo hands a directory that root has just made to the owner of the data
// directory: the server runs as that user and could not write to it.
func (s *Service) giveTo(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	st, err := os.Stat(s.data)
	if err != nil {
		return nil // not made yet; it will be root's as well
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if err := os.Lchown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Err: fmt.Errorf("cannot give the directory %s to the server's user: %w", dir, err)}
	}
	return nil
}
