package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

const deliveryColumns = `id, message, hook, event, kind, body, created_at, next_at, tries, dead_at, problem`

func scanDelivery(row scanner) (d events.Delivery, err error) {
	var kind, body string
	var created, next, dead int64
	err = row.Scan(&d.ID, &d.Message, &d.Hook, &d.Event, &kind, &body, &created, &next, &d.Tries, &dead, &d.Problem)
	d.Kind, d.Body, d.Created, d.Next, d.Dead = events.Kind(kind), []byte(body), unmicros(created), unmicros(next), unmicros(dead)
	return d, err
}

// Enqueue puts deliveries into the outbox, all or none, due at once. One whose
// message is there already is left as it is, so it may be called again.
func (db *DB) Enqueue(ctx context.Context, ds []events.Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	return db.update(ctx, "store deliveries", func(q tx) error {
		at := micros(now())
		for i := range ds {
			d := &ds[i]
			_, err := q.ExecContext(ctx, `INSERT INTO deliveries (message, hook, event, kind, body, created_at, next_at, tries, claimed, dead_at, problem)
				VALUES ($1,$2,$3,$4,$5,$6,$6,0,0,0,'') ON CONFLICT (message) DO NOTHING`, d.Message, d.Hook, d.Event, string(d.Kind), plain(string(d.Body)), at)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ClaimDeliveries takes up to limit deliveries of a hook that are due, the
// oldest first. Nobody else gets them until they are put back or forgotten.
func (db *DB) ClaimDeliveries(ctx context.Context, hook string, at time.Time, limit int) (ds []events.Delivery, err error) {
	err = db.update(ctx, "claim deliveries", func(q tx) error {
		rows, err := q.QueryContext(ctx, `UPDATE deliveries SET claimed = 1 WHERE id IN
			(SELECT id FROM deliveries WHERE hook = $1 AND dead_at = 0 AND claimed = 0 AND next_at <= $2 ORDER BY next_at, id LIMIT $3)
			RETURNING `+deliveryColumns, hook, micros(at), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d, err := scanDelivery(rows)
			if err != nil {
				return err
			}
			ds = append(ds, d)
		}
		return rows.Err()
	})
	slices.SortFunc(ds, func(a, b events.Delivery) int { return int(a.ID - b.ID) }) // RETURNING has no order
	return ds, err
}

// NextDelivery tells when the next delivery of a hook is due; zero: there is none.
func (db *DB) NextDelivery(ctx context.Context, hook string) (at time.Time, err error) {
	err = db.view(ctx, "find the next delivery", func(q tx) error {
		var v int64
		err := q.QueryRowContext(ctx, `SELECT coalesce(min(next_at), 0) FROM deliveries WHERE hook = $1 AND dead_at = 0 AND claimed = 0`, hook).Scan(&v)
		at = unmicros(v)
		return err
	})
	return at, err
}

// ForgetDeliveries removes deliveries that have arrived.
func (db *DB) ForgetDeliveries(ctx context.Context, ids []int64) error {
	return db.update(ctx, "forget deliveries", func(q tx) error {
		for _, id := range ids {
			if _, err := q.ExecContext(ctx, `DELETE FROM deliveries WHERE id = $1`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutBackDeliveries returns what was claimed. d.Tries, Next, Dead and Problem are stored.
func (db *DB) PutBackDeliveries(ctx context.Context, ds []events.Delivery) error {
	return db.update(ctx, "put deliveries back", func(q tx) error {
		for i := range ds {
			d := &ds[i]
			if _, err := q.ExecContext(ctx, `UPDATE deliveries SET claimed = 0, tries = $2, next_at = $3, dead_at = $4, problem = $5 WHERE id = $1`,
				d.ID, d.Tries, micros(d.Next), micros(d.Dead), plain(d.Problem)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ResumeDeliveries makes what a process was delivering when it ended due
// again, and gives up what waits for hooks that are not among those named. It
// returns how many were given up.
func (db *DB) ResumeDeliveries(ctx context.Context, hooks []string) (orphans int64, err error) {
	err = db.update(ctx, "resume deliveries", func(q tx) error {
		if _, err := q.ExecContext(ctx, `UPDATE deliveries SET claimed = 0 WHERE claimed = 1`); err != nil {
			return err
		}
		args := []any{micros(now()), "the hook is no longer in the configuration"}
		cond := ""
		if len(hooks) > 0 {
			marks := make([]string, len(hooks))
			for i, h := range hooks {
				args = append(args, h)
				marks[i] = fmt.Sprintf("$%d", len(args))
			}
			cond = ` AND hook NOT IN (` + strings.Join(marks, ",") + `)`
		}
		res, err := q.ExecContext(ctx, `UPDATE deliveries SET dead_at = $1, problem = $2 WHERE dead_at = 0`+cond, args...)
		if err != nil {
			return err
		}
		orphans, err = res.RowsAffected()
		return err
	})
	return orphans, err
}

// DeadDeliveries lists what was given up, the oldest first: numbers after
// after, 100 when limit is 0, 1,000 at most.
func (db *DB) DeadDeliveries(ctx context.Context, after int64, limit int) (ds []events.Delivery, err error) {
	err = db.view(ctx, "list dead deliveries", func(q tx) error {
		rows, err := q.QueryContext(ctx, `SELECT `+deliveryColumns+` FROM deliveries WHERE dead_at > 0 AND id > $1 ORDER BY id LIMIT $2`, after, pageSize(limit))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			d, err := scanDelivery(rows)
			if err != nil {
				return err
			}
			ds = append(ds, d)
		}
		return rows.Err()
	})
	return ds, err
}

// RetryDelivery makes a dead delivery due again, with all its tries; 0 is all
// of them. It returns how many there were; fault.NotExist for a number that is not dead.
func (db *DB) RetryDelivery(ctx context.Context, id int64) (n int64, err error) {
	return db.deadOnes(ctx, "retry", id, `UPDATE deliveries SET dead_at = 0, tries = 0, claimed = 0, next_at = created_at WHERE dead_at > 0`)
}

// DropDelivery removes a dead delivery; 0 is all of them. See RetryDelivery.
func (db *DB) DropDelivery(ctx context.Context, id int64) (n int64, err error) {
	return db.deadOnes(ctx, "drop", id, `DELETE FROM deliveries WHERE dead_at > 0`)
}

func (db *DB) deadOnes(ctx context.Context, op string, id int64, query string) (n int64, err error) {
	err = db.update(ctx, op+" dead deliveries", func(q tx) error {
		var args []any
		if id != 0 {
			query, args = query+` AND id = $1`, []any{id}
		}
		res, err := q.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		if n, err = res.RowsAffected(); err == nil && n == 0 && id != 0 {
			err = fault.New(fault.NotExist, op+" delivery", "", fmt.Errorf("there is no dead delivery %d", id))
		}
		return err
	})
	return n, err
}

// TrimDeliveries drops what a hook has more of than may wait and may be dead: of
// events that strangers cause (events.Anybody) first, and the oldest of those.
// What is being delivered stays. It returns how many were dropped.
func (db *DB) TrimDeliveries(ctx context.Context, hook string, limit events.Backlog) (dropped events.Backlog, err error) {
	have := events.Backlog{}
	err = db.look(ctx, "count deliveries of "+hook, func(q tx) error {
		return q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM deliveries WHERE hook = $1 AND dead_at = 0), (SELECT count(*) FROM deliveries WHERE hook = $1 AND dead_at > 0)`, hook).Scan(&have.Waiting, &have.Dead)
	})
	if err != nil || have.Waiting <= limit.Waiting && have.Dead <= limit.Dead {
		return dropped, err
	}
	trim := func(q tx, cond string, n int64) (int64, error) {
		if n <= 0 {
			return 0, nil
		}
		args, marks := []any{hook, n}, []string{}
		for _, k := range events.Anybody {
			args = append(args, string(k))
			marks = append(marks, fmt.Sprintf("$%d", len(args)))
		}
		res, err := q.ExecContext(ctx, `DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE hook = $1 AND claimed = 0 AND `+cond+`
			ORDER BY CASE WHEN kind IN (`+strings.Join(marks, ",")+`) THEN 0 ELSE 1 END, id LIMIT $2)`, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	err = db.update(ctx, "trim deliveries of "+hook, func(q tx) (err error) {
		if dropped.Waiting, err = trim(q, "dead_at = 0", have.Waiting-limit.Waiting); err == nil {
			dropped.Dead, err = trim(q, "dead_at > 0", have.Dead-limit.Dead)
		}
		return err
	})
	return dropped, err
}

// Backlogs counts the deliveries of each hook that has any.
func (db *DB) Backlogs(ctx context.Context) (map[string]events.Backlog, error) {
	out := map[string]events.Backlog{}
	err := db.view(ctx, "count deliveries", func(q tx) error {
		rows, err := q.QueryContext(ctx, `SELECT hook, sum(CASE WHEN dead_at = 0 THEN 1 ELSE 0 END), sum(CASE WHEN dead_at > 0 THEN 1 ELSE 0 END) FROM deliveries GROUP BY hook`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var hook string
			var b events.Backlog
			if err := rows.Scan(&hook, &b.Waiting, &b.Dead); err != nil {
				return err
			}
			out[hook] = b
		}
		return rows.Err()
	})
	return out, err
}
