package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/portreeve/portreeve/internal/fault"
)

// SignIn gets a token of an OpenID Connect provider for a person at a command
// line. Both ways use PKCE (RFC 7636) or a device code, so a client secret is
// not needed unless the provider insists.
type SignIn struct {
	Issuer, ClientID string
	Secret           string   // "": a public client
	Scopes           []string // besides openid
	TLS              *tls.Config
	Timeout          time.Duration // of one request; 0: 10 s
}

// Assertion is a token that stands for a person until it expires.
type Assertion struct {
	Token   string // the ID token
	Expires time.Time
}

// String keeps the token out of every formatted print.
func (Assertion) String() string { return "***" }

func (s *SignIn) start(ctx context.Context) (context.Context, *oidc.Provider, *oauth2.Config, error) {
	if s.Timeout <= 0 {
		s.Timeout = 10 * time.Second
	}
	ctx = oidc.ClientContext(ctx, providerClient(s.TLS, s.Timeout))
	p, err := oidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		return nil, nil, nil, fault.Text(fault.Unavailable, fmt.Sprintf("the identity provider %s cannot be asked: %v", s.Issuer, err))
	}
	c := &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.Secret, Endpoint: p.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, s.Scopes...)}
	if s.Secret == "" {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client has nothing to authenticate with
	}
	return ctx, p, c, nil
}

// Code logs in by the authorization code flow. show gets the address to open
// in a browser on this machine, which comes back to 127.0.0.1 at the port (RFC
// 8252 section 7.3; 0: any). It waits until ctx ends.
// Faults: Unavailable, Login, Canceled.
func (s *SignIn) Code(ctx context.Context, port int, show func(url string)) (Assertion, error) {
	octx, p, c, err := s.start(ctx)
	if err != nil {
		return Assertion{}, err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return Assertion{}, fault.Text(fault.Unavailable, fmt.Sprintf("no port for the browser to come back to: %v; choose another with --port, or use --device", err))
	}
	c.RedirectURL = fmt.Sprintf("http://%s/callback", ln.Addr())
	state, nonce, verifier := random(), random(), oauth2.GenerateVerifier()
	type answer struct {
		code string
		err  error
	}
	got := make(chan answer, 1)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		// Anybody on this machine can call here: without the state it means nothing.
		if r.URL.Path != "/callback" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.Error(w, "This is not the log-in that portreeve waits for.", http.StatusBadRequest)
			return
		}
		a := answer{code: q.Get("code")}
		switch iss := q.Get("iss"); {
		case iss != "" && iss != s.Issuer: // RFC 9207: an answer of another provider, mixed in
			a.err = fault.Text(fault.Login, fmt.Sprintf("the answer comes from %q and not from %s", iss, s.Issuer))
		case q.Get("error") != "" || a.code == "":
			a.err = fault.Text(fault.Login, fmt.Sprintf("the identity provider refused: %s %s", printable(q.Get("error")), printable(q.Get("error_description"))))
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if a.err == nil {
			fmt.Fprintln(w, "Logged in. You can close this window.")
		} else {
			fmt.Fprintln(w, "Not logged in. The command line says why.")
		}
		select {
		case got <- a:
		default: // the page was loaded again
		}
	})}
	go srv.Serve(ln)
	defer srv.Close()
	show(c.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
	var a answer
	select {
	case <-ctx.Done():
		return Assertion{}, fault.New(fault.Canceled, "wait for the browser", "", ctx.Err())
	case a = <-got:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	srv.Shutdown(end) // lets the page reach the browser
	if a.err != nil {
		return Assertion{}, a.err
	}
	t, err := c.Exchange(octx, a.code, oauth2.VerifierOption(verifier))
	if err != nil {
		return Assertion{}, exchangeError(s.Issuer, err)
	}
	return s.check(octx, p, t, nonce)
}

// Device logs in with a browser on any machine (RFC 8628). show gets the
// address and the code to type there.
// Faults: Unavailable, Unsupported, Login, Canceled.
func (s *SignIn) Device(ctx context.Context, show func(url, code, direct string)) (Assertion, error) {
	octx, p, c, err := s.start(ctx)
	if err != nil {
		return Assertion{}, err
	}
	if c.Endpoint.DeviceAuthURL == "" {
		return Assertion{}, fault.Text(fault.Unsupported, fmt.Sprintf("the identity provider %s has no log-in by device code; leave out --device", s.Issuer))
	}
	d, err := c.DeviceAuth(octx)
	if err != nil {
		return Assertion{}, exchangeError(s.Issuer, err)
	}
	show(printable(d.VerificationURI), printable(d.UserCode), printable(d.VerificationURIComplete))
	t, err := c.DeviceAccessToken(octx, d)
	if err != nil {
		if ctx.Err() != nil {
			return Assertion{}, fault.New(fault.Canceled, "wait for the browser", "", ctx.Err())
		}
		return Assertion{}, exchangeError(s.Issuer, err)
	}
	return s.check(octx, p, t, "")
}

// check verifies the ID token as the client it was made for.
func (s *SignIn) check(ctx context.Context, p *oidc.Provider, t *oauth2.Token, nonce string) (Assertion, error) {
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return Assertion{}, fault.Text(fault.Login, "the identity provider gave no ID token")
	}
	id, err := p.VerifierContext(ctx, &oidc.Config{ClientID: s.ClientID, SupportedSigningAlgs: signatures}).Verify(ctx, raw)
	if err != nil {
		return Assertion{}, fault.Text(fault.Login, "the ID token is not valid: "+strings.TrimPrefix(err.Error(), "oidc: "))
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 {
		return Assertion{}, fault.Text(fault.Login, "the ID token belongs to another log-in (its nonce differs)")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(t.AccessToken); err != nil {
			return Assertion{}, fault.Text(fault.Login, "the ID token belongs to another access token")
		}
	}
	return Assertion{Token: raw, Expires: id.Expiry}, nil
}

func exchangeError(issuer string, err error) error {
	var re *oauth2.RetrieveError
	if errors.As(err, &re) && re.ErrorCode != "" {
		return fault.Text(fault.Login, fmt.Sprintf("the identity provider refused: %s %s", printable(re.ErrorCode), printable(re.ErrorDescription)))
	}
	return fault.Text(fault.Unavailable, fmt.Sprintf("the identity provider %s cannot be asked: %v", issuer, err))
}

// printable makes text of others fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

func random() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func decodeSegment(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
