package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// directory makes the verifier of [ldap], nil when there is none.
func directory(cfg *config.Config, users *store.DB, log *slog.Logger) (*auth.LDAPVerifier, error) {
	l := cfg.LDAP
	if l.URL == "" {
		return nil, nil
	}
	v := &auth.LDAPVerifier{URL: l.URL, StartTLS: l.StartTLS, BindDN: l.BindDN, Base: l.Base, Filter: l.Filter, Home: l.Home, Users: users,
		Timeout: l.Timeout.Std(), Logger: log, Groups: map[string]string{}}
	for _, g := range l.Groups {
		name, dn, _ := strings.Cut(g, "=")
		v.Groups[strings.TrimSpace(name)] = strings.TrimSpace(dn)
	}
	if l.CA != "" {
		b, err := os.ReadFile(l.CA)
		if err != nil {
			return nil, fmt.Errorf("ldap.ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("ldap.ca: %s holds no certificate", l.CA)
		}
		v.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	if l.PasswordFile != "" {
		// Read at every log-in, so that a new password needs no reload.
		v.BindPass = func() (string, error) {
			b, err := os.ReadFile(l.PasswordFile)
			line, _, _ := strings.Cut(string(b), "\n")
			return strings.TrimSuffix(line, "\r"), err
		}
	}
	return v, v.Ready()
}

// closed answers for a directory that cannot be asked at all.
type closed struct{ err error }

func (c closed) Accepts(cr auth.Credential) bool { _, ok := cr.(auth.Password); return ok }

func (c closed) Verify(context.Context, auth.Origin, auth.Credential) (auth.Identity, error) {
	return auth.Identity{}, fault.New(fault.Unavailable, "ask the directory", "", c.err)
}
