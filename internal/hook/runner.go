package hook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// Outbox keeps deliveries over crashes; *store.DB satisfies it.
type Outbox interface {
	Enqueue(ctx context.Context, ds []events.Delivery) error
	ClaimDeliveries(ctx context.Context, hook string, at time.Time, limit int) ([]events.Delivery, error)
	NextDelivery(ctx context.Context, hook string) (time.Time, error)
	ForgetDeliveries(ctx context.Context, ids []int64) error
	PutBackDeliveries(ctx context.Context, ds []events.Delivery) error
	ResumeDeliveries(ctx context.Context, hooks []string) (orphans int64, err error)
	TrimDeliveries(ctx context.Context, hook string, limit events.Backlog) (dropped events.Backlog, err error)
	Backlogs(ctx context.Context) (map[string]events.Backlog, error)
}

// Trail is where events are read from; *store.DB satisfies it.
type Trail interface {
	events.Trail
	DropCursor(ctx context.Context, reader string) error
}

// Options are what a Runner works with; all but New must be set.
type Options struct {
	Outbox Outbox
	Trail  Trail
	Bus    *events.Bus
	Groups func(ctx context.Context, user string) []string // of an account, for conditions
	Log    *slog.Logger
	// Dropped counts deliveries that were dropped because a hook had too many,
	// which is "waiting" or "dead"; nil: nobody counts.
	Dropped func(hook, which string, n int64)
	// Head is the last event of the trail: hooks begin after the one that was
	// last when they were put in force, if there were none before.
	Head func(ctx context.Context) (int64, error)
	// Sent is told of each try at a delivery, and each question, when it is over; nil: nobody is.
	Sent func(Sent)
}

// Sent is one try at a delivery.
type Sent struct {
	Hook, By string // By: webhook, program, mail
	Asked    bool   // it was a question
	Try      int    // from 1 on
	Began    time.Time
	Event    events.Event // what it is about
	Err      error
}

// reader is the name of the hooks in the trail's cursors.
const reader = "hooks"

// Runner delivers. Methods may be called concurrently. Only one process may
// deliver from one database: a server that hands over pauses first.
type Runner struct {
	o   Options
	set atomic.Pointer[Set]

	mu      sync.Mutex // what follows, and changes of set
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	begin   int64        // of hooks that are new
	forget  []func()     // take the questions back
	seen    sync.RWMutex // of state
	state   map[string]*tally
	blocked map[string]string // programs that must not run, and why
}

// tally is what became of a hook's deliveries since the start.
type tally struct {
	delivered, failed atomic.Int64
	problem           atomic.Pointer[string]

	mu      sync.Mutex
	dropped events.Backlog // not told in the log yet
	told    time.Time
}

// NewRunner returns a runner without hooks that is paused.
func NewRunner(o Options) *Runner {
	r := &Runner{o: o, state: map[string]*tally{}, blocked: map[string]string{}}
	r.set.Store(&Set{})
	return r
}

// Use puts a set in force: questions at once, deliveries when Resume was called.
func (r *Runner) Use(s *Set) {
	r.mu.Lock()
	running := r.cancel != nil
	r.pause()
	for _, f := range r.forget {
		f()
	}
	r.forget = nil
	if len(r.set.Load().names()) == 0 {
		r.findHead()
	}
	old := r.set.Swap(s)
	old.close()
	r.seen.Lock()
	for _, h := range s.rules {
		if r.state[h.Name] == nil {
			r.state[h.Name] = &tally{}
		}
	}
	r.seen.Unlock()
	for _, h := range s.rules {
		if h.Mode == config.HookAsk {
			r.forget = append(r.forget, r.o.Bus.OnAsk(h.Name, func(ctx context.Context, e events.Event) error { return r.question(ctx, h, &e) }, h.kinds...))
		}
	}
	if running {
		r.resume()
	}
	r.mu.Unlock()
}

// findHead notes where hooks begin that are new.
func (r *Runner) findHead() {
	if r.o.Head == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dbTime)
	defer cancel()
	head, err := r.o.Head(ctx)
	if err != nil {
		r.o.Log.Warn("the head of the trail cannot be read; new hooks may be told of older events", "err", err)
		return
	}
	r.begin = head
}

// Block keeps a program from being run, with the reason; "" lets it run again.
func (r *Runner) Block(program, why string) {
	r.seen.Lock()
	defer r.seen.Unlock()
	if why == "" {
		delete(r.blocked, program)
		return
	}
	r.blocked[program] = why
}

// Set returns the hooks in force.
func (r *Runner) Set() *Set { return r.set.Load() }

func (r *Runner) tally(name string) *tally {
	r.seen.RLock()
	defer r.seen.RUnlock()
	return r.state[name]
}

// permitted refuses a program that is blocked.
func (r *Runner) permitted(h *rule) error {
	if h.Deliver != config.DeliverProgram {
		return nil
	}
	r.seen.RLock()
	defer r.seen.RUnlock()
	if why := r.blocked[h.Program[0]]; why != "" {
		return errors.New(why)
	}
	return nil
}

// Resume begins to deliver; it does nothing when that is going on.
func (r *Runner) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel == nil {
		r.resume()
	}
}

func (r *Runner) resume() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	begin := r.begin
	r.wg.Go(func() { r.run(ctx, begin) })
}

// Pause ends it. Deliveries under way get a moment to end; what is left waits
// in the outbox. Questions are answered on.
func (r *Runner) Pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause()
}

func (r *Runner) pause() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	r.wg.Wait()
}

// Close pauses and takes the questions back.
func (r *Runner) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause()
	for _, f := range r.forget {
		f()
	}
	r.forget = nil
	r.set.Load().close()
}

// dbTime is how long the outbox may take at the end of a run.
const dbTime = 5 * time.Second

// restTime is the pause after the outbox failed.
const restTime = 2 * time.Second

// run delivers for the present set until ctx ends.
func (r *Runner) run(ctx context.Context, begin int64) {
	s := r.set.Load()
	names := s.names()
	for {
		n, err := r.o.Outbox.ResumeDeliveries(ctx, names)
		if n > 0 {
			r.o.Log.Warn("deliveries wait for hooks that are no longer in the configuration; see \"portreeve hook dead\"", "deliveries", n)
		}
		if err == nil && len(names) == 0 {
			// Hooks that come later begin then, not with what was before them.
			err = r.o.Trail.DropCursor(ctx, reader)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		r.o.Log.Error("the outbox of hooks cannot be read; trying again", "err", err)
		pauseFor(ctx, restTime)
	}
	r.trimAll(ctx, s)
	if len(names) == 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range s.rules {
		if h.Mode != config.HookAsk {
			wg.Go(func() { r.loop(ctx, h) })
		}
	}
	f := events.Follower{Name: reader, Trail: r.o.Trail, Stored: r.o.Bus.Stored, New: begin, Log: r.o.Log,
		Deliver: func(ctx context.Context, es []events.Event) error { return r.enqueue(ctx, s, es) }}
	f.Run(ctx)
}

// enqueue puts events through the rules and what matches into the outbox.
func (r *Runner) enqueue(ctx context.Context, s *Set, es []events.Event) error {
	var ds []events.Delivery
	var woken []*rule
	for i := range es {
		e := &es[i]
		groups := sync.OnceValue(func() []string { return r.groups(ctx, e.User) })
		for _, h := range s.rules {
			if h.Mode == config.HookAsk || !h.wants(e, groups) {
				continue
			}
			m, err := newMessage(h, e, false)
			if err != nil {
				return err
			}
			ds = append(ds, events.Delivery{Message: m.id, Hook: h.Name, Event: e.ID, Kind: e.Kind, Body: m.body})
			woken = append(woken, h)
		}
	}
	if err := r.o.Outbox.Enqueue(ctx, ds); err != nil {
		return err
	}
	slices.SortFunc(woken, func(a, b *rule) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range slices.Compact(woken) {
		r.trim(ctx, h)
		r.Wake(h.Name)
	}
	return nil
}

func (r *Runner) groups(ctx context.Context, user string) []string {
	if groups, ok := events.GroupsIn(ctx); ok {
		return groups
	}
	if user == "" || r.o.Groups == nil {
		return nil
	}
	return r.o.Groups(ctx, user)
}

// Wake makes a hook look into the outbox; "" is all of them.
func (r *Runner) Wake(name string) {
	for _, h := range r.set.Load().rules {
		if name == "" || name == h.Name {
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}
	}
}

// poll is how often a hook looks into the outbox without being woken, at least.
const poll = 10 * time.Second

// loop delivers for one hook, so that a receiver that hangs holds up no other.
func (r *Runner) loop(ctx context.Context, h *rule) {
	places := make(chan struct{}, h.Parallel)
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		if h.Deliver == config.DeliverMail {
			if r.mail(ctx, h) {
				continue
			}
		} else {
			select { // a free place first, then something to put there
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if ds := r.claim(ctx, h, 1); len(ds) > 0 {
				wg.Go(func() {
					defer func() { <-places }()
					r.try(ctx, h, ds)
				})
				continue
			}
			<-places
		}
		r.rest(ctx, h)
	}
}

// mail sends one mail, waits its pause and reports whether there was one to send.
func (r *Runner) mail(ctx context.Context, h *rule) bool {
	ds := r.claim(ctx, h, mailBatch)
	if len(ds) == 0 {
		return false
	}
	r.try(ctx, h, ds)
	pauseFor(ctx, h.Pause.Std())
	return true
}

func (r *Runner) claim(ctx context.Context, h *rule, n int) []events.Delivery {
	ds, err := r.o.Outbox.ClaimDeliveries(ctx, h.Name, time.Now(), n)
	if err != nil && ctx.Err() == nil {
		r.o.Log.Error("the outbox of hooks cannot be read; trying again", "hook", h.Name, "err", err)
		pauseFor(ctx, restTime)
	}
	return ds
}

// rest waits until something is due.
func (r *Runner) rest(ctx context.Context, h *rule) {
	d := poll
	if at, err := r.o.Outbox.NextDelivery(ctx, h.Name); err == nil && !at.IsZero() {
		d = min(d, max(time.Until(at), time.Millisecond))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.wake:
	case <-ctx.Done():
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// grace is how long a delivery under way may go on when the runner pauses.
const grace = 3 * time.Second

// try makes one try at deliveries that were claimed, and stores what came of it.
func (r *Runner) try(ctx context.Context, h *rule, ds []events.Delivery) {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.Timeout.Std())
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()
	err := r.send(work, h, ds)
	store, done := context.WithTimeout(context.WithoutCancel(ctx), dbTime)
	defer done()
	t := r.tally(h.Name)
	switch {
	case err == nil:
		t.delivered.Add(int64(len(ds)))
		t.problem.Store(nil)
		ids := make([]int64, len(ds))
		for i := range ds {
			ids[i] = ds[i].ID
		}
		if err := r.o.Outbox.ForgetDeliveries(store, ids); err != nil {
			r.o.Log.Error("what was delivered could not be noted, so it will be delivered again", "hook", h.Name, "err", err)
		}
		return
	case ctx.Err() != nil && work.Err() != nil && !errors.Is(work.Err(), context.DeadlineExceeded):
		// The server stops: that was no try of the receiver.
	default:
		t.failed.Add(1)
		text := clip(plain(err.Error()), 500)
		t.problem.Store(&text)
		for i := range ds {
			r.failed(h, &ds[i], err, text)
		}
	}
	if err := r.o.Outbox.PutBackDeliveries(store, ds); err != nil {
		r.o.Log.Error("a delivery could not be put back; it follows at the next start", "hook", h.Name, "err", err)
		return
	}
	r.Wake(h.Name) // to look when the next one is due
	for i := range ds {
		if !ds[i].Dead.IsZero() {
			r.dead(store, &ds[i])
			r.trim(store, h)
		}
	}
}

func (r *Runner) send(ctx context.Context, h *rule, ds []events.Delivery) error {
	if err := r.permitted(h); err != nil {
		return err
	}
	ms := make([]message, len(ds))
	for i := range ds {
		var err error
		if ms[i], err = stored(&ds[i]); err != nil {
			return err
		}
	}
	began := time.Now()
	err := h.sender.deliver(ctx, ms)
	if r.o.Sent != nil {
		for i := range ms {
			r.o.Sent(Sent{Hook: h.Name, By: string(h.Deliver), Try: ds[i].Tries + 1, Began: began, Event: ms[i].p.Event, Err: err})
		}
	}
	return err
}

// failed counts a try and decides when the next one is, or that there is none.
func (r *Runner) failed(h *rule, d *events.Delivery, err error, text string) {
	d.Tries++
	d.Problem = text
	now := time.Now()
	var se *statusError
	gone := errors.As(err, &se) && se.code == http.StatusGone // the receiver wants no more
	if d.Tries >= h.Attempts || gone {
		d.Dead = now
		return
	}
	pause := backoff(h.Backoff.Std(), h.BackoffMax.Std(), d.Tries, rand.Float64())
	if se != nil {
		pause = max(pause, min(se.after, h.BackoffMax.Std()))
	}
	d.Next = now.Add(pause)
	r.o.Log.Warn("a delivery failed", "hook", h.Name, "try", d.Tries, "of", h.Attempts, "next", d.Next.UTC().Format(time.RFC3339), "err", text)
}

// backoff is the pause after the n-th failed try: first, doubled each time, at
// most limit, and less up to half of it by chance (0 to 1), so that many
// deliveries that failed together do not come again together.
func backoff(first, limit time.Duration, n int, chance float64) time.Duration {
	d := first
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	return d - time.Duration(chance*float64(d)/2)
}

// dead records that a delivery was given up. One that told of such a thing
// itself leaves it at the log.
func (r *Runner) dead(ctx context.Context, d *events.Delivery) {
	r.o.Log.Error("a delivery was given up; \"portreeve hook dead\" lists it and can try again", "hook", d.Hook, "delivery", d.ID, "tries", d.Tries, "err", d.Problem)
	if d.Kind == events.HookDead {
		return
	}
	e := events.Event{Kind: events.HookDead, Target: d.Hook, Fault: fault.Unavailable, Detail: d.Problem}
	if err := r.o.Bus.Publish(ctx, e); err != nil {
		r.o.Log.Error("an event was not stored", "kind", string(e.Kind), "err", err)
	}
}

// States describes the hooks in force.
func (r *Runner) States(ctx context.Context) ([]State, error) {
	b, err := r.o.Outbox.Backlogs(ctx)
	if err != nil {
		return nil, err
	}
	out := r.set.Load().States(b)
	for i := range out {
		if t := r.tally(out[i].Name); t != nil {
			out[i].Delivered, out[i].Failed = t.delivered.Load(), t.failed.Load()
			if p := t.problem.Load(); p != nil {
				out[i].Problem = *p
			}
		}
	}
	return out, nil
}
