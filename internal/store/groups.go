package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// groupColumns is the order of scanGroup and groupValues, after id.
const groupColumns = `name, comment, home, mounts, rules, quota_bytes, quota_files,
	bandwidth_down, bandwidth_up, max_sessions, protocols, networks, hours, created_at, updated_at, auth`

// CreateGroup stores a new group and returns it with ID and times filled in;
// fault.Exist, fault.Invalid.
func (db *DB) CreateGroup(ctx context.Context, g account.Group) (account.Group, error) {
	if err := g.Validate(); err != nil {
		return account.Group{}, err
	}
	g.CreatedAt = now()
	g.UpdatedAt = g.CreatedAt
	err := db.update(ctx, "create group "+g.Name, func(q tx) error {
		if err := db.free(ctx, q, "group", "groups", g.Name); err != nil {
			return err
		}
		args, err := groupValues(g)
		if err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `INSERT INTO groups (`+groupColumns+`)
			VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16) RETURNING id`, args...).Scan(&g.ID)
	})
	if err != nil {
		return account.Group{}, err
	}
	return g, nil
}

// GroupByName returns the group of exactly that name; fault.NotExist.
func (db *DB) GroupByName(ctx context.Context, name string) (g account.Group, err error) {
	err = db.view(ctx, "load group "+name, func(q tx) error {
		g, err = groupByName(ctx, q, name)
		return err
	})
	return g, err
}

func groupByName(ctx context.Context, q tx, name string) (account.Group, error) {
	g, err := scanGroup(q.QueryRowContext(ctx, `SELECT id, `+groupColumns+` FROM groups WHERE name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		err = fault.New(fault.NotExist, "load group", "", fmt.Errorf("there is no group %q", name))
	}
	if err != nil {
		return account.Group{}, err
	}
	return g, nil
}

// UpdateGroup loads the group, lets change alter it and stores it, in one
// transaction; as UpdateUser. Members follow a new name.
func (db *DB) UpdateGroup(ctx context.Context, name string, change func(*account.Group) error) error {
	var refused error
	err := db.update(ctx, "update group "+name, func(q tx) error {
		old, err := groupByName(ctx, q, name)
		if err != nil {
			return err
		}
		g := old
		if refused = change(&g); refused != nil {
			return refused
		}
		g.ID, g.CreatedAt = old.ID, old.CreatedAt
		if g.Name != old.Name {
			if err := db.free(ctx, q, "group", "groups", g.Name); err != nil {
				return err
			}
		}
		return db.putGroup(ctx, q, g)
	})
	if refused != nil {
		return refused
	}
	return err
}

// putGroup stores the group that has g's ID.
func (db *DB) putGroup(ctx context.Context, q tx, g account.Group) error {
	g.UpdatedAt = now()
	if err := g.Validate(); err != nil {
		return err
	}
	args, err := groupValues(g)
	if err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `UPDATE groups SET name=$1, comment=$2, home=$3, mounts=$4, rules=$5, quota_bytes=$6, quota_files=$7,
		bandwidth_down=$8, bandwidth_up=$9, max_sessions=$10, protocols=$11, networks=$12, hours=$13, created_at=$14, updated_at=$15, auth=$16
		WHERE id=$17`, append(args, g.ID)...)
	return err
}

// DeleteGroup removes a group without members; fault.NotExist, fault.Busy when
// it has some, because their rights would change unseen.
func (db *DB) DeleteGroup(ctx context.Context, name string) error {
	return db.update(ctx, "delete group "+name, func(q tx) error { return dropGroup(ctx, q, name) })
}

// ListGroups pages through the groups in name order, as ListUsers.
func (db *DB) ListGroups(ctx context.Context, after string, limit int) (gs []account.Group, err error) {
	err = db.view(ctx, "list groups", func(q tx) error {
		rows, err := q.QueryContext(ctx, `SELECT id, `+groupColumns+` FROM groups WHERE name > $1 ORDER BY name LIMIT $2`, after, pageSize(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			g, err := scanGroup(rows)
			if err != nil {
				return err
			}
			gs = append(gs, g)
		}
		return rows.Err()
	})
	return gs, err
}

// CountGroups returns how many groups there are.
func (db *DB) CountGroups(ctx context.Context) (n int64, err error) {
	err = db.view(ctx, "count groups", func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT count(*) FROM groups`).Scan(&n)
	})
	return n, err
}

// MembersOf returns the names of the group's members after the given one, in
// name order, paged as ListUsers; fault.NotExist when there is no such group.
func (db *DB) MembersOf(ctx context.Context, group, after string, limit int) (names []string, err error) {
	err = db.view(ctx, "list members of "+group, func(q tx) error {
		g, err := groupByName(ctx, q, group)
		if err != nil {
			return err
		}
		names, err = collect[string](ctx, q, `SELECT u.name FROM memberships m JOIN users u ON u.id = m.user_id
			WHERE m.group_id = $1 AND u.name > $2 ORDER BY u.name LIMIT $3`, g.ID, after, pageSize(limit))
		return err
	})
	return names, err
}
