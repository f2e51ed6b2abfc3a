// Package session owns admission and everything a logged-in user does: it
// checks the path, the mount, the right and the name, moves bytes under pace,
// quota and kick, and publishes one event for each thing that happened. Fronts
// translate their protocol into its calls and its faults into replies.
//
// It does not own who somebody is (auth), what they may do (account), the
// counters (limits) or the storage (vfs).
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/transcript"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Config is what the server decides. The zero value works.
type Config struct {
	// Ceilings on connections; 0 leaves what limits was made with, negative is none.
	MaxSessions, MaxPerAddress, MaxPerUser int

	Upload      vfs.Upload // when uploads become visible
	KeepPartial bool       // keep what arrived of an upload that failed
	Sync        bool       // an acknowledged upload is on the disk

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: silent

	// Users looks accounts up again in Refresh, and tells unknown users from
	// wrong passwords for the ban score. nil: Refresh does nothing.
	Users auth.Users
	// Listings publishes an event for each listing, too, which is not kept.
	Listings bool
	// Transcripts records sessions on request; nil: none is.
	Transcripts *transcript.Recorder
	// Groups returns the groups of those names that exist; nil: there are no groups.
	Groups func(ctx context.Context, names []string) ([]account.Group, error)
}

// Opener opens the storage of a mount for one session. The session closes it
// when it is an io.Closer. Opening "/" creates the home directory if need be.
type Opener func(ctx context.Context, m account.Mount, p account.Policy) (vfs.FS, error)

// Manager is the registry of connections and sessions. All methods may be
// called concurrently.
type Manager struct {
	conf     Config
	verifier auth.Verifier
	open     Opener
	limits   *limits.Limits
	bus      *events.Bus
	log      *slog.Logger
	books    books

	ctx  context.Context // parent of every session's
	stop context.CancelCauseFunc

	sent, received atomic.Int64
	refused        refusals

	mu       sync.Mutex
	guests   map[string]*Guest
	policies map[string]*shared // by user, while it has sessions
	stopping bool
	empty    chan struct{} // closed when stopping and the last guest is gone
}

// shared is what all sessions of a user with equal settings point to, so that
// an idle session is small.
type shared struct {
	refs   int
	user   *account.User
	policy *account.Policy
}

// refusals keeps a flood of refused connections from becoming a flood of events.
type refusals struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

// NewManager returns a manager without sessions. bus may be nil: nothing is recorded.
func NewManager(cfg Config, v auth.Verifier, open Opener, l *limits.Limits, bus *events.Bus) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	caps := l.Caps()
	for _, c := range []struct {
		to   *int
		from int
	}{{&caps.MaxSessions, cfg.MaxSessions}, {&caps.MaxPerAddress, cfg.MaxPerAddress}, {&caps.MaxPerUser, cfg.MaxPerUser}} {
		if c.from != 0 {
			*c.to = c.from
		}
	}
	l.SetCaps(caps)
	m := &Manager{conf: cfg, verifier: v, open: open, limits: l, bus: bus, log: cfg.Log, guests: map[string]*Guest{}, policies: map[string]*shared{}, empty: make(chan struct{})}
	m.books.init()
	m.ctx, m.stop = context.WithCancelCause(context.Background())
	return m
}

// Connect admits a connection: bans, ceilings, shutdown. The error is
// fault.Limit or fault.Stopping with a text fit for the client. Guest.Close
// must be called in the end.
func (m *Manager) Connect(ctx context.Context, from auth.Origin) (*Guest, error) {
	m.mu.Lock()
	stopping := m.stopping
	m.mu.Unlock()
	if stopping {
		return nil, errStopping()
	}
	c, err := m.limits.Connect(from.Remote.Addr())
	if err != nil {
		m.refuse(ctx, from, err)
		return nil, err
	}
	g := &Guest{m: m, id: newID(), origin: from, since: m.conf.Now(), conn: c}
	m.mu.Lock()
	if m.stopping {
		m.mu.Unlock()
		c.Release()
		return nil, errStopping()
	}
	m.guests[g.id] = g
	m.mu.Unlock()
	g.watch("")
	return g, nil
}

func errStopping() error { return fault.Text(fault.Stopping, "the server is shutting down") }

// newID returns 96 random bits in hex: not guessable, short enough to read out.
func newID() string {
	var b [12]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// refuse records a refused connection, at most one each second.
func (m *Manager) refuse(ctx context.Context, from auth.Origin, err error) {
	r := &m.refused
	now := m.conf.Now()
	r.mu.Lock()
	if now.Sub(r.last) < time.Second {
		r.skipped++
		r.mu.Unlock()
		return
	}
	n := r.skipped
	r.last, r.skipped = now, 0
	r.mu.Unlock()
	detail := err.Error()
	if n > 0 {
		detail += " (and " + strconv.Itoa(n) + " more refused since the last such event)"
	}
	m.publish(ctx, events.Event{Kind: events.Refused, Protocol: from.Protocol, Listener: from.Listener,
		Remote: from.Remote.String(), Fault: fault.KindOf(err), Detail: detail})
}

// Report counts an offence that is not a failed log-in (a flood, a foreign
// protocol, strangers on data ports) against an address. It tells whether that
// led to a ban, which closes nothing by itself.
func (m *Manager) Report(ctx context.Context, from auth.Origin, o limits.Offence, why string) bool {
	banned, err := m.limits.Report(ctx, from.Remote.Addr(), o, why)
	m.banned(ctx, from, banned, why, err)
	return banned
}

func (m *Manager) banned(ctx context.Context, from auth.Origin, banned bool, why string, err error) {
	if err != nil {
		m.log.Error("the ban holds but could not be stored; it will be gone after a restart", "remote", from.Remote.Addr().String(), "err", err)
	}
	if banned {
		m.publish(ctx, events.Event{Kind: events.Ban, Protocol: from.Protocol, Listener: from.Listener,
			Remote: from.Remote.String(), Target: limits.Key(from.Remote.Addr()).String(), Detail: why})
	}
}

// publish hands e to the bus. An event that is not stored is counted there; an
// operation that has happened cannot be taken back for it.
func (m *Manager) publish(ctx context.Context, e events.Event) { _ = m.record(ctx, e) }

// record is publish for what must not count as done without its event: where
// the audit trail is required, the error says that it was not kept.
func (m *Manager) record(ctx context.Context, e events.Event) error {
	if m.conf.Transcripts.Active() {
		m.tapeEvent(&e)
	}
	if m.bus == nil {
		return nil
	}
	if e.Time.IsZero() {
		e.Time = m.conf.Now()
	}
	err := m.bus.Publish(context.WithoutCancel(ctx), e)
	if err == nil {
		return nil
	}
	m.log.Error("an event was not stored", "kind", string(e.Kind), "session", e.Session, "err", err)
	if !m.bus.Required() {
		return nil
	}
	return fault.New(fault.Unavailable, "record "+string(e.Kind), e.Path, err)
}

// recordable refuses what would have to be recorded while that is impossible.
func (m *Manager) recordable() error {
	if m.bus == nil {
		return nil
	}
	return m.bus.Ready()
}

// Totals returns the octets sent to and received from clients since the start.
func (m *Manager) Totals() (sent, received int64) { return m.sent.Load(), m.received.Load() }

// all returns the guests at this moment.
func (m *Manager) all() []*Guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := make([]*Guest, 0, len(m.guests))
	for _, g := range m.guests {
		r = append(r, g)
	}
	return r
}

// Kick ends the connection with that id and reports whether there was one.
func (m *Manager) Kick(id string, reason string) bool {
	m.mu.Lock()
	g := m.guests[id]
	m.mu.Unlock()
	if g == nil {
		return false
	}
	return m.kick(g, reason)
}

func (m *Manager) kick(g *Guest, reason string) bool {
	if reason == "" {
		reason = "ended by the administrator"
	}
	if !g.end(fault.Text(fault.Canceled, reason), reason) {
		return false
	}
	e := g.event(events.Kick)
	e.Detail = reason
	m.publish(m.ctx, e)
	return true
}

// KickUser ends all sessions of a user and returns how many there were.
func (m *Manager) KickUser(name string, reason string) int {
	n := 0
	for _, g := range m.all() {
		if s := g.session(); s != nil && s.User() == name && m.kick(g, reason) {
			n++
		}
	}
	return n
}

// KickAddr ends all connections from a network, for example after a ban.
func (m *Manager) KickAddr(p netip.Prefix, reason string) int {
	n := 0
	for _, g := range m.all() {
		if p.Contains(g.Origin().Remote.Addr().Unmap()) && m.kick(g, reason) {
			n++
		}
	}
	return n
}

// Shutdown refuses new connections, ends idle ones at once and the others as
// their transfers finish. When ctx ends first it cancels what is left with
// cause fault.Stopping and returns ctx's error. Quota use is written in any case.
func (m *Manager) Shutdown(ctx context.Context) error {
	m.mu.Lock()
	if !m.stopping {
		m.stopping = true
		if len(m.guests) == 0 {
			close(m.empty)
		}
	}
	m.mu.Unlock()
	for _, g := range m.all() {
		if s := g.session(); s == nil || !s.busy() {
			g.end(errStopping(), "the server is shutting down")
		}
	}
	var err error
	select {
	case <-m.empty:
	case <-ctx.Done():
		err = ctx.Err()
		for _, g := range m.all() {
			g.end(errStopping(), "the server is shutting down")
		}
		m.stop(errStopping())
		t := time.NewTimer(3 * time.Second) // fronts close their guests when told; do not wait for one that does not
		select {
		case <-m.empty:
		case <-t.C:
		}
		t.Stop()
	}
	m.stop(errStopping())
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := m.limits.FlushQuota(fctx); e != nil && err == nil {
		err = e
	}
	return err
}

func (m *Manager) isStopping() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopping
}

// drop takes a guest out of the registry.
func (m *Manager) drop(g *Guest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.guests[g.id] != g {
		return
	}
	delete(m.guests, g.id)
	if m.stopping && len(m.guests) == 0 {
		close(m.empty)
	}
}
