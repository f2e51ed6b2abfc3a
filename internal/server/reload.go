package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/telemetry"
)

// Reload reads the configuration again and applies it. On error nothing has
// changed, and the error text has one problem on each line. Listeners that
// stay keep their sockets, new ones are bound before others are closed, and
// sessions live on with the settings they started with.
func (s *Server) Reload(ctx context.Context) (Report, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	cfg, err := s.load()
	if err == nil {
		var r Report
		if r, err = s.apply(ctx, cfg); err == nil {
			s.log.Info("configuration loaded", "changed", r.Changed, "restart", r.Restart, "opened", r.Opened, "closed", r.Closed)
			s.publish(events.Event{Kind: events.ConfigLoad, Detail: strings.Join(r.Changed, ", ")})
			return r, nil
		}
	}
	s.publish(events.Event{Kind: events.ConfigLoad, Fault: fault.Invalid, Detail: err.Error()})
	return Report{}, err
}

func (s *Server) load() (*config.Config, error) {
	if s.opt.Load != nil {
		return s.opt.Load()
	}
	file := s.Config().File()
	if file == "" {
		return nil, errors.New("there is no configuration file to read again: the server was started without one; restart it with --config")
	}
	return config.Load(file, os.Environ(), nil)
}

// apply puts cfg in force. Everything that can fail comes before anything changes.
func (s *Server) apply(ctx context.Context, cfg *config.Config) (r Report, err error) {
	if len(cfg.Listen) == 0 {
		return r, errors.New("the configuration has no [[listen]] entry, so there would be nothing to serve; add one")
	}
	hooks, err := s.compileHooks(ctx, cfg)
	if err != nil {
		return r, err
	}
	if err := s.reachable(cfg); err != nil {
		return r, err
	}
	abroad, err := countries(cfg)
	if err != nil {
		return r, err
	}
	old := s.Config()
	r.Changed, r.Restart = changes(old, cfg)
	added, keep := s.match(cfg)
	lns, err := bindAll(added, nil)
	if err != nil {
		return r, s.explainOverlap(err, keep)
	}
	undo := func() {
		for _, ln := range lns {
			ln.Close()
		}
	}
	if err := s.certs.Reload(cfg); err != nil {
		undo()
		return r, err
	}
	// The accept loops of added sockets start only below, so until here a
	// client that found one of them waits in its queue.
	sockets := make([]*socket, len(cfg.Listen))
	next := 0
	for i := range cfg.Listen {
		if sockets[i] = keep[i]; sockets[i] == nil {
			sockets[i] = s.newSocket(&cfg.Listen[i], lns[next])
			next++
		}
	}
	plans, err := s.planAll(cfg, sockets)
	if err != nil {
		undo()
		return r, errors.Join(err, s.certs.Reload(old))
	}
	s.setHosts(ctx, cfg, plans)
	warnings := planWarnings(cfg)
	if err := s.swap(cfg, sockets, plans, warnings, &r); err != nil {
		undo()
		return r, errors.Join(err, s.certs.Reload(old))
	}
	s.applyLive(cfg)
	s.useCountries(abroad)
	s.hooks.Use(hooks)
	s.metrics.hooks(cfg.Hooks)
	s.tasks.Use(cfg.Tasks)
	if old.Crypto().Text() != cfg.Crypto().Text() {
		s.sayCrypto(cfg)
	}
	return r, nil
}

// match finds the socket that serves each entry already; the others must be bound.
func (s *Server) match(cfg *config.Config) (added []config.Listen, keep map[int]*socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep = map[int]*socket{}
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		n := slices.IndexFunc(s.sockets, func(so *socket) bool { return so.key == socketKey(l) })
		if n >= 0 {
			keep[i] = s.sockets[n]
			continue
		}
		added = append(added, *l)
	}
	return added, keep
}

// explainOverlap adds a hint when a port could not be bound because a listener
// that the reload removes still holds it: 0.0.0.0:2121 in place of 127.0.0.1:2121.
func (s *Server) explainOverlap(err error, keep map[int]*socket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hints []error
	for _, be := range bindErrors(err) {
		for _, so := range s.sockets {
			stays := false
			for _, k := range keep {
				stays = stays || k == so
			}
			if !stays && addrOf(so.acc.Addr()).Port() == be.Port && be.Port != 0 {
				hints = append(hints, fmt.Errorf("listener %s holds port %d until the new one is bound, so a reload cannot move it to %s; restart the server, or use another port", so.entry.Name, be.Port, be.Address))
			}
		}
	}
	return errors.Join(append([]error{err}, hints...)...)
}

func bindErrors(err error) []*bindError {
	var out []*bindError
	var be *bindError
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			out = append(out, bindErrors(e)...)
		}
	} else if errors.As(err, &be) {
		out = append(out, be)
	}
	return out
}

// planAll makes a front for every entry, on the socket of the same index.
func (s *Server) planAll(cfg *config.Config, sockets []*socket) ([]frontPlan, error) {
	if _, err := userCA(cfg); err != nil {
		return nil, err
	}
	plans := make([]frontPlan, 0, len(cfg.Listen))
	for i := range cfg.Listen {
		l, so := &cfg.Listen[i], sockets[i]
		if l.Protocol == config.ProtocolSFTP {
			p, err := s.planSSH(cfg, l, so)
			if err != nil {
				return nil, err
			}
			plans = append(plans, p)
			continue
		}
		pool, err := s.pool(cfg.Ports(l))
		if err != nil {
			return nil, err
		}
		plans = append(plans, s.plan(cfg, l, so, s.certs.TLS(*l), pool))
	}
	return plans, nil
}

// pool returns the one pool of a range; listeners with the same range share it.
func (s *Server) pool(r config.PortRange) (*ports.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[r]; p != nil {
		return p, nil
	}
	p, err := ports.NewPool(ports.Options{First: r.First, Last: r.Last, Keep: keptListeners(maxFiles())})
	if err == nil {
		s.pools[r] = p
	}
	return p, err
}

func (s *Server) setHosts(ctx context.Context, cfg *config.Config, plans []frontPlan) {
	var hosts, guesses []string
	for _, p := range plans {
		hosts = append(hosts, p.hosts...)
		if p.gen.announcer != nil {
			guesses = append(guesses, p.gen.announcer.names...)
		}
	}
	s.book.set(ctx, hosts, cfg.FTP.Passive.Resolve.Std(), guesses...)
}

// swap puts the new fronts on their sockets and closes sockets without an entry.
func (s *Server) swap(cfg *config.Config, sockets []*socket, plans []frontPlan, warnings []string, r *Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != running {
		return errors.New("the server is stopping; nothing was changed")
	}
	now := time.Now()
	for i, so := range sockets {
		l := plans[i].entry
		if g := so.current; g != nil {
			g.gate.Close()
			g.retired = now
			s.retired = append(s.retired, g)
		} else {
			so.acc.start(&s.fronts)
			r.Opened = append(r.Opened, fmt.Sprintf("%s %s", l.Protocol, so.acc.Addr()))
		}
		so.key, so.entry, so.current = socketKey(&l), l, plans[i].gen
		so.acc.configure(l.Implicit(), prefixes(l.Proxy))
		so.current.serve(&s.fronts, s.log)
	}
	for _, so := range s.sockets {
		if !slices.Contains(sockets, so) {
			so.acc.Close()
			so.current.gate.Close()
			so.current.retired = now
			s.retired = append(s.retired, so.current)
			r.Closed = append(r.Closed, fmt.Sprintf("%s %s", so.entry.Protocol, so.acc.Addr()))
		}
	}
	s.sockets, s.cfg, s.warnings = sockets, cfg, warnings
	return nil
}

// applyLive hands the other live settings to the parts that hold them.
func (s *Server) applyLive(cfg *config.Config) {
	s.limits.SetCaps(caps(cfg))
	s.limits.SetDoors(prefixes(cfg.Limits.Allow), prefixes(cfg.Limits.Deny))
	s.limits.SetAllow(prefixes(cfg.Limits.NeverBan))
	s.limits.SetBandwidth(int64(cfg.Limits.BandwidthDown), int64(cfg.Limits.BandwidthUp))
	s.verifier.set(cfg)
	s.tapes.SetLimits(transcriptLimits(cfg))
	if s.level != nil {
		if l, err := telemetry.ParseLevel(string(cfg.Log.Level)); err == nil {
			s.level.Set(l)
		}
	} else {
		s.log.Log(context.Background(), slog.LevelDebug, "the log level is not the server's to change")
	}
}

// needRestart are keys that the parts read once, whatever their tag says.
var needRestart = []string{"limits.login_failures", "limits.login_window", "limits.ban_time", "upload."}

// changes splits the keys that differ into those in force now and those that wait for a restart.
func changes(old, new *config.Config) (live, restart []string) {
	for _, c := range config.Diff(old, new) {
		waits := c.Reload == "restart" || slices.ContainsFunc(needRestart, func(p string) bool { return strings.HasPrefix(c.Key, p) })
		if waits {
			restart = append(restart, c.Key)
			continue
		}
		live = append(live, c.Key)
	}
	return live, restart
}
