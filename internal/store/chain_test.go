package store

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

func chained(t *testing.T, n int) *DB {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), FileName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for i := range n {
		appendOne(t, db, i)
	}
	return db
}

func appendOne(t *testing.T, db *DB, i int) {
	t.Helper()
	e := events.Event{Time: time.Unix(1_800_000_000+int64(i), 0), Kind: events.Upload, User: "ann", Path: fmt.Sprintf("/f%d\x00\xff", i), Bytes: int64(i),
		Took: time.Duration(i), Fault: fault.Kind(i % 2 * int(fault.Quota)), Detail: "d"}
	if err := db.Append(t.Context(), []events.Event{e}); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, db *DB, marks ...Mark) Verdict {
	t.Helper()
	v, err := db.VerifyEvents(t.Context(), marks...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (db *DB) tamper(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := db.write.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyFindsTampering changes a good trail in one way at a time.
func TestVerifyFindsTampering(t *testing.T) {
	tests := []struct {
		name, query string
		id          int64 // of the first break
		word        string
	}{
		{"one octet of a path", `UPDATE events SET path = '/f9x' WHERE id = 10`, 10, "changed"},
		{"the number of octets", `UPDATE events SET bytes = bytes + 1 WHERE id = 7`, 7, "changed"},
		{"a result made good", `UPDATE events SET result = 'ok' WHERE id = 8`, 8, "changed"},
		{"text moved between columns", `UPDATE events SET account = 'an', remote = 'n' || remote WHERE id = 3`, 3, "changed"},
		{"a row removed", `DELETE FROM events WHERE id = 12`, 12, "missing"},
		{"the first row removed", `DELETE FROM events WHERE id = 1`, 1, "missing"},
		{"the end removed", `DELETE FROM events WHERE id > 15`, 16, "missing at the end"},
		{"everything removed", `DELETE FROM events`, 1, "missing at the end"},
		{"a hash removed", `UPDATE events SET hash = '' WHERE id = 5`, 5, "changed"},
		{"two rows swapped", `UPDATE events SET id = CASE id WHEN 4 THEN -5 WHEN 5 THEN 4 END WHERE id IN (4, 5)`, 4, "changed"},
		{"the head set back", `UPDATE meta SET value = (SELECT id || ':' || hash FROM events WHERE id = 15) WHERE name = 'events.head'`, 20, "does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db := chained(t, 20)
			head, err := db.EventHead(t.Context())
			if err != nil || head.ID != 20 {
				t.Fatalf("head %v, %v", head, err)
			}
			if v := verify(t, db, head); v.Err() != nil || v.Checked != 20 || v.First != 1 || v.Last != 20 || v.Head != head.String() {
				t.Fatalf("an untouched trail: %+v", v)
			}
			db.tamper(t, tt.query)
			v := verify(t, db, head)
			if v.Err() == nil || v.Broken[0].ID != tt.id || !strings.Contains(v.Broken[0].What, tt.word) {
				t.Errorf("found %+v, want event %d: %s", v.Broken, tt.id, tt.word)
			}
		})
	}
}

// TestVerifyFindsForgedChain writes a whole new chain, which only a mark kept
// elsewhere can tell from the true one.
func TestVerifyFindsForgedChain(t *testing.T) {
	db := chained(t, 8)
	kept, err := db.EventHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db.tamper(t, `DELETE FROM events`)
	db.tamper(t, `UPDATE meta SET value = '0:`+strings.Repeat("0", 64)+`' WHERE name = 'events.head'`)
	for i := range 9 {
		appendOne(t, db, i+100)
	}
	if v := verify(t, db); v.Err() != nil {
		t.Errorf("without the mark it cannot be seen: %v", v.Err())
	}
	if v := verify(t, db, kept); v.Err() == nil || v.Broken[0].ID != 8 {
		t.Errorf("with the mark: %+v", v)
	}
}

func TestPruneKeepsChain(t *testing.T) {
	db := chained(t, 30)
	if n, err := db.PruneEvents(t.Context(), time.Unix(1_800_000_000+10, 0)); err != nil || n != 10 {
		t.Fatalf("pruned %d, %v", n, err)
	}
	if v := verify(t, db); v.Err() != nil || v.Checked != 20 || v.First != 11 {
		t.Errorf("after a prune: %+v", v)
	}
	if n, err := db.PruneEvents(t.Context(), time.Now().AddDate(100, 0, 0)); err != nil || n != 20 {
		t.Fatalf("pruned %d, %v", n, err)
	}
	if v := verify(t, db); v.Err() != nil || v.Checked != 0 {
		t.Errorf("after pruning all: %+v", v)
	}
	appendOne(t, db, 1)
	if v := verify(t, db); v.Err() != nil || v.Checked != 1 || v.First != 31 {
		t.Errorf("after that and one more: %+v", v)
	}
	db.tamper(t, `UPDATE events SET path = '' WHERE id = 31`)
	if v := verify(t, db); v.Err() == nil {
		t.Error("a change after a prune is not found")
	}
}

// TestChainOfTwoProcesses has two handles write at once, as the server and a
// command do.
func TestChainOfTwoProcesses(t *testing.T) {
	a := chained(t, 0)
	b, err := Open(t.Context(), a.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var wg sync.WaitGroup
	for _, db := range []*DB{a, b} {
		wg.Go(func() {
			for range 40 {
				if err := db.Append(context.Background(), []events.Event{{Kind: events.Login}, {Kind: events.Logout}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v := verify(t, a); v.Err() != nil || v.Checked != 160 {
		t.Errorf("%+v", v)
	}
}

func TestParseMark(t *testing.T) {
	for _, s := range []string{"", "7", "7:", "x:" + strings.Repeat("0", 64), "-1:" + strings.Repeat("0", 64), "7:" + strings.Repeat("g", 64)} {
		if _, err := ParseMark(s); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestClockJump: the clock of the machine goes back and forth by a day. Events
// keep the order in which they happened, and the chain holds.
func TestClockJump(t *testing.T) {
	db := chained(t, 0)
	at := time.Unix(1_800_000_000, 0)
	for i, jump := range []time.Duration{0, time.Second, -24 * time.Hour, time.Second, 48 * time.Hour, -24 * time.Hour} {
		at = at.Add(jump)
		if err := db.Append(t.Context(), []events.Event{{Time: at, Kind: events.Upload, Bytes: int64(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if v := verify(t, db); v.Err() != nil {
		t.Error(v.Err())
	}
	es, err := db.ListEvents(t.Context(), EventFilter{Oldest: true, Limit: 100})
	if err != nil || len(es) != 6 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	for i, e := range es {
		if e.Bytes != int64(i) || i > 0 && e.ID <= es[i-1].ID {
			t.Errorf("event %d comes at place %d", e.Bytes, i)
		}
	}
}
