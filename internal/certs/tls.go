package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
	"weak"

	"github.com/portreeve/portreeve/internal/config"
)

// suiteIDs and curveIDs translate the names of a config.Crypto.
var (
	suiteIDs = func() map[string]uint16 {
		m := map[string]uint16{}
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			m[s.Name] = s.ID
		}
		return m
	}()
	curveIDs = map[string]tls.CurveID{
		"X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768, "SecP384r1MLKEM1024": tls.SecP384r1MLKEM1024,
		"x25519": tls.X25519, "secp256r1": tls.CurveP256, "secp384r1": tls.CurveP384, "secp521r1": tls.CurveP521,
	}
)

// algorithms puts a policy in force. Go chooses the order of suites and key
// exchanges, by what the processor can do and with post-quantum ones first.
func algorithms(c *tls.Config, p config.Crypto) {
	c.MinVersion = tls.VersionTLS12
	if p.MinVersion == config.TLS13 {
		c.MinVersion = tls.VersionTLS13
	}
	for _, n := range p.Suites {
		c.CipherSuites = append(c.CipherSuites, suiteIDs[n])
	}
	for _, n := range p.Curves {
		c.CurvePreferences = append(c.CurvePreferences, curveIDs[n])
	}
}

// legacySuites are what TLS 1.0 and 1.1 have, for listeners with legacy_tls.
var legacySuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// TLS returns the configuration for a listener, nil when it has no TLS. It
// must not be changed; a Clone may. Certificates and ticket keys follow Reload
// and Watch; after Reload with a new configuration, ask again.
//
// ALPN is "ftp": crypto/tls refuses a client that offers other protocols only,
// which ends cross-protocol attacks (ALPACA), and accepts one that offers none.
func (s *Store) TLS(l config.Listen) *tls.Config {
	if l.TLS == config.Off || l.Protocol == config.ProtocolSFTP {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	c := &tls.Config{
		GetCertificate: s.choose,
		NextProtos:     []string{"ftp"},
		// Small records at the start of every transfer cost more than they gain.
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return s.verify(&l, cs)
		},
	}
	algorithms(c, st.cfg.Crypto())
	if l.LegacyTLS {
		c.MinVersion = tls.VersionTLS10
		c.CipherSuites = append(c.CipherSuites, legacySuites...)
	}
	switch {
	case l.ClientCert == config.CertOptional && st.ca != nil:
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, st.ca
	case l.ClientCert == config.CertOptional:
		c.ClientAuth = tls.RequestClientCert
	case l.ClientCert == config.CertRequired && st.ca != nil:
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, st.ca
	case l.ClientCert == config.CertRequired:
		c.ClientAuth = tls.RequireAnyClientCert
	}
	// Tickets of one listener are worth nothing on another, whose rules differ.
	name := l.Name + "\x00" + string(l.ClientCert)
	r := s.rings[name]
	if r == nil {
		r = &ring{}
		r.turn()
		s.rings[name] = r
	}
	c.SetSessionTicketKeys(r.keys)
	s.handed = append(s.handed, handed{weak.Make(c), r})
	return c
}

// verify runs for full and for resumed handshakes alike: what was right when a
// ticket was issued may not be right any more.
func (s *Store) verify(l *config.Listen, cs tls.ConnectionState) error {
	if cs.ServerName != "" && !l.AcceptsHost(cs.ServerName) {
		return fmt.Errorf("listener %s does not serve the name %q", l.Name, cs.ServerName)
	}
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	leaf, ca := cs.PeerCertificates[0], s.state.Load().ca
	if ca == nil {
		// Nobody vouches for it; auth knows it by its fingerprint.
		if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
			return fmt.Errorf("client certificate %q is valid from %s to %s, not now", leaf.Subject, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
		}
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: ca, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return fmt.Errorf("client certificate %q: %w", leaf.Subject, err)
	}
	return nil
}

// ring holds ticket keys, the newest first: that one seals, all of them open.
// They live in memory only; a restart makes clients shake hands in full once.
type ring struct{ keys [][32]byte }

// keep is how many keys still open tickets: a ticket is good for one to two
// days, which limits what a key stolen from memory can decrypt.
const keep = 4

// turn puts a new key in front.
func (r *ring) turn() {
	var k [32]byte
	_, _ = rand.Read(k[:]) // it never fails, or ends the program
	r.keys = append([][32]byte{k}, r.keys[:min(len(r.keys), keep-1)]...)
}

// rotate gives every ring and configuration in use a new key. s.mu is held.
func (s *Store) rotate() {
	for _, r := range s.rings {
		r.turn()
	}
	live := s.handed[:0]
	for _, h := range s.handed {
		if c := h.cfg.Value(); c != nil {
			c.SetSessionTicketKeys(h.ring.keys)
			live = append(live, h)
		}
	}
	clear(s.handed[len(live):])
	s.handed = live
}
