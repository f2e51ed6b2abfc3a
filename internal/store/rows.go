package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// now is the present with the precision of the database, so that what a method
// returns equals what is read back.
func now() time.Time { return unmicros(time.Now().UnixMicro()) }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func unmicros(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(v)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func pack[T any](list []T) (string, error) {
	if len(list) == 0 {
		return "", nil
	}
	b, err := json.Marshal(list)
	return string(b), err
}

func unpack[T any](column, text string, list *[]T) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), list); err != nil {
		return fault.New(fault.Unavailable, "read column "+column, "", err)
	}
	return nil
}

type scanner interface{ Scan(dest ...any) error }

// lists are the JSON columns that users and groups share.
type lists struct{ mounts, rules, protocols, networks, hours, auth string }

// scanUser reads a row of loadUsers; has tells which lists the user has.
func scanUser(row scanner) (u account.User, has int, err error) {
	var l lists
	var disabled, mustChange, keyOnly int
	var expires, created, updated, last int64
	err = row.Scan(&u.ID, &u.Name, &u.Comment, &disabled, &u.PasswordHash, &mustChange, &keyOnly, &u.Home, &l.mounts, &l.rules,
		&u.Quota.Bytes, &u.Quota.Files, &u.Bandwidth.Down, &u.Bandwidth.Up, &u.MaxSessions, &l.protocols, &l.networks, &l.hours,
		&expires, &created, &updated, &last, &l.auth, &u.TOTPSecret, &has)
	if err != nil {
		return u, 0, err
	}
	u.TOTP = u.TOTPSecret != ""
	u.Disabled, u.MustChange, u.KeyOnly = disabled != 0, mustChange != 0, keyOnly != 0
	u.Expires, u.CreatedAt, u.UpdatedAt, u.LastLogin = unmicros(expires), unmicros(created), unmicros(updated), unmicros(last)
	for _, err := range []error{
		unpack("users.mounts", l.mounts, &u.Mounts), unpack("users.rules", l.rules, &u.Rules), unpack("users.protocols", l.protocols, &u.Protocols),
		unpack("users.networks", l.networks, &u.Networks), unpack("users.hours", l.hours, &u.Hours),
		unpack("users.auth", l.auth, &u.Auth),
	} {
		if err != nil {
			return u, 0, fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	return u, has, nil
}

func userValues(u account.User) ([]any, error) {
	var l lists
	var errs [6]error
	l.mounts, errs[0] = pack(u.Mounts)
	l.rules, errs[1] = pack(u.Rules)
	l.protocols, errs[2] = pack(u.Protocols)
	l.networks, errs[3] = pack(u.Networks)
	l.hours, errs[4] = pack(u.Hours)
	l.auth, errs[5] = pack(u.Auth)
	for _, err := range errs {
		if err != nil {
			return nil, fault.New(fault.Invalid, "save user "+u.Name, "", err)
		}
	}
	return []any{u.Name, u.Comment, bit(u.Disabled), u.PasswordHash, bit(u.MustChange), bit(u.KeyOnly), u.Home, l.mounts, l.rules,
		u.Quota.Bytes, u.Quota.Files, u.Bandwidth.Down, u.Bandwidth.Up, u.MaxSessions, l.protocols, l.networks, l.hours,
		micros(u.Expires), micros(u.CreatedAt), micros(u.UpdatedAt), micros(u.LastLogin), l.auth}, nil
}

func scanGroup(row scanner) (g account.Group, err error) {
	var l lists
	var created, updated int64
	err = row.Scan(&g.ID, &g.Name, &g.Comment, &g.Home, &l.mounts, &l.rules, &g.Quota.Bytes, &g.Quota.Files,
		&g.Bandwidth.Down, &g.Bandwidth.Up, &g.MaxSessions, &l.protocols, &l.networks, &l.hours, &created, &updated, &l.auth)
	if err != nil {
		return g, err
	}
	g.CreatedAt, g.UpdatedAt = unmicros(created), unmicros(updated)
	for _, err := range []error{
		unpack("groups.mounts", l.mounts, &g.Mounts), unpack("groups.rules", l.rules, &g.Rules), unpack("groups.protocols", l.protocols, &g.Protocols),
		unpack("groups.networks", l.networks, &g.Networks), unpack("groups.hours", l.hours, &g.Hours),
		unpack("groups.auth", l.auth, &g.Auth),
	} {
		if err != nil {
			return g, fmt.Errorf("group %s: %w", g.Name, err)
		}
	}
	return g, nil
}

func groupValues(g account.Group) ([]any, error) {
	var l lists
	var errs [6]error
	l.mounts, errs[0] = pack(g.Mounts)
	l.rules, errs[1] = pack(g.Rules)
	l.protocols, errs[2] = pack(g.Protocols)
	l.networks, errs[3] = pack(g.Networks)
	l.hours, errs[4] = pack(g.Hours)
	l.auth, errs[5] = pack(g.Auth)
	for _, err := range errs {
		if err != nil {
			return nil, fault.New(fault.Invalid, "save group "+g.Name, "", err)
		}
	}
	return []any{g.Name, g.Comment, g.Home, l.mounts, l.rules, g.Quota.Bytes, g.Quota.Files,
		g.Bandwidth.Down, g.Bandwidth.Up, g.MaxSessions, l.protocols, l.networks, l.hours, micros(g.CreatedAt), micros(g.UpdatedAt), l.auth}, nil
}

// one runs a statement that must change exactly the row of that name.
func one(ctx context.Context, q tx, what, name, query string, args ...any) error {
	res, err := q.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = fault.New(fault.NotExist, "change "+what, "", fmt.Errorf("there is no %s %q", what, name))
	}
	return err
}

// free refuses a name that is taken, in words; the unique index is the guard.
func (db *DB) free(ctx context.Context, q tx, what, table, name string) error {
	var n int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE name = $1`, name).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Exist, "save "+what, "", fmt.Errorf("there is a %s %q already", what, name))
	}
	return nil
}

// collect reads a query of one column.
func collect[T any](ctx context.Context, q tx, query string, args ...any) (list []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}
