// Package server is the composition root: it builds the parts from a
// configuration, binds the ports, runs, reloads and stops them. It owns the
// control sockets, the lock of the data directory and the order of things; it
// owns no protocol and no policy.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/certs"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/firewall"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/sandbox"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/store"
	"github.com/portreeve/portreeve/internal/task"
	"github.com/portreeve/portreeve/internal/telemetry"
	"github.com/portreeve/portreeve/internal/transcript"
)

// Front is a protocol on a listener: the contract of http.Server.
type Front interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// Service runs beside the listeners, such as the control socket of the command
// line. It starts when everything is bound and ends when ctx does, which is
// after the last transfer: so a stopping server can still be watched.
// An error stops the server.
type Service func(ctx context.Context, s *Server) error

// Options are what does not come from the configuration. The zero value works.
type Options struct {
	Version  string                         // for status and CSID
	Log      *slog.Logger                   // nil: as [log] says
	Load     func() (*config.Config, error) // what Reload reads; nil: the file New's configuration came from
	Services []Service
	Ready    func(*Server) // called once, when every port is bound and served
}

// Server is one running server. Its methods may be called concurrently.
type Server struct {
	opt     Options
	log     *slog.Logger
	level   *slog.LevelVar // nil when the logger was handed in
	logFile *telemetry.File
	logs    *telemetry.Queue // nil likewise
	started time.Time
	dataDir string

	lock     *dirLock
	certs    *certs.Store
	db       *store.DB
	bus      *events.Bus
	limits   *limits.Limits
	verifier *verifier
	storages *storages
	manager  *session.Manager
	tapes    *transcript.Recorder
	book     *addressBook
	audit    *audit
	confined *sandbox.Paths // nil: not
	hooks    *hook.Runner
	tasks    *task.Runner
	metrics  metrics
	traces   *traces     // nil: none
	came     *handover   // from the process before this one; nil: none
	handed   atomic.Bool // to the process after this one

	controlUp chan struct{} // closed by ControlReady
	upOnce    sync.Once

	metricsLn *net.TCPListener // nil: no page
	acmeLn    *net.TCPListener // nil: no proofs for a certificate authority
	acmeStop  context.CancelFunc
	adminLn   *net.TCPListener // nil: no administration over the network
	recorder  *ports.Recorder
	wall      *ownWall

	reloading sync.Mutex // one reload at a time

	mu       sync.Mutex // what follows
	cfg      *config.Config
	sockets  []*socket
	retired  []*generation
	pools    map[config.PortRange]*ports.Pool
	shared   *ftp.SharedPort // nil: the range serves protected data connections too
	sharedLn *net.TCPListener
	before   *shareLink // to the old process of an upgrade, while it lives
	after    *shareLink // to the new one
	warnings []string
	state    state

	fronts   sync.WaitGroup // accept loops
	stopping chan struct{}  // closed by the first Stop
	now      chan struct{}  // closed by the second
	bgCancel context.CancelFunc
	bg       sync.WaitGroup // background work
}

type state uint8

const (
	built state = iota
	running
	draining
	stopped
)

// New builds a server and takes its data directory into possession: it opens
// certificates and store, and then binds every port. All ports that cannot be
// bound are reported together. After an error nothing is left open.
func New(cfg *config.Config, opt Options) (_ *Server, err error) {
	if len(cfg.Listen) == 0 {
		return nil, errors.New("the configuration has no [[listen]] entry, so there is nothing to serve; add one")
	}
	s := &Server{opt: opt, started: time.Now(), cfg: cfg, pools: map[config.PortRange]*ports.Pool{}, stopping: make(chan struct{}), now: make(chan struct{}), controlUp: make(chan struct{})}
	bg, cancel := context.WithCancel(context.Background())
	s.bgCancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.openLog(); err != nil {
		return nil, err
	}
	if s.dataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data_dir %q: %w", cfg.DataDir, err)
	}
	if err := os.MkdirAll(s.dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w; make it and give it to the server's user, or name another data_dir", err)
	}
	s.warnOpenDir()
	if s.came, err = takeHandover(); err != nil {
		return nil, err
	}
	if s.came != nil {
		s.lock, err = adoptLock(s.came.lock, s.dataDir)
	} else {
		s.lock, err = lockDir(s.dataDir)
	}
	if err != nil {
		return nil, err
	}
	if err := s.openParts(bg, cfg); err != nil {
		return nil, err
	}
	if err := s.bindFirst(bg, cfg); err != nil {
		return nil, err
	}
	if err := s.confine(bg, cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// openLog makes the logger that [log] describes, unless one was handed in.
func (s *Server) openLog() error {
	if s.log = s.opt.Log; s.log != nil {
		return nil
	}
	c := s.cfg.Log
	level, err := telemetry.ParseLevel(string(c.Level))
	if err != nil {
		return err
	}
	s.level = &slog.LevelVar{}
	s.level.Set(level)
	var out io.Writer = os.Stderr
	if c.File != "" {
		f, err := telemetry.OpenFile(c.File)
		if err != nil {
			return fmt.Errorf("cannot open the log file: %w; correct log.file or give the server's user the right to write there", err)
		}
		s.logFile, out = f, f
	}
	s.logs, s.log = telemetry.NewQueue(out, s.level, string(c.Format))
	return nil
}

// openParts builds everything that needs no port, from the bottom up.
func (s *Server) openParts(bg context.Context, cfg *config.Config) (err error) {
	if s.certs, err = certs.Open(cfg, s.log); err != nil {
		return err
	}
	s.sayCrypto(cfg)
	var how []store.Option
	if cfg.Audit.Required {
		how = append(how, store.Synced())
	}
	where, err := Database(cfg)
	if err != nil {
		return err
	}
	if s.db, err = store.Open(bg, where, how...); err != nil {
		return err
	}
	if s.traces, err = newTraces(cfg, s.opt.Version, s.log); err != nil {
		return err
	}
	observe := s.metrics.observe
	if s.traces != nil {
		observe = func(e events.Event) { s.metrics.observe(e); s.traces.event(e) }
		s.traces.register(&s.metrics.reg)
	}
	s.bus = events.NewBus(events.Options{Sink: s.db, Logger: s.log, Required: cfg.Audit.Required, Observe: observe, AskTime: askTime})
	s.audit = newAudit(cfg, s.db, s.bus, s.log)
	sub := s.bus.Subscribe("log")
	write := events.LogSubscriber(s.log)
	s.bg.Go(func() {
		sub.Run(context.Background(), func(e events.Event) {
			if e.Kind != events.DataFailed { // the engine has written a line about it
				write(e)
			}
		})
	})
	if s.limits, err = newLimits(bg, cfg, s.db); err != nil {
		return err
	}
	abroad, err := countries(cfg)
	if err != nil {
		return err
	}
	s.useCountries(abroad)
	if s.verifier, err = newVerifier(cfg, s.db, s.log); err != nil {
		return err
	}
	s.storages = newStorages(bg, s.log, s.dataDir)
	if s.tapes, err = transcript.Open(filepath.Join(s.dataDir, "transcripts"), transcriptLimits(cfg), nil, s.log); err != nil {
		return err
	}
	sc := sessionConfig(cfg, s.db, s.log)
	sc.Transcripts, sc.Listings = s.tapes, s.traces != nil
	s.manager = session.NewManager(sc, s.verifier, s.storages.open, s.limits, s.bus)
	if err := s.openHooks(bg, cfg); err != nil {
		return err
	}
	s.verifier.change = s.ownPassword
	s.book = newAddressBook(s.log)
	s.book.changed = func(detail string) { s.publish(events.Event{Kind: events.AddressChanged, Detail: detail}) }
	s.recorder, s.wall = ports.NewRecorder(), &ownWall{load: firewall.ReadLocal}
	return nil
}

// bindFirst checks the port plan, binds every port and puts a front on each.
func (s *Server) bindFirst(bg context.Context, cfg *config.Config) error {
	in, err := inherit(s.came)
	if err != nil {
		return err
	}
	var merr, aerr, cerr error
	if len(cfg.TLS.ACME.Domains) > 0 {
		s.acmeLn, cerr = bindHTTP("tls.acme.address", cfg.TLS.ACME.Address, in)
	}
	s.metricsLn, merr = bindHTTP("metrics.address", cfg.Metrics.Address, in)
	s.adminLn, aerr = bindHTTP("admin.address", cfg.Admin.Address, in)
	lns, err := bindAll(cfg.Listen, in)
	serr := s.bindShared(cfg, in)
	left := in.leftOver()
	if err = errors.Join(err, merr, aerr, cerr, serr); err != nil {
		for _, ln := range lns {
			ln.Close()
		}
		return err
	}
	for i := range cfg.Listen {
		s.sockets = append(s.sockets, s.newSocket(&cfg.Listen[i], lns[i]))
	}
	s.openShared(cfg)
	plans, err := s.planAll(cfg, s.sockets)
	if err != nil {
		return err
	}
	s.setHosts(bg, cfg, plans)
	s.warnings = append(left, planWarnings(cfg)...)
	for i, so := range s.sockets {
		so.entry, so.current = plans[i].entry, plans[i].gen
	}
	return nil
}

// newSocket wraps a bound listener and starts accepting into it; nobody is
// greeted before a generation serves.
func (s *Server) newSocket(l *config.Listen, ln *net.TCPListener) *socket {
	so := &socket{key: socketKey(l), acc: newAcceptor(ln, s.log.With("listener", l.Name)), entry: *l}
	so.acc.shut = s.limits.Shut
	so.acc.configure(l.Implicit(), prefixes(l.Proxy))
	return so
}

// Run serves until ctx ends or Stop is called, and then drains: idle sessions
// get 421 at once, transfers may finish until the deadline of the drain
// setting. It returns nil after an orderly stop, and releases everything in
// any case.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.state != built {
		s.mu.Unlock()
		return errors.New("server: Run was called before")
	}
	s.state = running
	for _, so := range s.sockets {
		so.acc.start(&s.fronts)
		so.current.serve(&s.fronts, s.log)
	}
	s.mu.Unlock()

	bg, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.linkBefore()
	s.background(bg)
	svc, stopServices := context.WithCancel(context.Background())
	defer stopServices()
	failed := make(chan error, len(s.opt.Services))
	var services sync.WaitGroup
	for _, run := range s.opt.Services {
		services.Go(func() {
			if err := run(svc, s); err != nil && svc.Err() == nil {
				failed <- err
				s.Stop("a service failed")
			}
		})
	}
	s.publish(events.Event{Kind: events.Start, Detail: "version " + first(s.opt.Version, "unknown")})
	if s.opt.Ready != nil {
		s.opt.Ready(s)
	}
	if s.came != nil {
		s.bg.Go(s.takeOver) // the old process tells the service manager who is the main one now
	} else {
		notify("READY=1\nMAINPID=" + strconv.Itoa(os.Getpid()))
	}
	select {
	case <-ctx.Done():
		s.Stop("asked to stop")
	case <-s.stopping:
	}
	if !s.handed.Load() {
		notify("STOPPING=1")
	}
	s.drain()
	stopServices()
	services.Wait()
	cancel()
	s.publish(events.Event{Kind: events.Stop})
	err := s.release()
	select {
	case serr := <-failed:
		err = errors.Join(serr, err)
	default:
	}
	return err
}

// background starts what runs beside the sessions.
func (s *Server) background(ctx context.Context) {
	s.bg.Go(func() { s.certs.Watch(ctx) })
	s.bg.Go(func() { s.book.run(ctx) })
	out := newOutside(s.book, &s.cfg.NAT, s.log)
	s.bg.Go(func() { out.run(ctx) })
	if s.cfg.NAT.Router {
		s.bg.Go(func() { s.keepMapped(ctx, out) })
	}
	s.bg.Go(func() { s.followSessions(ctx) })
	s.bg.Go(func() { s.keepAudit(ctx) })
	s.bg.Go(func() { s.watchdog(ctx) })
	s.metrics.register(s)
	if s.acmeLn != nil {
		actx, stop := context.WithCancel(ctx)
		s.acmeStop = stop
		s.bg.Go(func() { s.certs.ObtainACME(actx, s.acmeLn) })
	}
	if s.metricsLn != nil {
		s.bg.Go(func() { s.serveMetrics(ctx) })
	}
	giveBack()
	s.bg.Go(func() { s.sweepHomes(ctx) })
	s.audit.resume()
	s.hooks.Resume()
	s.tasks.Resume()
	s.bg.Go(func() {
		t := time.NewTicker(30 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-t.C:
				s.prune(now)
				s.tapes.Sweep()
			}
		}
	})
}

// Config returns the configuration in force. It must not be changed.
func (s *Server) Config() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Manager returns the live sessions.
func (s *Server) Manager() *session.Manager { return s.manager }

// Store returns the database, for the administrative operations.
func (s *Server) Store() *store.DB { return s.db }

// Bus returns the event bus.
func (s *Server) Bus() *events.Bus { return s.bus }

// Transcripts returns what records sessions on request.
func (s *Server) Transcripts() *transcript.Recorder { return s.tapes }

// Limits returns the counters, for bans and quota.
func (s *Server) Limits() *limits.Limits { return s.limits }

// Log returns the server's logger.
func (s *Server) Log() *slog.Logger { return s.log }

// followSessions keeps the time of each account's last log-in, and gives memory
// back when sessions have settled. Log-ins come in bursts, so they are written
// once in a while and not one by one.
func (s *Server) followSessions(ctx context.Context) {
	sub := s.bus.Subscribe("last log-in", events.Login, events.Logout)
	defer sub.Close()
	last := map[string]time.Time{}
	flush := func() {
		for name, at := range last {
			wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
			err := s.db.TouchLogin(wctx, name, at)
			cancel()
			if err != nil && fault.KindOf(err) != fault.NotExist { // anonymous has no row
				s.log.Warn("the time of a log-in could not be kept", "user", name, "err", err)
			}
		}
		clear(last)
	}
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	memory := newSettling()
	defer memory.timer.Stop()
	for {
		select {
		case e, ok := <-sub.C():
			if !ok {
				flush()
				return
			}
			memory.touch()
			if e.Kind == events.Login {
				last[e.User] = e.Time
			}
		case <-memory.timer.C:
			memory.settle()
		case <-t.C:
			flush()
		case <-ctx.Done():
			flush()
			return
		}
	}
}
