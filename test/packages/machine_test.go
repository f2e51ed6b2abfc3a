//go:build package

package packages

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// top is the top of the source tree, as an absolute name.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program of this machine and returns what it wrote.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// build makes the packages of a version and returns the deb and the rpm.
func build(t *testing.T, version string) (deb, rpm string) {
	t.Helper()
	run(t, "make", "-C", top(t), "packages", "VERSION="+version)
	find := func(pattern string) string {
		names, _ := filepath.Glob(filepath.Join(top(t), "bin", pattern))
		if len(names) != 1 {
			t.Fatalf("%d files are called %s", len(names), pattern)
		}
		return names[0]
	}
	return find("portreeve_" + version + "_*.deb"), find("portreeve-" + version + "-*.rpm")
}

// tree is a fresh copy of the clean Debian of test/tools/debian, by an overlay.
func tree(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests need root, to install packages into a tree of their own")
	}
	lower := filepath.Join(top(t), "bin", "debian")
	if _, err := os.Stat(lower + ".complete"); err != nil {
		t.Fatalf("there is no clean Debian (%v); run: make package-test", err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "root")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opt := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir)
	if err := syscall.Mount("overlay", name, "overlay", 0, opt); err != nil {
		t.Fatalf("overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(name, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return name
}

// machine is a booted tree with a network of its own.
type machine struct {
	t    *testing.T
	root string
	pid  int // of its process 1, seen from here
}

// boot starts the tree's systemd and waits until it is up.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: tree(t)}
	args := []string{"--quiet", "--register=no", "--private-network", "--console=pipe", "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self", "--machine=portreeve-test", "-D", m.root, "--boot"}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		args = append([]string{"--keep-unit"}, args...) // nobody could make a unit for it
	}
	cmd := exec.Command("systemd-nspawn", args...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if m.pid != 0 {
			syscall.Kill(m.pid, syscall.SIGKILL) // process 1 takes everybody along
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the machine did not boot: %v\n%s", err, console.String())
		default:
		}
		if m.pid == 0 {
			m.pid = first(cmd.Process.Pid)
		}
		if m.pid != 0 {
			if out, err := m.try("systemctl", "is-system-running", "--wait"); err == nil || strings.Contains(out, "degraded") {
				return m
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the machine did not boot in time\n%s", console.String())
		}
	}
}

// first finds the process below pid that is number 1 in a namespace of its own.
func first(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(b)) {
		child, _ := strconv.Atoi(f)
		status, _ := os.ReadFile("/proc/" + f + "/status")
		for line := range strings.Lines(string(status)) {
			if ids, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.HasSuffix(strings.TrimSpace(ids), "\t1") {
				return child
			}
		}
		if n := first(child); n != 0 {
			return n
		}
	}
	return 0
}

// try runs a program in the machine.
func (m *machine) try(args ...string) (string, error) {
	return try("nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
}

// run is try that must succeed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		journal, _ := m.try("journalctl", "--no-pager", "-u", "portreeve.service", "-n", "40")
		m.t.Fatalf("%s: %v\n%s\njournal:\n%s", strings.Join(args, " "), err, out, journal)
	}
	return strings.TrimSpace(out)
}

// show is one property of a unit.
func (m *machine) show(unit, property string) string {
	m.t.Helper()
	return m.run("systemctl", "show", unit, "-p", property, "--value")
}

// curl runs this machine's curl in the other one's network.
func (m *machine) curl(args ...string) string {
	m.t.Helper()
	all := append([]string{"-t", strconv.Itoa(m.pid), "-n", "--", "curl", "-sS", "--insecure", "--ssl-reqd", "--max-time", "60"}, args...)
	out, err := try("nsenter", all...)
	if err != nil {
		journal, _ := m.try("journalctl", "--no-pager", "-u", "portreeve.service", "-n", "40")
		m.t.Fatalf("curl %s: %v\n%s\njournal:\n%s", strings.Join(args, " "), err, out, journal)
	}
	return out
}

// put copies a file of this machine into the tree.
func (m *machine) put(name, to string) {
	m.t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.root, to), b, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// there reports whether the tree has a file.
func there(root, name string) bool {
	_, err := os.Lstat(filepath.Join(root, name))
	return err == nil
}
