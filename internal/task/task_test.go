package task

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

type facts map[string]string

func (f facts) Meta(_ context.Context, name string) (string, error) {
	if v, ok := f[name]; ok {
		return v, nil
	}
	return "", fault.New(fault.NotExist, "read fact", "", nil)
}

func (f facts) SetMeta(_ context.Context, name, value string) error {
	f[name] = value
	return nil
}

// TestClock: a task runs when its schedule says, one run at a time, a failure
// is no end, and after Pause nothing runs.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := events.NewBus(events.Options{})
		defer bus.Close(t.Context())
		sub := bus.Subscribe("test", events.TaskRun)
		var cutoffs []time.Time
		r := New(Options{Facts: facts{}, Bus: bus, Log: slog.New(slog.DiscardHandler), Prune: func(_ context.Context, before time.Time) (int64, error) {
			cutoffs = append(cutoffs, before)
			if len(cutoffs) == 2 {
				return 0, errors.New("the database is away")
			}
			return 7, nil
		}})
		tk := config.Task{Name: "old", Do: config.WorkEvents, Older: config.Duration(24 * time.Hour)}
		if err := tk.Schedule.UnmarshalText([]byte("CRON_TZ=UTC 30 3 * * *")); err != nil {
			t.Fatal(err)
		}
		r.Use([]config.Task{tk})
		r.Resume()
		time.Sleep(72 * time.Hour) // from midnight of 2000-01-01
		r.Pause()
		time.Sleep(72 * time.Hour)
		if len(cutoffs) != 3 {
			t.Fatalf("%d runs in three days", len(cutoffs))
		}
		for i, at := range cutoffs {
			if want := time.Date(2000, 1, i, 3, 30, 0, 0, time.UTC); at.Sub(want).Abs() > time.Second {
				t.Errorf("run %d is for events before %v, want %v", i, at.UTC(), want)
			}
		}
		first, second := <-sub.C(), <-sub.C()
		if first.Fault != fault.None || first.Target != "old" || first.Detail != "events: 7 events" {
			t.Errorf("first run %+v", first)
		}
		if second.Fault == fault.None || !strings.Contains(second.Detail, "1 failures; the database is away") {
			t.Errorf("second run %+v", second)
		}
		st, err := r.States(t.Context())
		if err != nil || len(st) != 1 || st[0].Last == nil || st[0].Last.Events != 7 || st[0].Running {
			t.Errorf("states %+v, %v", st, err)
		}
		if _, err := r.Run(t.Context(), "none", false); fault.KindOf(err) != fault.NotExist {
			t.Errorf("a task that is not there: %v", err)
		}
		if rep, err := r.Run(t.Context(), "old", true); err != nil || !rep.Dry || rep.Events != 0 || len(cutoffs) != 3 {
			t.Errorf("a dry run: %+v, %v", rep, err)
		}
	})
}

// TestOneRunAtATime: a second run of the same task is refused while one is going on.
func TestOneRunAtATime(t *testing.T) {
	bus := events.NewBus(events.Options{})
	defer bus.Close(t.Context())
	begun, end := make(chan struct{}), make(chan struct{})
	r := New(Options{Facts: facts{}, Bus: bus, Log: slog.New(slog.DiscardHandler), Sweep: func(context.Context) (int64, error) {
		close(begun)
		<-end
		return 1, nil
	}})
	r.Use([]config.Task{{Name: "sweep", Do: config.WorkSweep}, {Name: "keep", Do: config.WorkRetention}})
	done := make(chan error)
	go func() {
		_, err := r.Run(t.Context(), "sweep", false)
		done <- err
	}()
	<-begun
	if _, err := r.Run(t.Context(), "sweep", false); fault.KindOf(err) != fault.Busy {
		t.Errorf("a second run: %v", err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := r.Run(t.Context(), "keep", false); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("retention without a server: %v", err)
	}
}
