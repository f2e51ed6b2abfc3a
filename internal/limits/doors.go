package limits

import (
	"net/netip"
	"slices"
	"time"
)

// earlyDrop is the share of MaxHalfTotal from which on connections are refused
// at random, and firstDrop the chance at that point; it grows to certainty at
// the ceiling. A flood then loses most of its attempts while a person who tries
// again gets in, and whoever has logged in before is not touched.
const (
	earlyDrop = 0.7
	firstDrop = 0.3
)

// shed decides whether one more connection is refused when half have not logged in.
func (l *Limits) shed(half, ceiling int, friend bool) bool {
	switch {
	case ceiling < 0:
		return false
	case half >= ceiling:
		return true
	case friend:
		return false
	}
	from := earlyDrop * float64(ceiling)
	if float64(half) < from {
		return false
	}
	chance := firstDrop + (1-firstDrop)*(float64(half)-from)/(float64(ceiling)-from)
	return l.dice() < chance
}

// isFriend reports whether somebody has logged in from the address lately.
func (l *Limits) isFriend(k netip.Prefix) bool {
	t := &l.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.good.peek(k)
	return at != nil && l.now().Sub(*at) < goodFor
}

// doors are the networks that may connect at all.
type doors struct {
	only []netip.Prefix // empty: all
	deny []netip.Prefix
}

// SetDoors replaces the networks that may connect (none: all may) and those
// that may not, which win.
func (l *Limits) SetDoors(only, deny []netip.Prefix) {
	l.doors.Store(&doors{only: slices.Clone(only), deny: slices.Clone(deny)})
}

// Shut reports whether connections from addr are dropped without a word, and
// why: "denied", "not allowed", "banned", or Abroad and the country. It is meant for the moment of
// accept and costs no more than a few comparisons when there is no ban.
func (l *Limits) Shut(addr netip.Addr) (why string, shut bool) {
	a := addr.Unmap().WithZone("")
	d := l.doors.Load()
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	switch {
	case in(d.deny):
		return "denied", true
	case len(d.only) > 0 && !in(d.only):
		return "not allowed", true
	}
	if _, banned := l.Banned(addr); banned {
		return "banned", true
	}
	if why, shut := l.abroad(a); shut {
		return why, true
	}
	return "", false
}

// Score returns the points of an address now, and how many lead to a ban
// (negative: none do).
func (l *Limits) Score(addr netip.Addr) (points float64, threshold int) {
	b := &l.bans
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s := b.scores.peek(Key(addr)); s != nil {
		gone := float64(l.now().Sub(s.at)) / float64(l.conf.BanWindow)
		points = max(0, s.points-gone*float64(l.conf.BanScore))
	}
	return points, l.conf.BanScore
}

// For says how long a ban made now lasts.
func (l *Limits) For() time.Duration { return l.conf.BanFor }
