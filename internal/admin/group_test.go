package admin

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
)

func TestGroups(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	g, err := r.CreateGroup(ctx, NewGroup{Name: "staff", GroupSettings: GroupSettings{Home: ptr(filepath.Join(r.srv, "%g", "%u")), QuotaBytes: ptr(int64(9))}})
	if err != nil || g.Quota.Bytes != 9 {
		t.Fatalf("%+v, %v", g, err)
	}
	r.event(t)
	u, err := r.CreateUser(ctx, NewUser{Name: "ann", Settings: Settings{Groups: &[]string{"staff"}}})
	if err != nil || u.Home != "" {
		t.Fatalf("the group gives the home, not the account: %+v, %v", u, err)
	}
	r.event(t)
	// A change reaches the sessions of members and of nobody else.
	if _, err := r.CreateUser(ctx, NewUser{Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	r.event(t)
	r.live.refreshed = nil
	r.live.status = []session.Status{{ID: "1", User: "ann"}, {ID: "2", User: "bob"}, {ID: "3", User: "anonymous"}, {ID: "4", User: "ann"}}
	if _, err := r.UpdateGroup(ctx, "staff", GroupSettings{QuotaBytes: ptr(int64(10))}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.live.refreshed, []string{"ann"}) {
		t.Errorf("refreshed %v", r.live.refreshed)
	}
	if e := r.event(t); !strings.Contains(e.Detail, `quota {"bytes":9} -> {"bytes":10}`) {
		t.Errorf("the trail says %q", e.Detail)
	}
	if err := r.DeleteGroup(ctx, "staff"); fault.KindOf(err) != fault.Busy {
		t.Errorf("a group with members was removed: %v", err)
	}
	for _, home := range []string{r.data, filepath.Join(r.data, "%u"), filepath.Dir(r.data), "relative/%u", "/srv/%x"} {
		if _, err := r.CreateGroup(ctx, NewGroup{Name: "bad", GroupSettings: GroupSettings{Home: ptr(home)}}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("home %s: %v", home, err)
		}
	}
}

func TestVersionsConflict(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	u, err := r.CreateUser(ctx, NewUser{Name: "ann", Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	v := Version(u)
	if _, err := r.UpdateUser(ctx, "ann", Settings{Comment: ptr("one"), IfMatch: v}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateUser(ctx, "ann", Settings{Comment: ptr("two"), IfMatch: v}); !errors.Is(err, ErrConflict) {
		t.Errorf("the second edit: %v", err)
	}
	now, _ := r.User(ctx, "ann")
	if err := r.SetPassword(ctx, "ann", "new"); err != nil {
		t.Fatal(err)
	}
	if after, _ := r.User(ctx, "ann"); Version(after) == Version(now) || after.Comment != "one" {
		t.Errorf("the password does not count: %+v", after)
	}
}

// TestTokens: what is wrong with a token is never told, and what it may do is
// never more than its administrator may.
func TestTokens(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.CreateAdministrator(ctx, NewAdministrator{Name: "ops", AdministratorSettings: AdministratorSettings{Scopes: &[]string{"read", "users", "admins"}}}); err != nil {
		t.Fatal(err)
	}
	full, err := r.CreateToken(ctx, NewToken{Administrator: "ops"})
	if err != nil {
		t.Fatal(err)
	}
	less, err := r.CreateToken(ctx, NewToken{Administrator: "ops", Scopes: []string{"read"}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Authenticate(ctx, less.Secret)
	if err != nil || !slices.Equal(p.Scopes, []Scope{ScopeRead}) {
		t.Fatalf("%+v, %v", p, err)
	}
	reader := WithPrincipal(ctx, p)
	if _, err := r.CreateUser(reader, NewUser{Name: "ann"}); fault.KindOf(err) != fault.Denied {
		t.Errorf("a reader makes an account: %v", err)
	}
	if p, err = r.Authenticate(ctx, full.Secret); err != nil {
		t.Fatal(err)
	}
	ops := WithPrincipal(ctx, p)
	if _, err := r.CreateAdministrator(ops, NewAdministrator{Name: "strong", AdministratorSettings: AdministratorSettings{Scopes: &[]string{"server"}}}); fault.KindOf(err) != fault.Denied {
		t.Errorf("somebody stronger was made: %v", err)
	}
	if _, err := r.UpdateAdministrator(ops, "ops", AdministratorSettings{Scopes: &[]string{"all"}}); fault.KindOf(err) != fault.Denied {
		t.Errorf("it raised itself: %v", err)
	}
	for _, bad := range []string{"", "x", "portreeve_", less.Secret + "x", strings.Replace(less.Secret, less.ID, full.ID, 1), strings.Repeat("portreeve_", 100)} {
		if _, err := r.Authenticate(ctx, bad); err != errToken {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := r.UpdateAdministrator(ctx, "ops", AdministratorSettings{Disabled: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(ctx, full.Secret); err != errToken {
		t.Errorf("a disabled administrator: %v", err)
	}
	if _, err := r.CreateToken(ctx, NewToken{Administrator: "ops", Expires: time.Unix(1, 0)}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an expired token was made: %v", err)
	}
	once, err := r.CreateToken(ctx, NewToken{Administrator: "ops", Once: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateAdministrator(ctx, "ops", AdministratorSettings{Disabled: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	won := 0
	for range 5 {
		if _, err := r.Authenticate(context.Background(), once.Secret); err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("a token for one use was used %d times", won)
	}
}

// TestCreateAllIsAllOrNothing stores no account when one of them cannot be.
func TestCreateAllIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.CreateUser(ctx, NewUser{Name: "taken"}); err != nil {
		t.Fatal(err)
	}
	user := func(name, home string) BatchUser {
		return BatchUser{User: account.User{Name: name, Home: home}, Hash: "$1$x$y"}
	}
	for what, b := range map[string]Batch{
		"a name that is taken": {Users: []BatchUser{user("a", filepath.Join(r.srv, "a")), user("taken", filepath.Join(r.srv, "t"))}},
		"the data directory":   {Users: []BatchUser{user("a", filepath.Join(r.srv, "a")), user("b", r.data)}},
		"twice the same":       {Groups: []account.Group{{Name: "g"}}, Users: []BatchUser{user("a", filepath.Join(r.srv, "a")), user("a", filepath.Join(r.srv, "a"))}},
	} {
		if m, err := r.CreateAll(ctx, b); err == nil || m.Users != 0 {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		if _, err := r.User(ctx, "a"); fault.KindOf(err) != fault.NotExist {
			t.Errorf("%s: half of it was stored: %v", what, err)
		}
	}
	if _, err := r.Group(ctx, "g"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("a group of a refused batch is there: %v", err)
	}
}
