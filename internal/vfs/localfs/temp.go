package localfs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Unfinished uploads are called ".<hex>.ptmp": 16 digits at random, or 32
// derived from owner and target where a later upload may continue. The length
// does not depend on the target's name, so a target of 255 bytes works.
const (
	tempTail   = ".ptmp"
	randDigits = 16
	hashDigits = 32
)

func isTemp(base string) bool {
	hexa := len(base) - 1 - len(tempTail)
	if hexa != randDigits && hexa != hashDigits || base[0] != '.' || !strings.HasSuffix(base, tempTail) {
		return false
	}
	for _, c := range []byte(base[1 : 1+hexa]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// hasTemp reports whether any component of a path is a temporary name.
func hasTemp(name string) bool {
	if !strings.Contains(name, tempTail) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if isTemp(part) {
			return true
		}
	}
	return false
}

func randomTemp() string {
	var b [randDigits / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return "." + hex.EncodeToString(b[:]) + tempTail
}

// stableTemp is the same for the same owner and target. NUL cannot occur in
// either, so it keeps them apart.
func stableTemp(owner, base string) string {
	sum := sha256.Sum256([]byte(owner + "\x00" + base))
	return "." + hex.EncodeToString(sum[:hashDigits/2]) + tempTail
}

// Partial implements vfs.Partials.
func (f *FS) Partial(ctx context.Context, name, owner string) (int64, error) {
	if err := f.enter("stat", name); err != nil {
		return 0, err
	}
	defer f.leave()
	d, base, err := f.oldIn(ctx, "partial", name)
	if err != nil {
		return 0, err
	}
	defer d.close()
	fi, err := d.Lstat(stableTemp(owner, base))
	if err != nil {
		return 0, f.fail("partial", name, err)
	}
	if !fi.Mode().IsRegular() {
		return 0, fault.New(fault.NotExist, "partial", name, nil)
	}
	return fi.Size(), nil
}

// dropTemps empties a directory that holds nothing but abandoned uploads: its
// user sees it as empty and may remove it. It does nothing if there is more.
func (f *FS) dropTemps(d dir, base string) error {
	sub, err := d.OpenRoot(base + "/.")
	if err != nil {
		return err
	}
	defer sub.Close()
	names, err := onlyTemps(sub)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, n := range names {
		switch removed, err := dropTemp(sub, n, time.Time{}); {
		case err != nil:
			return err
		case !removed:
			return fault.New(fault.Busy, "", "", errBusyDir)
		}
	}
	return nil
}

// onlyTemps returns the temporary names in a directory, or none if there is any other entry.
func onlyTemps(r *os.Root) ([]string, error) {
	h, err := r.OpenFile(".", os.O_RDONLY|dirFlags|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var names []string
	for {
		es, err := h.ReadDir(256)
		for _, e := range es {
			if !isTemp(e.Name()) {
				return nil, nil
			}
			names = append(names, e.Name())
		}
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// dropTemp removes one temporary if nobody writes it and, unless before is
// zero, it was last written before that time.
func dropTemp(r *os.Root, name string, before time.Time) (bool, error) {
	fi, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() || !before.IsZero() && !fi.ModTime().Before(before) {
		return false, nil
	}
	h, err := r.OpenFile(name, os.O_WRONLY|openFlags, 0)
	if errors.Is(err, fs.ErrPermission) {
		h, err = r.OpenFile(name, os.O_RDONLY|openFlags, 0)
	}
	if err != nil {
		return false, err
	}
	defer h.Close()
	if !tryLock(h) {
		return false, nil
	}
	// Under the lock no upload can take it up any more: see openPartial.
	return true, r.Remove(name)
}

// orphanAge is when a temporary file that nobody can continue is taken for
// abandoned: a live upload holds its lock, but takes it a moment after creating
// the file.
const orphanAge = time.Minute

// continuable reports whether a later upload may take a temporary file up.
func continuable(base string) bool { return len(base) == 1+hashDigits+len(tempTail) }

// Sweep implements vfs.Sweeper. What a later upload may continue is spared
// until it is as old as age; other leftovers go as soon as nobody writes them,
// since only a crash leaves them. It walks the whole tree without following
// links and goes on past what it cannot read; the error is the first of those.
func (f *FS) Sweep(ctx context.Context, age time.Duration) (int, error) {
	before := time.Now().Add(-age)
	removed := 0
	var first error
	note := func(name string, err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) && first == nil {
			first = f.fail("sweep", name, err)
		}
	}
	todo := []string{"/"}
	for len(todo) > 0 {
		if ctx.Err() != nil {
			return removed, fault.Wrap("sweep", "", context.Cause(ctx))
		}
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		subs, n, err := f.sweepDir(ctx, name, before)
		removed += n
		note(name, err)
		todo = append(todo, subs...)
	}
	return removed, first
}

func (f *FS) sweepDir(ctx context.Context, name string, before time.Time) (subs []string, removed int, err error) {
	d, err := f.open("sweep", name)
	if err != nil {
		return nil, 0, err
	}
	defer d.close()
	h, err := d.OpenFile(".", os.O_RDONLY|dirFlags|openFlags, 0)
	if err != nil {
		return nil, 0, err
	}
	defer h.Close()
	deep := strings.Count(name, "/") >= vfs.MaxDepth
	err = f.children(ctx, name, h, func(base string, isDir bool) error {
		switch {
		case isDir && !deep:
			subs = append(subs, path.Join(name, base))
		case !isDir:
			limit := before
			if orphan := time.Now().Add(-orphanAge); !continuable(base) && orphan.After(limit) {
				limit = orphan
			}
			gone, err := dropTemp(d.Root, base, limit)
			if err != nil && !errors.Is(err, syscall.ENOENT) {
				return err
			}
			if gone && err == nil {
				removed++
			}
		}
		return nil
	})
	return subs, removed, err
}
