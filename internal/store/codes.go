package store

import (
	"context"
	"fmt"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// CodeHolder is a kind of account that can have codes by time. Users and
// administrators keep theirs apart, so that equal names mean nothing.
type CodeHolder struct{ what, table string }

// The holders.
var (
	UserCodes          = CodeHolder{"user", "users"}
	AdministratorCodes = CodeHolder{"administrator", "administrators"}
)

// dropCodes removes the recovery codes of the account whose name is $1.
func dropCodes(h CodeHolder) string {
	return `DELETE FROM recovery_codes WHERE holder IN (SELECT '` + h.what + `:' || CAST(id AS TEXT) FROM ` + h.table + ` WHERE name = $1)`
}

// SetTOTP keeps the secret of an account and the hashes of its recovery codes
// in the place of those it had. An empty secret ends codes. Tokens of an
// administrator that were made with a code of the old secret, which may be in
// other hands, end. fault.NotExist.
func (db *DB) SetTOTP(ctx context.Context, h CodeHolder, name, secret string, recovery []string) error {
	return db.update(ctx, "set TOTP of "+h.what+" "+name, func(q tx) error {
		// The step stays: with the same secret back, no code becomes fresh again.
		err := one(ctx, q, h.what, name, `UPDATE `+h.table+` SET totp_secret = $2, updated_at = $3 WHERE name = $1`, name, secret, micros(now()))
		if err == nil && h == AdministratorCodes {
			_, err = q.ExecContext(ctx, `DELETE FROM tokens WHERE verified = $2 AND administrator_id IN (SELECT id FROM administrators WHERE name = $1)`, name, bit(true))
		}
		if err != nil {
			return err
		}
		return saveCodes(ctx, q, h, name, recovery)
	})
}

// SetRecovery replaces the recovery codes. fault.NotExist when there is no such
// account, fault.Invalid when it has no TOTP.
func (db *DB) SetRecovery(ctx context.Context, h CodeHolder, name string, recovery []string) error {
	return db.update(ctx, "set recovery codes of "+h.what+" "+name, func(q tx) error {
		var secret string
		if err := q.QueryRowContext(ctx, `SELECT totp_secret FROM `+h.table+` WHERE name = $1`, name).Scan(&secret); err != nil {
			return err
		}
		if secret == "" {
			return fault.New(fault.Invalid, "set recovery codes", "", fmt.Errorf("%s %s has no second factor", h.what, name))
		}
		return saveCodes(ctx, q, h, name, recovery)
	})
}

func saveCodes(ctx context.Context, q tx, h CodeHolder, name string, hashes []string) error {
	if _, err := q.ExecContext(ctx, dropCodes(h), name); err != nil {
		return err
	}
	for _, hash := range hashes {
		_, err := q.ExecContext(ctx, `INSERT INTO recovery_codes (holder, hash) SELECT '`+h.what+`:' || CAST(id AS TEXT), CAST($2 AS TEXT) FROM `+h.table+` WHERE name = $1`, name, hash)
		if err != nil {
			return err
		}
	}
	return nil
}

// AdministratorSecret returns the secret of an administrator's codes, "" when
// it has none. fault.NotExist.
func (db *DB) AdministratorSecret(ctx context.Context, name string) (secret string, err error) {
	err = db.view(ctx, "load administrator "+name, func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT totp_secret FROM administrators WHERE name = $1`, name).Scan(&secret)
	})
	return secret, err
}

// UseStep marks the code of a time step as used, and reports whether neither
// it nor a later one had been used before. Of two callers only one gets true.
func (db *DB) UseStep(ctx context.Context, h CodeHolder, name string, step int64) (fresh bool, err error) {
	err = db.update(ctx, "use a code of "+name, func(q tx) error {
		fresh, err = changedRow(ctx, q, `UPDATE `+h.table+` SET totp_step = $2 WHERE name = $1 AND totp_step < $3`, name, step, step)
		return err
	})
	return fresh, err
}

// UseRecovery uses up a recovery code and reports whether there was one. Of
// two callers only one gets true.
func (db *DB) UseRecovery(ctx context.Context, h CodeHolder, name, hash string) (found bool, err error) {
	err = db.update(ctx, "use a recovery code of "+name, func(q tx) error {
		found, err = changedRow(ctx, q, dropCodes(h)+` AND hash = $2`, name, hash)
		return err
	})
	return found, err
}

// CountRecovery returns how many recovery codes are left.
func (db *DB) CountRecovery(ctx context.Context, h CodeHolder, name string) (n int, err error) {
	err = db.view(ctx, "count recovery codes of "+name, func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT count(*) FROM recovery_codes WHERE holder IN
			(SELECT '`+h.what+`:' || CAST(id AS TEXT) FROM `+h.table+` WHERE name = $1)`, name).Scan(&n)
	})
	return n, err
}

func changedRow(ctx context.Context, q tx, query string, args ...any) (bool, error) {
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// TakeStep is UseStep for a user. With TakeRecovery it satisfies auth.Codes.
func (db *DB) TakeStep(ctx context.Context, u account.User, step int64) (bool, error) {
	return db.UseStep(ctx, UserCodes, u.Name, step)
}

// TakeRecovery is UseRecovery for a user.
func (db *DB) TakeRecovery(ctx context.Context, u account.User, hash string) (bool, error) {
	return db.UseRecovery(ctx, UserCodes, u.Name, hash)
}
