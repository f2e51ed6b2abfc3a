// Package sshd is the SSH front: it turns SFTP and SCP into calls on a
// session.Session and faults into their replies. It owns the SSH policy
// (algorithms, what a channel may do), the SFTP codec and the SCP protocol.
//
// It decides nothing about files: rights, quota, pace and audit are the
// session's, cryptography is golang.org/x/crypto/ssh. It starts no program and
// forwards nothing, and it cannot open a file of the host.
package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/session"
)

// Options say how one listener behaves. They do not change: a reload makes a
// new Server, and connections of the old one live on with it.
type Options struct {
	Listener     string
	HostKeys     []HostKey     // at least one
	Banner       string        // shown before log-in; empty: none
	Algorithms   Algorithms    // what is offered
	LoginTimeout time.Duration // from accept to the end of log-in; 0: 60 s
	IdleTimeout  time.Duration // without a request; 0: 15 min
	KeepAlive    time.Duration // between questions whether the client is still there; 0: 60 s
	Ports        func() string // which port speaks what, for clients at the wrong one; may be nil
	Log          *slog.Logger  // nil: silent
}

// Server serves SSH on one listener. All methods may be called concurrently.
type Server struct {
	opt  Options
	m    *session.Manager
	base ssh.ServerConfig

	mu      sync.Mutex
	ln      net.Listener
	conns   map[*conn]struct{}
	wg      sync.WaitGroup // of connections
	closing bool
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("sshd: server closed")

// New returns a server whose connections are admitted by m.
func New(m *session.Manager, o Options) (*Server, error) {
	if len(o.HostKeys) == 0 {
		return nil, errors.New("an SSH server needs a host key")
	}
	if missing := o.Algorithms.check(); len(missing) > 0 {
		return nil, fmt.Errorf("there are no SSH algorithms called %s in this build", strings.Join(missing, ", "))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.LoginTimeout = cmp.Or(o.LoginTimeout, time.Minute)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 15*time.Minute)
	o.KeepAlive = cmp.Or(o.KeepAlive, time.Minute)
	s := &Server{opt: o, m: m, conns: map[*conn]struct{}{}, base: policy(o.Algorithms)}
	for _, k := range o.HostKeys {
		if k.Offered(o.Algorithms.HostKeys) {
			s.base.AddHostKey(k.signer)
			if k.certified != nil {
				s.base.AddHostKey(k.certified)
			}
		}
	}
	return s, nil
}

// Serve accepts connections until ln or the server is closed.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.ln = ln
	s.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.closing {
				return ErrServerClosed
			}
			return err
		}
		if c := s.add(nc); c != nil {
			go func() {
				defer s.wg.Done()
				defer s.remove(c)
				c.run()
			}()
			continue
		}
		nc.Close()
	}
}

func (s *Server) add(nc net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	c := &conn{s: s, nc: newNetConn(nc), log: s.opt.Log}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return c
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Connections returns how many connections this server holds.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

const stopText = "the server is shutting down"

// Shutdown accepts no more, ends connections that do nothing at once and the
// others when their files are closed. When ctx ends first it cuts what is left
// and returns ctx's error. It returns when the last connection is gone.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	if s.ln != nil {
		s.ln.Close()
	}
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		if c.busy.Load() == 0 {
			go c.goodbye(errStopping, stopText)
		}
	}
	gone := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	for _, c := range all {
		go c.goodbye(errStopping, stopText)
	}
	select {
	case <-gone:
		return ctx.Err()
	case <-time.After(cutWait):
		return fmt.Errorf("some sessions did not end: their storage does not answer: %w", ctx.Err())
	}
}

// cutWait is how long a session that was cut may take to end. A call into a
// storage that hangs cannot be taken back.
const cutWait = 3 * time.Second
