package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
)

// copyAll puts every row of one database into another that has none of its
// own, in one transaction on each side. Both must be of the present version;
// their tables and columns are the same in every dialect, and the values are
// numbers, texts and octets that every dialect writes alike.
func copyAll(ctx context.Context, from, to *DB) error {
	tables, err := from.tables(ctx)
	if err != nil {
		return err
	}
	return from.view(ctx, "read all of "+from.path, func(r tx) error {
		return to.update(ctx, "write all to "+to.path, func(w tx) error {
			// A migration may have put rows into a new database already.
			for _, t := range slices.Backward(tables) {
				if _, err := w.ExecContext(ctx, `DELETE FROM `+t); err != nil {
					return err
				}
			}
			for _, t := range tables {
				if err := copyTable(ctx, r, w, t); err != nil {
					return fmt.Errorf("table %s: %w", t, err)
				}
			}
			return to.dialect.afterCopy(ctx, w, tables)
		})
	})
}

func copyTable(ctx context.Context, r, w tx, table string) (err error) {
	rows, err := r.QueryContext(ctx, `SELECT * FROM `+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	marks := make([]string, len(columns))
	for i := range marks {
		marks[i] = fmt.Sprint("$", i+1)
	}
	insert, err := w.PrepareContext(ctx, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	values, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return rows.Err()
}

// tables are those of the schema, each after the ones it refers to: in the
// order in which the migrations make them. They are read from a database of
// the one kind that keeps that order.
func (db *DB) tables(ctx context.Context) (names []string, err error) {
	model, err := Open(ctx, memory)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	rows, err := model.read.QueryContext(ctx, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> $1 ORDER BY rowid`, versionTable)
	if err != nil {
		return nil, db.fail("list the tables", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, rows.Err()
}

// empty reports whether nobody has used the database yet.
func (db *DB) empty(ctx context.Context) (bool, error) {
	for _, t := range []string{"users", "groups", "administrators", "events"} {
		var n int
		if err := db.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+t+` LIMIT 1) AS any_row`).Scan(&n); err != nil {
			return false, db.fail("look into the database", err)
		}
		if n > 0 {
			return false, nil
		}
	}
	return true, nil
}

// restoreServer puts the backup that is open into an empty PostgreSQL database.
func restoreServer(ctx context.Context, backup *DB, url string) error {
	db, err := Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	switch fresh, err := db.empty(ctx); {
	case err != nil:
		return err
	case !fresh:
		return fault.Text(fault.Exist, fmt.Sprintf("the database %s is in use already and is left as it is; make an empty one, and name it in the configuration", db.path))
	}
	return copyAll(ctx, backup, db)
}

func sqliteAfterCopy(context.Context, tx, []string) error { return nil } // the next number follows the highest row by itself

// postgresAfterCopy moves the counters behind the rows that brought their numbers along.
func postgresAfterCopy(ctx context.Context, w tx, tables []string) error {
	for _, t := range tables {
		var counter *string
		err := w.QueryRowContext(ctx, `SELECT pg_get_serial_sequence($1, 'id') FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1 AND column_name = 'id' UNION ALL SELECT NULL LIMIT 1`, t).Scan(&counter)
		if err != nil {
			return err
		}
		if counter == nil {
			continue
		}
		if _, err := w.ExecContext(ctx, `SELECT setval(CAST($1 AS regclass), coalesce((SELECT max(id) FROM `+t+`), 0) + 1, false)`, *counter); err != nil {
			return err
		}
	}
	return nil
}
