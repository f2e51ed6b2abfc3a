package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"

	"github.com/portreeve/portreeve/internal/fault"
)

// writeLock is taken by every writing transaction, and migrateLock by a
// migration: PostgreSQL's writers queue up as SQLite's do, so that one set of
// queries is right on both.
const (
	writeLock   = applicationID
	migrateLock = applicationID + 1
)

var postgresDialect = dialect{
	name: "postgres", driver: "pgx", goose: goose.DialectPostgres,
	begin:     fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, writeLock),
	reading:   &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
	dsn:       postgresDSN,
	version:   postgresVersion,
	lock:      postgresLock,
	classify:  postgresClassify,
	afterCopy: postgresAfterCopy,
	recognise: func(ctx context.Context, db *DB) error {
		var v int
		if err := db.write.QueryRowContext(ctx, `SELECT CAST(current_setting('server_version_num') AS INTEGER)`).Scan(&v); err != nil {
			return err
		}
		if v < 130000 {
			return fault.New(fault.Unavailable, "open database "+db.path, "", fmt.Errorf("it is PostgreSQL %d; version 13 or newer is needed", v/10000))
		}
		return nil
	},
	check: func(ctx context.Context, db *DB) error { return db.write.PingContext(ctx) }, // its own tools look for damage
}

// isPostgres tells a database URL from the name of a file.
func isPostgres(path string) bool {
	return strings.HasPrefix(path, "postgres://") || strings.HasPrefix(path, "postgresql://")
}

// redacted is the URL without its password, for messages.
func redacted(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return "postgres://..."
	}
	u.RawQuery = "" // may hold a password too
	return u.Redacted()
}

func postgresDSN(source string, write, synced bool) string {
	u, err := url.Parse(source)
	if err != nil {
		return source // the driver says what is wrong with it
	}
	q := u.Query()
	if !q.Has("connect_timeout") {
		q.Set("connect_timeout", "10")
	}
	q.Set("application_name", "portreeve")
	q.Set("timezone", "UTC")
	if write {
		q.Set("lock_timeout", "5s") // as long as SQLite waits for another writer
		if !synced {
			q.Set("synchronous_commit", "off") // see Synced
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func postgresVersion(ctx context.Context, pool *sql.DB) (v int64, err error) {
	var there bool
	if err := pool.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = pool.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&v)
	return v, err
}

// postgresLock keeps other processes from migrating. It belongs to a
// connection of its own, since the migration needs the writer's.
func postgresLock(ctx context.Context, db *DB) (unlock func(), err error) {
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, migrateLock)); err != nil {
		conn.Close()
		return nil, err
	}
	return func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.ExecContext(end, fmt.Sprintf(`SELECT pg_advisory_unlock(%d)`, migrateLock)) // closing the connection does it too
		conn.Close()
	}, nil
}

func postgresClassify(err error) (fault.Kind, error, bool) {
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		// Its text has the host and the user, not the password.
		return fault.Unavailable, fmt.Errorf("the database server cannot be reached: %w", err), true
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return fault.None, nil, false
	}
	switch {
	case pe.Code == "23505": // unique_violation
		return fault.Exist, err, true
	case strings.HasPrefix(pe.Code, "23"), strings.HasPrefix(pe.Code, "22"): // constraint, data
		return fault.Invalid, err, true
	case pe.Code == "55P03", pe.Code == "40001", pe.Code == "40P01": // lock timeout, serialization, deadlock
		return fault.Busy, fmt.Errorf("another process is writing to the database; try again: %w", err), true
	case pe.Code == "53100": // disk_full
		return fault.NoSpace, err, true
	case pe.Code == "57014": // query_canceled
		return fault.Canceled, err, true
	}
	return fault.Unavailable, err, true
}
