package server

import (
	"os"
	"path/filepath"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/session"
)

// Status is what a running server says about itself.
type Status struct {
	Version      string
	PID          int
	Started      time.Time
	ConfigFile   string // "" for a quick start
	DataDir      string
	Stopping     bool // no new sessions; transfers are being drained
	Listeners    []Listener
	Certificates []Certificate
	Sessions     int           // connections now, logged in or not
	Transfers    int           // of those, moving a file now
	PassiveInUse int           // passive ports leased now, over all listeners
	Warnings     []string      // sentences an operator should read
	BytesDown    int64         // sent to clients since the start
	BytesUp      int64         // received from clients since the start
	Uptime       time.Duration // since Started
}

// Listener is one bound control socket.
type Listener struct {
	Name         string // of the [[listen]] entry
	Protocol     string // ftp, ftps
	Address      string // the bound address:port
	TLS          string // off, offered, required, implicit
	Passive      string // "50000-50999"
	Announce     string // what PASV names: an address, or "the address the client reached"
	ActiveSource string // "port 20", or "any port, because ..."
	Proxy        bool   // a PROXY header is expected from trusted networks
	Sessions     int
}

// Certificate describes a certificate in use.
type Certificate struct {
	Names       []string
	Fingerprint string // SHA-256, hex
	NotAfter    time.Time
	SelfSigned  bool
	Source      string // the file, or "made by portreeve"
}

// Report is the outcome of a reload that took effect.
type Report struct {
	Changed []string // keys now in force
	Restart []string // keys that differ but need a restart
	Opened  []string // listeners bound, "ftp 127.0.0.1:2121"
	Closed  []string // listeners closed; their sessions live on
}

// Sessions returns the live connections.
func (s *Server) Sessions() []session.Status { return s.manager.Sessions() }

// Kick ends the session of that id and reports whether there was one.
func (s *Server) Kick(id, reason string) bool { return s.manager.Kick(id, reason) }

// Status says what the server does now.
func (s *Server) Status() Status {
	st := Status{Version: s.opt.Version, PID: os.Getpid(), Started: s.started, Uptime: time.Since(s.started).Round(time.Second), DataDir: s.dataDir}
	st.Sessions, st.Transfers = s.manager.Counts()
	st.BytesDown, st.BytesUp = s.manager.Totals()
	for _, d := range s.certs.Describe() {
		st.Certificates = append(st.Certificates, Certificate{Names: d.Names, Fingerprint: d.Fingerprint, NotAfter: d.NotAfter, SelfSigned: d.SelfSigned, Source: d.Source})
		st.Warnings = append(st.Warnings, d.Warnings...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.ConfigFile = s.cfg.File(); st.ConfigFile != "" { // for people in other directories
		if abs, err := filepath.Abs(st.ConfigFile); err == nil {
			st.ConfigFile = abs
		}
	}
	st.Stopping = isClosed(s.stopping)
	if s.metrics.stale.Load() {
		st.Warnings = append(st.Warnings, "the last reload was refused and the configuration before it is still in force; see what \"portreeve check\" says, then \"portreeve reload\"")
	}
	st.Warnings = append(st.Warnings, s.warnings...)
	for _, p := range s.pools {
		st.PassiveInUse += p.Stats().Leased
	}
	for _, so := range s.sockets {
		l := &so.entry
		tls := string(l.TLS)
		if l.Implicit() {
			tls = "implicit"
		}
		sessions := so.current.backend.Connections()
		for _, g := range s.retired {
			if g.gate.acc == so.acc {
				sessions += g.backend.Connections()
			}
		}
		st.Listeners = append(st.Listeners, Listener{
			Name: l.Name, Protocol: string(l.Protocol), Address: so.acc.Addr().String(), TLS: tls,
			Proxy: len(l.Proxy) > 0, Sessions: sessions,
		})
		if so.current.announcer != nil { // FTP
			last := &st.Listeners[len(st.Listeners)-1]
			last.Passive, last.Announce, last.ActiveSource = s.cfg.Ports(l).String(), so.current.announcer.String(), activeText(s.cfg, so)
		}
	}
	return st
}

func activeText(cfg *config.Config, so *socket) string {
	if !cfg.FTP.Active {
		return "none, because active mode is off"
	}
	return so.current.source.text
}
