package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Create implements vfs.FS.
//
// Uploads in place (Visible, Append, Offset > 0) and continued ones take the
// file's upload lock; a second one gets fault.Busy. Atomic uploads to one name
// may run side by side: the last Commit wins. A final link that stays inside is
// followed, one that leaves is fault.Denied. An overwritten file keeps its
// permission bits.
//
// With AtomicResume, Append and Offset continue the hidden partial of the same
// owner where there is one, and the visible file otherwise.
func (f *FS) Create(ctx context.Context, name string, o vfs.CreateOptions) (vfs.Writer, error) {
	w, err := f.create(ctx, name, o)
	if err != nil {
		return nil, err // not w: a nil *writer in the interface is not nil
	}
	return w, nil
}

func (f *FS) create(ctx context.Context, name string, o vfs.CreateOptions) (*writer, error) {
	if err := f.enter("create", name); err != nil {
		return nil, err
	}
	defer f.leave()
	if o.Offset < 0 || o.Size < 0 || o.Append && o.Offset > 0 {
		return nil, fault.New(fault.Invalid, "create", name, errNegative)
	}
	d, base, err := f.newIn(ctx, "create", name)
	if err != nil {
		return nil, err
	}
	w := &writer{fs: f, dir: d, name: name, base: base, o: o}
	err = w.target(ctx)
	if err == nil {
		switch inPlace := o.Append || o.Offset > 0; {
		case o.Upload == vfs.AtomicResume:
			err = w.openPartial(inPlace)
		case inPlace || o.Upload == vfs.Visible:
			err = w.openInPlace()
		default:
			err = w.openTemp()
		}
	}
	if err == nil {
		err = w.start()
	}
	if err != nil {
		w.undo()
		return nil, f.fail("create", name, err)
	}
	return w, nil
}

// writer is an upload.
type writer struct {
	fs     *FS
	dir    dir // of the file; moves along when the directory is renamed
	file   *os.File
	name   string // as the client knows it, for messages
	base   string
	temp   string // hidden name, "" when written in place
	o      vfs.CreateOptions
	perm   fs.FileMode // of the file to be made or replaced
	exists bool        // the target was there
	made   bool        // we made what we write to
	keep   bool        // temp may be continued later
	begin  int64       // where this upload starts
	beyond bool        // blocks may be reserved past the end
	end    atomic.Int64
	done   atomic.Bool
	gone   atomic.Bool // withdrawn
}

// target looks at what is there. The answer only chooses the way; whatever is
// opened afterwards is checked by its descriptor.
func (w *writer) target(ctx context.Context) error {
	for range maxLinks {
		fi, err := w.dir.Lstat(w.base)
		if errors.Is(err, fs.ErrNotExist) {
			w.perm = w.fs.perm(w.o.Perm)
			return nil
		}
		if err != nil {
			return err
		}
		if w.o.Exclusive {
			return fault.New(fault.Exist, "create", w.name, nil)
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			w.exists, w.perm = true, fi.Mode().Perm()
			return notRegular("create", w.name, fi.Mode())
		}
		real, err := w.fs.real("create", w.name)
		if err != nil {
			return err
		}
		d, base, err := w.fs.newIn(ctx, "create", real)
		if err != nil {
			return about(err, w.name)
		}
		w.dir.close()
		w.dir, w.base = d, base
	}
	return fault.New(fault.Denied, "create", w.name, errLoop)
}

func (w *writer) openTemp() error {
	for range 4 {
		temp := randomTemp()
		h, err := w.fs.createIn(w.dir, temp, os.O_WRONLY, w.perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !tryLock(h) { // a sweep was quicker; it removes the file
			_ = h.Close()
			continue
		}
		w.file, w.temp, w.made = h, temp, true
		return nil
	}
	return fault.New(fault.Busy, "create", w.name, errBusy)
}

// openPartial opens the hidden file that outlives a failure.
func (w *writer) openPartial(resume bool) error {
	temp := stableTemp(w.o.Owner, w.base)
	for range 4 {
		h, err := w.dir.OpenFile(temp, os.O_WRONLY|openFlags, 0)
		made := false
		if errors.Is(err, fs.ErrNotExist) {
			if resume && w.exists {
				return w.openInPlace()
			}
			if h, err = w.fs.createIn(w.dir, temp, os.O_WRONLY, w.perm); errors.Is(err, fs.ErrExist) {
				continue
			}
			made = true
		}
		if err != nil {
			return err
		}
		if !tryLock(h) {
			_ = h.Close()
			return fault.New(fault.Busy, "create", w.name, errBusy)
		}
		fi, err := w.fs.check("create", w.name, h)
		if err == nil && infoOf(fi).Links == 0 {
			_ = h.Close() // published or swept between open and lock
			continue
		}
		w.file, w.temp, w.made, w.keep = h, temp, made, true
		if err != nil {
			return err
		}
		if w.o.Append {
			w.begin = fi.Size()
		}
		return w.seek(fi.Size())
	}
	return fault.New(fault.Busy, "create", w.name, errBusy)
}

func (w *writer) openInPlace() error {
	if !w.exists && w.o.Offset > 0 {
		return fault.New(fault.Range, "create", w.name, errPast)
	}
	var h *os.File
	var err error
	for try := 0; ; try++ {
		if !w.exists {
			h, err = w.fs.createIn(w.dir, w.base, os.O_WRONLY, w.perm)
			if err == nil {
				w.made = true
				break
			}
			if w.o.Exclusive || !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		h, err = w.dir.OpenFile(w.base, os.O_WRONLY|openFlags, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || try > 3 {
			return err
		}
		w.exists = false
	}
	w.file = h
	if !tryLock(h) {
		return fault.New(fault.Busy, "create", w.name, errBusy)
	}
	fi, err := w.fs.check("create", w.name, h)
	if err == nil {
		err = dropSpecial(h, fi)
	}
	if err != nil {
		return err
	}
	if w.o.Append {
		w.begin = fi.Size()
	}
	return w.seek(fi.Size())
}

// dropSpecial takes setuid and setgid from a file that is about to be written.
// The kernel does so, too, but not for root.
func dropSpecial(h *os.File, fi fs.FileInfo) error {
	if fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
		return nil
	}
	return h.Chmod(fi.Mode().Perm())
}

// seek goes to where the upload starts; never with O_APPEND, which would keep
// the kernel from splicing.
func (w *writer) seek(size int64) error {
	if w.o.Offset > size {
		return fault.New(fault.Range, "create", w.name, errPast)
	}
	if w.o.Offset > 0 {
		w.begin = w.o.Offset
	}
	if w.begin == 0 && size > 0 {
		return w.file.Truncate(0)
	}
	if w.begin > 0 {
		_, err := w.file.Seek(w.begin, io.SeekStart)
		return err
	}
	return nil
}

// minReserve is the size hint from which reserving room is worth a call.
const minReserve = 1 << 20

func (w *writer) start() error {
	if w.o.Size <= minReserve {
		return nil
	}
	var err error
	w.beyond, err = reserve(w.file, w.begin, w.o.Size)
	return err
}

// undo takes back a Create that failed.
func (w *writer) undo() {
	w.done.Store(true)
	if w.file != nil {
		if w.made {
			name := w.temp
			if name == "" {
				name = w.base
			}
			_ = w.dir.Remove(name)
		}
		_ = w.file.Close()
	}
	w.dir.close()
}

func (w *writer) OSFile() *os.File { return w.file }

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	return n, w.fs.fail("write", w.name, err)
}

// WriteAt implements io.WriterAt; off counts from the start of the file.
func (w *writer) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.file.WriteAt(p, off)
	for end := off + int64(n); ; {
		old := w.end.Load()
		if end <= old || w.end.CompareAndSwap(old, end) {
			break
		}
	}
	return n, w.fs.fail("write", w.name, err)
}

// Commit implements vfs.Writer. On failure an Atomic upload leaves nothing
// behind, an AtomicResume one its partial, and one in place what Abort leaves.
func (w *writer) Commit(ctx context.Context) error {
	if !w.done.CompareAndSwap(false, true) {
		return fault.New(fault.Invalid, "commit", w.name, errEnded)
	}
	if ctx.Err() != nil {
		w.discard()
		return fault.Wrap("commit", w.name, context.Cause(ctx))
	}
	err := w.settle()
	if err != nil {
		w.discard()
		return w.fs.fail("commit", w.name, err)
	}
	if w.temp == "" {
		err = w.file.Close()
	} else {
		err = w.publish()
	}
	if err == nil && w.o.Sync {
		err = syncDir(w.dir.Root)
	}
	w.dir.close()
	return w.fs.fail("commit", w.name, err)
}

// Withdraw implements vfs.Withdrawer.
func (w *writer) Withdraw() bool {
	if w.temp == "" || w.done.Load() || !w.gone.CompareAndSwap(false, true) {
		return false
	}
	return w.dir.Remove(w.temp) == nil
}

// settle gives the file its final size and puts it on the disk.
func (w *writer) settle() error {
	if w.gone.Load() {
		return fault.New(fault.NotExist, "commit", w.name, errGone)
	}
	if w.temp == "" {
		fi, err := w.file.Stat()
		if err != nil {
			return err
		}
		if infoOf(fi).Links == 0 {
			return fault.New(fault.NotExist, "commit", w.name, errGone)
		}
	}
	if err := w.trim(); err != nil {
		return err
	}
	if !w.o.Sync {
		return nil
	}
	// A failed sync must not be tried again: the kernel may have dropped the
	// pages and would report success. The upload fails instead.
	return datasync(w.file)
}

// trim cuts what lies past the end of an upload that started inside a file, and
// frees what a size hint reserved.
func (w *writer) trim() error {
	if w.o.Offset == 0 && !w.beyond {
		return nil
	}
	pos, err := w.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	return w.file.Truncate(max(pos, w.end.Load()))
}

// publish gives the hidden file its name.
func (w *writer) publish() error {
	var err error
	if !w.keep {
		// Network file systems report a full disk here, before anybody sees the file.
		err = w.file.Close()
	}
	if err == nil {
		t := dir{Root: w.dir.Root}
		if w.o.Exclusive {
			err = w.fs.renameNew(t, w.temp, t, w.base)
		} else {
			err = w.dir.Rename(w.temp, w.base)
		}
	}
	if err != nil {
		if !w.keep {
			_ = w.dir.Remove(w.temp)
		}
		_ = w.file.Close()
		return err
	}
	if w.keep {
		// Still locked until here, so that nobody can continue a published file.
		return w.file.Close()
	}
	return nil
}

// Abort implements vfs.Writer. Without Keep an upload in place takes back what
// it wrote: a continued file is cut to where the upload started, any other is
// removed, since what it held before is gone. A hidden file is removed, with
// AtomicResume it stays unless it is empty.
func (w *writer) Abort(error) error {
	if !w.done.CompareAndSwap(false, true) {
		return nil
	}
	return w.fs.fail("abort", w.name, w.discard())
}

func (w *writer) discard() error {
	defer w.dir.close()
	var err error
	switch {
	case w.temp != "" && w.keep:
		err = w.trimTail()
		if fi, serr := w.file.Stat(); serr == nil && fi.Size() == 0 {
			err = w.dir.Remove(w.temp)
		}
	case w.temp != "":
		err = w.dir.Remove(w.temp)
	case w.o.Keep:
		err = w.trimTail()
	case w.begin > 0 || w.o.Append && !w.made:
		err = w.file.Truncate(w.begin)
	default:
		err = w.removeOwn()
	}
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody removed it before us
	}
	return err
}

// trimTail frees reserved blocks of a partial without changing its size.
func (w *writer) trimTail() error {
	if !w.beyond {
		return nil
	}
	fi, err := w.file.Stat()
	if err != nil {
		return err
	}
	return w.file.Truncate(fi.Size())
}

// removeOwn removes the file in place if the name still stands for it.
func (w *writer) removeOwn() error {
	mine, err := w.file.Stat()
	if err != nil {
		return err
	}
	there, err := w.dir.Lstat(w.base)
	if err != nil || !os.SameFile(mine, there) {
		return err
	}
	return w.dir.Remove(w.base)
}
