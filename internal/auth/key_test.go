package auth

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	// 1024 bits.
	weakRSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC3cGtKEQVX6hJXjDqFwHQPmGXQ5c2mkRxwvYlxCdmzYf0nN0j0BO+8K1cQnM8eGdJYzoTm3rqbR0u4q0l2t2QvJ4oIIj6M6oJZyjfBkE3b9Z7w6P0v2vJjF7T8E8o0cQ6l0yUuR3e0c9oYkR6R6W8oQe9y0k1x8oD2p0v3m3xJmw=="
)

func TestParseKey(t *testing.T) {
	k, err := ParseKey("  " + `from="192.0.2.0/24,!192.0.2.7",expiry-time="20300102Z",no-pty ` + keyA + " ann@laptop \n")
	if err != nil || k.Comment != "ann@laptop" || k.Type != "ssh-ed25519" || !strings.HasPrefix(k.Fingerprint, "SHA256:") || k.From != "192.0.2.0/24,!192.0.2.7" ||
		!k.Expires.Equal(time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)) || k.Authority {
		t.Errorf("%+v, %v", k, err)
	}
	if k, err = ParseKey(`cert-authority,principals="a,b" ` + keyA); err != nil || !k.Authority || len(k.Principals) != 2 {
		t.Errorf("%+v, %v", k, err)
	}
	for line, want := range map[string]string{
		"":                                   "not an SSH public key",
		"hello":                              "not an SSH public key",
		"-----BEGIN OPENSSH PRIVATE KEY----": "private key",
		keyA + "\n" + keyB:                   "not an SSH public key",
		weakRSA:                              "too short",
		`command="x" ` + keyA:                "the option command=... cannot be honoured",
		`verify-required ` + keyA:            "verify-required",
		`from="" ` + keyA:                    "from is empty",
		`from="host.example.org" ` + keyA:    "not an IP address",
		`expiry-time="tomorrow" ` + keyA:     "is not a time",
		`principals="x" ` + keyA:             "needs cert-authority",
		"ssh-dss AAAAB3NzaC1kc3MAAAADAQAB":   "not an SSH public key",
	} {
		if _, err := ParseKey(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", line, err, want)
		}
	}
}

func TestAddressIn(t *testing.T) {
	for _, tt := range []struct {
		list, addr string
		want       bool
	}{
		{"192.0.2.0/24", "192.0.2.9", true}, {"192.0.2.0/24", "192.0.3.9", false}, {"192.0.2.0/24,!192.0.2.9", "192.0.2.9", false},
		{"!192.0.2.9", "192.0.2.8", false}, {"192.0.2.*", "192.0.2.8", true}, {"2001:db8::/32", "2001:db8::1", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true}, {"", "192.0.2.1", false}, {"*", "192.0.2.1", true}, {"192.0.2.1", "192.0.2.10", false},
	} {
		if got := addressIn(tt.list, netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s in %q: %v", tt.addr, tt.list, got)
		}
	}
}

func TestKeyExpires(t *testing.T) {
	k, err := ParseKey(`expiry-time="203001021530Z" ` + keyA)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2030, 1, 2, 15, 30, 0, 0, time.UTC)
	from := Origin{Remote: netip.MustParseAddrPort("192.0.2.1:9")}
	if k.usable(from, end.Add(-time.Second)) != nil || k.usable(from, end) == nil {
		t.Error("the key does not end when it should")
	}
}

func TestParseUserCA(t *testing.T) {
	ca, err := ParseUserCA([]byte("# us\n\n"+keyA+" ca\n"), []byte("serial: 3-5\nserial: 9\nid: lost laptop\nSHA256:abc=\n"+keyB+"\n"))
	if err != nil || len(ca.trusted) != 1 || len(ca.serials) != 2 || !ca.ids["lost laptop"] || len(ca.keys) != 2 {
		t.Errorf("%+v, %v", ca, err)
	}
	for _, bad := range []string{"serial: x", "serial: 5-3", "nonsense", "SSHKRL\n\x00"} {
		if _, err := ParseUserCA(nil, []byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := ParseUserCA([]byte(keyA+"\nnot a key\n"), nil); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v, want the line", err)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{keyA, `from="192.0.2.1",expiry-time="20300101" ` + keyA + " c", `cert-authority ` + keyB, weakRSA} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		k, err := ParseKey(line)
		if err != nil {
			return
		}
		if k.key == nil || k.Fingerprint == "" || strings.ContainsAny(k.Line, "\r\n\x00") {
			t.Errorf("%q was read as %+v", line, k)
		}
	})
}
