package limits

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

const (
	slice    = 100 * time.Millisecond // budget handed out at once, so that pacing is smooth
	minGrant = 256                    // octets; less is all overhead
)

// Bucket hands out octets at a rate. Waiters are served in the order they
// came, each with at most a tenth of a second's budget, less when others wait.
// The zero value is unlimited and costs one atomic load for each grant.
type Bucket struct {
	rate    atomic.Int64 // octets per second, 0 unlimited
	mu      sync.Mutex
	next    time.Time // when the octets handed out so far are paid for
	waiters int
}

// SetRate changes the rate; 0 or less is unlimited. Grants already promised keep their time.
func (b *Bucket) SetRate(rate int64) { b.rate.Store(max(0, rate)) }

// Rate returns the rate in octets per second, 0 when unlimited.
func (b *Bucket) Rate() int64 { return b.rate.Load() }

// Grant waits until some octets may move and returns how many, 1 to max. It
// fails with the cause of ctx. Octets granted and not moved belong to Return.
func (b *Bucket) Grant(ctx context.Context, max int64) (int64, error) {
	return b.grant(ctx, nil, max)
}

// grant also ends, with a nil error and 0 octets, when stop is closed.
func (b *Bucket) grant(ctx context.Context, stop <-chan struct{}, want int64) (int64, error) {
	rate := b.rate.Load()
	if rate == 0 || want <= 0 {
		return want, nil
	}
	b.mu.Lock()
	n := min(want, max(minGrant, int64(slice.Seconds()*float64(rate))/int64(1+b.waiters)))
	now := time.Now()
	if b.next.Before(now.Add(-slice)) {
		b.next = now.Add(-slice) // at most one slice may be saved up
	}
	cost := price(n, rate)
	wait := b.next.Sub(now)
	b.next = b.next.Add(cost)
	if wait <= 0 {
		b.mu.Unlock()
		return n, nil
	}
	b.waiters++
	b.mu.Unlock()

	t := time.NewTimer(wait)
	var err error
	select {
	case <-t.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-stop:
		n = 0
	}
	t.Stop()
	b.mu.Lock()
	b.waiters--
	if err != nil || n == 0 {
		b.next = b.next.Add(-cost)
		n = 0
	}
	b.mu.Unlock()
	return n, err
}

// Return gives back octets that were granted and did not move.
func (b *Bucket) Return(n int64) {
	rate := b.rate.Load()
	if n <= 0 || rate == 0 {
		return
	}
	b.mu.Lock()
	b.next = b.next.Add(-price(n, rate))
	b.mu.Unlock()
}

func price(n, rate int64) time.Duration {
	d := float64(n) / float64(rate) * float64(time.Second)
	return time.Duration(min(d, math.MaxInt64/4))
}

// userPace is shared by all sessions of one user.
type userPace struct {
	refs     int
	down, up Bucket
}

// Pace is the bandwidth of one session: its user's, shared with the user's
// other sessions, within the server's. Methods may be called concurrently.
type Pace struct {
	l    *Limits
	name string
	u    *userPace
	once sync.Once
}

// Pace returns the bandwidth of user with the rates of bw, which then hold for
// all sessions of that user. Release it when the session ends.
func (l *Limits) Pace(user string, bw account.Bandwidth) *Pace {
	l.paces.mu.Lock()
	defer l.paces.mu.Unlock()
	u := l.paces.users[user]
	if u == nil {
		u = &userPace{}
		l.paces.users[user] = u
	}
	u.refs++
	u.down.SetRate(bw.Down)
	u.up.SetRate(bw.Up)
	return &Pace{l: l, name: user, u: u}
}

// SetRates changes the user's rates for all sessions.
func (p *Pace) SetRates(bw account.Bandwidth) {
	p.u.down.SetRate(bw.Down)
	p.u.up.SetRate(bw.Up)
}

// Down grants octets of a download; see Bucket.Grant. stop may be nil; when it
// is closed Down returns 0 and no error.
func (p *Pace) Down(ctx context.Context, stop <-chan struct{}, max int64) (int64, error) {
	return both(ctx, stop, &p.u.down, &p.l.down, max)
}

// Up grants octets of an upload; see Down.
func (p *Pace) Up(ctx context.Context, stop <-chan struct{}, max int64) (int64, error) {
	return both(ctx, stop, &p.u.up, &p.l.up, max)
}

// ReturnDown gives back what Down granted and did not move.
func (p *Pace) ReturnDown(n int64) { p.u.down.Return(n); p.l.down.Return(n) }

// ReturnUp gives back what Up granted and did not move.
func (p *Pace) ReturnUp(n int64) { p.u.up.Return(n); p.l.up.Return(n) }

func both(ctx context.Context, stop <-chan struct{}, user, server *Bucket, max int64) (int64, error) {
	n, err := user.grant(ctx, stop, max)
	if err != nil || n == 0 {
		return 0, err
	}
	m, err := server.grant(ctx, stop, n)
	user.Return(n - m)
	if err != nil {
		return 0, err
	}
	return m, nil
}

// Release ends the use of the bandwidth; the last session's takes the bucket away.
func (p *Pace) Release() {
	p.once.Do(func() {
		p.l.paces.mu.Lock()
		defer p.l.paces.mu.Unlock()
		if p.u.refs--; p.u.refs == 0 {
			delete(p.l.paces.users, p.name)
		}
	})
}
