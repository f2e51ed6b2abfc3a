package session

import (
	"context"
	"slices"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// GroupsOf returns the groups of a user who has a session now.
func (m *Manager) GroupsOf(name string) ([]string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sh := m.policies[name]
	if sh == nil || sh.user == nil {
		return nil, false
	}
	return slices.Clone(sh.user.Groups), true
}

// Steward is the server itself at work in the tree of an account, by order of
// the configuration file. It has every right, and nothing else differs: paths,
// mounts that are read-only, quota, questions to hooks and events are those of
// any session, with protocol "task". It follows no links. Close must be called.
type Steward struct{ *Session }

// Steward opens the tree of u for a task of that name. It counts against no
// ceiling and is not among the live sessions; the server's stop ends it.
func (m *Manager) Steward(ctx context.Context, u account.User, task string) (*Steward, error) {
	if m.isStopping() {
		return nil, errStopping()
	}
	u, p, err := m.policy(ctx, u)
	if err != nil {
		return nil, err
	}
	p.Rules = []account.Rule{{Path: "/", Rights: account.All}}
	g := &Guest{m: m, id: newID(), origin: auth.Origin{Protocol: "task", Listener: task}, since: m.conf.Now()}
	sh := m.share(u, p)
	s := &Session{m: m, g: g, user: p.User, method: "task", straight: true, began: g.since, who: sh.user, pace: m.limits.Pace(p.User, p.Bandwidth)}
	v, err := m.view(ctx, sh.policy)
	if err != nil {
		m.unshare(u.Name)
		s.pace.Release()
		return nil, err
	}
	s.view.Store(v)
	s.ctx, s.cancel = context.WithCancelCause(m.ctx)
	g.s = s
	return &Steward{s}, nil
}

// Close gives the tree back.
func (s *Steward) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if !closed {
		s.cancel(fault.Text(fault.Canceled, "the task is over"))
		s.release()
	}
}
