package ports

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// Attempt is one data connection as the recorder keeps it, or an agreement
// that never became one.
type Attempt struct {
	Time     time.Time      `json:"time"` // of PASV, EPSV, PORT or EPRT
	Session  string         `json:"session"`
	User     string         `json:"user,omitempty"`
	Listener string         `json:"listener"`
	Mode     string         `json:"mode"`
	TLS      bool           `json:"tls"`
	Resumed  bool           `json:"resumed,omitempty"`
	Control  netip.AddrPort `json:"control"`           // the client's end of the control connection
	Reached  netip.AddrPort `json:"reached"`           // our end of it
	Local    netip.AddrPort `json:"local,omitzero"`    // passive: what was announced; active: our end
	Remote   netip.AddrPort `json:"remote,omitzero"`   // the data peer, or the target of PORT
	Stranger netip.AddrPort `json:"stranger,omitzero"` // a connection that was turned away
	Waited   time.Duration  `json:"waited_ns,omitempty"`
	Reaction time.Duration  `json:"reaction_ns,omitempty"` // how soon the client went on after the announcement
	Code     string         `json:"code"`                  // "ok" or PR-Dxx
	Text     string         `json:"text,omitempty"`        // what the client was told
}

// Passive reports whether the client was to connect.
func (a *Attempt) Passive() bool { return a.Mode == "PASV" || a.Mode == "EPSV" }

// Unreached reports that nobody reached a passive port that was announced.
func (a *Attempt) Unreached() bool { return a.Code == "PR-D01" || a.Code == "PR-D10" }

// NewAttempt makes a record of what the engine reports.
func NewAttempt(listener, session, user string, reached netip.AddrPort, d ftp.DataAttempt) Attempt {
	a := Attempt{
		Time: d.Time, Session: session, User: user, Listener: listener, Mode: d.Mode, TLS: d.TLS, Resumed: d.Resumed,
		Control: d.Control, Reached: reached, Local: d.Local, Remote: d.Remote, Stranger: d.Stranger,
		Waited: d.Waited, Reaction: d.Reaction, Code: d.Code,
	}
	if d.Err != nil {
		a.Text = d.Err.Error()
	}
	return a
}

// Sizes of a Recorder: about 1.5 MB when full.
const (
	keptAttempts = 4096
	keptCells    = 4096
)

// cellKey is one row of the matrix without the port.
type cellKey struct {
	network netip.Prefix
	mode    string
	tls     bool
}

type cell struct {
	outcomes map[string]uint64 // by code; there are a dozen of them
	last     time.Time
}

type portCount struct {
	ok, unreached uint32
	networks      [3]netip.Prefix // that did not reach it, at most three different ones
}

// Recorder keeps the last data connections and counts them by mode, TLS,
// client network and port. It is bounded in memory and may be used concurrently.
type Recorder struct {
	mu    sync.Mutex
	ring  []Attempt
	next  int
	cells map[cellKey]*cell
	ports map[uint16]*portCount // passive ports
	total uint64
}

// NewRecorder returns an empty recorder.
func NewRecorder() *Recorder {
	return &Recorder{cells: map[cellKey]*cell{}, ports: map[uint16]*portCount{}}
}

// NetworkOf is what the matrix counts a client under: its /24, or /64 of IPv6.
func NetworkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for the zero address only
	return p
}

// Add records one attempt.
func (r *Recorder) Add(a Attempt) {
	n := NetworkOf(a.Control.Addr())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if len(r.ring) < keptAttempts {
		r.ring = append(r.ring, a)
	} else {
		r.ring[r.next] = a
		r.next = (r.next + 1) % keptAttempts
	}
	k := cellKey{n, a.Mode, a.TLS}
	c := r.cells[k]
	if c == nil {
		if len(r.cells) >= keptCells {
			r.forget()
		}
		c = &cell{outcomes: map[string]uint64{}}
		r.cells[k] = c
	}
	c.outcomes[a.Code]++
	c.last = a.Time
	if a.Passive() && (a.Code == "ok" || a.Unreached()) {
		r.count(a.Local.Port(), n, a.Code == "ok")
	}
}

// count is called with mu held. Ports are at most 65,535.
func (r *Recorder) count(port uint16, n netip.Prefix, reached bool) {
	p := r.ports[port]
	if p == nil {
		p = &portCount{}
		r.ports[port] = p
	}
	if reached {
		p.ok++
		return
	}
	p.unreached++
	for i := range p.networks {
		if p.networks[i] == n {
			return
		}
		if !p.networks[i].IsValid() {
			p.networks[i] = n
			return
		}
	}
}

// forget drops the quarter of the cells that was silent longest. mu is held.
func (r *Recorder) forget() {
	keys := make([]cellKey, 0, len(r.cells))
	for k := range r.cells {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b cellKey) int { return r.cells[a].last.Compare(r.cells[b].last) })
	for _, k := range keys[:len(keys)/4+1] {
		delete(r.cells, k)
	}
}

// select returns the kept attempts that match, oldest first, at most n of the
// newest; n 0 is all.
func (r *Recorder) selectLast(n int, match func(*Attempt) bool) []Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Attempt
	for i := range r.ring {
		a := &r.ring[(r.next+len(r.ring)-1-i)%len(r.ring)]
		if match(a) {
			out = append(out, *a)
			if n > 0 && len(out) == n {
				break
			}
		}
	}
	slices.Reverse(out)
	return out
}

// Session returns what is kept of a session, oldest first.
func (r *Recorder) Session(id string) []Attempt {
	return r.selectLast(0, func(a *Attempt) bool { return a.Session == id })
}

// Recent returns the n newest attempts, oldest first.
func (r *Recorder) Recent(n int) []Attempt {
	return r.selectLast(n, func(*Attempt) bool { return true })
}

// Client returns the n newest attempts of one client address, oldest first.
func (r *Recorder) Client(addr netip.Addr, n int) []Attempt {
	addr = addr.Unmap()
	return r.selectLast(n, func(a *Attempt) bool { return a.Control.Addr().Unmap() == addr })
}

// Cell is a row of the matrix.
type Cell struct {
	Network  netip.Prefix      `json:"network"`
	Mode     string            `json:"mode"`
	TLS      bool              `json:"tls"`
	OK       uint64            `json:"ok"`
	Failed   uint64            `json:"failed"`
	Outcomes map[string]uint64 `json:"outcomes"` // by code
	Last     time.Time         `json:"last"`
}

// PortRow counts one passive port.
type PortRow struct {
	Port      uint16 `json:"port"`
	OK        uint32 `json:"ok"`
	Unreached uint32 `json:"unreached"`
	Networks  int    `json:"networks"` // that did not reach it; 3 stands for three or more
}

// Matrix is what a Recorder has counted since the start.
type Matrix struct {
	Total    uint64    `json:"total"`
	Cells    []Cell    `json:"cells"`
	Ports    []PortRow `json:"ports"` // those that nobody reached at least once
	Findings []Check   `json:"findings"`
}

// Matrix returns the counts, with what they mean.
func (r *Recorder) Matrix() Matrix {
	r.mu.Lock()
	m := Matrix{Total: r.total, Cells: []Cell{}, Ports: []PortRow{}}
	for k, c := range r.cells {
		row := Cell{Network: k.network, Mode: k.mode, TLS: k.tls, Outcomes: map[string]uint64{}, Last: c.last}
		for code, n := range c.outcomes {
			row.Outcomes[code] = n
			if code == "ok" {
				row.OK += n
			} else {
				row.Failed += n
			}
		}
		m.Cells = append(m.Cells, row)
	}
	for port, c := range r.ports {
		if c.unreached > 0 {
			row := PortRow{Port: port, OK: c.ok, Unreached: c.unreached}
			for _, n := range c.networks {
				if n.IsValid() {
					row.Networks++
				}
			}
			m.Ports = append(m.Ports, row)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(m.Cells, func(a, b Cell) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Mode, b.Mode), boolOrder(a.TLS, b.TLS))
	})
	slices.SortFunc(m.Ports, func(a, b PortRow) int { return cmp.Compare(a.Port, b.Port) })
	m.Findings = judge(&m, r.strangers())
	return m
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (r *Recorder) strangers() []Attempt {
	return r.selectLast(100, func(a *Attempt) bool { return a.Code == "PR-D02" || a.Code == "PR-D11" })
}

// Others tells how passive data connections of other networks than addr's
// fare, without naming them: it separates a fault of one client from one of
// the server's side.
func (r *Recorder) Others(addr netip.Addr) (ok, unreached uint64) {
	own := NetworkOf(addr)
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, c := range r.cells {
		if k.network == own || k.network.Addr().IsLoopback() || k.mode != "PASV" && k.mode != "EPSV" {
			continue
		}
		ok += c.outcomes["ok"]
		unreached += c.outcomes["PR-D01"] + c.outcomes["PR-D10"]
	}
	return ok, unreached
}
