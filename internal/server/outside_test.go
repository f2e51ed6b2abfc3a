package server

import (
	"bytes"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/ports"
)

// TestPlannedPorts: what a router is asked for is what the plan needs, and a
// long range is refused with the ways out.
func TestPlannedPorts(t *testing.T) {
	cfg := config.Default()
	cfg.Listen = []config.Listen{
		{Name: "a", Protocol: config.ProtocolFTP, Address: ":2121", TLS: config.Required, DataTLS: config.Required},
		{Name: "b", Protocol: config.ProtocolSFTP, Address: "[::]:2222"}, {Name: "c", Protocol: config.ProtocolFTP, Address: "127.0.0.1:2323", PassivePorts: &config.PortRange{First: 3000, Last: 3001}}}
	cfg.FTP.Passive.Ports = config.PortRange{First: 50000, Last: 50002}
	plan := ports.Compile(cfg, ports.HostFacts{})
	got, err := PlannedPorts(&plan)
	if err != nil || len(got) != 4 || got[0] != 2121 || got[3] != 50002 {
		t.Errorf("%v, %v: not 2121 and 50000-50002", got, err)
	}
	cfg.FTP.Passive.Ports.Last = 50999
	plan = ports.Compile(cfg, ports.HostFacts{})
	if _, err := PlannedPorts(&plan); err == nil || !strings.Contains(err.Error(), "ftp.passive.shared") {
		t.Errorf("1000 ports: %v", err)
	}
	cfg.FTP.Passive.Shared = ":989" // TLS is required, so nothing needs the range
	plan = ports.Compile(cfg, ports.HostFacts{})
	if got, err := PlannedPorts(&plan); err != nil || len(got) != 2 {
		t.Errorf("%v, %v: not 989 and 2121", got, err)
	}
}

func TestMappingSecret(t *testing.T) {
	dir := t.TempDir()
	a, err := MappingSecret(dir)
	b, err2 := MappingSecret(dir)
	if err != nil || err2 != nil || len(a) != 32 || !bytes.Equal(a, b) {
		t.Errorf("%x %v, then %x %v", a, err, b, err2)
	}
}
