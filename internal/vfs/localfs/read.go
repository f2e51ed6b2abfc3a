package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Open implements vfs.FS: one open, one fstat and, with an offset, one seek.
func (f *FS) Open(ctx context.Context, name string, offset int64) (vfs.Reader, error) {
	if err := f.enter("open", name); err != nil {
		return nil, err
	}
	defer f.leave()
	if offset < 0 {
		return nil, fault.New(fault.Invalid, "open", name, errNegative)
	}
	h, fi, err := f.openFile(ctx, "open", name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if offset > fi.Size() {
		_ = h.Close()
		return nil, fault.New(fault.Range, "open", name, errPast)
	}
	if offset > 0 {
		if _, err := h.Seek(offset, 0); err != nil {
			_ = h.Close()
			return nil, f.fail("open", name, err)
		}
	}
	return &reader{f, h, name}, nil
}

// openFile opens an existing regular file and looks at what it got, never at the name again.
func (f *FS) openFile(ctx context.Context, op, name string, flag int) (*os.File, fs.FileInfo, error) {
	rel, err := f.lookup(ctx, op, name)
	if err != nil {
		return nil, nil, err
	}
	h, err := f.root.OpenFile(rel, flag|openFlags, 0)
	if err != nil {
		return nil, nil, f.fail(op, name, err)
	}
	fi, err := f.check(op, name, h)
	if err != nil {
		_ = h.Close()
		return nil, nil, err
	}
	return h, fi, nil
}

// check refuses what is not a regular file or lies on another mount.
func (f *FS) check(op, name string, h *os.File) (fs.FileInfo, error) {
	fi, err := h.Stat()
	if err != nil {
		return nil, f.fail(op, name, err)
	}
	if err := notRegular(op, name, fi.Mode()); err != nil {
		return nil, err
	}
	if infoOf(fi).Dev != f.dev && f.foreign(h) {
		return nil, fault.New(fault.Denied, op, name, errForeign)
	}
	return fi, nil
}

// reader is a file being read. It also seeks and reads at offsets.
type reader struct {
	fs   *FS
	file *os.File
	name string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	return n, r.fs.pass("read", r.name, err)
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.file.ReadAt(p, off)
	return n, r.fs.pass("read", r.name, err)
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	n, err := r.file.Seek(offset, whence)
	return n, r.fs.fail("seek", r.name, err)
}

func (r *reader) Close() error     { return r.fs.fail("close", r.name, r.file.Close()) }
func (r *reader) OSFile() *os.File { return r.file }

// OpenFile implements vfs.RandomAccess. It takes no upload lock: SFTP clients
// open one file several times.
func (f *FS) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (vfs.Handle, error) {
	if err := f.enter("open", name); err != nil {
		return nil, err
	}
	defer f.leave()
	const known = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC
	access := flag & (os.O_WRONLY | os.O_RDWR)
	if flag&^known != 0 || access == os.O_WRONLY|os.O_RDWR || access == 0 && flag&os.O_TRUNC != 0 {
		return nil, fault.New(fault.Invalid, "open", name, nil)
	}
	create, excl := flag&os.O_CREATE != 0, flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0
	var h *os.File
	err := fault.New(fault.NotExist, "open", name, nil)
	// Between "it is not there" and "make it" somebody else may be quicker.
	for try := 0; h == nil && try < 4; try++ {
		if !excl {
			var fi fs.FileInfo
			h, fi, err = f.openFile(ctx, "open", name, access)
			if err == nil && access != os.O_RDONLY {
				if err = dropSpecial(h, fi); err != nil {
					_ = h.Close()
					return nil, f.fail("open", name, err)
				}
			}
		}
		if h == nil && create && fault.KindOf(err) == fault.NotExist {
			h, err = f.makeFile(ctx, name, access, perm)
			if !excl && fault.KindOf(err) == fault.Exist {
				err = fault.New(fault.NotExist, "open", name, nil)
				continue
			}
		}
		break
	}
	if err != nil {
		return nil, err
	}
	if flag&os.O_TRUNC != 0 {
		if err := h.Truncate(0); err != nil {
			_ = h.Close()
			return nil, f.fail("open", name, err)
		}
	}
	return &handle{fs: f, file: h, name: name}, nil
}

// makeFile makes a file that must not exist yet.
func (f *FS) makeFile(ctx context.Context, name string, access int, perm fs.FileMode) (*os.File, error) {
	d, base, err := f.newIn(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	defer d.close()
	h, err := f.createIn(d, base, access, f.perm(perm))
	if !errors.Is(err, fs.ErrExist) {
		return h, f.fail("open", name, err)
	}
	if fi, lerr := d.Lstat(base); lerr != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return nil, f.fail("open", name, err)
	}
	return nil, fault.New(fault.Exist, "open", name, errLoop)
}

// perm is what a new file gets.
func (f *FS) perm(perm fs.FileMode) fs.FileMode {
	if perm == 0 {
		perm = 0o666
	}
	return perm.Perm() &^ f.mask
}

// createIn makes a new file with exactly these permission bits.
func (f *FS) createIn(d dir, base string, access int, perm fs.FileMode) (*os.File, error) {
	h, err := d.OpenFile(base, access|os.O_CREATE|os.O_EXCL|openFlags, perm)
	if err != nil {
		return nil, err
	}
	fi, err := h.Stat()
	if err == nil && fi.Mode().Perm() != perm {
		err = h.Chmod(perm) // the umask of the process took more than ours
	}
	if err != nil {
		_ = h.Close()
		_ = d.Remove(base)
		return nil, err
	}
	return h, nil
}

// handle is a random-access file.
type handle struct {
	fs   *FS
	file *os.File
	name string
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.file.ReadAt(p, off)
	return n, h.fs.pass("read", h.name, err)
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.file.WriteAt(p, off)
	return n, h.fs.fail("write", h.name, err)
}

func (h *handle) Stat() (vfs.Info, error) {
	fi, err := h.file.Stat()
	if err != nil {
		return vfs.Info{}, h.fs.fail("stat", h.name, err)
	}
	i := infoOf(fi)
	_, i.Name = vfs.Split(h.name)
	return i, nil
}

func (h *handle) Truncate(size int64) error {
	return h.fs.fail("truncate", h.name, h.file.Truncate(size))
}
func (h *handle) Sync() error      { return h.fs.fail("sync", h.name, datasync(h.file)) }
func (h *handle) Close() error     { return h.fs.fail("close", h.name, h.file.Close()) }
func (h *handle) OSFile() *os.File { return h.file }
