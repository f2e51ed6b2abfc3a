package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

func deliveryOf(hook string, n int64) events.Delivery {
	return events.Delivery{Message: fmt.Sprintf("%s-%d", hook, n), Hook: hook, Event: n, Kind: events.Upload, Body: fmt.Appendf(nil, `{"id":%d}`, n)}
}

func TestDeliveries(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		three := []events.Delivery{deliveryOf("a", 1), deliveryOf("a", 2), deliveryOf("b", 1)}
		must(t, db.Enqueue(ctx, three))
		must(t, db.Enqueue(ctx, three)) // a repeat adds nothing
		claim := func(hook string, at time.Time, want ...int64) []events.Delivery {
			t.Helper()
			ds, err := db.ClaimDeliveries(ctx, hook, at, 10)
			must(t, err)
			got := []int64{}
			for _, d := range ds {
				got = append(got, d.Event)
			}
			if fmt.Sprint(got) != fmt.Sprint(append([]int64{}, want...)) {
				t.Fatalf("claimed %v, want %v", got, want)
			}
			return ds
		}
		at := time.Now().Add(time.Second)
		claim("a", time.Now().Add(-time.Hour))
		ds := claim("a", at, 1, 2)
		if d := ds[0]; d.Message != "a-1" || string(d.Body) != `{"id":1}` || d.Kind != events.Upload || d.Tries != 0 || !d.Dead.IsZero() {
			t.Errorf("claimed %+v", d)
		}
		claim("a", at) // nobody else gets them

		// A process that ended while it delivered.
		n, err := db.ResumeDeliveries(ctx, []string{"a", "b"})
		must(t, err)
		if n != 0 {
			t.Errorf("%d orphans of known hooks", n)
		}
		ds = claim("a", at, 1, 2)
		must(t, db.ForgetDeliveries(ctx, []int64{ds[0].ID}))
		ds[1].Tries, ds[1].Problem, ds[1].Next = 3, "it said \x00\xff", at.Add(time.Minute)
		must(t, db.PutBackDeliveries(ctx, ds[1:]))
		claim("a", at)
		if next, err := db.NextDelivery(ctx, "a"); err != nil || !next.Equal(unmicros(micros(at.Add(time.Minute)))) {
			t.Errorf("next %v, %v", next, err)
		}
		ds = claim("a", at.Add(time.Hour), 2)
		if ds[0].Tries != 3 || ds[0].Problem != `it said \x00\xff` {
			t.Errorf("put back as %+v", ds[0])
		}
		ds[0].Dead = at
		must(t, db.PutBackDeliveries(ctx, ds))
		claim("a", at.Add(time.Hour))
		if next, err := db.NextDelivery(ctx, "a"); err != nil || !next.IsZero() {
			t.Errorf("next %v, %v", next, err)
		}

		if n, err = db.ResumeDeliveries(ctx, []string{"a"}); err != nil || n != 1 {
			t.Errorf("%d orphans, %v; want that of b", n, err)
		}
		counts, err := db.Backlogs(ctx)
		must(t, err)
		if counts["a"] != (events.Backlog{Dead: 1}) || counts["b"] != (events.Backlog{Dead: 1}) || len(counts) != 2 {
			t.Errorf("backlogs %+v", counts)
		}
		dead, err := db.DeadDeliveries(ctx, 0, 0)
		must(t, err)
		if len(dead) != 2 || dead[0].Hook != "a" || dead[1].Hook != "b" || dead[1].Problem == "" || dead[1].Dead.IsZero() {
			t.Fatalf("dead %+v", dead)
		}
		if n, err := db.RetryDelivery(ctx, dead[0].ID); n != 1 || err != nil {
			t.Errorf("retry: %d, %v", n, err)
		}
		if ds := claim("a", at, 2); ds[0].Tries != 0 {
			t.Errorf("retried with %d tries", ds[0].Tries)
		}
		_, err = db.RetryDelivery(ctx, dead[0].ID)
		wantKind(t, "retry of what is not dead", err, fault.NotExist)
		_, err = db.DropDelivery(ctx, 999)
		wantKind(t, "drop of nothing", err, fault.NotExist)
		if n, err := db.DropDelivery(ctx, 0); n != 1 || err != nil {
			t.Errorf("drop all: %d, %v", n, err)
		}
		if n, err := db.ResumeDeliveries(ctx, nil); n != 1 || err != nil {
			t.Errorf("%d orphans without any hook, %v", n, err)
		}
	})
}
