package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestOIDC(t *testing.T) {
	const good = `issuer = "https://login.example.org"` + "\n" + `client_id = "portreeve"` + "\n"
	for _, c := range []struct{ keys, says string }{
		{good, ""},
		{good + `roles = ["ftp-admins=all", "cn=a,dc=b=read, users@partners,guests"]` + "\n" + `administrators = ["auth0|1=ops"]`, ""},
		{`issuer = "http://127.0.0.1:8080"` + "\n" + `client_id = "x"`, ""},
		{``, ""},
		{`issuer = "http://login.example.org"` + "\n" + `client_id = "x"`, "write https://"},
		{`issuer = "login.example.org"` + "\n" + `client_id = "x"`, "is not the issuer of a provider"},
		{`issuer = "https://login.example.org"`, "admin.oidc.client_id: missing"},
		{good + `roles = ["all"]`, "is not GROUP=SCOPES"},
		{good + `roles = ["chiefs=everything"]`, `the unknown scope "everything"`},
		{good + `roles = ["chiefs="]`, "is not GROUP=SCOPES"},
		{good + `administrators = ["ops"]`, "is not VALUE=ADMINISTRATOR"},
		{good + `clock_skew = "1h"`, "clock_skew"},
		{good + `ca = "/nowhere/ca.pem"`, "no such file"},
	} {
		_, err := Parse("portreeve.toml", []byte(fmt.Sprintf("data_dir = %q\n[admin]\naddress = \"127.0.0.1:8443\"\n[admin.oidc]\n%s\n[[listen]]\nprotocol = \"ftp\"\n", t.TempDir(), c.keys)))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.keys, err, c.says)
		}
	}
	if _, err := Parse("portreeve.toml", []byte("data_dir = \"/tmp\"\n[admin.oidc]\n"+good+"[[listen]]\nprotocol = \"ftp\"\n")); err == nil || !strings.Contains(err.Error(), "set admin.address") {
		t.Errorf("a provider without the interface: %v", err)
	}
}
