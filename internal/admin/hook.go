package admin

import (
	"context"
	"errors"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/task"
)

// Hooks are those of the configuration; *hook.Runner satisfies it.
type Hooks interface {
	States(ctx context.Context) ([]hook.State, error)
	Test(ctx context.Context, name string) (hook.Tested, error)
	Wake(name string)
}

// Tasks are those of the configuration; *task.Runner satisfies it.
type Tasks interface {
	States(ctx context.Context) ([]task.State, error)
	Run(ctx context.Context, name string, dry bool) (task.Report, error)
}

// Moved is how many dead deliveries a call was about.
type Moved struct {
	Deliveries int64 `json:"deliveries"`
}

func (s *Service) mayHooks(ctx context.Context, scope Scope) error {
	return errors.Join(s.may(ctx, scope), unlimited(ctx, "see or use hooks and tasks"))
}

func (s *Service) theHooks() (Hooks, error) {
	if s.hooks == nil {
		return nil, fault.New(fault.Unsupported, "find the hooks", "", errors.New("admin: no Hooks"))
	}
	return s.hooks()
}

func (s *Service) theTasks() (Tasks, error) {
	if s.tasks == nil {
		return nil, fault.New(fault.Unsupported, "find the tasks", "", errors.New("admin: no Tasks"))
	}
	return s.tasks()
}

// Hooks describes the hooks and what waits for them.
func (s *Service) Hooks(ctx context.Context) ([]hook.State, error) {
	if err := s.mayHooks(ctx, ScopeRead); err != nil {
		return nil, err
	}
	h, err := s.theHooks()
	if err != nil {
		return nil, err
	}
	return h.States(ctx)
}

// TestHook sends a made-up event to a hook.
func (s *Service) TestHook(ctx context.Context, name string) (hook.Tested, error) {
	if err := s.mayHooks(ctx, ScopeServer); err != nil {
		return hook.Tested{}, err
	}
	h, err := s.theHooks()
	if err != nil {
		return hook.Tested{}, err
	}
	return h.Test(ctx, name)
}

// DeadDeliveries lists what was given up, the oldest first, with numbers after after.
func (s *Service) DeadDeliveries(ctx context.Context, after int64, limit int) ([]events.Delivery, error) {
	if err := s.mayHooks(ctx, ScopeRead); err != nil {
		return nil, err
	}
	ds, err := s.store.DeadDeliveries(ctx, after, limit)
	if ds == nil {
		ds = []events.Delivery{}
	}
	return ds, err
}

// RetryDeliveries makes a dead delivery, or with 0 all of them, due again. A
// server that is not running does the rest when it is.
func (s *Service) RetryDeliveries(ctx context.Context, id int64) (Moved, error) {
	if err := s.mayHooks(ctx, ScopeServer); err != nil {
		return Moved{}, err
	}
	n, err := s.store.RetryDelivery(ctx, id)
	if err == nil && s.hooks != nil {
		if h, err := s.hooks(); err == nil { // else they are found by looking
			h.Wake("")
		}
	}
	return Moved{n}, err
}

// DropDeliveries removes a dead delivery, or with 0 all of them.
func (s *Service) DropDeliveries(ctx context.Context, id int64) (Moved, error) {
	if err := s.mayHooks(ctx, ScopeServer); err != nil {
		return Moved{}, err
	}
	n, err := s.store.DropDelivery(ctx, id)
	return Moved{n}, err
}

// Tasks describes the tasks and their last runs.
func (s *Service) Tasks(ctx context.Context) ([]task.State, error) {
	if err := s.mayHooks(ctx, ScopeRead); err != nil {
		return nil, err
	}
	t, err := s.theTasks()
	if err != nil {
		return nil, err
	}
	return t.States(ctx)
}

// RunTask runs a task now and waits for its end.
func (s *Service) RunTask(ctx context.Context, name string, dry bool) (task.Report, error) {
	if err := s.mayHooks(ctx, ScopeServer); err != nil {
		return task.Report{}, err
	}
	t, err := s.theTasks()
	if err != nil {
		return task.Report{}, err
	}
	return t.Run(ctx, name, dry)
}
