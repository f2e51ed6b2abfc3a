package limits

import (
	"bytes"
	"encoding/binary"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/countries.mmdb")

// fixture is the database of the tests, made of networks for documentation. A
// record without a country is one that the database knows no country of.
func fixture() []byte {
	country := func(code string) []byte { return mmMap("country", mmMap("iso_code", mmString(code))) }
	return mmFile(map[string][]byte{
		"203.0.113.0/24": country("DE"), "198.51.100.0/25": country("FR"), "198.51.100.128/25": country("KP"),
		"192.0.2.0/24": mmMap("continent", mmString("EU")), "2001:db8:1::/48": mmMap("country_code", mmString("JP")),
		"10.0.0.0/8": country("KP"), "127.0.0.0/8": country("KP"), "100.64.0.0/10": country("KP"),
	})
}

// What follows writes the MaxMind DB format, version 2.0: a binary tree of
// address bits with records of 24 bits, 16 zeros, the data, and the metadata
// behind a marker. IPv4 is below ::/96.

func mmControl(kind, size int) []byte {
	if kind > 7 {
		return []byte{byte(size), byte(kind - 7)}
	}
	return []byte{byte(kind<<5 | size)}
}

func mmString(s string) []byte { return append(mmControl(2, len(s)), s...) } // shorter than 29

func mmUint(kind int, v uint64) []byte {
	b := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, v), "\x00")
	return append(mmControl(kind, len(b)), b...)
}

func mmMap(pairs ...any) []byte {
	b := mmControl(7, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		b = append(append(b, mmString(pairs[i].(string))...), pairs[i+1].([]byte)...)
	}
	return b
}

func mmFile(records map[string][]byte) []byte {
	type node struct{ next, data [2]int } // 0: none; an index or offset, plus one
	nodes := []node{{}}
	var data []byte
	var names []string
	for n := range records {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		p := netip.MustParsePrefix(n)
		a, bits := p.Addr().As16(), p.Bits()
		if p.Addr().Is4() {
			a, bits = netip.AddrFrom16([16]byte(append(make([]byte, 12), p.Addr().AsSlice()...))).As16(), bits+96
		}
		at := 0
		for i := range bits {
			side := int(a[i/8] >> (7 - i%8) & 1)
			if i == bits-1 {
				nodes[at].data[side] = len(data) + 1
				break
			}
			if nodes[at].next[side] == 0 {
				nodes = append(nodes, node{})
				nodes[at].next[side] = len(nodes)
			}
			at = nodes[at].next[side] - 1
		}
		data = append(data, records[n]...)
	}
	var b []byte
	for _, n := range nodes {
		for side := range 2 {
			v := len(nodes)
			switch {
			case n.data[side] > 0:
				v = len(nodes) + 16 + n.data[side] - 1
			case n.next[side] > 0:
				v = n.next[side] - 1
			}
			b = append(b, byte(v>>16), byte(v>>8), byte(v))
		}
	}
	b = append(append(b, make([]byte, 16)...), data...)
	b = append(b, "\xab\xcd\xefMaxMind.com"...)
	return append(b, mmMap("binary_format_major_version", mmUint(5, 2), "binary_format_minor_version", mmUint(5, 0), "build_epoch", mmUint(9, 1_790_000_000),
		"database_type", mmString("Portreeve-Test-Country"), "description", mmMap("en", mmString("made by a test")), "ip_version", mmUint(5, 6),
		"languages", append(mmControl(11, 1), mmString("en")...), "node_count", mmUint(6, uint64(len(nodes))), "record_size", mmUint(5, 24))...)
}

func TestFixtureIsFresh(t *testing.T) {
	file := filepath.Join("testdata", "countries.mmdb")
	if *update {
		os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile(file, fixture(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, fixture()) {
		t.Errorf("%s is not what this test makes (%v); run: go test ./internal/limits -run Fixture -update", file, err)
	}
}

func TestCountries(t *testing.T) {
	atlas, err := OpenAtlas(filepath.Join("testdata", "countries.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	if atlas.Kind() != "Portreeve-Test-Country" || atlas.Made().Year() != 2026 {
		t.Errorf("%q made %s", atlas.Kind(), atlas.Made())
	}
	for _, tt := range []struct {
		allow, deny string
		unknown     bool // denied
		addr, why   string
	}{
		{"", "", false, "198.51.100.200", ""},
		{"", "KP", false, "198.51.100.200", "country KP denied"},
		{"", "KP", false, "::ffff:198.51.100.200", "country KP denied"},
		{"", "KP", false, "198.51.100.1", ""},
		{"DE FR", "", false, "203.0.113.9", ""},
		{"DE FR", "", false, "198.51.100.200", "country KP not allowed"},
		{"DE", "", false, "2001:db8:1::5", "country JP not allowed"},
		{"JP", "", false, "2001:db8:1::5", ""},
		{"JP", "", false, "2001:db8:1::5%eth0", ""},
		{"DE", "DE", false, "203.0.113.9", "country DE denied"},
		// Not known: no record, or one without a country.
		{"DE", "", false, "192.0.2.1", ""},
		{"DE", "", false, "2001:db8:2::1", ""},
		{"DE", "", true, "192.0.2.1", "country not known"},
		{"", "", true, "2001:db8:2::1", "country not known"},
		// Of no country, whatever the database says.
		{"DE", "KP", true, "10.1.2.3", ""},
		{"DE", "KP", true, "127.0.0.1", ""},
		{"DE", "KP", true, "::1", ""},
		{"DE", "KP", true, "100.64.3.4", ""},
		{"DE", "KP", true, "fe80::1%eth0", ""},
		{"DE", "KP", true, "fd00::1", ""},
		{"DE", "KP", true, "169.254.1.1", ""},
		// Never banned, and denied by network.
		{"DE", "KP", true, "198.51.100.129", ""},
		{"", "FR", false, "203.0.113.200", "denied"},
	} {
		l := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.129/32")}})
		l.SetDoors(nil, []netip.Prefix{netip.MustParsePrefix("203.0.113.200/32")})
		l.SetCountries(Countries{Atlas: atlas, Allow: strings.Fields(tt.allow), Deny: strings.Fields(tt.deny), DenyUnknown: tt.unknown})
		if why, shut := l.Shut(netip.MustParseAddr(tt.addr)); why != tt.why || shut != (tt.why != "") {
			t.Errorf("%s with allow %q, deny %q, unknown denied %v: %q, %v", tt.addr, tt.allow, tt.deny, tt.unknown, why, shut)
		}
		l.SetCountries(Countries{})
		if why, shut := l.Shut(netip.MustParseAddr(tt.addr)); shut && why != "denied" {
			t.Errorf("%s without a database: %s", tt.addr, why)
		}
	}
}

// TestBrokenAtlas: a file that was cut, changed or is something else is refused
// with its name, and no byte in it makes the look-up panic.
func TestBrokenAtlas(t *testing.T) {
	good := fixture()
	file := filepath.Join(t.TempDir(), "x.mmdb")
	for name, b := range map[string][]byte{"empty": {}, "half": good[:len(good)/2], "no end": good[:len(good)-40], "text": []byte(strings.Repeat("<html>not found</html>", 500)),
		"no beginning": good[300:], "zeros": make([]byte, 5000)} {
		os.WriteFile(file, b, 0o600)
		if _, err := OpenAtlas(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenAtlas(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("missing: %v", err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8:1::5"), netip.MustParseAddr("198.51.100.200")}
	for i := range good {
		for _, v := range []byte{0x00, 0xff, good[i] ^ 0x20} {
			b := bytes.Clone(good)
			b[i] = v
			if a, err := newAtlas(file, b); err == nil {
				for _, addr := range addrs {
					a.Country(addr)
				}
			}
		}
	}
}
