package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// sink keeps events in memory and can be told to fail or to hang.
type sink struct {
	mu      sync.Mutex
	batches [][]Event
	err     error
	gate    chan struct{} // Append waits for it when not nil
}

func (s *sink) Append(ctx context.Context, es []Event) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.batches = append(s.batches, append([]Event(nil), es...))
	return nil
}

func (s *sink) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) all() (es []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		es = append(es, b...)
	}
	return es
}

func publish(t *testing.T, b *Bus, e Event) {
	t.Helper()
	if err := b.Publish(t.Context(), e); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

func TestBatchByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b := NewBus(Options{Sink: s, Node: "n1"})
		began := time.Now()
		publish(t, b, Event{Kind: Login, User: "ann"})
		publish(t, b, Event{Kind: Upload, Fault: fault.Quota, Node: "n2"})
		publish(t, b, Event{Kind: Listing})
		time.Sleep(99 * time.Millisecond)
		synctest.Wait()
		if n := len(s.all()); n != 0 {
			t.Errorf("%d events were written before the time was up", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		es := s.all()
		if len(es) != 2 || len(s.batches) != 1 {
			t.Fatalf("got %v in %d batches, want 2 events in one, listings are not kept", es, len(s.batches))
		}
		if e := es[0]; e.Result != "ok" || e.Node != "n1" || !e.Time.Equal(began) {
			t.Errorf("event = %+v", e)
		}
		if e := es[1]; e.Result != "quota" || e.Node != "n2" {
			t.Errorf("event = %+v", e)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestBatchBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		b := NewBus(Options{Sink: s})
		for i := range 600 {
			publish(t, b, Event{Kind: Upload, Bytes: int64(i)})
		}
		synctest.Wait() // no time passes: full batches go at once
		if len(s.batches) != 2 || len(s.batches[0]) != 256 || len(s.batches[1]) != 256 {
			t.Errorf("%d batches before time passed, want 2 of 256", len(s.batches))
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		es := s.all()
		if len(es) != 600 {
			t.Fatalf("%d events kept, want 600: Close must flush", len(es))
		}
		for i, e := range es {
			if e.Bytes != int64(i) {
				t.Fatalf("event %d is number %d: order is lost", i, e.Bytes)
			}
		}
		if st := b.Stats(); st.Written != 600 || st.Published != 600 || st.Dropped != 0 || st.Queued != 0 {
			t.Errorf("stats = %+v", st)
		}
		if err := b.Publish(t.Context(), Event{Kind: Stop}); fault.KindOf(err) != fault.Stopping {
			t.Errorf("Publish after Close = %v", err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("second Close = %v", err)
		}
	})
}

func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{gate: make(chan struct{})}
		b := NewBus(Options{Sink: s, Queue: 4, Batch: 1, Wait: 30 * time.Millisecond})
		for range 5 { // one with the sink, four in the queue
			publish(t, b, Event{Kind: Upload})
			synctest.Wait()
		}
		began := time.Now()
		err := b.Publish(t.Context(), Event{Kind: Upload})
		if fault.KindOf(err) != fault.Unavailable || time.Since(began) != 30*time.Millisecond {
			t.Errorf("Publish on a full queue = %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Publish(ctx, Event{Kind: Upload}); fault.KindOf(err) != fault.Canceled {
			t.Errorf("Publish with an ended context = %v", err)
		}
		publish(t, b, Event{Kind: Listing}) // not kept, so it never waits
		if st := b.Stats(); st.Dropped != 2 || st.Queued != 4 {
			t.Errorf("stats = %+v", st)
		}
		close(s.gate)
		if err := b.Close(t.Context()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Close must tell of the loss: %v", err)
		}
		if n := len(s.all()); n != 5 {
			t.Errorf("%d kept, want 5", n)
		}
	})
}

func TestSinkRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &sink{err: errors.New("disk on fire")}
		b := NewBus(Options{Sink: s, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		publish(t, b, Event{Kind: Login})
		time.Sleep(3 * time.Second)
		publish(t, b, Event{Kind: Logout})
		s.set(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(s.all()); n != 2 {
			t.Errorf("%d kept, want 2", n)
		}
		if n := strings.Count(log.String(), "disk on fire"); n != 1 {
			t.Errorf("the failure was told %d times, want once:\n%s", n, &log)
		}
		if !strings.Contains(log.String(), "stored again") {
			t.Errorf("the recovery was not told:\n%s", &log)
		}
		if st := b.Stats(); st.Failures < 3 || st.Dropped != 0 {
			t.Errorf("stats = %+v", st)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSinkDownAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{Sink: &sink{err: errors.New("down")}})
		for range 3 {
			publish(t, b, Event{Kind: Login})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		err := b.Close(ctx)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "3 events") {
			t.Errorf("Close = %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestBatchThatCanNeverBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{err: fault.Text(fault.Invalid, "no such column")}
		b := NewBus(Options{Sink: s})
		publish(t, b, Event{Kind: Login})
		time.Sleep(time.Second)
		s.set(nil)
		publish(t, b, Event{Kind: Logout})
		_ = b.Close(t.Context())
		if es := s.all(); len(es) != 1 || es[0].Kind != Logout || b.Stats().Dropped != 1 {
			t.Errorf("kept %v, stats %+v", es, b.Stats())
		}
	})
}

func TestSubscriptions(t *testing.T) {
	b := NewBus(Options{})
	all := b.Subscribe("all")
	some := b.Subscribe("some", Upload, Delete)
	slow := b.Subscribe("slow")
	for i := range subscriptionBuffer + 10 {
		publish(t, b, Event{Kind: Upload, Bytes: int64(i)})
		<-all.C()
		<-some.C()
	}
	publish(t, b, Event{Kind: Login})
	if e := <-all.C(); e.Kind != Login || e.Result != "ok" || e.Time.IsZero() {
		t.Errorf("event = %+v", e)
	}
	if len(some.C()) != 0 {
		t.Error("a subscriber got a kind it did not ask for")
	}
	if n := slow.Dropped(); n != 11 {
		t.Errorf("slow subscriber lost %d, want 11", n)
	}
	if all.Dropped() != 0 || len(b.Subscriptions()) != 3 {
		t.Errorf("dropped %d, %d subscriptions", all.Dropped(), len(b.Subscriptions()))
	}
	some.Close()
	some.Close()
	publish(t, b, Event{Kind: Upload})
	if _, open := <-some.C(); open {
		t.Error("a closed subscription still receives")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	slow.Run(t.Context(), func(Event) { n++ })
	if n != subscriptionBuffer {
		t.Errorf("drained %d after Close, want %d", n, subscriptionBuffer)
	}
	if _, open := <-b.Subscribe("late").C(); open {
		t.Error("a subscription on a closed bus is open")
	}
}

func TestSubscriptionRunEnds(t *testing.T) {
	b := NewBus(Options{})
	defer b.Close(context.Background())
	ctx, cancel := context.WithCancel(t.Context())
	s := b.Subscribe("x")
	got := make(chan Event, 1)
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx, func(e Event) { got <- e }) }()
	publish(t, b, Event{Kind: Login})
	<-got
	cancel()
	<-done
}

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus(Options{AskTime: time.Second})
		if b.Asks(Upload) || b.Ask(t.Context(), Event{Kind: Upload}) != nil {
			t.Error("a bus without hooks refuses")
		}
		var asked []string
		b.OnAsk("first", func(_ context.Context, e Event) error { asked = append(asked, "first "+e.Path); return nil }, Upload)
		remove := b.OnAsk("second", func(context.Context, Event) error { return errors.New("not on Sundays") }, Upload)
		b.OnAsk("third", func(context.Context, Event) error { asked = append(asked, "third"); return nil })
		err := b.Ask(t.Context(), Event{Kind: Upload, Path: "/a"})
		if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "second") || !strings.Contains(err.Error(), "Sundays") {
			t.Errorf("Ask = %v", err)
		}
		if fmt.Sprint(asked) != "[first /a]" {
			t.Errorf("asked %v: a refusal must end it", asked)
		}
		remove()
		remove()
		if err := b.Ask(t.Context(), Event{Kind: Upload}); err != nil {
			t.Errorf("Ask = %v", err)
		}
		if err := b.Ask(t.Context(), Event{Kind: Delete}); err != nil || asked[len(asked)-1] != "third" {
			t.Errorf("Ask = %v, asked %v", err, asked)
		}

		b.OnAsk("kind", func(context.Context, Event) error { return fault.Text(fault.Quota, "full") }, Mkdir)
		if err := b.Ask(t.Context(), Event{Kind: Mkdir}); fault.KindOf(err) != fault.Quota {
			t.Errorf("the hook's fault is lost: %v", err)
		}
		b.OnAsk("panics", func(context.Context, Event) error { panic("x") }, Rmdir)
		if err := b.Ask(t.Context(), Event{Kind: Rmdir}); fault.KindOf(err) != fault.Internal {
			t.Errorf("panic = %v", err)
		}
		hang := make(chan struct{})
		b.OnAsk("hangs", func(context.Context, Event) error { <-hang; return nil }, Rename)
		began := time.Now()
		if err := b.Ask(t.Context(), Event{Kind: Rename}); fault.KindOf(err) != fault.Unavailable || time.Since(began) != time.Second {
			t.Errorf("a hook that hangs: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Ask(ctx, Event{Kind: Rename}); fault.KindOf(err) != fault.Canceled {
			t.Errorf("ended context: %v", err)
		}
		close(hang)
	})
}

// Publish, Subscribe and Close from many goroutines: for the race detector,
// and nothing accepted may be lost.
func TestConcurrent(t *testing.T) {
	s := &sink{}
	b := NewBus(Options{Sink: s, Queue: 64})
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for range 8 {
		wg.Go(func() {
			for range 300 {
				sub := b.Subscribe("x", Upload)
				err := b.Publish(context.Background(), Event{Kind: Upload})
				sub.Close()
				if err == nil {
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	_ = b.Close(t.Context())
	wg.Wait()
	if n := len(s.all()); n != accepted {
		t.Errorf("%d accepted, %d kept", accepted, n)
	}
}

func TestLogSubscriber(t *testing.T) {
	tests := []struct {
		e     Event
		level string
		want  map[string]any
	}{
		{Event{Kind: Upload, User: "ann", Path: "/a\nb", Bytes: 5, Took: time.Second, Remote: "192.0.2.1:5"}, "INFO",
			map[string]any{"msg": "file uploaded", "user": "ann", "path": "/a\nb", "bytes": 5.0, "code": "ok", "event": "upload", "remote": "192.0.2.1:5"}},
		{Event{Kind: Download, Fault: fault.Canceled, Detail: "gone"}, "INFO", map[string]any{"msg": "download failed", "code": "canceled", "err": "gone", "bytes": 0.0}},
		{Event{Kind: Upload, Fault: fault.NoSpace}, "ERROR", map[string]any{"code": "no-space"}},
		{Event{Kind: LoginFailed, Fault: fault.Login, Detail: "wrong password", User: "x"}, "WARN", map[string]any{"msg": "log-in failed", "err": "wrong password"}},
		{Event{Kind: Login, User: "ann"}, "INFO", map[string]any{"msg": "logged in", "code": "ok"}},
		{Event{Kind: Listing}, "DEBUG", map[string]any{"msg": "directory listed"}},
		{Event{Kind: "custom", Detail: "d"}, "INFO", map[string]any{"msg": "custom", "detail": "d"}},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		LogSubscriber(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))(tt.e)
		got := map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%s: %v in %q", tt.e.Kind, err, &out)
		}
		if got["level"] != tt.level {
			t.Errorf("%s: level %v, want %s", tt.e.Kind, got["level"], tt.level)
		}
		for k, v := range tt.want {
			if got[k] != v {
				t.Errorf("%s: %s = %v, want %v", tt.e.Kind, k, got[k], v)
			}
		}
	}
	var out bytes.Buffer
	LogSubscriber(slog.New(slog.NewJSONHandler(&out, nil)))(Event{Kind: Listing})
	if out.Len() != 0 {
		t.Error("a listing is logged at info")
	}
}

// Publishers that wait for room when Close begins are let go, and never send
// on the closed queue.
func TestCloseFreesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{gate: make(chan struct{})}
		b := NewBus(Options{Sink: s, Queue: 1, Batch: 1, Wait: time.Hour})
		for range 2 {
			publish(t, b, Event{Kind: Upload})
			synctest.Wait()
		}
		answers := make(chan error, 50)
		for range cap(answers) {
			go func() { answers <- b.Publish(context.Background(), Event{Kind: Upload}) }()
		}
		synctest.Wait()
		began := time.Now()
		closed := make(chan error)
		go func() { closed <- b.Close(context.Background()) }()
		for range cap(answers) {
			if err := <-answers; fault.KindOf(err) != fault.Stopping {
				t.Errorf("a waiting Publish = %v", err)
			}
		}
		if time.Since(began) != 0 {
			t.Errorf("they waited %v", time.Since(began))
		}
		close(s.gate)
		if err := <-closed; fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Close = %v", err)
		}
		if st := b.Stats(); len(s.all()) != 2 || st.Dropped != 50 {
			t.Errorf("%d kept, stats %+v", len(s.all()), st)
		}
	})
}

// Close against publishers that are just about to send: without the wait for
// them a send on a closed channel panics in some round.
func TestCloseWhilePublishing(t *testing.T) {
	for range 150 {
		b := NewBus(Options{Sink: &sink{}, Queue: 512, Every: time.Microsecond})
		var wg sync.WaitGroup
		running := make(chan struct{}, 4)
		for range cap(running) {
			wg.Go(func() {
				running <- struct{}{}
				for b.Publish(context.Background(), Event{Kind: Upload}) == nil {
				}
			})
		}
		for range cap(running) {
			<-running
		}
		_ = b.Close(t.Context()) // what found no room counts as lost, which is right here
		accepted := b.Stats()
		wg.Wait()
		if accepted.Published != accepted.Written+accepted.Dropped {
			t.Fatalf("events are unaccounted for: %+v", accepted)
		}
	}
}
