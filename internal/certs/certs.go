// Package certs owns the server's certificates and the TLS rules of its
// listeners: which file serves which name, the self-signed certificate of a
// server that has none, reload without a restart, versions, suites, client
// certificates and ticket keys. It does not own connections nor who a client
// certificate belongs to (auth).
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/portreeve/portreeve/internal/config"
)

const (
	checkEvery  = 30 * time.Second
	rotateEvery = 12 * time.Hour
)

// Store holds the certificates in use. Safe for concurrent use.
type Store struct {
	log   *slog.Logger
	state atomic.Pointer[state] // what handshakes read

	mu       sync.Mutex // one reload at a time; guards the rest
	lastErr  string     // of Refresh, so that a lasting problem is logged once
	rings    map[string]*ring
	handed   []handed
	rotateAt time.Time
}

// handed is a configuration given out, which gets rotated ticket keys as long as anybody uses it.
type handed struct {
	cfg  weak.Pointer[tls.Config]
	ring *ring
}

// state is everything read from files; it is never changed, only replaced.
type state struct {
	cfg    *config.Config
	certs  []*certificate // the default one first
	byName map[string][]*certificate
	ca     *x509.CertPool // nil without tls.client_ca
	files  map[string]os.FileInfo
}

// certificate is one chain with its key.
type certificate struct {
	tls.Certificate
	certFile, keyFile string
	keyMode           fs.FileMode
	selfSigned        bool // made by us
}

// Open reads every certificate that cfg names, or, when it names none and a
// listener needs one, makes a self-signed one in data_dir/tls. The error names
// each file that is wrong and what to do.
func Open(cfg *config.Config, log *slog.Logger) (*Store, error) {
	s := &Store{log: log, rings: map[string]*ring{}, rotateAt: time.Now().Add(rotateEvery)}
	st, err := s.load(cfg)
	if err != nil {
		return nil, err
	}
	s.use(st)
	return s, nil
}

// Reload reads the files again, by cfg when it is not nil. When anything is
// wrong the certificates in use stay as they are and the error says why.
// Configurations that TLS gave out follow at their next handshake, except for
// what Listen itself and tls.min_version and tls.client_ca decide: ask TLS again for those.
func (s *Store) Reload(cfg *config.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload(cfg)
}

func (s *Store) reload(cfg *config.Config) error {
	old := s.state.Load()
	if cfg == nil {
		cfg = old.cfg
	}
	st, err := s.load(cfg)
	if err == nil {
		err = worse(old, st)
	}
	if err != nil {
		return fmt.Errorf("certificates in use stay in force: %w", err)
	}
	s.use(st)
	return nil
}

// worse refuses an expired certificate in the place of a valid one, which is
// what a copied backup or a wrong file looks like.
func worse(old, fresh *state) error {
	now := time.Now()
	if len(old.certs) == 0 || now.After(old.certs[0].Leaf.NotAfter) {
		return nil
	}
	for _, c := range fresh.certs {
		if now.After(c.Leaf.NotAfter) {
			return fmt.Errorf("%s expired on %s; put the renewed certificate there", c.certFile, c.Leaf.NotAfter.Format(time.DateOnly))
		}
	}
	return nil
}

// use makes st the state and tells the log what is served now.
func (s *Store) use(st *state) {
	s.state.Store(st)
	for _, c := range st.certs {
		d := c.describe(time.Now())
		s.log.Info("certificate loaded", "path", c.certFile, "names", strings.Join(d.Names, " "), "until", d.NotAfter.Format(time.DateOnly), "sha256", d.Fingerprint)
		for _, w := range d.Warnings {
			s.log.Warn("certificate "+w, "path", c.certFile)
		}
	}
	if len(st.certs) == 0 {
		return
	}
	for i := range st.cfg.Listen {
		for _, h := range st.cfg.Listen[i].Hosts {
			if st.find(h) == nil {
				s.log.Warn("no certificate covers this host, clients that check it will refuse; add one as [[tls.certificate]]", "listener", st.cfg.Listen[i].Name, "host", h)
			}
		}
	}
}

// Refresh reloads when a file has changed since it was read, and renews the
// self-signed certificate when it is due. It reports whether anything was replaced.
func (s *Store) Refresh() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Load().stale() {
		s.lastErr = ""
		return false, nil
	}
	if err := s.reload(nil); err != nil {
		return false, err
	}
	s.lastErr = ""
	return true, nil
}

func (st *state) stale() bool {
	for name, was := range st.files {
		is, err := os.Stat(name)
		if err != nil || !os.SameFile(was, is) || !is.ModTime().Equal(was.ModTime()) || is.Size() != was.Size() {
			return true
		}
	}
	for _, c := range st.certs {
		if c.selfSigned && renewalDue(c.Leaf, time.Now()) {
			return true
		}
	}
	return false
}

// Watch calls Refresh every half minute and rotates the ticket keys. A lasting
// problem is logged once. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.Refresh(); err != nil {
			s.mu.Lock()
			if err.Error() != s.lastErr {
				s.lastErr = err.Error()
				s.log.Error("new certificate is not usable", "err", err)
			}
			s.mu.Unlock()
		}
		s.mu.Lock()
		if now := time.Now(); !now.Before(s.rotateAt) {
			s.rotateAt = now.Add(rotateEvery)
			s.rotate()
		}
		s.mu.Unlock()
	}
}

// load reads everything that cfg names.
func (s *Store) load(cfg *config.Config) (*state, error) {
	st := &state{cfg: cfg, byName: map[string][]*certificate{}, files: map[string]os.FileInfo{}}
	var errs []error
	pairs := make([]config.Certificate, 0, 1+len(cfg.TLS.Certificates))
	if cfg.TLS.Cert != "" {
		pairs = append(pairs, config.Certificate{Cert: cfg.TLS.Cert, Key: cfg.TLS.Key})
	}
	pairs = append(pairs, cfg.TLS.Certificates...)
	for _, p := range pairs {
		c, err := st.loadPair(p.Cert, p.Key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		st.certs = append(st.certs, c)
	}
	if len(cfg.TLS.ACME.Domains) > 0 {
		if c := s.loadACME(st, cfg); c != nil {
			st.certs = append([]*certificate{c}, st.certs...)
		}
	}
	if len(pairs) == 0 && len(st.certs) == 0 && needed(cfg) {
		c, err := s.selfSigned(st, cfg)
		if err != nil {
			errs = append(errs, err)
		} else {
			st.certs = append(st.certs, c)
		}
	}
	if cfg.TLS.ClientCA != "" {
		pool, err := st.loadCA(cfg.TLS.ClientCA)
		if err != nil {
			errs = append(errs, err)
		}
		st.ca = pool
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, c := range st.certs {
		for _, n := range c.Leaf.DNSNames {
			n = strings.ToLower(strings.TrimSuffix(n, "."))
			st.byName[n] = append(st.byName[n], c)
		}
	}
	return st, nil
}

func needed(cfg *config.Config) bool {
	if cfg.Admin.Address != "" {
		return true
	}
	for i := range cfg.Listen {
		if l := &cfg.Listen[i]; l.Protocol != config.ProtocolSFTP && l.TLS != config.Off {
			return true
		}
	}
	return false
}

// find returns the certificates for a server name or a pattern of one.
func (st *state) find(name string) []*certificate {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if c := st.byName[name]; c != nil {
		return c
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		return st.byName["*."+rest]
	}
	return nil
}

// choose is tls.Config.GetCertificate.
func (s *Store) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	st := s.state.Load()
	if len(st.certs) == 0 {
		return nil, errors.New("no certificate is configured")
	}
	named := st.find(hello.ServerName)
	for _, c := range named { // an ECDSA and an RSA one may share a name
		if hello.SupportsCertificate(&c.Certificate) == nil {
			return &c.Certificate, nil
		}
	}
	if len(named) > 0 {
		return &named[0].Certificate, nil
	}
	// A name that is not ours is no reason to fail: the client decides whether
	// it accepts the default, and listen.hosts whether we accept the name.
	return &st.certs[0].Certificate, nil
}
