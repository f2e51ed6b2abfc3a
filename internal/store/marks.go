package store

import "context"

// MarkQuota notes that what an account has stored is about to change. The mark
// stays over a crash. It is no error when it is there already.
func (db *DB) MarkQuota(ctx context.Context, name string) error {
	return db.update(ctx, "mark quota use of "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `INSERT INTO quota_marks (account) VALUES ($1) ON CONFLICT (account) DO NOTHING`, name)
		return err
	})
}

// ClearQuota takes the mark away: what is stored agrees with the files.
func (db *DB) ClearQuota(ctx context.Context, name string) error {
	return db.update(ctx, "clear the mark of quota use of "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `DELETE FROM quota_marks WHERE account = $1`, name)
		return err
	})
}

// MarkedQuota returns the accounts with a mark, by name.
func (db *DB) MarkedQuota(ctx context.Context) (names []string, err error) {
	err = db.view(ctx, "list marks of quota use", func(q tx) error {
		names, err = collect[string](ctx, q, `SELECT account FROM quota_marks ORDER BY account`)
		return err
	})
	return names, err
}
