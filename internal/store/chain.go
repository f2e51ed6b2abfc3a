package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// The event table is a chain: every row holds the SHA-256 of the previous row's
// hash and of its own columns, its number included. A row that was altered,
// removed or put in between breaks it. Two facts belong to it: the anchor, the
// row before the oldest one kept, and the head, the newest row, without which
// rows cut off at the end would not be missed.
//
// The chain has no secret. Who can write to the database can forge all of it,
// so the head is also written to the log now and then: a copy that is kept
// elsewhere proves everything up to it (VerifyEvents takes such a mark).
const (
	anchorFact = "events.anchor"
	headFact   = "events.head"
)

// Mark names a row of the chain: its number and its hash, in hex.
type Mark struct {
	ID   int64
	Hash string
}

// String writes a mark as ParseMark reads it: "1234:9f86d0...".
func (m Mark) String() string { return strconv.FormatInt(m.ID, 10) + ":" + m.Hash }

// ParseMark reads a mark; fault.Invalid.
func ParseMark(s string) (Mark, error) {
	id, sum, ok := strings.Cut(strings.TrimSpace(s), ":")
	n, err := strconv.ParseInt(id, 10, 64)
	if b, herr := hex.DecodeString(sum); !ok || err != nil || n < 0 || herr != nil || len(b) != sha256.Size {
		return Mark{}, fault.Text(fault.Invalid, fmt.Sprintf("%q is not a mark of the event chain; it looks like 1234: and 64 hex digits", s))
	}
	return Mark{n, strings.ToLower(sum)}, nil
}

// link is the hash of an event that follows the one of hash prev. Every column
// is preceded by its length, so that no two rows give the same octets.
func link(prev string, id int64, e *events.Event) string {
	h := sha256.New()
	text(h, prev)
	number(h, id)
	number(h, micros(e.Time))
	for _, s := range [...]string{string(e.Kind), e.Node, e.Session, e.Protocol, e.Listener, e.User, e.Remote, e.Path, e.Target} {
		text(h, s)
	}
	number(h, e.Bytes)
	number(h, int64(e.Took))
	text(h, e.Result)
	text(h, e.Detail)
	return hex.EncodeToString(h.Sum(nil))
}

func number(h hash.Hash, n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func text(h hash.Hash, s string) {
	number(h, int64(len(s)))
	h.Write([]byte(s))
}

// stored is the event as its row holds it, so that the hash can be made again
// from what is read.
func stored(e events.Event) events.Event {
	e.Node, e.Session, e.Protocol, e.Listener, e.User = plain(e.Node), plain(e.Session), plain(e.Protocol), plain(e.Listener), plain(e.User)
	e.Remote, e.Path, e.Target, e.Detail = plain(e.Remote), plain(e.Path), plain(e.Target), plain(e.Detail)
	e.Kind = events.Kind(plain(string(e.Kind)))
	e.Result = events.ResultOf(e.Fault)
	return e
}

func mark(ctx context.Context, q tx, fact string) (Mark, error) {
	var v string
	if err := q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = $1`, fact).Scan(&v); err != nil {
		return Mark{}, fmt.Errorf("the fact %s of the event chain: %w", fact, err)
	}
	m, err := ParseMark(v)
	if err != nil {
		return Mark{}, fault.New(fault.Unavailable, "read the event chain", "", fmt.Errorf("the fact %s is damaged: %w", fact, err))
	}
	return m, nil
}

func setMark(ctx context.Context, q tx, fact string, m Mark) error {
	_, err := q.ExecContext(ctx, `UPDATE meta SET value = $2 WHERE name = $1`, fact, m.String())
	return err
}

// EventHead returns the mark of the newest event. Kept elsewhere, it lets
// VerifyEvents prove that nothing up to it was changed.
func (db *DB) EventHead(ctx context.Context) (m Mark, err error) {
	err = db.view(ctx, "read the head of the event chain", func(q tx) error {
		m, err = mark(ctx, q, headFact)
		return err
	})
	return m, err
}

// Verdict is what VerifyEvents found.
type Verdict struct {
	Checked int64   `json:"checked"`          // rows whose hash was made again
	First   int64   `json:"first"`            // number of the oldest of them
	Last    int64   `json:"last"`             // and of the newest
	Head    string  `json:"head"`             // mark of the newest row
	Before  int64   `json:"before,omitempty"` // rows older than the chain, which nothing protects
	Broken  []Break `json:"broken,omitempty"` // at most maxBreaks
}

// Break is a place where the chain does not hold.
type Break struct {
	ID   int64  `json:"id"`
	What string `json:"what"`
}

const maxBreaks = 20

// verifyStep is how many rows one transaction reads, so that a long check does
// not keep the write-ahead log from being folded in.
const verifyStep = 5000

// VerifyEvents makes the chain again from the rows and compares. Marks taken
// earlier and kept elsewhere are checked, too. Events that are written
// meanwhile do not disturb it. An error means that it could not be done; what
// it found is in the verdict.
func (db *DB) VerifyEvents(ctx context.Context, marks ...Mark) (v Verdict, err error) {
	var anchor, head Mark
	err = db.view(ctx, "verify events", func(q tx) error {
		if anchor, err = mark(ctx, q, anchorFact); err != nil {
			return err
		}
		if head, err = mark(ctx, q, headFact); err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE id <= $1`, anchor.ID).Scan(&v.Before)
	})
	if err != nil {
		return v, err
	}
	known := map[int64]string{head.ID: head.Hash}
	for _, m := range marks {
		if m.ID > head.ID {
			v.broken(m.ID, "the mark names an event that does not exist: events were removed at the end")
		} else if old, ok := known[m.ID]; ok && old != m.Hash {
			v.broken(m.ID, "the mark differs from the stored head: the chain was written anew")
		}
		if m.ID > anchor.ID { // older ones went with their rows
			known[m.ID] = m.Hash
		}
	}
	last := anchor
	for last.ID < head.ID && len(v.Broken) < maxBreaks {
		n := int64(0)
		err = db.view(ctx, "verify events", func(q tx) error {
			n, err = v.rows(ctx, q, &last, head.ID, known)
			return err
		})
		if err != nil {
			return v, err
		}
		if n == 0 {
			break
		}
	}
	if last.ID < head.ID && len(v.Broken) < maxBreaks {
		v.broken(last.ID+1, fmt.Sprintf("events are missing at the end: the last one is %d and should be %d", last.ID, head.ID))
	}
	v.Last, v.Head = last.ID, last.String()
	return v, nil
}

// rows checks one step of rows after last, which it moves on.
func (v *Verdict) rows(ctx context.Context, q tx, last *Mark, until int64, known map[int64]string) (n int64, err error) {
	rows, err := q.QueryContext(ctx, `SELECT id, `+eventColumns+`, hash FROM events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`, last.ID, until, verifyStep)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var e events.Event
		var sum string
		if err := scanEvent(rows, &e, &sum); err != nil {
			return n, err
		}
		n++
		if v.Checked++; v.First == 0 {
			v.First = e.ID
		}
		want := link(last.Hash, e.ID, &e)
		switch {
		case e.ID != last.ID+1:
			v.broken(last.ID+1, fmt.Sprintf("events %d to %d are missing", last.ID+1, e.ID-1))
		case sum != want:
			v.broken(e.ID, "the event was changed after it was written, or does not belong here")
		case known[e.ID] != "" && known[e.ID] != sum:
			v.broken(e.ID, "the event differs from the mark that was taken of it: the chain was written anew")
		}
		// Going on with what is stored shows every further break once.
		*last = Mark{e.ID, sum}
	}
	return n, rows.Err()
}

func (v *Verdict) broken(id int64, what string) {
	if len(v.Broken) < maxBreaks {
		v.Broken = append(v.Broken, Break{id, what})
	}
}

// Err is nil for a chain that holds, else says where it breaks first.
func (v Verdict) Err() error {
	if len(v.Broken) == 0 {
		return nil
	}
	return errors.New("event " + strconv.FormatInt(v.Broken[0].ID, 10) + ": " + v.Broken[0].What)
}
