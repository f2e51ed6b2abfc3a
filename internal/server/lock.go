package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockName is the file in the data directory that a running server keeps locked.
const lockName = "portreeve.lock"

// dirLock is held while a server uses a data directory. The kernel drops it
// with the process, so a crash leaves nothing to clean up. The file itself
// stays: removing it would let a third server lock a new file of that name.
type dirLock struct{ f *os.File }

// lockDir locks dir for this process. When another one holds the lock the
// error names it.
func lockDir(dir string) (*dirLock, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make the lock file of the data directory: %w; give the server's user the right to write there, or name another data_dir", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock %s: %w; a data directory must be on a file system that supports locks", name, err)
		}
		return nil, fmt.Errorf("another portreeve (pid %s) already uses the data directory %s; stop it first, or name another data_dir", lockHolder(f), dir)
	}
	return ownLock(f, name)
}

// adoptLock takes over the lock of the process before this one. It is the same
// open file, so the lock holds until both have let go.
func adoptLock(f *os.File, dir string) (*dirLock, error) {
	name := filepath.Join(dir, lockName)
	there, err := os.Stat(name)
	if err == nil {
		var mine os.FileInfo
		if mine, err = f.Stat(); err == nil && !os.SameFile(there, mine) {
			err = errors.New("it is not that of the old process")
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot take over the lock %s: %w; has data_dir changed? Restart instead", name, err)
	}
	return ownLock(f, name)
}

func ownLock(f *os.File, name string) (*dirLock, error) {
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot write the lock file %s: %w", name, err)
		}
	}
	return &dirLock{f: f}, nil
}

func (l *dirLock) unlock() { l.f.Close() }

func lockHolder(f *os.File) string {
	var buf [32]byte
	n, _ := f.ReadAt(buf[:], 0)
	if s := strings.TrimSpace(string(buf[:n])); s != "" {
		return s
	}
	return "unknown"
}

// HolderOf returns the process that serves from a data directory, or 0 when none does.
func HolderOf(dir string) int {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	// A shared lock is refused while a server holds the exclusive one, and it
	// is gone again with the descriptor.
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0
	}
	pid, err := strconv.Atoi(lockHolder(f))
	if err != nil {
		return 0
	}
	return pid
}
