package telemetry

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// File is a log file that another program may move or remove at any time, as
// logrotate does: the next line begins a new one of that name. Methods may be
// called concurrently.
type File struct {
	path string
	say  io.Writer // standard error, of people and of the journal

	mu   sync.Mutex
	f    *os.File
	info os.FileInfo
	told bool // that a new file cannot be made
}

// OpenFile opens the file of that name to add lines to it, and makes it when
// there is none.
func OpenFile(path string) (*File, error) {
	w := &File{path: path, say: os.Stderr}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *File) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if w.f != nil {
		w.f.Close()
	}
	w.f, w.info, w.told = f, info, false
	return nil
}

// Write adds one line. While no new file can be made in the place of one that
// was moved, lines go on to the moved one rather than nowhere.
func (w *File) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return 0, os.ErrClosed
	}
	if now, err := os.Stat(w.path); err != nil || !os.SameFile(now, w.info) {
		if err := w.open(); err != nil && !w.told {
			w.told = true
			fmt.Fprintf(w.say, "portreeve: the log file was moved away and no new one can be begun: %v; the moved one goes on. Give the server's user the right to write there\n", err)
		}
	}
	return w.f.Write(line)
}

// Close ends it; what is written later is refused.
func (w *File) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}
