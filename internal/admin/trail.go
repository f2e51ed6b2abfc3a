package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// EventQuery chooses events of the trail; what is empty chooses all.
type EventQuery struct {
	Kinds   []string  `json:"kinds,omitempty"`
	User    string    `json:"user,omitempty"`
	Session string    `json:"session,omitempty"`
	Address string    `json:"address,omitempty"` // of the client
	Path    string    `json:"path,omitempty"`    // and what is below
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Failed  bool      `json:"failed,omitempty"`
	After   int64     `json:"after,omitempty"`  // larger numbers only
	Before  int64     `json:"before,omitempty"` // smaller numbers only
	Oldest  bool      `json:"oldest,omitempty"` // oldest first
	Limit   int       `json:"limit,omitempty"`  // 0: 100, 1,000 at most
}

// Events returns events, newest first unless the query says otherwise.
func (s *Service) Events(ctx context.Context, q EventQuery) ([]events.Event, error) {
	if err := errors.Join(s.may(ctx, ScopeRead), unlimited(ctx, "read the trail")); err != nil {
		return nil, err
	}
	f := store.EventFilter{User: q.User, Session: q.Session, Path: q.Path, Since: q.Since, Until: q.Until, Failed: q.Failed,
		After: q.After, Before: q.Before, Oldest: q.Oldest, Limit: q.Limit}
	for _, k := range q.Kinds {
		f.Kinds = append(f.Kinds, events.Kind(k))
	}
	if q.Address != "" {
		a, err := netip.ParseAddr(q.Address)
		if err != nil {
			return nil, fault.Text(fault.Invalid, fmt.Sprintf("%q is not an address", q.Address))
		}
		f.Address = a
	}
	es, err := s.store.ListEvents(ctx, f)
	if es == nil {
		es = []events.Event{}
	}
	return es, err
}

// Trail is what a check of the event chain found.
type Trail struct {
	store.Verdict
	Whole bool `json:"whole"` // nothing is broken
}

// VerifyEvents checks the chain of events, and marks that were taken of it
// earlier (texts like those of Trail.Head).
func (s *Service) VerifyEvents(ctx context.Context, marks []string) (Trail, error) {
	if err := errors.Join(s.may(ctx, ScopeRead), unlimited(ctx, "check the trail")); err != nil {
		return Trail{}, err
	}
	var ms []store.Mark
	for _, m := range marks {
		p, err := store.ParseMark(m)
		if err != nil {
			return Trail{}, err
		}
		ms = append(ms, p)
	}
	v, err := s.store.VerifyEvents(ctx, ms...)
	return Trail{v, err == nil && v.Err() == nil}, err
}
