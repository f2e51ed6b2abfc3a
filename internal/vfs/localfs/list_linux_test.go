package localfs

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func TestListAgreesWithStat(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ok(t, unix.Mkfifo(dir+"/fifo", 0o640))
	sock, err := net.Listen("unix", dir+"/sock")
	ok(t, err)
	defer sock.Close()
	ok(t, os.WriteFile(dir+"/file", []byte("123"), 0o600))
	ok(t, os.WriteFile(dir+"/suid", nil, 0o600))
	ok(t, syscall.Chmod(dir+"/suid", 0o6755))
	ok(t, os.Mkdir(dir+"/dir", 0o755))
	ok(t, syscall.Chmod(dir+"/dir", 0o3775))
	ok(t, os.Symlink("file", dir+"/in"))
	ok(t, os.Symlink("../file", dir+"/out"))
	ok(t, os.Symlink("../file", dir+"/dir/in"))
	ok(t, os.Link(dir+"/file", dir+"/dir/hard"))
	for _, d := range []string{"/", "/dir"} {
		for name, i := range listed(t, f, d) {
			l, err := f.Lstat(t.Context(), vfs.Join(d, name))
			if err != nil || l != i {
				t.Errorf("List gives %+v, Lstat %+v, %v", i, l, err)
			}
		}
	}
	if m := listed(t, f, "/"); len(m) != 7 || m["in"].Target != "file" || m["out"].Target != "" || m["file"].Links != 2 {
		t.Errorf("listed %+v", m)
	}
	// What an operator put up as a device is shown as one.
	dev, err := New("/dev", Options{AllowMountPoints: true})
	ok(t, err)
	defer dev.Close()
	if i := listed(t, dev, "/")["null"]; i.Mode&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice|os.ModeCharDevice {
		t.Errorf("/dev/null is listed as %v", i.Mode)
	}
	_, err = dev.Open(t.Context(), "/null", 0)
	want(t, fault.Denied, err)
}

// manyLong fills a directory with some 150 KiB of entries: several buffers.
func manyLong(t *testing.T, dir string) map[string]bool {
	names := map[string]bool{}
	for i := range 600 {
		n := strings.Repeat("n", 250) + strconv.Itoa(10000+i)
		names[n] = true
		ok(t, os.WriteFile(dir+"/"+n, nil, 0o600))
	}
	return names
}

func TestListManyBuffers(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	names := manyLong(t, dir)
	m := listed(t, f, "/")
	for n := range names {
		if _, is := m[n]; !is {
			t.Fatalf("%q is not listed", n)
		}
	}
	if len(m) != len(names) {
		t.Errorf("%d entries, want %d", len(m), len(names))
	}
}

func TestListCancelled(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	manyLong(t, dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n := 0
	var last error
	for _, last = range f.List(ctx, "/") {
		if n++; n == 1 {
			cancel(fault.Text(fault.Stopping, "the server stops"))
		}
	}
	want(t, fault.Stopping, last)
	if n > 400 {
		t.Errorf("%d entries came after the listing was cancelled", n)
	}
}

// TestOSFile holds the door open for sendfile and splice.
func TestOSFile(t *testing.T) {
	f := open(t, t.TempDir(), Options{})
	put(t, f, "/f", "0123456789", vfs.CreateOptions{})
	r, err := f.Open(t.Context(), "/f", 3)
	ok(t, err)
	defer r.Close()
	h, err := f.OpenFile(t.Context(), "/f", os.O_RDWR, 0)
	ok(t, err)
	defer h.Close()
	w, err := f.Create(t.Context(), "/f", vfs.CreateOptions{Append: true})
	ok(t, err)
	for x, pos := range map[any]int64{r: 3, h: 0, w: 10} {
		file := vfs.OSFile(x)
		if file == nil {
			t.Fatalf("%T hides its file", x)
		}
		if at, err := file.Seek(0, io.SeekCurrent); at != pos || err != nil {
			t.Errorf("%T stands at %d, %v; want %d", x, at, err, pos)
		}
		flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_APPEND != 0 {
			t.Errorf("%T is open with %o, %v: O_APPEND keeps the kernel from splicing", x, flags, err)
		}
	}
	ok(t, w.Commit(t.Context()))
}

// TestRenameFallback is for file systems without RENAME_NOREPLACE, and
// TestProcName for kernels that do not know an empty path.
func TestRenameFallback(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	put(t, f, "/a", "a", vfs.CreateOptions{})
	put(t, f, "/b", "b", vfs.CreateOptions{})
	d := dirOf(f)
	want(t, fault.Exist, f.renameChecked(d, "a", d, "b"))
	ok(t, f.renameChecked(d, "a", d, "c"))
	onDisk(t, dir+"/b", "b")
	onDisk(t, dir+"/c", "a")
}

func dirOf(f *FS) dir { return dir{Root: f.root} }

func TestProcName(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	put(t, f, "/f", "x", vfs.CreateOptions{})
	h, err := f.root.OpenFile("f", pathFlags, 0)
	ok(t, err)
	defer h.Close()
	ok(t, os.Rename(dir+"/f", dir+"/moved")) // the name is of the file, not of where it was
	ok(t, unix.Fchmodat(unix.AT_FDCWD, procName(h), 0o604, 0))
	if fi, err := os.Stat(dir + "/moved"); err != nil || fi.Mode() != 0o604 {
		t.Errorf("the mode is %v, %v", fi.Mode(), err)
	}
}

// BenchmarkList reports the processor time, which says more than the clock on a
// busy machine: an entry costs the same in directories of every size. The aim is
// 3 us, 0.3 s for 100,000 entries.
func BenchmarkList(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchmarkList(b, n) })
	}
}

func benchmarkList(b *testing.B, n int) {
	dir := b.TempDir()
	for i := range n {
		if err := os.WriteFile(dir+"/file-"+strconv.Itoa(i)+".dat", nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	f := open(b, dir, Options{})
	cpu := func() int64 {
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
			b.Fatal(err)
		}
		return ru.Utime.Nano() + ru.Stime.Nano()
	}
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		got := 0
		for _, err := range f.List(b.Context(), "/") {
			if err != nil {
				b.Fatal(err)
			}
			got++
		}
		if got != n {
			b.Fatalf("%d entries, want %d", got, n)
		}
	}
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/float64(n), "cpu-ns/entry")
}

// TestPassingAllocatesNothing: with vfs.Passing an entry costs no memory, and the
// names are right while they are good; without, they stay good.
func TestPassingAllocatesNothing(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	want := map[string]bool{}
	for i := range 3000 {
		name := fmt.Sprintf("a-name-that-is-rather-long-%05d", i)
		ok(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		want[name] = true
	}
	var kept []string
	for i, err := range f.List(t.Context(), "/") {
		ok(t, err)
		kept = append(kept, i.Name)
	}
	for _, n := range kept {
		if !want[n] {
			t.Fatalf("%q was not there", n)
		}
	}
	ctx, seen := vfs.Passing(t.Context()), 0
	a := testing.AllocsPerRun(5, func() {
		seen = 0
		for i, err := range f.List(ctx, "/") {
			if err != nil || !want[i.Name] {
				t.Fatal(i.Name, err)
			}
			seen++
		}
	})
	if seen != len(want) || len(kept) != len(want) {
		t.Errorf("%d and %d entries, want %d", seen, len(kept), len(want))
	}
	if a > 100 {
		t.Errorf("%v allocations for %d entries", a, seen)
	}
}
