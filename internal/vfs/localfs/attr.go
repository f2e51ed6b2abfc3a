package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// SetAttr implements vfs.AttrSetter. It changes what it opened, never what a
// name means a moment later. A final link that stays inside is followed.
// Setuid and setgid on files are never set and get lost; on directories the
// bits an operator set stay.
func (f *FS) SetAttr(ctx context.Context, name string, a vfs.Attr) error {
	if err := f.enter("set attributes", name); err != nil {
		return err
	}
	defer f.leave()
	rel, err := f.lookup(ctx, "setattr", name)
	if err != nil {
		return err
	}
	h, err := f.openMeta(name, rel, a.Size != nil)
	if err != nil {
		return f.fail("setattr", name, err)
	}
	defer h.Close()
	fi, err := h.Stat()
	switch {
	case err != nil:
		return f.fail("setattr", name, err)
	case !fi.IsDir() && !fi.Mode().IsRegular():
		return fault.New(fault.Denied, "setattr", name, errSpecial)
	case infoOf(fi).Dev != f.dev && f.foreign(h):
		return fault.New(fault.Denied, "setattr", name, errForeign)
	}
	if a.Size != nil { // before the times: it changes them
		if *a.Size < 0 {
			return fault.New(fault.Invalid, "setattr", name, errNegative)
		}
		if err := h.Truncate(*a.Size); err != nil {
			return f.fail("setattr", name, err)
		}
	}
	if a.Mode != nil {
		mode := a.Mode.Perm()
		if fi.IsDir() {
			mode |= fi.Mode() & special
		}
		if err := setMode(h, mode); err != nil {
			return f.fail("setattr", name, err)
		}
	}
	if a.ATime != nil || a.ModTime != nil {
		return f.fail("setattr", name, setTimes(h, a.ATime, a.ModTime))
	}
	return nil
}

// openMeta opens a file or directory for changes of its attributes. Its owner
// may change a file that he may neither read nor write.
func (f *FS) openMeta(name, rel string, write bool) (*os.File, error) {
	if write {
		return f.root.OpenFile(rel, os.O_WRONLY|openFlags, 0)
	}
	h, err := f.root.OpenFile(rel, os.O_RDONLY|openFlags, 0)
	if !errors.Is(err, fs.ErrPermission) || pathFlags == 0 {
		return h, err
	}
	real, err := f.real("setattr", name)
	if err != nil {
		return nil, err
	}
	if real == "/" {
		return f.root.OpenFile(".", pathFlags, 0)
	}
	return f.root.OpenFile(real[1:], pathFlags, 0)
}

// Symlink implements vfs.Linker. An absolute target is a path inside the FS, a
// relative one counts from the link's directory. It is stored relative, so it
// stays true wherever the directory is mounted. The target need not exist.
func (f *FS) Symlink(ctx context.Context, target, name string) error {
	if err := f.enter("symlink", name); err != nil {
		return err
	}
	defer f.leave()
	d, base, err := f.newIn(ctx, "symlink", name)
	if err != nil {
		return err
	}
	defer d.close()
	// Through a linked directory ".." means the parent of the real one.
	parent, err := f.real("symlink", path.Dir(name))
	if err != nil {
		return err
	}
	if target == "" {
		return fault.New(fault.Invalid, "symlink", name, nil)
	}
	if target[0] != '/' {
		if climbs(parent, target) {
			return fault.New(fault.Denied, "symlink", name, errEscapes)
		}
		target = vfs.Join(parent, target)
	}
	if target, err = vfs.Clean(target); err != nil {
		return fault.New(fault.KindOf(err), "symlink", name, errors.Unwrap(err))
	}
	if hasTemp(target) { // or it would be a way to somebody's partial
		return fault.New(fault.NameRefused, "symlink", name, errTempName)
	}
	return f.fail("symlink", name, d.Root.Symlink(relative(parent, target), base))
}

// relative writes the clean path target as seen from the clean directory dir.
func relative(dir, target string) string {
	up := ""
	for !vfs.Under(dir, target) {
		dir = path.Dir(dir)
		up += "../"
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(target, dir), "/")
	if rest = up + rest; rest == "" {
		return "."
	}
	return strings.TrimSuffix(rest, "/")
}

// Readlink implements vfs.Linker. The target is relative to the link's
// directory. One that leaves the FS is fault.Denied: it would name the host.
func (f *FS) Readlink(ctx context.Context, name string) (string, error) {
	if err := f.enter("readlink", name); err != nil {
		return "", err
	}
	defer f.leave()
	d, base, err := f.oldIn(ctx, "readlink", name)
	if err != nil {
		return "", err
	}
	defer d.close()
	t, err := d.Readlink(base)
	if err != nil {
		if fi, lerr := d.Lstat(base); lerr == nil && fi.Mode()&fs.ModeSymlink == 0 {
			return "", fault.New(fault.Invalid, "readlink", name, errNoLink)
		}
		return "", f.fail("readlink", name, err)
	}
	if t = inside(path.Dir(name), t); t == "" {
		return "", fault.New(fault.Denied, "readlink", name, errEscapes)
	}
	return t, nil
}

const errNoLink text = "it is not a symbolic link"

// Link implements vfs.HardLinker, for regular files only.
func (f *FS) Link(ctx context.Context, from, to string) error {
	if err := f.enter("link", from); err != nil {
		return err
	}
	defer f.leave()
	od, obase, err := f.oldIn(ctx, "link", from)
	if err != nil {
		return err
	}
	defer od.close()
	nd, nbase, err := f.newIn(ctx, "link", to)
	if err != nil {
		return err
	}
	defer nd.close()
	fi, err := od.Lstat(obase)
	if err != nil {
		return f.fail("link", from, err)
	}
	if err := notRegular("link", from, fi.Mode()); err != nil {
		return err
	}
	return f.fail("link", to, linkAt(od.Root, obase, nd.Root, nbase))
}

// copyChunk is how much one copy_file_range call may move between looks at the context.
const copyChunk = 64 << 20

// Copy implements vfs.Copier: copy_file_range where the kernel can. The copy
// gets the permission bits of the source unless o.Perm says otherwise.
func (f *FS) Copy(ctx context.Context, from, to string, o vfs.CreateOptions) (int64, error) {
	src, fi, err := f.openFile(ctx, "copy", from, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	if o.Perm == 0 {
		o.Perm = fi.Mode().Perm()
	}
	if there, err := f.Stat(ctx, to); err == nil && (o.Upload == vfs.Visible || o.Append || o.Offset > 0) {
		if mine := infoOf(fi); there.Dev == mine.Dev && there.Inode == mine.Inode {
			return 0, fault.New(fault.Invalid, "copy", to, errSelf)
		}
	}
	w, err := f.create(ctx, to, o)
	if err != nil {
		return 0, err
	}
	var total int64
	for {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
		var n int64
		n, err = w.file.ReadFrom(&io.LimitedReader{R: src, N: copyChunk})
		total += n
		if n == 0 || err != nil {
			break
		}
	}
	if err != nil {
		err = f.fail("copy", to, err)
		_ = w.Abort(err)
		return total, err
	}
	return total, w.Commit(ctx)
}
