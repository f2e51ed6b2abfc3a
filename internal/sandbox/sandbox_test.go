package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the confined half of TestEnter, which cannot leave again, in a
// process of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SANDBOX_TEST"); dir != "" {
		for _, line := range confined(dir) {
			fmt.Println(line)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// confined tries what must work and what must not, below dir, and returns complaints.
func confined(dir string) (bad []string) {
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	held, err := os.Open(filepath.Join(out, "held"))
	if err != nil {
		return []string{err.Error()}
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		return []string{err.Error()}
	}
	if err := Enter(Paths{Write: []string{in, filepath.Join(dir, "missing"), "/dev/null"}, Read: []string{filepath.Join(dir, "read")}, Run: []string{"/usr", "/bin", "/lib", "/lib64"}}); err != nil {
		return []string{err.Error()}
	}
	must := func(what string, err error) {
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", what, err))
		}
	}
	not := func(what string, err error) {
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EXDEV) {
			bad = append(bad, fmt.Sprintf("%s: %v, want a refusal", what, err))
		}
	}
	read := func(name string) error { _, err := os.ReadFile(name); return err }
	must("write inside", os.WriteFile(in+"/a", []byte("a"), 0o600))
	must("make a directory", os.Mkdir(in+"/d", 0o700))
	must("move between directories", os.Rename(in+"/a", in+"/d/a"))
	must("truncate", os.Truncate(in+"/d/a", 0))
	must("remove", os.RemoveAll(in+"/d"))
	must("read", read(dir+"/read/file"))
	must("run a program", exec.Command("true").Run())
	must("use what was open", func() error { _, err := held.Read(make([]byte, 1)); return err }())
	not("write where only reading is", os.WriteFile(dir+"/read/file", nil, 0o600))
	not("read outside", read(out+"/held"))
	not("list outside", func() error { _, err := os.ReadDir(out); return err }())
	not("write outside", os.WriteFile(out+"/new", nil, 0o600))
	not("move outside", os.Rename(in+"/keep", out+"/keep"))
	not("link in from outside", os.Link(out+"/held", in+"/link"))
	not("read through a link", func() error { os.Symlink(out+"/held", in+"/sym"); return read(in + "/sym") }())
	not("read below a handle from before", func() error { _, err := root.ReadFile("held"); return err }())
	not("run from a writable directory", exec.Command(in+"/prog").Run())
	not("a program outside its limits", func() error {
		b, err := exec.Command("cat", out+"/held").CombinedOutput()
		if err != nil && strings.Contains(string(b), "ermission denied") {
			return fs.ErrPermission
		}
		return err
	}())
	// The system calls, from many threads: one that was forgotten would do.
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 16 {
		wg.Go(func() {
			_, err := unix.Openat2(unix.AT_FDCWD, out+"/held", &unix.OpenHow{Flags: unix.O_RDONLY})
			_, err2 := unix.Open(out+"/x", unix.O_CREAT|unix.O_WRONLY, 0o600)
			mu.Lock()
			defer mu.Unlock()
			not("openat2", err)
			not("open", err2)
		})
	}
	wg.Wait()
	return bad
}

func TestEnter(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"in", "out", "read"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"out/held": "secret", "read/file": "text", "in/keep": "", "in/prog": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "SANDBOX_TEST="+dir)
	out, err := c.CombinedOutput()
	if ABI() < 2 {
		if !strings.Contains(string(out), ErrUnsupported.Error()) {
			t.Errorf("without Landlock: %v\n%s", err, out)
		}
		return
	}
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	p := Paths{Write: []string{dir}, Read: []string{"/etc"}, Run: []string{"/usr"}}
	for name, want := range map[string]bool{dir: true, dir + "/a/b": true, dir + "x": false, "/etc/hosts": false} {
		if p.Covers(name, true) != want {
			t.Errorf("write %s: %v", name, !want)
		}
	}
	if !p.Covers("/etc/hosts", false) || p.Covers("/root", false) {
		t.Error("reading is covered wrongly")
	}
	missing := p.Missing(Paths{Write: []string{dir + "/new", "/etc"}, Read: []string{"/usr/bin", "/proc", "/not there"}, Run: []string{"/usr/bin", "/etc"}})
	if !slices.Equal(missing, []string{"/etc", "/proc"}) {
		t.Errorf("missing: %q", missing)
	}
	name, value, _ := strings.Cut(p.Environ(), "=")
	t.Setenv(name, value)
	got, ok := Inherited()
	if !ok || !slices.Equal(got.Write, p.Write) || !slices.Equal(got.Read, p.Read) || !slices.Equal(got.Run, p.Run) {
		t.Errorf("%v, %v came back of %v", got, ok, p)
	}
	if _, again := Inherited(); again {
		t.Error("programs would be told")
	}
}
