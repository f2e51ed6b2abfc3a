package auth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"github.com/portreeve/portreeve/internal/fault"
)

// OIDC verifies tokens of an OpenID Connect provider: ID tokens (OpenID Connect
// Core 3.1.3.7) and access tokens that are JWTs (RFC 9068). The provider's
// addresses and keys are found by discovery, kept for an hour, and the keys
// fetched again when a token names one that is not known.
//
// It fails closed: when the keys cannot be had, the answer is
// fault.Unavailable. Fields are set before Ready; safe for concurrent use then.
type OIDC struct {
	Issuer    string        // exactly as the provider writes it
	ClientID  string        // of Portreeve at the provider; an audience that is accepted
	Audiences []string      // others, of access tokens
	Claim     string        // that names the administrator; "": email
	Groups    string        // claim with the groups; may be a path such as realm_access.roles; "": groups
	TLS       *tls.Config   // nil: the system's authorities
	Timeout   time.Duration // of one request to the provider; 0: 5 s
	Skew      time.Duration // how far the clocks may differ; 0: 1 min
	Now       func() time.Time
	Logger    *slog.Logger

	client *http.Client

	mu       sync.Mutex // held while discovering: others wait for the same answer
	verifier *oidc.IDTokenVerifier
	found    time.Time // when verifier was made
	failed   time.Time
	failure  error
}

// Claims is what a token that was verified says.
type Claims struct {
	Subject string
	Name    string // the value of OIDC.Claim
	Groups  []string
	Nonce   string
	Expires time.Time
}

const (
	discoveryFor   = time.Hour       // keys that the provider withdrew are forgotten after this
	discoveryRetry = 5 * time.Second // a provider that is down is not asked for every call
	maxAssertion   = 16 << 10        // octets of a token
	maxProviderDoc = 1 << 20         // octets of an answer of the provider
)

// signatures are the algorithms that are accepted: all of them by a key that
// the provider alone has. "none", and HMAC with a key that is public, are not
// among them whatever the provider announces.
var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// Ready must be called once, before anything else. It checks what can be
// checked without the provider; fault.Invalid.
func (o *OIDC) Ready() error {
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fault.Text(fault.Invalid, fmt.Sprintf("%q is not the issuer of a provider, such as https://login.example.org", o.Issuer))
	}
	if o.ClientID == "" {
		return fault.Text(fault.Invalid, "the client id at the provider is missing")
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Timeout, 5*time.Second)
	set(&o.Skew, time.Minute)
	if o.Claim == "" {
		o.Claim = "email"
	}
	if o.Groups == "" {
		o.Groups = "groups"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.client = providerClient(o.TLS, o.Timeout)
	return nil
}

// providerClient speaks to a provider: bounded answers, no redirects to other
// places, keys no more often than keysRate whatever tokens come.
func providerClient(c *tls.Config, timeout time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	return &http.Client{
		Transport: &bounded{next: t},
		Timeout:   timeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				return errors.New("the provider sends elsewhere, to " + r.URL.Host)
			}
			return nil
		},
	}
}

type bounded struct{ next http.RoundTripper }

// keysRate bounds how often tokens with unknown keys make us ask the provider.
func keysRate() *rate.Limiter { return rate.NewLimiter(rate.Every(5*time.Second), 5) }

// errKeysAgain: a token names a key that is not known, moments after the keys
// were fetched. It is a bad token, not a provider that is down.
var errKeysAgain = errors.New("no key of the provider fits, and the keys were fetched a moment ago")

type keysRequest struct{}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if l, ok := r.Context().Value(keysRequest{}).(*rate.Limiter); ok && !l.Allow() {
		return nil, errKeysAgain
	}
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxProviderDoc), resp.Body}
	}
	return resp, err
}

// keySet keeps apart a signature that is wrong from keys that cannot be had;
// the library tells both in one text.
type keySet struct{ remote *oidc.RemoteKeySet }

type downKey struct{}

func (k keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, jwt)
	var ue *url.Error
	if down, _ := ctx.Value(downKey{}).(*error); down != nil && err != nil && !errors.Is(err, errKeysAgain) &&
		(errors.As(err, &ue) || strings.HasPrefix(err.Error(), "fetching keys") || ctx.Err() != nil) {
		*down = err
	}
	return payload, err
}

// provider returns the verifier, by discovery when it is not known or an hour old.
func (o *OIDC) provider(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.Now()
	if o.verifier != nil && now.Sub(o.found) < discoveryFor {
		return o.verifier, nil
	}
	if o.failure != nil && now.Sub(o.failed) < discoveryRetry {
		return nil, o.failure
	}
	// What is found serves all callers, so it must not end with this one.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), o.client)
	p, err := oidc.NewProvider(ctx, o.Issuer)
	var meta struct {
		Keys string `json:"jwks_uri"`
	}
	if err == nil {
		err = p.Claims(&meta)
	}
	if err == nil && !sameSecurity(o.Issuer, meta.Keys) {
		err = fmt.Errorf("it names keys at %q, which would be fetched without protection", meta.Keys)
	}
	if err != nil {
		o.failed, o.failure, o.verifier = now, o.down(err), nil
		return nil, o.failure
	}
	remote := oidc.NewRemoteKeySet(context.WithValue(ctx, keysRequest{}, keysRate()), meta.Keys)
	o.verifier = oidc.NewVerifier(o.Issuer, keySet{remote}, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: signatures,
		Now: func() time.Time { return o.Now().Add(-o.Skew) }})
	o.found, o.failure = now, nil
	return o.verifier, nil
}

// sameSecurity refuses to go from an issuer with TLS to keys without.
func sameSecurity(issuer, keys string) bool {
	k, err := url.Parse(keys)
	return err == nil && k.Host != "" && (k.Scheme == "https" || strings.HasPrefix(issuer, "http://"))
}

func (o *OIDC) down(err error) error {
	o.Logger.Error("the identity provider cannot be asked; its administrators are refused until it can", "issuer", o.Issuer, "err", err)
	return fault.Text(fault.Unavailable, fmt.Sprintf("the identity provider %s cannot be asked, so its tokens are refused; tokens of \"portreeve token add\" and the control socket work on", o.Issuer))
}

// Verify checks a token and returns what it says: signature, issuer, audience,
// times within Skew, and for an email that the provider has verified it.
// Faults: Login when the token is no good, for the log; Unavailable.
func (o *OIDC) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > maxAssertion || strings.Count(raw, ".") != 2 {
		return Claims{}, bad("not a signed token")
	}
	v, err := o.provider(ctx)
	if err != nil {
		return Claims{}, err
	}
	var down error
	t, err := v.Verify(context.WithValue(ctx, downKey{}, &down), raw)
	switch {
	case down != nil:
		return Claims{}, o.down(down)
	case err != nil:
		return Claims{}, bad(strings.TrimPrefix(err.Error(), "oidc: "))
	case !t.IssuedAt.IsZero() && t.IssuedAt.After(o.Now().Add(o.Skew)):
		return Claims{}, bad("the token comes from the future: the clocks differ too much")
	}
	var all map[string]any
	if err := t.Claims(&all); err != nil {
		return Claims{}, bad(err.Error())
	}
	if all["events"] != nil { // a logout token is signed with the same keys, for the same client
		return Claims{}, bad("the token tells of an event and stands for nobody")
	}
	if err := o.audience(t.Audience, all); err != nil {
		return Claims{}, err
	}
	c := Claims{Subject: t.Subject, Nonce: t.Nonce, Expires: t.Expiry, Groups: claimWords(all, o.Groups)}
	if c.Name, err = o.name(all); err != nil {
		return Claims{}, err
	}
	return c, nil
}

// audience refuses a token that was made for another service.
func (o *OIDC) audience(aud []string, all map[string]any) error {
	fits := func(a string) bool { return a == o.ClientID || slices.Contains(o.Audiences, a) }
	if !slices.ContainsFunc(aud, fits) {
		return bad(fmt.Sprintf("the token is for %q and not for %s", aud, o.ClientID))
	}
	// An ID token for several services says who asked for it (Core 3.1.3.7, 4 and 5).
	if azp, _ := all["azp"].(string); azp != "" && azp != o.ClientID && !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(o.Audiences, a) }) {
		return bad(fmt.Sprintf("the token was made for the client %q and not for %s", azp, o.ClientID))
	}
	return nil
}

func (o *OIDC) name(all map[string]any) (string, error) {
	v, _ := all[o.Claim].(string)
	if v == "" {
		return "", bad(fmt.Sprintf("the token has no claim %q, which names the administrator", o.Claim))
	}
	if o.Claim != "email" {
		return v, nil
	}
	// Who may type any address at the provider must not become its owner here.
	// Some providers write the word as a string.
	if ok := all["email_verified"]; ok != true && ok != "true" {
		return "", bad(fmt.Sprintf("the provider does not say that the address %q is verified", v))
	}
	return strings.ToLower(v), nil
}

// claimWords reads a claim that is a text or a list of texts. The name is
// tried as it is, then as a path into objects.
func claimWords(all map[string]any, name string) []string {
	v, ok := all[name]
	for !ok {
		first, rest, more := strings.Cut(name, ".")
		if all, _ = all[first].(map[string]any); !more || all == nil {
			return nil
		}
		name = rest
		v, ok = all[name]
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// LooksLikeJWT tells a signed token of a provider from one of our own.
func LooksLikeJWT(token string) bool {
	head, _, ok := strings.Cut(token, ".")
	if !ok || strings.Count(token, ".") != 2 {
		return false
	}
	b, err := decodeSegment(head)
	return err == nil && json.Valid(b)
}
