package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// CreateAdministrator stores a new one; fault.Exist, fault.Invalid.
func (db *DB) CreateAdministrator(ctx context.Context, a account.Administrator) (account.Administrator, error) {
	if err := account.ValidName(a.Name); err != nil {
		return account.Administrator{}, err
	}
	err := db.update(ctx, "create administrator "+a.Name, func(q tx) (err error) {
		a, err = db.insertAdministrator(ctx, q, a)
		return err
	})
	if err != nil {
		return account.Administrator{}, err
	}
	return a, nil
}

func (db *DB) insertAdministrator(ctx context.Context, q tx, a account.Administrator) (account.Administrator, error) {
	a.CreatedAt = now()
	a.UpdatedAt = a.CreatedAt
	if err := db.free(ctx, q, "administrator", "administrators", a.Name); err != nil {
		return a, err
	}
	scopes, groups, err := packAdministrator(a)
	if err != nil {
		return a, err
	}
	return a, q.QueryRowContext(ctx, `INSERT INTO administrators (name, comment, scopes, groups, disabled, created_at, updated_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7) RETURNING id`, a.Name, a.Comment, scopes, groups, bit(a.Disabled), micros(a.CreatedAt), micros(a.UpdatedAt)).Scan(&a.ID)
}

func packAdministrator(a account.Administrator) (scopes, groups string, err error) {
	scopes, err1 := pack(a.Scopes)
	groups, err2 := pack(a.Groups)
	if err := errors.Join(err1, err2); err != nil {
		return "", "", fault.New(fault.Invalid, "save administrator "+a.Name, "", err)
	}
	return scopes, groups, nil
}

const administratorColumns = `id, name, comment, scopes, groups, disabled, created_at, updated_at, totp_secret`

func scanAdministrator(row scanner) (a account.Administrator, err error) {
	var scopes, groups, secret string
	var disabled int
	var created, updated int64
	if err := row.Scan(&a.ID, &a.Name, &a.Comment, &scopes, &groups, &disabled, &created, &updated, &secret); err != nil {
		return a, err
	}
	a.TOTP = secret != ""
	a.Disabled, a.CreatedAt, a.UpdatedAt = disabled != 0, unmicros(created), unmicros(updated)
	return a, errors.Join(unpack("administrators.scopes", scopes, &a.Scopes), unpack("administrators.groups", groups, &a.Groups))
}

func administratorByName(ctx context.Context, q tx, name string) (account.Administrator, error) {
	a, err := scanAdministrator(q.QueryRowContext(ctx, `SELECT `+administratorColumns+` FROM administrators WHERE name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotExist, "load administrator", "", fmt.Errorf("there is no administrator %q", name))
	}
	if err != nil {
		return account.Administrator{}, err
	}
	return a, nil
}

// AdministratorByName returns the one of that name; fault.NotExist.
func (db *DB) AdministratorByName(ctx context.Context, name string) (a account.Administrator, err error) {
	err = db.look(ctx, "load administrator "+name, func(q tx) error {
		a, err = administratorByName(ctx, q, name)
		return err
	})
	return a, err
}

// UpdateAdministrator alters one in a transaction; the name stays. fault.NotExist.
func (db *DB) UpdateAdministrator(ctx context.Context, name string, change func(*account.Administrator) error) error {
	var refused error
	err := db.update(ctx, "update administrator "+name, func(q tx) error {
		a, err := administratorByName(ctx, q, name)
		if err != nil {
			return err
		}
		if refused = change(&a); refused != nil {
			return refused
		}
		a.Name = name
		return putAdministrator(ctx, q, a)
	})
	if refused != nil {
		return refused
	}
	return err
}

// putAdministrator stores the one of that name.
func putAdministrator(ctx context.Context, q tx, a account.Administrator) error {
	scopes, groups, err := packAdministrator(a)
	if err != nil {
		return err
	}
	return one(ctx, q, "administrator", a.Name, `UPDATE administrators SET comment=$2, scopes=$3, groups=$4, disabled=$5, updated_at=$6 WHERE name=$1`,
		a.Name, a.Comment, scopes, groups, bit(a.Disabled), micros(now()))
}

// DeleteAdministrator removes one with its tokens; fault.NotExist.
func (db *DB) DeleteAdministrator(ctx context.Context, name string) error {
	return db.update(ctx, "delete administrator "+name, func(q tx) error { return dropAdministrator(ctx, q, name) })
}

// ListAdministrators pages in name order, as ListUsers.
func (db *DB) ListAdministrators(ctx context.Context, after string, limit int) (as []account.Administrator, err error) {
	err = db.view(ctx, "list administrators", func(q tx) error {
		rows, err := q.QueryContext(ctx, `SELECT `+administratorColumns+` FROM administrators WHERE name > $1 ORDER BY name LIMIT $2`, after, pageSize(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			a, err := scanAdministrator(rows)
			if err != nil {
				return err
			}
			as = append(as, a)
		}
		return rows.Err()
	})
	return as, err
}

const tokenColumns = `t.id, a.name, t.comment, t.scopes, t.once, t.expires_at, t.created_at, t.last_used, t.verified`

func scanToken(row scanner, more ...any) (t account.Token, err error) {
	var scopes string
	var once, verified int
	var expires, created, used int64
	if err := row.Scan(append([]any{&t.ID, &t.Administrator, &t.Comment, &scopes, &once, &expires, &created, &used, &verified}, more...)...); err != nil {
		return t, err
	}
	t.Once, t.Verified, t.Expires, t.CreatedAt, t.LastUsed = once != 0, verified != 0, unmicros(expires), unmicros(created), unmicros(used)
	return t, unpack("tokens.scopes", scopes, &t.Scopes)
}

// CreateToken stores a token with the hash of its secret. fault.NotExist when
// there is no such administrator, fault.Exist for a token of the same id.
func (db *DB) CreateToken(ctx context.Context, t account.Token, hash string) (account.Token, error) {
	t.CreatedAt = now()
	err := db.update(ctx, "create token", func(q tx) error {
		a, err := administratorByName(ctx, q, t.Administrator)
		if err != nil {
			return err
		}
		scopes, err := pack(t.Scopes)
		if err != nil {
			return err
		}
		_, err = q.ExecContext(ctx, `INSERT INTO tokens (id, administrator_id, hash, comment, scopes, once, expires_at, created_at, last_used, verified)
			VALUES ($1,$2,$3,$4,$5,$6,$7,$8,0,$9)`, t.ID, a.ID, hash, t.Comment, scopes, bit(t.Once), micros(t.Expires), micros(t.CreatedAt), bit(t.Verified))
		return err
	})
	if err != nil {
		return account.Token{}, err
	}
	return t, nil
}

// TokenByID returns a token, its hash and its administrator; fault.NotExist.
func (db *DB) TokenByID(ctx context.Context, id string) (t account.Token, hash string, a account.Administrator, err error) {
	err = db.look(ctx, "load token", func(q tx) error {
		t, err = scanToken(q.QueryRowContext(ctx, `SELECT `+tokenColumns+`, t.hash FROM tokens t
			JOIN administrators a ON a.id = t.administrator_id WHERE t.id = $1`, id), &hash)
		if err != nil {
			return err
		}
		a, err = administratorByName(ctx, q, t.Administrator)
		return err
	})
	return t, hash, a, err
}

// ListTokens returns the tokens of an administrator, or of all when name is
// empty, oldest first.
func (db *DB) ListTokens(ctx context.Context, name string) (ts []account.Token, err error) {
	err = db.view(ctx, "list tokens", func(q tx) error {
		ts, err = tokens(ctx, q, name)
		return err
	})
	return ts, err
}

func tokens(ctx context.Context, q tx, name string) (ts []account.Token, err error) {
	rows, err := q.QueryContext(ctx, `SELECT `+tokenColumns+` FROM tokens t JOIN administrators a ON a.id = t.administrator_id
		WHERE $1 = '' OR a.name = $2 ORDER BY t.created_at, t.id LIMIT 1000`, name, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		t, err := scanToken(rows)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, rows.Err()
}

// DeleteToken removes a token; fault.NotExist. Of two callers only one succeeds.
func (db *DB) DeleteToken(ctx context.Context, id string) error {
	return db.update(ctx, "delete token", func(q tx) error { return dropToken(ctx, q, id) })
}

// TouchToken records the time of the last use; fault.NotExist.
func (db *DB) TouchToken(ctx context.Context, id string, at time.Time) error {
	return db.update(ctx, "record use of token", func(q tx) error {
		return one(ctx, q, "token", id, `UPDATE tokens SET last_used = $2 WHERE id = $1`, id, micros(at))
	})
}
