package limits

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/fault"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func wantLimit(t *testing.T, err error) {
	t.Helper()
	if fault.KindOf(err) != fault.Limit {
		t.Fatalf("got %v (%v), want fault.Limit", err, fault.KindOf(err))
	}
}

func TestKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":           "192.0.2.7/32",
		"::ffff:192.0.2.7":    "192.0.2.7/32",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::/64",
		"fe80::1%eth0":        "fe80::/64",
		"2001:db8:1:2:ffff::": "2001:db8:1:2::/64",
	} {
		if got := Key(addr(in)).String(); got != want {
			t.Errorf("Key(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestConnectionCaps(t *testing.T) {
	l := New(Config{Caps: Caps{MaxSessions: 5, MaxPerAddress: 3, MaxHalfOpen: 2, MaxPerUser: 2}, Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	connect := func(a string) *Conn {
		t.Helper()
		c, err := l.Connect(addr(a))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := connect("2001:db8::1"), connect("2001:db8::2")
	_, err := l.Connect(addr("2001:db8::3"))
	wantLimit(t, err) // half-open, counted by /64
	if err := a.Login("ann", 0); err != nil {
		t.Fatal(err)
	}
	c := connect("2001:db8::3") // a is not half-open any more
	if err := b.Login("ann", 0); err != nil {
		t.Fatal(err)
	}
	wantLimit(t, c.Login("ann", 0)) // per user, server's default
	if err := c.Login("bob", 1); err != nil {
		t.Fatal(err)
	}
	_, err = l.Connect(addr("2001:db8::4"))
	wantLimit(t, err) // per address
	d := connect("198.51.100.1")
	e := connect("198.51.100.1")
	_, err = l.Connect(addr("203.0.113.1"))
	wantLimit(t, err) // total
	b.Logout()
	if err := b.Login("ann", 0); err != nil {
		t.Fatal("a slot that was given back is not free:", err)
	}
	for _, x := range []*Conn{a, b, c, d, e} {
		x.Release()
		x.Release()
	}
	if got := l.Counts(); got != (Counts{}) {
		t.Fatalf("left over: %+v", got)
	}
	if err := a.Login("ann", 0); fault.KindOf(err) != fault.Canceled {
		t.Fatalf("log-in after release: %v", err)
	}
}

func TestConnectionCapsNeverExceeded(t *testing.T) {
	const max = 7
	l := New(Config{Caps: Caps{MaxSessions: max, MaxHalfOpen: -1, MaxPerUser: 3}})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 300 {
				c, err := l.Connect(addr(fmt.Sprintf("192.0.2.%d", w)))
				if err != nil {
					continue
				}
				if n := l.Counts().Total; n > max {
					t.Errorf("%d connections, cap %d", n, max)
				}
				_ = c.Login("ann", 0)
				if i%3 == 0 {
					c.Logout()
				}
				c.Release()
			}
		})
	}
	wg.Wait()
	if got := l.Counts(); got != (Counts{}) {
		t.Fatalf("left over: %+v", got)
	}
}

func TestTableDropsTheOldest(t *testing.T) {
	tb := newTable[int, int](3)
	for i := range 3 {
		*tb.get(i) = i + 1
	}
	tb.get(0) // touched: now 1 is the oldest
	*tb.get(3) = 4
	if tb.peek(1) != nil || len(tb.m) != 3 {
		t.Fatalf("1 should have given way; have %d entries", len(tb.m))
	}
	for k, want := range map[int]int{0: 1, 2: 3, 3: 4} {
		if v := tb.peek(k); v == nil || *v != want {
			t.Errorf("entry %d: %v", k, v)
		}
	}
	tb.del(3)
	tb.del(0)
	tb.del(2)
	if tb.front != nil || tb.back != nil {
		t.Error("list is not empty")
	}
}
