package events

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// FileOptions describe a File.
type FileOptions struct {
	Path    string
	Format  Format
	MaxSize int64         // octets after which a new file is begun; 0: never
	MaxAge  time.Duration // age after which a new file is begun; 0: never
	Keep    int           // old files kept as PATH.1, PATH.2 and so on
}

// File writes events to a file in one of the formats and rotates it. A file
// that another program has moved or removed is begun anew, so that logrotate
// works, too.
type File struct {
	o FileOptions

	mu    sync.Mutex
	f     *os.File
	info  os.FileInfo
	size  int64
	began time.Time
}

// NewFile opens nothing yet; the first Write does.
func NewFile(o FileOptions) *File { return &File{o: o} }

// Write adds the events. After an error some of them may be in the file: give
// all of them again.
func (w *File) Write(_ context.Context, es []Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.open(); err != nil {
		return err
	}
	var b []byte
	for _, e := range es {
		b = w.o.Format.Append(b, e)
	}
	if len(b) == 0 {
		return nil
	}
	if w.due(int64(len(b))) {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b)
	w.size += int64(n)
	if err != nil {
		w.shut()
		return fmt.Errorf("cannot write to %s: %w", w.o.Path, err)
	}
	return nil
}

func (w *File) due(more int64) bool {
	if w.size <= int64(len(w.o.Format.Header(time.Time{}))) {
		return false // never rotate an empty one
	}
	return w.o.MaxSize > 0 && w.size+more > w.o.MaxSize || w.o.MaxAge > 0 && time.Since(w.began) >= w.o.MaxAge
}

// open makes sure that w.f is the file of that name.
func (w *File) open() error {
	if w.f != nil {
		if now, err := os.Stat(w.o.Path); err == nil && os.SameFile(now, w.info) {
			return nil
		}
		w.shut()
	}
	f, err := os.OpenFile(w.o.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("cannot open the audit file: %w; correct audit.file, or give the server's user the right to write there", err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.info, w.size, w.began = f, fi, fi.Size(), begun(fi)
	start := ""
	if w.size == 0 {
		start = w.o.Format.Header(time.Now())
	} else if last := make([]byte, 1); readLast(f, last) && last[0] != '\n' {
		start = "\n" // a crash cut the last line; what it said comes again whole
	}
	n, err := f.WriteString(start)
	w.size += int64(n)
	if err != nil {
		w.shut()
	}
	return err
}

// begun is when a file was begun, as well as can be told: ages are counted
// from a fresh start when it holds nothing.
func begun(fi os.FileInfo) time.Time {
	if fi.Size() == 0 {
		return time.Now()
	}
	return fi.ModTime()
}

func readLast(f *os.File, b []byte) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	_, err = f.ReadAt(b, fi.Size()-1)
	return err == nil
}

// rotate moves PATH to PATH.1, PATH.1 to PATH.2, and lets the last one go.
func (w *File) rotate() error {
	w.shut()
	name := func(i int) string {
		if i == 0 {
			return w.o.Path
		}
		return fmt.Sprintf("%s.%d", w.o.Path, i)
	}
	if w.o.Keep <= 0 {
		if err := os.Remove(w.o.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return w.open()
	}
	for i := w.o.Keep - 1; i >= 0; i-- {
		if err := os.Rename(name(i), name(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot rotate the audit file: %w", err)
		}
	}
	return w.open()
}

func (w *File) shut() {
	if w.f != nil {
		w.f.Close() // nothing is buffered here
		w.f = nil
	}
}

// Close closes the file.
func (w *File) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut()
	return nil
}
