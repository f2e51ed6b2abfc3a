package config

import (
	"strings"
	"testing"
)

// TestGeoIPSettings: mistakes that would make a rule that never holds are told.
func TestGeoIPSettings(t *testing.T) {
	for toml, want := range map[string]string{
		"deny = [\"DE\"]":      "geoip.database: missing",
		"unknown = \"deny\"":   "geoip.database: missing",
		"deny = [\"UK\"]":      "the United Kingdom is GB",
		"allow = [\"EU\"]":     "is not the code of a country",
		"allow = [\"DEU\"]":    "is not the code of a country",
		"unknown = \"refuse\"": "is not one of allow, deny",
		"database = \"/none\"": "no such file",
		"allow = [\"de\"]\ndeny = [\"DE\"]\ndatabase = \"../limits/testdata/countries.mmdb\"": "DE is in geoip.allow",
	} {
		_, err := Parse("portreeve.toml", []byte("[[listen]]\nprotocol = \"ftp\"\n[geoip]\n"+toml+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", toml, err)
		}
	}
}
