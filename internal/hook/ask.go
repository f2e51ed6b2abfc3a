package hook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// question puts an event that has not happened yet to a receiver; nil lets it
// happen. The texts of the faults are for the client.
func (r *Runner) question(ctx context.Context, h *rule, e *events.Event) error {
	if !h.wants(e, func() []string { return r.groups(ctx, e.User) }) {
		return nil
	}
	m, err := newMessage(h, e, false)
	if err != nil {
		return err
	}
	t := r.tally(h.Name)
	began := time.Now()
	a, err := r.answer(ctx, h, m)
	if r.o.Sent != nil {
		r.o.Sent(Sent{Hook: h.Name, By: string(h.Deliver), Asked: true, Try: 1, Began: began, Event: *e, Err: err})
	}
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return fault.New(fault.Canceled, "", "", context.Cause(ctx)) // the client has gone
	case err != nil:
		return r.noAnswer(h, t, e, err)
	case a.refused:
		t.delivered.Add(1)
		return refusal(h.Name, a.reason)
	}
	t.delivered.Add(1)
	return nil
}

// answer waits for a place among the questions under way and asks.
func (r *Runner) answer(ctx context.Context, h *rule, m message) (answer, error) {
	if err := r.permitted(h); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout.Std())
	defer cancel()
	select {
	case h.busy <- struct{}{}:
		defer func() { <-h.busy }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%d questions wait for an answer already, and none came within the timeout", cap(h.busy))
	}
	return h.sender.ask(ctx, m)
}

func (r *Runner) noAnswer(h *rule, t *tally, e *events.Event, err error) error {
	t.failed.Add(1)
	text := clip(plain(err.Error()), 500)
	t.problem.Store(&text)
	r.o.Log.Warn("a hook gave no answer", "hook", h.Name, "event", string(e.Kind), "user", e.User, "path", e.Path, "then", string(h.OnError), "err", text)
	if h.OnError == config.ErrorAllow {
		return nil
	}
	return fault.Text(fault.Busy, fmt.Sprintf("this must be checked first, and the check %s gave no answer; try again later", h.Name))
}

func refusal(name, reason string) error {
	if reason == "" {
		return fault.Text(fault.Denied, "refused by the check "+name)
	}
	return fault.Text(fault.Denied, "refused by the check "+name+": "+reason)
}

// Tested is what came of a test.
type Tested struct {
	Hook    string        `json:"hook"`
	Good    bool          `json:"good"`
	Took    time.Duration `json:"took_ns"`
	Answer  string        `json:"answer,omitempty"`  // of mode ask: allowed, or refused with the reason
	Problem string        `json:"problem,omitempty"` // why it failed
}

// Test sends a made-up event to a hook, once and past the outbox.
// fault.NotExist when there is no hook of that name.
func (r *Runner) Test(ctx context.Context, name string) (Tested, error) {
	h := r.set.Load().find(name)
	if h == nil {
		return Tested{}, fault.Text(fault.NotExist, fmt.Sprintf("there is no hook %q; \"portreeve hook list\" shows them", clip(plain(name), 80)))
	}
	e := events.Event{Time: time.Now(), Kind: h.kinds[0], User: "test", Protocol: "test", Remote: "192.0.2.1:1024", Path: "/test.txt", Bytes: 4, Detail: "a test by an administrator"}
	m, err := newMessage(h, &e, true)
	if err != nil {
		return Tested{}, err
	}
	out := Tested{Hook: name}
	began := time.Now()
	if err := r.permitted(h); err != nil {
		out.Problem = err.Error()
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout.Std())
	defer cancel()
	if h.Mode == config.HookAsk {
		var a answer
		if a, err = h.sender.ask(ctx, m); err == nil {
			out.Answer = "allowed"
			if a.refused {
				out.Answer = "refused"
				if a.reason != "" {
					out.Answer += ": " + a.reason
				}
			}
		}
	} else {
		err = h.sender.deliver(ctx, []message{m})
	}
	out.Took, out.Good = time.Since(began), err == nil
	if err != nil {
		out.Problem = clip(plain(err.Error()), 500)
	}
	return out, nil
}
