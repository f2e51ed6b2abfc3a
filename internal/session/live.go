package session

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Status is one connection in the live view.
type Status struct {
	ID       string
	User     string // empty before log-in
	Protocol string
	Listener string
	Remote   netip.AddrPort
	TLS      string // empty in the clear
	Since    time.Time
	Command  string // what the front said last; empty when idle
	Op       string // "upload" or "download" while a file moves
	Path     string // client-visible: of the file that moves, else of the command
	Bytes    int64  // moved in the present transfer
	Size     int64  // of the present transfer in octets, 0 when unknown
	Rate     int64  // octets per second, smoothed over some seconds
	Open     int    // files open now
	Sent     int64  // octets since log-in
	Received int64
}

// Percent is how much of the present transfer is done, -1 when unknown.
func (s Status) Percent() int {
	if s.Size <= 0 {
		return -1
	}
	return int(min(100, float64(s.Bytes)*100/float64(s.Size)))
}

// Sessions returns all connections, oldest first, logged in or not.
func (m *Manager) Sessions() []Status {
	now := m.conf.Now()
	all := m.all()
	r := make([]Status, 0, len(all))
	for _, g := range all {
		r = append(r, g.status(now))
	}
	slices.SortFunc(r, func(a, b Status) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return r
}

// Counts returns how many connections there are and how many files move.
func (m *Manager) Counts() (connections, transfers int) {
	all := m.all()
	for _, g := range all {
		if s := g.session(); s != nil {
			s.mu.Lock()
			transfers += s.open
			s.mu.Unlock()
		}
	}
	return len(all), transfers
}

func (g *Guest) status(now time.Time) Status {
	g.mu.Lock()
	st := Status{ID: g.id, Protocol: g.origin.Protocol, Listener: g.origin.Listener, Remote: g.origin.Remote, TLS: g.tls, Since: g.since}
	if st.TLS == "" && g.origin.TLS {
		st.TLS = "TLS"
	}
	s := g.s
	g.mu.Unlock()
	if s == nil {
		return st
	}
	st.User = s.user
	st.Sent, st.Received = s.sent.Load(), s.received.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Command, st.Path, st.Open = s.command, s.path, s.open
	if f := s.files; f != nil { // the one opened last
		st.Op, st.Path = f.op(), f.name
		st.Bytes, st.Size = f.moved.Load(), f.size
		st.Rate = f.rate.sample(now, f.start, st.Bytes)
	}
	return st
}

// rate smooths octets per second with a time constant of three seconds. It
// costs the transfer nothing: it is worked out when somebody looks.
type rate struct {
	at    time.Time
	n     int64
	value float64
}

func (r *rate) sample(now, start time.Time, n int64) int64 {
	if r.at.IsZero() {
		if dt := now.Sub(start).Seconds(); dt > 0 {
			r.value = float64(n) / dt
			r.at, r.n = now, n
		}
		return int64(r.value)
	}
	dt := now.Sub(r.at).Seconds()
	if dt < 0.2 { // two viewers at once
		return int64(r.value)
	}
	weight := 1 - math.Exp(-dt/3)
	r.value += weight * (float64(n-r.n)/dt - r.value)
	r.at, r.n = now, n
	return int64(r.value)
}
