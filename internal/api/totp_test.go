package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
)

// TestAdministratorCode: with a second factor a token does nothing but verify
// a code, which gives another token; codes cannot be tried at will.
func TestAdministratorCode(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	srv := httptest.NewServer(Authenticated(New(r.svc, r.server), r.svc.Authenticate))
	defer srv.Close()
	call := func(token, method, path string, in any, out any) int {
		t.Helper()
		b, _ := json.Marshal(in)
		req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if out != nil {
			if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode
	}
	if _, err := r.svc.CreateAdministrator(ctx, admin.NewAdministrator{Name: "ops", AdministratorSettings: admin.AdministratorSettings{Scopes: &[]string{"all"}}}); err != nil {
		t.Fatal(err)
	}
	tok, err := r.svc.CreateToken(ctx, admin.NewToken{Administrator: "ops", Scopes: []string{"read", "admins"}})
	if err != nil {
		t.Fatal(err)
	}
	var p problem
	if code := call(tok.Secret, "POST", "/v1/verification", Code{"123456"}, &p); code != 400 || !strings.Contains(p.Detail, "no second factor") {
		t.Errorf("verification without a second factor: %d %+v", code, p)
	}
	var e admin.Enrolled
	if code := call(tok.Secret, "POST", "/v1/administrators/ops/totp", nil, nil); code != 403 {
		t.Errorf("a token of few scopes changed the second factor of an administrator of all: %d", code)
	}
	if e, err = r.client.EnableAdministratorTOTP(ctx, "ops"); err != nil || e.Secret == "" || len(e.Recovery) != 10 {
		t.Fatal(err)
	}
	if code := call(tok.Secret, "GET", "/v1/users", nil, &p); code != 403 || !strings.Contains(p.Detail, "/v1/verification") {
		t.Errorf("a token without a code: %d %+v", code, p)
	}
	for _, c := range [][2]string{{"POST", "/v1/administrators/ops/totp"}, {"DELETE", "/v1/administrators/ops/totp"}, {"POST", "/v1/tokens"}, {"POST", "/v1/users/ann/totp"}, {"POST", "/v1/administrators/ops/totp/recovery"}} {
		if code := call(tok.Secret, c[0], c[1], admin.NewToken{Administrator: "ops"}, nil); code != 403 {
			t.Errorf("%v with a token without a code: %d", c, code)
		}
	}
	code, err := auth.TOTPCode(e.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var made admin.MadeToken
	if status := call(tok.Secret, "POST", "/v1/verification", Code{code}, &made); status != 201 || !made.Verified || time.Until(made.Expires) > 12*time.Hour {
		t.Fatalf("verification: %d %+v", status, made.Token)
	}
	var l UserList
	if status := call(made.Secret, "GET", "/v1/users", nil, &l); status != 200 {
		t.Errorf("the verified token: %d", status)
	}
	if status := call(made.Secret, "POST", "/v1/users", admin.NewUser{Name: "x"}, nil); status != 403 {
		t.Errorf("the verified token has more scopes than the other: %d", status)
	}
	if status := call(tok.Secret, "POST", "/v1/verification", Code{code}, nil); status != 401 {
		t.Errorf("the same code again: %d", status)
	}
	if status := call(tok.Secret, "POST", "/v1/verification", Code{e.Recovery[3]}, nil); status != 201 {
		t.Errorf("a recovery code: %d", status)
	}
	seen := map[int]int{}
	for range 6 {
		seen[call(tok.Secret, "POST", "/v1/verification", Code{"000000"}, nil)]++
	}
	if seen[429] < 4 || seen[201] > 0 {
		t.Errorf("answers to guesses: %v", seen)
	}
	var shown account.Administrator
	if call(made.Secret, "GET", "/v1/administrators/ops", nil, &shown); !shown.TOTP {
		t.Error("the second factor is not shown")
	}
}

// TestUserCodeOverAPI: the secret is in one answer and in no other.
func TestUserCodeOverAPI(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.client.CreateUser(ctx, admin.NewUser{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	e, err := r.client.EnableTOTP(ctx, "ann")
	if err != nil || !strings.HasPrefix(e.URI, "otpauth://totp/") {
		t.Fatal(e, err)
	}
	if _, err := r.client.EnableTOTP(ctx, "ann"); err == nil {
		t.Error("the second factor was replaced unasked")
	}
	u, err := r.client.User(ctx, "ann")
	b, _ := json.Marshal(u)
	if err != nil || !u.TOTP || u.TOTPSecret != "" || strings.Contains(string(b), e.Secret) {
		t.Errorf("%s %v", b, err)
	}
	codes, err := r.client.NewRecovery(ctx, "ann")
	if err != nil || len(codes) != 10 || codes[0] == e.Recovery[0] {
		t.Errorf("%q %v", codes, err)
	}
	if err := r.client.DisableTOTP(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	if u, err := r.client.User(ctx, "ann"); err != nil || u.TOTP {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := r.client.NewRecovery(ctx, "ann"); err == nil {
		t.Error("recovery codes for no second factor")
	}
	if _, err := r.client.EnableTOTP(ctx, "nobody"); err == nil {
		t.Error("a second factor for nobody")
	}
}
