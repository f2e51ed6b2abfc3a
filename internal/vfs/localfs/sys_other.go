//go:build !linux

package localfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// The portable half: the standard library alone. It is slower, has no upload
// locks between processes and cannot tell mounts apart.

const (
	openFlags = 0
	dirFlags  = 0
	pathFlags = 0
)

func infoOf(fi fs.FileInfo) vfs.Info {
	return vfs.Info{Size: fi.Size(), Mode: fi.Mode(), ModTime: fi.ModTime(), Links: 1}
}

func mountID(*os.File) uint64                 { return 0 }
func (f *FS) foreign(*os.File) bool           { return false }
func (f *FS) foreignName(string) bool         { return false }
func (f *FS) foreignDir(*os.Root) bool        { return false }
func tryLock(*os.File) bool                   { return true }
func datasync(f *os.File) error               { return f.Sync() }
func setMode(f *os.File, m fs.FileMode) error { return f.Chmod(m) }

func setTimes(*os.File, *time.Time, *time.Time) error { return errors.ErrUnsupported }

func reserve(*os.File, int64, int64) (bool, error) { return false, nil }

func space(*os.Root, string) (vfs.Space, error) { return vfs.Space{}, errors.ErrUnsupported }

func syncDir(r *os.Root) error {
	d, err := r.Open(".")
	if err != nil {
		return nil
	}
	_ = d.Sync() // not every system syncs directories
	return d.Close()
}

// renameAt only knows moves inside one directory; linkAt likewise.
func renameAt(od *os.Root, obase string, nd *os.Root, nbase string, replace bool) error {
	if od != nd {
		return errors.ErrUnsupported
	}
	if !replace {
		if err := od.Link(obase, nbase); err != nil {
			return err
		}
		return od.Remove(obase)
	}
	return od.Rename(obase, nbase)
}

func linkAt(od *os.Root, obase string, nd *os.Root, nbase string) error {
	if od != nd {
		return errors.ErrUnsupported
	}
	return od.Link(obase, nbase)
}

// List implements vfs.FS.
func (f *FS) List(ctx context.Context, name string) iter.Seq2[vfs.Info, error] {
	return func(yield func(vfs.Info, error) bool) {
		rel, err := f.lookup(ctx, "list", name)
		if err != nil {
			yield(vfs.Info{}, err)
			return
		}
		d, err := f.root.Open(rel)
		if err != nil {
			yield(vfs.Info{}, f.fail("list", name, err))
			return
		}
		defer d.Close()
		for {
			if ctx.Err() != nil {
				yield(vfs.Info{}, fault.Wrap("list", name, context.Cause(ctx)))
				return
			}
			es, err := d.ReadDir(512)
			for _, e := range es {
				if isTemp(e.Name()) {
					continue
				}
				fi, ferr := e.Info()
				if ferr != nil {
					continue
				}
				i := infoOf(fi)
				i.Name = e.Name()
				if !yield(i, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(vfs.Info{}, f.fail("list", name, err))
				return
			}
		}
	}
}

// children calls do with each directory and each temporary name in d. It stops
// at the first error.
func (f *FS) children(ctx context.Context, name string, d *os.File, do func(base string, isDir bool) error) error {
	for ctx.Err() == nil {
		es, err := d.ReadDir(512)
		for _, e := range es {
			if !e.IsDir() && !isTemp(e.Name()) {
				continue
			}
			if err := do(e.Name(), e.IsDir()); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fault.Wrap("list", name, context.Cause(ctx))
}
