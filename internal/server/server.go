// Package server is the composition root: it builds the parts from a
// configuration, binds the ports, runs, reloads and stops them. It owns the
// control sockets, the lock of the data directory and the order of things; it
// owns no protocol and no policy.
package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/session"
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
	started time.Time
	manager *session.Manager

	mu  sync.Mutex
	cfg *config.Config
}

// New builds a server and takes its data directory into possession: it opens
// certificates and store, and then binds every port. All ports that cannot be
// bound are reported together. After an error nothing is left open.
func New(cfg *config.Config, opt Options) (*Server, error) { panic("coming") }

// Run serves until ctx ends or Stop is called, and then drains: idle sessions
// get 421 at once, transfers may finish until the deadline of the drain
// setting. It returns nil after an orderly stop.
func (s *Server) Run(ctx context.Context) error { return nil }

// Stop starts an orderly stop and returns at once. reason goes to the log.
// A second call ends the drain: what still runs is cut.
func (s *Server) Stop(reason string) {}

// Reload reads the configuration again and applies it. On error nothing has
// changed, and the error text has one problem on each line.
func (s *Server) Reload(ctx context.Context) (Report, error) { return Report{}, nil }

// Status says what the server does now.
func (s *Server) Status() Status { return Status{} }

// Kick ends the session of that id and reports whether there was one.
func (s *Server) Kick(id, reason string) bool { return s.manager.Kick(id, reason) }

// Config returns the configuration in force. It must not be changed.
func (s *Server) Config() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Manager returns the live sessions.
func (s *Server) Manager() *session.Manager { return s.manager }

// Close releases everything of a server that was never run.
func (s *Server) Close() error { return nil }
