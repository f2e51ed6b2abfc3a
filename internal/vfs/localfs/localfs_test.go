package localfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/vfstest"
)

func open(t testing.TB, dir string, o Options) *FS {
	t.Helper()
	f, err := New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestConformance(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return open(t, t.TempDir(), Options{}) })
}

func BenchmarkFS(b *testing.B) {
	vfstest.Bench(b, func(b *testing.B) vfs.FS { return open(b, b.TempDir(), Options{}) })
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, k fault.Kind, err error) {
	t.Helper()
	if got := fault.KindOf(err); got != k {
		t.Errorf("got %v (%v), want %v", got, err, k)
	}
}

func put(t testing.TB, f vfs.FS, name, data string, o vfs.CreateOptions) {
	t.Helper()
	w, err := f.Create(t.Context(), name, o)
	ok(t, err)
	_, err = io.WriteString(w, data)
	ok(t, err)
	ok(t, w.Commit(t.Context()))
}

func onDisk(t testing.TB, path, data string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if string(b) != data || err != nil {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), b, err, data)
	}
}

// entries returns what lies in a host directory, hidden files too.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	ok(t, err)
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func listed(t testing.TB, f vfs.FS, dir string) map[string]vfs.Info {
	t.Helper()
	m := map[string]vfs.Info{}
	for i, err := range f.List(t.Context(), dir) {
		ok(t, err)
		m[i.Name] = i
	}
	return m
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	for path, kind := range map[string]fault.Kind{dir + "/none": fault.NotExist, file: fault.Internal, file + "/x": fault.WrongType} {
		f, err := New(path, Options{})
		if err == nil {
			_ = f.Close()
		}
		want(t, kind, err)
	}
}

func TestClosed(t *testing.T) {
	f, err := New(t.TempDir(), Options{})
	ok(t, err)
	ok(t, f.Close())
	_, err = f.Stat(t.Context(), "/")
	want(t, fault.Unavailable, err)
	want(t, fault.Unavailable, f.Mkdir(t.Context(), "/d", 0))
	for _, err := range f.List(t.Context(), "/") {
		want(t, fault.Unavailable, err)
	}
}

func TestTempNames(t *testing.T) {
	for name, is := range map[string]bool{
		randomTemp(): true, stableTemp("ann", "f"): true, ".0123456789abcdef.ptmp": true,
		".0123456789abcdeF.ptmp": false, ".0123456789abcde.ptmp": false, "x0123456789abcdef.ptmp": false, ".0123456789abcdef.ptm": false,
		".0123456789abcdefg.ptmp": false, ".ptmp": false, "": false, ".": false, "..": false, ".0123456789abcdef.ptmp.": false,
	} {
		if isTemp(name) != is {
			t.Errorf("isTemp(%q) = %v", name, !is)
		}
	}
	if stableTemp("a", "bc") == stableTemp("ab", "c") || stableTemp("a", "b") != stableTemp("a", "b") {
		t.Error("stable names do not tell owners and targets apart")
	}
}

func TestTempsAreHidden(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	temp := "/.0123456789abcdef.ptmp"
	ok(t, os.WriteFile(dir+temp, []byte("half"), 0o600))
	ok(t, os.Mkdir(dir+"/.00000000000000000000000000000000.ptmp", 0o700))
	put(t, f, "/f", "x", vfs.CreateOptions{})
	if m := listed(t, f, "/"); len(m) != 1 {
		t.Errorf("listed: %v", m)
	}
	_, err := f.Stat(ctx, temp)
	want(t, fault.NotExist, err)
	_, err = f.Lstat(ctx, temp)
	want(t, fault.NotExist, err)
	_, err = f.Open(ctx, temp, 0)
	want(t, fault.NotExist, err)
	_, err = f.OpenFile(ctx, temp, os.O_RDWR, 0)
	want(t, fault.NotExist, err)
	_, err = f.OpenFile(ctx, temp, os.O_RDWR|os.O_CREATE, 0)
	want(t, fault.NameRefused, err)
	_, err = f.Create(ctx, temp, vfs.CreateOptions{})
	want(t, fault.NameRefused, err)
	_, err = f.Create(ctx, "/.fedcba9876543210.ptmp", vfs.CreateOptions{Upload: vfs.Visible})
	want(t, fault.NameRefused, err)
	_, err = f.Create(ctx, "/.00000000000000000000000000000000.ptmp/f", vfs.CreateOptions{})
	want(t, fault.NameRefused, err)
	want(t, fault.NameRefused, f.Mkdir(ctx, "/.fedcba9876543210.ptmp", 0))
	want(t, fault.NotExist, f.Remove(ctx, temp))
	want(t, fault.NotExist, f.Rename(ctx, temp, "/g", true))
	want(t, fault.NameRefused, f.Rename(ctx, "/f", temp, true))
	want(t, fault.NameRefused, f.Symlink(ctx, temp, "/l"))
	want(t, fault.NameRefused, f.Symlink(ctx, temp[1:], "/l"))
	want(t, fault.NotExist, f.Link(ctx, temp, "/l"))
	want(t, fault.NotExist, f.SetAttr(ctx, temp, vfs.Attr{}))
	onDisk(t, dir+temp, "half")
}

func TestAtomicWritesHidden(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	w, err := f.Create(t.Context(), "/f", vfs.CreateOptions{})
	ok(t, err)
	es := entries(t, dir)
	if len(es) != 1 || !isTemp(es[0]) {
		t.Errorf("during an upload there is %q", es)
	}
	ok(t, w.Abort(nil))
	if es := entries(t, dir); len(es) != 0 {
		t.Errorf("after Abort there is %q", es)
	}
}

func TestSweepLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ok(t, os.MkdirAll(dir+"/a/b/.0123456789abcdef.ptmp", 0o700)) // a directory is no upload
	old := time.Now().Add(-time.Hour)
	for _, n := range []string{"/.1111111111111111.ptmp", "/a/b/.22222222222222222222222222222222.ptmp", "/a/b/.0123456789abcdef.ptmp/.3333333333333333.ptmp", "/a/file.ptmp"} {
		ok(t, os.WriteFile(dir+n, []byte("x"), 0o600))
		ok(t, os.Chtimes(dir+n, old, old))
	}
	ok(t, os.WriteFile(dir+"/a/.4444444444444444.ptmp", []byte("young"), 0o600))
	out := t.TempDir()
	ok(t, os.WriteFile(out+"/.5555555555555555.ptmp", []byte("outside"), 0o600))
	ok(t, os.Chtimes(out+"/.5555555555555555.ptmp", old, old))
	ok(t, os.Symlink(out, dir+"/out"))
	ok(t, os.Symlink(out+"/.5555555555555555.ptmp", dir+"/.6666666666666666.ptmp"))
	n, err := f.Sweep(t.Context(), time.Minute)
	if n != 3 || err != nil {
		t.Errorf("removed %d, %v; want 3", n, err)
	}
	onDisk(t, out+"/.5555555555555555.ptmp", "outside")
	onDisk(t, dir+"/a/.4444444444444444.ptmp", "young")
	onDisk(t, dir+"/a/file.ptmp", "x")
	if _, err := os.Lstat(dir + "/.6666666666666666.ptmp"); err != nil {
		t.Error(err)
	}
}

func TestTwoStoragesShareLocks(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.Mkdir(dir+"/sub", 0o755))
	a, b := open(t, dir, Options{}), open(t, dir+"/sub", Options{})
	put(t, a, "/sub/f", "12", vfs.CreateOptions{})
	w, err := a.Create(t.Context(), "/sub/f", vfs.CreateOptions{Append: true})
	ok(t, err)
	_, err = b.Create(t.Context(), "/f", vfs.CreateOptions{Append: true})
	want(t, fault.Busy, err)
	n, err := b.Sweep(t.Context(), -time.Hour)
	if n != 0 || err != nil {
		t.Errorf("Sweep gives %d, %v", n, err)
	}
	ok(t, w.Commit(t.Context()))
	put(t, b, "/f", "3", vfs.CreateOptions{Append: true})
	onDisk(t, dir+"/sub/f", "123")
}

func TestOldNamesWithControlBytes(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	names := []string{"line\nfeed", "cr\rlf\n", "esc\x1b[2J", "del\x7f"}
	for _, n := range names {
		ok(t, os.WriteFile(dir+"/"+n, []byte(n), 0o644))
		if i, err := f.Stat(ctx, "/"+n); err != nil || i.Name != n {
			t.Errorf("Stat gives %+v, %v", i, err)
		}
		r, err := f.Open(ctx, "/"+n, 0)
		ok(t, err)
		if b, err := io.ReadAll(r); string(b) != n || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		ok(t, r.Close())
	}
	if m := listed(t, f, "/"); len(m) != len(names) {
		t.Errorf("listed: %v", m)
	}
	want(t, fault.NameRefused, f.Rename(ctx, "/"+names[0], "/"+names[1]+"2", false))
	ok(t, f.Rename(ctx, "/"+names[0], "/clean", false))
	ok(t, f.Remove(ctx, "/"+names[1]))
	_, err := f.OpenFile(ctx, "/new\n", os.O_RDWR|os.O_CREATE, 0)
	want(t, fault.NameRefused, err)
}

func TestErrorsHideTheHost(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	ok(t, os.Mkdir(dir+"/d", 0o755))
	ok(t, os.WriteFile(dir+"/d/f", nil, 0o644))
	ok(t, os.Symlink(dir, dir+"/l"))
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	add(f.Stat(ctx, "/no"))
	add(f.Open(ctx, "/no", 0))
	add(f.Open(ctx, "/l", 0))
	add(f.Open(ctx, "/d", 0))
	add(f.Open(ctx, "/d/f/x", 0))
	add(f.Create(ctx, "/l/x", vfs.CreateOptions{}))
	add(f.Create(ctx, "/no/x", vfs.CreateOptions{}))
	add(f.Create(ctx, "/d", vfs.CreateOptions{Upload: vfs.Visible}))
	add(nil, f.Mkdir(ctx, "/d", 0))
	add(nil, f.Remove(ctx, "/d"))
	add(nil, f.Rename(ctx, "/d", "/no/x", true))
	add(nil, f.Rename(ctx, "/d/f", "/d", true))
	add(f.Readlink(ctx, "/l"))
	add(f.Copy(ctx, "/l", "/x", vfs.CreateOptions{}))
	r, err := f.OpenFile(ctx, "/d/f", os.O_RDONLY, 0)
	ok(t, err)
	add(r.WriteAt([]byte("x"), 0))
	add(nil, r.Truncate(-1))
	ok(t, r.Close())
	add(r.ReadAt(make([]byte, 1), 0))
	add(r.Stat())
	add(nil, r.Close())
	for _, err := range f.List(ctx, "/l") {
		add(nil, err)
	}
	for i, err := range errs {
		var fe *fault.Error
		switch {
		case err == nil:
			t.Errorf("operation %d succeeds", i)
		case strings.Contains(err.Error(), dir):
			t.Errorf("%v names the host's path", err)
		case !errors.As(err, &fe) || !strings.HasPrefix(fe.Path, "/") || fe.Kind == fault.Internal:
			t.Errorf("%v is %+v", err, fe)
		}
	}
	if i, err := f.Stat(ctx, "/l"); err != nil || i.Target != "" {
		t.Errorf("Stat gives %+v, %v", i, err)
	}
}

func TestRelative(t *testing.T) {
	for _, tt := range []struct{ dir, target, want string }{
		{"/", "/a", "a"}, {"/", "/", "."}, {"/a", "/a", "."}, {"/a", "/", ".."}, {"/a/b", "/a/c", "../c"}, {"/a/b", "/a", ".."},
		{"/a/b", "/", "../.."}, {"/ab", "/a", "../a"}, {"/a", "/ab/c", "../ab/c"}, {"/a", "/a/b/c", "b/c"},
	} {
		if got := relative(tt.dir, tt.target); got != tt.want {
			t.Errorf("relative(%q, %q) = %q, want %q", tt.dir, tt.target, got, tt.want)
		}
	}
}

func TestInside(t *testing.T) {
	for _, tt := range []struct{ dir, target, want string }{
		{"/", "a", "a"}, {"/", "../a", ""}, {"/a", "../b", "../b"}, {"/a", "../../b", ""}, {"/a", "/b", ""}, {"/a", "", ""},
		{"/a", "b/../../..", ""}, {"/a/b", "./../..", "./../.."}, {"/", ".", "."}, {"/", "a/..", "a/.."}, {"/", "a/../..", ""},
	} {
		if got := inside(tt.dir, tt.target); got != tt.want {
			t.Errorf("inside(%q, %q) = %q, want %q", tt.dir, tt.target, got, tt.want)
		}
	}
}
