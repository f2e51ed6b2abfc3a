package nat

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// TestFindMapper: each kind of router is recognised, and one that speaks
// nothing, or nonsense, gives an error that says what to do.
func TestFindMapper(t *testing.T) {
	none := func(context.Context) (Mapper, error) { return nil, errors.New("no UPnP") }
	silent := router(t, func([]byte) [][]byte { return nil })
	noisy := router(t, func([]byte) [][]byte {
		return [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), {0, response}, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}}
	})
	tests := []struct {
		name    string
		at      netip.AddrPort
		upnp    func(context.Context) (Mapper, error)
		source  Source
		wan     string
		refused bool
		err     string
	}{
		{"NAT-PMP", router(t, oldRouter(0)), none, FromPCP, "198.51.100.20", false, ""},
		{"a router without an address of its own", router(t, oldRouter(3)), none, FromPCP, "", true, ""},
		{"UPnP", silent, func(context.Context) (Mapper, error) {
			return &fakeMapper{addr: ip("198.51.100.7")}, nil
		}, FromPCP, "198.51.100.7", false, ""},
		{"nothing", silent, none, "", "", false, "forward the ports by hand"},
		{"nonsense", noisy, none, "", "", false, "no UPnP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, up, err := findMapper(t.Context(), control(tt.at), tt.upnp)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || m.Source() != tt.source || up.WAN != ip(tt.wan) || up.Refused != tt.refused {
				t.Errorf("%v, %+v, %v", m, up, err)
			}
		})
	}
}

// TestNonceFromSecret: whoever has the secret can renew a mapping made before a restart.
func TestNonceFromSecret(t *testing.T) {
	var mu sync.Mutex
	nonces := map[string][]string{}
	for _, secret := range []string{"one", "one", "two"} {
		at := router(t, func(req []byte) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			nonces[secret] = append(nonces[secret], string(req[24:36]))
			b := append([]byte(nil), req...)
			b[1], b[3] = response|opMap, 0
			return [][]byte{b}
		})
		p := control(at)
		p.Secret = []byte(secret)
		for _, port := range []uint16{21, 990} {
			if _, err := p.Map(t.Context(), port, port, 1e9, Mapping{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	one, two := nonces["one"], nonces["two"]
	if one[0] != one[2] || one[1] != one[3] || one[0] == one[1] || one[0] == two[0] {
		t.Errorf("nonces %q", nonces)
	}
}
