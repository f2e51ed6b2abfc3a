package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/portreeve/portreeve/internal/fault"
)

const (
	memory  = ":memory:"
	readers = 8
	// applicationID marks the file as ours in its header ("PRTV").
	applicationID = 0x50525456
	// checkedAtOpen is the size in bytes up to which Open reads the whole file for damage.
	checkedAtOpen = 8 << 20
)

// dialect is what differs between databases; all queries are shared.
type dialect struct {
	name      string // directory under migrations
	driver    string // of database/sql
	goose     goose.Dialect
	dsn       func(path string, write, synced bool) string
	begin     string                                                       // first statement of a writing transaction
	reading   *sql.TxOptions                                               // of a reading one
	lock      func(ctx context.Context, db *DB) (unlock func(), err error) // while migrating
	recognise func(ctx context.Context, db *DB) error                      // refuse what is not ours
	version   func(ctx context.Context, pool *sql.DB) (int64, error)       // of the schema, 0 when empty
	check     func(ctx context.Context, db *DB) error                      // for damage, everything
	classify  func(err error) (k fault.Kind, explained error, ok bool)
	afterCopy func(ctx context.Context, w tx, tables []string) error // after rows came with their numbers
}

var sqliteDialect = dialect{
	name: "sqlite", driver: "sqlite", goose: goose.DialectSQLite3,
	lock: func(ctx context.Context, db *DB) (func(), error) {
		if db.path == memory {
			return func() {}, nil
		}
		unlock, err := lockFile(ctx, db.path+".lock")
		if err != nil {
			return nil, fault.New(fault.Busy, "migrate database "+db.path, "", err)
		}
		return unlock, nil
	},
	dsn: sqliteDSN, recognise: sqliteRecognise, version: sqliteVersion,
	check: func(ctx context.Context, db *DB) error {
		return sqliteCheck(ctx, db, `PRAGMA integrity_check(10)`)
	},
	classify:  sqliteClassify,
	afterCopy: sqliteAfterCopy,
}

func sqliteDSN(path string, write, synced bool) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "foreign_keys(1)", "synchronous(NORMAL)"}}
	if path == memory {
		q.Set("_txlock", "immediate")
		return memory + "?" + q.Encode()
	}
	if write {
		// immediate: a transaction that reads first and writes later would fail
		// at once, without waiting, when another process wrote in between.
		q.Set("_txlock", "immediate")
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)", "journal_size_limit(67108864)")
		if synced {
			q["_pragma"] = append(q["_pragma"], "synchronous(FULL)")
		}
	} else {
		q["_pragma"] = append(q["_pragma"], "query_only(1)")
	}
	// Escaped, because "?", "#" and "%" in a file's name would end it.
	u := url.URL{Path: filepath.ToSlash(path)}
	return "file:" + u.EscapedPath() + "?" + q.Encode()
}

// sqliteRecognise marks an empty file as ours and refuses damaged and foreign ones.
func sqliteRecognise(ctx context.Context, db *DB) error {
	var id, tables, pages, pageSize int64
	for query, v := range map[string]*int64{
		`PRAGMA application_id`:              &id,
		`SELECT count(*) FROM sqlite_schema`: &tables,
		`PRAGMA page_count`:                  &pages,
		`PRAGMA page_size`:                   &pageSize,
	} {
		if err := db.write.QueryRowContext(ctx, query).Scan(v); err != nil {
			return err
		}
	}
	switch {
	case id == applicationID:
	case id == 0 && tables == 0:
		_, err := db.write.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
		return err
	default:
		return fault.New(fault.Unavailable, "open database "+db.path, "", errors.New(
			"it is a database of another program. Move it away or choose another data_dir"))
	}
	if pages*pageSize > checkedAtOpen {
		return nil
	}
	return sqliteCheck(ctx, db, `PRAGMA quick_check(1)`)
}

func sqliteCheck(ctx context.Context, db *DB, pragma string) error {
	rows, err := db.read.QueryContext(ctx, pragma)
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []error
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		if s != "ok" {
			found = append(found, errors.New(s))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return fault.New(fault.Unavailable, "check database "+db.path, "", damaged(errors.Join(found...)))
	}
	return nil
}

func damaged(err error) error {
	return fmt.Errorf("the file is damaged and was left as it is. Restore it from a backup: %w", err)
}

func sqliteVersion(ctx context.Context, pool *sql.DB) (v int64, err error) {
	var tables int
	err = pool.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = $1`, versionTable).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	err = pool.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&v)
	return v, err
}

func sqliteClassify(err error) (fault.Kind, error, bool) {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return fault.None, nil, false
	}
	switch code := se.Code(); code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fault.Exist, err, true
	default:
		switch code & 0xff { // the primary code; the rest is detail
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
			return fault.Invalid, err, true
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fault.Busy, fmt.Errorf("another process is writing to the database; try again: %w", err), true
		case sqlite3.SQLITE_FULL:
			return fault.NoSpace, err, true
		case sqlite3.SQLITE_INTERRUPT:
			return fault.Canceled, err, true
		case sqlite3.SQLITE_NOTADB:
			return fault.Unavailable, fmt.Errorf("the file is not a database, or its beginning is damaged; it was left as it is. Restore it from a backup or move it away: %w", err), true
		case sqlite3.SQLITE_CORRUPT:
			return fault.Unavailable, damaged(err), true
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
			return fault.Unavailable, fmt.Errorf("the database, or the directory it is in, cannot be written by this user: %w", err), true
		}
		return fault.Unavailable, err, true
	}
}
