package server

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

const (
	lookupTime  = 3 * time.Second  // one look-up of an announced host name
	lookupAgain = 15 * time.Second // after a failed one
)

// lookupFunc is net.Resolver.LookupNetIP.
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// addressBook knows the present addresses of the host names that PASV
// announces, and the networks this machine is connected to. Look-ups happen in
// the background: a session only reads what is known.
type addressBook struct {
	log    *slog.Logger
	lookup lookupFunc
	local  func() ([]netip.Prefix, error)

	mu    sync.RWMutex
	every time.Duration
	hosts map[string]*bookHost
	nets  []netip.Prefix
	wake  chan struct{}
}

type bookHost struct {
	addr   netip.Addr // last good answer; zero when there was none
	next   time.Time
	failed bool
	idle   bool // not in the configuration any more: known, but not looked up again
}

func newAddressBook(log *slog.Logger) *addressBook {
	return &addressBook{log: log, lookup: net.DefaultResolver.LookupNetIP, local: interfaceNets, hosts: map[string]*bookHost{}, wake: make(chan struct{}, 1)}
}

// interfaceNets returns the networks of this machine's interfaces.
func interfaceNets() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if p, err := netip.ParsePrefix(n.String()); err == nil {
				out = append(out, p.Masked())
			}
		}
	}
	return out, nil
}

// set replaces the host names to keep up to date and looks the new ones up at
// once, so that the first sessions get the right answer; each look-up is
// bounded, and a failure is tried again in the background.
func (b *addressBook) set(ctx context.Context, hosts []string, every time.Duration) {
	b.mu.Lock()
	b.every = every
	old := b.hosts
	b.hosts = map[string]*bookHost{}
	for name, h := range old {
		h.idle = true // sessions from before a reload may still announce it
		b.hosts[name] = h
	}
	for _, name := range hosts {
		if b.hosts[name] == nil {
			b.hosts[name] = &bookHost{}
		}
		b.hosts[name].idle = false
	}
	b.mu.Unlock()
	b.refresh(ctx)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run keeps the book until ctx ends.
func (b *addressBook) run(ctx context.Context) {
	for {
		t := time.NewTimer(b.pause())
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-b.wake:
			t.Stop()
		case <-t.C:
			b.refresh(ctx)
		}
	}
}

// pause is the time until something is due; the networks are looked at each minute.
func (b *addressBook) pause() time.Duration {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d := time.Minute
	for _, h := range b.hosts {
		if !h.idle {
			d = min(d, time.Until(h.next))
		}
	}
	return max(d, 100*time.Millisecond)
}

func (b *addressBook) refresh(ctx context.Context) {
	nets, err := b.local()
	b.mu.Lock()
	if err == nil {
		b.nets = nets
	}
	var due []string
	for name, h := range b.hosts {
		if !h.idle && !time.Now().Before(h.next) {
			due = append(due, name)
		}
	}
	b.mu.Unlock()
	var wg sync.WaitGroup
	for _, name := range due {
		wg.Go(func() { b.resolve(ctx, name) })
	}
	wg.Wait()
}

// resolve looks one name up. PASV has room for IPv4 only (RFC 959 section
// 4.1.2); EPSV names no address.
func (b *addressBook) resolve(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := b.lookup(ctx, "ip4", name)
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[name]
	if h == nil {
		return
	}
	if err != nil || len(addrs) == 0 {
		h.next = time.Now().Add(min(lookupAgain, b.every))
		if !h.failed {
			b.log.Warn("the host name announced to passive clients does not resolve to an IPv4 address; the last known one, or else the one the client reached, is announced",
				"host", name, "last", h.addr, "err", err)
		}
		h.failed = true
		return
	}
	a := slices.MinFunc(addrs, netip.Addr.Compare).Unmap() // round robin must not look like a change
	if h.addr.IsValid() && !slices.Contains(addrs, h.addr) {
		b.log.Info("the address announced to passive clients has changed", "host", name, "old", h.addr, "new", a)
	} else if h.addr.IsValid() {
		a = h.addr
	}
	h.addr, h.failed, h.next = a, false, time.Now().Add(b.every)
}

func (b *addressBook) addrOf(host string) netip.Addr {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if h := b.hosts[host]; h != nil {
		return h.addr
	}
	return netip.Addr{}
}

// near reports whether a is on a private network or one this machine is connected to.
func (b *addressBook) near(a netip.Addr) bool {
	if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return true
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return containsAddr(b.nets, a)
}

// target is a configured address: a literal or a host name.
type target struct {
	addr netip.Addr
	host string
}

func parseTarget(s string) target {
	if a, err := netip.ParseAddr(s); err == nil {
		return target{addr: a.Unmap()}
	}
	return target{host: s}
}

// announcer chooses the address that PASV names to a client.
type announcer struct {
	book  *addressBook
	rules []announceRule
	main  target // empty: the address the client reached
}

type announceRule struct {
	networks []netip.Prefix
	to       target
}

// newAnnouncer returns the announcer of l and the host names it needs.
func newAnnouncer(book *addressBook, p *config.Passive, l *config.Listen) (*announcer, []string) {
	a := &announcer{book: book}
	var hosts []string
	take := func(s string) target {
		t := parseTarget(s)
		if t.host != "" {
			hosts = append(hosts, t.host)
		}
		return t
	}
	for _, r := range p.Rules {
		a.rules = append(a.rules, announceRule{networks: prefixes(r.Networks), to: take(r.Address)})
	}
	switch {
	case l.PassiveAddress != "":
		a.main = take(l.PassiveAddress)
	case p.Address != "":
		a.main = take(p.Address)
	}
	return a, hosts
}

// choose returns the address for a client at peer; the zero Addr means the one
// it reached. A client on the inside is not sent to the public address, which
// many routers do not let it reach; a rule can say otherwise.
func (a *announcer) choose(peer netip.Addr) netip.Addr {
	peer = peer.Unmap()
	for _, r := range a.rules {
		if containsAddr(r.networks, peer) {
			return a.resolve(r.to)
		}
	}
	to := a.resolve(a.main)
	if to.IsValid() && !to.IsPrivate() && !to.IsLoopback() && a.book.near(peer) {
		return netip.Addr{}
	}
	return to
}

func (a *announcer) resolve(t target) netip.Addr {
	if t.host != "" {
		return a.book.addrOf(t.host)
	}
	return t.addr
}

// String says what is announced, for the status page.
func (a *announcer) String() string {
	s := "the address the client reached"
	switch {
	case a.main.host != "":
		s = a.main.host
		if now := a.book.addrOf(a.main.host); now.IsValid() {
			s += " (now " + now.String() + ")"
		}
	case a.main.addr.IsValid():
		s = a.main.addr.String()
	}
	if len(a.rules) > 0 {
		s += ", with other addresses for some networks"
	}
	return s
}

func prefixes(in []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(in))
	for i, p := range in {
		out[i] = p.Prefix
	}
	return out
}
