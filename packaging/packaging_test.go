// Package packaging holds no code: unit, package and container files, and a
// test of them.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
)

// TestUnitExposure rates the unit with systemd's own tool, where there is one,
// and looks for the settings that matter most in any case.
func TestUnitExposure(t *testing.T) {
	b, err := os.ReadFile("systemd/portreeve.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Type=notify", "NotifyAccess=main", "ExecStop=/usr/bin/portreeve stop --config /etc/portreeve/portreeve.toml", "User=portreeve", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
		"PrivateDevices=yes", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "LimitNOFILE=65536", "WatchdogSec=30", "OOMPolicy=continue"} {
		if !strings.Contains(string(b), "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here; the exposure is not rated")
		return
	}
	out, err := exec.Command(tool, "security", "--offline=true", "--no-pager", "systemd/portreeve.service").CombinedOutput()
	m := regexp.MustCompile(`exposure level for portreeve.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if v, _ := strconv.ParseFloat(string(m[1]), 64); v > 2.0 {
		t.Errorf("exposure %s, want 2.0 at most\n%s", m[1], out)
	}
}

// TestShippedConfigurations loads what the packages and the container install.
func TestShippedConfigurations(t *testing.T) {
	for _, name := range []string{"portreeve.toml", "container/portreeve.toml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Parse(filepath.Join(t.TempDir(), "portreeve.toml"), b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(cfg.Warnings()) > 0 {
			t.Errorf("%s: %v", name, cfg.Warnings())
		}
	}
}

// TestPackageContents checks that every file a package takes from the tree exists.
func TestPackageContents(t *testing.T) {
	b, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile(`(?m)(?:src|preinstall|postinstall|preremove|postremove): (\S+)$`).FindAllSubmatch(b, -1) {
		name := string(m[1])
		if strings.HasPrefix(name, "bin/") {
			continue // built
		}
		found++
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Error(err)
		}
	}
	if found < 8 {
		t.Errorf("only %d files are taken from the tree", found)
	}
	user, _ := os.ReadFile("sysusers.conf")
	if pre, err := os.ReadFile("scripts/preinstall"); err != nil || len(user) == 0 || !strings.Contains(string(pre), string(user)) {
		t.Errorf("the user in sysusers.conf and the one in scripts/preinstall differ (%v)", err)
	}
	for _, s := range []string{"preinstall", "postinstall", "preremove", "postremove"} {
		if out, err := exec.Command("sh", "-n", "scripts/"+s).CombinedOutput(); err != nil {
			t.Errorf("scripts/%s: %v\n%s", s, err, out)
		}
	}
}
