package events

import (
	"context"
	"log/slog"
	"time"
)

// Trail gives kept events back in the order of their numbers and remembers how
// far each reader has come; *store.DB satisfies it.
type Trail interface {
	EventsAfter(ctx context.Context, id int64, limit int) ([]Event, error)
	// Cursor is the last event a reader has dealt with; ok is false for a new reader.
	Cursor(ctx context.Context, reader string) (id int64, ok bool, err error)
	SetCursor(ctx context.Context, reader string, id int64) error
}

// Follower hands every kept event to Deliver at least once, in order, over
// crashes and restarts: it reads the trail, not the bus, and notes how far it
// came only after Deliver has returned nil.
type Follower struct {
	Name    string // of the reader, stable over restarts
	Trail   Trail
	Stored  func() <-chan struct{} // of the Bus; nil: only the clock
	New     int64                  // a new reader begins after this event
	Deliver func(ctx context.Context, es []Event) error
	Log     *slog.Logger
}

const (
	followBatch = 500
	followPoll  = 5 * time.Second // other processes write events, too
	followRest  = time.Minute     // longest pause after a failure
)

// Run follows until ctx ends. What Deliver or the trail refuses is tried again
// with growing pauses.
func (f *Follower) Run(ctx context.Context) {
	pause := time.Second
	failed := false
	for ctx.Err() == nil {
		var wake <-chan struct{}
		if f.Stored != nil {
			wake = f.Stored() // before reading, so that nothing falls between
		}
		n, err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failed {
				failed = true
				f.Log.Error("events could not be passed on; trying again until it works, none is lost", "to", f.Name, "err", err)
			}
			wait(ctx, nil, pause)
			pause = min(2*pause, followRest)
			continue
		case failed:
			failed, pause = false, time.Second
			f.Log.Info("events are passed on again", "to", f.Name)
		}
		if n < followBatch {
			wait(ctx, wake, followPoll)
		}
	}
}

// Drain passes on what is there now, once, and returns the first failure.
func (f *Follower) Drain(ctx context.Context) error {
	for {
		n, err := f.step(ctx)
		if err != nil || n < followBatch {
			return err
		}
	}
}

func (f *Follower) step(ctx context.Context) (int, error) {
	last, ok, err := f.Trail.Cursor(ctx, f.Name)
	if err != nil {
		return 0, err
	}
	if !ok {
		last = f.New
		if err := f.Trail.SetCursor(ctx, f.Name, last); err != nil {
			return 0, err
		}
	}
	es, err := f.Trail.EventsAfter(ctx, last, followBatch)
	if err != nil || len(es) == 0 {
		return 0, err
	}
	if err := f.Deliver(ctx, es); err != nil {
		return 0, err
	}
	// A stop between the two must not deliver twice without need.
	return len(es), f.Trail.SetCursor(context.WithoutCancel(ctx), f.Name, es[len(es)-1].ID)
}

func wait(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	case <-ctx.Done():
	}
}
