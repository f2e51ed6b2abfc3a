package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/store"
	"github.com/portreeve/portreeve/internal/task"
)

// askTime is how long all hooks that are asked about one thing may take
// together; each has a shorter time of its own.
const askTime = 5 * time.Minute

// openHooks makes the runner of the hooks. They begin with what happens from
// now on when there were none before.
func (s *Server) openHooks(ctx context.Context, cfg *config.Config) error {
	set, err := s.compileHooks(ctx, cfg)
	if err != nil {
		return err
	}
	head := func(ctx context.Context) (int64, error) {
		m, err := s.db.EventHead(ctx)
		return m.ID, err
	}
	o := hook.Options{Outbox: s.db, Trail: s.db, Bus: s.bus, Groups: s.groupsOf, Log: s.log, Head: head, Dropped: s.metrics.droppedDeliveries}
	if s.traces != nil {
		o.Sent = s.traces.delivery
	}
	s.hooks = hook.NewRunner(o)
	s.hooks.Use(set)
	s.metrics.hooks(cfg.Hooks)
	s.openTasks(cfg)
	return nil
}

// openTasks makes the runner of the tasks.
func (s *Server) openTasks(cfg *config.Config) {
	users := func(ctx context.Context, f func(u account.User) error) error {
		return s.eachUser(ctx, func(u account.User, _ account.Policy) error { return f(u) })
	}
	s.tasks = task.New(task.Options{Users: users, Steward: s.manager.Steward, Sweep: s.sweepOnce, Prune: s.db.PruneEvents,
		Recount: s.recount, Facts: s.db, Bus: s.bus, Log: s.log})
	s.tasks.Use(cfg.Tasks)
}

// Tasks returns the runner of the tasks.
func (s *Server) Tasks() *task.Runner { return s.tasks }

// recount counts the files of every account with a quota anew.
func (s *Server) recount(ctx context.Context) (n int64, err error) {
	var errs []error
	err = s.eachUser(ctx, func(u account.User, p account.Policy) error {
		if p.Quota == (account.Quota{}) && !slices.ContainsFunc(p.Mounts, func(m account.Mount) bool { return m.Quota != account.Quota{} }) {
			return ctx.Err()
		}
		if _, err := s.manager.Rescan(ctx, u.Name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.Name, err))
		} else {
			n++
		}
		return ctx.Err()
	})
	return n, errors.Join(append(errs, err)...)
}

// Hooks returns the runner of the hooks.
func (s *Server) Hooks() *hook.Runner { return s.hooks }

// compileHooks makes the hooks of a configuration and refuses programs that
// users could replace.
func (s *Server) compileHooks(ctx context.Context, cfg *config.Config) (*hook.Set, error) {
	set, err := hook.Compile(cfg)
	if err != nil {
		return nil, err
	}
	exposed, err := s.exposed(ctx, set.Programs())
	if err != nil {
		return nil, err
	}
	for program, dir := range exposed {
		return nil, fmt.Errorf("the program %s of a hook lies in %s, which users see and may be able to write to; move it elsewhere", program, dir)
	}
	return set, nil
}

// watchPrograms blocks programs that came to lie in a directory of users, as
// when an account was given a new home.
func (s *Server) watchPrograms(ctx context.Context) {
	programs := s.hooks.Set().Programs()
	exposed, err := s.exposed(ctx, programs)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("whether users see the programs of hooks cannot be found out", "err", err)
		}
		return
	}
	for _, p := range programs {
		why := ""
		if dir := exposed[p]; dir != "" {
			why = fmt.Sprintf("the program %s lies in %s, which users see, so it is not run; move it elsewhere", p, dir)
			s.log.Error("a hook is blocked", "reason", why)
		}
		s.hooks.Block(p, why)
	}
}

// exposed finds the programs that lie in a directory that users see, by
// whatever path, and that directory.
func (s *Server) exposed(ctx context.Context, programs []string) (map[string]string, error) {
	out := map[string]string{}
	if len(programs) == 0 {
		return out, nil
	}
	real := map[string]string{}
	for _, p := range programs {
		r, err := filepath.EvalSymlinks(p)
		if err != nil {
			return nil, err
		}
		real[p] = r
	}
	seen := map[string]bool{}
	err := s.eachUser(ctx, func(_ account.User, p account.Policy) error {
		for _, m := range p.Mounts {
			if strings.HasPrefix(m.Source, memoryPrefix) || seen[m.Source] {
				continue
			}
			seen[m.Source] = true
			dirs := []string{filepath.Clean(m.Source)}
			if r, err := filepath.EvalSymlinks(m.Source); err == nil { // a home that does not exist yet holds no program
				dirs = append(dirs, r)
			}
			for _, p := range programs {
				if slices.ContainsFunc(dirs, func(d string) bool { return within(p, d) || within(real[p], d) }) {
					out[p] = m.Source
				}
			}
		}
		return nil
	})
	return out, err
}

// eachUser calls f for every account with its policy, until f fails.
func (s *Server) eachUser(ctx context.Context, f func(u account.User, p account.Policy) error) error {
	for after := ""; ; {
		users, err := s.db.ListUsers(ctx, after, sweepPage)
		if err != nil {
			return err
		}
		for _, u := range users {
			groups, err := s.db.GroupsOf(ctx, u)
			if err != nil {
				return err
			}
			if err := f(u, account.Fold(u, groups)); err != nil {
				return err
			}
			after = u.Name
		}
		if len(users) < sweepPage {
			return nil
		}
	}
}

// groupsOf returns the groups of an account, for the conditions of hooks: as
// its live session knows them, which covers accounts of a directory, else as stored.
func (s *Server) groupsOf(ctx context.Context, user string) []string {
	if groups, ok := s.manager.GroupsOf(user); ok {
		return groups
	}
	u, err := s.db.UserByName(ctx, user)
	if err != nil && fault.KindOf(err) != fault.NotExist && ctx.Err() == nil {
		s.log.Warn("the groups of an account cannot be read; hooks that are for groups are not told", "user", user, "err", err)
	}
	return u.Groups
}

// HooksOf returns the hooks of a configuration where no server runs: they can
// be looked at and tested, and nothing is delivered.
func HooksOf(cfg *config.Config, db *store.DB, bus *events.Bus) (*hook.Runner, error) {
	set, err := hook.Compile(cfg)
	if err != nil {
		return nil, err
	}
	r := hook.NewRunner(hook.Options{Outbox: db, Trail: db, Bus: bus, Log: slog.New(slog.DiscardHandler)})
	r.Use(set)
	return r, nil
}

// TasksOf is HooksOf for tasks. What works on the database alone can be run.
func TasksOf(cfg *config.Config, db *store.DB, bus *events.Bus) *task.Runner {
	r := task.New(task.Options{Prune: db.PruneEvents, Facts: db, Bus: bus, Log: slog.New(slog.DiscardHandler)})
	r.Use(cfg.Tasks)
	return r
}
