package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// Mount shows a storage at a path of the tree.
type Mount struct {
	Path string // clean absolute path
	FS   FS     // the storage itself; abilities are found on it by type assertion
	Data any    // the owner's note, for example the account's mount; not looked at here
}

// Mounts is the table of mounts of one tree. It does not change after
// NewMounts, so it may be used concurrently. A root mount is usual but not
// needed: directories above a mount exist by themselves.
type Mounts struct {
	list    []Mount             // longest path first
	kids    map[string][]string // directory -> names below it that lead to a mount, sorted
	created time.Time
}

// NewMounts checks and orders the mounts. A path that is not clean or appears
// twice, or a nil FS, is fault.Invalid.
func NewMounts(mounts ...Mount) (*Mounts, error) {
	m := &Mounts{list: slices.Clone(mounts), kids: map[string][]string{}, created: time.Now()}
	seen := map[string]bool{}
	for _, mt := range m.list {
		c, err := Clean(mt.Path)
		if err != nil {
			return nil, err
		}
		switch {
		case c != mt.Path:
			return nil, fault.New(fault.Invalid, "mount", mt.Path, text("write it as "+c))
		case seen[c]:
			return nil, fault.New(fault.Invalid, "mount", mt.Path, text("two storages are mounted here"))
		case mt.FS == nil:
			return nil, fault.New(fault.Invalid, "mount", mt.Path, text("no storage"))
		}
		seen[c] = true
		for name := c; name != "/"; {
			dir, base := Split(name)
			if !slices.Contains(m.kids[dir], base) {
				m.kids[dir] = append(m.kids[dir], base)
			}
			name = dir
		}
	}
	for _, k := range m.kids {
		slices.Sort(k)
	}
	slices.SortStableFunc(m.list, func(a, b Mount) int { return len(b.Path) - len(a.Path) })
	return m, nil
}

// All returns the mounts, longest path first. The caller must not change them.
func (m *Mounts) All() []Mount { return m.list }

// Resolve finds the mount with the longest path that covers the clean name. It
// returns the storage itself (never a wrapper), the name inside it and the
// index of the mount in All. Where no mount covers the name (there is no root
// mount) the storage is nil and the index -1; such a name may still be a
// directory on the way to a mount: see Virtual.
func (m *Mounts) Resolve(name string) (FS, string, int) {
	for i := range m.list {
		p := m.list[i].Path
		if !Under(p, name) {
			continue
		}
		rel := name
		if p != "/" {
			rel = name[len(p):]
		}
		if rel == "" {
			rel = "/"
		}
		return m.list[i].FS, rel, i
	}
	return nil, "", -1
}

// Children returns the names directly below the clean dir that are mounts or
// lead to one, sorted. They are directories whatever the storage says.
func (m *Mounts) Children(dir string) []string { return m.kids[dir] }

// Virtual reports whether the clean name is a mount or a directory on the way
// to one. Such a directory exists even if no storage holds it.
func (m *Mounts) Virtual(name string) bool {
	if name == "/" || len(m.kids[name]) > 0 {
		return true
	}
	dir, base := Split(name)
	return slices.Contains(m.kids[dir], base)
}

// Protect returns fault.Denied when the clean name is the root, a mount or a
// directory on the way to one: these cannot be removed, renamed or replaced.
func (m *Mounts) Protect(op, name string) error {
	if m.Virtual(name) {
		return fault.New(fault.Denied, op, name, text("a mount point cannot be removed, renamed or replaced"))
	}
	return nil
}

// Stat describes the clean name as FS.Stat does, with the directories on the
// way to a mount included. A mount appears under its own last name.
func (m *Mounts) Stat(ctx context.Context, name string) (Info, error) {
	f, rel, _ := m.Resolve(name)
	if f != nil {
		i, err := f.Stat(ctx, rel)
		if err == nil && (i.IsDir() || !m.Virtual(name)) {
			i.Name = baseOf(name)
			return i, nil
		}
		if err != nil && !m.Virtual(name) {
			return Info{}, repath(err, name)
		}
	}
	if !m.Virtual(name) {
		return Info{}, fault.New(fault.NotExist, "stat", name, nil)
	}
	return m.virtual(baseOf(name)), nil
}

// List streams the clean directory as FS.List does, with the mounts and the
// directories on the way to one first. A storage entry of the same name is hidden by them.
func (m *Mounts) List(ctx context.Context, name string) iter.Seq2[Info, error] {
	kids := m.Children(name)
	f, rel, _ := m.Resolve(name)
	return func(yield func(Info, error) bool) {
		for _, k := range kids {
			full := strings.TrimSuffix(name, "/") + "/" + k
			i, err := m.Stat(ctx, full)
			if err != nil {
				i = m.virtual(k) // a storage that is down must not hide the others
			}
			if !yield(i, nil) {
				return
			}
		}
		if f == nil {
			if !m.Virtual(name) {
				yield(Info{}, fault.New(fault.NotExist, "list", name, nil))
			}
			return
		}
		for i, err := range f.List(ctx, rel) {
			if err != nil {
				// Above a mount the directory need not exist in the storage.
				if len(kids) == 0 || fault.KindOf(err) != fault.NotExist {
					yield(Info{}, repath(err, name))
				}
				return
			}
			if slices.Contains(kids, i.Name) {
				continue
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Close closes every storage that is an io.Closer and returns what failed.
func (m *Mounts) Close() error {
	var errs []error
	for _, mt := range m.list {
		if c, ok := mt.FS.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func (m *Mounts) virtual(base string) Info {
	return Info{Name: base, Mode: fs.ModeDir | 0o555, ModTime: m.created, Links: 2}
}

func baseOf(name string) string {
	if _, base := Split(name); base != "" {
		return base
	}
	return "/"
}

// repath makes an error speak of the path in the tree, not of the one inside the storage.
func repath(err error, name string) error {
	var fe *fault.Error
	if errors.As(err, &fe) {
		return &fault.Error{Kind: fe.Kind, Op: fe.Op, Path: name, Err: fe.Err}
	}
	return fault.Wrap("storage", name, err)
}
