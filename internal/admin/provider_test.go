package admin

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// said verifies every token as the one its map has.
type said map[string]auth.Claims

const jwtHead = "eyJhbGciOiJFUzI1NiJ9." // {"alg":"ES256"}

func (s said) Verify(_ context.Context, token string) (auth.Claims, error) {
	name := strings.TrimSuffix(strings.TrimPrefix(token, jwtHead), ".x")
	if name == "down" {
		return auth.Claims{}, fault.Text(fault.Unavailable, "down")
	}
	c, ok := s[name]
	if !ok {
		return c, fault.Text(fault.Login, "no good")
	}
	return c, nil
}

// TestProvided maps people of a provider to administrators and roles.
func TestProvided(t *testing.T) {
	db, err := store.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	names, err := ParseNames([]string{"auth0|1=2=ops", "x=gone"})
	if err != nil {
		t.Fatal(err)
	}
	p := Provider{Names: names, Tokens: said{
		"row": {Name: "ops"}, "mapped": {Name: "auth0|1=2"}, "disabled": {Name: "off", Groups: []string{"chiefs"}}, "code": {Name: "careful"},
		"chief": {Name: "eve@example.org", Groups: []string{"desk", "chiefs"}}, "desk": {Name: "bob", Groups: []string{"desk"}},
		"nobody": {Name: "mallory", Groups: []string{"Chiefs", "chiefs "}}, "odd": {Name: "../etc", Groups: []string{"chiefs"}}, "row with a role": {Name: "ops", Groups: []string{"chiefs"}}}}
	for _, line := range []string{"chiefs=all", "desk=read, users@partners,guests"} {
		r, err := ParseRole(line)
		if err != nil {
			t.Fatal(err)
		}
		p.Roles = append(p.Roles, r)
	}
	svc, err := New(Config{Store: db, DataDir: t.TempDir(), Hash: func(context.Context, string) (string, error) { return "", nil }, Provider: p})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []account.Administrator{{Name: "ops", Scopes: []string{"read"}}, {Name: "off", Scopes: []string{"read"}, Disabled: true}, {Name: "careful", Scopes: []string{"read"}}} {
		if _, err := db.CreateAdministrator(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.SetTOTP(t.Context(), store.AdministratorCodes, "careful", "SECRET", nil); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]struct {
		name, scopes, groups string
		kind                 fault.Kind
		unverified           bool
	}{
		"row":             {name: "ops", scopes: "read"},
		"mapped":          {name: "ops", scopes: "read"},
		"row with a role": {name: "ops", scopes: "read"}, // what is kept here counts
		"code":            {name: "careful", scopes: "read", unverified: true},
		"chief":           {name: "eve@example.org", scopes: "read users groups sessions server admins"},
		"desk":            {name: "bob", scopes: "read users", groups: "partners guests"},
		"disabled":        {kind: fault.Denied},
		"nobody":          {kind: fault.Denied},
		"odd":             {kind: fault.Denied},
		"forged":          {kind: fault.Login},
		"down":            {kind: fault.Unavailable},
	} {
		got, err := svc.Authenticate(t.Context(), jwtHead+token+".x")
		var scopes []string
		for _, s := range got.Scopes {
			scopes = append(scopes, string(s))
		}
		if fault.KindOf(err) != want.kind || got.Name != want.name || strings.Join(scopes, " ") != want.scopes || strings.Join(got.Groups, " ") != want.groups || got.Unverified != want.unverified {
			t.Errorf("%s: %+v, %v", token, got, err)
		}
	}
	// A provider that is down is no concern of other tokens.
	made, err := svc.CreateToken(t.Context(), NewToken{Administrator: "ops"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Authenticate(t.Context(), made.Secret); err != nil {
		t.Error(err)
	}
	// Who has a role only is nobody that a token could be made for.
	eve := WithPrincipal(t.Context(), Principal{Name: "eve@example.org", Scopes: slices.Clone(Scopes)})
	if _, err := svc.CreateToken(eve, NewToken{Administrator: "eve@example.org"}); fault.KindOf(err) != fault.NotExist {
		t.Errorf("a token for a person with a role: %v", err)
	}
	if _, err := svc.VerifyToken(eve, "123456"); err == nil {
		t.Error("a code of a person with a role was taken")
	}
}

func TestParseRole(t *testing.T) {
	for _, bad := range []string{"", "=all", "chiefs", "chiefs=", "chiefs=everything", "desk=read@", "desk=read@a/b", "desk=all@partners", "desk=@partners"} {
		if r, err := ParseRole(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %+v, %v", bad, r, err)
		}
	}
	r, err := ParseRole("cn=ftp,dc=example=read")
	if err != nil || r.Group != "cn=ftp,dc=example" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"ops", "=ops", "x=", "x=a/b"} {
		if _, err := ParseNames([]string{bad}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
