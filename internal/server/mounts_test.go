package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func TestStorages(t *testing.T) {
	noLeaks(t)
	ctx, dir, logs := context.Background(), t.TempDir(), &logBuffer{}
	s := newStorages(ctx, slog.New(slog.NewTextHandler(logs, nil)), filepath.Join(dir, "all", "data"))
	ann, bob := account.Policy{User: "ann"}, account.Policy{User: "bob"}
	open := func(m account.Mount, p account.Policy) vfs.FS {
		t.Helper()
		f, err := s.open(ctx, m, p)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	closeFS := func(f vfs.FS) {
		t.Helper()
		if err := f.(interface{ Close() error }).Close(); err != nil {
			t.Error(err)
		}
	}

	home := account.Mount{Path: "/", Source: filepath.Join(dir, "home")}
	one, two := open(home, ann), open(home, bob)
	if st, err := os.Stat(home.Source); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the home that was made: %v, %v", st, err)
	}
	for what, ok := range map[string]bool{"Linker": is[vfs.Linker](one), "AttrSetter": is[vfs.AttrSetter](one), "RandomAccess": is[vfs.RandomAccess](one), "Copier": is[vfs.Copier](one),
		"Spacer": is[vfs.Spacer](one), "Lstater": is[vfs.Lstater](one), "HardLinker": is[vfs.HardLinker](one), "Partials": is[vfs.Partials](one)} {
		if !ok {
			t.Errorf("the ability %s is hidden", what)
		}
	}
	closeFS(one)
	closeFS(one) // twice is once
	if err := two.Mkdir(ctx, "/d", 0o755); err != nil {
		t.Errorf("the other session's storage is closed: %v", err)
	}
	closeFS(two)
	if err := two.Mkdir(ctx, "/e", 0o755); err == nil {
		t.Error("the storage is open after its last session")
	}
	if len(s.dirs) != 0 {
		t.Errorf("%d directories are kept open", len(s.dirs))
	}
	closeFS(open(account.Mount{Path: "/pub", Source: filepath.Join(dir, "pub")}, ann))
	if st, err := os.Stat(filepath.Join(dir, "pub")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the mount that was made: %v, %v", st, err)
	}

	for _, source := range []string{filepath.Join(dir, "no", "such"), "relative/dir", filepath.Join(dir, "file")} {
		if source == filepath.Join(dir, "file") {
			os.WriteFile(source, nil, 0o600)
		}
		_, err := s.open(ctx, account.Mount{Path: "/", Source: source}, ann)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), source) {
			t.Errorf("%s: %v", source, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a whole path was made")
	}

	shared := account.Mount{Path: "/s", Source: "mem:team"}
	a, b := open(shared, ann), open(shared, bob)
	if err := a.Mkdir(ctx, "/x", 0o755); err != nil {
		t.Fatal(err)
	}
	closeFS(a)
	if _, err := b.Stat(ctx, "/x"); err != nil {
		t.Errorf("shared memory is not shared: %v", err)
	}
	own := account.Mount{Path: "/s", Source: "mem:"}
	if err := open(own, ann).Mkdir(ctx, "/mine", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := open(own, bob).Stat(ctx, "/mine"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("bob sees ann's memory: %v", err)
	}
	if _, err := open(own, ann).Stat(ctx, "/mine"); err != nil {
		t.Errorf("ann's memory is gone: %v", err)
	}

	os.Mkdir(filepath.Join(dir, "all"), 0o755)
	closeFS(open(account.Mount{Path: "/", Source: filepath.Join(dir, "all")}, ann))
	s.wait()
	contains(t, logs.String(), "contains the server's data directory")
}

func is[T any](x any) bool { _, ok := x.(T); return ok }

// TestHomeCannotBeMade: the client is told that it is not its fault and does
// not see the directory; the log does.
func TestHomeCannotBeMade(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	r.addUser(account.User{Name: "lost", Home: filepath.Join(r.dir, "secret-place", "a", "b")})
	r.run()
	c, err := ftp.Dial(context.Background(), r.address(0), ftp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Login(context.Background(), "lost", testPassword)
	var fe *ftp.Error
	if !errors.As(err, &fe) || fe.Code != 421 || strings.Contains(fe.Message, "secret-place") || !strings.Contains(fe.Message, "Log-in is not possible at the moment") {
		t.Errorf("the client is told %v", err)
	}
	contains(t, r.logs.String(), "secret-place", "make it, or correct the account's home")
}

// TestRightsReachTheClient: perm facts and refusals follow the account's rules.
func TestRightsReachTheClient(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	r.addUser(account.User{Name: "guest", Home: r.home, Rules: []account.Rule{{Path: "/", Rights: account.ReadOnly}, {Path: "/in", Rights: account.List | account.Upload}}})
	for _, d := range []string{"", "in", "pub"} {
		if err := os.MkdirAll(filepath.Join(r.home, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(r.home, "readme"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.run()
	ctx := context.Background()
	c, err := ftp.Dial(ctx, r.address(0), ftp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "guest", testPassword); err != nil {
		t.Fatal(err)
	}
	perms := map[string]string{}
	for e, err := range c.MachineList(ctx, "/") {
		if err != nil {
			t.Fatal(err)
		}
		perms[e.Name] = e.Perm
	}
	if perms["readme"] != "r" || perms["pub"] != "el" || perms["in"] != "cel" {
		t.Errorf("perm facts: %v", perms)
	}
	code := func(err error) int {
		var fe *ftp.Error
		if errors.As(err, &fe) {
			return fe.Code
		}
		return 0
	}
	for what, err := range map[string]error{
		"delete": c.Remove(ctx, "/readme"), "mkdir": c.Mkdir(ctx, "/new"), "rename": c.Rename(ctx, "/readme", "/r2"), "chmod": c.Chmod(ctx, "/readme", 0o600),
		"upload": func() error { _, err := c.Store(ctx, "/up", strings.NewReader("x"), 0); return err }(),
		"read":   func() error { _, err := c.Retrieve(ctx, "/in/x", 0); return err }(),
	} {
		if code(err) != 550 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.Store(ctx, "/in/new", strings.NewReader("x"), 0); err != nil {
		t.Errorf("upload where it is allowed: %v", err)
	}
	if _, err := c.Store(ctx, "/in/new", strings.NewReader("y"), 0); code(err) != 550 {
		t.Errorf("overwriting: %v", err)
	}
}

// TestSweep: what a crash cut off a week ago goes, what may be continued stays.
func TestSweep(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir := t.TempDir()
	leave := func(name string) string {
		t.Helper()
		s := newStorages(ctx, slog.New(slog.DiscardHandler), "/nowhere")
		f, err := s.open(ctx, account.Mount{Path: "/", Source: dir}, account.Policy{User: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		s.wait()
		w, err := f.Create(ctx, "/"+name, vfs.CreateOptions{Upload: vfs.AtomicResume, Keep: true, Owner: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("half"))
		before := entries(t, dir)
		if err := w.Abort(errors.New("crash")); err != nil {
			t.Fatal(err)
		}
		return before[len(before)-1]
	}
	if names := entries(t, dir); len(names) != 0 {
		t.Fatalf("not empty: %v", names)
	}
	old := leave("old.bin")
	past := time.Now().Add(-2 * sweepAge)
	if err := os.Chtimes(filepath.Join(dir, old), past, past); err != nil {
		t.Fatal(err)
	}
	leave("new.bin") // sweeps before it leaves its own
	names := entries(t, dir)
	if len(names) != 1 || names[0] == old {
		t.Errorf("left: %v, the old one was %s", names, old)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}
