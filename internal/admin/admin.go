package admin

import (
	"context"
	"errors"
	"log/slog"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/store"
	"github.com/portreeve/portreeve/internal/transcript"
)

// Config is what a Service works with.
type Config struct {
	Store  *store.DB
	Events *events.Bus                                                // nil: changes are not recorded
	Live   Live                                                       // nil: no server runs in this process
	Hash   func(ctx context.Context, password string) (string, error) // of auth.Hasher
	// CheckHash says whether a hash that was brought along can be verified; nil: none can be brought.
	CheckHash func(hash string) error
	// Policy refuses new passwords that are not good enough, with fault.Invalid; nil: all are.
	Policy      func(user, password string) error
	DataDir     string               // absolute; homes must not contain it
	Log         *slog.Logger         // nil: silent
	Limits      *limits.Limits       // of the running server; nil: none
	Transcripts *transcript.Recorder // of the running server; nil: none
	Measure     Measure              // nil: quota cannot be counted anew
	// Hooks and Tasks find those of the configuration when they are asked for; nil: there are none.
	Hooks func() (Hooks, error)
	Tasks func() (Tasks, error)
	// Provider is whose tokens stand for administrators; zero: nobody's.
	Provider Provider
}

// Service carries out administrative operations. Safe for concurrent use.
// Errors are faults whose text is a sentence for the administrator.
type Service struct {
	store     *store.DB
	bus       *events.Bus
	live      Live
	hash      func(ctx context.Context, password string) (string, error)
	checkHash func(hash string) error
	policy    func(user, password string) error
	data      string
	log       *slog.Logger

	limits  *limits.Limits
	tapes   *transcript.Recorder
	measure Measure
	hooks   func() (Hooks, error)
	tasks   func() (Tasks, error)

	provider Provider
}

// New returns a service; Store, Hash and DataDir must be set.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Hash == nil || !filepath.IsAbs(c.DataDir) {
		return nil, errors.New("admin: Store, Hash and an absolute DataDir are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{store: c.Store, bus: c.Events, live: c.Live, hash: c.Hash, checkHash: c.CheckHash, policy: c.Policy, data: filepath.Clean(c.DataDir), log: c.Log, limits: c.Limits, tapes: c.Transcripts, measure: c.Measure, hooks: c.Hooks, tasks: c.Tasks, provider: c.Provider}, nil
}

type actorKey struct{}

// WithActor notes in ctx who asks, such as "root (uid 0)"; it is recorded with
// every change.
func WithActor(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actorKey{}, who)
}

func actor(ctx context.Context) string {
	who, _ := ctx.Value(actorKey{}).(string)
	return who
}

// changed makes live sessions follow and publishes what happened to a user.
// The change is stored by now; what fails here is logged, not returned.
func (s *Service) changed(ctx context.Context, name, what string) {
	ctx = context.WithoutCancel(ctx)
	if s.live != nil {
		if err := s.live.Refresh(ctx, name); err != nil {
			s.log.Error("live sessions did not follow a change of their account; they were ended or keep the old rights", "user", name, "err", err)
		}
	}
	s.record(ctx, name, what)
}

// record publishes a change with who made it. name is the account, "" for a
// change of something else.
func (s *Service) record(ctx context.Context, name, what string) {
	if s.bus == nil {
		return
	}
	if who := actor(ctx); who != "" {
		what += " by " + who
	}
	if err := s.bus.Publish(context.WithoutCancel(ctx), events.Event{Kind: events.UserChanged, User: name, Detail: what}); err != nil {
		s.log.Error("a change was not recorded", "user", name, "change", what, "err", err)
	}
}

// LocalActor is the actor's text for a user of this machine.
func LocalActor(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username + " (uid " + id + ")"
	}
	return "uid " + id
}
