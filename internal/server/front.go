package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/ftpd"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/sshd"
	"github.com/portreeve/portreeve/internal/tlsrec"
)

// socket is one bound control socket and what serves it now.
type socket struct {
	key     string
	acc     *acceptor
	entry   config.Listen
	current *generation
}

// source is where active data connections start from.
type source struct {
	want config.ActiveSource
	port int    // 0: any
	text string // "port 20", or "any port, because ..."
}

// generation is a front made from one configuration. An ftp.Server does not
// change once it serves, so a reload puts a new generation on the socket;
// connections of the old one live on with it.
type generation struct {
	front     Front
	backend   interface{ Connections() int }
	gate      *gate
	pool      *ports.Pool
	announcer *announcer
	source    source
	served    chan struct{}
	retired   time.Time
}

// gate is a generation's view of a socket: closing it stops this generation's
// accepting and leaves the socket open for the next one.
type gate struct {
	acc    *acceptor
	closed chan struct{}
	once   sync.Once
}

func newGate(a *acceptor) *gate { return &gate{acc: a, closed: make(chan struct{})} }

func (g *gate) Accept() (net.Conn, error) {
	select {
	case <-g.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-g.acc.ready:
		return c, nil
	case <-g.closed:
	case <-g.acc.closed:
	}
	return nil, net.ErrClosed
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return nil
}

func (g *gate) Addr() net.Addr { return g.acc.Addr() }

// serve runs the generation's accept loop on a goroutine that wg waits for.
func (g *generation) serve(wg *sync.WaitGroup, log *slog.Logger) {
	wg.Go(func() {
		defer close(g.served)
		if err := g.front.Serve(g.gate); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, ftp.ErrServerClosed) && !errors.Is(err, sshd.ErrServerClosed) {
			log.Error("a listener stopped serving", "address", g.gate.Addr().String(), "err", err)
		}
	})
}

// frontPlan is a generation that is ready but does not serve yet.
type frontPlan struct {
	entry config.Listen
	hosts []string
	gen   *generation
}

// plan makes the front for an entry on a socket. The test of the source port
// is not repeated while active connections may be using the port.
func (s *Server) plan(cfg *config.Config, l *config.Listen, so *socket, tc *tls.Config, pool *ports.Pool) frontPlan {
	log := s.log.With("listener", l.Name)
	var src source
	if so.current != nil && so.current.source.want == cfg.FTP.ActiveSource {
		src = so.current.source
	} else {
		src.want = cfg.FTP.ActiveSource
		src.port, src.text = activeSource(src.want, addrOf(so.acc.Addr()))
	}
	an, hosts := newAnnouncer(s.book, &cfg.FTP.Passive, l)
	backend := ftpd.New(s.manager, ftpd.Options{Listener: l.Name, CertLogin: l.CertLogin, Hosts: l.Hosts, Log: log, Diagnose: s.diagnose(*l, an)})
	fc := ftp.Config{
		Backend: backend, Greeting: first(l.Banner, cfg.FTP.Banner), Product: "Portreeve", Version: s.opt.Version,
		TLS: tc, Implicit: l.Implicit(), ControlTLS: tlsPolicy(l.TLS), DataTLS: tlsPolicy(l.DataTLS),
		Records: records(cfg.FTP.TLSRecords), Binding: binding(l.DataSession), LooseClose: !l.StrictClose, AllowCCC: l.AllowCCC,
		Passive: pool, Shared: s.shared, DataPeers: prefixes(l.Proxy),
		PassiveAddress: an.address, PassivePort: an.port,
		NoActive: !cfg.FTP.Active, RawASCII: !cfg.FTP.ASCII, ActivePort: src.port, FXP: prefixes(cfg.FTP.FXP),
		LoginTimeout: cfg.FTP.LoginTimeout.Std(), IdleTimeout: cfg.FTP.IdleTimeout.Std(),
		StallTimeout: cfg.FTP.StallTimeout.Std(), DataTimeout: cfg.FTP.DataTimeout.Std(),
		MaxLine: cfg.FTP.MaxLine, ListDepth: cfg.FTP.ListDepth, ListEntries: cfg.FTP.ListEntries,
		Logger: log, OnData: s.recordData(l.Name, backend), OnMoved: backend.Moved, Ports: s.doors,
	}
	if log.Enabled(context.Background(), slog.LevelDebug) || s.level != nil && cfg.Log.Level == "debug" {
		fc.OnTrace = trace(log) // otherwise no line is built in vain
	}
	front := &ftp.Server{Config: fc}
	return frontPlan{entry: *l, hosts: hosts, gen: &generation{front: front, backend: backend, gate: newGate(so.acc), pool: pool, announcer: an, source: src, served: make(chan struct{})}}
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func tlsPolicy(p config.Policy) ftp.TLSPolicy {
	switch p {
	case config.Off:
		return ftp.TLSOff
	case config.Offered:
		return ftp.TLSOffered
	}
	return ftp.TLSRequired
}

// records is who makes the TLS records of data connections; nil is crypto/tls.
func records(r config.Records) ftp.Records {
	wide := tlsrec.Wide()
	if r == config.RecordsStandard || r != config.RecordsOwn && !wide {
		return nil
	}
	return ftpd.Records(wide)
}

func binding(b config.Binding) ftp.TLSBinding {
	switch b {
	case config.BindOff:
		return ftp.BindOff
	case config.BindRequire:
		return ftp.BindRequire
	}
	return ftp.BindPrefer
}

// trace writes protocol lines to the log at level debug. The engine has cut secrets.
func trace(log *slog.Logger) func(*ftp.Conn, bool, string) {
	return func(c *ftp.Conn, sent bool, line string) {
		dir := "client"
		if sent {
			dir = "server"
		}
		log.Debug("line", "from", dir, "conn", c.ID(), "remote", c.RemoteAddr(), "line", line)
	}
}

// recordData publishes data connections that failed, with everything that
// tells why: it is what an operator asks first.
func (s *Server) recordData(listener string, backend *ftpd.Backend) func(*ftp.Conn, ftp.DataAttempt) {
	return func(c *ftp.Conn, a ftp.DataAttempt) {
		id, user := backend.Who(c)
		s.recorder.Add(ports.NewAttempt(listener, id, user, c.LocalAddr(), a))
		proto := "ftp"
		if c.Implicit() || c.TLS() != nil {
			proto = "ftps"
		}
		backend.Data(c, &a)
		s.metrics.data(a)
		if a.Stranger.IsValid() {
			s.manager.Stranger(context.Background(), auth.Origin{Protocol: proto, Listener: listener, Local: a.Local}, a.Stranger)
		}
		if a.Err == nil {
			return
		}
		detail := fmt.Sprintf("[%s] %s", a.Code, a.Mode)
		if a.Local.IsValid() {
			detail += fmt.Sprintf(", server's end %s", a.Local)
		}
		if a.Remote.IsValid() {
			detail += fmt.Sprintf(", data peer %s", a.Remote)
		}
		if a.Stranger.IsValid() {
			detail += fmt.Sprintf(", turned away %s", a.Stranger)
		}
		detail += fmt.Sprintf(", waited %s: %v", a.Waited.Round(time.Millisecond), a.Err)
		kind := fault.KindOf(a.Err)
		if kind == fault.Internal {
			kind = fault.Canceled // the network's doing, not a bug of ours
		}
		s.publish(events.Event{Kind: events.DataFailed, Time: a.Time, Session: id, User: user, Protocol: proto, Listener: listener,
			Remote: a.Control.String(), Took: a.Waited, Fault: kind, Detail: detail})
	}
}

func (s *Server) publish(e events.Event) {
	if err := s.bus.Publish(context.Background(), e); err != nil && fault.KindOf(err) != fault.Stopping {
		s.log.Error("an event was not stored", "kind", string(e.Kind), "err", err)
	}
}

// doors tells a client that speaks the wrong protocol which port speaks what.
func (s *Server) doors() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for _, so := range s.sockets {
		what := "FTP"
		switch {
		case so.entry.Protocol == config.ProtocolSFTP:
			what = "SSH (SFTP and SCP)"
		case so.entry.Implicit():
			what = "FTP with implicit TLS"
		case so.entry.TLS != config.Off:
			what = "FTP with AUTH TLS"
		}
		parts = append(parts, fmt.Sprintf("port %d speaks %s", addrOf(so.acc.Addr()).Port(), what))
	}
	return strings.Join(parts, ", ")
}
