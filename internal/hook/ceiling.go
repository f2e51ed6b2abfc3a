package hook

import (
	"context"
	"time"

	"github.com/portreeve/portreeve/internal/events"
)

// orphansKept is how many deliveries are kept of a hook that is not in the
// configuration any more.
const orphansKept = 1000

// trimAll keeps all parts of the outbox below their ceilings, which may have
// been lowered, and those of hooks that are gone.
func (r *Runner) trimAll(ctx context.Context, s *Set) {
	all, err := r.o.Outbox.Backlogs(ctx)
	if err != nil {
		return // the loops say so
	}
	for name := range all {
		if h := s.find(name); h != nil {
			r.trim(ctx, h)
			continue
		}
		n, err := r.o.Outbox.TrimDeliveries(ctx, name, events.Backlog{Dead: orphansKept})
		if err == nil && n.Dead > 0 {
			r.o.Log.Warn("deliveries of a hook that is no longer in the configuration were dropped, the oldest first", "hook", name, "deliveries", n.Dead, "kept", orphansKept)
		}
	}
}

// tellEvery is how often at most the log is told that a hook drops deliveries.
const tellEvery = time.Minute

// trim keeps the hook's part of the outbox below its ceilings.
func (r *Runner) trim(ctx context.Context, h *rule) {
	limit := events.Backlog{Waiting: int64(h.MaxWaiting), Dead: int64(h.MaxDead)}
	if limit.Waiting <= 0 || limit.Dead <= 0 {
		return
	}
	n, err := r.o.Outbox.TrimDeliveries(ctx, h.Name, limit)
	if err != nil {
		if ctx.Err() == nil {
			r.o.Log.Error("the outbox of a hook cannot be kept below its ceiling", "hook", h.Name, "err", err)
		}
		return
	}
	if n == (events.Backlog{}) {
		return
	}
	if r.o.Dropped != nil {
		r.o.Dropped(h.Name, "waiting", n.Waiting)
		r.o.Dropped(h.Name, "dead", n.Dead)
	}
	t := r.tally(h.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropped.Waiting += n.Waiting
	t.dropped.Dead += n.Dead
	if now := time.Now(); t.told.IsZero() || now.Sub(t.told) >= tellEvery {
		r.o.Log.Error("deliveries were dropped, because the hook has more than may be kept; see why its receiver does not take them, or raise max_waiting and max_dead", "hook", h.Name,
			"waiting", t.dropped.Waiting, "max_waiting", limit.Waiting, "dead", t.dropped.Dead, "max_dead", limit.Dead)
		t.dropped, t.told = events.Backlog{}, now
	}
}
