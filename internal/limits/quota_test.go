package limits

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// memQuota is a QuotaStore.
type memQuota struct {
	mu     sync.Mutex
	m      map[string][2]int64
	writes int
	err    error
}

func (s *memQuota) QuotaUsed(_ context.Context, name string) (int64, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[name][0], s.m[name][1], s.err
}

func (s *memQuota) AddQuota(_ context.Context, name string, b, f int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	v := s.m[name]
	s.m[name] = [2]int64{v[0] + b, v[1] + f}
	s.writes++
	return nil
}

func ledgerOf(used int64) (*Limits, *memQuota) {
	st := &memQuota{m: map[string][2]int64{"ann": {used, 1}}}
	return New(Config{Quota: st}), st
}

func TestQuotaIsNeverExceeded(t *testing.T) {
	const max, used = 100 << 20, 40 << 20
	l, st := ledgerOf(used)
	ctx := context.Background()
	var mu sync.Mutex
	var stored int64
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			sc := l.Quota("ann", account.Quota{Bytes: max})
			defer sc.Release(ctx)
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for {
				c := NewCharge(sc, nil)
				var mine int64
				for range 1 + rnd.IntN(20) {
					n, err := c.Take(ctx, 1, 1+rnd.Int64N(1<<20))
					if fault.KindOf(err) == fault.Quota {
						break
					} else if err != nil {
						t.Error(err)
						return
					}
					mine += n
					mu.Lock()
					stored += n // the octets are on the disk from now on
					if stored > max-used {
						t.Errorf("%d octets stored, room was %d", stored, max-used)
					}
					mu.Unlock()
				}
				if rnd.IntN(4) == 0 { // failed upload: removed again
					mu.Lock()
					stored -= mine
					mu.Unlock()
					c.Settle(ctx, 0, 0)
					continue
				}
				c.Settle(ctx, mine, 1)
				if mine == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	if stored < max-used-64<<10 {
		t.Errorf("only %d of %d octets could be used", stored, max-used)
	}
	if got := st.m["ann"][0]; got != used+stored {
		t.Errorf("the store says %d, stored are %d", got, used+stored)
	}
	if len(l.ledger.scopes) != 0 {
		t.Error("scopes are left over")
	}
}

func TestQuotaFiles(t *testing.T) {
	l, _ := ledgerOf(0) // one file is there
	ctx := context.Background()
	sc := l.Quota("ann", account.Quota{Files: 3})
	a, b, c := NewCharge(sc, nil), NewCharge(sc, nil), NewCharge(sc, nil)
	if err := errors.Join(a.Files(ctx, 1), b.Files(ctx, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Files(ctx, 1); fault.KindOf(err) != fault.Quota {
		t.Fatalf("a fourth file: %v", err)
	}
	b.Settle(ctx, 0, 0) // failed
	if err := c.Files(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Take(ctx, 1, 1<<40); err != nil || n != 1<<40 {
		t.Errorf("octets are not limited here: %d, %v", n, err)
	}
}

func TestChargeTakesFromBothScopesOrNone(t *testing.T) {
	l, st := ledgerOf(0)
	ctx := context.Background()
	user := l.Quota("ann", account.Quota{Bytes: 1000})
	mount := l.Quota(MountScope("/srv/x"), account.Quota{Bytes: 300})
	c := NewCharge(user, mount)
	if n, err := c.Take(ctx, 1, 500); err != nil || n != 300 {
		t.Fatalf("got %d, %v; the mount has room for 300", n, err)
	}
	if _, err := c.Take(ctx, 1, 1); fault.KindOf(err) != fault.Quota {
		t.Fatalf("got %v", err)
	}
	if err := c.Settle(ctx, 250, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(ctx, 250, 1); err != nil { // once only
		t.Fatal(err)
	}
	if user.resBytes != 0 || mount.resBytes != 0 {
		t.Errorf("reservations left: %d, %d", user.resBytes, mount.resBytes)
	}
	if st.m["ann"][0] != 250 || st.m["mount:/srv/x"] != [2]int64{250, 1} {
		t.Errorf("stored: %v", st.m)
	}
	// Room in the mount, none for the user: nothing may stay reserved.
	user2 := l.Quota("bob", account.Quota{Bytes: 10})
	c = NewCharge(mount, user2)
	if _, err := c.Take(ctx, 20, 20); fault.KindOf(err) != fault.Quota {
		t.Fatalf("got %v", err)
	}
	if mount.resBytes != 0 {
		t.Errorf("%d octets stay reserved after a refusal", mount.resBytes)
	}
}

func TestNoQuotaCountsNothing(t *testing.T) {
	l, st := ledgerOf(5)
	if sc := l.Quota("ann", account.Quota{}); sc != nil {
		t.Fatal("a scope without a limit")
	}
	var sc *Scope
	u, err := sc.Usage(context.Background())
	if u != (Usage{}) || err != nil {
		t.Error(u, err)
	}
	c := NewCharge(nil, nil)
	if n, err := c.Take(context.Background(), 1, 7); n != 7 || err != nil {
		t.Error(n, err)
	}
	if err := errors.Join(c.Files(context.Background(), 1), c.Settle(context.Background(), 1, 1), sc.Release(context.Background())); err != nil {
		t.Error(err)
	}
	if st.writes != 0 {
		t.Error("written")
	}
}

func TestQuotaStoreDown(t *testing.T) {
	l, st := ledgerOf(100)
	ctx := context.Background()
	sc := l.Quota("ann", account.Quota{Bytes: 1000})
	st.err = errors.New("database is locked")
	if _, err := sc.Usage(ctx); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	c := NewCharge(sc, nil)
	if _, err := c.Take(ctx, 1, 10); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an upload without knowing the use: %v", err)
	}
	// A deletion while the store is away is not forgotten.
	if err := NewCharge(sc, nil).Settle(ctx, -40, -1); err == nil {
		t.Error("no error told")
	}
	st.err = nil
	if u, err := sc.Usage(ctx); err != nil || u.UsedBytes != 60 {
		t.Errorf("used %d, %v", u.UsedBytes, err)
	}
	if err := l.FlushQuota(ctx); err != nil || st.m["ann"] != [2]int64{60, 0} {
		t.Errorf("stored %v, %v", st.m["ann"], err)
	}
}

func TestUsageNeverBelowZero(t *testing.T) {
	l, st := ledgerOf(10)
	ctx := context.Background()
	sc := l.Quota("ann", account.Quota{Bytes: 1000})
	if err := NewCharge(sc, nil).Settle(ctx, -500, -5); err != nil {
		t.Fatal(err)
	}
	if u, _ := sc.Usage(ctx); u.UsedBytes != 0 || u.UsedFiles != 0 {
		t.Errorf("%+v", u)
	}
	if st.m["ann"] != [2]int64{0, 0} {
		t.Errorf("stored %v", st.m["ann"])
	}
}

func TestSetUsage(t *testing.T) {
	l, st := ledgerOf(10)
	ctx := context.Background()
	if err := l.SetUsage(ctx, "ann", 777, 7); err != nil {
		t.Fatal(err)
	}
	if st.m["ann"] != [2]int64{777, 7} {
		t.Errorf("stored %v", st.m["ann"])
	}
	sc := l.Quota("ann", account.Quota{Bytes: 1000})
	defer sc.Release(ctx)
	if u, err := sc.Usage(ctx); err != nil || u != (Usage{777, 1000, 7, 0}) {
		t.Errorf("%+v %v", u, err)
	}
}

func BenchmarkChargeTake(b *testing.B) {
	l, _ := ledgerOf(0)
	c := NewCharge(l.Quota("ann", account.Quota{Bytes: 1 << 62}), nil)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Take(ctx, 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
