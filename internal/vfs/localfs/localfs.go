// Package localfs owns storage in a directory on disk. Every name reaches the
// disk through os.Root, so nothing outside the directory can be named, whatever
// links or races a client arranges. It does not decide who may do what.
//
// Only regular files and directories are opened; a FIFO, a device or a socket
// is refused without blocking. Unfinished uploads lie next to their target
// under hidden names that no method lists or accepts.
//
// The server's own account must be able to read every directory on the way
// (os.Root opens them for reading): permission x alone is fault.Denied.
package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Options tune a storage. The zero value is the usual choice.
type Options struct {
	// Umask is taken from the permission bits of new files and directories,
	// whatever the umask of the process; 0 means 0o022. Use NoUmask for none.
	Umask fs.FileMode
	// AllowMountPoints lets clients into other file systems mounted below the
	// directory. Without it they are refused with fault.Denied. A bind mount of
	// the same file system is not noticed.
	AllowMountPoints bool
}

// NoUmask as Options.Umask leaves permission bits as the client asks.
const NoUmask fs.FileMode = 1 << 31

// FS is a directory on disk. It implements vfs.FS and every ability vfs names.
type FS struct {
	root    *os.Root
	mask    fs.FileMode
	mounts  bool
	dev     uint64
	mount   uint64 // mount id of the root, 0 when the system has none
	escapes error  // what os.Root says of a path that leaves it
	calls   calls
}

var (
	_ vfs.FS           = (*FS)(nil)
	_ vfs.Linker       = (*FS)(nil)
	_ vfs.AttrSetter   = (*FS)(nil)
	_ vfs.RandomAccess = (*FS)(nil)
	_ vfs.Copier       = (*FS)(nil)
	_ vfs.Spacer       = (*FS)(nil)
	_ vfs.Lstater      = (*FS)(nil)
	_ vfs.Resolver     = (*FS)(nil)
	_ vfs.HardLinker   = (*FS)(nil)
	_ vfs.Partials     = (*FS)(nil)
	_ vfs.Sweeper      = (*FS)(nil)
)

// New opens the directory dir, which must exist. The error may name dir: it is
// for the operator. One FS serves any number of sessions; two FS on one
// directory see each other's upload locks.
func New(dir string, opts Options) (*FS, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.Wrap("open storage", "", err)
	}
	f := &FS{root: r, mask: opts.Umask.Perm(), mounts: opts.AllowMountPoints}
	if opts.Umask == 0 {
		f.mask = 0o022
	}
	// os.Root does not export this error, so let it show us the value.
	_, err = r.Lstat("..")
	f.escapes = bare(err)
	d, err := r.Open(".")
	if err != nil {
		return nil, errors.Join(fault.Wrap("open storage", "", err), r.Close())
	}
	defer d.Close()
	fi, err := d.Stat()
	if err != nil {
		return nil, errors.Join(fault.Wrap("open storage", "", err), r.Close())
	}
	f.dev, f.mount = infoOf(fi).Dev, mountID(d)
	return f, nil
}

// Close releases the directory. Files that are open stay usable.
func (f *FS) Close() error { return f.root.Close() }

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name string) (vfs.Info, error) {
	if err := f.enter("stat", name); err != nil {
		return vfs.Info{}, err
	}
	defer f.leave()
	rel, err := f.lookup(ctx, "stat", name)
	if err != nil {
		return vfs.Info{}, err
	}
	fi, err := f.root.Stat(rel)
	if err != nil {
		// A link that leaves or dangles is shown as itself; so is a link loop.
		lfi, lerr := f.root.Lstat(rel)
		if lerr != nil || lfi.Mode()&fs.ModeSymlink == 0 {
			return vfs.Info{}, f.fail("stat", name, err)
		}
		fi = lfi
	}
	return f.info("stat", name, rel, fi)
}

// Lstat implements vfs.Lstater.
func (f *FS) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	if err := f.enter("stat", name); err != nil {
		return vfs.Info{}, err
	}
	defer f.leave()
	rel, err := f.lookup(ctx, "stat", name)
	if err != nil {
		return vfs.Info{}, err
	}
	fi, err := f.root.Lstat(rel)
	if err != nil {
		return vfs.Info{}, f.fail("stat", name, err)
	}
	return f.info("stat", name, rel, fi)
}

func (f *FS) info(op, name, rel string, fi fs.FileInfo) (vfs.Info, error) {
	i := infoOf(fi)
	if i.Dev != f.dev && f.foreignName(rel) {
		return vfs.Info{}, fault.New(fault.Denied, op, name, errForeign)
	}
	i.Name = path.Base(name)
	if i.Mode&fs.ModeSymlink != 0 {
		if t, err := f.root.Readlink(rel); err == nil {
			i.Target = inside(path.Dir(name), t)
		}
	}
	return i, nil
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	if err := f.enter("mkdir", name); err != nil {
		return err
	}
	defer f.leave()
	d, base, err := f.newIn(ctx, "mkdir", name)
	if err != nil {
		return err
	}
	defer d.close()
	if perm == 0 {
		perm = 0o777
	}
	perm = perm.Perm() &^ f.mask
	if err := d.Mkdir(base, perm); err != nil {
		return f.fail("mkdir", name, err)
	}
	// The umask of the process may have taken more than ours. Failing to give
	// bits back is no reason to say that the directory was not made.
	if fi, err := d.Lstat(base); err == nil && fi.IsDir() && fi.Mode().Perm() != perm {
		if h, err := d.OpenFile(base, os.O_RDONLY|openFlags, 0); err == nil {
			_ = h.Chmod(perm | fi.Mode()&special)
			_ = h.Close()
		}
	}
	return nil
}

// special are the mode bits beyond the permissions. Clients never set them.
const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name string) error {
	if err := f.enter("remove", name); err != nil {
		return err
	}
	defer f.leave()
	d, base, err := f.oldIn(ctx, "remove", name)
	if err != nil {
		return err
	}
	defer d.close()
	err = d.Remove(base)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		if err = f.dropTemps(d, base); err == nil {
			err = d.Remove(base)
		}
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
			return fault.New(fault.WrongType, "remove", name, errNotEmpty)
		}
	}
	return f.fail("remove", name, err)
}

// Rename implements vfs.FS. A directory that exists never gives way
// (fault.Exist). Moving to another file system is fault.Unsupported.
func (f *FS) Rename(ctx context.Context, from, to string, replace bool) error {
	if err := f.enter("rename", from); err != nil {
		return err
	}
	defer f.leave()
	od, obase, err := f.oldIn(ctx, "rename", from)
	if err != nil {
		return err
	}
	defer od.close()
	nd, nbase, err := f.newIn(ctx, "rename", to)
	if err != nil {
		return err
	}
	defer nd.close()
	fi, err := od.Lstat(obase)
	if err != nil {
		return f.fail("rename", from, err)
	}
	if from == to {
		return nil
	}
	if vfs.Under(from, to) && fi.IsDir() {
		return fault.New(fault.Invalid, "rename", to, errInto)
	}
	// An upload that nobody finished must not keep its directory's name: the
	// temporary moves along with the directory, which is what we want.
	var r error
	if replace {
		r = f.renameReplace(od, obase, nd, nbase)
	} else {
		r = f.renameNew(od, obase, nd, nbase)
	}
	if errors.Is(r, errors.ErrUnsupported) && replace {
		r = f.root.Rename(from[1:], to[1:]) // systems without renameat2
	}
	return f.fail("rename", to, r)
}

// Space implements vfs.Spacer.
func (f *FS) Space(ctx context.Context, name string) (vfs.Space, error) {
	if err := f.enter("space", name); err != nil {
		return vfs.Space{}, err
	}
	defer f.leave()
	rel, err := f.lookup(ctx, "space", name)
	if err != nil {
		return vfs.Space{}, err
	}
	s, err := space(f.root, rel)
	return s, f.fail("space", name, err)
}

// lookup checks the name of something that should exist and returns it
// relative to the root.
func (f *FS) lookup(ctx context.Context, op, name string) (string, error) {
	if ctx.Err() != nil {
		return "", fault.Wrap(op, name, context.Cause(ctx))
	}
	c, err := vfs.CleanExisting(name)
	if err != nil {
		return "", err
	}
	if c != name {
		return "", fault.New(fault.Invalid, op, name, errUnclean)
	}
	if hasTemp(name) {
		return "", fault.New(fault.NotExist, op, name, nil)
	}
	if name == "/" {
		return ".", nil
	}
	return name[1:], nil
}

// fail classifies an error and takes the host's path out of it.
func (f *FS) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var fe *fault.Error
	if errors.As(err, &fe) {
		if fe.Path == "" {
			return fault.New(fe.Kind, op, name, fe.Err)
		}
		return err
	}
	err = bare(err)
	switch {
	case err == f.escapes:
		return fault.New(fault.Denied, op, name, errEscapes)
	case errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return fault.New(fault.Denied, op, name, errSpecial)
	case err == syscall.EBADF:
		return fault.New(fault.Denied, op, name, errAccess) // written through a read-only handle, or the reverse
	case errors.Is(err, os.ErrClosed):
		return fault.New(fault.Unavailable, op, name, err)
	}
	return fault.Wrap(op, name, err)
}

// bare strips the layers that carry a path of the host.
func bare(err error) error {
	for {
		switch e := err.(type) {
		case *fs.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		default:
			return err
		}
	}
}

// pass is fail for reads and writes: the end of the file is no failure.
func (f *FS) pass(op, name string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return f.fail(op, name, err)
}

type text string

func (t text) Error() string { return string(t) }

const (
	errUnclean  text = "the path is not clean"
	errForeign  text = "another file system is mounted here"
	errEscapes  text = "the link leaves the storage"
	errSpecial  text = "not a regular file or directory"
	errIsDir    text = "it is a directory"
	errNotEmpty text = "the directory is not empty"
	errInto     text = "a directory cannot be moved into itself"
	errRoot     text = "this cannot be done to the top directory"
	errBusy     text = "another upload to this file is under way"
	errBusyDir  text = "an upload into this directory is under way"
	errPast     text = "the offset lies past the end of the file"
	errNegative text = "the offset is negative"
	errGone     text = "the file was removed or replaced while it was written"
	errEnded    text = "the upload has ended already"
	errTempName text = "the name is kept for unfinished uploads"
	errSelf     text = "source and target are the same file"
	errAccess   text = "the file is not open for this"
	errLoop     text = "the link leads nowhere or round in circles"
)

// notRegular says why fi cannot be opened as a file; nil when it can.
func notRegular(op, name string, m fs.FileMode) error {
	switch {
	case m.IsRegular():
		return nil
	case m.IsDir():
		return fault.New(fault.WrongType, op, name, errIsDir)
	}
	return fault.New(fault.Denied, op, name, errSpecial)
}

// inside returns the target of a link in dir if it may be shown: it must be
// relative and stay below the root. Targets are compared as text, which at
// worst hides one.
func inside(dir, target string) string {
	if target == "" || target[0] == '/' || climbs(dir, target) {
		return ""
	}
	return target
}

// climbs reports whether the relative target, read from dir, passes above the root.
func climbs(dir, target string) bool {
	depth := 0
	if dir != "/" {
		depth = strings.Count(dir, "/")
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}
