package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/transcript"
)

// Guest is an admitted connection. Before Login there is nothing else to call.
type Guest struct {
	m     *Manager
	id    string
	since time.Time
	conn  *limits.Conn

	trying time.Duration // from since to the beginning of the log-in at hand; mu guards it

	mu     sync.Mutex
	origin auth.Origin
	tls    string
	s      *Session // while logged in
	proof  *proof   // of a log-in that needs more than one factor
	closed bool
	ended  error // set by a kick or shutdown
	reason string
	onKick func(reason string)
	onTape func(*transcript.Tape)

	tape atomic.Pointer[transcript.Tape] // while the session is recorded
}

// ID is random and names the connection in logs, events and the live view.
func (g *Guest) ID() string { return g.id }

// Origin returns where the connection comes from.
func (g *Guest) Origin() auth.Origin {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.origin
}

// SetOrigin replaces the origin after AUTH TLS or HOST. The remote address
// stays the one that was admitted.
func (g *Guest) SetOrigin(from auth.Origin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from.Remote = g.origin.Remote
	g.origin = from
}

// SetTLS sets the text of the live view, for example "TLS 1.3 AES-128-GCM".
func (g *Guest) SetTLS(text string) {
	g.mu.Lock()
	was := g.tls
	g.tls = text
	g.mu.Unlock()
	if t := g.Tape(); t != nil && text != was {
		t.Note("protected by %s", text)
	}
}

// OnKick sets what tells the client good-bye and closes the connection. It is
// called once, on a goroutine of its own; at once when the guest was kicked already.
func (g *Guest) OnKick(fn func(reason string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil && fn != nil {
		go fn(g.reason)
		return
	}
	g.onKick = fn
}

// end cancels the session and rings the front; false when it was over already.
func (g *Guest) end(cause error, reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.ended != nil {
		return false
	}
	g.ended, g.reason = cause, reason
	if g.s != nil {
		g.s.cancel(cause)
	}
	if fn := g.onKick; fn != nil {
		g.onKick = nil
		go fn(reason)
	}
	return true
}

func (g *Guest) session() *Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.s
}

// event returns an event with the connection's fields filled in.
func (g *Guest) event(k events.Kind) events.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := events.Event{Kind: k, Session: g.id, Protocol: g.origin.Protocol, Listener: g.origin.Listener}
	if g.origin.Remote.IsValid() { // the server itself has none
		e.Remote = g.origin.Remote.String()
	}
	if g.s != nil {
		e.User = g.s.user
	}
	return e
}

// tried is event for the end of a log-in, with what it took.
func (g *Guest) tried(k events.Kind) events.Event {
	e := g.event(k)
	e.Time = g.m.conf.Now()
	g.mu.Lock()
	e.Took = e.Time.Sub(g.since) - g.trying
	g.mu.Unlock()
	return e
}

// Close ends the session if there is one and releases the connection's slot.
// cause says why (nil: the client left in peace). It may be called more than once.
func (g *Guest) Close(cause error) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed = true
	s := g.s
	g.onKick = nil
	g.mu.Unlock()
	if s != nil {
		s.Close(cause)
	}
	g.endTape(cause)
	g.conn.Release()
	g.m.drop(g)
}

// Login verifies c and opens the user's tree. The error is an *auth.More when
// another factor is needed, which is to be given to Login of the same guest;
// what was proved so far is kept until then. Else it is a fault: Invalid (a new
// password is not good enough, with a text for the user), Login (same text and timing whatever
// was wrong), Limit (too many sessions or failures; close the connection),
// Unavailable, Canceled, Stopping. After Session.Close it may be called again.
func (g *Guest) Login(ctx context.Context, c auth.Credential) (*Session, error) {
	from, err := g.ready()
	if err != nil {
		return nil, err
	}
	m, name := g.m, c.Username()
	g.mu.Lock()
	g.trying = m.conf.Now().Sub(g.since)
	g.mu.Unlock()
	g.watch(name)
	g.tapeLogin(c)
	if err := m.recordable(); err != nil {
		return nil, err
	}
	a := m.limits.Attempt(from.Remote.Addr(), name)
	if err := a.Wait(ctx); err != nil {
		a.Abandon()
		return nil, fault.New(fault.Canceled, "login", "", err)
	}
	past := g.proved(name)
	from = past.at(from)
	id, err := m.verifier.Verify(ctx, from, c)
	switch {
	case err == nil:
	case errors.Is(err, auth.ErrMore):
		// No success yet: whoever has one factor owes the delays all the same. One
		// that came out of turn was not looked at, which the time must not tell.
		if len(id.Proved) == 0 {
			if err := a.Pad(ctx); err != nil {
				a.Abandon()
				return nil, fault.New(fault.Canceled, "login", "", err)
			}
		}
		a.Abandon()
		if len(id.Proved) > 0 {
			next := past.with(name, id)
			g.prove(&next)
		}
		return nil, err
	case fault.KindOf(err) == fault.Invalid && !errors.Is(err, auth.ErrBad):
		a.Abandon() // a new password that is not good enough: ask again
		return nil, err
	case errors.Is(err, auth.ErrBad):
		return nil, g.failed(ctx, a, from, name, cmp.Or(auth.Reason(err), err.Error()), m.offence(ctx, name))
	case fault.KindOf(err) == fault.Login:
		return nil, g.failed(ctx, a, from, name, err.Error(), limits.BadPassword)
	default:
		a.Abandon()
		e := g.tried(events.LoginFailed)
		e.User, e.Fault, e.Detail = name, fault.KindOf(err), err.Error()
		m.publish(ctx, e)
		return nil, fault.Wrap("login", "", err)
	}
	u, p, err := m.policy(ctx, id.User)
	if err != nil {
		a.Abandon()
		return nil, err
	}
	if err := u.Usable(m.conf.Now(), from.Remote.Addr(), from.Protocol); err != nil {
		return nil, g.failed(ctx, a, from, name, err.Error(), limits.BadPassword)
	}
	switch err := g.permitted(ctx, name, u.Groups); fault.KindOf(err) {
	case fault.None:
	case fault.Denied: // the words of a wrong password: a guesser must not learn that it was right
		return nil, g.failed(ctx, a, from, name, err.Error(), limits.BadPassword)
	default:
		a.Abandon()
		e := g.tried(events.LoginFailed)
		e.User, e.Fault, e.Detail = name, fault.KindOf(err), err.Error()
		m.publish(ctx, e)
		return nil, fault.New(fault.Unavailable, "login", "", err)
	}
	a.Succeeded()
	g.Restart()
	past = past.with(name, id)
	id.Method = strings.Join(past.methods, "+")
	return g.start(ctx, from, id, past, u, p)
}

// permitted puts a log-in to the synchronous hooks, if any.
func (g *Guest) permitted(ctx context.Context, name string, groups []string) error {
	if g.m.bus == nil || !g.m.bus.Asks(events.Login) {
		return nil
	}
	e := g.event(events.Login)
	e.User = name
	return g.m.bus.Ask(events.WithGroups(ctx, groups), e)
}

// ready checks that a log-in makes sense now.
func (g *Guest) ready() (auth.Origin, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return g.origin, fault.Text(fault.Canceled, "the connection is closed")
	case g.ended != nil:
		return g.origin, g.ended
	case g.s != nil:
		return g.origin, fault.Text(fault.Invalid, "you are logged in already")
	}
	return g.origin, nil
}

// offence tells how many points a failure weighs; a look-up that fails counts as the lesser.
func (m *Manager) offence(ctx context.Context, name string) limits.Offence {
	if m.conf.Users == nil {
		return limits.BadPassword
	}
	if _, err := m.conf.Users.UserByName(ctx, name); fault.KindOf(err) == fault.NotExist {
		return limits.UnknownUser
	}
	return limits.BadPassword
}

// failed counts a failed log-in, records it and answers at a time that says nothing.
func (g *Guest) failed(ctx context.Context, a *limits.Attempt, from auth.Origin, name, why string, o limits.Offence) error {
	banned, err := a.Failed(ctx, o)
	e := g.tried(events.LoginFailed)
	e.User, e.Fault, e.Detail = name, fault.Login, why
	g.m.publish(ctx, e)
	g.m.banned(ctx, from, banned, "failed log-ins, the last as "+fmt.Sprintf("%q", name), err)
	if err := a.Pad(ctx); err != nil {
		return fault.New(fault.Canceled, "login", "", err)
	}
	if banned {
		return fault.Text(fault.Limit, "too many failed log-ins from your address; try again later")
	}
	return fault.New(fault.Login, "login", "", auth.ErrBad)
}

// policy folds the user's groups in.
func (m *Manager) policy(ctx context.Context, u account.User) (account.User, account.Policy, error) {
	var groups []account.Group
	if m.conf.Groups != nil && len(u.Groups) > 0 {
		var err error
		if groups, err = m.conf.Groups(ctx, u.Groups); err != nil {
			return u, account.Policy{}, fault.New(fault.Unavailable, "load groups of "+u.Name, "", err)
		}
	}
	return u.Inherit(groups), account.Fold(u, groups), nil
}

// start opens the tree and registers the session.
func (g *Guest) start(ctx context.Context, from auth.Origin, id auth.Identity, past proof, u account.User, p account.Policy) (*Session, error) {
	m := g.m
	fail := func(err error) (*Session, error) {
		e := g.tried(events.LoginFailed)
		e.User, e.Fault, e.Detail = p.User, fault.KindOf(err), err.Error()
		m.publish(ctx, e)
		return nil, err
	}
	if err := g.conn.Login(p.User, p.MaxSessions); err != nil {
		return fail(err)
	}
	sh := m.share(u, p)
	s := &Session{m: m, g: g, user: p.User, method: id.Method, proved: past.factors, granted: past.granted, began: m.conf.Now(), who: sh.user, pace: m.limits.Pace(p.User, p.Bandwidth)}
	v, err := m.view(ctx, sh.policy)
	if err != nil {
		m.unshare(s.who.Name)
		s.pace.Release()
		g.conn.Logout()
		return fail(err)
	}
	s.view.Store(v)
	s.ctx, s.cancel = context.WithCancelCause(m.ctx)
	g.mu.Lock()
	if bad := g.ended; bad != nil || g.closed || g.s != nil {
		g.mu.Unlock()
		if bad == nil {
			bad = fault.Text(fault.Canceled, "the connection is closed")
		}
		s.release()
		g.conn.Logout()
		return fail(bad)
	}
	g.s = s
	g.mu.Unlock()
	e := g.tried(events.Login)
	e.Detail = id.Method
	if from.TLS {
		e.Detail += ", tls"
	}
	if err := m.record(ctx, e); err != nil {
		s.Close(err)
		return nil, err
	}
	return s, nil
}
