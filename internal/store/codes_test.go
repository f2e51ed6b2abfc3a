package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

func TestCodes(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		_, err := db.CreateUser(ctx, account.User{Name: "ann", Home: "/h"})
		must(t, err)
		_, err = db.CreateAdministrator(ctx, account.Administrator{Name: "ann", Scopes: []string{"read"}})
		must(t, err)
		must(t, db.SetTOTP(ctx, UserCodes, "ann", "SECRET", []string{"h1", "h2"}))
		must(t, db.SetTOTP(ctx, AdministratorCodes, "ann", "OTHER", []string{"h1"}))
		u, err := db.UserByName(ctx, "ann")
		must(t, err)
		if !u.TOTP || u.TOTPSecret != "SECRET" {
			t.Errorf("read back %v %q", u.TOTP, u.TOTPSecret)
		}
		if s, err := db.AdministratorSecret(ctx, "ann"); s != "OTHER" || err != nil {
			t.Errorf("secret of the administrator %q, %v", s, err)
		}
		// A change of settings leaves the second factor alone.
		must(t, db.UpdateUser(ctx, "ann", func(u *account.User) error { u.Comment, u.TOTPSecret = "c", ""; return nil }))
		if u, err = db.UserByName(ctx, "ann"); err != nil || !u.TOTP {
			t.Error("the second factor is gone after a change of the comment", err)
		}
		for _, c := range []struct {
			step int64
			want bool
		}{{10, true}, {10, false}, {9, false}, {12, true}, {11, false}} {
			if got, err := db.TakeStep(ctx, u, c.step); got != c.want || err != nil {
				t.Errorf("step %d: %v, %v, want %v", c.step, got, err, c.want)
			}
		}
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				ok, err := db.TakeRecovery(ctx, u, "h1")
				if err != nil {
					t.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("a recovery code worked %d times", won.Load())
		}
		for h, want := range map[CodeHolder]int{UserCodes: 1, AdministratorCodes: 1} {
			if n, err := db.CountRecovery(ctx, h, "ann"); n != want || err != nil {
				t.Errorf("%s: %d codes, %v, want %d", h.what, n, err, want)
			}
		}
		must(t, db.SetRecovery(ctx, UserCodes, "ann", []string{"n1", "n2", "n3"}))
		if ok, _ := db.TakeRecovery(ctx, u, "h2"); ok {
			t.Error("an old recovery code still works")
		}
		must(t, db.SetTOTP(ctx, UserCodes, "ann", "", nil))
		wantKind(t, "codes without a second factor", db.SetRecovery(ctx, UserCodes, "ann", []string{"x"}), fault.Invalid)
		wantKind(t, "nobody", db.SetTOTP(ctx, UserCodes, "bob", "S", nil), fault.NotExist)
		must(t, db.DeleteUser(ctx, "ann"))
		must(t, db.DeleteAdministrator(ctx, "ann"))
		for h := range map[CodeHolder]bool{UserCodes: true, AdministratorCodes: true} {
			if n, err := db.CountRecovery(ctx, h, "ann"); n != 0 || err != nil {
				t.Errorf("%s: %d codes of nobody, %v", h.what, n, err)
			}
		}
	})
}

func TestApply(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		addGroups(t, db, "old", "kept")
		_, err := db.CreateUser(ctx, account.User{Name: "ann", Home: "/h", PasswordHash: "$x", Groups: []string{"old"}})
		must(t, err)
		must(t, db.SetTOTP(ctx, UserCodes, "ann", "SECRET", []string{"h1"}))
		_, err = db.CreateUser(ctx, account.User{Name: "bob", Home: "/h"})
		must(t, err)
		// One thing that is wrong undoes all of it.
		err = db.Apply(ctx, []string{"ann", "new"}, func(p Present) (Writes, error) {
			if len(p.Users) != 1 || p.Users[0].Name != "ann" || fmt.Sprint(p.OtherUsers) != "[bob]" || len(p.Groups) != 2 {
				t.Errorf("present: %+v", p)
			}
			if u, err := p.User("bob"); err != nil || u.Home != "/h" {
				t.Errorf("bob: %+v, %v", u, err)
			}
			return Writes{Users: []account.User{{Name: "new", Home: "/n"}}, Drop: Names{Users: []string{"bob"}, Groups: []string{"old"}}}, nil
		})
		wantKind(t, "a group with members", err, fault.Busy)
		if _, err := db.UserByName(ctx, "bob"); err != nil {
			t.Error("half of it was done:", err)
		}
		must(t, db.Apply(ctx, []string{"ann"}, func(p Present) (Writes, error) {
			u := p.Users[0]
			u.Groups, u.Comment, u.PasswordHash = []string{"kept"}, "changed", "must not be stored"
			return Writes{Users: []account.User{u}, Groups: []account.Group{{Name: "fresh"}}, Administrators: []account.Administrator{{Name: "ops", Scopes: []string{"read"}}},
				Drop: Names{Users: []string{"bob"}, Groups: []string{"old"}}}, nil
		}))
		u, err := db.UserByName(ctx, "ann")
		must(t, err)
		if u.Comment != "changed" || u.PasswordHash != "$x" || !u.TOTP || len(u.Groups) != 1 || u.Groups[0] != "kept" {
			t.Errorf("ann is %+v", u)
		}
		_, err = db.UserByName(ctx, "bob")
		wantKind(t, "bob", err, fault.NotExist)
		_, err = db.GroupByName(ctx, "fresh")
		must(t, err)
		_, err = db.GroupByName(ctx, "old")
		wantKind(t, "the old group", err, fault.NotExist)
		_, err = db.AdministratorByName(ctx, "ops")
		must(t, err)
	})
}
