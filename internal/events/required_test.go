package events

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

func TestRequiredIsKeptBeforePublishReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b := NewBus(Options{Sink: s, Required: true})
		defer b.Close(context.Background())
		began := time.Now()
		for i := range 5 {
			publish(t, b, Event{Kind: Upload})
			if n := len(s.all()); n != i+1 {
				t.Fatalf("after %d events %d are kept", i+1, n)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("they waited %v for company", d)
		}
	})
}

// Publishers that come while the sink works share its next call.
func TestRequiredGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{gate: make(chan struct{})}
		b := NewBus(Options{Sink: s, Required: true})
		var wg sync.WaitGroup
		for range 41 {
			wg.Go(func() { publish(t, b, Event{Kind: Upload}) })
			synctest.Wait() // the first is with the sink now
		}
		close(s.gate)
		wg.Wait()
		if len(s.batches) != 2 || len(s.batches[1]) != 40 {
			t.Errorf("%d calls of the sink, want 2", len(s.batches))
		}
		_ = b.Close(context.Background())
	})
}

func TestRequiredFailsWithTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{err: errors.New("disk full")}
		b := NewBus(Options{Sink: s, Required: true, Wait: time.Second})
		if b.Ready() != nil {
			t.Error("not ready at the start")
		}
		began := time.Now()
		if err := b.Publish(t.Context(), Event{Kind: Upload}); fault.KindOf(err) != fault.Unavailable || time.Since(began) != time.Second {
			t.Errorf("Publish = %v after %v", err, time.Since(began))
		}
		if fault.KindOf(b.Ready()) != fault.Unavailable {
			t.Errorf("Ready = %v while the sink fails", b.Ready())
		}
		s.set(nil)
		time.Sleep(10 * time.Second)
		if b.Ready() != nil || len(s.all()) != 1 {
			t.Errorf("after recovery: %v, %d kept", b.Ready(), len(s.all()))
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestObserve(t *testing.T) {
	var n atomic.Int64
	b := NewBus(Options{Observe: func(e Event) {
		if e.Result == "quota" {
			n.Add(1)
		}
	}})
	publish(t, b, Event{Kind: Upload, Fault: fault.Quota})
	publish(t, b, Event{Kind: Listing})
	if n.Load() != 1 {
		t.Errorf("observed %d", n.Load())
	}
}
