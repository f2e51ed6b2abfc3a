package localfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// dir is an open directory. Operations on its entries use single components,
// so a parent that is moved or swapped for a link meanwhile does not matter.
type dir struct {
	*os.Root
	own bool
}

func (d dir) close() {
	if d.own {
		_ = d.Root.Close()
	}
}

// open opens the clean directory name as a handle.
func (f *FS) open(op, name string) (dir, error) {
	if name == "/" {
		return dir{Root: f.root}, nil
	}
	// "/." matters: Root.OpenRoot opens its last component without
	// O_DIRECTORY and would wait for ever on a FIFO.
	r, err := f.root.OpenRoot(name[1:] + "/.")
	if err != nil {
		return dir{}, f.fail(op, name, err)
	}
	d := dir{r, true}
	if f.mounts {
		return d, nil
	}
	fi, err := r.Lstat(".")
	if err != nil {
		d.close()
		return dir{}, f.fail(op, name, err)
	}
	if infoOf(fi).Dev != f.dev && f.foreignDir(r) {
		d.close()
		return dir{}, fault.New(fault.Denied, op, name, errForeign)
	}
	return d, nil
}

// oldIn opens the directory of an entry that should exist and is not the root.
func (f *FS) oldIn(ctx context.Context, op, name string) (dir, string, error) {
	if _, err := f.lookup(ctx, op, name); err != nil {
		return dir{}, "", err
	}
	if name == "/" {
		return dir{}, "", fault.New(fault.Denied, op, name, errRoot)
	}
	parent, base := vfs.Split(name)
	d, err := f.open(op, parent)
	return d, base, about(err, name)
}

// newIn opens the directory of an entry that may come to exist. It refuses the
// names that must not be created.
func (f *FS) newIn(ctx context.Context, op, name string) (dir, string, error) {
	if err := f.creatable(op, name); err != nil {
		return dir{}, "", err
	}
	return f.oldIn(ctx, op, name)
}

func (f *FS) creatable(op, name string) error {
	if _, err := vfs.Clean(name); err != nil {
		return err
	}
	if hasTemp(name) {
		return fault.New(fault.NameRefused, op, name, errTempName)
	}
	return nil
}

// about makes an error about a parent speak of the name that was asked for.
func about(err error, name string) error {
	var fe *fault.Error
	if errors.As(err, &fe) {
		fe.Path = name
	}
	return err
}

// real resolves every link in a clean path and returns a clean path without
// links. The last component, and what follows the first missing one, need not
// exist. It serves to find the right directory, never as a check: the result
// goes through os.Root again.
func (f *FS) real(op, name string) (string, error) {
	done, err := f.follow(op, name)
	if err != nil {
		return "", err
	}
	if err := f.creatable(op, done); err != nil {
		return "", fault.New(fault.KindOf(err), op, name, err)
	}
	return done, nil
}

// Resolve implements vfs.Resolver.
func (f *FS) Resolve(ctx context.Context, name string, last bool) (string, error) {
	if err := f.enter("resolve", name); err != nil {
		return "", err
	}
	defer f.leave()
	if _, err := f.lookup(ctx, "resolve", name); err != nil {
		return "", err
	}
	if last || name == "/" {
		return f.follow("resolve", name)
	}
	parent, base := vfs.Split(name)
	real, err := f.follow("resolve", parent)
	return path.Join(real, base), about(err, name)
}

// follow is real for names that need not be creatable.
func (f *FS) follow(op, name string) (string, error) {
	rest := strings.Split(strings.TrimPrefix(name, "/"), "/")
	done := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if done == "/" {
				return "", fault.New(fault.Denied, op, name, errEscapes)
			}
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		fi, err := f.root.Lstat(next[1:])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", f.fail(op, name, err)
		}
		if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fault.New(fault.Denied, op, name, errLoop)
		}
		t, err := f.root.Readlink(next[1:])
		if err != nil {
			return "", f.fail(op, name, err)
		}
		if strings.HasPrefix(t, "/") {
			return "", fault.New(fault.Denied, op, name, errEscapes)
		}
		rest = append(strings.Split(t, "/"), rest...)
	}
	return done, nil
}

const maxLinks = 8 // as os.Root

// renameReplace moves an entry; a file of the new name gives way, a directory
// never does, not even an empty one.
func (f *FS) renameReplace(od dir, obase string, nd dir, nbase string) error {
	if od.Root == nd.Root {
		return od.Root.Rename(obase, nbase)
	}
	if fi, err := nd.Lstat(nbase); err == nil && fi.IsDir() {
		return syscall.EEXIST
	}
	return renameAt(od.Root, obase, nd.Root, nbase, true)
}

// renameNew moves an entry to a name that must be free.
func (f *FS) renameNew(od dir, obase string, nd dir, nbase string) error {
	err := renameAt(od.Root, obase, nd.Root, nbase, false)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return f.renameChecked(od, obase, nd, nbase)
}

// renameChecked is renameNew for file systems that cannot do both at once (some
// network and FUSE ones). A file that appears between look and move is lost.
func (f *FS) renameChecked(od dir, obase string, nd dir, nbase string) error {
	if _, err := nd.Lstat(nbase); err == nil {
		return syscall.EEXIST
	}
	return f.renameReplace(od, obase, nd, nbase)
}
