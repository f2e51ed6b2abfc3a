package sandbox

import (
	"errors"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is Enter's answer on a kernel without Landlock.
var ErrUnsupported = errors.New("this kernel has no Landlock, or too old a one; it takes Linux 5.19 and \"landlock\" among the security modules (lsm=)")

// ABI is the version of Landlock that the kernel has, 0 for none.
func ABI() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// Rights to files, and to directories with all in them. Devices cannot be
// made, and what can be written cannot be run.
const (
	execute   = landlock.AccessFSSet(unix.LANDLOCK_ACCESS_FS_EXECUTE)
	readFile  = landlock.AccessFSSet(unix.LANDLOCK_ACCESS_FS_READ_FILE)
	readDir   = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeFile = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	writeDir  = readDir | writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_REFER
)

// Enter keeps every thread of this process, and all it starts, to p. It cannot
// be undone, and entering again can only take more away. What is open stays
// usable. Connections are not restricted, nor is what is not a file.
func Enter(p Paths) error {
	if ABI() < 2 { // the first one forbids to move files between directories
		return ErrUnsupported
	}
	var rules []landlock.Rule
	each := func(names []string, dir, file func(...string) landlock.FSRule) {
		for _, n := range names {
			st, err := os.Stat(n)
			switch {
			case err != nil:
			case st.IsDir():
				rules = append(rules, dir(n).IgnoreIfMissing())
			default:
				rules = append(rules, file(n).IgnoreIfMissing())
			}
		}
	}
	access := func(set landlock.AccessFSSet) func(...string) landlock.FSRule {
		return func(n ...string) landlock.FSRule { return landlock.PathAccess(set, n...) }
	}
	each(p.Write, access(writeDir), access(writeFile))
	each(p.Read, access(readDir), access(readFile))
	each(p.Run, access(readDir|execute), access(readFile|execute))
	// V5 has all rights over files; V6 adds signals and abstract sockets and V9
	// sockets by name, which the database and the service manager may be at.
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}
