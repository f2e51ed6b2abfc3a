package ports

import (
	"testing"

	"github.com/portreeve/portreeve/internal/config"
)

// TestSharedPortNeedsTwoPorts: with a shared port FTPS needs its control port
// and that one, and no range.
func TestSharedPortNeedsTwoPorts(t *testing.T) {
	for _, tc := range []struct {
		name, extra, more string
		want              []PortRange
	}{
		{"protected only", "", "", []PortRange{{989, 990}}},
		{"clear data too", "data_tls = \"offered\"", "", []PortRange{{989, 990}, {50000, 50999}}},
		{"fallback to the range", "", "shared_fallback = \"range\"\n", []PortRange{{989, 990}, {50000, 50999}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := config.Parse("t.toml", []byte("data_dir = \""+t.TempDir()+"\"\n[[listen]]\nprotocol = \"ftps\"\naddress = \":990\"\n"+tc.extra+"\n[ftp.passive]\nports = \"50000-50999\"\nshared = \":989\"\n"+tc.more))
			if err != nil {
				t.Fatal(err)
			}
			plan := Compile(cfg, HostFacts{})
			open := plan.Inbound()
			if len(open) != 1 || len(open[0].Ports) != len(tc.want) {
				t.Fatalf("inbound %+v, want %v", open, tc.want)
			}
			for i, r := range tc.want {
				if open[0].Ports[i] != r {
					t.Errorf("inbound %v, want %v", open[0].Ports, tc.want)
				}
			}
		})
	}
}
