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
		v.BindPass = func() (string, error) { return firstLine(l.PasswordFile) }
	}
	return v, v.Ready()
}

// external makes the verifier of [external], nil when there is none.
func external(cfg *config.Config, users *store.DB, log *slog.Logger) (*auth.ExternalVerifier, error) {
	x := cfg.External
	if len(x.Program) == 0 && x.URL == "" {
		return nil, nil
	}
	if len(x.Program) > 0 {
		x.URL = ""
	}
	v := &auth.ExternalVerifier{Program: x.Program, URL: x.URL, Home: x.Home, Users: users, Timeout: x.Timeout.Std(), Slots: x.Parallel, Logger: log}
	if x.SecretFile != "" {
		v.Secret = func() (string, error) { return firstLine(x.SecretFile) }
	}
	return v, v.Ready()
}

// firstLine is read when it is needed, so that a new secret needs no reload.
func firstLine(file string) (string, error) {
	b, err := os.ReadFile(file)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSuffix(line, "\r"), err
}

// closed answers for a directory that cannot be asked at all.
type closed struct{ err error }

func (c closed) Accepts(cr auth.Credential) bool { _, ok := cr.(auth.Password); return ok }

func (c closed) Verify(context.Context, auth.Origin, auth.Credential) (auth.Identity, error) {
	return auth.Identity{}, fault.New(fault.Unavailable, "ask the directory", "", c.err)
}
