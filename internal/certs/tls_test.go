package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

func TestVersionsAndSuites(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	pair := ca.issue(t, request{cn: "a", names: []string{"a.test"}}).write(t, dir, "a")
	cfg := configFor(t, pair)
	l := cfg.Listen[0]
	legacy := l
	legacy.Name, legacy.LegacyTLS = "legacy", true
	s := open(t, cfg)
	cfg13 := configFor(t, pair)
	cfg13.TLS.MinVersion = config.TLS13
	s13 := open(t, cfg13)
	cbc := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	tests := []struct {
		name     string
		server   *tls.Config
		min, max uint16
		suites   []uint16
		want     uint16 // 0: refused
	}{
		{"1.3", s.TLS(l), tls.VersionTLS12, tls.VersionTLS13, nil, tls.VersionTLS13},
		{"1.2", s.TLS(l), tls.VersionTLS12, tls.VersionTLS12, nil, tls.VersionTLS12},
		{"1.2 with CBC only", s.TLS(l), tls.VersionTLS12, tls.VersionTLS12, cbc, 0},
		{"1.1", s.TLS(l), tls.VersionTLS10, tls.VersionTLS11, nil, 0},
		{"min 1.3, client 1.2", s13.TLS(l), tls.VersionTLS12, tls.VersionTLS12, nil, 0},
		{"min 1.3, client 1.3", s13.TLS(l), tls.VersionTLS12, tls.VersionTLS13, nil, tls.VersionTLS13},
		{"legacy, client 1.0", s.TLS(legacy), tls.VersionTLS10, tls.VersionTLS10, cbc, tls.VersionTLS10},
		{"legacy, client 1.3", s.TLS(legacy), tls.VersionTLS10, tls.VersionTLS13, nil, tls.VersionTLS13},
		{"legacy beside min 1.3", s13.TLS(legacy), tls.VersionTLS10, tls.VersionTLS10, cbc, tls.VersionTLS10},
	}
	for _, tt := range tests {
		cs, _, err := shake(tt.server, &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), MinVersion: tt.min, MaxVersion: tt.max, CipherSuites: tt.suites})
		if got := cs.Version; (err == nil) != (tt.want != 0) || err == nil && got != tt.want {
			t.Errorf("%s: version %x, %v", tt.name, got, err)
		}
	}
	for _, id := range s.TLS(l).CipherSuites {
		if n := tls.CipherSuiteName(id); !strings.Contains(n, "ECDHE") || !strings.Contains(n, "GCM") && !strings.Contains(n, "CHACHA20") {
			t.Errorf("%s is not ECDHE with authenticated encryption", n)
		}
	}
	for _, name := range config.CryptoNames() {
		cfg := configFor(t, pair)
		cfg.CryptoPolicy = name
		c := open(t, cfg).TLS(l)
		if p := cfg.Crypto(); len(c.CipherSuites) != len(p.Suites) || len(c.CurvePreferences) != len(p.Curves) || slices.Contains(c.CipherSuites, 0) || slices.Contains(c.CurvePreferences, 0) {
			t.Errorf("%s has a name that crypto/tls does not know: %x, %v", name, c.CipherSuites, c.CurvePreferences)
		}
		for _, curve := range c.CurvePreferences { // each works by itself
			cs, _, err := shake(c, &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), CurvePreferences: []tls.CurveID{curve}})
			if err != nil || cs.CurveID != curve {
				t.Errorf("%s, %v: %v", name, curve, err)
			}
		}
		_, _, err := shake(c, &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), MaxVersion: tls.VersionTLS12, CipherSuites: cbc})
		if legacy := strings.HasPrefix(string(name), "legacy-"); (err == nil) != legacy {
			t.Errorf("%s with CBC only: %v", name, err)
		}
	}
	if c := s.TLS(l); !c.DynamicRecordSizingDisabled {
		t.Error("records start small")
	}
}

// RFC 7301, and the ALPACA attack: a client of another protocol is refused, one without ALPN is not.
func TestALPN(t *testing.T) {
	s := open(t, configFor(t))
	cfg := s.TLS(s.state.Load().cfg.Listen[0])
	for _, tt := range []struct {
		offer []string
		want  string
		ok    bool
	}{{nil, "", true}, {[]string{"ftp"}, "ftp", true}, {[]string{"x-other", "ftp"}, "ftp", true}, {[]string{"h2", "http/1.1"}, "", false}} {
		cs, _, err := shake(cfg, &tls.Config{InsecureSkipVerify: true, NextProtos: tt.offer})
		if (err == nil) != tt.ok || cs.NegotiatedProtocol != tt.want {
			t.Errorf("%v: %q, %v", tt.offer, cs.NegotiatedProtocol, err)
		}
	}
}

func TestServerNameOutsideOfHosts(t *testing.T) {
	cfg := configFor(t)
	cfg.Listen[0].Hosts = []string{"ftp.example.org", "*.example.net"}
	s := open(t, cfg)
	server := s.TLS(cfg.Listen[0])
	for name, ok := range map[string]bool{"": true, "ftp.example.org": true, "FTP.example.org": true, "x.example.net": true, "other.test": false} {
		if _, _, err := shake(server, &tls.Config{ServerName: name, InsecureSkipVerify: true}); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other, dir := newCA(t), newCA(t), t.TempDir()
	ours := ca.issue(t, request{cn: "ann", client: true}).pair()
	theirs := other.issue(t, request{cn: "eve", client: true}).pair()
	own := (*authority)(nil).issue(t, request{cn: "self", client: true}).pair()
	expired := (*authority)(nil).issue(t, request{cn: "old", client: true, from: time.Now().Add(-48 * time.Hour), to: time.Now().Add(-time.Hour)}).pair()
	server := ca.issue(t, request{cn: "server"}).pair() // not meant for clients
	caFile := ca.write(t, dir, "ca").Cert

	tests := []struct {
		name   string
		demand config.Demand
		ca     bool
		cert   *tls.Certificate
		ok     bool
		seen   int // certificates the server knows
		chains bool
	}{
		{"off ignores", config.CertOff, true, &ours, true, 0, false},
		{"optional, none", config.CertOptional, true, nil, true, 0, false},
		{"optional, ours", config.CertOptional, true, &ours, true, 1, true},
		{"optional, foreign", config.CertOptional, true, &theirs, false, 0, false},
		{"optional, of a server", config.CertOptional, true, &server, false, 0, false},
		{"required, none", config.CertRequired, true, nil, false, 0, false},
		{"required, ours", config.CertRequired, true, &ours, true, 1, true},
		{"required, own without authority", config.CertRequired, false, &own, true, 1, false},
		{"required, none without authority", config.CertRequired, false, nil, false, 0, false},
		{"optional, expired without authority", config.CertOptional, false, &expired, false, 0, false},
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range tests {
			cfg := configFor(t)
			if tt.ca {
				cfg.TLS.ClientCA = caFile
			}
			cfg.Listen[0].ClientCert = tt.demand
			s := open(t, cfg)
			client := &tls.Config{InsecureSkipVerify: true, MaxVersion: version}
			if tt.cert != nil { // without asking which authorities the server names
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
			}
			_, ss, err := shake(s.TLS(cfg.Listen[0]), client)
			if (err == nil) != tt.ok {
				t.Errorf("%s, %s: %v", tt.name, tls.VersionName(version), err)
			}
			if err == nil && (len(ss.PeerCertificates) != tt.seen || (len(ss.VerifiedChains) > 0) != tt.chains) {
				t.Errorf("%s: saw %d certificates, %d chains", tt.name, len(ss.PeerCertificates), len(ss.VerifiedChains))
			}
		}
	}
}

// A resumed session is judged by the authorities of now, not of then.
func TestResumptionIsVerifiedAgain(t *testing.T) {
	ca, other, dir := newCA(t), newCA(t), t.TempDir()
	ann := ca.issue(t, request{cn: "ann", client: true}).pair()
	cfg := configFor(t)
	cfg.TLS.ClientCA = ca.write(t, dir, "ca").Cert
	cfg.Listen[0].ClientCert = config.CertRequired
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ca.write(t, dir, "ca")
		s := open(t, cfg)
		server := s.TLS(cfg.Listen[0])
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", MaxVersion: version, Certificates: []tls.Certificate{ann}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		if _, _, err := shake(server, client); err != nil {
			t.Fatal(err)
		}
		_, ss, err := shake(server, client)
		if err != nil || !ss.DidResume || len(ss.PeerCertificates) != 1 {
			t.Fatalf("%s: resumed %v, %v", tls.VersionName(version), ss.DidResume, err)
		}
		other.write(t, dir, "ca") // the authority is replaced
		if changed, err := s.Refresh(); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if _, _, err := shake(server, client); err == nil {
			t.Errorf("%s: a certificate of an authority that is gone was accepted", tls.VersionName(version))
		}
	}
}

func TestTicketKeys(t *testing.T) {
	cfg := configFor(t)
	second := cfg.Listen[0]
	second.Name = "second"
	s := open(t, cfg)
	server := s.TLS(cfg.Listen[0])
	cache := tls.NewLRUClientSessionCache(4)
	resumes := func(server *tls.Config) bool {
		t.Helper()
		_, ss, err := shake(server, &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: cache})
		if err != nil {
			t.Fatal(err)
		}
		return ss.DidResume
	}
	rotate := func(n int) {
		for range n {
			s.mu.Lock()
			s.rotate()
			s.mu.Unlock()
		}
	}
	if resumes(server) {
		t.Error("resumed from nothing")
	}
	if !resumes(server) || !resumes(server.Clone()) || !resumes(s.TLS(cfg.Listen[0])) {
		t.Error("no resumption on the same listener, its clone, or after asking again")
	}
	rotate(keep - 1)
	if !resumes(server) {
		t.Error("a ticket did not survive the rotations it should")
	}
	rotate(keep)
	if resumes(server) {
		t.Error("an old ticket is still good")
	}
	if resumes(s.TLS(second)) {
		t.Error("a ticket of one listener resumed on another")
	}
	if resumes(open(t, cfg).TLS(cfg.Listen[0])) {
		t.Error("ticket keys survived a restart")
	}
}

func TestWatchRotatesAndReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newCA(t), t.TempDir()
		pair := ca.issue(t, request{cn: "one", names: []string{"a.test"}}).write(t, dir, "a")
		logs := &lines{}
		s, err := Open(configFor(t, pair), slog.New(logs))
		if err != nil {
			t.Fatal(err)
		}
		server := s.TLS(s.state.Load().cfg.Listen[0])
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Watch(ctx); close(done) }()
		newest := func() [32]byte {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.rings["ftp-0\x00off"].keys[0]
		}
		before := newest()
		time.Sleep(rotateEvery + checkEvery)
		synctest.Wait()
		if newest() == before {
			t.Error("ticket keys were not rotated")
		}
		ca.issue(t, request{cn: "two", names: []string{"a.test"}}).write(t, dir, "a")
		time.Sleep(checkEvery)
		synctest.Wait()
		if d := s.Describe(); d[0].Subject != "CN=two" {
			t.Errorf("serves %s", d[0].Subject)
		}
		if err := os.Remove(pair.Key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * checkEvery)
		synctest.Wait()
		if n := logs.count("new certificate is not usable"); n != 1 {
			t.Errorf("a lasting problem was logged %d times", n)
		}
		cancel()
		<-done
		if server == nil {
			t.Error("lost")
		}
	})
}

// lines counts log messages.
type lines struct {
	slog.Handler
	seen []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.seen = append(l.seen, r.Message)
	return nil
}
func (l *lines) count(msg string) (n int) {
	for _, m := range l.seen {
		if m == msg {
			n++
		}
	}
	return n
}
