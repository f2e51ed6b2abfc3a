package config

import (
	"strings"
	"testing"
)

func TestAuditAndMetrics(t *testing.T) {
	dir := t.TempDir()
	head := "[[listen]]\nprotocol = \"ftp\"\naddress = \"127.0.0.1:2121\"\n"
	tests := []struct{ toml, want string }{
		{"[[audit.file]]\npath = \"x.log\"\nformat = \"w3c\"\nmax_size = \"1MB\"\n[metrics]\naddress = \"127.0.0.1:9121\"\n", ""},
		{"[[audit.file]]\nformat = \"w3c\"\n", "audit.file.path: missing"},
		{"[[audit.file]]\npath = \"no/x.log\"\n", "no such directory"},
		{"[[audit.file]]\npath = \"x.log\"\n[[audit.file]]\npath = \"x.log\"\n", "already written to"},
		{"[log]\nfile = \"x.log\"\n[[audit.file]]\npath = \"x.log\"\n", "the server's own log"},
		{"[[audit.file]]\npath = \"x.log\"\nformat = \"cef\"\n", "not one of json, text, xferlog, w3c"},
		{"[metrics]\naddress = \"localhost\"\n", "not an IP address and port"},
		{"[limits]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]\nhalf_open = -1\n", "too small"},
	}
	for _, tt := range tests {
		c, err := Parse(dir+"/portreeve.toml", []byte(tt.toml+head))
		switch {
		case tt.want == "" && (err != nil || c.Audit.Files[0].Keep != 10 || c.Audit.Files[0].Format != "w3c"):
			t.Errorf("%s: %v", tt.toml, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.toml, err, tt.want)
		}
	}
	c, err := Parse(dir+"/portreeve.toml", []byte("[metrics]\naddress = \"0.0.0.0:9121\"\n"+head))
	if err != nil || !strings.Contains(c.Warnings().Error(), "can read the counters") {
		t.Errorf("an open metrics page: %v, warnings %v", err, c.Warnings())
	}
}
