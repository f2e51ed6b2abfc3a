package config

import (
	"net/netip"
	"net/url"
	"strings"
)

// ldap checks [ldap].
func (k *checker) ldap() {
	l := &k.c.LDAP
	if l.URL == "" {
		return
	}
	u, err := url.Parse(l.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps":
		k.fail("ldap.url", "%q is not the URL of a directory, such as ldaps://dc.example.org", clip(l.URL))
		return
	case u.Scheme == "ldaps" && l.StartTLS:
		k.fail("ldap.start_tls", "an ldaps:// connection is protected from the start; remove it, or write ldap://")
	case u.Scheme == "ldap" && !l.StartTLS && !loopbackHost(u.Hostname()):
		k.fail("ldap.url", "passwords would cross the network in clear; write ldaps://, or set start_tls = true")
	}
	if l.Base == "" {
		k.fail("ldap.base", "missing; name where in the directory users are, such as dc=example,dc=org")
	}
	if strings.Count(l.Filter, "%u") != 1 {
		k.fail("ldap.filter", "%q must have %%u, the name of the user, once", clip(l.Filter))
	}
	if (l.BindDN == "") != (l.PasswordFile == "") {
		k.fail("ldap.bind_dn", "bind_dn and password_file belong together; set both or none")
	}
	if l.Home == "" && len(l.Groups) == 0 {
		k.fail("ldap.home", "missing; users of the directory need a home, here or from a group in ldap.groups")
	}
	for _, g := range l.Groups {
		if name, dn, ok := strings.Cut(g, "="); !ok || name == "" || !strings.Contains(dn, "=") {
			k.fail("ldap.groups", "%q is not NAME=DN, such as staff=cn=ftp,ou=groups,dc=example,dc=org", clip(g))
		}
	}
}

func loopbackHost(h string) bool {
	a, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && a.IsLoopback()
}
