package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// flushTime is how long events and quota use may take to reach the store at the end.
const flushTime = 10 * time.Second

// logTime is how long the last lines of the log may take to be written.
const logTime = 3 * time.Second

// Stop starts an orderly stop and returns at once. reason goes to the log.
// A second call ends the drain: what still runs is cut.
func (s *Server) Stop(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isClosed(s.stopping) {
		s.log.Info("stopping: no new sessions; transfers may finish", "reason", reason, "within", s.cfg.Drain.String())
		close(s.stopping)
		return
	}
	if !isClosed(s.now) {
		s.log.Warn("stopping now: transfers are cut", "reason", reason)
		close(s.now)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// drain closes the control sockets and waits for the sessions: idle ones are
// told 421 at once, the others when their transfer ends or the time is up.
func (s *Server) drain() {
	s.mu.Lock()
	s.state = draining
	all := append([]*generation(nil), s.retired...)
	for _, so := range s.sockets {
		so.acc.Close()
		all = append(all, so.current)
	}
	limit := s.cfg.Drain.Std()
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stop := make(chan struct{})
	var watch, wg sync.WaitGroup
	watch.Go(func() {
		select {
		case <-s.now:
			cancel()
		case <-stop:
		}
	})
	for _, g := range all {
		wg.Go(func() {
			if err := g.front.Shutdown(ctx); err != nil {
				s.log.Warn("transfers were cut, because the time to finish was over", "err", err)
			}
		})
	}
	wg.Wait()
	// The fronts have said good-bye and every connection is gone; the manager
	// only settles. The other order would end each session twice.
	if err := s.manager.Shutdown(ctx); err != nil && !errors.Is(err, ctx.Err()) {
		s.log.Error("settling quota use failed", "err", err)
	}
	close(stop)
	watch.Wait()
	s.fronts.Wait()
}

// Close releases everything of a server that was never run. A running server
// is stopped with Stop.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.state != built {
		s.mu.Unlock()
		return errors.New("server: Close is for a server that was not run; use Stop")
	}
	s.state = stopped
	s.mu.Unlock()
	return s.release()
}

// release gives back everything that is open, from the top down. It works on a
// half-built server, too.
func (s *Server) release() error {
	var errs []error
	s.mu.Lock()
	s.state = stopped
	for _, so := range s.sockets {
		so.acc.Close()
	}
	for _, p := range s.pools {
		errs = append(errs, p.Close())
	}
	shared := s.shared
	s.unlink()
	s.mu.Unlock()
	if shared != nil {
		shared.Close() // not under the lock: handshakes under way may pass on
	}
	if s.sharedLn != nil {
		s.sharedLn.Close()
	}
	s.bgCancel()
	if s.tasks != nil {
		s.tasks.Pause()
	}
	if s.adminLn != nil {
		s.adminLn.Close()
	}
	if s.metricsLn != nil {
		s.metricsLn.Close()
	}
	if s.acmeLn != nil {
		s.acmeLn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if s.limits != nil {
		if err := s.limits.FlushQuota(ctx); err != nil {
			errs = append(errs, fmt.Errorf("quota use could not be written: %w", err))
		}
	}
	if s.hooks != nil {
		s.hooks.Close() // what it did not deliver waits in the store
	}
	if s.bus != nil {
		errs = append(errs, s.bus.Close(ctx))
	}
	s.traces.close()
	if s.storages != nil && !endsWithin(s.storages.wait, flushTime) || !endsWithin(s.bg.Wait, flushTime) { // the log subscription ends with the bus
		s.log.Warn("a storage does not answer; the server ends without waiting for it any longer")
	}
	if s.audit != nil {
		if err := s.audit.finish(ctx); err != nil {
			s.log.Error("the last events did not reach every audit file; they follow at the next start", "err", err)
		}
		s.logHead(ctx)
	}
	errs = append(errs, s.tapes.Close())
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		s.lock.unlock()
	}
	if s.logs != nil {
		s.logs.Close(logTime) // a reader that hangs is told nothing more
	}
	if s.logFile != nil {
		errs = append(errs, s.logFile.Close())
	}
	return errors.Join(errs...)
}

// endsWithin reports whether wait returns in time. A directory that hangs must
// not keep the server from stopping.
func endsWithin(wait func(), d time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// prune lets go of generations that a reload has replaced once their last
// connection is gone. The pause covers connections in a TLS handshake, which
// the backend does not know yet.
func (s *Server) prune(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := max(2*time.Minute, s.cfg.FTP.LoginTimeout.Std()+time.Minute)
	kept := s.retired[:0]
	for _, g := range s.retired {
		if now.Sub(g.retired) < pause || g.backend.Connections() > 0 {
			kept = append(kept, g)
		}
	}
	clear(s.retired[len(kept):])
	s.retired = kept
	used := map[any]bool{}
	for _, g := range s.retired {
		used[g.pool] = true
	}
	for _, so := range s.sockets {
		used[so.current.pool] = true
	}
	for r, p := range s.pools {
		if !used[p] {
			p.Close()
			delete(s.pools, r)
		}
	}
}
