package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Mapping is a TCP port that a router forwards to this machine.
type Mapping struct {
	Internal uint16
	External uint16        // may differ from what was asked for
	Addr     netip.Addr    // the router's outer address; zero when it did not say
	Lifetime time.Duration // until the router forgets it; 0: until it is removed
	Source   Source

	nonce [12]byte // PCP: proves that renewals and removals are ours
}

// Mapper asks a router for mappings. Errors are *RefusedError when the router
// said no, and others when it could not be reached or talked nonsense.
// Implementations may be used concurrently.
type Mapper interface {
	Source() Source
	// External returns the router's outer address, which may well be private.
	External(ctx context.Context) (netip.Addr, error)
	// Map forwards the external TCP port to internal on this machine, or
	// renews that. The router may choose another external port. prev is the
	// mapping to renew, or its zero value.
	Map(ctx context.Context, internal, external uint16, lifetime time.Duration, prev Mapping) (Mapping, error)
	// Unmap removes a mapping that Map returned.
	Unmap(ctx context.Context, m Mapping) error
}

// RefusedError says that the router answered and refused. A refusal is
// evidence: routers without a public address of their own refuse.
type RefusedError struct {
	Source Source
	Code   int
	Text   string
}

// Error says what the router answered.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("nat: the router refused (%s, code %d): %s", e.Source, e.Code, e.Text)
}

// MaxMappings is how many ports Keeper maps at most: home routers have small
// tables, and a long passive range is not what they are for.
const MaxMappings = 128

// Event is something that happened to a mapping.
type Event struct {
	Mapping Mapping
	Kind    EventKind
	Err     error // of Failed
}

// Text says in words what happened.
func (e Event) Text() string {
	m := e.Mapping
	where := fmt.Sprintf("port %d", m.External)
	if m.Addr.IsValid() {
		where = netip.AddrPortFrom(m.Addr, m.External).String()
	}
	switch e.Kind {
	case Mapped:
		return fmt.Sprintf("the router forwards %s to port %d here (%s)", where, m.Internal, m.Source)
	case Moved:
		return fmt.Sprintf("the router now forwards %s to port %d here (%s), another one than before", where, m.Internal, m.Source)
	case Removed:
		return fmt.Sprintf("the router no longer forwards %s to port %d here (%s)", where, m.Internal, m.Source)
	}
	return fmt.Sprintf("port %d: %v", m.Internal, e.Err)
}

// EventKind is the kind of an Event.
type EventKind string

// The kinds.
const (
	Mapped  EventKind = "mapped"
	Moved   EventKind = "moved" // renewed, with another external port or address
	Removed EventKind = "removed"
	Failed  EventKind = "failed" // reported when it begins and when the reason changes, tried again all the time
)

// Keeper holds mappings for as long as Run runs: it renews them at half their
// life and removes them at the end.
type Keeper struct {
	Mapper   Mapper
	Ports    []uint16      // internal ports; the same numbers are asked for outside
	Lifetime time.Duration // asked for; default 1 h
	Notify   func(Event)   // called from Run's goroutine; may be nil
	Leave    func() bool   // asked at the end: leave the mappings, they are a successor's now; nil: no
	mapped   map[uint16]*held
}

type held struct {
	Mapping
	due  time.Time // of the next attempt
	ok   bool
	said string // the failure that was reported last; it is not repeated
}

const retryMapping = 30 * time.Second

// Run maps the ports and keeps them until ctx ends; then it removes them,
// taking at most five seconds. The error is nil after ctx has ended.
func (k *Keeper) Run(ctx context.Context) error {
	if len(k.Ports) > MaxMappings {
		return fmt.Errorf("nat: %d ports are too many for a router's table; make the passive range at most %d ports or forward it by hand", len(k.Ports), MaxMappings)
	}
	if k.Lifetime <= 0 {
		k.Lifetime = time.Hour
	}
	k.mapped = map[uint16]*held{}
	for _, p := range k.Ports {
		k.mapped[p] = &held{Mapping: Mapping{Internal: p, External: p}}
	}
	for ctx.Err() == nil {
		next := time.Now().Add(k.Lifetime)
		for _, p := range k.Ports {
			h := k.mapped[p]
			if !time.Now().Before(h.due) {
				k.renew(ctx, h)
			}
			if h.due.Before(next) {
				next = h.due
			}
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	if k.Leave == nil || !k.Leave() {
		k.removeAll()
	}
	return nil
}

func (k *Keeper) renew(ctx context.Context, h *held) {
	want := h.External
	m, err := k.Mapper.Map(ctx, h.Internal, want, k.Lifetime, h.Mapping)
	if ctx.Err() != nil && err != nil {
		return
	}
	if err != nil {
		h.due = time.Now().Add(retryMapping)
		if h.said != err.Error() {
			h.said = err.Error()
			k.notify(Event{h.Mapping, Failed, err})
		}
		return
	}
	life := m.Lifetime
	if life <= 0 || life > k.Lifetime {
		life = k.Lifetime
	}
	h.due = time.Now().Add(max(life/2, time.Second)) // a router that grants nothing must not keep us busy
	kind := Mapped
	if h.ok && (m.External != h.External || m.Addr != h.Addr) {
		kind = Moved
	}
	first := !h.ok || h.said != ""
	h.Mapping, h.ok, h.said = m, true, ""
	if first || kind == Moved {
		k.notify(Event{m, kind, nil})
	}
}

func (k *Keeper) notify(e Event) {
	if k.Notify != nil {
		k.Notify(e)
	}
}

func (k *Keeper) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, p := range k.Ports {
		h := k.mapped[p]
		if !h.ok {
			continue
		}
		if err := k.Mapper.Unmap(ctx, h.Mapping); err != nil {
			k.notify(Event{h.Mapping, Failed, fmt.Errorf("removing the mapping: %w", err)})
			continue
		}
		k.notify(Event{h.Mapping, Removed, nil})
	}
}

// Refused reports whether err is a router's refusal to map, for Uplink. Not to
// know a version of the protocol is none.
func Refused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r) && !(r.Code == unsupported && (r.Source == FromPCP || r.Source == FromNATPMP))
}
