// Package ftp is an FTP engine: a server and a client for RFC 959 and its
// successors (1123, 2228, 2389, 2428, 2640, 3659, 4217, 7151), with explicit
// and implicit TLS, active and passive data connections over IPv4 and IPv6.
//
// It owns the protocol: commands, replies, data connections and the transfer
// loop. It does not own users, rights or storage (a Backend does), nor which
// certificate or which ports are used (Config says). It uses the standard
// library only.
package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config says how a Server behaves. It must not change once Serve was called.
// The zero value of each field is a safe default.
type Config struct {
	Backend  Backend
	Greeting string // text of the 220 reply; default "FTP server ready."
	Product  string // name for CSID, default "Portreeve"
	Version  string // version for CSID

	TLS        *tls.Config // nil: no TLS. GetConfigForClient is not used; GetCertificate is.
	Implicit   bool        // TLS from the first byte
	ControlTLS TLSPolicy   // TLSRequired refuses USER before AUTH TLS; ignored when Implicit
	DataTLS    TLSPolicy   // TLSRequired refuses transfers without PROT P
	Records    Records     // makes the records of large protected transfers; nil: crypto/tls does
	Binding    TLSBinding  // must data connections resume the control connection's TLS session
	LooseClose bool        // accept uploads that end without a TLS close_notify
	AllowCCC   bool        // let the client clear the control connection (RFC 4217 section 6.3)

	Passive        PassivePorts             // nil: PASV and EPSV are refused
	Shared         *SharedPort              // one port for protected data connections; nil: they use Passive, too
	PassiveAddress func(c *Conn) netip.Addr // address for 227; nil or zero: the one the client reached
	// PassivePort gives the port to announce, in 227 and 229, for the one that
	// was leased, where a router maps it to another; nil: the leased one.
	PassivePort func(c *Conn, port uint16) uint16
	RawASCII    bool           // TYPE A is accepted but moves bytes as they are
	NoActive    bool           // refuse PORT and EPRT
	ActivePort  int            // source port of active data connections, 0: any
	FXP         []netip.Prefix // networks other than the client's own that PORT and PASV peers may be in

	DataPeers []netip.Prefix // networks that passive data connections may come from besides the client's address: balancers

	LoginTimeout time.Duration // from accept to a successful log-in; default 60 s
	IdleTimeout  time.Duration // between commands, never during a transfer; default 15 min
	StallTimeout time.Duration // no byte moved in a transfer; default 2 min
	DataTimeout  time.Duration // for a data connection to come about; default 30 s
	MaxFailures  int           // failed log-ins before the connection is closed; default 5
	MaxLine      int           // bytes in a command line; default 4096
	ListDepth    int           // levels of LIST -R; default 16
	ListEntries  int           // entries of sorted or recursive listings, and of STAT; default 10,000

	Logger  *slog.Logger                          // nil: silent
	OnTrace func(c *Conn, sent bool, line string) // every protocol line, secrets cut; nil: none
	OnData  func(c *Conn, a DataAttempt)          // every data connection, good or bad, and agreements that came to nothing
	// OnMoved sees what each transfer or listing has moved over its data
	// connection, whether it came to its end or not, before its last reply; nil: none.
	OnMoved func(c *Conn, verb string, octets int64, took time.Duration)
	Ports   func() string // which port speaks what, for clients at the wrong door
}

// Server serves one listener or several that share a Config.
type Server struct {
	Config

	once   sync.Once
	mu     sync.Mutex
	lns    map[net.Listener]struct{}
	conns  map[*Conn]struct{}
	closed bool
	wg     sync.WaitGroup

	lot       parking
	parkAfter time.Duration // the constant of that name; tests set it
	tokens    sync.Map      // token of a live TLS session -> its *binding
}

func (s *Server) init() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&s.parkAfter, parkAfter)
	def(&s.LoginTimeout, time.Minute)
	def(&s.IdleTimeout, 15*time.Minute)
	def(&s.StallTimeout, 2*time.Minute)
	def(&s.DataTimeout, 30*time.Second)
	num(&s.MaxFailures, 5)
	num(&s.MaxLine, 4096)
	num(&s.ListDepth, 16)
	num(&s.ListEntries, 10000)
	if s.Greeting == "" {
		s.Greeting = "FTP server ready."
	}
	if s.Product == "" {
		s.Product = "Portreeve"
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.lns = make(map[net.Listener]struct{})
	s.conns = make(map[*Conn]struct{})
}

// Serve accepts connections on ln until Shutdown or Close, and then returns
// ErrServerClosed; it returns other errors of Accept as they are. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	s.once.Do(s.init)
	if s.Backend == nil {
		return errors.New("ftp: Server.Backend is nil")
	}
	if s.Implicit && s.TLS == nil {
		return errors.New("ftp: implicit TLS needs Server.TLS")
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.lns[ln] = struct{}{}
	s.mu.Unlock()
	defer func() {
		ln.Close()
		s.mu.Lock()
		delete(s.lns, ln)
		s.mu.Unlock()
	}()
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if s.stopping() {
				return ErrServerClosed
			}
			var te interface{ Temporary() bool }
			if errors.As(err, &te) && te.Temporary() { // EMFILE and friends
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				s.Logger.Warn("accept failed; trying again", "err", err, "in", pause)
				time.Sleep(pause)
				continue
			}
			return err
		}
		pause = 0
		s.start(nc)
	}
}

// ServeConn serves one connection that the caller accepted and returns when it has ended.
func (s *Server) ServeConn(nc net.Conn) {
	s.once.Do(s.init)
	if c := s.start(nc); c != nil {
		<-c.ended
	}
}

func (s *Server) start(nc net.Conn) *Conn {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		nc.Close()
		return nil
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go c.serve()
	return c
}

func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if c.bind.token != nil {
		s.tokens.Delete(string(c.bind.token))
	}
	s.wg.Done()
}

func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) stop() []*Conn {
	s.once.Do(s.init)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for ln := range s.lns {
		ln.Close()
	}
	cs := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		cs = append(cs, c)
	}
	return cs
}

// cutWait is how long a session that was cut may take to end. A call into a
// storage that hangs cannot be taken back.
const cutWait = 3 * time.Second

// Shutdown stops accepting, says 421 to idle clients at once and to busy ones
// when their transfer ends, and waits. When ctx ends first it cuts what is
// left, as Close does, waits a few seconds more, and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.lot.close()
	for _, c := range s.stop() {
		c.drain()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.stop() {
		c.Close("The server is stopping.")
	}
	select {
	case <-done:
		return ctx.Err()
	case <-time.After(cutWait):
		return fmt.Errorf("ftp: some sessions did not end: their storage does not answer: %w", ctx.Err())
	}
}

// Close stops accepting and ends every connection with 421.
func (s *Server) Close() error {
	for _, c := range s.stop() {
		c.Close("The server is stopping.")
	}
	s.wg.Wait()
	s.lot.close()
	return nil
}
