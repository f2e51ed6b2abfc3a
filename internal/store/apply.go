package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Names choose objects of each kind; tokens by id.
type Names struct{ Groups, Users, Administrators, Tokens []string }

// Present is what the database has: the objects that were asked for, as far as
// they exist, and the names of all others.
type Present struct {
	Groups         []account.Group // all of them
	Users          []account.User
	Administrators []account.Administrator // all of them
	Tokens         []account.Token         // all of them
	OtherUsers     []string
	// User reads one of the others, while the plan is made.
	User func(name string) (account.User, error)
}

// Writes are changes to make together. What has an ID is changed, what has
// none is made. Password hashes and second factors stay as they are.
type Writes struct {
	Groups         []account.Group
	Users          []account.User
	Administrators []account.Administrator
	Drop           Names
}

// Apply shows what there is to plan and carries out what it returns, in one
// transaction: all of it or nothing. An error of plan is returned as it is.
// plan must not call the DB but through Present. fault.Busy when a dropped group has members left.
func (db *DB) Apply(ctx context.Context, users []string, plan func(Present) (Writes, error)) error {
	var refused error
	err := db.update(ctx, "apply a state", func(q tx) error {
		now, err := db.present(ctx, q, users)
		if err != nil {
			return err
		}
		var w Writes
		if w, refused = plan(now); refused != nil {
			return refused
		}
		return db.carryOut(ctx, q, w)
	})
	if refused != nil {
		return refused
	}
	return err
}

func (db *DB) present(ctx context.Context, q tx, users []string) (p Present, err error) {
	p.User = func(name string) (account.User, error) { return db.userByName(ctx, q, name) }
	names, err := collect[string](ctx, q, `SELECT name FROM groups ORDER BY name`)
	for _, name := range names {
		g, gerr := groupByName(ctx, q, name)
		p.Groups, err = append(p.Groups, g), errors.Join(err, gerr)
	}
	if err != nil {
		return p, err
	}
	if p.OtherUsers, err = collect[string](ctx, q, `SELECT name FROM users ORDER BY name`); err != nil {
		return p, err
	}
	p.OtherUsers = slices.DeleteFunc(p.OtherUsers, func(n string) bool { return slices.Contains(users, n) })
	for _, name := range users {
		u, err := db.userByName(ctx, q, name)
		if err != nil && fault.KindOf(err) != fault.NotExist {
			return p, err
		}
		if err == nil {
			p.Users = append(p.Users, u)
		}
	}
	if names, err = collect[string](ctx, q, `SELECT name FROM administrators ORDER BY name`); err != nil {
		return p, err
	}
	for _, name := range names {
		a, err := administratorByName(ctx, q, name)
		if err != nil {
			return p, err
		}
		p.Administrators = append(p.Administrators, a)
	}
	p.Tokens, err = tokens(ctx, q, "")
	return p, err
}

func (db *DB) carryOut(ctx context.Context, q tx, w Writes) error {
	// What goes makes room first; groups go last, when their members have gone or changed.
	for _, d := range []struct {
		names []string
		drop  func(ctx context.Context, q tx, name string) error
	}{{w.Drop.Users, dropUser}, {w.Drop.Tokens, dropToken}, {w.Drop.Administrators, dropAdministrator}} {
		for _, name := range d.names {
			if err := d.drop(ctx, q, name); err != nil {
				return err
			}
		}
	}
	for _, g := range w.Groups {
		var err error
		if g.ID == 0 {
			err = db.insertGroup(ctx, q, g)
		} else {
			err = db.putGroup(ctx, q, g)
		}
		if err != nil {
			return err
		}
	}
	for _, u := range w.Users {
		var err error
		if u.ID == 0 {
			err = db.insertUser(ctx, q, u)
		} else {
			err = db.updateUser(ctx, q, u.Name, func(old *account.User) error {
				hash, last := old.PasswordHash, old.LastLogin
				*old = u
				old.PasswordHash, old.LastLogin = hash, last
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	for _, a := range w.Administrators {
		var err error
		if a.ID == 0 {
			_, err = db.insertAdministrator(ctx, q, a)
		} else {
			err = putAdministrator(ctx, q, a)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range w.Drop.Groups {
		if err := dropGroup(ctx, q, name); err != nil {
			return err
		}
	}
	return nil
}

func dropUser(ctx context.Context, q tx, name string) error {
	if _, err := q.ExecContext(ctx, dropCodes(UserCodes), name); err != nil {
		return err
	}
	if err := one(ctx, q, "user", name, `DELETE FROM users WHERE name = $1`, name); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `DELETE FROM quota WHERE account = $1`, name)
	return err
}

func dropAdministrator(ctx context.Context, q tx, name string) error {
	if _, err := q.ExecContext(ctx, dropCodes(AdministratorCodes), name); err != nil {
		return err
	}
	return one(ctx, q, "administrator", name, `DELETE FROM administrators WHERE name = $1`, name)
}

func dropToken(ctx context.Context, q tx, id string) error {
	return one(ctx, q, "token", id, `DELETE FROM tokens WHERE id = $1`, id)
}

func dropGroup(ctx context.Context, q tx, name string) error {
	var n int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM memberships m JOIN groups g ON g.id = m.group_id WHERE g.name = $1`, name).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Busy, "delete group "+name, "", fmt.Errorf("group %q has %d members; take them out first", name, n))
	}
	return one(ctx, q, "group", name, `DELETE FROM groups WHERE name = $1`, name)
}
