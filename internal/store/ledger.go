package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// QuotaUsed returns what an account has stored; zero when nothing is known. The
// name is a user's, or "mount:" and the source of a mount.
func (db *DB) QuotaUsed(ctx context.Context, name string) (bytes, files int64, err error) {
	err = db.look(ctx, "read quota use of "+name, func(q tx) error {
		err := q.QueryRowContext(ctx, `SELECT used_bytes, used_files FROM quota WHERE account = $1`, name).Scan(&bytes, &files)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return bytes, files, err
}

// AddQuota adds to, or takes from, what an account has stored. It never goes
// below zero: files may have been removed behind our back.
func (db *DB) AddQuota(ctx context.Context, name string, dBytes, dFiles int64) error {
	return db.update(ctx, "add quota use of "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `INSERT INTO quota (account, used_bytes, used_files, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account) DO UPDATE SET
			used_bytes = CASE WHEN quota.used_bytes + $5 < 0 THEN 0 ELSE quota.used_bytes + $5 END,
			used_files = CASE WHEN quota.used_files + $6 < 0 THEN 0 ELSE quota.used_files + $6 END,
			updated_at = $4`, name, max(dBytes, 0), max(dFiles, 0), micros(now()), dBytes, dFiles)
		return err
	})
}

// SetQuota records what a rescan found.
func (db *DB) SetQuota(ctx context.Context, name string, bytes, files int64) error {
	if bytes < 0 || files < 0 {
		return fault.New(fault.Invalid, "set quota use of "+name, "", fmt.Errorf("%d bytes in %d files", bytes, files))
	}
	return db.update(ctx, "set quota use of "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `INSERT INTO quota (account, used_bytes, used_files, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account) DO UPDATE SET used_bytes = $2, used_files = $3, updated_at = $4`, name, bytes, files, micros(now()))
		return err
	})
}

// renameQuota moves the use along with the user; what a former user of the new
// name may have left behind gives way.
func renameQuota(ctx context.Context, q tx, from, to string) error {
	if _, err := q.ExecContext(ctx, `DELETE FROM quota WHERE account = $1`, to); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, `UPDATE quota SET account = $2 WHERE account = $1`, from, to)
	return err
}

// Ban is a network that is kept out.
type Ban struct {
	Network netip.Prefix
	Until   time.Time // zero: for ever
	Reason  string
	Created time.Time
}

// SaveBan adds a ban or replaces the one of the same network. A zero time means for ever.
func (db *DB) SaveBan(ctx context.Context, network netip.Prefix, until time.Time, reason string) error {
	if !network.IsValid() {
		return fault.Text(fault.Invalid, "a ban needs a network like 192.0.2.0/24")
	}
	key := network.Masked().String()
	return db.update(ctx, "ban "+key, func(q tx) error {
		_, err := q.ExecContext(ctx, `INSERT INTO bans (network, reason, created_at, until) VALUES ($1, $2, $3, $4)
			ON CONFLICT (network) DO UPDATE SET reason = $2, created_at = $3, until = $4`, key, plain(reason), micros(now()), micros(until))
		return err
	})
}

// DeleteBan lifts the ban of exactly this network; fault.NotExist.
func (db *DB) DeleteBan(ctx context.Context, network netip.Prefix) error {
	key := network.Masked().String()
	return db.update(ctx, "lift ban "+key, func(q tx) error {
		return one(ctx, q, "ban of", key, `DELETE FROM bans WHERE network = $1`, key)
	})
}

// ListBans returns the bans that hold at the given time, oldest first.
func (db *DB) ListBans(ctx context.Context, at time.Time) (bans []Ban, err error) {
	err = db.view(ctx, "list bans", func(q tx) error {
		rows, err := q.QueryContext(ctx, `SELECT network, reason, created_at, until FROM bans WHERE until = 0 OR until > $1 ORDER BY created_at, network`, micros(at))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var b Ban
			var network string
			var created, until int64
			if err := rows.Scan(&network, &b.Reason, &created, &until); err != nil {
				return err
			}
			if b.Network, err = netip.ParsePrefix(network); err != nil {
				return fault.New(fault.Unavailable, "read ban", "", err)
			}
			b.Created, b.Until = unmicros(created), unmicros(until)
			bans = append(bans, b)
		}
		return rows.Err()
	})
	return bans, err
}

// PruneBans removes the bans that have ended and returns how many.
func (db *DB) PruneBans(ctx context.Context, at time.Time) (removed int64, err error) {
	err = db.update(ctx, "prune bans", func(q tx) error {
		res, err := q.ExecContext(ctx, `DELETE FROM bans WHERE until <> 0 AND until <= $1`, micros(at))
		if err != nil {
			return err
		}
		removed, err = res.RowsAffected()
		return err
	})
	return removed, err
}

// Meta returns a small named fact; fault.NotExist.
func (db *DB) Meta(ctx context.Context, name string) (value string, err error) {
	err = db.view(ctx, "read fact "+name, func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = $1`, name).Scan(&value)
	})
	return value, err
}

// SetMeta stores a small named fact.
func (db *DB) SetMeta(ctx context.Context, name, value string) error {
	return db.update(ctx, "store fact "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2`, name, value)
		return err
	})
}

// DeleteMeta removes a fact; it is no error when there is none.
func (db *DB) DeleteMeta(ctx context.Context, name string) error {
	return db.update(ctx, "remove fact "+name, func(q tx) error {
		_, err := q.ExecContext(ctx, `DELETE FROM meta WHERE name = $1`, name)
		return err
	})
}
