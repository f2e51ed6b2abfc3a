package config

import (
	"strings"
	"testing"
)

func TestExternal(t *testing.T) {
	const listen = "[[listen]]\nprotocol = \"ftps\"\naddress = \"127.0.0.1:2990\"\n"
	for section, want := range map[string]string{
		`program = ["/bin/true", "x"]`:                                   "",
		`url = "https://auth.example.org/check"`:                         "",
		`url = "http://127.0.0.1:8000/check"`:                            "",
		`url = "http://auth.example.org/check"`:                          "in clear",
		`url = "ldap://auth.example.org/check"`:                          "not the URL",
		`program = ["check"]`:                                            "not an absolute path",
		"program = [\"/bin/true\"]\nurl = \"https://auth.example.org/\"": "",
		`secret_file = "/etc/hosts"`:                                     "no url",
		`parallel = 0`:                                                   "external.parallel",
	} {
		_, err := Parse("p.toml", []byte(listen+"[external]\n"+section+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", section, err, want)
		}
	}
}
