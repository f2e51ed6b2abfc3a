package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

func put(t *testing.T, f vfs.FS, name, data string) {
	t.Helper()
	w, err := f.Create(t.Context(), name, vfs.CreateOptions{})
	if err == nil {
		_, err = io.WriteString(w, data)
		err = errors.Join(err, w.Commit(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func table(t *testing.T, ms ...vfs.Mount) *vfs.Mounts {
	t.Helper()
	m, err := vfs.NewMounts(ms...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func listing(t *testing.T, m *vfs.Mounts, dir string) map[string]vfs.Info {
	t.Helper()
	got := map[string]vfs.Info{}
	for i, err := range m.List(t.Context(), dir) {
		if err != nil {
			t.Errorf("listing %s: %v", dir, err)
		}
		if _, twice := got[i.Name]; twice {
			t.Errorf("listing %s: %q twice", dir, i.Name)
		}
		got[i.Name] = i
	}
	return got
}

func TestMountsResolve(t *testing.T) {
	home, pub, deep := memfs.New(), memfs.New(), memfs.New()
	m := table(t, vfs.Mount{Path: "/", FS: home, Data: "home"}, vfs.Mount{Path: "/pub", FS: pub, Data: "pub"}, vfs.Mount{Path: "/pub/a/b", FS: deep, Data: "deep"})
	tests := []struct{ name, data, rel string }{
		{"/", "home", "/"},
		{"/x/y", "home", "/x/y"},
		{"/pub", "pub", "/"},
		{"/pub/x", "pub", "/x"},
		{"/public", "home", "/public"},
		{"/pub/a", "pub", "/a"},
		{"/pub/a/b", "deep", "/"},
		{"/pub/a/b/c/d", "deep", "/c/d"},
		{"/pub/a/bc", "pub", "/a/bc"},
	}
	for _, tt := range tests {
		f, rel, i := m.Resolve(tt.name)
		if rel != tt.rel || m.All()[i].Data != tt.data || f != m.All()[i].FS {
			t.Errorf("Resolve(%q) = %v %q, want %v %q", tt.name, m.All()[i].Data, rel, tt.data, tt.rel)
		}
		if _, ok := f.(vfs.Copier); !ok {
			t.Errorf("Resolve(%q) gives a %T, not the storage itself", tt.name, f)
		}
	}
	bare := table(t, vfs.Mount{Path: "/only", FS: pub})
	if f, rel, i := bare.Resolve("/else"); f != nil || rel != "" || i != -1 {
		t.Errorf("without a root mount Resolve gives %v %q %d", f, rel, i)
	}
}

func TestMountsRefuse(t *testing.T) {
	f := memfs.New()
	for _, ms := range [][]vfs.Mount{
		{{Path: "/a", FS: f}, {Path: "/a", FS: f}},
		{{Path: "/a/", FS: f}},
		{{Path: "a", FS: f}},
		{{Path: "/a/../b", FS: f}},
		{{Path: "/a"}},
	} {
		if _, err := vfs.NewMounts(ms...); fault.KindOf(err) != fault.Invalid {
			t.Errorf("NewMounts(%v) gives %v", ms, err)
		}
	}
	if _, err := vfs.NewMounts(vfs.Mount{Path: "/a\n", FS: f}); fault.KindOf(err) != fault.NameRefused {
		t.Errorf("a control byte gives %v", err)
	}
}

func TestMountsList(t *testing.T) {
	home, pub, deep := memfs.New(), memfs.New(), memfs.New()
	put(t, home, "/file", "1")
	put(t, home, "/pub", "a file under the mount is hidden by it")
	put(t, pub, "/inside", "22")
	put(t, deep, "/bottom", "333")
	m := table(t, vfs.Mount{Path: "/", FS: home}, vfs.Mount{Path: "/pub", FS: pub}, vfs.Mount{Path: "/far/away/deep", FS: deep})
	for dir, want := range map[string][]string{
		"/": {"far", "file", "pub"}, "/pub": {"inside"}, "/far": {"away"}, "/far/away": {"deep"}, "/far/away/deep": {"bottom"},
	} {
		got := listing(t, m, dir)
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Errorf("%s holds %q, want %q", dir, names, want)
		}
	}
	if i := listing(t, m, "/")["pub"]; !i.IsDir() || i.Mode.Perm() != 0o755 {
		t.Errorf("the mount is listed as %+v", i)
	}
	n := 0
	for range m.List(t.Context(), "/") {
		n++
		break
	}
	if n != 1 {
		t.Error("the listing does not stop")
	}
	for _, dir := range []string{"/no", "/far/no", "/pub/no"} {
		var last error
		for _, err := range m.List(t.Context(), dir) {
			last = err
		}
		var fe *fault.Error
		if !errors.As(last, &fe) || fe.Kind != fault.NotExist || fe.Path != dir {
			t.Errorf("listing %s gives %v, which should name that path", dir, last)
		}
	}
}

func TestMountsStat(t *testing.T) {
	home, pub := memfs.New(), memfs.New()
	put(t, home, "/file", "1")
	put(t, home, "/b", "a file under the mount is hidden by it")
	put(t, pub, "/inside", "22")
	m := table(t, vfs.Mount{Path: "/", FS: home}, vfs.Mount{Path: "/a/pub", FS: pub}, vfs.Mount{Path: "/b/c", FS: pub})
	for name, want := range map[string]string{
		"/": "/ dir", "/a": "a dir", "/a/pub": "pub dir", "/a/pub/inside": "inside 2", "/file": "file 1", "/b": "b dir",
	} {
		i, err := m.Stat(t.Context(), name)
		got := fmt.Sprintf("%s %d", i.Name, i.Size)
		if i.IsDir() {
			got = i.Name + " dir"
		}
		if got != want || err != nil {
			t.Errorf("Stat(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"/no", "/a/no", "/a/pub/no"} {
		_, err := m.Stat(t.Context(), name)
		var fe *fault.Error
		if !errors.As(err, &fe) || fe.Kind != fault.NotExist || fe.Path != name {
			t.Errorf("Stat(%q) gives %v, which should name that path", name, err)
		}
	}
	bare := table(t, vfs.Mount{Path: "/a/pub", FS: pub})
	if i, err := bare.Stat(t.Context(), "/"); err != nil || !i.IsDir() || i.Name != "/" {
		t.Errorf("the root without a mount is %+v, %v", i, err)
	}
	if _, err := bare.Stat(t.Context(), "/x"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("got %v", err)
	}
	if got := slices.Sorted(maps.Keys(listing(t, bare, "/"))); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the root without a mount holds %q", got)
	}
}

func TestMountsProtect(t *testing.T) {
	f := memfs.New()
	m := table(t, vfs.Mount{Path: "/", FS: f}, vfs.Mount{Path: "/a/b", FS: f})
	for name, want := range map[string]fault.Kind{
		"/": fault.Denied, "/a": fault.Denied, "/a/b": fault.Denied, "/a/b/c": fault.None, "/a/c": fault.None, "/ab": fault.None, "/b": fault.None,
	} {
		if err := m.Protect("remove", name); fault.KindOf(err) != want {
			t.Errorf("Protect(%q) gives %v, want %v", name, err, want)
		}
	}
}

// down is a storage that cannot be reached.
type down struct{ vfs.FS }

func (down) Stat(context.Context, string) (vfs.Info, error) {
	return vfs.Info{}, fault.Text(fault.Unavailable, "the bucket does not answer")
}

func (down) List(context.Context, string) iter.Seq2[vfs.Info, error] {
	return func(yield func(vfs.Info, error) bool) {
		yield(vfs.Info{}, fault.Text(fault.Unavailable, "the bucket does not answer"))
	}
}

func (down) Close() error { return errors.New("cannot close") }

func TestMountsDown(t *testing.T) {
	home := memfs.New()
	put(t, home, "/file", "1")
	m := table(t, vfs.Mount{Path: "/", FS: home}, vfs.Mount{Path: "/s3", FS: down{}})
	got := listing(t, m, "/")
	if len(got) != 2 || !got["s3"].IsDir() {
		t.Errorf("a storage that is down spoils the listing above: %v", got)
	}
	var last error
	for _, err := range m.List(t.Context(), "/s3") {
		last = err
	}
	if fault.KindOf(last) != fault.Unavailable {
		t.Errorf("listing the storage itself gives %v", last)
	}
	if _, err := m.Stat(t.Context(), "/s3/x"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Stat gives %v", err)
	}
	if err := m.Close(); err == nil {
		t.Error("Close hides that a storage could not be closed")
	}
}

func TestOSFile(t *testing.T) {
	f := memfs.New()
	put(t, f, "/f", "x")
	r, err := f.Open(t.Context(), "/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if vfs.OSFile(r) != nil || vfs.OSFile(nil) != nil {
		t.Error("a file of the operating system where there is none")
	}
}
