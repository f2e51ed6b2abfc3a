package admin

import (
	"context"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// TestVerifiedTokens: a code gives no more than the token with which it was
// given has, and what it gave ends with the second factor.
func TestVerifiedTokens(t *testing.T) {
	db, err := store.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	svc, err := New(Config{Store: db, DataDir: t.TempDir(), Hash: func(context.Context, string) (string, error) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	may := func(scopes ...string) AdministratorSettings { return AdministratorSettings{Scopes: &scopes} }
	if _, err := svc.CreateAdministrator(ctx, NewAdministrator{Name: "ops", AdministratorSettings: may("read", "users")}); err != nil {
		t.Fatal(err)
	}
	reader, err := svc.CreateToken(ctx, NewToken{Administrator: "ops", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := svc.EnableAdministratorTOTP(ctx, "ops")
	if err != nil {
		t.Fatal(err)
	}
	as := func(token string) context.Context {
		p, err := svc.Authenticate(ctx, token)
		if err != nil {
			t.Fatal(err)
		}
		return WithPrincipal(ctx, p)
	}
	code, err := auth.TOTPCode(e.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	made, err := svc.VerifyToken(as(reader.Secret), code)
	if err != nil || len(made.Scopes) != 1 {
		t.Fatal(made.Scopes, err)
	}
	if err := svc.May(as(made.Secret), ScopeUsers); fault.KindOf(err) != fault.Denied {
		t.Error("a token for reading became one for accounts:", err)
	}
	// The administrator may no longer read: the token has no scope left.
	if _, err := svc.UpdateAdministrator(ctx, "ops", may("users", "admins")); err != nil {
		t.Fatal(err)
	}
	if m, err := svc.VerifyToken(as(reader.Secret), e.Recovery[0]); fault.KindOf(err) != fault.Denied {
		t.Errorf("a token without any scope gave one with %v: %v", m.Scopes, err)
	}
	if err := svc.DisableAdministratorTOTP(ctx, "ops"); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Authenticate(ctx, made.Secret); fault.KindOf(err) != fault.Login {
		t.Error("a token made with a code outlived the second factor:", err)
	}
	if _, err := svc.Authenticate(ctx, reader.Secret); err != nil {
		t.Error("another token ended:", err)
	}
}
