package limits

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// The shape of the throttle. A failure fades after decay, so a person who
// mistypes now and then never waits and a program that guesses always does.
const (
	step     = 250 * time.Millisecond // unit of every delay, so that reply times tell nothing
	maxDelay = 4 * time.Second
	decay    = 30 * time.Second // one failure fades in this time

	freeAddress = 5  // failures of an address over all accounts before it waits
	freeAccount = 10 // failures of an account over all addresses before strangers wait

	maxUser = 64 // octets of a user name that are told apart

	goodFor = 30 * 24 * time.Hour // how long a successful log-in makes an address known
)

// Offence is what an address did wrong, with its weight in points.
type Offence int

// The offences and their weights.
const (
	BadPassword Offence = 1
	UnknownUser Offence = 2
	Protocol    Offence = 3 // hostile protocol use: floods, foreign protocols, stray data connections
	LimitHit    Offence = 3 // ran into a ceiling
)

type pair struct {
	addr netip.Prefix
	user string
}

// count is a number that fades linearly, one in each decay.
type count struct {
	n  float64
	at time.Time
}

func (c *count) value(now time.Time) float64 {
	if c == nil {
		return 0
	}
	return max(0, c.n-float64(now.Sub(c.at))/float64(decay))
}

func (c *count) add(now time.Time, d, ceiling float64) {
	c.n = min(ceiling, max(0, c.value(now)+d))
	c.at = now
}

// ceiling of a counter: it is gone decay*64 after the last failure at most.
const ceiling = 64

// throttle is the state of the three axes of security.md rule 6.
type throttle struct {
	mu    sync.Mutex
	addr  table[netip.Prefix, count]
	user  table[string, count]
	pair  table[pair, count]
	known table[pair, time.Time]         // last success; apart, so that failures cannot push it out
	good  table[netip.Prefix, time.Time] // last success of any account
}

func (t *throttle) init(size int) {
	t.addr = newTable[netip.Prefix, count](size)
	t.user = newTable[string, count](size)
	t.pair = newTable[pair, count](size)
	t.known = newTable[pair, time.Time](size)
	t.good = newTable[netip.Prefix, time.Time](size)
}

// Attempt is one try to log in. Exactly one of Succeeded, Failed and Abandon
// ends it. Once an axis has failures, tries under way count as failures too,
// so that guessing in parallel is not faster than guessing in turn.
type Attempt struct {
	l       *Limits
	p       pair
	ip      netip.Addr
	start   time.Time
	wait    time.Duration
	pending [3]bool // addr, user, pair: counted in advance
	left    bool    // the client went away during the wait
	done    bool
}

// Attempt registers a try of user from addr and works out the delay it owes
// for earlier failures. user may be any string the client sent.
func (l *Limits) Attempt(addr netip.Addr, user string) *Attempt {
	if len(user) > maxUser {
		user = strings.Clone(user[:maxUser]) // no account has such a name; keep the tables small
	}
	a := &Attempt{l: l, ip: addr, p: pair{Key(addr), user}, start: l.now()}
	if l.conf.NoLoginDelay || l.allowed(addr) {
		return a
	}
	t := &l.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	fa := t.addr.peek(a.p.addr).value(a.start)
	fu := t.user.peek(user).value(a.start)
	fp := t.pair.peek(a.p).value(a.start)
	a.wait = delay(fp, 0)
	if !t.isKnown(a.p, a.start) {
		// Neighbours behind one address and attackers elsewhere do not slow
		// down somebody who has logged in from here before.
		a.wait = max(a.wait, delay(fa, freeAddress), delay(fu, freeAccount))
	}
	if a.pending[0] = fa > 0; a.pending[0] {
		t.addr.get(a.p.addr).add(a.start, 1, ceiling)
	}
	if a.pending[1] = fu > 0; a.pending[1] {
		t.user.get(user).add(a.start, 1, ceiling)
	}
	if a.pending[2] = fp > 0; a.pending[2] {
		t.pair.get(a.p).add(a.start, 1, ceiling)
	}
	return a
}

// delay is 0 up to the free failures, then one step, doubling with each failure.
func delay(failures float64, free int) time.Duration {
	n := int(failures+0.999) - free // a failure counts until it has faded altogether
	if n <= 0 {
		return 0
	}
	d := step
	for ; n > 1 && d < maxDelay; n-- {
		d *= 2
	}
	return min(d, maxDelay)
}

func (t *throttle) isKnown(p pair, now time.Time) bool {
	at := t.known.peek(p)
	return at != nil && now.Sub(*at) < goodFor
}

// Delay is the wait owed before the credential is looked at.
func (a *Attempt) Delay() time.Duration { return a.wait }

// Wait sleeps for Delay, or until ctx ends.
func (a *Attempt) Wait(ctx context.Context) error {
	err := sleep(ctx, a.wait)
	a.left = err != nil
	return err
}

// Pad sleeps until the next multiple of 250 ms since the start of the attempt:
// it hides whether a hash was computed. Call it before a failure is answered.
func (a *Attempt) Pad(ctx context.Context) error {
	if a.l.conf.NoLoginDelay {
		return nil
	}
	over := a.l.now().Sub(a.start) % step
	if over < 0 {
		over = 0
	}
	return sleep(ctx, step-over)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle takes the advance count back and adds d to each axis.
func (a *Attempt) settle(addr, user, pair float64) {
	if a.done {
		return
	}
	a.done = true
	now := a.l.now()
	t := &a.l.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, d := range [3]float64{addr, user, pair} {
		if a.pending[i] {
			d--
		}
		if d == 0 {
			continue
		}
		switch i {
		case 0:
			t.addr.get(a.p.addr).add(now, d, ceiling)
		case 1:
			t.user.get(a.p.user).add(now, d, ceiling)
		case 2:
			t.pair.get(a.p).add(now, d, ceiling)
		}
	}
}

// Succeeded ends the attempt: the pair is known from now on and owes nothing.
func (a *Attempt) Succeeded() {
	if a.done {
		return
	}
	a.settle(0, 0, 0)
	now := a.l.now()
	t := &a.l.throttle
	t.mu.Lock()
	t.pair.del(a.p)
	*t.known.get(a.p) = now
	*t.good.get(a.p.addr) = now
	t.mu.Unlock()
	a.l.bans.good(a.p.addr, now, a.l.conf.BanWindow)
}

// Failed ends the attempt and reports whether it led to a ban of the address,
// together with what went wrong on keeping that ban.
func (a *Attempt) Failed(ctx context.Context, o Offence) (banned bool, err error) {
	if a.done {
		return false, nil
	}
	a.settle(1, 1, 1)
	return a.l.Report(ctx, a.ip, o, "failed log-ins")
}

// Abandon ends the attempt without a verdict (verifier down, client gone).
// A client that leaves during the wait it owes keeps the advance count.
func (a *Attempt) Abandon() {
	if a.done {
		return
	}
	if a.left {
		a.done = true
		return
	}
	a.settle(0, 0, 0)
}
