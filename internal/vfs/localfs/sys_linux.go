package localfs

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portreeve/portreeve/internal/vfs"
)

const (
	// openFlags go with every open: O_NONBLOCK so that a FIFO or a device
	// cannot hold us (on regular files it means nothing), O_NOCTTY so that a
	// terminal does not become ours. os.Root adds O_NOFOLLOW and O_CLOEXEC.
	openFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
	dirFlags  = syscall.O_DIRECTORY
	// pathFlags open anything without touching it. The kernel ignores
	// O_NONBLOCK here; it spares the Go runtime two calls.
	pathFlags = unix.O_PATH | syscall.O_NONBLOCK
)

// infoOf turns what os reports into an Info without a name.
func infoOf(fi fs.FileInfo) vfs.Info {
	i := vfs.Info{Size: fi.Size(), Mode: fi.Mode(), ModTime: fi.ModTime()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		i.UID, i.GID, i.Links, i.Dev, i.Inode = st.Uid, st.Gid, uint32(st.Nlink), uint64(st.Dev), st.Ino
	}
	return i
}

// mountID identifies the mount that holds f; 0 when the kernel does not tell
// (before Linux 5.8). Device numbers alone will not do: one overlay or btrfs
// mount shows several.
func mountID(f *os.File) uint64 {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	runtime.KeepAlive(f)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// foreign reports whether f, whose device is not the root's, lies on another mount.
func (f *FS) foreign(h *os.File) bool {
	return !f.mounts && (f.mount == 0 || mountID(h) != f.mount)
}

func (f *FS) foreignName(rel string) bool {
	if f.mounts {
		return false
	}
	h, err := f.root.OpenFile(rel, pathFlags, 0)
	if err != nil {
		return true
	}
	defer h.Close()
	return f.foreign(h)
}

func (f *FS) foreignDir(r *os.Root) bool {
	h, err := r.OpenFile(".", pathFlags|dirFlags, 0)
	if err != nil {
		return true
	}
	defer h.Close()
	return f.foreign(h)
}

// renameAt moves od/obase to nd/nbase.
func renameAt(od *os.Root, obase string, nd *os.Root, nbase string, replace bool) error {
	var flags uint
	if !replace {
		flags = unix.RENAME_NOREPLACE
	}
	return withBoth(od, nd, func(o, n int) error { return unix.Renameat2(o, obase, n, nbase, flags) })
}

// linkAt makes a hard link. A symbolic link called obase is not followed.
func linkAt(od *os.Root, obase string, nd *os.Root, nbase string) error {
	return withBoth(od, nd, func(o, n int) error { return unix.Linkat(o, obase, n, nbase, 0) })
}

// withBoth gives f the descriptors of two directories that os.Root opened.
// With names of a single component, which the calls above take as entries and
// never follow, this cannot leave the storage.
func withBoth(od, nd *os.Root, f func(o, n int) error) error {
	o, err := od.OpenFile(".", pathFlags|dirFlags, 0)
	if err != nil {
		return err
	}
	defer o.Close()
	n := o
	if nd != od {
		if n, err = nd.OpenFile(".", pathFlags|dirFlags, 0); err != nil {
			return err
		}
		defer n.Close()
	}
	return retry(func() error { return f(int(o.Fd()), int(n.Fd())) })
}

func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// tryLock takes the upload lock of an open file. The kernel keeps it with the
// open file, so it holds against other processes too and cannot leak.
// It reports false when somebody else has it. Where a file system has no locks
// there is none.
func tryLock(f *os.File) bool {
	err := retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	return err != unix.EWOULDBLOCK
}

// datasync makes the content and size of f durable.
func datasync(f *os.File) error {
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// syncDir makes the entries of a directory durable.
func syncDir(r *os.Root) error {
	d, err := r.OpenFile(".", os.O_RDONLY|dirFlags|openFlags, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err = retry(func() error { return unix.Fsync(int(d.Fd())) }); err == unix.EINVAL {
		return nil // a file system without directory sync
	}
	return err
}

// maxReserve bounds what a size hint may reserve on the disk: a client only
// has to say a number for it.
const maxReserve = 1 << 30

// reserve asks for room for n more bytes at off, without changing the size.
// It returns whether blocks may lie past the end now, and fails only when the
// disk cannot hold n bytes.
func reserve(f *os.File, off, n int64) (bool, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(f.Fd()), &st) }); err == nil {
		if free := int64(st.Bavail) * int64(st.Bsize); n > free && free >= 0 {
			return false, unix.ENOSPC
		}
	}
	err := retry(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, min(n, maxReserve))
	})
	if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EFBIG {
		return false, err
	}
	return err == nil, nil
}

func space(r *os.Root, rel string) (vfs.Space, error) {
	h, err := r.OpenFile(rel, pathFlags, 0)
	if err != nil {
		return vfs.Space{}, err
	}
	defer h.Close()
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(h.Fd()), &st) }); err != nil {
		return vfs.Space{}, err
	}
	bs := int64(st.Bsize)
	return vfs.Space{Free: int64(st.Bavail) * bs, Total: int64(st.Blocks) * bs}, nil
}

// setMode and setTimes work on the open file, also one opened with pathFlags,
// so that no swapped name can redirect them.
func setMode(f *os.File, mode fs.FileMode) error {
	err := f.Chmod(mode)
	if !errors.Is(err, unix.EBADF) {
		return err
	}
	m := uint32(mode.Perm())
	if mode&fs.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	err = unix.Fchmodat(int(f.Fd()), "", m, unix.AT_EMPTY_PATH)
	if errors.Is(err, errors.ErrUnsupported) || err == unix.EINVAL || err == unix.ENOENT {
		err = unix.Fchmodat(unix.AT_FDCWD, procName(f), m, 0) // before Linux 6.6
	}
	return err
}

func setTimes(f *os.File, atime, mtime *time.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, t := range []*time.Time{atime, mtime} {
		if t == nil {
			continue
		}
		var err error
		if ts[i], err = unix.TimeToTimespec(*t); err != nil {
			return err
		}
	}
	err := unix.UtimesNanoAt(int(f.Fd()), "", ts, unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, procName(f), ts, 0) // before Linux 5.8
	}
	return err
}

// procName is a name for the open file itself; it is not resolved again.
func procName(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
