package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// CreateAll stores groups and users in one transaction: all of them or none.
// Every one that cannot be stored is named in the error, whose kind is that of
// the first. PasswordHash is taken as it is.
func (db *DB) CreateAll(ctx context.Context, groups []account.Group, users []account.User) error {
	return db.update(ctx, "store accounts", func(q tx) error {
		var bad []error
		note := func(what, name string, err error) bool {
			switch fault.KindOf(err) {
			case fault.None:
				return false
			case fault.Exist, fault.Invalid, fault.NotExist:
				bad = append(bad, fmt.Errorf("%s %s: %w", what, name, err))
				return true
			}
			bad = append(bad, err) // the database itself: the rest makes no sense
			return true
		}
		for _, g := range groups {
			if note("group", g.Name, db.insertGroup(ctx, q, g)) && fault.KindOf(bad[len(bad)-1]) == fault.Unavailable {
				return bad[len(bad)-1]
			}
		}
		for _, u := range users {
			if note("user", u.Name, db.insertUser(ctx, q, u)) && fault.KindOf(bad[len(bad)-1]) == fault.Unavailable {
				return bad[len(bad)-1]
			}
		}
		if len(bad) > 0 {
			return fault.New(fault.KindOf(bad[0]), "", "", errors.Join(bad...))
		}
		return nil
	})
}

func (db *DB) insertGroup(ctx context.Context, q tx, g account.Group) error {
	if err := g.Validate(); err != nil {
		return err
	}
	g.CreatedAt = now()
	g.UpdatedAt = g.CreatedAt
	if err := db.free(ctx, q, "group", "groups", g.Name); err != nil {
		return err
	}
	args, err := groupValues(g)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO groups (`+groupColumns+`)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`, args...)
	return err
}

func (db *DB) insertUser(ctx context.Context, q tx, u account.User) error {
	if err := u.Validate(); err != nil {
		return err
	}
	u.CreatedAt = now()
	u.UpdatedAt = u.CreatedAt
	if err := db.free(ctx, q, "user", "users", u.Name); err != nil {
		return err
	}
	args, err := userValues(u)
	if err != nil {
		return err
	}
	err = q.QueryRowContext(ctx, `INSERT INTO users (`+userColumns+`)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22) RETURNING id`, args...).Scan(&u.ID)
	if err != nil {
		return err
	}
	return db.saveLists(ctx, q, u)
}
