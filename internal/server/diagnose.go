package server

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/firewall"
	"github.com/portreeve/portreeve/internal/ports"
)

// Recorder returns the record of data connections.
func (s *Server) Recorder() *ports.Recorder { return s.recorder }

// LivePorts returns the sockets that are open now, the listeners first, and the
// numbers of each pool.
func (s *Server) LivePorts() ([]ports.LiveSocket, []ports.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, stats := []ports.LiveSocket{}, []ports.Stats{}
	for _, so := range s.sockets {
		live = append(live, ports.LiveSocket{Addr: addrOf(so.acc.Addr()), State: "control", Use: so.entry.Name})
	}
	if s.shared != nil {
		live = append(live, ports.LiveSocket{Addr: addrOf(s.sharedLn.Addr()), State: "shared", Waiting: s.shared.Waiting()})
	}
	for _, p := range s.pools {
		live = append(live, p.Live()...)
		stats = append(stats, p.Stats())
	}
	return live, stats
}

// diagnose returns what SITE DIAG tells a client: what the server saw of this
// client's address, and what of its own side matters to it. Nobody else's
// address is in it. The doctor on the client reads the lines; their form is
// described in docs/reference/errors.md.
func (s *Server) diagnose(l config.Listen, an *announcer) func(context.Context, *ftp.Conn) []string {
	return func(ctx context.Context, c *ftp.Conn) []string {
		cfg := s.Config()
		from := c.RemoteAddr().Addr()
		told := "address-you-reached"
		d := an.decide(callerOf(c))
		if d.Addr.IsValid() && d.Addr != c.LocalAddr().Addr() {
			told = d.Addr.String()
		}
		passive := cfg.Ports(&l)
		outside := ""
		if e := cfg.FTP.Passive.ExternalPorts; e != nil {
			outside = " outside=" + e.String()
		}
		out := []string{
			fmt.Sprintf("you from=%s reached=%s listener=%s", c.RemoteAddr(), c.LocalAddr(), l.Name),
			fmt.Sprintf("passive ports=%s announced=%s%s", passive, told, outside),
			fmt.Sprintf("active allowed=%t", cfg.FTP.Active),
		}
		out = append(out, s.wall.lines(ctx, cfg)...)
		okOthers, bad := s.recorder.Others(from)
		out = append(out, fmt.Sprintf("others reached=%d unreached=%d", okOthers, bad))
		for _, a := range s.recorder.Client(from, 40) {
			out = append(out, attemptLine(&a))
		}
		return out
	}
}

// attemptLine is one attempt as words of key=value.
func attemptLine(a *ports.Attempt) string {
	line := fmt.Sprintf("data at=%s mode=%s tls=%t code=%s", a.Time.UTC().Format(time.RFC3339Nano), a.Mode, a.TLS, a.Code)
	add := func(key string, ap netip.AddrPort) {
		if ap.IsValid() && ap.Port() != 0 {
			line += " " + key + "=" + ap.String()
		}
	}
	if a.Passive() {
		add("announced", a.Local)
		add("peer", a.Remote)
	} else {
		add("target", a.Remote)
		add("source", a.Local)
	}
	if a.Stranger.IsValid() {
		line += " stranger=" + a.Stranger.String()
	}
	return line + fmt.Sprintf(" waited=%s reaction=%s", a.Waited.Round(time.Millisecond), a.Reaction.Round(time.Millisecond))
}

// wallAge is how long the outcome of reading the firewall's rules is used.
// Clients can ask for it, so it must not start programs at their pace.
const wallAge = 15 * time.Second

// ownWall compares the rules of this machine with the port plan.
type ownWall struct {
	mu   sync.Mutex
	read time.Time
	said []string
	load func(context.Context) []firewall.RuleSet
}

// lines says for control, passive and active whether this machine's own rules
// let the connections through: open, closed, limited, unclear or unknown. It
// does not quote rules to clients.
func (w *ownWall) lines(ctx context.Context, cfg *config.Config) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.read) < wallAge {
		return w.said
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	state := map[ports.Purpose]firewall.Status{ports.PassiveData: firewall.Open, ports.ActiveData: firewall.Open}
	code := map[ports.Purpose]string{}
	known := false
	plan := ports.Compile(cfg, ports.Host().Facts())
	for _, set := range w.load(ctx) {
		if set.Err != nil {
			known = false
			break
		}
		r, err := firewall.Verify(set.Format, set.Text, plan)
		if err != nil {
			known = false
			break
		}
		known = true
		for _, d := range r.Drift {
			if _, wanted := state[d.Purpose]; wanted && (state[d.Purpose] == firewall.Open || d.Status == firewall.Closed) {
				state[d.Purpose], code[d.Purpose] = d.Status, d.Code
			}
		}
	}
	w.said = w.said[:0:0]
	for _, p := range []ports.Purpose{ports.PassiveData, ports.ActiveData} {
		if !known {
			w.said = append(w.said, fmt.Sprintf("firewall of=%s state=unknown", p))
			continue
		}
		line := fmt.Sprintf("firewall of=%s state=%s", p, state[p])
		if c := code[p]; c != "" {
			line += " code=" + c
		}
		w.said = append(w.said, line)
	}
	w.read = time.Now()
	return w.said
}
