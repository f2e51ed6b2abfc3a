package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/localfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

// memoryPrefix marks a storage in memory: "mem:name" is shared by everybody
// who mounts that name, "mem:" alone belongs to one user and mount.
const memoryPrefix = "mem:"

// storages opens the storages of mounts and keeps one for each directory while
// sessions use it. Storages in memory stay until the server ends.
type storages struct {
	log     *slog.Logger
	dataDir string
	reaches func(dir string) bool // nil: whatever the user of the process may; set before the first log-in

	ctx    context.Context // of sweeping; its end is the server's
	sweeps sync.WaitGroup
	broom  sync.Mutex // one sweep at a time

	mu     sync.Mutex
	dirs   map[string]*openDir
	memory map[string]*memfs.FS
	seen   map[string]bool // directories opened since the start
	swept  map[string]bool // and those swept, or about to be
}

// openDir is a directory that sessions use, or one that is being opened for them.
type openDir struct {
	ready chan struct{} // closed when fs or err is there
	fs    *localfs.FS
	err   error
	refs  int // under storages.mu
}

// openWait is how long a log-in waits for its directory: a network file system
// whose server is gone never answers.
const openWait = 10 * time.Second

func newStorages(ctx context.Context, log *slog.Logger, dataDir string) *storages {
	return &storages{ctx: ctx, log: log, dataDir: dataDir, dirs: map[string]*openDir{}, memory: map[string]*memfs.FS{}, seen: map[string]bool{}, swept: map[string]bool{}}
}

// sharedDir is one session's use of a directory. All abilities of the
// directory show through; only Close is its own.
type sharedDir struct {
	*localfs.FS
	release func() error
}

// Close ends this use; the last one closes the directory. It may be called more than once.
func (d *sharedDir) Close() error { return d.release() }

// sharedMemory hides nothing either and survives its sessions.
type sharedMemory struct{ *memfs.FS }

// Close does nothing: the memory is the storage.
func (sharedMemory) Close() error { return nil }

// open is the session.Opener. Faults name the path the user sees; the
// directory of the host is in the cause, which goes to the log alone.
func (s *storages) open(ctx context.Context, m account.Mount, p account.Policy) (vfs.FS, error) {
	if name, ok := strings.CutPrefix(m.Source, memoryPrefix); ok {
		if name == "" {
			name = "\x00" + p.User + "\x00" + m.Path // no name a mount can spell
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.memory[name] == nil {
			s.memory[name] = memfs.New(memfs.Options{})
		}
		return sharedMemory{s.memory[name]}, nil
	}
	dir := filepath.Clean(m.Source)
	if !filepath.IsAbs(dir) {
		return nil, fault.New(fault.Unavailable, "open storage", m.Path, fmt.Errorf("%q is not an absolute path", m.Source))
	}
	s.mu.Lock()
	d := s.dirs[dir]
	if d == nil {
		// On a goroutine of its own, without the lock: when the directory hangs,
		// nobody but those who want it waits, and all of them for one call.
		d = &openDir{ready: make(chan struct{})}
		s.dirs[dir] = d
		go s.fill(d, dir, m.Path)
	}
	d.refs++
	s.mu.Unlock()
	t := time.NewTimer(openWait)
	defer t.Stop()
	err := fault.New(fault.Unavailable, "open storage", m.Path, fmt.Errorf("the directory %s has not answered within %s; see whether the server of a network file system is gone", dir, openWait))
	select {
	case <-d.ready:
		err = d.err
	case <-ctx.Done():
		err = fault.New(fault.Unavailable, "open storage", m.Path, context.Cause(ctx))
	case <-t.C:
	}
	if err != nil {
		s.drop(d, dir)
		return nil, err
	}
	release := sync.OnceValue(func() error { return s.drop(d, dir) })
	return &sharedDir{FS: d.fs, release: release}, nil
}

// fill opens the directory. Those who came for it may all be gone by then.
func (s *storages) fill(d *openDir, dir, at string) {
	f, err := s.openDir(dir, at)
	s.mu.Lock()
	defer s.mu.Unlock()
	d.fs, d.err = f, err
	close(d.ready)
	if d.refs == 0 || err != nil {
		delete(s.dirs, dir)
	}
	if d.refs == 0 && f != nil {
		f.Close()
	}
}

// drop ends one use; the last one closes the directory.
func (s *storages) drop(d *openDir, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.refs--; d.refs > 0 || d.fs == nil { // nothing is open yet, or ever: fill sees to it
		return nil
	}
	if s.dirs[dir] == d {
		delete(s.dirs, dir)
	}
	return d.fs.Close()
}

// stuck counts the directories that do not answer.
func (s *storages) stuck() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dirs {
		if d.fs == nil && d.err == nil || d.fs != nil && d.fs.Stuck() {
			n++
		}
	}
	return n
}

// openDir opens a directory and makes it when only its last component is
// missing: a whole missing path is more likely a typing error or a disk that
// is not mounted, and would fill the wrong disk.
func (s *storages) openDir(dir, at string) (*localfs.FS, error) {
	if s.reaches != nil && !s.reaches(dir) {
		return nil, fault.New(fault.Unavailable, "open storage", at, fmt.Errorf("the directory %s lies outside security.roots, to which Landlock keeps this server; add it there and restart the server, or correct the account's home", dir))
	}
	f, err := localfs.New(dir, localfs.Options{})
	if errors.Is(err, fs.ErrNotExist) {
		perm := fs.FileMode(0o755)
		if at == "/" {
			perm = 0o700 // a home is its owner's
		}
		if merr := os.Mkdir(dir, perm); merr != nil && !errors.Is(merr, fs.ErrExist) {
			why := fmt.Errorf("the directory %s does not exist and cannot be made: %w; make it, or correct the account's home", dir, merr)
			return nil, fault.New(fault.Unavailable, "open storage", at, why)
		}
		s.log.Info("directory made", "dir", dir, "mount", at)
		f, err = localfs.New(dir, localfs.Options{})
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "open storage", at, fmt.Errorf("cannot open the directory %s: %w", dir, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[dir] {
		return f, nil
	}
	s.seen[dir] = true
	if !s.swept[dir] && s.ctx.Err() == nil { // the accounts of this server are swept at its start, those of a directory service here
		s.swept[dir] = true
		s.sweeps.Go(func() { s.sweep(dir) })
	}
	if within(s.dataDir, dir) {
		s.log.Warn("this directory is served to users and contains the server's data directory, with its database and keys; move one of them", "dir", dir, "data_dir", s.dataDir)
	}
	return f, nil
}

// sweepAge spares what a client may still continue after a broken connection.
const sweepAge = 48 * time.Hour

// sweep removes what uploads left behind that a crash or a power failure cut
// off, beside the sessions.
func (s *storages) sweep(dir string) int {
	s.mu.Lock()
	s.swept[dir] = true
	s.mu.Unlock()
	s.broom.Lock()
	defer s.broom.Unlock()
	f, err := localfs.New(dir, localfs.Options{})
	if err != nil {
		return 0 // gone meanwhile; the next start looks again
	}
	defer f.Close()
	n, err := f.Sweep(s.ctx, sweepAge)
	if n > 0 {
		s.log.Info("removed leftovers of uploads that never ended", "dir", dir, "files", n)
	}
	if err != nil && s.ctx.Err() == nil {
		s.log.Warn("looking for leftovers of uploads failed", "dir", dir, "err", err)
	}
	return n
}

// wait returns when sweeping has ended, after the end of its context.
func (s *storages) wait() {
	s.mu.Lock() // whoever looked at the context before has begun to sweep
	s.mu.Unlock()
	s.sweeps.Wait()
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
