package server

import (
	"log/slog"
	"testing"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/config"
)

// TestProviderTakesEveryScope: the words that the configuration knows are
// those of the administration.
func TestProviderTakesEveryScope(t *testing.T) {
	if len(config.AdminScopes) != len(admin.Scopes)+1 { // and "all"
		t.Errorf("the configuration knows %v, the administration %v", config.AdminScopes, admin.Scopes)
	}
	cfg := config.Default()
	if p, err := Provider(cfg, slog.Default()); err != nil || p.Tokens != nil {
		t.Errorf("without an issuer: %+v, %v", p, err)
	}
	cfg.Admin.OIDC.Issuer, cfg.Admin.OIDC.ClientID = "https://login.example.org", "portreeve"
	for _, s := range config.AdminScopes {
		cfg.Admin.OIDC.Roles = append(cfg.Admin.OIDC.Roles, "g="+s)
	}
	p, err := Provider(cfg, slog.Default())
	if err != nil || p.Tokens == nil || len(p.Roles) != len(config.AdminScopes) || p.SignIn.ClientID != "portreeve" {
		t.Errorf("%+v, %v", p, err)
	}
	cfg.Admin.OIDC.Roles = []string{"g=server@partners"}
	if _, err := Provider(cfg, slog.Default()); err == nil {
		t.Error("a limited role may have a scope that has no limits")
	}
}
