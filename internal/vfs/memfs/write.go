package memfs

import (
	"context"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// partial is an AtomicResume upload that may be continued.
type partial struct {
	node *node
	busy bool // being written
}

// Create implements vfs.FS with the rules of localfs.
func (f *FS) Create(ctx context.Context, name string, o vfs.CreateOptions) (vfs.Writer, error) {
	if o.Offset < 0 || o.Size < 0 || o.Append && o.Offset > 0 {
		return nil, fault.New(fault.Invalid, "create", name, errNegative)
	}
	if err := check(ctx, "create", name, true); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, _, err := f.parent("create", name); err != nil {
		return nil, err
	}
	w := &writer{fs: f, name: name, o: o}
	if err := w.open(); err != nil {
		return nil, err
	}
	if o.Size > 0 && f.capacity > 0 && o.Size > f.capacity-f.used.Load() {
		w.done.Store(true)
		w.discard(w.made)
		return nil, fault.New(fault.NoSpace, "create", name, errFull)
	}
	return w, nil
}

// writer is an upload.
type writer struct {
	fs      *FS
	name    string
	dir     *node
	base    string
	node    *node
	o       vfs.CreateOptions
	partial *partial
	inPlace bool
	made    bool // in place: the entry is ours
	begin   int64
	gone    bool // withdrawn; under fs.mu

	mu   sync.Mutex
	off  int64
	end  int64
	done atomic.Bool
}

// open finds or makes what the upload writes to. FS.mu is held.
func (w *writer) open() error {
	f := w.fs
	if _, err := f.walk("create", w.name, false); err == nil && w.o.Exclusive {
		return fault.New(fault.Exist, "create", w.name, nil)
	}
	old, dir, base, err := f.resolve("create", w.name, true)
	if err != nil {
		return err
	}
	perm := f.perm(w.o.Perm)
	w.dir, w.base = dir, base
	if old != nil {
		if err := regular("create", w.name, old); err != nil {
			return err
		}
		perm = old.mode.Perm()
		w.base = dir.nameOf(old, path.Base(w.name))
	}
	resume := w.o.Append || w.o.Offset > 0
	if w.o.Upload == vfs.AtomicResume {
		p := f.partials[w.key()]
		switch {
		case p != nil && p.busy:
			return fault.New(fault.Busy, "create", w.name, errBusy)
		case p == nil && resume && old != nil:
			return w.openInPlace(old, perm)
		case p == nil:
			p = &partial{node: f.newNode(perm)}
		}
		w.node, w.partial = p.node, p
		if err := w.seek(); err != nil {
			return err
		}
		p.busy = true
		f.partials[w.key()] = p
		w.node.open()
		return nil
	}
	if resume || w.o.Upload == vfs.Visible {
		return w.openInPlace(old, perm)
	}
	w.node = f.newNode(perm)
	w.node.release() // no name yet: the room comes back if it ends here
	w.node.open()
	dir.pending++
	return nil
}

func (w *writer) key() partialKey { return partialKey{w.dir, w.base, w.o.Owner} }

func (w *writer) openInPlace(old *node, perm fs.FileMode) error {
	if old == nil {
		if w.o.Offset > 0 {
			return fault.New(fault.Range, "create", w.name, errPast)
		}
		old = w.fs.newNode(perm)
		w.dir.add(w.base, old)
		w.made = true
	}
	if old.busy {
		return fault.New(fault.Busy, "create", w.name, errBusy)
	}
	w.node, w.inPlace = old, true
	if err := w.seek(); err != nil {
		return err
	}
	old.busy = true
	old.open()
	return nil
}

// seek goes to where the upload starts.
func (w *writer) seek() error {
	size := w.node.size()
	if w.o.Offset > size {
		return fault.New(fault.Range, "create", w.name, errPast)
	}
	w.begin = w.o.Offset
	if w.o.Append {
		w.begin = size
	}
	w.off = w.begin
	if w.begin == 0 {
		return w.node.truncate(0)
	}
	return nil
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.writeAt(p, w.off)
	w.off += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt; off counts from the start of the file.
func (w *writer) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeAt(p, off)
}

func (w *writer) writeAt(p []byte, off int64) (int, error) {
	if w.done.Load() {
		return 0, fault.New(fault.Unavailable, "write", w.name, os.ErrClosed)
	}
	n, err := w.node.writeAt(p, off)
	w.end = max(w.end, off+int64(n))
	return n, about(err, w.name)
}

// Commit implements vfs.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if !w.done.CompareAndSwap(false, true) {
		return fault.New(fault.Invalid, "commit", w.name, errEnded)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	err := w.publishable(ctx)
	if err == nil && w.o.Offset > 0 {
		err = about(w.node.truncate(max(w.off, w.end)), w.name)
	}
	if err != nil {
		w.discard(false)
		return err
	}
	if w.inPlace {
		w.node.busy = false
		w.node.close()
		return nil
	}
	if w.dir.kids[w.base] != nil {
		f.drop(w.dir, w.base)
	}
	if w.partial != nil {
		delete(f.partials, w.key())
	} else {
		w.dir.pending--
	}
	w.node.data.Lock()
	w.node.data.unlinked = false
	w.node.data.Unlock()
	w.dir.add(w.base, w.node)
	w.node.close()
	return nil
}

func (w *writer) publishable(ctx context.Context) error {
	there := w.dir.kids[w.base]
	switch {
	case ctx.Err() != nil:
		return fault.Wrap("commit", w.name, context.Cause(ctx))
	case w.inPlace && w.node.links == 0, w.dir.gone, w.gone:
		return fault.New(fault.NotExist, "commit", w.name, errGone)
	case w.inPlace || there == nil:
		return nil
	case w.o.Exclusive:
		return fault.New(fault.Exist, "commit", w.name, nil)
	case there.mode.IsDir():
		return fault.New(fault.Exist, "commit", w.name, errIsDir)
	}
	return nil
}

// Abort implements vfs.Writer with the rules of localfs.
func (w *writer) Abort(error) error {
	if !w.done.CompareAndSwap(false, true) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.discard(false)
	return nil
}

// Withdraw implements vfs.Withdrawer.
func (w *writer) Withdraw() bool {
	f := w.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.inPlace || w.gone || w.done.Load() {
		return false
	}
	w.gone = true
	if w.partial == nil {
		w.dir.pending--
		return true
	}
	if f.partials[w.key()] == w.partial {
		delete(f.partials, w.key())
		w.node.release()
	}
	return true
}

// discard ends an upload without success; force overrides Keep.
func (w *writer) discard(force bool) {
	f := w.fs
	switch {
	case w.gone:
	case w.partial != nil:
		w.partial.busy = false
		if w.node.size() == 0 && f.partials[w.key()] == w.partial {
			delete(f.partials, w.key())
			w.node.release()
		}
	case !w.inPlace:
		w.dir.pending--
	default:
		w.node.busy = false
		switch {
		case w.o.Keep && !force:
		case w.begin > 0 || w.o.Append && !w.made:
			_ = w.node.truncate(w.begin)
		case w.dir.kids[w.base] == w.node:
			f.drop(w.dir, w.base)
		}
	}
	w.node.close()
}

// uploads reports whether an unfinished upload is being written into d.
func (f *FS) uploads(d *node) bool {
	if d.pending > 0 {
		return true
	}
	for k, p := range f.partials {
		if k.dir == d && p.busy {
			return true
		}
	}
	return false
}

// nameOf finds the entry of k; several hard links prefer the given name.
func (n *node) nameOf(k *node, like string) string {
	if n.kids[like] == k {
		return like
	}
	for base, c := range n.kids {
		if c == k {
			return base
		}
	}
	return like
}

// relative turns a link's target into the relative form that is stored.
func (n *node) relative(target string) (string, error) {
	dir := n.path()
	if !strings.HasPrefix(target, "/") {
		depth := strings.Count(dir+"/", "/") - 1
		if dir == "/" {
			depth = 0
		}
		for part := range strings.SplitSeq(target, "/") {
			switch part {
			case "", ".":
			case "..":
				if depth--; depth < 0 {
					return "", fault.New(fault.Denied, "", "", errEscapes)
				}
			default:
				depth++
			}
		}
		target = vfs.Join(dir, target)
	}
	target, err := vfs.Clean(target)
	if err != nil {
		return "", err
	}
	up := ""
	for !vfs.Under(dir, target) {
		dir = path.Dir(dir)
		up += "../"
	}
	rest := up + strings.TrimPrefix(strings.TrimPrefix(target, dir), "/")
	if rest == "" {
		return ".", nil
	}
	return strings.TrimSuffix(rest, "/"), nil
}

func (n *node) path() string {
	if n.up == nil {
		return "/"
	}
	for base, k := range n.up.kids {
		if k == n {
			return path.Join(n.up.path(), base)
		}
	}
	return "/"
}
