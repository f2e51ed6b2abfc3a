package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

const eventColumns = `time, kind, node, session, protocol, listener, account, remote, path, target, bytes, took_ns, result, detail`

// Append stores events in one transaction, all or none; it satisfies
// events.Sink. Octets that are not UTF-8, and NUL, are stored as \xHH, because
// names on disk may be any octets and not every database keeps those.
func (db *DB) Append(ctx context.Context, es []events.Event) error {
	if len(es) == 0 {
		return nil
	}
	return db.update(ctx, "store events", func(q tx) error {
		head, err := mark(ctx, q, headFact)
		if err != nil {
			return err
		}
		insert, err := q.PrepareContext(ctx, `INSERT INTO events (id, `+eventColumns+`, hash) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range es {
			e := stored(es[i])
			head.ID++
			head.Hash = link(head.Hash, head.ID, &e)
			_, err := insert.ExecContext(ctx,
				head.ID, micros(e.Time), string(e.Kind), e.Node, e.Session, e.Protocol, e.Listener, e.User, e.Remote,
				e.Path, e.Target, e.Bytes, int64(e.Took), e.Result, e.Detail, head.Hash)
			if err != nil {
				return err
			}
		}
		return setMark(ctx, q, headFact, head)
	})
}

// scanEvent reads a row of id, eventColumns and what more asks for.
func scanEvent(row scanner, e *events.Event, more ...any) error {
	var at, took int64
	var kind string
	err := row.Scan(append([]any{&e.ID, &at, &kind, &e.Node, &e.Session, &e.Protocol, &e.Listener, &e.User, &e.Remote, &e.Path, &e.Target,
		&e.Bytes, &took, &e.Result, &e.Detail}, more...)...)
	e.Time, e.Kind, e.Took, e.Fault = unmicros(at), events.Kind(kind), time.Duration(took), faultOf(e.Result)
	return err
}

// plain makes any octets storable as text.
func plain(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, w := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == utf8.RuneError && w == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		} else {
			b.WriteString(s[i : i+w])
		}
		i += w
	}
	return b.String()
}

// EventFilter chooses events; zero fields choose all.
type EventFilter struct {
	Kinds   []events.Kind
	User    string
	Session string
	Address netip.Addr // of the client, any port
	Path    string     // this file or directory and what is below it, as path or target
	Since   time.Time  // at or after
	Until   time.Time  // before
	Failed  bool       // only what did not succeed
	After   int64      // only larger IDs: what is new since the last call
	Before  int64      // only smaller IDs: the next page of a newest-first list
	Oldest  bool       // oldest first instead of newest first
	Limit   int        // 0: 100, never above 1,000
}

// ListEvents returns the events the filter chooses, newest first unless it says otherwise.
func (db *DB) ListEvents(ctx context.Context, f EventFilter) (es []events.Event, err error) {
	where, args := f.where()
	order := `DESC`
	if f.Oldest {
		order = `ASC`
	}
	args = append(args, pageSize(f.Limit))
	query := `SELECT id, ` + eventColumns + ` FROM events` + where + ` ORDER BY id ` + order + fmt.Sprintf(` LIMIT $%d`, len(args))
	err = db.view(ctx, "list events", func(q tx) error {
		rows, err := q.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e events.Event
			if err := scanEvent(rows, &e); err != nil {
				return err
			}
			es = append(es, e)
		}
		return rows.Err()
	})
	return es, err
}

// where builds the condition; values travel as arguments only.
func (f EventFilter) where() (string, []any) {
	var conds []string
	var args []any
	and := func(cond string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		conds = append(conds, cond)
	}
	if len(f.Kinds) > 0 {
		in := make([]any, len(f.Kinds))
		for i, k := range f.Kinds {
			in[i] = string(k)
		}
		and(`kind IN (`+strings.TrimSuffix(strings.Repeat("?,", len(in)), ",")+`)`, in...)
	}
	if f.User != "" {
		and(`account = ?`, f.User)
	}
	if f.Session != "" {
		and(`session = ?`, f.Session)
	}
	if f.Address.IsValid() {
		// "addr:port"; ';' is the character after ':'.
		host := strings.TrimSuffix(netip.AddrPortFrom(f.Address, 0).String(), "0")
		and(`remote >= ? AND remote < ?`, host, strings.TrimSuffix(host, ":")+";")
	}
	if f.Path != "" {
		name := plain(f.Path)
		below := strings.TrimSuffix(name, "/") + "/"
		end := strings.TrimSuffix(below, "/") + "0" // '0' is the character after '/'
		and(`(path = ? OR (path >= ? AND path < ?) OR target = ? OR (target >= ? AND target < ?))`, name, below, end, name, below, end)
	}
	if !f.Since.IsZero() {
		and(`time >= ?`, micros(f.Since))
	}
	if !f.Until.IsZero() {
		and(`time < ?`, micros(f.Until))
	}
	if f.Failed {
		and(`result <> 'ok'`)
	}
	if f.After > 0 {
		and(`id > ?`, f.After)
	}
	if f.Before > 0 {
		and(`id < ?`, f.Before)
	}
	if len(conds) == 0 {
		return "", args
	}
	return ` WHERE ` + strings.Join(conds, ` AND `), args
}

func faultOf(result string) fault.Kind {
	if result == "ok" {
		return fault.None
	}
	for _, k := range fault.Kinds() {
		if k.String() == result {
			return k
		}
	}
	return fault.Internal // written by a newer version
}

// pruneStep keeps the writer free between the steps of a large prune.
const pruneStep = 5000

// PruneEvents removes the oldest events, up to the first one that is not from
// before that time, and returns how many. The chain then begins after them.
// Only whole beginnings go: an event with a wrong early time stays until those
// in front of it may go.
func (db *DB) PruneEvents(ctx context.Context, before time.Time) (removed int64, err error) {
	for {
		var n int64
		err := db.update(ctx, "prune events", func(q tx) error {
			var last Mark
			err := q.QueryRowContext(ctx, `SELECT id, hash FROM (SELECT id, hash, time FROM events ORDER BY id LIMIT $2) AS oldest
				WHERE id < (SELECT coalesce(min(id), 9223372036854775807) FROM events WHERE time >= $1) ORDER BY id DESC LIMIT 1`,
				micros(before), pruneStep).Scan(&last.ID, &last.Hash)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			res, err := q.ExecContext(ctx, `DELETE FROM events WHERE id <= $1`, last.ID)
			if err != nil {
				return err
			}
			if n, err = res.RowsAffected(); err != nil {
				return err
			}
			old, err := mark(ctx, q, anchorFact)
			if err != nil || old.ID >= last.ID { // they were older than the chain
				return err
			}
			return setMark(ctx, q, anchorFact, last)
		})
		removed += n
		if err != nil || n < pruneStep {
			return removed, err
		}
	}
}

// EventsAfter returns the events with larger numbers, oldest first.
func (db *DB) EventsAfter(ctx context.Context, id int64, limit int) ([]events.Event, error) {
	return db.ListEvents(ctx, EventFilter{After: max(id, 0), Oldest: true, Limit: limit})
}

const cursorFact = "events.cursor."

// Cursor returns the last event a reader has dealt with. See events.Trail.
func (db *DB) Cursor(ctx context.Context, reader string) (id int64, ok bool, err error) {
	v, err := db.Meta(ctx, cursorFact+reader)
	if fault.KindOf(err) == fault.NotExist {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if id, err = strconv.ParseInt(v, 10, 64); err != nil {
		return 0, false, fault.New(fault.Unavailable, "read cursor "+reader, "", err)
	}
	return id, true, nil
}

// SetCursor keeps how far a reader has come.
func (db *DB) SetCursor(ctx context.Context, reader string, id int64) error {
	return db.SetMeta(ctx, cursorFact+reader, strconv.FormatInt(id, 10))
}

// DropCursor forgets a reader; it begins anew, as one that was never there.
func (db *DB) DropCursor(ctx context.Context, reader string) error {
	return db.DeleteMeta(ctx, cursorFact+reader)
}
