package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/portreeve/portreeve/internal/fault"
)

// issuer is a provider with keys of the test's choice that counts what it is asked.
type issuer struct {
	*httptest.Server
	provider  *oidctest.Server
	asked     atomic.Int32 // requests for keys
	discovery atomic.Int32
	down      atomic.Bool
	lie       atomic.Pointer[string] // what it says its issuer is
}

func newIssuer(t *testing.T, keys ...oidctest.PublicKey) *issuer {
	t.Helper()
	i := &issuer{provider: &oidctest.Server{PublicKeys: keys}}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case i.down.Load():
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		case strings.HasSuffix(r.URL.Path, "/keys"):
			i.asked.Add(1)
		default:
			i.discovery.Add(1)
			if l := i.lie.Load(); l != nil {
				json.NewEncoder(w).Encode(map[string]string{"issuer": *l, "jwks_uri": i.URL + "/keys"})
				return
			}
		}
		i.provider.ServeHTTP(w, r)
	}))
	i.provider.SetIssuer(i.URL)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) verifier(t *testing.T, change func(*OIDC)) *OIDC {
	t.Helper()
	o := &OIDC{Issuer: i.URL, ClientID: "portreeve", Audiences: []string{"https://ftp.example.org/api"}, Timeout: 2 * time.Second}
	if change != nil {
		change(o)
	}
	if err := o.Ready(); err != nil {
		t.Fatal(err)
	}
	return o
}

// claims are those of a good token, with changes; nil takes one away.
func (i *issuer) claims(changes map[string]any) string {
	now := time.Now()
	all := map[string]any{"iss": i.URL, "aud": "portreeve", "sub": "1", "email": "Eve@Example.org", "email_verified": true, "groups": []string{"staff", "ops"},
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for k, v := range changes {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	b, _ := json.Marshal(all)
	return string(b)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(k crypto.Signer, id, alg string) oidctest.PublicKey {
	return oidctest.PublicKey{PublicKey: k.Public(), KeyID: id, Algorithm: alg}
}

// TestOIDCClaims tries tokens that are signed well and say all kinds of things.
func TestOIDCClaims(t *testing.T) {
	key := ecKey(t)
	i := newIssuer(t, public(key, "a", "ES256"))
	o := i.verifier(t, nil)
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, c := range []struct {
		name    string
		changes map[string]any
		good    bool
	}{
		{"as it is", nil, true},
		{"audience of an access token", map[string]any{"aud": []string{"other", "https://ftp.example.org/api"}, "azp": "robot"}, true},
		{"asked for by this client", map[string]any{"aud": []string{"portreeve", "other"}, "azp": "portreeve"}, true},
		{"expired within the skew", map[string]any{"exp": at(-30 * time.Second)}, true},
		{"made on a clock that is a little ahead", map[string]any{"iat": at(30 * time.Second)}, true},
		{"email_verified as a text", map[string]any{"email_verified": "true"}, true},

		{"expired", map[string]any{"exp": at(-2 * time.Minute)}, false},
		{"no expiry", map[string]any{"exp": nil}, false},
		{"from the future", map[string]any{"iat": at(5 * time.Minute)}, false},
		{"not yet valid", map[string]any{"nbf": at(30 * time.Minute)}, false},
		{"another issuer", map[string]any{"iss": "https://evil.example.org"}, false},
		{"the issuer with a slash", map[string]any{"iss": i.URL + "/"}, false},
		{"another audience", map[string]any{"aud": "other"}, false},
		{"no audience", map[string]any{"aud": nil}, false},
		{"asked for by another client", map[string]any{"aud": []string{"portreeve", "other"}, "azp": "other"}, false},
		{"no name", map[string]any{"email": nil}, false},
		{"a name that is no text", map[string]any{"email": []string{"eve@example.org"}}, false},
		{"an address nobody verified", map[string]any{"email_verified": false}, false},
		{"nothing said about the address", map[string]any{"email_verified": nil}, false},
		{"a logout token", map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}, false},
	} {
		got, err := o.Verify(t.Context(), oidctest.SignIDToken(key, "a", "ES256", i.claims(c.changes)))
		if (err == nil) != c.good || !c.good && fault.KindOf(err) != fault.Login {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if err == nil && (got.Name != "eve@example.org" || got.Subject != "1" || !slices.Equal(got.Groups, []string{"staff", "ops"})) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

// TestOIDCSignatures tries what an attacker can make without the provider's key.
func TestOIDCSignatures(t *testing.T) {
	key, stranger := rsaKey(t), rsaKey(t)
	i := newIssuer(t, public(key, "a", "RS256"))
	o := i.verifier(t, nil)
	good := oidctest.SignIDToken(key, "a", "RS256", i.claims(nil))
	if _, err := o.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	enc := base64.RawURLEncoding.EncodeToString
	// The classic: HMAC with the public key, which everybody has, as the secret.
	hmac := oidctest.SignIDToken([]byte(fmt.Sprintf("%x", key.PublicKey.N)), "a", "HS256", i.claims(nil))
	other := strings.Split(oidctest.SignIDToken(key, "a", "RS256", i.claims(map[string]any{"email": "root@example.org"})), ".")
	for name, token := range map[string]string{
		"alg none":           enc([]byte(`{"alg":"none"}`)) + "." + part[1] + ".",
		"alg None":           enc([]byte(`{"alg":"None"}`)) + "." + part[1] + "." + part[2],
		"HMAC":               hmac,
		"RS renamed to HS":   enc([]byte(`{"alg":"HS256","kid":"a"}`)) + "." + part[1] + "." + part[2],
		"another algorithm":  enc([]byte(`{"alg":"PS256","kid":"a"}`)) + "." + part[1] + "." + part[2],
		"key in the token":   enc([]byte(`{"alg":"RS256","jwk":{"kty":"RSA","n":"`+enc(stranger.N.Bytes())+`","e":"AQAB"}}`)) + "." + part[1] + "." + part[2],
		"a stranger's key":   oidctest.SignIDToken(stranger, "a", "RS256", i.claims(nil)),
		"an unknown key":     oidctest.SignIDToken(stranger, "b", "RS256", i.claims(nil)),
		"claims of another":  part[0] + "." + other[1] + "." + part[2],
		"no signature":       part[0] + "." + part[1] + ".",
		"two parts":          part[0] + "." + part[1],
		"nothing":            "..",
		"something enormous": part[0] + "." + strings.Repeat("A", 1<<20) + "." + part[2],
	} {
		if c, err := o.Verify(t.Context(), token); fault.KindOf(err) != fault.Login {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	// Whatever tokens come, the provider is not asked without end.
	for n := range 50 {
		o.Verify(t.Context(), oidctest.SignIDToken(stranger, fmt.Sprint(n), "RS256", i.claims(nil)))
	}
	if n := i.asked.Load(); n > 6 {
		t.Errorf("the keys were fetched %d times", n)
	}
	if _, err := o.Verify(t.Context(), good); err != nil {
		t.Errorf("the good token does not work any more: %v", err)
	}
}

// TestOIDCKeys rotates keys and takes the provider down.
func TestOIDCKeys(t *testing.T) {
	first, second := ecKey(t), ecKey(t)
	i := newIssuer(t, public(first, "a", "ES256"))
	now := time.Now()
	o := i.verifier(t, func(o *OIDC) { o.Now = func() time.Time { return now } })
	old := oidctest.SignIDToken(first, "a", "ES256", i.claims(map[string]any{"exp": now.Add(5 * time.Hour).Unix()}))
	verify := func(what, token string, want fault.Kind) {
		t.Helper()
		if _, err := o.Verify(t.Context(), token); fault.KindOf(err) != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	i.down.Store(true)
	verify("down from the start", old, fault.Unavailable)
	i.down.Store(false)
	verify("moments later it is not asked again", old, fault.Unavailable)
	if n := i.discovery.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	now = now.Add(discoveryRetry)
	verify("up again", old, fault.None)
	i.provider.PublicKeys = []oidctest.PublicKey{public(second, "b", "ES256")}
	renewed := oidctest.SignIDToken(second, "b", "ES256", i.claims(map[string]any{"exp": now.Add(5 * time.Hour).Unix()}))
	verify("a new key", renewed, fault.None)
	verify("the key that was withdrawn", old, fault.Login)
	i.down.Store(true)
	verify("down, with a key that is known", renewed, fault.None)
	verify("down, with a key that is not", oidctest.SignIDToken(first, "c", "ES256", i.claims(nil)), fault.Unavailable)
	now = now.Add(discoveryFor)
	verify("down for longer than keys are kept", renewed, fault.Unavailable)
	i.down.Store(false)
	now = now.Add(discoveryRetry)
	verify("up again after that", renewed, fault.None)
}

// TestOIDCDiscovery refuses a provider that says it is somebody else.
func TestOIDCDiscovery(t *testing.T) {
	key := ecKey(t)
	i := newIssuer(t, public(key, "a", "ES256"))
	i.lie.Store(new("https://evil.example.org"))
	if _, err := i.verifier(t, nil).Verify(t.Context(), oidctest.SignIDToken(key, "a", "ES256", i.claims(nil))); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an issuer that is another: %v", err)
	}
	for issuer, keys := range map[string]string{"https://login.example.org": "http://login.example.org/keys", "https://a.example": "keys"} {
		if sameSecurity(issuer, keys) {
			t.Errorf("%s with keys at %s is accepted", issuer, keys)
		}
	}
	for _, bad := range []*OIDC{{ClientID: "x"}, {Issuer: "login.example.org", ClientID: "x"}, {Issuer: "https://login.example.org"}, {Issuer: "file:///etc", ClientID: "x"}} {
		if err := bad.Ready(); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q %q: %v", bad.Issuer, bad.ClientID, err)
		}
	}
}

func TestClaimWords(t *testing.T) {
	var all map[string]any
	if err := json.Unmarshal([]byte(`{"groups":["a","b",7],"one":"x","realm_access":{"roles":["r"],"deep":{"er":["d"]}},"http://x.y/groups":["u"]}`), &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"groups": "a b", "one": "x", "realm_access.roles": "r", "realm_access.deep.er": "d", "http://x.y/groups": "u", "none": "", "one.two": "", "realm_access": "", "": ""} {
		if got := strings.Join(claimWords(all, name), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestLooksLikeJWT(t *testing.T) {
	for token, want := range map[string]bool{"portreeve_0011_abc": false, "eyJhbGciOiJub25lIn0.e30.": true, "a.b.c": false, "": false, "eyJhbGciOiJub25lIn0.e30": false} {
		if LooksLikeJWT(token) != want {
			t.Errorf("%q", token)
		}
	}
}
