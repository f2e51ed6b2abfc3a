package admin

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/store"
)

// withLimits is a service as a running server has it.
func withLimits(t *testing.T) (*Service, *store.DB, *limits.Limits, *events.Bus) {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	bus := events.NewBus(events.Options{Sink: db, Every: time.Millisecond})
	l := limits.New(limits.Config{Bans: db, Quota: db})
	t.Cleanup(func() { bus.Close(context.Background()); db.Close() })
	s, err := New(Config{Store: db, Events: bus, Limits: l, DataDir: dir, Hash: func(context.Context, string) (string, error) { return "h", nil },
		Measure: func(_ context.Context, source string) (b, f int64, err error) {
			err = filepath.Walk(source, func(_ string, i os.FileInfo, err error) error {
				if err == nil && i.Mode().IsRegular() {
					b, f = b+i.Size(), f+1
				}
				return err
			})
			return b, f, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	return s, db, l, bus
}

func TestBans(t *testing.T) {
	s, db, l, bus := withLimits(t)
	ctx := WithActor(t.Context(), "root (uid 0)")
	for _, bad := range []NewBan{{Network: "0.0.0.0/0"}, {Network: "::/0"}, {Network: "nonsense"}, {Network: "192.0.2.1", For: -time.Second}} {
		if _, err := s.AddBan(ctx, bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := s.AddBan(ctx, NewBan{Network: "192.0.2.7/24", For: time.Hour, Reason: "scans"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddBan(ctx, NewBan{Network: "2001:db8::7"}); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"192.0.2.200": true, "192.0.3.1": false, "2001:db8::7": true, "2001:db8::8": false} {
		p, _ := ParseNetwork(addr)
		if _, shut := l.Shut(p.Addr()); shut != want {
			t.Errorf("%s is shut out: %v", addr, shut)
		}
	}
	bans, err := s.Bans(ctx)
	if err != nil || len(bans) != 2 || bans[0].Network != "192.0.2.0/24" || bans[0].Reason != "scans" || !bans[1].Until.IsZero() {
		t.Errorf("%+v, %v", bans, err)
	}
	// What an administrator says replaces what was there, also to make it shorter.
	if _, err := s.AddBan(ctx, NewBan{Network: "2001:db8::7", For: time.Minute}); err != nil {
		t.Fatal(err)
	}
	p, _ := ParseNetwork("2001:db8::7")
	if b, ok := l.Banned(p.Addr()); !ok || b.Until.IsZero() {
		t.Errorf("the shorter ban did not take effect: %+v", b)
	}
	if err := s.RemoveBan(ctx, "192.0.2.0/24"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveBan(ctx, "192.0.2.0/24"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("lifted twice: %v", err)
	}
	// The server bans IPv6 by /64; naming the address is enough to lift that.
	for range 7 {
		q, _ := ParseNetwork("2001:db8:1::5")
		if _, err := l.Report(ctx, q.Addr(), limits.Protocol, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RemoveBan(ctx, "2001:db8:1::5"); err != nil {
		t.Errorf("lifting the /64 by address: %v", err)
	}
	if err := bus.Close(ctx); err != nil {
		t.Fatal(err)
	}
	es, err := s.Events(ctx, EventQuery{Kinds: []string{"ban", "ban.lifted"}, Oldest: true})
	if err != nil || len(es) != 5 || es[0].Detail != "scans by root (uid 0)" {
		t.Errorf("%d events: %+v, %v", len(es), es, err)
	}
	if tr, err := s.VerifyEvents(ctx, nil); err != nil || !tr.Whole || tr.Checked != 5 {
		t.Errorf("%+v, %v", tr, err)
	}
	_ = db
}

func TestLimitedAdministratorSeesNoTrail(t *testing.T) {
	s, _, _, _ := withLimits(t)
	ctx := WithPrincipal(t.Context(), Principal{Name: "eve", Scopes: Scopes, Groups: []string{"partners"}})
	reader := WithPrincipal(t.Context(), Principal{Name: "rob", Scopes: []Scope{ScopeRead}})
	for name, err := range map[string]error{
		"events": second(s.Events(ctx, EventQuery{})), "verify": second(s.VerifyEvents(ctx, nil)), "bans": second(s.Bans(ctx)),
		"ban": second(s.AddBan(ctx, NewBan{Network: "192.0.2.1"})), "unban": s.RemoveBan(ctx, "192.0.2.1"), "quota": second(s.Quotas(ctx, "")),
		"recount": second(s.Recount(ctx, "")), "ban by a reader": second(s.AddBan(reader, NewBan{Network: "192.0.2.1"})),
	} {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Bans(reader); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestRecountAndRepair(t *testing.T) {
	s, db, l, _ := withLimits(t)
	ctx := t.Context()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "a"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateUser(ctx, account.User{Name: "ann", Home: home, Quota: account.Quota{Bytes: 5000}}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateUser(ctx, account.User{Name: "bob", Home: home}); err != nil {
		t.Fatal(err)
	}
	qs, err := s.Recount(ctx, "")
	if err != nil || len(qs) != 1 || qs[0].Name != "ann" || qs[0].UsedBytes != 1000 || qs[0].UsedFiles != 1 || *qs[0].WasBytes != 0 {
		t.Fatalf("%+v, %v", qs, err)
	}
	if _, err := s.Recount(ctx, "bob"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("a recount without a quota: %v", err)
	}
	// A crash: the scope is marked, a file came without being booked.
	sc := l.Quota("ann", account.Quota{Bytes: 5000})
	limits.NewCharge(sc, nil)
	if err := os.WriteFile(filepath.Join(home, "b"), make([]byte, 500), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := New(Config{Store: db, DataDir: s.data, Hash: s.hash, Measure: s.measure})
	if err != nil {
		t.Fatal(err)
	}
	if qs, err = after.RepairQuota(ctx); err != nil || len(qs) != 1 || qs[0].UsedBytes != 1500 || *qs[0].WasBytes != 1000 {
		t.Errorf("%+v, %v", qs, err)
	}
	if qs, err = after.RepairQuota(ctx); err != nil || len(qs) != 0 {
		t.Errorf("a second repair: %+v, %v", qs, err)
	}
	if qs, err = after.Quotas(ctx, "ann"); err != nil || qs[0].UsedFiles != 2 || qs[0].MaxBytes != 5000 {
		t.Errorf("%+v, %v", qs, err)
	}
}
