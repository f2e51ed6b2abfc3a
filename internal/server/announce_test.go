package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

func testBook(t *testing.T, lookup lookupFunc) *addressBook {
	t.Helper()
	b := newAddressBook(slog.New(slog.DiscardHandler))
	b.lookup = lookup
	b.local = func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, nil }
	return b
}

func prefix(s string) config.Prefix { return config.Prefix{Prefix: netip.MustParsePrefix(s)} }

func TestAnnounce(t *testing.T) {
	resolve := func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip4" {
			t.Errorf("looked up %s", network)
		}
		switch host {
		case "ftp.example.org":
			return []netip.Addr{netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("203.0.113.77")}, nil
		case "inside.example.org":
			return []netip.Addr{netip.MustParseAddr("10.0.0.5")}, nil
		}
		return nil, errors.New("no such host")
	}
	rules := []config.PassiveRule{
		{Networks: []config.Prefix{prefix("10.9.0.0/16"), prefix("192.0.2.0/24")}, Address: "198.18.0.1"},
		{Networks: []config.Prefix{prefix("172.16.0.0/12")}, Address: "inside.example.org"},
	}
	const reached = "invalid IP" // the zero address: what the client reached
	tests := []struct {
		name    string
		address string
		own     string // of the listener
		rules   []config.PassiveRule
		peer    string
		want    string
	}{
		{"empty", "", "", nil, "203.0.113.5", reached},
		{"literal", "203.0.113.1", "", nil, "203.0.113.5", "203.0.113.1"},
		{"literal, IPv4 in IPv6", "203.0.113.1", "", nil, "::ffff:203.0.113.5", "203.0.113.1"},
		{"listener's own", "203.0.113.1", "203.0.113.2", nil, "203.0.113.5", "203.0.113.2"},
		{"public for a private client", "203.0.113.1", "", nil, "192.168.1.9", reached},
		{"public for this machine", "203.0.113.1", "", nil, "127.0.0.1", reached},
		{"public for a neighbour", "203.0.113.1", "", nil, "198.51.100.9", reached},
		{"private for a private client", "10.1.1.1", "", nil, "192.168.1.9", "10.1.1.1"},
		{"rule wins over the inside", "203.0.113.1", "", rules, "10.9.1.1", "198.18.0.1"},
		{"rule for a public network", "203.0.113.1", "", rules, "192.0.2.5", "198.18.0.1"},
		{"rule with a name", "203.0.113.1", "", rules, "172.20.0.1", "10.0.0.5"},
		{"no rule matches", "203.0.113.1", "", rules, "203.0.113.5", "203.0.113.1"},
		{"name", "ftp.example.org", "", nil, "203.0.113.5", "203.0.113.77"},
		{"name for a private client", "ftp.example.org", "", nil, "10.0.0.9", reached},
		{"name unknown", "gone.example.org", "", nil, "203.0.113.5", reached},
	}
	for _, tt := range tests {
		b := testBook(t, resolve)
		a, hosts := newAnnouncer(b, &config.Passive{Address: tt.address, Rules: tt.rules}, &config.Listen{PassiveAddress: tt.own})
		b.set(t.Context(), hosts, time.Minute)
		if got := a.choose(netip.MustParseAddr(tt.peer)).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestNamesAreLookedUpAgain: the book follows a dynamic address, keeps the last
// one while the name does not resolve, and tries again soon.
func TestNamesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[netip.Addr]
		point := func(s string) {
			a := netip.MustParseAddr(s)
			now.Store(&a)
		}
		point("203.0.113.1")
		b := testBook(t, func(context.Context, string, string) ([]netip.Addr, error) {
			if a := now.Load(); a != nil {
				return []netip.Addr{*a}, nil
			}
			return nil, errors.New("SERVFAIL")
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		b.set(ctx, []string{"dyn.example.org"}, 5*time.Minute)
		go func() { b.run(ctx); close(done) }()
		check := func(want string) {
			t.Helper()
			if got := b.addrOf("dyn.example.org").String(); got != want {
				t.Errorf("after %v: %s, want %s", time.Now(), got, want)
			}
		}
		check("203.0.113.1")
		point("203.0.113.2")
		time.Sleep(4 * time.Minute)
		check("203.0.113.1")
		time.Sleep(2 * time.Minute)
		check("203.0.113.2")
		now.Store(nil)
		time.Sleep(20 * time.Minute)
		check("203.0.113.2") // stale is better than nothing
		point("203.0.113.3")
		time.Sleep(lookupAgain + time.Second)
		check("203.0.113.3")
		cancel()
		<-done
	})
}

// TestLookupBlocksNobody: while a look-up hangs, sessions get what is known.
func TestLookupBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := testBook(t, func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begin := time.Now()
		a, hosts := newAnnouncer(b, &config.Passive{Address: "slow.example.org"}, &config.Listen{})
		b.set(t.Context(), hosts, time.Minute)
		if d := time.Since(begin); d > lookupTime {
			t.Errorf("the start waited %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.run(ctx); close(done) }()
		time.Sleep(lookupAgain + time.Second) // a look-up is under way
		begin = time.Now()
		a.choose(netip.MustParseAddr("203.0.113.5"))
		if d := time.Since(begin); d != 0 {
			t.Errorf("a session waited %s", d)
		}
		cancel()
		<-done
	})
}
