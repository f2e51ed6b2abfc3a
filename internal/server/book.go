package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/ports"
)

const (
	lookupTime  = 3 * time.Second  // one look-up of an announced host name
	lookupAgain = 15 * time.Second // after a failed one
)

// lookupFunc is net.Resolver.LookupNetIP.
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// addressBook knows the facts that decide what PASV announces: the present
// addresses of host names, the networks and routers of this machine, the
// public addresses that were found, and what a router maps. Look-ups happen in
// the background: a session only reads what is known.
type addressBook struct {
	log     *slog.Logger
	lookup  lookupFunc
	local   func() ([]nat.Network, error)
	routers func() ([]netip.Addr, error)
	changed func(detail string) // an announced address is another one; nil: nobody to tell
	tracker nat.Tracker

	mu        sync.RWMutex
	every     time.Duration
	hosts     map[string]*bookHost
	nets      []nat.Network
	gateways  []netip.Addr
	container string
	mapped    map[uint16]nat.Mapping // by internal port
	wake      chan struct{}
}

type bookHost struct {
	addr   netip.Addr // last good answer; zero when there was none
	next   time.Time
	failed bool
	guess  bool // not announced by the configuration: no need to complain when it is not known
	idle   bool // not in the configuration any more: known, but not looked up again
}

func newAddressBook(log *slog.Logger) *addressBook {
	return &addressBook{log: log, lookup: net.DefaultResolver.LookupNetIP, local: nat.LocalNetworks, routers: nat.Gateways,
		container: ports.Host().Facts().Container, hosts: map[string]*bookHost{}, mapped: map[uint16]nat.Mapping{}, wake: make(chan struct{}, 1)}
}

// set replaces the host names to keep up to date and looks the new ones up at
// once, so that the first sessions get the right answer; each look-up is
// bounded, and a failure is tried again in the background. guesses are names
// that clients may use for the server and that need not resolve.
func (b *addressBook) set(ctx context.Context, hosts []string, every time.Duration, guesses ...string) {
	b.mu.Lock()
	b.every = every
	old := b.hosts
	b.hosts = map[string]*bookHost{}
	for name, h := range old {
		h.idle = true // sessions from before a reload may still announce it
		b.hosts[name] = h
	}
	for i, name := range slices.Concat(hosts, guesses) {
		if b.hosts[name] == nil {
			b.hosts[name] = &bookHost{}
		}
		b.hosts[name].idle, b.hosts[name].guess = false, i >= len(hosts) && !slices.Contains(hosts, name)
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
	gws, _ := b.routers() // not known everywhere; then no client is taken for a router
	b.mu.Lock()
	if err == nil {
		b.nets = nets
	}
	b.gateways = gws
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
		if !h.failed && !h.guess {
			b.log.Warn("the host name announced to passive clients does not resolve to an IPv4 address; the last known one, or else the one the client reached, is announced",
				"host", name, "last", h.addr, "err", err)
		}
		h.failed = true
		return
	}
	a := slices.MinFunc(addrs, netip.Addr.Compare).Unmap() // round robin must not look like a change
	if h.addr.IsValid() && !slices.Contains(addrs, h.addr) {
		b.log.Info("the address announced to passive clients has changed", "host", name, "old", h.addr, "new", a)
		if b.changed != nil {
			b.changed(fmt.Sprintf("%s is now %s, was %s", name, a, h.addr))
		}
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

// facts fills in what is known of this machine and its way to the Internet.
func (b *addressBook) facts(in *nat.Inputs) {
	in.Found = b.tracker.Found(time.Now(), 0)
	b.mu.RLock()
	defer b.mu.RUnlock()
	in.Networks, in.Gateways, in.Container = b.nets, b.gateways, b.container // replaced as a whole, never changed
	for _, m := range b.mapped {
		in.Mapped = append(in.Mapped, m)
	}
}

// public is the best public address that was found.
func (b *addressBook) public() (nat.Candidate, bool) {
	for _, c := range b.tracker.Found(time.Now(), 0) {
		if nat.ClassOf(c.Addr) == nat.Public {
			return c, true
		}
	}
	return nat.Candidate{}, false
}

// foundAddress notes what a source says now; the zero address forgets it.
func (b *addressBook) foundAddress(c nat.Candidate) {
	ch, changed := b.tracker.Update(c)
	if !changed {
		return
	}
	b.log.Warn(ch.Text(), "old", ch.Old, "new", ch.New, "source", string(ch.Source))
	if b.changed != nil {
		b.changed(ch.Text())
	}
}

// setMapping notes that a router forwards a port, or no longer does.
func (b *addressBook) setMapping(m nat.Mapping, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if gone {
		delete(b.mapped, m.Internal)
		return
	}
	b.mapped[m.Internal] = m
}

// mapsPorts reports whether a router maps any port to another number.
func (b *addressBook) mapsPorts() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, m := range b.mapped {
		if m.External != m.Internal {
			return true
		}
	}
	return false
}
