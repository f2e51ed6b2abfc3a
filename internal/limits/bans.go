package limits

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Ban keeps a network out until a time, for ever when that is zero.
type Ban struct {
	Network netip.Prefix
	Until   time.Time
	Reason  string
}

func (b Ban) active(now time.Time) bool { return b.Until.IsZero() || b.Until.After(now) }

// longer reports whether b holds longer than o.
func (b Ban) longer(o Ban) bool {
	return !o.Until.IsZero() && (b.Until.IsZero() || b.Until.After(o.Until))
}

// bans holds the scores of addresses and the networks that are kept out.
type bans struct {
	mu     sync.RWMutex
	scores table[netip.Prefix, score]
	list   table[netip.Prefix, Ban]
	bits   map[int]int // prefix length -> bans of that length (IPv6 lengths are offset by 1000)
}

// score is a leaking bucket of points and the log-ins of the same window.
type score struct {
	points    float64
	at        time.Time
	good, bad float64
}

func (b *bans) init(size int) {
	b.scores = newTable[netip.Prefix, score](size)
	b.list = newTable[netip.Prefix, Ban](size)
	b.bits = map[int]int{}
}

// fade lets the points leak: threshold points go in one window.
func (s *score) fade(now time.Time, threshold int, window time.Duration) {
	gone := float64(now.Sub(s.at)) / float64(window)
	s.points = max(0, s.points-gone*float64(threshold))
	if gone >= 1 {
		s.good, s.bad = 0, 0
	}
	s.at = now
}

func (b *bans) good(k netip.Prefix, now time.Time, window time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.scores.peek(k)
	if s == nil {
		return // nothing to weigh against
	}
	if now.Sub(s.at) >= window {
		b.scores.del(k)
		return
	}
	s.good++
}

// Report adds the points of an offence to addr and bans it when they reach the
// threshold. An address from which most log-ins succeed (many people behind
// one router) is not banned, nor is loopback unless configured, nor the allow
// list. err is about keeping the ban; it is in force all the same.
func (l *Limits) Report(ctx context.Context, addr netip.Addr, o Offence, why string) (banned bool, err error) {
	if l.conf.BanScore < 0 || !addr.IsValid() || l.allowed(addr) || (addr.Unmap().IsLoopback() && !l.conf.BanLoopback) {
		return false, nil
	}
	now, k := l.now(), Key(addr)
	b := &l.bans
	b.mu.Lock()
	s := b.scores.get(k)
	s.fade(now, l.conf.BanScore, l.conf.BanWindow)
	s.points += float64(o)
	s.bad++
	hit := s.points >= float64(l.conf.BanScore) && s.good <= s.bad
	if hit {
		b.scores.del(k)
	}
	b.mu.Unlock()
	if !hit {
		return false, nil
	}
	return true, l.Ban(ctx, Ban{Network: k, Until: now.Add(l.conf.BanFor), Reason: why})
}

func bitsKey(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 1000 + p.Bits()
	}
	return p.Bits()
}

// Ban keeps a network out. A later Until of the same network wins.
func (l *Limits) Ban(ctx context.Context, b Ban) error {
	b.Network = b.Network.Masked()
	l.bans.put(b)
	if l.conf.Bans == nil {
		return nil
	}
	return l.conf.Bans.SaveBan(ctx, b.Network, b.Until, b.Reason)
}

func (b *bans) put(n Ban) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.list.peek(n.Network); old != nil {
		if n.longer(*old) {
			*old = n
		}
		return
	}
	if len(b.list.m) >= b.list.max {
		b.remove(b.list.back.key)
	}
	*b.list.get(n.Network) = n
	b.bits[bitsKey(n.Network)]++
}

func (b *bans) remove(p netip.Prefix) bool {
	if b.list.peek(p) == nil {
		return false
	}
	b.list.del(p)
	k := bitsKey(p)
	if b.bits[k]--; b.bits[k] == 0 {
		delete(b.bits, k)
	}
	return true
}

// Unban lets a network in again and reports whether it was banned.
func (l *Limits) Unban(ctx context.Context, p netip.Prefix) (bool, error) {
	p = p.Masked()
	l.bans.mu.Lock()
	was := l.bans.remove(p)
	l.bans.scores.del(p)
	l.bans.mu.Unlock()
	if l.conf.Bans == nil {
		return was, nil
	}
	return was, l.conf.Bans.DeleteBan(ctx, p)
}

// Restore puts bans in force that were kept over a restart.
func (l *Limits) Restore(list []Ban) {
	now := l.now()
	for _, b := range list {
		if b.active(now) && b.Network.IsValid() {
			b.Network = b.Network.Masked()
			l.bans.put(b)
		}
	}
}

// Banned reports the ban that keeps addr out, if any. The allow list wins.
func (l *Limits) Banned(addr netip.Addr) (Ban, bool) {
	b := &l.bans
	b.mu.RLock()
	if len(b.bits) == 0 { // the normal case
		b.mu.RUnlock()
		return Ban{}, false
	}
	a, now := addr.Unmap().WithZone(""), l.now()
	var found Ban
	hit := false
	for k := range b.bits {
		if (k >= 1000) != a.Is6() {
			continue
		}
		p, err := a.Prefix(k % 1000)
		if err != nil {
			continue
		}
		if x := b.list.peek(p); x != nil && x.active(now) && (!hit || x.longer(found)) {
			found, hit = *x, true
		}
	}
	b.mu.RUnlock()
	if !hit || l.allowed(a) {
		return Ban{}, false
	}
	return found, true
}

// Bans returns the bans in force, sorted by network, and forgets expired ones.
func (l *Limits) Bans() []Ban {
	b := &l.bans
	now := l.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var r []Ban
	for p, e := range b.list.m {
		if e.val.active(now) {
			r = append(r, e.val)
		} else {
			b.remove(p)
		}
	}
	slices.SortFunc(r, func(x, y Ban) int { return strings.Compare(x.Network.String(), y.Network.String()) })
	return r
}
