package session

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Session is what one logged-in user does. Methods may be called concurrently.
// Names are client-visible absolute paths; they are cleaned here, and the one
// clean path is what permission, mount, quota, event and storage see.
// It owns no goroutine and no timer: idle it is this struct and its storages.
type Session struct {
	m    *Manager
	g    *Guest
	user string
	// straight: links are not followed, because a user may have laid them to a
	// place where the user has fewer rights than the session.
	straight bool
	method   string   // how the user logged in; several methods are joined by "+"
	proved   []string // factors
	// Groups that a directory vouched for at the log-in, besides those of the row.
	granted []string
	began   time.Time
	who     *account.User // as it was at log-in
	ctx     context.Context
	cancel  context.CancelCauseFunc
	pace    *limits.Pace
	view    atomic.Pointer[view]

	sent, received atomic.Int64

	mu      sync.Mutex
	closed  bool
	command string
	path    string
	files   *File // open files, the newest first
	open    int   // of those
	lists   int   // listings under way
	old     []*view
}

// view is the user's tree under one policy. It does not change; Refresh
// puts a new one in its place.
type view struct {
	policy *account.Policy
	mounts *vfs.Mounts
	sub    bool            // some rule or mount is not at the root
	ruled  bool            // rules treat places differently
	user   *limits.Scope   // nil without a quota
	scopes []*limits.Scope // by index of mounts.All(); nil when no mount has a quota
}

func (m *Manager) view(ctx context.Context, p *account.Policy) (*view, error) {
	if len(p.Mounts) == 0 {
		return nil, fault.Text(fault.Unavailable, fmt.Sprintf("the account %q has no home directory; set one with: portreeve user set %s --home DIR", p.User, p.User))
	}
	list := make([]vfs.Mount, 0, len(p.Mounts))
	shut := func() {
		for _, mt := range list {
			if c, ok := mt.FS.(interface{ Close() error }); ok {
				c.Close()
			}
		}
	}
	for i := range p.Mounts {
		f, err := m.open(ctx, p.Mounts[i], *p)
		if err != nil {
			shut()
			if fe := (*fault.Error)(nil); errors.As(err, &fe) {
				return nil, err // it names the mount already
			}
			return nil, fault.Wrap("open the storage of", p.Mounts[i].Path, err)
		}
		list = append(list, vfs.Mount{Path: p.Mounts[i].Path, FS: f, Data: &p.Mounts[i]})
	}
	mounts, err := vfs.NewMounts(list...)
	if err != nil {
		shut()
		return nil, fault.Wrap("mount", "", err)
	}
	v := &view{policy: p, mounts: mounts, user: m.limits.Quota(p.User, p.Quota)}
	for i, mt := range mounts.All() {
		am := mt.Data.(*account.Mount)
		v.sub = v.sub || mt.Path != "/"
		if sc := m.limits.Quota(limits.MountScope(am.Source), am.Quota); sc != nil {
			if v.scopes == nil {
				v.scopes = make([]*limits.Scope, len(mounts.All()))
			}
			v.scopes[i] = sc
		}
	}
	for _, r := range p.Rules {
		v.sub = v.sub || r.Path != "/"
		v.ruled = v.ruled || r.Path != "/" || len(r.Allow)+len(r.Deny)+len(r.Hide) > 0
	}
	return v, nil
}

func (v *view) mount(i int) *account.Mount { return v.mounts.All()[i].Data.(*account.Mount) }

func (v *view) scope(i int) *limits.Scope {
	if v.scopes == nil {
		return nil
	}
	return v.scopes[i]
}

// close releases storages and quota scopes.
func (v *view) close(ctx context.Context) error {
	err := v.user.Release(ctx)
	for _, sc := range v.scopes {
		if e := sc.Release(ctx); err == nil {
			err = e
		}
	}
	if e := v.mounts.Close(); err == nil {
		err = e
	}
	return err
}

// share finds the copies of user and policy that other sessions of the user hold.
func (m *Manager) share(u account.User, p account.Policy) *shared {
	u.LastLogin = time.Time{} // differs from log-in to log-in
	m.mu.Lock()
	defer m.mu.Unlock()
	sh := m.policies[u.Name]
	if sh == nil {
		sh = &shared{}
		m.policies[u.Name] = sh
	}
	if sh.user == nil || !reflect.DeepEqual(*sh.policy, p) || !reflect.DeepEqual(*sh.user, u) {
		sh.user, sh.policy = &u, &p
	}
	sh.refs++
	return &shared{user: sh.user, policy: sh.policy}
}

func (m *Manager) unshare(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sh := m.policies[user]; sh != nil {
		if sh.refs--; sh.refs <= 0 {
			delete(m.policies, user)
		}
	}
}

// ID is the connection's id.
func (s *Session) ID() string { return s.g.id }

// User is the account's name.
func (s *Session) User() string { return s.user }

// Method is how the user logged in: "password", "certificate", "key", "anonymous".
func (s *Session) Method() string { return s.method }

// Context is cancelled with the cause when the session is kicked, stopped or closed.
func (s *Session) Context() context.Context { return s.ctx }

// OnKick sets the front's way to say good-bye; see Guest.OnKick.
func (s *Session) OnKick(fn func(reason string)) { s.g.OnKick(fn) }

// Note says what the front is doing, for the live view. Empty strings: nothing.
func (s *Session) Note(command, path string) {
	s.mu.Lock()
	s.command, s.path = command, path
	s.mu.Unlock()
}

// Rights returns what holds at name: the rule's rights, less what a read-only
// mount takes away. A name that is not valid or is hidden has none.
func (s *Session) Rights(name string) account.Rights {
	name, err := vfs.CleanExisting(name)
	if err != nil {
		return 0
	}
	v := s.view.Load()
	if v.policy.Hidden(name) {
		return 0
	}
	return v.rights(name)
}

func (v *view) rights(name string) account.Rights {
	r := v.policy.At(name)
	if _, _, i := v.mounts.Resolve(name); i < 0 || v.mount(i).ReadOnly {
		r &= account.ReadOnly
	}
	return r
}

// Usage returns the user's quota use and maximum; zero maxima are no limit,
// and without any limit nothing is counted.
func (s *Session) Usage(ctx context.Context) (limits.Usage, error) {
	u, err := s.view.Load().user.Usage(ctx)
	return u, fault.Wrap("quota", "", err)
}

// busy reports whether a transfer or listing is under way.
func (s *Session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open+s.lists > 0
}

// idle is called when a transfer or listing ends: a stopping server lets go.
func (s *Session) idle() {
	if s.m.isStopping() && !s.busy() {
		s.g.end(errStopping(), "the server is shutting down")
	}
}

// over returns why the session cannot go on, nil while it can.
func (s *Session) over() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return context.Cause(s.ctx)
}

// Close ends the session: open files are closed as failed, the logout event is
// published. cause says why (nil: the client said good-bye). It may be called
// more than once. The Guest stays and may log in again.
func (s *Session) Close(cause error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	var left []*File
	for f := s.files; f != nil; f = f.next {
		left = append(left, f)
	}
	s.mu.Unlock()
	if over := s.over(); over != nil {
		cause = over // why it really ended, not how the connection noticed
	}
	end := cause
	if end == nil {
		end = fault.Text(fault.Canceled, "the session is closed")
	}
	s.cancel(end)
	for _, f := range left {
		f.Close(end)
	}
	e := s.g.event(events.Logout)
	e.User = s.user
	e.Took = s.m.conf.Now().Sub(s.began)
	e.Bytes = s.sent.Load() + s.received.Load()
	if cause != nil {
		e.Fault, e.Detail = fault.KindOf(cause), cause.Error()
	}
	s.g.mu.Lock()
	if s.g.s == s {
		s.g.s = nil
	}
	s.g.mu.Unlock()
	s.g.conn.Logout()
	s.release()
	s.m.publish(s.m.ctx, e)
}

// release gives back what start took, except the slot.
func (s *Session) release() {
	if s.cancel != nil {
		s.cancel(context.Canceled)
	}
	s.pace.Release()
	s.m.unshare(s.who.Name)
	ctx := context.WithoutCancel(s.m.ctx)
	s.mu.Lock()
	views := append(slices.Clip(s.old), s.view.Load())
	s.mu.Unlock()
	for _, v := range views {
		if err := v.close(ctx); err != nil {
			s.m.log.Error("closing the storage of a session failed", "session", s.g.id, "user", s.user, "err", err)
		}
	}
}
