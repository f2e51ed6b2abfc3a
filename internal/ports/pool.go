package ports

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// Defaults and limits of a Pool.
const (
	defaultWait    = 2 * time.Second  // how long Lease waits in a full range
	defaultKeep    = 256              // idle listeners kept open, over all addresses
	defaultKeepFor = 2 * time.Second  // how long an unused listener stays open
	takenFor       = 30 * time.Second // a port another program holds is left alone this long
	deniedFor      = 10 * time.Minute // likewise a port the system refuses (EACCES, EPERM)
	busyLeases     = 8                // this many leases within busyWithin make the pool busy
	busyWithin     = time.Second
	keptBeforeUse  = 16  // kept listeners are used again once there are so many to choose from
	freshOneIn     = 8   // one lease in so many opens a new port although kept ones exist
	acceptBacklog  = 8   // one data connection is expected; strangers must not pile up
	maxAddresses   = 256 // local addresses remembered; idle ones are dropped beyond it
)

// Options configure a Pool. The zero value of a field means its default.
type Options struct {
	First, Last uint16 // the range, both ends included; 1 <= First <= Last
	// Addrs are the local addresses ports may be bound on. Empty means the one
	// the client reached, whichever it is. With entries, a client that reached
	// another address gets the first entry of its family. An address that is
	// not this machine's (a balancer's, from a PROXY header) cannot be bound;
	// such clients get a port on the wildcard address of the family.
	Addrs []netip.Addr
	// Wait limits how long Lease waits in a full range (default 2 s).
	Wait time.Duration
	// Keep is how many idle listeners stay open for reuse while the pool is
	// busy (default 256, negative none); KeepFor is how long (default 2 s).
	Keep    int
	KeepFor time.Duration
}

// Pool leases passive ports from one range. Ports are picked at random among
// those that have rested longest, so a port can neither be guessed nor be met
// again soon; port 0 and ports outside the range are never bound. On a busy
// server the sockets of released ports are kept for a moment and leased again;
// whoever connected in between is turned away. All methods may be called
// concurrently.
type Pool struct {
	opt     Options
	usable  []uint16 // the range without meddled ports
	skipped []uint16
	stats   counters
	closed  atomic.Bool
	early   func(*net.TCPConn, time.Time) bool // early; tests let its clock stand still

	mu      sync.Mutex
	rng     *rand.Rand
	groups  map[netip.Addr]*group
	recent  [busyLeases]time.Time // ring: the last leases
	recentN int
	foreign map[netip.Addr]netip.Addr // local addresses that cannot be bound, and what is bound instead
	kept    int                       // over all groups
	sweep   *time.Timer
}

type counters struct {
	leases, reused, noPort, strangers, taken atomic.Uint64
}

// group is the state of the range on one local address.
type group struct {
	addr    netip.Addr
	free    ring // rested ports; the head has rested longest
	kept    ring // likewise, with an open listener
	taken   []takenPort
	leased  map[uint16]*lease
	waiters []chan entry
}

type entry struct {
	port  uint16
	ln    *net.TCPListener // open in kept entries
	since time.Time        // of the release, for kept entries
	rests bool             // ln refuses connections until resume
	used  bool             // ln was open for an earlier lease
}

type takenPort struct {
	port  uint16
	until time.Time
	err   error
}

// NewPool returns a pool for the range of o. It binds nothing yet.
func NewPool(o Options) (*Pool, error) {
	if o.First == 0 || o.Last < o.First {
		return nil, fmt.Errorf("ports: passive range %d-%d is not a range of ports: the first must be at least 1 and not above the last", o.First, o.Last)
	}
	o.Wait = cmp.Or(o.Wait, defaultWait)
	o.Keep = max(cmp.Or(o.Keep, defaultKeep), 0)
	o.KeepFor = cmp.Or(o.KeepFor, defaultKeepFor)
	o.Addrs = slices.Clone(o.Addrs)
	for i, a := range o.Addrs {
		o.Addrs[i] = a.Unmap()
	}
	var seed [32]byte
	crand.Read(seed[:]) // never fails: it would crash the program instead
	p := &Pool{opt: o, rng: rand.New(rand.NewChaCha8(seed)), groups: map[netip.Addr]*group{}, foreign: map[netip.Addr]netip.Addr{}, early: early}
	for n := int(o.First); n <= int(o.Last); n++ {
		if _, bad := Meddled[uint16(n)]; bad {
			p.skipped = append(p.skipped, uint16(n))
		} else {
			p.usable = append(p.usable, uint16(n))
		}
	}
	if len(p.usable) == 0 { // a range of nothing but meddled ports: better than no port
		p.usable, p.skipped = p.skipped, nil
	}
	return p, nil
}

// Lease reserves a port on the local address that c reached. In a full range it
// waits for at most two seconds (Options.Wait) or until ctx ends; then the
// error wraps ftp.ErrNoPort. After Close it wraps net.ErrClosed.
func (p *Pool) Lease(ctx context.Context, c *ftp.Conn) (ftp.Lease, error) {
	l, err := p.lease(ctx, c.LocalAddr().Addr(), c.RemoteAddr())
	if err != nil {
		return nil, err // not l: a nil *lease would be a Lease
	}
	return l, nil
}

// lease is Lease without the engine's connection.
func (p *Pool) lease(ctx context.Context, local netip.Addr, client netip.AddrPort) (*lease, error) {
	local, err := p.bindAddr(local)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(p.opt.Wait)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, g, wait, err := p.take(local)
		if err != nil {
			return nil, err
		}
		if wait != nil {
			if e, err = p.await(ctx, g, wait, deadline); err != nil {
				return nil, err
			}
			if e.port == 0 {
				continue // a port that others held may be free again
			}
		}
		l, err := p.open(g, e, client)
		if errors.Is(err, syscall.EADDRNOTAVAIL) && !local.IsUnspecified() {
			local = p.wildcard(local)
			continue
		}
		if err != nil {
			return nil, err
		}
		if l != nil {
			return l, nil
		}
	}
}

// wildcard notes that local is no address of this machine, as behind a balancer
// whose PROXY header names its own, and returns the one to bind instead.
func (p *Pool) wildcard(local netip.Addr) netip.Addr {
	any := netip.IPv4Unspecified()
	if local.Is6() {
		any = netip.IPv6Unspecified()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.foreign) >= maxAddresses {
		clear(p.foreign) // learned again at the price of one failed bind
	}
	p.foreign[local] = any
	delete(p.groups, local)
	return any
}

// bindAddr chooses the address to bind for a client that reached local.
func (p *Pool) bindAddr(local netip.Addr) (netip.Addr, error) {
	local = local.Unmap()
	if len(p.opt.Addrs) == 0 {
		if !local.IsValid() {
			return local, errors.New("ports: the control connection has no local IP address, so no passive port can be bound for it")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if any, ok := p.foreign[local]; ok {
			return any, nil
		}
		return local, nil
	}
	if slices.Contains(p.opt.Addrs, local) {
		return local, nil
	}
	for _, a := range p.opt.Addrs {
		if a.Is4() == local.Is4() {
			return a, nil
		}
	}
	return p.opt.Addrs[0], nil
}

// take removes an entry from the group of local, or joins the queue for one.
func (p *Pool) take(local netip.Addr) (entry, *group, chan entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return entry{}, nil, nil, fmt.Errorf("ports: the server is stopping: %w", net.ErrClosed)
	}
	g := p.group(local)
	now := time.Now()
	g.expire(now)
	if e, ok := p.pick(g); ok {
		g.leased[e.port] = nil // reserved, not open yet
		p.recent[p.recentN%busyLeases] = now
		p.recentN++
		return e, g, nil, nil
	}
	w := make(chan entry, 1)
	g.waiters = append(g.waiters, w)
	return entry{}, g, w, nil
}

// pick chooses among kept listeners and free ports.
func (p *Pool) pick(g *group) (entry, bool) {
	if g.kept.len() > 0 && (g.free.len() == 0 || g.kept.len() >= keptBeforeUse && p.rng.IntN(freshOneIn) != 0) {
		p.kept--
		return g.kept.takeRested(p.rng), true
	}
	if g.free.len() > 0 {
		return g.free.takeRested(p.rng), true
	}
	return entry{}, false
}

// group returns the state for a local address. The caller holds p.mu.
func (p *Pool) group(local netip.Addr) *group {
	if g := p.groups[local]; g != nil {
		return g
	}
	if len(p.groups) >= maxAddresses {
		for a, g := range p.groups {
			if len(g.leased) == 0 && len(g.waiters) == 0 && g.kept.len() == 0 {
				delete(p.groups, a)
				break
			}
		}
	}
	g := &group{addr: local, leased: map[uint16]*lease{}}
	order := slices.Clone(p.usable)
	p.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, port := range order {
		g.free.push(entry{port: port})
	}
	p.groups[local] = g
	return g
}

// await waits for a port to be handed over. An entry with port 0 means "try
// again": a port that another program held may have become free.
func (p *Pool) await(ctx context.Context, g *group, w chan entry, deadline time.Time) (entry, error) {
	p.mu.Lock()
	until := deadline
	if len(g.taken) > 0 && g.taken[0].until.Before(until) {
		until = g.taken[0].until
	}
	p.mu.Unlock()
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	var err error
	select {
	case e, ok := <-w:
		if !ok {
			return e, fmt.Errorf("ports: the server is stopping: %w", net.ErrClosed)
		}
		return e, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(g.waiters, w); i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
	} else if e, ok := <-w; ok { // handed over, or the pool was closed, at the last moment
		if err == nil {
			return e, nil
		}
		p.putLocked(g, e)
	}
	if err == nil && time.Now().Before(deadline) {
		return entry{}, nil
	}
	p.stats.noPort.Add(1)
	n, taken := len(g.leased), len(g.taken)
	if err != nil {
		return entry{}, fmt.Errorf("ports: waiting for a passive port on %s (%d in use): %w: %w", g.addr, n, ftp.ErrNoPort, err)
	}
	return entry{}, fmt.Errorf("ports: no free passive port on %s: of %d ports in %d-%d %d are in use and %d are held by other programs; enlarge the range: %w",
		g.addr, len(p.usable), p.opt.First, p.opt.Last, n, taken, ftp.ErrNoPort)
}

// open turns an entry into a lease, opening the listener if it has none.
// nil without an error means that the port is taken: choose another.
func (p *Pool) open(g *group, e entry, client netip.AddrPort) (*lease, error) {
	if e.ln != nil {
		p.stats.reused.Add(1)
		if p.wake(&e) != nil { // the descriptor is of no use any more; a new one will do
			e.ln.Close()
			e.ln, e.used = nil, false
		}
	}
	if e.ln == nil {
		ln, err := listen(netip.AddrPortFrom(g.addr, e.port))
		if err != nil {
			return nil, p.refused(g, e, err)
		}
		e.ln = ln
	}
	l := &lease{pool: p, group: g, entry: e, bound: netip.AddrPortFrom(g.addr, e.port), client: client, start: time.Now()}
	p.mu.Lock()
	g.leased[e.port] = l
	p.mu.Unlock()
	p.stats.leases.Add(1)
	return l, nil
}

// wake readies a kept listener for its next lease: nobody who came before it
// may be taken for its client.
func (p *Pool) wake(e *entry) error {
	if e.rests {
		e.rests = false
		return resume(e.ln)
	}
	n, err := drain(e.ln)
	p.stats.strangers.Add(uint64(n))
	return err
}

// refused puts a port that could not be bound aside and says whether another
// port may do better (nil) or the address or the process is the trouble.
func (p *Pool) refused(g *group, e entry, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for0 := takenFor
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		for0 = deniedFor
	default: // EADDRNOTAVAIL, EMFILE, ENOBUFS: other ports fail alike
		p.putLocked(g, e)
		return fmt.Errorf("ports: passive port on %s: %w", g.addr, err)
	}
	p.stats.taken.Add(1)
	delete(g.leased, e.port)
	t := takenPort{e.port, time.Now().Add(for0), err}
	i, _ := slices.BinarySearchFunc(g.taken, t, func(a, b takenPort) int { return a.until.Compare(b.until) })
	g.taken = slices.Insert(g.taken, i, t)
	return nil
}

// put returns a port after its lease, with its listener closed or kept.
func (p *Pool) put(g *group, e entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.putLocked(g, e)
}

func (p *Pool) putLocked(g *group, e entry) {
	now := time.Now()
	if e.ln != nil && !keepable {
		e.ln.Close()
		e.ln = nil
	}
	e.used = e.ln != nil
	for len(g.waiters) > 0 && !p.closed.Load() { // first come, first served
		w := g.waiters[0]
		g.waiters = slices.Delete(g.waiters, 0, 1)
		g.leased[e.port] = nil
		w <- e // never blocks: a waiter gets one entry
		return
	}
	delete(g.leased, e.port)
	if e.ln != nil && p.busy(now) && p.kept < p.opt.Keep && !p.closed.Load() {
		e.since = now
		g.kept.push(e)
		p.kept++
		if p.sweep == nil {
			p.sweep = time.AfterFunc(p.restAfter(), p.closeIdle)
		}
		return
	}
	if e.ln != nil {
		e.ln.Close()
	}
	g.free.push(entry{port: e.port})
}

// busy reports whether ports are leased so often that keeping listeners pays.
// An idle server closes a port as soon as its transfer has ended.
func (p *Pool) busy(now time.Time) bool {
	oldest := p.recent[p.recentN%busyLeases]
	return !oldest.IsZero() && now.Sub(oldest) < busyWithin
}

// restAfter is how long a kept listener goes on listening. Shutting one down
// and bringing it back costs a tenth of a small transfer, so those that are
// leased again at once are only emptied; the others refuse connections.
func (p *Pool) restAfter() time.Duration { return p.opt.KeepFor / 4 }

// closeIdle closes listeners that nobody has leased for KeepFor, and lets those
// rest that nobody has leased for a part of it.
func (p *Pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep = nil
	now := time.Now()
	for _, g := range p.groups {
		for n := g.kept.len(); n > 0; n-- {
			e := g.kept.take(0)
			if idle := now.Sub(e.since); idle < p.opt.KeepFor && !p.closed.Load() && p.mayStay(&e, idle) {
				g.kept.push(e) // a full turn keeps the order
				continue
			}
			e.ln.Close()
			p.kept--
			g.free.push(entry{port: e.port})
		}
	}
	if p.kept > 0 {
		p.sweep = time.AfterFunc(p.restAfter()+1, p.closeIdle)
	}
}

// mayStay lets a kept listener rest when its time has come, and reports
// whether it may be kept at all.
func (p *Pool) mayStay(e *entry, idle time.Duration) bool {
	if e.rests || idle < p.restAfter() {
		return true
	}
	n, err := rest(e.ln)
	p.stats.strangers.Add(uint64(n))
	e.rests = err == nil
	return e.rests
}

// Close refuses further leases, wakes those who wait and closes kept
// listeners. Leases in use stay valid until they are released.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.closeIdle()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.groups {
		for _, w := range g.waiters {
			close(w)
		}
		g.waiters = nil
	}
	return nil
}

// expire gives ports that others held another chance.
func (g *group) expire(now time.Time) {
	for len(g.taken) > 0 && !now.Before(g.taken[0].until) {
		g.free.push(entry{port: g.taken[0].port})
		g.taken = g.taken[1:]
	}
}
