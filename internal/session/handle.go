package session

import (
	"errors"
	"io"
	"os"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// ReadAt reads from a handle, or from a reader that can.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.w != nil {
		return 0, fault.New(fault.Unsupported, "download", f.name, errors.New("the upload is not complete"))
	}
	var src io.ReaderAt = f.h
	if f.h == nil {
		var ok bool
		if src, ok = f.r.(io.ReaderAt); !ok {
			return 0, f.fail(fault.Text(fault.Unsupported, "this storage has no random access"))
		}
	}
	if f.h != nil && f.kind == events.Upload {
		if !f.both {
			return 0, fault.New(fault.Denied, "download", f.name, errors.New("the file is not open for reading"))
		}
		if err := f.place.may(opDownload); err != nil {
			return 0, err
		}
	}
	if err := f.s.over(); err != nil {
		return 0, f.fail(err)
	}
	done := 0
	for done < len(p) {
		n, err := f.pacedRead(int64(len(p) - done))
		if err != nil {
			return done, err
		}
		k, err := src.ReadAt(p[done:done+int(n)], off+int64(done))
		f.readback(n, int64(k))
		done += k
		if err == io.EOF {
			return done, err
		}
		if err != nil {
			return done, f.fail(err)
		}
	}
	return done, nil
}

// pacedRead and readback treat reads of a handle as download, whatever it was opened for.
func (f *File) pacedRead(n int64) (int64, error) {
	n, err := f.s.pace.Down(f.s.ctx, nil, min(n, maxGrant))
	if err != nil {
		return 0, f.fail(err)
	}
	return n, nil
}

func (f *File) readback(granted, n int64) {
	f.s.pace.ReturnDown(granted - n)
	switch {
	case !f.up:
		f.moved.Add(n)
	case f.shows:
		f.shown.Add(n)
	}
	f.s.sent.Add(n)
	f.s.m.sent.Add(n)
}

// WriteAt writes to a handle, or to an upload that is written with nothing
// else. More than 64 MiB past the end is fault.Range.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f.w != nil {
		return f.uploadAt(p, off)
	}
	if f.h == nil || !f.up {
		return 0, f.fail(fault.Text(fault.Denied, "the file is not open for writing"))
	}
	if err := f.s.over(); err != nil {
		return 0, f.fail(err)
	}
	if off < f.floor {
		return 0, f.fail(fault.Text(fault.Denied, "no right to overwrite: only appending is allowed"))
	}
	if err := f.grow(off, int64(len(p))); err != nil {
		return 0, f.fail(err)
	}
	done := 0
	for done < len(p) {
		n, err := f.paced(f.s.ctx, min(int64(len(p)-done), maxGrant))
		if err != nil {
			return done, f.fail(err)
		}
		k, err := f.h.WriteAt(p[done:done+int(n)], off+int64(done))
		f.unpaced(n - int64(k))
		f.count(int64(k))
		done += k
		if err != nil {
			return done, f.fail(err)
		}
	}
	return done, nil
}

// grow charges what a write at off adds to the file.
func (f *File) grow(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	to := off + n
	if off < 0 || to < off || off > f.end+maxGap {
		return fault.Text(fault.Range, "the write leaves a gap of more than 64 MiB")
	}
	if to <= f.end {
		return nil
	}
	if _, err := f.charge.Take(f.s.ctx, to-f.end, to-f.end); err != nil {
		return err
	}
	f.end = to
	return nil
}

// Stat describes the open file.
func (f *File) Stat() (vfs.Info, error) {
	if f.w != nil {
		return f.uploadStat()
	}
	if f.h != nil {
		i, err := f.h.Stat()
		return i, f.place.fail("stat", err)
	}
	if x, ok := f.r.(interface{ Stat() (vfs.Info, error) }); ok {
		i, err := x.Stat()
		return i, f.place.fail("stat", err)
	}
	i, err := f.place.lstat(f.s.ctx)
	return i, err
}

// Truncate sets the size of a handle open for writing, or of an upload.
func (f *File) Truncate(size int64) error {
	if f.w != nil {
		return f.uploadTruncate(size)
	}
	switch {
	case f.h == nil || !f.up:
		return f.fail(fault.Text(fault.Denied, "the file is not open for writing"))
	case size < f.floor:
		return f.fail(fault.Text(fault.Denied, "no right to overwrite: only appending is allowed"))
	case f.s.over() != nil:
		return f.fail(f.s.over())
	}
	if err := f.grow(size, 0); err != nil {
		return f.fail(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.h.Truncate(size); err != nil {
		return relabel("truncate", f.name, err)
	}
	if d := f.end - size; d > 0 {
		f.charge.Back(d)
	}
	f.end = size
	return nil
}

// Sync makes what was written to a handle or an upload durable.
func (f *File) Sync() error {
	if f.w != nil && f.os != nil {
		if err := f.os.Sync(); err != nil {
			return f.fail(err)
		}
		return nil
	}
	if f.h == nil {
		return nil
	}
	if err := f.h.Sync(); err != nil {
		return f.fail(err)
	}
	return nil
}
