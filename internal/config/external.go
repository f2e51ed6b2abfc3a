package config

import (
	"net/url"
	"path/filepath"
)

// passwordCheck checks [external].
func (k *checker) passwordCheck() {
	x := &k.c.External
	if len(x.Program) > 0 && x.URL != "" {
		k.warning("external.url", "it is not asked, because there is a program; remove one of them")
	}
	if len(x.Program) > 0 && !filepath.IsAbs(x.Program[0]) {
		k.fail("external.program", "%q is not an absolute path; the program is not looked for", clip(x.Program[0]))
	}
	if x.URL == "" {
		if x.SecretFile != "" {
			k.fail("external.secret_file", "there is no url to send it to")
		}
		return
	}
	u, err := url.Parse(x.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		k.fail("external.url", "%q is not the URL of a service, such as https://auth.example.org/check", clip(x.URL))
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		k.fail("external.url", "passwords would cross the network in clear; write https://")
	}
}
