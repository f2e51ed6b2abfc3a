package ports

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// loopback is an address of this process alone, so that tests of other
// packages that run at the same time cannot hold its ports.
var loopback = netip.AddrFrom4([4]byte{127, 88, byte(os.Getpid() >> 8), byte(os.Getpid()%250 + 1)})

// testRange returns a range of n ports below the ephemeral range, different in
// each call, so that tests can run side by side.
var testNext atomic.Uint32

func testRange(n int) (uint16, uint16) {
	base := 20000 + uint32(os.Getpid()%10)*1000
	first := base + testNext.Add(uint32(n)+1) - uint32(n)
	return uint16(first), uint16(first) + uint16(n) - 1
}

func newTestPool(t testing.TB, n int, change func(*Options)) *Pool {
	t.Helper()
	var o Options
	o.First, o.Last = testRange(n)
	if change != nil {
		change(&o)
	}
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func mustLease(t testing.TB, p *Pool) *lease {
	t.Helper()
	l, err := p.lease(t.Context(), loopback, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, l *lease) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", l.bound.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeaseCarriesAConnection(t *testing.T) {
	for _, local := range []string{"127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"} {
		t.Run(local, func(t *testing.T) {
			p := newTestPool(t, 20, nil)
			l, err := p.lease(t.Context(), netip.MustParseAddr(local), netip.AddrPort{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Release()
			if a := l.Addr(); a.Addr().IsValid() || a.Port() != l.bound.Port() || a.Port() < p.opt.First || a.Port() > p.opt.Last {
				t.Errorf("announces %v for %v, want the bound port and no address", a, l.bound)
			}
			if want := netip.MustParseAddr(local).Unmap(); l.bound.Addr() != want {
				t.Errorf("bound on %v, want %v", l.bound.Addr(), want)
			}
			c := dial(t, l)
			defer c.Close()
			s, err := l.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.RemoteAddr().String() != c.LocalAddr().String() {
				t.Errorf("accepted %v, want %v", s.RemoteAddr(), c.LocalAddr())
			}
			if _, ok := s.(*net.TCPConn); !ok {
				t.Errorf("accepted a %T: a wrapper would cost the fast path", s)
			}
		})
	}
}

func TestPoolRefusesBadRanges(t *testing.T) {
	for _, r := range [][2]uint16{{0, 0}, {0, 100}, {5000, 4999}} {
		if _, err := NewPool(Options{First: r[0], Last: r[1]}); err == nil {
			t.Errorf("range %v was accepted", r)
		}
	}
	if _, err := listen(netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
		t.Error("port 0 was bound")
	}
}

func TestAddressesToBind(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	tests := []struct {
		addrs []netip.Addr
		local netip.Addr
		want  netip.Addr
	}{
		{nil, a("127.0.0.3"), a("127.0.0.3")},
		{nil, a("::ffff:127.0.0.3"), a("127.0.0.3")},
		{[]netip.Addr{a("127.0.0.1"), a("::1"), a("127.0.0.2")}, a("127.0.0.2"), a("127.0.0.2")},
		{[]netip.Addr{a("127.0.0.1"), a("::1")}, a("127.0.0.2"), a("127.0.0.1")},
		{[]netip.Addr{a("::ffff:127.0.0.1"), a("::1")}, a("fe80::1"), a("::1")},
		{[]netip.Addr{a("127.0.0.1")}, a("::1"), a("127.0.0.1")},
		{nil, a("198.51.100.7"), a("0.0.0.0")}, // not ours: a balancer's
		{nil, a("2001:db8::7"), a("::")},
	}
	for _, tt := range tests {
		p := newTestPool(t, 10, func(o *Options) { o.Addrs = tt.addrs })
		for range 2 { // the second time from memory
			l, err := p.lease(t.Context(), tt.local, netip.AddrPort{})
			if err != nil {
				t.Fatalf("%v on %v: %v", tt.local, tt.addrs, err)
			}
			if l.bound.Addr() != tt.want {
				t.Errorf("%v on %v: bound %v, want %v", tt.local, tt.addrs, l.bound.Addr(), tt.want)
			}
			l.Release()
		}
	}
	p := newTestPool(t, 10, nil)
	if _, err := p.lease(t.Context(), netip.Addr{}, netip.AddrPort{}); err == nil {
		t.Error("a port was bound for a connection without a local address")
	}
}

// TestPortsAreSpreadAndRest checks that every port is used about equally often,
// that the order does not repeat, and that a port rests while half of the others have not been used.
func TestPortsAreSpreadAndRest(t *testing.T) {
	const size, rounds = 60, 100
	p := newTestPool(t, size, nil)
	seen := map[uint16]int{}
	var order []uint16
	for i := range size * rounds {
		e, g, _, err := p.take(loopback)
		if err != nil {
			t.Fatal(err)
		}
		if last, ok := seen[e.port]; ok && i-last < size/2 {
			t.Fatalf("port %d was given again after %d leases", e.port, i-last)
		}
		seen[e.port] = i
		order = append(order, e.port)
		p.put(g, e)
	}
	count := map[uint16]int{}
	for _, port := range order {
		if port < p.opt.First || port > p.opt.Last {
			t.Fatalf("port %d is outside %d-%d", port, p.opt.First, p.opt.Last)
		}
		count[port]++
	}
	for port := p.opt.First; port <= p.opt.Last; port++ {
		if n := count[port]; n < rounds/2 || n > rounds*2 {
			t.Errorf("port %d was used %d times of about %d", port, n, rounds)
		}
	}
	// What follows a port must vary: entropy of the step between neighbours.
	steps := map[int]int{}
	for i := 1; i < len(order); i++ {
		steps[(int(order[i])-int(order[i-1])+size)%size]++
	}
	h := 0.0
	for _, n := range steps {
		f := float64(n) / float64(len(order)-1)
		h -= f * math.Log2(f)
	}
	if h < 5.5 { // log2(60) is 5.9; a rotation has 0
		t.Errorf("steps between ports have %.2f bits, want at least 5.5", h)
	}
}

func TestPoolsDifferInOrder(t *testing.T) {
	first := func() string {
		p, err := NewPool(Options{First: 40000, Last: 40999})
		if err != nil {
			t.Fatal(err)
		}
		s := ""
		for range 8 {
			e, _, _, _ := p.take(loopback)
			s += fmt.Sprint(e.port, " ")
		}
		return s
	}
	if a, b := first(), first(); a == b {
		t.Errorf("two pools start alike: %s", a)
	}
}

func TestMeddledPortsAreSkipped(t *testing.T) {
	p, err := NewPool(Options{First: 5050, Last: 5070})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.usable) != 19 || len(p.skipped) != 2 {
		t.Errorf("usable %d skipped %v, want 19 and 5060, 5061", len(p.usable), p.skipped)
	}
	if p, err = NewPool(Options{First: 5060, Last: 5061}); err != nil || len(p.usable) != 2 {
		t.Errorf("a range of nothing else must be used: %v %v", p.usable, err)
	}
}

func TestFullRangeWaitsThenSaysSo(t *testing.T) {
	p := newTestPool(t, 3, func(o *Options) { o.Wait = 150 * time.Millisecond })
	var ls []*lease
	for range 3 {
		ls = append(ls, mustLease(t, p))
	}
	start := time.Now()
	_, err := p.lease(t.Context(), loopback, netip.AddrPort{})
	if took := time.Since(start); took < 100*time.Millisecond || took > 2*time.Second {
		t.Errorf("waited %v, want 150ms", took)
	}
	if !errors.Is(err, ftp.ErrNoPort) || !strings.Contains(err.Error(), "3 are in use") || !strings.Contains(err.Error(), loopback.String()) {
		t.Errorf("error %v: want ErrNoPort with the address and the numbers", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err = p.lease(ctx, loopback, netip.AddrPort{}); !errors.Is(err, ftp.ErrNoPort) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v: want ErrNoPort and the context's", err)
	}
	// Another address has the whole range.
	l, err := p.lease(t.Context(), netip.MustParseAddr("127.0.0.2"), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	// A release in time is handed over.
	time.AfterFunc(30*time.Millisecond, ls[1].Release)
	l, err = p.lease(t.Context(), loopback, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	if l.bound != ls[1].bound {
		t.Errorf("got %v, want the released %v", l.bound, ls[1].bound)
	}
	l.Release()
	if n := p.noPort(); n != 2 {
		t.Errorf("counted %d refusals, want 2", n)
	}
}

func (p *Pool) noPort() uint64 { return p.stats.noPort.Load() }

func TestTakenPortsAreSkippedAndRemembered(t *testing.T) {
	p := newTestPool(t, 4, func(o *Options) { o.Wait = 10 * time.Millisecond })
	other, err := net.Listen("tcp", netip.AddrPortFrom(loopback, p.opt.First+2).String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got := map[uint16]bool{}
	for range 3 {
		l := mustLease(t, p)
		defer l.Release()
		got[l.bound.Port()] = true
	}
	if got[p.opt.First+2] || len(got) != 3 {
		t.Errorf("leased %v", got)
	}
	_, err = p.lease(t.Context(), loopback, netip.AddrPort{})
	if !errors.Is(err, ftp.ErrNoPort) || !strings.Contains(err.Error(), "1 are held by other programs") {
		t.Errorf("error %v", err)
	}
	g := p.groups[loopback]
	if len(g.taken) != 1 || g.taken[0].port != p.opt.First+2 || time.Until(g.taken[0].until) < takenFor/2 {
		t.Fatalf("remembers %v", g.taken)
	}
	if n := p.Stats().TakenTotal; n != 1 {
		t.Errorf("tried a taken port %d times, want once", n)
	}
	other.Close() // and when the time is over it is used again
	g.taken[0].until = time.Now().Add(5 * time.Millisecond)
	l := mustLease(t, p)
	defer l.Release()
	if l.bound.Port() != p.opt.First+2 {
		t.Errorf("got %v", l.bound)
	}
}

// makeBusy leases and releases until listeners are kept.
func makeBusy(t testing.TB, p *Pool, n int) {
	t.Helper()
	var ls []*lease
	for range max(n, busyLeases) {
		ls = append(ls, mustLease(t, p))
	}
	for _, l := range ls {
		l.Release()
	}
}

// TestStrangersInTheQueueAreGone: whoever connects to a kept port before it is
// leased again gets nothing, whether the listener was put to rest or not.
func TestStrangersInTheQueueAreGone(t *testing.T) {
	for _, rested := range []bool{false, true} {
		t.Run(fmt.Sprintf("rested %v", rested), func(t *testing.T) { strangersAreGone(t, rested) })
	}
}

func strangersAreGone(t *testing.T, rested bool) {
	p := newTestPool(t, 1, func(o *Options) {
		o.KeepFor = time.Minute
		if rested {
			o.KeepFor = 4 * time.Second
		}
	})
	for range busyLeases - 1 {
		mustLease(t, p).Release()
	}
	l := mustLease(t, p)
	for range 3 {
		c := dial(t, l)
		defer c.Close()
		fmt.Fprint(c, "STOLEN")
	}
	l.Release()
	if s := p.Stats(); s.Kept != 1 {
		t.Fatalf("kept %d listeners, want 1", s.Kept)
	}
	for end := time.Now().Add(3 * time.Second); rested; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", l.bound.String())
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("a port that nobody has leased goes on taking connections")
		}
	}
	l = mustLease(t, p)
	defer l.Release()
	if s := p.Stats(); s.Reused == 0 {
		t.Error("the listener was not used again")
	}
	right := dial(t, l)
	defer right.Close()
	c, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != right.LocalAddr().String() {
		t.Errorf("accepted %v, want %v", c.RemoteAddr(), right.LocalAddr())
	}
	if s := p.Stats(); s.Strangers < 3 {
		t.Errorf("turned away %d strangers, want 3 at least", s.Strangers)
	}
}

func TestIdleServerClosesPortsAtOnce(t *testing.T) {
	p := newTestPool(t, 5, nil)
	l := mustLease(t, p)
	l.Release()
	l.Release() // idempotent
	if c, err := net.Dial("tcp", l.bound.String()); err == nil {
		c.Close()
		t.Errorf("%v is open after Release", l.bound)
	}
	if s := p.Stats(); s.Leased != 0 || s.Kept != 0 || s.Free != 5 {
		t.Errorf("%+v", s)
	}
}

func TestKeptListenersAreClosedAfterAWhile(t *testing.T) {
	p := newTestPool(t, 40, func(o *Options) { o.KeepFor = 60 * time.Millisecond; o.Keep = 10 })
	makeBusy(t, p, 30)
	if s := p.Stats(); s.Kept != 10 || s.Free != 30 {
		t.Fatalf("kept %d, free %d, want the limit of 10 and 30", s.Kept, s.Free)
	}
	for end := time.Now().Add(5 * time.Second); p.Stats().Kept > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d listeners are still open", p.Stats().Kept)
		}
	}
	if s := p.Stats(); s.Free != 40 {
		t.Errorf("free %d, want 40", s.Free)
	}
	for port := p.opt.First; port <= p.opt.Last; port++ {
		if c, err := net.Dial("tcp", netip.AddrPortFrom(loopback, port).String()); err == nil {
			c.Close()
			t.Errorf("port %d is open", port)
		}
	}
}

func TestAcceptEndsWithContextAndRelease(t *testing.T) {
	p := newTestPool(t, 5, nil)
	l := mustLease(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), l.bound.String()) {
		t.Errorf("after the deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	c := dial(t, l) // an Accept that ended in a timeout does not spoil the next one
	defer c.Close()
	s, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	time.AfterFunc(20*time.Millisecond, l.Release)
	if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Release: %v", err)
	}
	if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("long after Release: %v", err)
	}
	if s := p.Stats(); s.Leased != 0 || s.Free != 5 {
		t.Errorf("the port is not back: %+v", s)
	}
}

func TestOneAcceptAtATime(t *testing.T) {
	p := newTestPool(t, 2, nil)
	l := mustLease(t, p)
	done := make(chan error, 1)
	go func() { _, err := l.Accept(t.Context()); done <- err }()
	for {
		l.mu.Lock()
		running := l.accepting != 0
		l.mu.Unlock()
		if running {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := l.Accept(t.Context()); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Accept: %v", err)
	}
	l.Release()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("first Accept: %v", err)
	}
}

func TestCloseWakesAndRefuses(t *testing.T) {
	p := newTestPool(t, 1, func(o *Options) { o.Wait = 10 * time.Second })
	l := mustLease(t, p)
	done := make(chan error, 1)
	go func() { _, err := p.lease(t.Context(), loopback, netip.AddrPort{}); done <- err }()
	for p.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	p.Close()
	p.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a waiter got %v", err)
	}
	if _, err := p.lease(t.Context(), loopback, netip.AddrPort{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Lease after Close: %v", err)
	}
	c := dial(t, l) // a lease in use lives on
	defer c.Close()
	s, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	l.Release()
	if c, err := net.Dial("tcp", l.bound.String()); err == nil {
		c.Close()
		t.Error("the port is open after Close and Release")
	}
}

// TestManySessionsOnFewPorts is 64 sessions of small transfers on 100 ports,
// for two seconds: no refusal, and no port or descriptor is lost.
func TestManySessionsOnFewPorts(t *testing.T) {
	p := newTestPool(t, 100, nil)
	before := openFiles(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var done, wrong atomic.Int64
	var wg sync.WaitGroup
	fail := make(chan error, 64)
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := oneTransfer(p, &wrong); err != nil {
					fail <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	s := p.Stats()
	if s.NoPort != 0 || s.Leased != 0 || s.Free+s.Kept+s.Taken != 100 || wrong.Load() != 0 {
		t.Errorf("%+v, %d wrong peers", s, wrong.Load())
	}
	if s.Reused == 0 {
		t.Error("no listener was used twice under load")
	}
	t.Logf("%d transfers, %d listeners reused", done.Load(), s.Reused)
	p.Close()
	for end := time.Now().Add(5 * time.Second); openFiles(t) > before+4; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t), before)
		}
	}
}

func oneTransfer(p *Pool, wrong *atomic.Int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l, err := p.lease(ctx, loopback, netip.AddrPort{})
	if err != nil {
		return err
	}
	defer l.Release()
	c, err := net.DialTimeout("tcp", l.bound.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := l.Accept(ctx)
	if err != nil {
		return err
	}
	if s.RemoteAddr().String() != c.LocalAddr().String() {
		wrong.Add(1)
	}
	return s.Close()
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func TestLiveShowsSockets(t *testing.T) {
	p := newTestPool(t, 3, nil)
	l, err := p.lease(t.Context(), loopback, netip.MustParseAddrPort("127.0.0.7:4711"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	live := p.Live()
	if len(live) != 1 || live[0].Addr != l.bound || live[0].Client.String() != "127.0.0.7:4711" || live[0].State != "leased" || live[0].Since.IsZero() {
		t.Errorf("%+v", live)
	}
}

func BenchmarkLeaseBusy(b *testing.B) {
	p := newTestPool(b, 500, nil)
	for b.Loop() {
		l, err := p.lease(context.Background(), loopback, netip.AddrPort{})
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

func BenchmarkLeaseAlwaysOpen(b *testing.B) {
	p := newTestPool(b, 500, func(o *Options) { o.Keep = -1 })
	for b.Loop() {
		l, err := p.lease(context.Background(), loopback, netip.AddrPort{})
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

func BenchmarkTransfer(b *testing.B) {
	p := newTestPool(b, 500, nil)
	var wrong atomic.Int64
	for b.Loop() {
		if err := oneTransfer(p, &wrong); err != nil {
			b.Fatal(err)
		}
	}
}
