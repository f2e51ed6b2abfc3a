package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/portreeve/portreeve/internal/fault"
)

// Backup writes a consistent copy of the whole database to a new file, while
// others go on writing. The copy is complete by itself and of mode 0600: it
// holds password hashes. It is the same kind of file whatever the database
// is, so that Restore can move from one kind to the other. fault.Exist when
// the file is there.
func (db *DB) Backup(ctx context.Context, to string) (err error) {
	op := "back up to " + to
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.New(fault.KindOf(err), op, "", err)
	}
	defer func() {
		if err != nil {
			os.Remove(to)
		}
	}()
	if err := f.Close(); err != nil {
		return fault.New(fault.Unavailable, op, "", err)
	}
	if db.dialect != &sqliteDialect {
		return db.backupServer(ctx, to)
	}
	// VACUUM INTO takes an empty file, so that nobody can have put another one there.
	if _, err := db.write.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		return db.fail(op, err)
	}
	return nil
}

func (db *DB) backupServer(ctx context.Context, to string) error {
	file, err := Open(ctx, to)
	if err != nil {
		return err
	}
	err = copyAll(ctx, db, file)
	if err == nil {
		_, err = file.write.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`) // one file is all of it
	}
	err = errors.Join(err, file.Close())
	for _, end := range []string{"-wal", "-shm", ".lock"} {
		os.Remove(to + end)
	}
	return err
}

// Restore puts a backup in the place of the database at path; no server may
// use it. The present one is kept beside it, under the name that is returned,
// "" when there was none. A file that is damaged, of another program, or of a
// newer Portreeve is refused with fault.Unavailable before anything is
// touched; one of an older Portreeve is brought up to date. path may be the URL
// of a PostgreSQL database, which must be empty: fault.Exist.
func Restore(ctx context.Context, from, path string) (kept string, err error) {
	if st, err := os.Stat(from); err != nil {
		return "", fault.New(fault.NotExist, "restore "+from, "", fmt.Errorf("%w; name a file that portreeve backup wrote", err))
	} else if !st.Mode().IsRegular() {
		return "", fault.New(fault.NotExist, "restore "+from, "", errors.New("it is no regular file; name one that portreeve backup wrote"))
	}
	// Tried as a copy: opening brings a database up to date, and the backup is to stay as it is.
	tmp := path + ".restore"
	if isPostgres(path) {
		dir, err := os.MkdirTemp("", "portreeve-restore-") // for its owner alone
		if err != nil {
			return "", fault.New(fault.Unavailable, "restore "+from, "", err)
		}
		defer os.RemoveAll(dir)
		tmp = filepath.Join(dir, FileName)
	} else if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fault.New(fault.Unavailable, "restore "+from, "", err)
	}
	defer func() {
		for _, end := range []string{"", "-wal", "-shm", ".lock"} {
			os.Remove(tmp + end)
		}
	}()
	if err := copyFile(from, tmp); err != nil {
		return "", fault.New(fault.Unavailable, "restore "+from, "", err)
	}
	db, err := Open(ctx, tmp)
	if err != nil {
		return "", fmt.Errorf("%s is not restored: %w", from, err)
	}
	err = db.Check(ctx)
	if err == nil && isPostgres(path) {
		err = restoreServer(ctx, db, path)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return "", fmt.Errorf("%s is not restored: %w", from, err)
	}
	if isPostgres(path) {
		return "", nil
	}
	if _, err := os.Stat(path); err == nil {
		kept = path + ".before-restore"
		// Fold the log into the file first, so that the one file is all of it.
		old, err := Open(ctx, path)
		if err == nil {
			err = old.Close()
		}
		if err == nil {
			err = os.Rename(path, kept)
		}
		if err != nil {
			return "", fault.New(fault.Unavailable, "keep the present database", "", err)
		}
		for _, end := range []string{"-wal", "-shm"} {
			os.Remove(path + end)
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		return kept, fault.New(fault.Unavailable, "restore "+from, "", err)
	}
	return kept, nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close(), adoptOwner(to))
}
