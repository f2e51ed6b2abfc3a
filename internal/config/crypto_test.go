package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCryptoPolicies holds the table to its promises: rows that a release had
// do not change, the first one is the default, and legacy only adds.
func TestCryptoPolicies(t *testing.T) {
	def := Default().Crypto()
	if def.Name != "2026-11" || def.MinVersion != TLS12 {
		t.Errorf("the default is %s from TLS %s", def.Name, def.MinVersion)
	}
	for _, p := range cryptos {
		text := p.Text()
		for _, bad := range []string{"CBC_SHA256", "RC4", "3DES", "sha1", "-cbc", "group1-", "ssh-dss"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %s", p.Name, bad)
			}
		}
		if strings.HasPrefix(string(p.Name), legacyPrefix) {
			for _, a := range both(def.Suites, def.Curves, def.KeyExchanges, def.Ciphers, def.MACs, def.HostKeys, def.UserKeys) {
				if !strings.Contains(text, a) {
					t.Errorf("%s lacks %s", p.Name, a)
				}
			}
		}
	}
}

func TestCryptoWarnings(t *testing.T) {
	table := append([]Crypto{{Name: "2027-05"}, {Name: "2027-05-fips"}, {Name: "legacy-2027-05"}}, cryptos...)
	for _, tt := range []struct {
		name CryptoName
		fips bool
		want string
	}{
		{"", false, ""},
		{"", true, ""},
		{"2027-05", false, ""},
		{"2026-11", false, "2026-11 is older than 2027-05"},
		{"legacy-2026-11", false, "older than 2027-05"},
		{"legacy-2027-05", false, "audits object"},
		{"2027-05", true, "not approved"},
		{"2027-05-fips", true, ""},
		{"2026-11-fips", true, "older than 2027-05-fips"},
		{"2027-05-fips", false, "make fips"},
	} {
		got := cryptoWarning(tt.name, table, tt.fips)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%q, fips %v: %q", tt.name, tt.fips, got)
		}
	}
}

// TestCryptoOverrides: keys for single algorithms win, and say so.
func TestCryptoOverrides(t *testing.T) {
	read := func(text string) *Config {
		t.Helper()
		c, err := Parse(filepath.Join(t.TempDir(), "portreeve.toml"), []byte(text+"\n[[listen]]\nprotocol = \"sftp\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	warned := func(c *Config, key string) bool {
		return slices.ContainsFunc(c.Warnings(), func(e Error) bool { return e.Key == key && strings.Contains(e.Text, "overrides crypto_policy") })
	}
	c := read("[tls]\nmin_version = \"1.3\"\n[sftp]\ncompatible = true")
	if p := c.Crypto(); p.MinVersion != TLS13 || !slices.Contains(p.KeyExchanges, "ecdh-sha2-nistp256") || !slices.Contains(p.HostKeys, "ecdsa-sha2-nistp256") {
		t.Errorf("the keys do not win: %s", p.Text())
	}
	if !warned(c, "tls.min_version") || !warned(c, "sftp.compatible") {
		t.Errorf("warnings: %v", c.Warnings())
	}
	if c := read("crypto_policy = \"2026-11\"\n[tls]\nmin_version = \"1.2\""); len(c.Warnings()) != 0 {
		t.Errorf("a key that says what the policy says is warned about: %v", c.Warnings())
	}
	if c := read("crypto_policy = \"legacy-2026-11\""); len(c.Warnings()) != 1 || !slices.Contains(c.Crypto().MACs, "hmac-sha2-256") {
		t.Errorf("legacy: %v", c.Warnings())
	}
	if _, err := Parse("portreeve.toml", []byte("crypto_policy = \"2026-12\"\n[[listen]]\nprotocol = \"ftp\"")); err == nil || !strings.Contains(err.Error(), "2026-11") {
		t.Errorf("an unknown policy: %v", err)
	}
}
