package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

func (k *checker) audit() {
	seen := map[string]string{}
	for i := range k.c.Audit.Files {
		f, key := &k.c.Audit.Files[i], fmt.Sprintf("audit.file[%d].path", i)
		switch {
		case f.Path == "":
			k.fail(key, "missing; name the file to write to")
		case seen[f.Path] != "":
			k.fail(key, "%s is already written to by another entry%s; name another file", printable(f.Path), k.where(seen[f.Path]))
		case f.Path == k.c.Log.File:
			k.fail(key, "%s is the server's own log (log.file); name another file", printable(f.Path))
		default:
			if _, err := os.Stat(filepath.Dir(f.Path)); os.IsNotExist(err) {
				k.fail(key, "no such directory: %s; make it, or name another file", printable(filepath.Dir(f.Path)))
			}
		}
		seen[f.Path] = key
	}
	k.ldap()
	k.geoip()
	k.traces()
	k.passwordCheck()
	k.oidc()
	if a := k.c.Admin.Address; a != "" {
		if _, err := netip.ParseAddrPort(a); err != nil {
			k.fail("admin.address", "%q is not an IP address and port, such as 127.0.0.1:8443", clip(a))
		}
	}
	if a := k.c.Metrics.Address; a != "" {
		if _, err := netip.ParseAddrPort(a); err != nil {
			k.fail("metrics.address", "%q is not an IP address and port, such as 127.0.0.1:9121", clip(a))
		}
	}
}
