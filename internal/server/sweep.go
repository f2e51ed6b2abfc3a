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
		s.sweepOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sweepPage is how many accounts are read at once.
const sweepPage = 500

func (s *Server) sweepOnce(ctx context.Context) {
	done := map[string]bool{}
	for after := ""; ctx.Err() == nil; {
		users, err := s.db.ListUsers(ctx, after, sweepPage)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("looking for leftovers of uploads: the accounts cannot be read", "err", err)
			}
			return
		}
		for _, u := range users {
			groups, err := s.db.GroupsOf(ctx, u)
			if err != nil {
				continue // the next hour tries again
			}
			for _, m := range account.Fold(u, groups).Mounts {
				dir := filepath.Clean(m.Source)
				if m.ReadOnly || strings.HasPrefix(m.Source, memoryPrefix) || !filepath.IsAbs(dir) || done[dir] || ctx.Err() != nil {
					continue
				}
				done[dir] = true
				s.storages.sweep(dir)
			}
			after = u.Name
		}
		if len(users) < sweepPage {
			return
		}
	}
}
