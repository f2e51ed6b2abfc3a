package limits

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

func TestPaceIsAccurate(t *testing.T) {
	for _, rate := range []int64{1000, 50_000, 1 << 20, 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			l := New(Config{})
			p := l.Pace("ann", account.Bandwidth{Down: rate})
			defer p.Release()
			began, moved := time.Now(), int64(0)
			for time.Since(began) < 10*time.Second {
				n, err := p.Down(context.Background(), nil, 4<<20)
				if err != nil {
					t.Fatal(err)
				}
				if limit := max(minGrant, rate/10+1); n > limit {
					t.Fatalf("one grant of %d at %d octets/s", n, rate)
				}
				moved += n
			}
			want := time.Since(began).Seconds() * float64(rate)
			slack := float64(minGrant) + float64(rate)/5 // what was saved up, and the last grant
			if math.Abs(float64(moved)-want) > slack {
				t.Errorf("rate %d: moved %d octets in %v, want %.0f", rate, moved, time.Since(began), want)
			}
		})
	}
}

func TestPaceIsSharedAndFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, sessions = 1 << 20, 8
		l := New(Config{Up: 2 * rate})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		run := func(user string) []int64 {
			got := make([]int64, sessions)
			var wg sync.WaitGroup
			for i := range sessions {
				wg.Go(func() {
					p := l.Pace(user, account.Bandwidth{Up: rate})
					defer p.Release()
					for {
						n, err := p.Up(ctx, nil, 1<<20)
						if err != nil {
							return
						}
						got[i] += n
					}
				})
			}
			wg.Wait()
			return got
		}
		got := run("ann")
		var sum int64
		for i, n := range got {
			sum += n
			if share := float64(n) / (60 * rate / sessions); share < 0.9 || share > 1.1 {
				t.Errorf("session %d got %.2f of its share", i, share)
			}
		}
		if f := float64(sum) / (60 * rate); f < 0.98 || f > 1.02 {
			t.Errorf("together %.2f of the user's rate", f)
		}
		if len(l.paces.users) != 0 {
			t.Error("the bucket outlives its sessions")
		}
	})
}

func TestServerRateHoldsForAllUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		l := New(Config{Down: rate})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var mu sync.Mutex
		var sum int64
		var wg sync.WaitGroup
		for _, u := range []string{"ann", "bob", "cid"} {
			wg.Go(func() {
				p := l.Pace(u, account.Bandwidth{Down: 8 * rate})
				defer p.Release()
				for {
					n, err := p.Down(ctx, nil, 4<<20)
					if err != nil {
						return
					}
					mu.Lock()
					sum += n
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if f := float64(sum) / (10 * rate); f < 0.95 || f > 1.05 {
			t.Errorf("moved %.2f of the server's rate", f)
		}
	})
}

func TestPaceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		p := l.Pace("ann", account.Bandwidth{Down: 1000})
		defer p.Release()
		use := func() {
			for range 2 {
				if _, err := p.Down(context.Background(), nil, 1000); err != nil {
					t.Fatal(err)
				}
			}
		}
		use()
		why := errors.New("kicked")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(10*ms, func() { cancel(why) })
		began := time.Now()
		if _, err := p.Down(ctx, nil, 1000); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 10*ms {
			t.Errorf("cancelled after %v", took)
		}
		stop := make(chan struct{})
		close(stop)
		if n, err := p.Down(context.Background(), stop, 1000); n != 0 || err != nil {
			t.Errorf("after stop: %d, %v", n, err)
		}
		// What was granted and came back costs nothing.
		time.Sleep(time.Second)
		n, _ := p.Down(context.Background(), nil, 1000)
		m, _ := p.Down(context.Background(), nil, 1000)
		p.ReturnDown(n + m)
		began = time.Now()
		if _, err := p.Down(context.Background(), nil, 100); err != nil || time.Since(began) > 0 {
			t.Errorf("waited %v for octets that were given back (%v)", time.Since(began), err)
		}
		// Unlimited from now on.
		p.SetRates(account.Bandwidth{})
		if n, _ := p.Down(context.Background(), nil, 1<<40); n != 1<<40 {
			t.Errorf("unlimited gave %d", n)
		}
	})
}

func TestUnlimitedGrantDoesNotAllocate(t *testing.T) {
	l := New(Config{})
	p := l.Pace("ann", account.Bandwidth{})
	defer p.Release()
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Down(ctx, nil, 4<<20) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUnlimitedGrant(b *testing.B) {
	l := New(Config{})
	p := l.Pace("ann", account.Bandwidth{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = p.Down(context.Background(), nil, 4<<20)
		}
	})
}
