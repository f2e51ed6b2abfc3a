package server

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// sweepEvery is how often leftovers of uploads are looked for, beside the start.
const sweepEvery = time.Hour

// sweepHomes removes what uploads left behind that a crash or a power failure
// cut off, in every directory an account leads to, at the start and each hour.
func (s *Server) sweepHomes(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if _, err := s.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("looking for leftovers of uploads failed", "err", err)
		}
		s.watchPrograms(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sweepPage is how many accounts are read at once.
const sweepPage = 500

// sweepOnce returns how many files it removed. A directory that fails is
// logged and does not keep it from the others.
func (s *Server) sweepOnce(ctx context.Context) (removed int64, err error) {
	done := map[string]bool{}
	err = s.eachUser(ctx, func(_ account.User, p account.Policy) error {
		for _, m := range p.Mounts {
			dir := filepath.Clean(m.Source)
			if m.ReadOnly || strings.HasPrefix(m.Source, memoryPrefix) || !filepath.IsAbs(dir) || done[dir] || ctx.Err() != nil {
				continue
			}
			done[dir] = true
			removed += int64(s.storages.sweep(dir))
		}
		return ctx.Err()
	})
	return removed, err
}
