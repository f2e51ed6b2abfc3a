package limits

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

func TestEarlyDrop(t *testing.T) {
	l := New(Config{Caps: Caps{MaxHalfOpen: -1, MaxHalfTotal: 100}, NoLoginDelay: true})
	roll := 0.0
	l.dice = func() float64 { return roll }
	addr := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)) }
	friend := netip.MustParseAddr("198.51.100.1")
	l.Attempt(friend, "ann").Succeeded()
	var open []*Conn
	for i := range 70 {
		c, err := l.Connect(addr(i))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		open = append(open, c)
	}
	if _, err := l.Connect(addr(200)); fault.KindOf(err) != fault.Limit {
		t.Errorf("at 70 %% with the worst luck: %v", err)
	}
	roll = 0.31
	for i := 70; i < 100; i++ {
		roll = 0.999
		c, err := l.Connect(addr(i))
		if err != nil {
			t.Fatalf("connection %d with luck: %v", i, err)
		}
		open = append(open, c)
		if i == 85 {
			roll = 0.6
			if _, err := l.Connect(addr(201)); err == nil {
				t.Error("the chance does not grow")
			}
			f, err := l.Connect(friend)
			if err != nil {
				t.Errorf("somebody who logged in before is shed: %v", err)
			} else {
				f.Release()
			}
		}
	}
	if _, err := l.Connect(friend); fault.KindOf(err) != fault.Limit {
		t.Errorf("at the ceiling: %v", err)
	}
	if n := l.Counts().HalfOpen; n != 100 {
		t.Errorf("%d half-open", n)
	}
	// A log-in makes room, and so does the end.
	if err := open[0].Login("ann", 0); err != nil {
		t.Fatal(err)
	}
	open[1].Release()
	roll = 0.9999
	for range 2 {
		if _, err := l.Connect(addr(210)); err != nil {
			t.Errorf("after room was made: %v", err)
		}
	}
	if n := l.Counts().HalfOpen; n != 100 {
		t.Errorf("%d half-open after all", n)
	}
}

func TestShut(t *testing.T) {
	l := New(Config{})
	p := netip.MustParsePrefix
	a := netip.MustParseAddr
	ban := Ban{Network: p("192.0.2.9/32"), Until: time.Now().Add(time.Hour)}
	if err := l.Ban(context.Background(), ban); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		only, deny []netip.Prefix
		addr       string
		why        string
	}{
		{nil, nil, "192.0.2.1", ""},
		{nil, nil, "192.0.2.9", "banned"},
		{nil, nil, "::ffff:192.0.2.9", "banned"},
		{nil, []netip.Prefix{p("192.0.2.0/24")}, "192.0.2.1", "denied"},
		{nil, []netip.Prefix{p("192.0.2.0/24")}, "::ffff:192.0.2.1", "denied"},
		{[]netip.Prefix{p("10.0.0.0/8")}, nil, "192.0.2.1", "not allowed"},
		{[]netip.Prefix{p("10.0.0.0/8")}, nil, "10.1.2.3", ""},
		{[]netip.Prefix{p("10.0.0.0/8")}, []netip.Prefix{p("10.1.0.0/16")}, "10.1.2.3", "denied"},
		{[]netip.Prefix{p("fe80::/10")}, nil, "fe80::1%eth0", ""},
	}
	for _, tt := range tests {
		l.SetDoors(tt.only, tt.deny)
		if why, shut := l.Shut(a(tt.addr)); why != tt.why || shut != (tt.why != "") {
			t.Errorf("%s with %v and %v: %q", tt.addr, tt.only, tt.deny, why)
		}
	}
}

func TestScoreFades(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	l := New(Config{BanScore: 10, BanWindow: 10 * time.Minute, Now: func() time.Time { return now }})
	a := netip.MustParseAddr("192.0.2.1")
	for range 3 {
		if banned, err := l.Report(t.Context(), a, Protocol, "scan"); banned || err != nil {
			t.Fatal(banned, err)
		}
	}
	if p, most := l.Score(a); p != 9 || most != 10 {
		t.Errorf("score %v of %d", p, most)
	}
	now = now.Add(5 * time.Minute)
	if p, _ := l.Score(a); p != 4 {
		t.Errorf("after half a window: %v", p)
	}
	if banned, _ := l.Report(t.Context(), a, Protocol, "scan"); banned {
		t.Error("banned although the points had faded")
	}
	if banned, _ := l.Report(t.Context(), a, Protocol, "scan"); !banned {
		t.Error("not banned at the threshold")
	}
}
