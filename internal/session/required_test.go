package session

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// shaky is an audit trail that can be made to fail.
type shaky struct {
	rig  *rig
	down atomic.Bool
}

func (s *shaky) Append(ctx context.Context, es []events.Event) error {
	if s.down.Load() {
		return errors.New("disk full")
	}
	return s.rig.Append(ctx, es)
}

// TestRequiredAudit checks both promises: what was reported is in the trail at
// that moment, and while the trail cannot be written nothing is reported.
func TestRequiredAudit(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	sink := &shaky{rig: r}
	bus := events.NewBus(events.Options{Sink: sink, Required: true, Wait: 50 * time.Millisecond})
	defer bus.Close(context.Background())
	r.m.bus = bus
	r.user(account.User{Name: "ann", Comment: "c"})
	ctx := t.Context()
	login := func() (*Guest, *Session, error) {
		g, err := r.m.Connect(ctx, origin(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close(nil) })
		s, err := g.Login(ctx, auth.Password{User: "ann", Secret: "secret"})
		return g, s, err
	}
	last := func() events.Event {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.recorded) == 0 {
			return events.Event{}
		}
		return r.recorded[len(r.recorded)-1]
	}
	_, s, err := login()
	if err != nil || last().Kind != events.Login {
		t.Fatalf("log-in %v; the trail ends with %+v", err, last())
	}
	f, err := s.Create(ctx, "/a", vfs.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Commit(ctx), f.Close(nil)); err != nil || last().Kind != events.Upload || last().Bytes != 5 {
		t.Fatalf("upload %v; the trail ends with %+v", err, last())
	}
	if err := s.Mkdir(ctx, "/d", 0o755); err != nil || last().Kind != events.Mkdir {
		t.Fatalf("mkdir %v; the trail ends with %+v", err, last())
	}

	if f, err = s.Create(ctx, "/b", vfs.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	sink.down.Store(true)
	if err := errors.Join(f.Commit(ctx), f.Close(nil)); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an upload whose event is not kept: %v", err)
	}
	if _, err := s.Create(ctx, "/c", vfs.CreateOptions{}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an upload while the trail fails: %v", err)
	}
	if err := s.Remove(ctx, "/a"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a deletion while the trail fails: %v", err)
	}
	if _, err := s.Stat(ctx, "/a"); err != nil {
		t.Errorf("looking must still be possible: %v", err)
	}
	if _, _, err := login(); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a log-in while the trail fails: %v", err)
	}
	sink.down.Store(false)
	for end := time.Now().Add(10 * time.Second); bus.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the trail does not recover")
		}
	}
	if err := s.Remove(ctx, "/a"); err != nil || last().Kind != events.Delete {
		t.Errorf("after recovery: %v; the trail ends with %+v", err, last())
	}
}
