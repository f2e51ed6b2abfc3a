package doctor

import (
	"slices"
	"strconv"
	"strings"
)

// judgeIntermittent finds ranges of which a part works.
func (c *Client) judgeIntermittent(s *passive) (Finding, bool) {
	if len(c.rounds.quick) == 0 || c.rounds.quick[0].Family != s.fam {
		return Finding{}, false
	}
	mixed := c.mixed(s)
	good, bad := map[uint16]bool{}, map[uint16]bool{}
	count := func(ps []Probe) (fine, lost int) {
		for i := range ps {
			p := &ps[i]
			switch {
			case p.dataLost():
				lost++
				bad[p.Announced.Port()] = true
			case p.Outcome == OK:
				fine++
				good[p.Announced.Port()] = true
			}
		}
		return fine, lost
	}
	fine, lost := count(c.rounds.quick)
	slowFine, slowLost := count(c.rounds.slow)
	flaky := fine > 0 && lost > 0 || c.flaky || mixed
	if !flaky {
		return Finding{}, false
	}
	if slowLost == 0 && slowFine >= 3 && lost > 0 && !c.flaky && !mixed {
		f := finding("SYN_LIMIT", Error, c.fillRange(), "of %d data connections one after the other %d failed; with pauses of 2 s all %d worked", fine+lost, lost, slowFine)
		f.Evidence = append(f.Evidence, "ports that failed: "+portList(bad))
		if disjoint(good, bad) && slowFine < 4 {
			f.Could = []string{"SYN_LIMIT", "RANGE_PARTIAL"}
		}
		return f, true
	}
	for _, p := range s.lost {
		if p.Announced.Addr() == p.Peer.Addr() {
			bad[p.Announced.Port()] = true
		}
	}
	for _, p := range s.fine {
		good[p.Announced.Port()] = true
	}
	f := finding("RANGE_PARTIAL", Error, c.fillRange(), "some passive ports can be reached and others cannot")
	if state := c.sees("passive-data"); state == "closed" || state == "limited" {
		f = finding("SERVER_FW_RANGE", Error, c.fillRange(), "some passive ports can be reached and others cannot, and the server says that its own firewall is %s for them", state)
		f.Evidence = []string{"reached: " + portList(good), "not reached: " + portList(bad)}
		return f, true
	}
	f.Evidence = []string{"reached: " + portList(good), "not reached: " + portList(bad)}
	switch {
	case disjoint(good, bad) && !apart(good, bad):
		f.Could = []string{"RANGE_PARTIAL", "SYN_LIMIT"} // too few tries to call it a pattern
	case !disjoint(good, bad):
		f.Cause = "the same passive ports can be reached at one time and not at another"
		f.Could = []string{"SYN_LIMIT", "CONN_LIMIT", "RANGE_PARTIAL"}
	}
	return f, true
}

// mixed reports that the same way with the same mode reached one port and not
// another, whatever the repetitions say: they are few, and ports are drawn by
// chance. Clear and protected ways are not mixed, since a helper that reads the
// dialogue makes a difference between them, and between modes in the clear.
func (c *Client) mixed(s *passive) bool {
	seen := map[string]tri{}
	for _, list := range [][]*Probe{s.fine, s.lost, pointers(c.rounds.quick), pointers(c.rounds.slow)} {
		for _, p := range list {
			key, state := string(p.Security), works
			switch {
			case p.dataLost() && p.Announced.Addr() == p.Peer.Addr():
				state = fails
			case p.Outcome != OK:
				continue
			}
			if p.Security == Plain {
				key += p.Mode
			}
			if old := seen[key]; old != untried && old != state {
				return true
			}
			seen[key] = state
		}
	}
	return false
}

func pointers(ps []Probe) []*Probe {
	out := make([]*Probe, len(ps))
	for i := range ps {
		out[i] = &ps[i]
	}
	return out
}

// apart reports that the ports that work and those that do not lie in two
// blocks, as when a rule has another range than the server.
func apart(good, bad map[uint16]bool) bool {
	least := func(m map[uint16]bool) (lo, hi uint16) {
		lo = 65535
		for p := range m {
			lo, hi = min(lo, p), max(hi, p)
		}
		return lo, hi
	}
	gl, gh := least(good)
	bl, bh := least(bad)
	return len(good) >= 3 && len(bad) >= 3 && (gh < bl || bh < gl)
}

func disjoint(a, b map[uint16]bool) bool {
	for p := range a {
		if b[p] {
			return false
		}
	}
	return true
}

func portList(ps map[uint16]bool) string {
	var all []int
	for p := range ps {
		all = append(all, int(p))
	}
	slices.Sort(all)
	var s []string
	for _, p := range all {
		s = append(s, strconv.Itoa(p))
	}
	return strings.Join(s, ", ")
}
