// Package task owns the work that the server does by the clock, as [[task]]
// says: when it runs, retention rules, and the record of each run. What the
// other kinds of work do belongs to others and is handed in. It is apart from
// session because a clock and rules over many accounts are no session's.
package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
)

// Facts keeps what became of the last run; *store.DB satisfies it.
type Facts interface {
	Meta(ctx context.Context, name string) (string, error)
	SetMeta(ctx context.Context, name, value string) error
}

// Options are what a Runner works with. A nil function makes the work that
// needs it fail with fault.Unavailable.
type Options struct {
	Users   func(ctx context.Context, f func(u account.User) error) error
	Steward func(ctx context.Context, u account.User, task string) (*session.Steward, error)
	Sweep   func(ctx context.Context) (files int64, err error)
	Recount func(ctx context.Context) (accounts int64, err error)
	Prune   func(ctx context.Context, before time.Time) (events int64, err error)
	Facts   Facts
	Bus     *events.Bus
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Report is what a run did, or with Dry what it would have done.
type Report struct {
	Task     string        `json:"task"`
	Do       string        `json:"do"`
	Dry      bool          `json:"dry_run"`
	Began    time.Time     `json:"began"`
	Took     time.Duration `json:"took_ns"`
	Accounts int64         `json:"accounts"`
	Files    int64         `json:"files"`
	Bytes    int64         `json:"bytes"`
	Dirs     int64         `json:"dirs"`
	Events   int64         `json:"events"`
	Failures int64         `json:"failures"`
	Problem  string        `json:"problem,omitempty"` // the first failure
	Changes  []Change      `json:"changes,omitempty"` // the first 1,000
}

// Change is one file or directory that went, or would have.
type Change struct {
	User  string `json:"user"`
	Path  string `json:"path"`
	To    string `json:"to,omitempty"` // of an archive
	Bytes int64  `json:"bytes"`
	Dir   bool   `json:"dir,omitempty"`
}

const maxChanges = 1000

func (r *Report) note(c Change) {
	if len(r.Changes) < maxChanges {
		r.Changes = append(r.Changes, c)
	}
}

func (r *Report) fail(err error) {
	if r.Failures++; r.Problem == "" {
		r.Problem = err.Error()
	}
}

// Summary is the report in one line.
func (r *Report) Summary() string {
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(r.Accounts, "accounts")
	add(r.Files, "files")
	add(r.Bytes, "bytes")
	add(r.Dirs, "empty directories")
	add(r.Events, "events")
	add(r.Failures, "failures")
	text := r.Do + ": " + strings.Join(parts, ", ")
	if len(parts) == 0 {
		text = r.Do + ": nothing to do"
	}
	if r.Dry {
		text += " (dry run, nothing was changed)"
	}
	if r.Problem != "" {
		text += "; " + r.Problem
	}
	return text
}

// State is a task as it is shown to an administrator.
type State struct {
	Name     string    `json:"name"`
	Do       string    `json:"do"`
	Schedule string    `json:"schedule"`
	Next     time.Time `json:"next,omitzero"`
	Running  bool      `json:"running"`
	Last     *Report   `json:"last,omitempty"`
}

// Runner runs tasks. Methods may be called concurrently. Only one process may
// run the tasks of one database: a server that hands over pauses first.
type Runner struct {
	o Options

	mu     sync.Mutex // orders Use, Resume and Pause
	cancel context.CancelFunc
	wg     sync.WaitGroup

	seen  sync.RWMutex // of tasks and busy
	tasks []config.Task
	busy  map[string]bool
}

// New returns a runner without tasks that is paused.
func New(o Options) *Runner {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Runner{o: o, busy: map[string]bool{}}
}

// Use puts tasks in force. Runs under way are ended.
func (r *Runner) Use(tasks []config.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := r.cancel != nil
	r.pause()
	r.seen.Lock()
	r.tasks = tasks
	r.seen.Unlock()
	if running {
		r.resume()
	}
}

// Resume begins to run tasks by the clock; it does nothing when that is going on.
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
	for _, t := range r.list() {
		r.wg.Go(func() { r.clock(ctx, t) })
	}
}

// Pause ends runs under way and begins no more.
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

func (r *Runner) list() []config.Task {
	r.seen.RLock()
	defer r.seen.RUnlock()
	return r.tasks
}

// lookEvery is how often the clock on the wall is looked at: it may be set.
const lookEvery = time.Minute

// clock runs one task until ctx ends.
func (r *Runner) clock(ctx context.Context, t config.Task) {
	for {
		next := t.Schedule.Next(r.o.Now())
		if next.IsZero() {
			return
		}
		for r.o.Now().Before(next) {
			wait := time.NewTimer(min(next.Sub(r.o.Now()), lookEvery))
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
				return
			}
		}
		if _, err := r.run(ctx, &t, t.DryRun); err != nil && ctx.Err() == nil {
			r.o.Log.Error("a task was not run", "task", t.Name, "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// Run runs a task now. dry only says what it would do; the setting dry_run of
// the task stands either way. fault.NotExist, Busy while it is running.
func (r *Runner) Run(ctx context.Context, name string, dry bool) (Report, error) {
	for _, t := range r.list() {
		if t.Name == name {
			return r.run(ctx, &t, dry || t.DryRun)
		}
	}
	return Report{}, fault.Text(fault.NotExist, fmt.Sprintf("there is no task %q; \"portreeve task list\" shows them", name))
}

const fact = "task."

func (r *Runner) run(ctx context.Context, t *config.Task, dry bool) (Report, error) {
	r.seen.Lock()
	if r.busy[t.Name] {
		r.seen.Unlock()
		return Report{}, fault.Text(fault.Busy, fmt.Sprintf("the task %s is running already; wait for its end", t.Name))
	}
	r.busy[t.Name] = true
	r.seen.Unlock()
	defer func() {
		r.seen.Lock()
		delete(r.busy, t.Name)
		r.seen.Unlock()
	}()
	rep := Report{Task: t.Name, Do: string(t.Do), Dry: dry, Began: r.o.Now()}
	err := r.work(ctx, t, &rep)
	if fault.KindOf(err) == fault.Unsupported && rep.Failures == 0 {
		return rep, err
	}
	if err != nil {
		rep.fail(err)
	}
	rep.Took = r.o.Now().Sub(rep.Began)
	r.record(context.WithoutCancel(ctx), &rep)
	return rep, nil
}

func (r *Runner) work(ctx context.Context, t *config.Task, rep *Report) (err error) {
	missing := fault.Text(fault.Unsupported, "this needs the running server; start it and try again")
	switch t.Do {
	case config.WorkRetention:
		if r.o.Users == nil || r.o.Steward == nil {
			return missing
		}
		return r.retain(ctx, t, rep)
	case config.WorkSweep:
		if r.o.Sweep == nil {
			return missing
		}
		if !rep.Dry {
			rep.Files, err = r.o.Sweep(ctx)
		}
	case config.WorkQuota:
		if r.o.Recount == nil {
			return missing
		}
		if !rep.Dry {
			rep.Accounts, err = r.o.Recount(ctx)
		}
	case config.WorkEvents:
		if r.o.Prune == nil {
			return missing
		}
		if !rep.Dry {
			rep.Events, err = r.o.Prune(ctx, r.o.Now().Add(-t.Older.Std()))
		}
	default:
		return fault.New(fault.Internal, "run task "+t.Name, "", errors.New("unknown work "+string(t.Do)))
	}
	return err
}

// record publishes the run and keeps its report without the single changes,
// which have events of their own.
func (r *Runner) record(ctx context.Context, rep *Report) {
	e := events.Event{Kind: events.TaskRun, Protocol: "task", Target: rep.Task, Bytes: rep.Bytes, Took: rep.Took, Detail: rep.Summary()}
	if rep.Failures > 0 {
		e.Fault = fault.Unavailable
	}
	if err := r.o.Bus.Publish(ctx, e); err != nil {
		r.o.Log.Error("an event was not stored", "kind", string(e.Kind), "err", err)
	}
	short := *rep
	short.Changes = nil
	b, err := json.Marshal(short)
	if err == nil {
		err = r.o.Facts.SetMeta(ctx, fact+rep.Task, string(b))
	}
	if err != nil {
		r.o.Log.Warn("the report of a task was not kept", "task", rep.Task, "err", err)
	}
}

// States describes the tasks in force.
func (r *Runner) States(ctx context.Context) ([]State, error) {
	out := []State{}
	for _, t := range r.list() {
		r.seen.RLock()
		st := State{Name: t.Name, Do: string(t.Do), Schedule: t.Schedule.String(), Next: t.Schedule.Next(r.o.Now()), Running: r.busy[t.Name]}
		r.seen.RUnlock()
		text, err := r.o.Facts.Meta(ctx, fact+t.Name)
		switch fault.KindOf(err) {
		case fault.None:
			st.Last = &Report{}
			if err := json.Unmarshal([]byte(text), st.Last); err != nil {
				return nil, fault.New(fault.Unavailable, "read the report of task "+t.Name, "", err)
			}
		case fault.NotExist:
		default:
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}
