package localfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// listBuffer is one getdents64 call's worth: some 2,000 entries.
const listBuffer = 64 << 10

var listBuffers = sync.Pool{New: func() any { return new([listBuffer]byte) }}

// List implements vfs.FS. It holds one descriptor and one buffer, whatever the
// size of the directory; a caller that stops gives both back. Entries are
// described without following links. An entry that vanishes meanwhile is left out.
func (f *FS) List(ctx context.Context, name string) iter.Seq2[vfs.Info, error] {
	return func(yield func(vfs.Info, error) bool) {
		d, err := f.openDir(ctx, name)
		if err != nil {
			yield(vfs.Info{}, err)
			return
		}
		defer d.Close()
		buf := listBuffers.Get().(*[listBuffer]byte)
		defer listBuffers.Put(buf)
		fd, passing := int(d.Fd()), vfs.IsPassing(ctx)
		for {
			n, err := f.fill(ctx, name, fd, buf)
			if err != nil {
				yield(vfs.Info{}, err)
				return
			}
			if n == 0 || !f.entries(fd, name, buf[:n], passing, yield) {
				return
			}
		}
	}
}

// fill reads the next entries of a directory; 0 octets are its end.
func (f *FS) fill(ctx context.Context, name string, fd int, buf *[listBuffer]byte) (n int, err error) {
	if ctx.Err() != nil {
		return 0, fault.Wrap("list", name, context.Cause(ctx))
	}
	err = retry(func() (err error) { n, err = unix.Getdents(fd, buf[:]); return })
	if err == unix.ENOENT {
		return 0, nil // removed while we read it: it has no entries
	}
	if err != nil {
		return 0, f.fail("list", name, err)
	}
	return n, nil
}

// children calls do with each directory and each temporary name in d. It stops
// at the first error. os.File.ReadDir would ask the kernel about every entry,
// which costs a start with large directories more than all else.
func (f *FS) children(ctx context.Context, name string, d *os.File, do func(base string, isDir bool) error) error {
	buf := listBuffers.Get().(*[listBuffer]byte)
	defer listBuffers.Put(buf)
	fd := int(d.Fd())
	for {
		n, err := f.fill(ctx, name, fd, buf)
		if n == 0 || err != nil {
			return err
		}
		for raw, kind := range dirents(buf[:n]) {
			isDir := kind == unix.DT_DIR
			if kind == unix.DT_UNKNOWN { // a file system that does not say
				var st unix.Stat_t
				err := retry(func() error { return statAt(fd, raw, &st) })
				isDir = err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
			}
			if isDir || bytes.HasSuffix(raw, []byte(tempTail)) && isTemp(string(raw)) {
				if err := do(string(raw), isDir); err != nil {
					return err
				}
			}
		}
	}
}

// openDir opens a directory for reading its entries.
func (f *FS) openDir(ctx context.Context, name string) (*os.File, error) {
	if err := f.enter("list", name); err != nil {
		return nil, err
	}
	defer f.leave()
	rel, err := f.lookup(ctx, "list", name)
	if err != nil {
		return nil, err
	}
	d, err := f.root.OpenFile(rel, os.O_RDONLY|dirFlags|openFlags, 0)
	if err != nil {
		return nil, f.fail("list", name, err)
	}
	if f.mounts {
		return d, nil
	}
	fi, err := d.Stat()
	switch {
	case err != nil:
		err = f.fail("list", name, err)
	case infoOf(fi).Dev != f.dev && f.foreign(d):
		err = fault.New(fault.Denied, "list", name, errForeign)
	default:
		return d, nil
	}
	_ = d.Close()
	return nil, err
}

// dirents are the names and types (DT_*) in a buffer of linux_dirent64, without
// "." and "..": inode 8, offset 8, length 2, type 1, name with NUL. A name is
// good until the buffer is filled again, and its NUL stands behind it.
func dirents(b []byte) iter.Seq2[[]byte, byte] {
	const head = 19
	return func(yield func([]byte, byte) bool) {
		for len(b) > head {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size <= head || size > len(b) {
				return
			}
			raw, ino, kind := b[head:size], binary.NativeEndian.Uint64(b), b[18]
			b = b[size:]
			raw = raw[:max(bytes.IndexByte(raw, 0), 0)] // a name without NUL is none
			if ino == 0 || len(raw) == 0 || raw[0] == '.' && (len(raw) == 1 || len(raw) == 2 && raw[1] == '.') {
				continue
			}
			if !yield(raw, kind) {
				return
			}
		}
	}
}

// entries describes and hands on the entries of one buffer. When passing, their
// names lie in it.
func (f *FS) entries(fd int, dirName string, b []byte, passing bool, yield func(vfs.Info, error) bool) bool {
	var st unix.Stat_t
	for raw := range dirents(b) {
		name := unsafe.String(unsafe.SliceData(raw), len(raw)) // good as long as b is
		if isTemp(name) {
			continue
		}
		if !passing {
			name = strings.Clone(name)
		}
		err := retry(func() error { return statAt(fd, raw, &st) })
		if err == unix.ENOENT {
			continue
		}
		i := vfs.Info{Name: name}
		if err == nil {
			i = infoFrom(name, &st)
		} else {
			// One entry that cannot be described (a dead network mount, a
			// directory with r but not x) must not hide the others.
			i.Mode = fs.ModeIrregular
		}
		if i.Mode&fs.ModeSymlink != 0 {
			i.Target = linkTarget(fd, dirName, name)
		}
		if !yield(i, nil) {
			return false
		}
	}
	return true
}

func linkTarget(fd int, dirName, name string) string {
	var b [vfs.MaxPath]byte
	n, err := unix.Readlinkat(fd, name, b[:])
	if err != nil || n <= 0 || n == len(b) {
		return ""
	}
	return inside(dirName, string(b[:n]))
}

func infoFrom(name string, st *unix.Stat_t) vfs.Info {
	return vfs.Info{
		Name: name, Size: st.Size, Mode: modeFrom(st.Mode), ModTime: time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec)),
		UID: st.Uid, GID: st.Gid, Links: uint32(st.Nlink), Dev: uint64(st.Dev), Inode: st.Ino,
	}
}

func modeFrom(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & syscall.S_IFMT {
	case syscall.S_IFBLK:
		mode |= fs.ModeDevice
	case syscall.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFDIR:
		mode |= fs.ModeDir
	case syscall.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case syscall.S_IFLNK:
		mode |= fs.ModeSymlink
	case syscall.S_IFSOCK:
		mode |= fs.ModeSocket
	}
	if m&syscall.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if m&syscall.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if m&syscall.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
