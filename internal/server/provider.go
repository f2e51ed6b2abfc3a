package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
)

// Provider makes the identity provider of [admin.oidc], the zero Provider when
// there is none. The provider itself is not asked: it may be down now.
func Provider(cfg *config.Config, log *slog.Logger) (p admin.Provider, err error) {
	c := cfg.Admin.OIDC
	if c.Issuer == "" {
		return p, nil
	}
	if p.Names, err = admin.ParseNames(c.Administrators); err != nil {
		return p, fmt.Errorf("admin.oidc.administrators: %w", err)
	}
	for _, line := range c.Roles {
		r, err := admin.ParseRole(line)
		if err != nil {
			return p, fmt.Errorf("admin.oidc.roles: %w", err)
		}
		p.Roles = append(p.Roles, r)
	}
	o := &auth.OIDC{Issuer: c.Issuer, ClientID: c.ClientID, Audiences: c.Audiences, Claim: c.Claim, Groups: c.GroupsClaim,
		Timeout: c.Timeout.Std(), Skew: c.ClockSkew.Std(), Logger: log}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return p, fmt.Errorf("admin.oidc.ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return p, fmt.Errorf("admin.oidc.ca: %s holds no certificate", c.CA)
		}
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	if err := o.Ready(); err != nil {
		return p, fmt.Errorf("admin.oidc: %w", err)
	}
	p.Tokens = o
	p.SignIn = admin.SignIn{Issuer: c.Issuer, ClientID: c.ClientID, Scopes: c.Scopes}
	return p, nil
}
