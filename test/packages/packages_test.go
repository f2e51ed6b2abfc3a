//go:build package

package packages

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/sandbox"
)

const conf = "/etc/portreeve/portreeve.toml"

// TestReproducible makes the same packages twice, from files with other dates.
func TestReproducible(t *testing.T) {
	sums := func() [2][32]byte {
		deb, rpm := build(t, "0.2.0")
		var s [2][32]byte
		for i, name := range []string{deb, rpm} {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s[i] = sha256.Sum256(b)
		}
		return s
	}
	one := sums()
	now := time.Now()
	for _, name := range []string{"packaging/portreeve.toml", "packaging/systemd/portreeve.service", "packaging/scripts/postinstall"} {
		if err := os.Chtimes(filepath.Join(top(t), name), now, now); err != nil {
			t.Fatal(err)
		}
	}
	if two := sums(); one != two {
		t.Errorf("the same sources made other packages: %x, %x", one, two)
	}
}

// older is the deb of an earlier release: another version, and another
// configuration file as it was shipped then.
func older(t *testing.T) string {
	t.Helper()
	deb, _ := build(t, "0.1.0")
	dir := filepath.Join(t.TempDir(), "old")
	run(t, "dpkg-deb", "-R", deb, dir)
	f, err := os.OpenFile(dir+conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("# of an earlier release\n")
	f.Close()
	out := filepath.Join(t.TempDir(), "old.deb")
	run(t, "dpkg-deb", "--root-owner-group", "-b", dir, out)
	return out
}

// TestDeb is the life of the service on one machine: installed, started,
// used, upgraded under a session, started by a socket, removed, purged.
func TestDeb(t *testing.T) {
	old := older(t)
	deb, _ := build(t, "0.2.0")
	m := boot(t)
	m.put(old, "/opt/old.deb")
	m.put(deb, "/opt/new.deb")

	m.run("dpkg", "-i", "/opt/old.deb")
	if out, _ := m.try("systemctl", "is-active", "portreeve.service"); strings.TrimSpace(out) == "active" {
		t.Error("the installation started the service by itself")
	}
	for dir, want := range map[string]string{"/etc/portreeve": "root:portreeve 750", conf: "root:portreeve 640", "/var/lib/portreeve": "portreeve:portreeve 700", "/var/log/portreeve": "portreeve:portreeve 750"} {
		if got := m.run("stat", "-c", "%U:%G %a", dir); got != want {
			t.Errorf("%s is %s, want %s", dir, got, want)
		}
	}
	for _, name := range []string{"/usr/share/man/man1/portreeve.1.gz", "/usr/share/bash-completion/completions/portreeve", "/usr/lib/sysusers.d/portreeve.conf", "/usr/lib/tmpfiles.d/portreeve.conf"} {
		if !there(m.root, name) && !strings.Contains(name, "/man/") {
			t.Errorf("%s is not there", name)
		}
		if !strings.Contains(m.run("dpkg", "-L", "portreeve"), name) {
			t.Errorf("the package has no %s", name)
		}
	}
	m.run("sh", "-c", "echo correct-horse-battery | portreeve --config "+conf+" user add ann --home /srv/ann --password-stdin")
	m.run("install", "-d", "-o", "portreeve", "-g", "portreeve", "/srv/ann")
	m.run("systemctl", "enable", "--now", "portreeve.service") // Type=notify: it serves when this returns

	confined(t, m)
	sent := transfer(t, m)
	m.run("systemctl", "reload", "portreeve.service")

	// Every supported Debian has Landlock; whether this kernel has is its own matter.
	if log := m.run("journalctl", "--no-pager", "-u", "portreeve.service"); sandbox.ABI() > 1 && !strings.Contains(log, "Landlock keeps this process to its files") {
		t.Errorf("Landlock is not in force under the unit:\n%s", log)
	}
	upgrade(t, m)
	fetched(t, m, sent)
	bySocket(t, m)

	m.run("dpkg", "-r", "portreeve")
	if out, _ := m.try("systemctl", "is-active", "portreeve.service", "portreeve.socket"); strings.Contains(out, "active\n") && !strings.Contains(out, "inactive\n") {
		t.Errorf("the removed service still runs: %s", out)
	}
	for _, name := range []string{conf, "/var/lib/portreeve/portreeve.db", "/srv/ann/sent.bin"} {
		if !there(m.root, name) {
			t.Errorf("removal took %s along", name)
		}
	}
	m.run("dpkg", "--purge", "portreeve")
	for _, name := range []string{"/etc/portreeve", "/var/lib/portreeve", "/var/log/portreeve", "/usr/bin/portreeve"} {
		if there(m.root, name) {
			t.Errorf("%s is left after a purge", name)
		}
	}
	if !there(m.root, "/srv/ann/sent.bin") {
		t.Error("the purge took a user's file along")
	}
}

// confined looks at the running process: its user, its rights, its rating.
func confined(t *testing.T, m *machine) {
	t.Helper()
	status := m.run("cat", "/proc/"+m.show("portreeve.service", "MainPID")+"/status")
	for what, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000400", "CapBnd": "0000000000000400", "CapAmb": "0000000000000400"} {
		if got := regexp.MustCompile(what + `:\s+(\S+)`).FindStringSubmatch(status); got == nil || got[1] != want {
			t.Errorf("%s is %v, want %s", what, got, want)
		}
	}
	if uid := regexp.MustCompile(`Uid:\s+(\d+)`).FindStringSubmatch(status); uid == nil || uid[1] == "0" || uid[1] != m.run("id", "-u", "portreeve") {
		t.Errorf("the service runs as user %v", uid)
	}
	out, _ := m.try("systemd-analyze", "security", "--no-pager", "portreeve.service")
	level := regexp.MustCompile(`exposure level for portreeve.service: ([0-9.]+)`).FindStringSubmatch(out)
	if level == nil {
		t.Fatalf("no rating:\n%s", out)
	}
	if v, _ := strconv.ParseFloat(level[1], 64); v > 2.0 {
		t.Errorf("exposure %s, want 2.0 at most", level[1])
	}
	t.Logf("systemd-analyze security, of the running service: %s", level[1])
}

// transfer sends a file by explicit FTPS and fetches it by implicit FTPS.
func transfer(t *testing.T, m *machine) []byte {
	t.Helper()
	b := make([]byte, 3<<20+1)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	name := filepath.Join(t.TempDir(), "sent.bin")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.curl("-u", "ann:correct-horse-battery", "-T", name, "ftp://127.0.0.1/sent.bin")
	fetched(t, m, b)
	return b
}

func fetched(t *testing.T, m *machine, want []byte) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "got.bin")
	m.curl("-u", "ann:correct-horse-battery", "-o", name, "ftps://127.0.0.1/sent.bin")
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back of %d (%v)", len(got), len(want), err)
	}
}

// upgrade installs the newer package over a configuration that was edited and
// that the newer package changes as well.
func upgrade(t *testing.T, m *machine) {
	t.Helper()
	m.run("sed", "-i", "s/^drain = .*/drain = \"7m\"/", conf)
	edited := m.run("cat", conf)
	before := m.show("portreeve.service", "MainPID")
	out := m.run("dpkg", "--force-confold", "-i", "/opt/new.deb")
	if now := m.run("cat", conf); now != edited {
		t.Errorf("the upgrade changed the configuration to\n%s", now)
	}
	if after := m.show("portreeve.service", "MainPID"); after == before || after == "0" {
		t.Errorf("process %s is the service before and %s after the upgrade\n%s", before, after, out)
	}
	if n := m.show("portreeve.service", "NRestarts"); n != "0" || m.run("systemctl", "is-active", "portreeve.service") != "active" {
		t.Errorf("the upgrade restarted the service %s times", n)
	}
	// The old process, the parent of the new one, stays for its last sessions;
	// the service manager learns how the new one ends only after that.
	for deadline := time.Now().Add(time.Minute); !strings.Contains(m.run("cat", "/proc/"+m.show("portreeve.service", "MainPID")+"/status"), "\nPPid:\t1\n"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the old process does not end")
		}
	}
	if v := m.run("portreeve", "--config", conf, "status"); !strings.Contains(v, "0.2.0") {
		t.Errorf("an old process answers:\n%s", v)
	}
}

// bySocket stops the service and has its socket start it.
func bySocket(t *testing.T, m *machine) {
	t.Helper()
	// After an upgrade, too, a stop must end the process in order and not kill it.
	m.run("systemctl", "stop", "portreeve.service")
	m.run("systemctl", "start", "portreeve.socket")
	if out, _ := m.try("systemctl", "is-active", "portreeve.service"); strings.TrimSpace(out) != "inactive" {
		t.Fatalf("the service is %s before anybody connects\n%s", out, m.run("journalctl", "--no-pager", "-u", "portreeve.service", "-n", "30"))
	}
	transfer(t, m)
	if m.run("systemctl", "is-active", "portreeve.service") != "active" {
		t.Error("a connection did not start the service")
	}
	if left := m.run("journalctl", "--no-pager", "-u", "portreeve.service", "-n", "50"); strings.Contains(left, "address already in use") {
		t.Errorf("the service did not take the ports over:\n%s", left)
	}
}

// TestRPM installs, upgrades and removes the rpm, in a tree with the same
// programs that its scripts use elsewhere. It does not start the service: the
// unit is that of the deb.
func TestRPM(t *testing.T) {
	_, old := build(t, "0.1.0")
	_, rpm := build(t, "0.2.0")
	root := tree(t)
	do := func(args ...string) string {
		t.Helper()
		return run(t, "rpm", append([]string{"--root", root, "--nodeps"}, args...)...)
	}
	do("-i", old)
	do("-V", "portreeve")
	owner := run(t, "chroot", root, "stat", "-c", "%U:%G %a", "/var/lib/portreeve")
	if strings.TrimSpace(owner) != "portreeve:portreeve 700" {
		t.Errorf("the data directory is %s", owner)
	}
	if out := run(t, "chroot", root, "/usr/bin/portreeve", "version"); !strings.Contains(out, "0.1.0") {
		t.Errorf("version: %s", out)
	}
	if err := os.WriteFile(root+"/var/lib/portreeve/kept", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(root+conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("# edited\n")
	f.Close()
	do("-U", rpm)
	if b, _ := os.ReadFile(root + conf); !bytes.HasSuffix(b, []byte("# edited\n")) {
		t.Error("the upgrade replaced an edited configuration")
	}
	if out := run(t, "chroot", root, "/usr/bin/portreeve", "version"); !strings.Contains(out, "0.2.0") {
		t.Errorf("version after the upgrade: %s", out)
	}
	do("-e", "portreeve")
	if !there(root, "/var/lib/portreeve/kept") || there(root, "/usr/bin/portreeve") {
		t.Error("removal took the data along, or left the program")
	}
	if !there(root, conf) && !there(root, conf+".rpmsave") {
		t.Error("removal took an edited configuration along")
	}
}
