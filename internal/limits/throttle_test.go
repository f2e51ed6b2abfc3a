package limits

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

const ms = time.Millisecond

func fail(l *Limits, a, user string) {
	at := l.Attempt(addr(a), user)
	_, _ = at.Failed(context.Background(), BadPassword)
}

func owed(l *Limits, a, user string) time.Duration {
	at := l.Attempt(addr(a), user)
	defer at.settle(0, 0, 0)
	return at.Delay()
}

func TestDelayGrowsAndFades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{BanScore: -1})
		for i, want := range []time.Duration{0, 250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 4000 * ms} {
			if got := owed(l, "192.0.2.1", "ann"); got != want {
				t.Errorf("after %d failures: %v, want %v", i, got, want)
			}
			fail(l, "192.0.2.1", "ann")
		}
		for range 7 { // one fades in each decay
			time.Sleep(decay)
		}
		if got := owed(l, "192.0.2.1", "ann"); got != 0 {
			t.Errorf("after the decay %v is still owed", got)
		}
	})
}

func TestAccountAxisOnlyDelaysStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{BanScore: -1})
		l.Attempt(addr("203.0.113.9"), "ann").Succeeded()
		for i := range 60 {
			fail(l, fmt.Sprintf("192.0.2.%d", i), "ann")
		}
		if got := owed(l, "203.0.113.9", "ann"); got != 0 {
			t.Errorf("the owner's own address owes %v", got)
		}
		if got := owed(l, "198.51.100.1", "ann"); got != maxDelay {
			t.Errorf("a stranger owes %v, want %v", got, maxDelay)
		}
		if got := owed(l, "198.51.100.1", "bob"); got != 0 {
			t.Errorf("another account owes %v", got)
		}
		time.Sleep(goodFor + time.Hour)
		for range 20 {
			fail(l, "192.0.2.1", "ann")
		}
		if got := owed(l, "203.0.113.9", "ann"); got == 0 {
			t.Error("a success is remembered for ever")
		}
	})
}

func TestAddressAxisCatchesSpraying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{BanScore: -1})
		for i := range freeAddress + 3 {
			fail(l, "2001:db8::1", fmt.Sprintf("user%d", i))
		}
		if got := owed(l, "2001:db8::2", "somebody"); got != 1000*ms {
			t.Errorf("the /64 owes %v, want 1s", got)
		}
		if got := owed(l, "2001:db8:0:1::2", "somebody"); got != 0 {
			t.Errorf("another /64 owes %v", got)
		}
	})
}

func TestParallelGuessesCountInAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{BanScore: -1})
		fail(l, "192.0.2.1", "ann")
		var last time.Duration
		var tries []*Attempt
		for range 5 {
			a := l.Attempt(addr("192.0.2.1"), "ann")
			tries = append(tries, a)
			last = a.Delay()
		}
		if last != maxDelay {
			t.Errorf("the fifth of five at once owes %v, want %v", last, maxDelay)
		}
		for _, a := range tries {
			a.Abandon()
			a.Abandon()
		}
		if got := owed(l, "192.0.2.1", "ann"); got != 250*ms {
			t.Errorf("abandoned tries are still counted: %v", got)
		}
		// A client that hangs up during the wait keeps what was counted.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		a := l.Attempt(addr("192.0.2.1"), "ann")
		if err := a.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		a.Abandon()
		if got := owed(l, "192.0.2.1", "ann"); got != 500*ms {
			t.Errorf("hanging up during the wait costs nothing: %v", got)
		}
	})
}

func TestSuccessClearsThePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{BanScore: -1})
		for range 4 {
			fail(l, "192.0.2.1", "ann")
		}
		l.Attempt(addr("192.0.2.1"), "ann").Succeeded()
		if got := owed(l, "192.0.2.1", "ann"); got != 0 {
			t.Errorf("owes %v after a success", got)
		}
	})
}

func TestPadHidesTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for _, work := range []time.Duration{0, 3 * ms, 249 * ms, 260 * ms} {
			began := time.Now()
			a := l.Attempt(addr("192.0.2.1"), "ann")
			time.Sleep(work)
			if err := a.Pad(context.Background()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took%step != 0 || took == 0 {
				t.Errorf("with %v of work the answer came after %v", work, took)
			}
		}
	})
}

func TestTablesAreBounded(t *testing.T) {
	l := New(Config{TableSize: 100, BanScore: -1})
	for i := range 10_000 {
		fail(l, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), fmt.Sprint("user", i))
	}
	if a, u, p := len(l.throttle.addr.m), len(l.throttle.user.m), len(l.throttle.pair.m); a != 100 || u != 100 || p != 100 {
		t.Errorf("tables hold %d, %d, %d entries", a, u, p)
	}
}

// memBans is a BanStore.
type memBans struct {
	m   map[netip.Prefix]time.Time
	err error
}

func (s *memBans) SaveBan(_ context.Context, n netip.Prefix, until time.Time, _ string) error {
	s.m[n] = until
	return s.err
}

func (s *memBans) DeleteBan(_ context.Context, n netip.Prefix) error {
	delete(s.m, n)
	return s.err
}

func TestBanByScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &memBans{m: map[netip.Prefix]time.Time{}}
		l := New(Config{Bans: st, Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
		ctx := context.Background()
		guess := func(a string, o Offence) bool {
			b, err := l.Attempt(addr(a), "nobody").Failed(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		n := 1
		for ; !guess("192.0.2.1", UnknownUser); n++ {
			if n > 50 {
				t.Fatal("never banned")
			}
		}
		if n != DefaultBanScore/int(UnknownUser) {
			t.Errorf("banned after %d tries", n)
		}
		_, err := l.Connect(addr("192.0.2.1"))
		wantLimit(t, err)
		if _, ok := st.m[netip.MustParsePrefix("192.0.2.1/32")]; !ok {
			t.Error("the ban was not stored")
		}
		for range 50 {
			if guess("198.51.100.1", UnknownUser) || guess("127.0.0.1", UnknownUser) || guess("::1", UnknownUser) {
				t.Fatal("the allow list or loopback was banned")
			}
		}
		time.Sleep(DefaultBanFor)
		if c, err := l.Connect(addr("192.0.2.1")); err != nil {
			t.Error("the ban does not end:", err)
		} else {
			c.Release()
		}
		// Slow mistakes leak away.
		for range 60 {
			if guess("192.0.2.2", BadPassword) {
				t.Fatal("one mistake in 30 s led to a ban")
			}
			time.Sleep(30 * time.Second)
		}
	})
}

func TestNoBanForSharedAddressWithGoodLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		for range 100 {
			at := l.Attempt(addr("192.0.2.1"), "typo")
			if banned, _ := at.Failed(context.Background(), BadPassword); banned {
				t.Fatal("banned although as many log-ins succeed")
			}
			l.Attempt(addr("192.0.2.1"), "ann").Succeeded()
			l.Attempt(addr("192.0.2.1"), "bob").Succeeded()
		}
	})
}

func TestManualBans(t *testing.T) {
	ctx := context.Background()
	st := &memBans{m: map[netip.Prefix]time.Time{}}
	l := New(Config{Bans: st})
	l.Restore([]Ban{
		{Network: netip.MustParsePrefix("10.1.2.3/8"), Until: time.Now().Add(time.Hour)},
		{Network: netip.MustParsePrefix("192.0.2.0/24"), Until: time.Now().Add(-time.Hour)},
		{Network: netip.MustParsePrefix("2001:db8::/32")}, // for ever
	})
	for a, want := range map[string]bool{"10.200.1.1": true, "::ffff:10.0.0.1": true, "11.0.0.1": false, "192.0.2.1": false, "2001:db8:5::1": true, "2001:db9::1": false} {
		if _, got := l.Banned(addr(a)); got != want {
			t.Errorf("Banned(%s) = %v", a, got)
		}
	}
	// A shorter ban does not replace a longer one.
	if err := l.Ban(ctx, Ban{Network: netip.MustParsePrefix("2001:db8::/32"), Until: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if b, _ := l.Banned(addr("2001:db8::1")); !b.Until.IsZero() {
		t.Error("a ban for ever was cut to", b.Until)
	}
	if n := len(l.Bans()); n != 2 {
		t.Errorf("%d bans listed", n)
	}
	was, err := l.Unban(ctx, netip.MustParsePrefix("10.0.0.0/8"))
	if !was || err != nil {
		t.Fatal(was, err)
	}
	if _, still := l.Banned(addr("10.0.0.1")); still {
		t.Error("still banned")
	}
	if was, _ := l.Unban(ctx, netip.MustParsePrefix("10.0.0.0/8")); was {
		t.Error("removed twice")
	}
	l.SetAllow([]netip.Prefix{netip.MustParsePrefix("2001:db8:5::/48")})
	if _, b := l.Banned(addr("2001:db8:5::1")); b {
		t.Error("the allow list does not win")
	}
	st.err = fault.Text(fault.Unavailable, "down")
	if err := l.Ban(ctx, Ban{Network: netip.MustParsePrefix("203.0.113.1/32")}); err == nil {
		t.Error("a store that is down goes unnoticed")
	}
	if _, b := l.Banned(addr("203.0.113.1")); !b {
		t.Error("the ban is not in force when it cannot be stored")
	}
}
