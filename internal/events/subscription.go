package events

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// subscriptionBuffer is how many events a subscriber may lie behind before
// further ones are dropped for it and counted.
const subscriptionBuffer = 1024

// Subscription receives events until it or the bus is closed. A subscriber
// that falls behind loses events and is never waited for.
type Subscription struct {
	name    string
	kinds   []Kind
	bus     *Bus
	dropped atomic.Uint64

	mu    sync.Mutex // orders offer and end: no send on a closed channel
	ended bool
	c     chan Event
}

// Subscribe starts a subscription to the kinds, or to every kind when none is
// given. On a closed bus it is closed from the start.
func (b *Bus) Subscribe(name string, kinds ...Kind) *Subscription {
	s := &Subscription{name: name, kinds: slices.Clone(kinds), bus: b, c: make(chan Event, subscriptionBuffer)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.end()
		return s
	}
	b.subs = append(slices.Clone(b.subs), s)
	return s
}

// Subscriptions returns the live subscriptions, for status pages.
func (b *Bus) Subscriptions() []*Subscription {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.subs)
}

// Name returns the name given to Subscribe.
func (s *Subscription) Name() string { return s.name }

// C is the channel of events. It is closed by Close and by the bus's Close.
func (s *Subscription) C() <-chan Event { return s.c }

// Dropped counts the events that were lost because the subscriber was too slow.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. Events already buffered can still be received.
// It is idempotent.
func (s *Subscription) Close() {
	b := s.bus
	b.mu.Lock()
	b.subs = slices.DeleteFunc(slices.Clone(b.subs), func(o *Subscription) bool { return o == s })
	b.mu.Unlock()
	s.end()
}

// breath is how long Run lets events gather after it has handled those there
// were. Without it a busy server wakes a thread for each event, which costs a
// small transfer a quarter of its CPU. The buffer holds a breath of 100,000
// events a second.
const breath = 10 * time.Millisecond

// Run calls fn for each event, one at a time, until the subscription is closed
// and drained or ctx ends. An event that comes alone is handled at once; one
// that follows waits up to 10 ms for company.
func (s *Subscription) Run(ctx context.Context, fn func(Event)) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case e, ok := <-s.c:
			if !ok {
				return
			}
			fn(e)
		case <-ctx.Done():
			return
		}
		if len(s.c) > 0 {
			continue
		}
		pause.Reset(breath)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Subscription) offer(e Event) {
	if !wants(s.kinds, e.Kind) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	select {
	case s.c <- e:
	default:
		s.dropped.Add(1)
	}
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.c)
	}
}
