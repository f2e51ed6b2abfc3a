package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// Sink keeps events; *store.DB satisfies it. Append stores all or none and may
// be called again with the same events after an error.
type Sink interface {
	Append(ctx context.Context, es []Event) error
}

// Options sets a Bus up. Zero values choose the defaults in brackets.
type Options struct {
	Sink    Sink              // nil: nothing is kept
	Node    string            // put into events that name none
	Queue   int               // events waiting for the sink [8192]
	Batch   int               // events per Append at most [256]
	Every   time.Duration     // an event waits at most this long for company [100 ms]
	Wait    time.Duration     // Publish waits at most this long for room [250 ms]
	AskTime time.Duration     // a hook's deadline, all hooks of one Ask together [10 s]
	Durable func(k Kind) bool // kinds that are kept [all but Listing]
	Logger  *slog.Logger      // tells of a sink that fails and recovers [none]

	// Required makes Publish wait until durable events are kept, and fail when
	// they are not within Wait [5 s then]. What was reported as done is then in
	// the sink even after a crash. Publishers that wait together share one
	// Append, so the cost is one transaction of delay and not one each.
	Required bool
	// Observe is called for every event within Publish, for counters. It must
	// be quick and must not publish.
	Observe func(e Event)
}

// Stats are counters of a Bus since it was made.
type Stats struct {
	Published uint64 // events accepted
	Written   uint64 // events the sink has kept
	Dropped   uint64 // durable events lost: queue full, or the sink still failed at Close
	Failures  uint64 // failed calls of Append
	Queued    int    // events waiting for the sink now
}

// Hook is asked before something happens. A nil error lets it pass.
type Hook func(ctx context.Context, e Event) error

// Bus hands events out. Create it with NewBus. All methods may be called concurrently.
type Bus struct {
	o       Options
	queue   chan entry
	done    chan struct{}      // closed when the writer has ended
	ctx     context.Context    // of the writer's Append calls
	cancel  context.CancelFunc // ends them
	closing chan struct{}      // closed when Close begins
	hurry   chan struct{}      // wakes the writer before its pause is over

	mu      sync.RWMutex
	closed  bool
	senders sync.WaitGroup // publishers past the check of closed; queue is closed after them
	once    sync.Once
	subs    []*Subscription // copied on change
	hooks   []*hook         // likewise

	published, written, dropped, failures atomic.Uint64
	failing                               atomic.Bool // the sink did not take the last batch
	stored                                atomic.Pointer[chan struct{}]
}

// entry is an event on its way to the sink; kept is told when it has arrived.
type entry struct {
	e    Event
	kept chan<- error // nil: nobody waits
}

type hook struct {
	name  string
	kinds []Kind
	fn    Hook
}

// NewBus makes a bus and starts the one goroutine that writes to the sink;
// Close ends it.
func NewBus(o Options) *Bus {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	defTime := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&o.Queue, 8192)
	def(&o.Batch, 256)
	defTime(&o.Every, 100*time.Millisecond)
	if o.Required {
		defTime(&o.Wait, 5*time.Second)
	}
	defTime(&o.Wait, 250*time.Millisecond)
	defTime(&o.AskTime, 10*time.Second)
	if o.Durable == nil {
		o.Durable = func(k Kind) bool { return k != Listing }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Bus{o: o, queue: make(chan entry, o.Queue), done: make(chan struct{}), closing: make(chan struct{}), hurry: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	next := make(chan struct{})
	b.stored.Store(&next)
	if o.Sink == nil {
		close(b.done)
		return b
	}
	go b.write()
	return b
}

// Publish hands e to every subscriber of its kind and, when the kind is
// durable, to the sink. Time and Node are filled in when empty, Result always.
// It waits only when the sink's queue is full, Options.Wait at most; then the
// event is counted as dropped and the error is fault.Unavailable
// (fault.Canceled when ctx ended first). After Close it is fault.Stopping.
func (b *Bus) Publish(ctx context.Context, e Event) error {
	e = b.complete(e)
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return fault.New(fault.Stopping, "publish event "+string(e.Kind), "", nil)
	}
	b.senders.Add(1) // under the lock, so before Close begins to wait
	subs := b.subs
	b.mu.RUnlock()
	defer b.senders.Done()
	b.published.Add(1)
	if b.o.Observe != nil {
		b.o.Observe(e)
	}
	for _, s := range subs {
		s.offer(e)
	}
	if b.o.Sink == nil || !b.o.Durable(e.Kind) {
		return nil
	}
	if !b.o.Required {
		return b.enqueue(ctx, entry{e: e})
	}
	kept := make(chan error, 1)
	if err := b.enqueue(ctx, entry{e, kept}); err != nil {
		return err
	}
	t := time.NewTimer(b.o.Wait)
	defer t.Stop()
	select {
	case err := <-kept:
		return err
	case <-t.C: // it stays queued and may still be kept
		return fault.New(fault.Unavailable, "publish event "+string(e.Kind), "", fmt.Errorf("it was not stored within %v", b.o.Wait))
	}
}

// enqueue waits for room in the queue, not for the sink.
func (b *Bus) enqueue(ctx context.Context, en entry) error {
	op := "publish event " + string(en.e.Kind)
	select {
	case b.queue <- en:
		if en.kept != nil || len(b.queue) == b.o.Batch {
			b.wake()
		}
		return nil
	default:
	}
	t := time.NewTimer(b.o.Wait)
	defer t.Stop()
	select {
	case b.queue <- en:
		return nil
	case <-ctx.Done():
		b.dropped.Add(1)
		return fault.New(fault.Canceled, op, "", context.Cause(ctx))
	case <-b.closing:
		b.dropped.Add(1)
		return fault.New(fault.Stopping, op, "", nil)
	case <-t.C:
		b.dropped.Add(1)
		return fault.New(fault.Unavailable, op, "", fmt.Errorf("%d events wait to be stored; this one is lost", b.o.Queue))
	}
}

// Stored returns a channel that is closed when the sink has kept something new.
func (b *Bus) Stored() <-chan struct{} { return *b.stored.Load() }

// Required reports whether Publish waits until events are kept.
func (b *Bus) Required() bool { return b.o.Required }

// Ready tells whether events can be kept now. When they are Required and the
// sink fails it is fault.Unavailable: nothing that would have to be recorded
// should begin.
func (b *Bus) Ready() error {
	if b.o.Required && b.failing.Load() {
		return fault.Text(fault.Unavailable, "the audit trail cannot be written, and the server is set to do nothing without it; try again later")
	}
	return nil
}

func (b *Bus) complete(e Event) Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Node == "" {
		e.Node = b.o.Node
	}
	e.Result = ResultOf(e.Fault)
	return e
}

// ResultOf is the text of Event.Result for a fault: "ok" when there is none.
func ResultOf(k fault.Kind) string {
	if k == fault.None {
		return "ok"
	}
	return k.String()
}

// OnAsk adds a hook for the kinds, or for every kind when none is given. The
// returned function removes it; it may be called more than once.
func (b *Bus) OnAsk(name string, fn Hook, kinds ...Kind) (remove func()) {
	h := &hook{name: name, kinds: slices.Clone(kinds), fn: fn}
	b.mu.Lock()
	b.hooks = append(slices.Clone(b.hooks), h)
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		b.hooks = slices.DeleteFunc(slices.Clone(b.hooks), func(o *hook) bool { return o == h })
		b.mu.Unlock()
	}
}

// Asks reports whether a hook exists for the kind, so that callers can spare
// themselves building the event.
func (b *Bus) Asks(k Kind) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.ContainsFunc(b.hooks, func(h *hook) bool { return wants(h.kinds, k) })
}

// Asking reports whether there is any hook to ask.
func (b *Bus) Asking() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.hooks) > 0
}

type groupsKey struct{}

// WithGroups says to the hooks that are asked with ctx which groups the user of
// the event has now. They may come from a directory and be nowhere else.
func WithGroups(ctx context.Context, groups []string) context.Context {
	return context.WithValue(ctx, groupsKey{}, groups)
}

// GroupsIn returns what WithGroups said.
func GroupsIn(ctx context.Context) (groups []string, ok bool) {
	groups, ok = ctx.Value(groupsKey{}).([]string)
	return groups, ok
}

// Ask puts e, which has not happened yet, to the hooks of its kind one after
// the other. The first refusal ends it and is returned: the fault of the hook,
// or fault.Denied when it has none. A hook that is not done by the deadline
// (Options.AskTime, or ctx's if sooner) is left behind and counts as
// fault.Unavailable: what cannot be asked does not happen. Nothing is stored;
// the caller publishes what came of it.
func (b *Bus) Ask(ctx context.Context, e Event) error {
	b.mu.RLock()
	hooks := b.hooks
	b.mu.RUnlock()
	var timed context.Context
	for _, h := range hooks {
		if !wants(h.kinds, e.Kind) {
			continue
		}
		if timed == nil {
			e = b.complete(e)
			var cancel context.CancelFunc
			timed, cancel = context.WithTimeout(ctx, b.o.AskTime)
			defer cancel()
		}
		if err := ask(timed, h, e); err != nil {
			return err
		}
	}
	return nil
}

// ask runs one hook on a goroutine of its own, because a hook that ignores its
// context must not hold a session. A panic in it is a refusal.
func ask(ctx context.Context, h *hook, e Event) error {
	answer := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				answer <- fault.New(fault.Internal, "", "", fmt.Errorf("panic: %v", r))
			}
		}()
		answer <- h.fn(ctx, e)
	}()
	op := fmt.Sprintf("ask hook %s about %s", h.name, e.Kind)
	select {
	case err := <-answer:
		if err == nil {
			return nil
		}
		k := fault.KindOf(err)
		if k == fault.Internal && !errors.As(err, new(*fault.Error)) {
			k = fault.Denied
		}
		return fault.New(k, op, e.Path, err)
	case <-ctx.Done():
		k := fault.Unavailable
		if errors.Is(ctx.Err(), context.Canceled) {
			k = fault.Canceled
		}
		return fault.New(k, op, e.Path, context.Cause(ctx))
	}
}

func wants(kinds []Kind, k Kind) bool { return len(kinds) == 0 || slices.Contains(kinds, k) }

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	return Stats{Published: b.published.Load(), Written: b.written.Load(), Dropped: b.dropped.Load(), Failures: b.failures.Load(), Queued: len(b.queue)}
}

// Close refuses further events, closes every subscription after what it still
// holds, and writes what waits to the sink. When ctx ends first, the rest is
// counted as dropped and the error is fault.Unavailable. It is idempotent.
func (b *Bus) Close(ctx context.Context) error {
	b.once.Do(b.shut)
	select {
	case <-b.done:
	case <-ctx.Done():
		b.cancel()
		<-b.done
	}
	b.cancel()
	if n := b.dropped.Load(); n > 0 {
		return fault.New(fault.Unavailable, "close the event bus", "", fmt.Errorf("%d events were not stored", n))
	}
	return nil
}

func (b *Bus) shut() {
	b.mu.Lock()
	b.closed = true
	subs := b.subs
	b.subs = nil
	b.mu.Unlock()
	close(b.closing) // lets publishers go that wait for room
	b.senders.Wait()
	close(b.queue)
	for _, s := range subs {
		s.end()
	}
}

// write is the one goroutine that calls the sink.
func (b *Bus) write() {
	defer close(b.done)
	batch := make([]entry, 0, b.o.Batch)
	for en := range b.queue {
		batch = append(batch[:0], en)
		open := b.fill(&batch)
		b.store(batch)
		clear(batch)
		if !open {
			return
		}
	}
}

// fill collects company for the first event of a batch; false when the queue
// is closed. It pauses instead of watching the queue, so that a publisher does
// not wake a thread for every event. Nobody waits for events then: either all
// publishers wait for the sink (Options.Required) or none does.
func (b *Bus) fill(batch *[]entry) bool {
	select {
	case <-b.hurry: // of an earlier batch
	default:
	}
	if (*batch)[0].kept == nil && len(b.queue) < b.o.Batch {
		t := time.NewTimer(b.o.Every)
		select {
		case <-t.C:
		case <-b.hurry:
		case <-b.closing:
		}
		t.Stop()
	}
	for len(*batch) < b.o.Batch {
		select {
		case en, ok := <-b.queue:
			if !ok {
				return false
			}
			*batch = append(*batch, en)
		default:
			return true
		}
	}
	return true
}

func (b *Bus) wake() {
	select {
	case b.hurry <- struct{}{}:
	default:
	}
}

// store tries until the sink takes the batch. While it fails the queue fills,
// and Publish begins to count drops; after Close it gives up with the context.
func (b *Bus) store(entries []entry) {
	batch := make([]Event, len(entries))
	for i := range entries {
		batch[i] = entries[i].e
	}
	err := b.keep(batch)
	for _, en := range entries {
		if en.kept != nil {
			en.kept <- err // has room for one
		}
	}
}

func (b *Bus) keep(batch []Event) error {
	pause := 50 * time.Millisecond
	failed := false
	for {
		err := b.o.Sink.Append(b.ctx, batch)
		if err == nil {
			b.failing.Store(false)
			b.written.Add(uint64(len(batch)))
			next := make(chan struct{})
			close(*b.stored.Swap(&next))
			if failed {
				b.o.Logger.Info("events are stored again", "dropped", b.dropped.Load())
			}
			return nil
		}
		b.failing.Store(true)
		b.failures.Add(1)
		if !failed {
			failed = true
			b.o.Logger.Error("events cannot be stored; trying again until it works", "waiting", len(batch)+len(b.queue), "err", err)
		}
		if fault.KindOf(err) == fault.Invalid {
			// Trying the same rows again cannot help; do not let them block all others.
			b.dropped.Add(uint64(len(batch)))
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-b.ctx.Done():
			t.Stop()
			b.dropped.Add(uint64(len(batch)))
			return err
		}
		pause = min(pause*2, 5*time.Second)
	}
}
