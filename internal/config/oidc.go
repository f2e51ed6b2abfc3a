package config

import (
	"net/url"
	"slices"
	"strings"
)

// AdminScopes are the words for what an administrator may do; package admin
// owns their meaning.
var AdminScopes = []string{"read", "users", "groups", "sessions", "server", "admins", "all"}

// oidc checks [admin.oidc].
func (k *checker) oidc() {
	o := &k.c.Admin.OIDC
	if o.Issuer == "" {
		return
	}
	if len(o.Scopes) == 0 {
		o.Scopes = []string{"email", "profile"}
	}
	u, err := url.Parse(o.Issuer)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		k.fail("admin.oidc.issuer", "%q is not the issuer of a provider, such as https://login.example.org", clip(o.Issuer))
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		k.fail("admin.oidc.issuer", "keys would cross the network without protection; write https://")
	}
	if o.ClientID == "" {
		k.fail("admin.oidc.client_id", "missing; register Portreeve with the provider as a public (native) client and write its id here")
	}
	if k.c.Admin.Address == "" {
		k.fail("admin.oidc.issuer", "has no use without the HTTPS interface; set admin.address")
	}
	for _, a := range o.Administrators {
		if i := strings.LastIndexByte(a, '='); i < 1 || i == len(a)-1 {
			k.fail("admin.oidc.administrators", "%q is not VALUE=ADMINISTRATOR, such as auth0|1234=ops", clip(a))
		}
	}
	for _, r := range o.Roles {
		if i := strings.LastIndexByte(r, '='); i < 1 || i == len(r)-1 {
			k.fail("admin.oidc.roles", "%q is not GROUP=SCOPES, such as ftp-admins=all or helpdesk=read,users@partners", clip(r))
		} else {
			scopes, _, _ := strings.Cut(r[i+1:], "@")
			for w := range strings.SplitSeq(scopes, ",") {
				if w = strings.ToLower(strings.TrimSpace(w)); !slices.Contains(AdminScopes, w) {
					k.fail("admin.oidc.roles", "%q has the unknown scope %q; known are %s", clip(r), clip(w), strings.Join(AdminScopes, ", "))
				}
			}
		}
	}
}
