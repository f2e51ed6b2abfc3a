// Package store owns the rows: users, groups, audit events, bans, quota use
// and small facts, in one SQLite file, and the migrations of its schema. It
// does not decide anything: rules live in account, counting in limits.
//
// Several processes may have the file open at once (the server and a command).
// A write waits for another process's write for at most five seconds and is
// fault.Busy then. Other faults: NotExist, Exist, Invalid (a value that can
// never be stored), NoSpace, Canceled, and Unavailable when the database itself fails.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/portreeve/portreeve/internal/fault"
)

// FileName is the name of the database inside the data directory.
const FileName = "portreeve.db"

// versionTable records which migrations have run.
const versionTable = "schema_version"

//go:embed migrations
var migrations embed.FS

// DB is an open store. All methods may be called concurrently. Never call one
// from inside the function given to UpdateUser or UpdateGroup: there is one writer.
type DB struct {
	path       string // for messages
	source     string // what was opened; a URL may hold a password
	dialect    *dialect
	synced     bool
	write      *sql.DB // one connection; its transactions take the write lock at once
	statements prepared
	read       *sql.DB // several connections that cannot write; the same as write in memory
}

// Open opens the database at path, makes it (file mode 0600, missing
// directories 0700) when it does not exist, and brings its schema up to date.
// A path that begins with postgres:// is the URL of a PostgreSQL database.
// ":memory:" is a private database that lives until Close. A database that is
// damaged, of another program, or written by a newer Portreeve is refused with
// fault.Unavailable and left as it is.
func Open(ctx context.Context, path string, options ...Option) (*DB, error) {
	db := &DB{path: path, source: path, dialect: &sqliteDialect}
	if isPostgres(path) {
		db.path, db.dialect = redacted(path), &postgresDialect
	}
	for _, o := range options {
		o(db)
	}
	if path != memory && !isPostgres(path) {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fault.New(fault.Unavailable, "open database "+path, "", err)
		}
		db.path, db.source = abs, abs
		if err := prepareFile(abs); err != nil {
			return nil, err
		}
	}
	if err := db.open(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// Option changes how Open works.
type Option func(*DB)

// Synced makes every transaction reach the disk before it counts as done. Then
// not even a power failure takes back what was stored; without, the last
// moments before one may be lost, while a crash of the program loses nothing
// either way. It costs an fsync for each transaction.
func Synced() Option { return func(db *DB) { db.synced = true } }

func (db *DB) open(ctx context.Context) (err error) {
	op := "open database " + db.path
	if db.write, err = sql.Open(db.dialect.driver, db.dialect.dsn(db.source, true, db.synced)); err != nil {
		return db.fail(op, err)
	}
	db.write.SetMaxOpenConns(1)
	if db.path == memory {
		db.read = db.write
	} else {
		if db.read, err = sql.Open(db.dialect.driver, db.dialect.dsn(db.source, false, false)); err != nil {
			return db.fail(op, err)
		}
		db.read.SetMaxOpenConns(readers)
		db.read.SetMaxIdleConns(2)
		db.read.SetConnMaxIdleTime(time.Minute)
	}
	if err := db.dialect.recognise(ctx, db); err != nil {
		return db.fail(op, err)
	}
	return db.migrate(ctx)
}

// migrate runs what is missing. Only one process at a time may do so; one that
// finds nothing to do takes no lock, so a command never waits for the server.
func (db *DB) migrate(ctx context.Context) error {
	op := "migrate database " + db.path
	dir, err := fs.Sub(migrations, "migrations/"+db.dialect.name)
	if err != nil {
		return fault.New(fault.Internal, op, "", err)
	}
	p, err := goose.NewProvider(db.dialect.goose, db.write, dir, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fault.New(fault.Internal, op, "", err)
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	current := func() (done bool, err error) {
		v, err := db.dialect.version(ctx, db.write)
		switch {
		case err != nil:
			return false, db.fail(op, err)
		case v > newest:
			return false, fault.New(fault.Unavailable, "open database "+db.path, "", fmt.Errorf(
				"its schema is version %d and this program knows versions up to %d: it was written by a newer Portreeve. Use that version or newer, or restore a backup made before the upgrade", v, newest))
		}
		return v == newest, nil
	}
	if done, err := current(); err != nil || done {
		return err
	}
	unlock, err := db.dialect.lock(ctx, db)
	if err != nil {
		return db.fail(op, err)
	}
	defer unlock()
	if done, err := current(); err != nil || done {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return db.fail(op, err)
	}
	return nil
}

// Path returns the file's absolute path, or ":memory:".
func (db *DB) Path() string { return db.path }

// Close ends all connections after the running statements. It is idempotent.
func (db *DB) Close() error {
	var errs []error
	db.statements.close()
	if db.read != nil && db.read != db.write {
		errs = append(errs, db.read.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	db.statements.wg.Wait()
	return db.fail("close database "+db.path, errors.Join(errs...))
}

// Check reads the whole database and reports damage as fault.Unavailable. It
// takes seconds on a large one. Open does it for small ones by itself.
func (db *DB) Check(ctx context.Context) error {
	return db.fail("check database "+db.path, db.dialect.check(ctx, db))
}

// tx is what queries run on: a *sql.Tx of either pool.
type tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// update runs f in one write transaction.
func (db *DB) update(ctx context.Context, op string, f func(q tx) error) error {
	return db.run(ctx, db.write, nil, op, func(q tx) error {
		if db.dialect.begin != "" {
			if _, err := q.ExecContext(ctx, db.dialect.begin); err != nil {
				return err
			}
		}
		return f(q)
	})
}

// view runs f on one consistent state.
func (db *DB) view(ctx context.Context, op string, f func(q tx) error) error {
	if db.read == db.write { // preparing would wait for the one connection, which the transaction holds
		return db.run(ctx, db.read, nil, op, f)
	}
	return db.run(ctx, db.read, db.dialect.reading, op, func(q tx) error { return f(readTx{q.(*sql.Tx), db}) })
}

// lookTime is how long a look-up that somebody waits for may take. It is a
// matter of a millisecond; a database that hangs must not hang its users.
const lookTime = 2 * time.Second

// look is view for such a look-up; fault.Unavailable when the time is over.
func (db *DB) look(ctx context.Context, op string, f func(q tx) error) error {
	short, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	err := db.view(short, op, f)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return fault.New(fault.Unavailable, op, "", fmt.Errorf("the database has not answered within %s", lookTime))
	}
	return err
}

func (db *DB) run(ctx context.Context, pool *sql.DB, o *sql.TxOptions, op string, f func(q tx) error) error {
	t, err := pool.BeginTx(ctx, o)
	if err != nil {
		return db.fail(op, err)
	}
	defer func() { _ = t.Rollback() }() // does nothing after Commit; also runs when f panics
	if err := f(t); err != nil {
		return db.fail(op, err)
	}
	return db.fail(op, t.Commit())
}

// fail classifies an error of the database. Errors that carry a fault already keep it.
func (db *DB) fail(op string, err error) error {
	var fe *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return fault.New(fault.NotExist, op, "", nil)
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone):
		return fault.New(fault.Unavailable, op, "", err)
	}
	if k, explained, ok := db.dialect.classify(err); ok {
		return fault.New(k, op, "", explained)
	}
	if k := fault.KindOf(err); k != fault.Internal {
		return fault.New(k, op, "", err)
	}
	return fault.New(fault.Unavailable, op, "", err)
}

// prepareFile makes the file or checks the one that is there. It must not open
// an existing one: closing any descriptor of it drops SQLite's locks in this process.
func prepareFile(path string) error {
	op := "open database " + path
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if w, err := os.Stat(path + "-wal"); err == nil && w.Size() > 0 {
			return fault.New(fault.Unavailable, op, "", fmt.Errorf(
				"the file is gone but %s-wal, which holds its latest changes, is still there. Put the database back beside it, or move that file away to begin with an empty database", path))
		}
		return createFile(path)
	case err != nil:
		return fault.New(fault.Unavailable, op, "", err)
	case !st.Mode().IsRegular():
		return fault.New(fault.Unavailable, op, "", errors.New("it is not a regular file"))
	case st.Mode().Perm()&0o077 != 0:
		// It holds password hashes.
		if err := os.Chmod(path, 0o600); err != nil {
			return fault.New(fault.Unavailable, op, "", fmt.Errorf("others can read it and its mode cannot be changed: %w", err))
		}
	}
	return nil
}

func createFile(path string) error {
	op := "create database " + path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fault.New(fault.Unavailable, op, "", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return fault.New(fault.Unavailable, op, "", err)
	}
	if err := f.Close(); err != nil {
		return fault.New(fault.Unavailable, op, "", err)
	}
	if err := adoptOwner(path); err != nil {
		return fault.New(fault.Unavailable, op, "", err)
	}
	return nil
}
