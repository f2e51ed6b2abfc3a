package session

import (
	"io"
	"os"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// The methods here let a file opened with Create be written at any offset, as
// SFTP does, without giving up that it appears under its name only on Commit.
// moved is then the size the file has reached: octets written twice count once.

// uploadAt is WriteAt for a file opened with Create. The storage's writer must
// be an io.WriterAt, else fault.Unsupported.
func (f *File) uploadAt(p []byte, off int64) (int, error) {
	dst, ok := f.w.(io.WriterAt)
	if !ok {
		return 0, f.fail(fault.Text(fault.Unsupported, "this storage takes uploads in order only"))
	}
	if err := f.s.over(); err != nil {
		return 0, f.fail(err)
	}
	if err := f.reach(off, int64(len(p))); err != nil {
		return 0, f.fail(err)
	}
	done := 0
	for done < len(p) {
		n, err := f.paced(f.s.ctx, min(int64(len(p)-done), maxGrant))
		if err != nil {
			return done, f.fail(err)
		}
		k, err := dst.WriteAt(p[done:done+int(n)], off+int64(done))
		f.unpaced(n - int64(k))
		f.s.received.Add(int64(k))
		f.s.m.received.Add(int64(k))
		done += k
		if err != nil {
			return done, f.fail(err)
		}
	}
	return done, nil
}

// reach charges what a write of n octets at off adds to an upload.
func (f *File) reach(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.committed {
		return fault.New(fault.Canceled, f.op(), f.name, os.ErrClosed)
	}
	size, to := f.moved.Load(), off+n
	switch {
	case off < 0 || to < off || off > size+maxGap:
		return fault.Text(fault.Range, "the write leaves a gap of more than 64 MiB")
	case to <= size:
		return nil
	}
	if f.charge != nil {
		if _, err := f.charge.Take(f.s.ctx, to-size, to-size); err != nil {
			return err
		}
	}
	f.moved.Store(to)
	return nil
}

// uploadTruncate sets the size of an upload that is not committed yet.
func (f *File) uploadTruncate(size int64) error {
	now := f.moved.Load()
	switch {
	case size == now:
		return nil
	case f.os == nil:
		return fault.New(fault.Unsupported, "truncate", f.name, nil)
	}
	if err := f.reach(size, 0); err != nil {
		return f.fail(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.os.Truncate(size); err != nil {
		return relabel("truncate", f.name, err)
	}
	if d := f.moved.Load() - size; d > 0 && f.charge != nil {
		f.charge.Back(d)
	}
	f.moved.Store(size)
	return nil
}

// uploadStat describes an upload that is not committed yet.
func (f *File) uploadStat() (vfs.Info, error) {
	_, base := vfs.Split(f.name)
	i := vfs.Info{Name: base, Size: f.moved.Load(), Mode: 0o644, ModTime: f.s.m.conf.Now().Truncate(time.Second), Links: 1}
	if f.os == nil {
		return i, nil
	}
	st, err := f.os.Stat()
	if err != nil {
		return i, relabel("stat", f.name, err)
	}
	i.Mode, i.ModTime = st.Mode(), st.ModTime()
	return i, nil
}
