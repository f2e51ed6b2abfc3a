package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// audit passes the trail on to the configured files, lets old events go, and
// writes the head of the chain to the log. Only one process may do that: a
// server that hands over to its successor pauses first.
type audit struct {
	db        *store.DB
	log       *slog.Logger
	files     []*events.File
	followers []*events.Follower

	mu     sync.Mutex
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newAudit(cfg *config.Config, db *store.DB, bus *events.Bus, log *slog.Logger) *audit {
	a := &audit{db: db, log: log}
	for _, f := range cfg.Audit.Files {
		file := events.NewFile(events.FileOptions{Path: f.Path, Format: events.Format(f.Format), MaxSize: int64(f.MaxSize), MaxAge: f.MaxAge.Std(), Keep: f.Keep})
		a.files = append(a.files, file)
		a.followers = append(a.followers, &events.Follower{Name: "file " + f.Path, Trail: db, Stored: bus.Stored, Deliver: file.Write, Log: log})
	}
	return a
}

// resume begins to pass events on; it does nothing when that is going on.
func (a *audit) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	for _, f := range a.followers {
		a.wg.Go(func() { f.Run(ctx) })
	}
}

// pause ends it; what is not passed on yet waits in the store.
func (a *audit) pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel == nil {
		return
	}
	a.cancel()
	a.cancel = nil
	a.wg.Wait()
}

// finish pauses, and passes on the last events unless it was paused already
// because another process does that.
func (a *audit) finish(ctx context.Context) error {
	a.mu.Lock()
	mine := a.cancel != nil
	a.mu.Unlock()
	a.pause()
	var errs []error
	if mine {
		for _, f := range a.followers {
			errs = append(errs, f.Drain(ctx))
		}
	}
	for _, f := range a.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// auditEvery is how often old events go and the head is logged.
const auditEvery = time.Hour

// keepAudit runs until ctx ends.
func (s *Server) keepAudit(ctx context.Context) {
	t := time.NewTicker(auditEvery)
	defer t.Stop()
	for {
		s.pruneEvents(ctx)
		s.logHead(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Server) pruneEvents(ctx context.Context) {
	keep := s.Config().Audit.Keep.Std()
	if keep <= 0 {
		return
	}
	n, err := s.db.PruneEvents(ctx, time.Now().Add(-keep))
	if n > 0 {
		s.log.Info("old events were removed", "events", n, "older_than", keep.String())
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("old events could not be removed; the next try is in an hour", "err", err)
	}
}

// logHead writes the chain's head to the log, which is often kept on another
// machine: "portreeve event verify --mark" compares it later.
func (s *Server) logHead(ctx context.Context) {
	head, err := s.db.EventHead(ctx)
	if err != nil {
		if ctx.Err() == nil && fault.KindOf(err) != fault.Canceled {
			s.log.Warn("the head of the audit trail cannot be read", "err", err)
		}
		return
	}
	s.log.Info("audit trail", "mark", head.String())
}
