package memfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// file finds an existing regular file.
func (f *FS) file(op, name string) (*node, error) {
	n, err := f.walk(op, name, true)
	if err != nil {
		return nil, err
	}
	return n, regular(op, name, n)
}

func regular(op, name string, n *node) error {
	switch {
	case n.mode.IsRegular():
		return nil
	case n.mode.IsDir():
		return fault.New(fault.WrongType, op, name, errIsDir)
	}
	return fault.New(fault.Denied, op, name, errLoop)
}

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name string, offset int64) (vfs.Reader, error) {
	if offset < 0 {
		return nil, fault.New(fault.Invalid, "open", name, errNegative)
	}
	if err := check(ctx, "open", name, false); err != nil {
		return nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.file("open", name)
	if err != nil {
		return nil, err
	}
	if offset > n.size() {
		return nil, fault.New(fault.Range, "open", name, errPast)
	}
	n.open()
	return &reader{node: n, name: name, off: offset}, nil
}

// reader is a file being read. It also seeks and reads at offsets.
type reader struct {
	node   *node
	name   string
	off    int64
	closed atomic.Bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if r.closed.Load() {
		return 0, fault.New(fault.Unavailable, "read", r.name, os.ErrClosed)
	}
	if off < 0 {
		return 0, fault.New(fault.Invalid, "read", r.name, errNegative)
	}
	return r.node.readAt(p, off)
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.node.size()
	}
	if offset < 0 {
		return 0, fault.New(fault.Invalid, "seek", r.name, errNegative)
	}
	r.off = offset
	return offset, nil
}

func (r *reader) Close() error {
	if !r.closed.CompareAndSwap(false, true) {
		return fault.New(fault.Unavailable, "close", r.name, os.ErrClosed)
	}
	r.node.close()
	return nil
}

// OpenFile implements vfs.RandomAccess.
func (f *FS) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (vfs.Handle, error) {
	const known = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC
	access := flag & (os.O_WRONLY | os.O_RDWR)
	if flag&^known != 0 || access == os.O_WRONLY|os.O_RDWR || access == 0 && flag&os.O_TRUNC != 0 {
		return nil, fault.New(fault.Invalid, "open", name, nil)
	}
	if err := check(ctx, "open", name, false); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	excl := flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL
	n, err := f.file("open", name)
	switch {
	case err == nil && excl:
		return nil, fault.New(fault.Exist, "open", name, nil)
	case fault.KindOf(err) == fault.NotExist && flag&os.O_CREATE != 0:
		if err := check(ctx, "open", name, true); err != nil {
			return nil, err
		}
		d, base, perr := f.parent("open", name)
		if perr != nil {
			return nil, perr
		}
		if d.kids[base] != nil { // a link that leads nowhere
			if excl {
				return nil, fault.New(fault.Exist, "open", name, nil)
			}
			return nil, err
		}
		n = f.newNode(f.perm(perm))
		d.add(base, n)
	case err != nil:
		if _, lerr := f.walk("open", name, false); excl && lerr == nil {
			return nil, fault.New(fault.Exist, "open", name, nil)
		}
		return nil, err
	}
	if flag&os.O_TRUNC != 0 {
		if err := n.truncate(0); err != nil {
			return nil, err
		}
	}
	n.open()
	return &handle{reader: reader{node: n, name: name}, access: access}, nil
}

func (f *FS) perm(perm fs.FileMode) fs.FileMode {
	if perm == 0 {
		perm = 0o666
	}
	return perm.Perm() &^ f.mask
}

type handle struct {
	reader
	access int
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if h.access == os.O_WRONLY {
		return 0, fault.New(fault.Denied, "read", h.name, errAccess)
	}
	return h.reader.ReadAt(p, off)
}

func (h *handle) writable(op string) error {
	switch {
	case h.closed.Load():
		return fault.New(fault.Unavailable, op, h.name, os.ErrClosed)
	case h.access == os.O_RDONLY:
		return fault.New(fault.Denied, op, h.name, errAccess)
	}
	return nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.writable("write"); err != nil {
		return 0, err
	}
	n, err := h.node.writeAt(p, off)
	return n, about(err, h.name)
}

func (h *handle) Truncate(size int64) error {
	if err := h.writable("truncate"); err != nil {
		return err
	}
	return about(h.node.truncate(size), h.name)
}

func (h *handle) Stat() (vfs.Info, error) {
	f := h.node.fs
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, base := vfs.Split(h.name)
	return h.node.info(base), nil
}

func (h *handle) Sync() error { return nil }

// about names the file in an error from its content.
func about(err error, name string) error {
	var fe *fault.Error
	if errors.As(err, &fe) {
		fe.Path = name
	}
	return err
}

// SetAttr implements vfs.AttrSetter. Access times are not kept.
func (f *FS) SetAttr(ctx context.Context, name string, a vfs.Attr) error {
	if err := check(ctx, "setattr", name, false); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.walk("setattr", name, true)
	if err != nil {
		return err
	}
	if a.Size != nil {
		if err := regular("setattr", name, n); err != nil {
			return err
		}
		if err := n.truncate(*a.Size); err != nil {
			return about(err, name)
		}
	}
	if a.Mode != nil {
		n.mode = n.mode.Type() | a.Mode.Perm()
	}
	if a.ModTime != nil {
		n.setTime(*a.ModTime)
	}
	return nil
}

// Symlink implements vfs.Linker; see localfs for what targets mean.
func (f *FS) Symlink(ctx context.Context, target, name string) error {
	if err := check(ctx, "symlink", name, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("symlink", name)
	if err != nil {
		return err
	}
	if target == "" {
		return fault.New(fault.Invalid, "symlink", name, nil)
	}
	if target, err = d.relative(target); err != nil {
		return fault.New(fault.KindOf(err), "symlink", name, errors.Unwrap(err))
	}
	if d.kids[base] != nil {
		return fault.New(fault.Exist, "symlink", name, nil)
	}
	n := f.newNode(fs.ModeSymlink | 0o777)
	n.target = target
	d.add(base, n)
	return nil
}

// Readlink implements vfs.Linker.
func (f *FS) Readlink(ctx context.Context, name string) (string, error) {
	if err := check(ctx, "readlink", name, false); err != nil {
		return "", err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.mode&fs.ModeSymlink == 0 {
		return "", fault.New(fault.Invalid, "readlink", name, errNoLink)
	}
	return n.target, nil
}

// Link implements vfs.HardLinker, for regular files only.
func (f *FS) Link(ctx context.Context, from, to string) error {
	if err := errors.Join(check(ctx, "link", from, false), check(ctx, "link", to, true)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.walk("link", from, false)
	if err != nil {
		return err
	}
	if err := regular("link", from, n); err != nil {
		return err
	}
	d, base, err := f.parent("link", to)
	if err != nil {
		return err
	}
	if d.kids[base] != nil {
		return fault.New(fault.Exist, "link", to, nil)
	}
	n.links++
	d.add(base, n)
	return nil
}

// Copy implements vfs.Copier.
func (f *FS) Copy(ctx context.Context, from, to string, o vfs.CreateOptions) (int64, error) {
	r, err := f.Open(ctx, from, 0)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	src := r.(*reader).node
	if o.Perm == 0 {
		f.mu.RLock()
		o.Perm = src.mode.Perm()
		f.mu.RUnlock()
	}
	if there, err := f.Stat(ctx, to); err == nil && there.Inode == src.inode && (o.Upload == vfs.Visible || o.Append || o.Offset > 0) {
		return 0, fault.New(fault.Invalid, "copy", to, errSelf)
	}
	w, err := f.Create(ctx, to, o)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, pageSize)
	var total int64
	for {
		if ctx.Err() != nil {
			err = fault.Wrap("copy", to, context.Cause(ctx))
			_ = w.Abort(err)
			return total, err
		}
		n, rerr := r.Read(buf)
		if n > 0 {
			m, err := w.Write(buf[:n])
			total += int64(m)
			if err != nil {
				_ = w.Abort(err)
				return total, err
			}
		}
		if rerr == io.EOF {
			return total, w.Commit(ctx)
		}
		if rerr != nil {
			_ = w.Abort(rerr)
			return total, rerr
		}
	}
}

// Partial implements vfs.Partials.
func (f *FS) Partial(ctx context.Context, name, owner string) (int64, error) {
	if err := check(ctx, "partial", name, false); err != nil {
		return 0, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	d, base, err := f.parent("partial", name)
	if err != nil {
		return 0, err
	}
	p := f.partials[partialKey{d, base, owner}]
	if p == nil {
		return 0, fault.New(fault.NotExist, "partial", name, nil)
	}
	return p.node.size(), nil
}

// Sweep implements vfs.Sweeper.
func (f *FS) Sweep(ctx context.Context, age time.Duration) (int, error) {
	if ctx.Err() != nil {
		return 0, fault.Wrap("sweep", "", context.Cause(ctx))
	}
	before, removed := time.Now().Add(-age), 0
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, p := range f.partials {
		if p.busy || !p.node.info("").ModTime.Before(before) {
			continue
		}
		delete(f.partials, k)
		p.node.release()
		removed++
	}
	return removed, nil
}
