// Package memfs owns storage in memory, for tests, demos and "mem:" mounts. It
// behaves as localfs does, without files of the operating system. Nothing
// survives the process.
package memfs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Options tune a storage. The zero value has no limit.
type Options struct {
	// Capacity is the sum of all file sizes in bytes that fits; 0 is no limit.
	// What does not fit is fault.NoSpace.
	Capacity int64
	// Umask is taken from the permission bits of new files and directories; 0 means 0o022.
	Umask fs.FileMode
}

// FS is a tree in memory. It implements vfs.FS and every ability vfs names.
type FS struct {
	mask     fs.FileMode
	capacity int64
	used     atomic.Int64
	inodes   atomic.Uint64

	mu       sync.RWMutex // the tree: children, links, modes, times
	root     *node
	partials map[partialKey]*partial
}

type partialKey struct {
	dir         *node
	base, owner string
}

var (
	_ vfs.FS           = (*FS)(nil)
	_ vfs.Linker       = (*FS)(nil)
	_ vfs.AttrSetter   = (*FS)(nil)
	_ vfs.RandomAccess = (*FS)(nil)
	_ vfs.Copier       = (*FS)(nil)
	_ vfs.Spacer       = (*FS)(nil)
	_ vfs.Lstater      = (*FS)(nil)
	_ vfs.HardLinker   = (*FS)(nil)
	_ vfs.Partials     = (*FS)(nil)
	_ vfs.Sweeper      = (*FS)(nil)
)

// New returns an empty tree. At most one Options is looked at.
func New(options ...Options) *FS {
	var opts Options
	if len(options) > 0 {
		opts = options[0]
	}
	f := &FS{mask: opts.Umask.Perm(), capacity: opts.Capacity, partials: map[partialKey]*partial{}}
	if opts.Umask == 0 {
		f.mask = 0o022
	}
	f.root = f.newNode(fs.ModeDir | 0o755)
	return f
}

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, name, true)
}

// Lstat implements vfs.Lstater.
func (f *FS) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	return f.stat(ctx, name, false)
}

func (f *FS) stat(ctx context.Context, name string, follow bool) (vfs.Info, error) {
	if err := check(ctx, "stat", name, false); err != nil {
		return vfs.Info{}, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.walk("stat", name, follow)
	if err != nil && follow {
		// A link that leaves or dangles is shown as itself; so is a link loop.
		if l, lerr := f.walk("stat", name, false); lerr == nil && l.mode&fs.ModeSymlink != 0 {
			n, err = l, nil
		}
	}
	if err != nil {
		return vfs.Info{}, err
	}
	return n.info(path.Base(name)), nil
}

// List implements vfs.FS. It lists what was there when it began, sorted.
func (f *FS) List(ctx context.Context, name string) iter.Seq2[vfs.Info, error] {
	return func(yield func(vfs.Info, error) bool) {
		if err := check(ctx, "list", name, false); err != nil {
			yield(vfs.Info{}, err)
			return
		}
		f.mu.RLock()
		d, err := f.walk("list", name, true)
		if err == nil && !d.mode.IsDir() {
			err = fault.New(fault.WrongType, "list", name, errNoDir)
		}
		if err != nil {
			f.mu.RUnlock()
			yield(vfs.Info{}, err)
			return
		}
		names := slices.Sorted(maps.Keys(d.kids))
		f.mu.RUnlock()
		for _, base := range names {
			if ctx.Err() != nil {
				yield(vfs.Info{}, fault.Wrap("list", name, context.Cause(ctx)))
				return
			}
			f.mu.RLock()
			n := d.kids[base]
			var i vfs.Info
			if n != nil {
				i = n.info(base)
			}
			f.mu.RUnlock()
			if n != nil && !yield(i, nil) {
				return
			}
		}
	}
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	if err := check(ctx, "mkdir", name, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("mkdir", name)
	if err != nil {
		return err
	}
	if d.kids[base] != nil {
		return fault.New(fault.Exist, "mkdir", name, nil)
	}
	if perm == 0 {
		perm = 0o777
	}
	d.add(base, f.newNode(fs.ModeDir|perm.Perm()&^f.mask))
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name string) error {
	if err := check(ctx, "remove", name, false); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent("remove", name)
	if err != nil {
		return err
	}
	n := d.kids[base]
	switch {
	case n == nil:
		return fault.New(fault.NotExist, "remove", name, nil)
	case len(n.kids) > 0:
		return fault.New(fault.WrongType, "remove", name, errNotEmpty)
	case n.mode.IsDir():
		if f.uploads(n) {
			return fault.New(fault.Busy, "remove", name, errBusyDir)
		}
	}
	f.drop(d, base)
	return nil
}

// Rename implements vfs.FS. A directory that exists never gives way (fault.Exist).
func (f *FS) Rename(ctx context.Context, from, to string, replace bool) error {
	if err := errors.Join(check(ctx, "rename", from, false), check(ctx, "rename", to, true)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	od, obase, err := f.parent("rename", from)
	if err != nil {
		return err
	}
	nd, nbase, err := f.parent("rename", to)
	if err != nil {
		return err
	}
	n := od.kids[obase]
	if n == nil {
		return fault.New(fault.NotExist, "rename", from, nil)
	}
	if od == nd && obase == nbase {
		return nil
	}
	for d := nd; d != nil; d = d.up {
		if d == n {
			return fault.New(fault.Invalid, "rename", to, errInto)
		}
	}
	if old := nd.kids[nbase]; old != nil {
		switch {
		case !replace || old.mode.IsDir():
			return fault.New(fault.Exist, "rename", to, nil)
		case n.mode.IsDir():
			return fault.New(fault.WrongType, "rename", to, errNoDir)
		case old == n:
			return nil // two hard links: POSIX leaves both
		}
		f.drop(nd, nbase)
	}
	delete(od.kids, obase)
	od.touch()
	nd.add(nbase, n)
	return nil
}

// Space implements vfs.Spacer. Without a capacity Total and Free are a notional tebibyte.
func (f *FS) Space(ctx context.Context, name string) (vfs.Space, error) {
	if _, err := f.Lstat(ctx, name); err != nil {
		return vfs.Space{}, err
	}
	total := f.capacity
	if total == 0 {
		total = 1 << 40
	}
	return vfs.Space{Free: max(0, total-f.used.Load()), Total: total}, nil
}

// check looks at a name before any lock is taken.
func check(ctx context.Context, op, name string, create bool) error {
	if ctx.Err() != nil {
		return fault.Wrap(op, name, context.Cause(ctx))
	}
	clean := vfs.CleanExisting
	if create {
		clean = vfs.Clean
	}
	c, err := clean(name)
	if err == nil && c != name {
		err = fault.New(fault.Invalid, op, name, errUnclean)
	}
	return err
}

// parent finds the directory of an entry, which need not exist.
func (f *FS) parent(op, name string) (*node, string, error) {
	if name == "/" {
		return nil, "", fault.New(fault.Denied, op, name, errRoot)
	}
	dir, base := vfs.Split(name)
	d, err := f.walk(op, dir, true)
	if err == nil && !d.mode.IsDir() {
		err = fault.New(fault.WrongType, op, name, errNoDir)
	}
	if err != nil {
		return nil, "", fault.New(fault.KindOf(err), op, name, errors.Unwrap(err))
	}
	return d, base, nil
}

// walk finds a node; links on the way are followed, the last one on demand.
func (f *FS) walk(op, name string, follow bool) (*node, error) {
	n, _, rest, err := f.resolve(op, name, follow)
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, fault.New(fault.NotExist, op, name, nil)
	}
	return n, nil
}

const maxLinks = 8 // as os.Root

// Resolve implements vfs.Resolver.
func (f *FS) Resolve(ctx context.Context, name string, last bool) (string, error) {
	if err := check(ctx, "resolve", name, false); err != nil {
		return "", err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	todo, tail := strings.Split(strings.TrimPrefix(name, "/"), "/"), ""
	if !last {
		tail = todo[len(todo)-1]
		todo = todo[:len(todo)-1]
	}
	n, done := f.root, "/" // n is nil where nothing is any more
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if done == "/" {
				return "", fault.New(fault.Denied, "resolve", name, errEscapes)
			}
			done, _ = vfs.Split(done)
			if n != nil {
				n = n.up
			}
			continue
		}
		var k *node
		if n != nil {
			k = n.kids[part]
		}
		if k == nil || k.mode&fs.ModeSymlink == 0 {
			n, done = k, path.Join(done, part)
			continue
		}
		if links++; links > maxLinks {
			return "", fault.New(fault.Denied, "resolve", name, errLoop)
		}
		todo = append(strings.Split(k.target, "/"), todo...)
	}
	return path.Join(done, tail), nil
}

// resolve walks name. Where only the last component is missing it returns its
// directory and its name as rest; a link may have led elsewhere.
func (f *FS) resolve(op, name string, follow bool) (n, dir *node, rest string, err error) {
	todo := strings.Split(strings.TrimPrefix(name, "/"), "/")
	n, dir = f.root, f.root
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if !n.mode.IsDir() {
			return nil, nil, "", fault.New(fault.WrongType, op, name, errNoDir)
		}
		if part == ".." {
			if n = n.up; n == nil {
				return nil, nil, "", fault.New(fault.Denied, op, name, errEscapes)
			}
			continue
		}
		k := n.kids[part]
		if k == nil {
			if strings.Trim(strings.Join(todo, ""), "/.") != "" {
				return nil, nil, "", fault.New(fault.NotExist, op, name, nil)
			}
			return nil, n, part, nil
		}
		if k.mode&fs.ModeSymlink == 0 || len(todo) == 0 && !follow {
			dir, n = n, k
			continue
		}
		if links++; links > maxLinks {
			return nil, nil, "", fault.New(fault.Denied, op, name, errLoop)
		}
		todo = append(strings.Split(k.target, "/"), todo...)
	}
	return n, dir, "", nil
}

// drop takes an entry out of its directory.
func (f *FS) drop(d *node, base string) {
	n := d.kids[base]
	delete(d.kids, base)
	d.touch()
	n.links--
	if n.mode.IsDir() {
		n.gone = true
		n.up = nil
		for k, p := range f.partials {
			if k.dir == n {
				delete(f.partials, k)
				p.node.release()
			}
		}
	}
	if n.links == 0 {
		n.release()
	}
}

func (f *FS) newNode(mode fs.FileMode) *node {
	n := &node{fs: f, inode: f.inodes.Add(1), mode: mode, links: 1}
	n.mtime = time.Now()
	if mode.IsDir() {
		n.kids = map[string]*node{}
	}
	return n
}

type text string

func (t text) Error() string { return string(t) }

const (
	errUnclean  text = "the path is not clean"
	errEscapes  text = "the link leaves the storage"
	errIsDir    text = "it is a directory"
	errNoDir    text = "it is not a directory"
	errNotEmpty text = "the directory is not empty"
	errInto     text = "a directory cannot be moved into itself"
	errRoot     text = "this cannot be done to the top directory"
	errBusy     text = "another upload to this file is under way"
	errBusyDir  text = "an upload into this directory is under way"
	errPast     text = "the offset lies past the end of the file"
	errNegative text = "the offset is negative"
	errGone     text = "the file was removed or replaced while it was written"
	errEnded    text = "the upload has ended already"
	errSelf     text = "source and target are the same file"
	errLoop     text = "the link leads nowhere or round in circles"
	errNoLink   text = "it is not a symbolic link"
	errFull     text = "the storage is full"
	errAccess   text = "the file is not open for this"
)
