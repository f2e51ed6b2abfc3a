package localfs

import (
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

// smallDisk mounts a tmpfs of the size at dir, if this process may.
func smallDisk(t *testing.T, dir, size string) bool {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size="+size); err != nil {
		t.Logf("no right to mount a file system here: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

// TestMountPoint needs the right to mount. Without it the decision itself is
// tested on two file systems that every Linux has.
func TestMountPoint(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.Mkdir(dir+"/m", 0o755))
	if !smallDisk(t, dir+"/m", "1m") {
		f := open(t, dir, Options{})
		proc := open(t, "/proc", Options{})
		h, err := proc.root.Open("self/stat")
		ok(t, err)
		defer h.Close()
		if !f.foreign(h) || proc.foreign(h) {
			t.Error("a file of /proc is taken for one of the storage, or the reverse")
		}
		return
	}
	ok(t, os.WriteFile(dir+"/m/f", []byte("there"), 0o644))
	ok(t, os.Mkdir(dir+"/m/d", 0o755))
	ctx := t.Context()
	f := open(t, dir, Options{})
	put(t, f, "/mine", "mine", vfs.CreateOptions{})
	var errs []error
	add := func(_ any, err error) { errs = append(errs, err) }
	add(f.Stat(ctx, "/m"))
	add(f.Stat(ctx, "/m/f"))
	add(f.Open(ctx, "/m/f", 0))
	add(f.Create(ctx, "/m/f", vfs.CreateOptions{}))
	add(f.Create(ctx, "/m/new", vfs.CreateOptions{Upload: vfs.Visible}))
	add(f.Create(ctx, "/m/d/new", vfs.CreateOptions{Upload: vfs.AtomicResume}))
	add(f.OpenFile(ctx, "/m/f", os.O_RDWR, 0))
	add(f.OpenFile(ctx, "/m/new", os.O_RDWR|os.O_CREATE, 0))
	add(nil, f.Mkdir(ctx, "/m/e", 0))
	add(nil, f.Remove(ctx, "/m/f"))
	add(nil, f.Rename(ctx, "/mine", "/m/mine", true))
	add(nil, f.Rename(ctx, "/m/f", "/f", true))
	add(nil, f.Link(ctx, "/m/f", "/f"))
	add(nil, f.Symlink(ctx, "x", "/m/l"))
	add(nil, f.SetAttr(ctx, "/m/f", vfs.Attr{Mode: ptr(fs.FileMode(0))}))
	add(nil, f.SetAttr(ctx, "/m", vfs.Attr{Mode: ptr(fs.FileMode(0))}))
	add(f.Copy(ctx, "/m/f", "/copy", vfs.CreateOptions{}))
	add(nil, last(f, t, "/m"))
	for i, err := range errs {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("operation %d across a mount: %v, want denied", i, err)
		}
	}
	if es := entries(t, dir+"/m"); len(es) != 2 {
		t.Errorf("the mounted file system holds %q", es)
	}

	f = open(t, dir, Options{AllowMountPoints: true})
	put(t, f, "/m/new", "in", vfs.CreateOptions{Sync: true})
	if m := listed(t, f, "/m"); len(m) != 3 {
		t.Errorf("listed %v", m)
	}
	want(t, fault.Unsupported, f.Rename(ctx, "/mine", "/m/mine", true))
	want(t, fault.Unsupported, f.Rename(ctx, "/m/d", "/d", false))
	want(t, fault.Unsupported, f.Link(ctx, "/mine", "/m/mine"))
	want(t, fault.Busy, f.Remove(ctx, "/m"))
	onDisk(t, dir+"/mine", "mine")
	if n, err := f.Copy(ctx, "/mine", "/m/mine", vfs.CreateOptions{}); n != 4 || err != nil {
		t.Errorf("copied %d, %v", n, err)
	}
}

// TestDiskFull fills a small file system; where none can be mounted, memory of
// that size takes its place.
func TestDiskFull(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	var f vfs.FS
	if smallDisk(t, dir, "1m") {
		f = open(t, dir, Options{})
	} else {
		t.Log("testing a memory storage of the same size instead")
		f = memfs.New(memfs.Options{Capacity: size})
	}
	ctx := t.Context()
	put(t, f, "/old", "old", vfs.CreateOptions{})
	free := func() int64 {
		t.Helper()
		s, err := f.(vfs.Spacer).Space(ctx, "/")
		ok(t, err)
		return s.Free
	}
	before := free()
	fill := func(w vfs.Writer) (n int64, err error) {
		return io.Copy(struct{ io.Writer }{w}, io.LimitReader(zeros{}, 4*size))
	}
	for _, o := range []vfs.CreateOptions{{}, {Sync: true}, {Upload: vfs.Visible}, {Append: true}} {
		name := "/old"
		if o.Upload == vfs.Visible {
			name = "/new"
		}
		w, err := f.Create(ctx, name, o)
		ok(t, err)
		n, err := fill(w)
		want(t, fault.NoSpace, err)
		if n < size/2 || n > size {
			t.Errorf("%d bytes fitted into %d", n, size)
		}
		if m := listed(t, f, "/"); m["old"].Size != 3 && !o.Append {
			t.Errorf("a full disk shows %v", m)
		}
		ok(t, w.Abort(err))
		if got := free(); got < before-8192 {
			t.Errorf("after %+v was aborted %d bytes are free, %d before", o, got, before)
		}
	}
	r, err := f.Open(ctx, "/old", 0)
	ok(t, err)
	if b, err := io.ReadAll(r); string(b) != "old" || err != nil {
		t.Errorf("the old file holds %q, %v", b, err)
	}
	ok(t, r.Close())
	_, err = f.Create(ctx, "/new", vfs.CreateOptions{Size: 3 * size}) // known beforehand
	want(t, fault.NoSpace, err)
	_, err = f.Create(ctx, "/new", vfs.CreateOptions{Size: 3 * size, Upload: vfs.Visible, Keep: true})
	want(t, fault.NoSpace, err)
	if m := listed(t, f, "/"); len(m) != 1 {
		t.Errorf("left: %v", m)
	}
	put(t, f, "/new", strings.Repeat("x", size/2), vfs.CreateOptions{}) // and it works again
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestUnprivileged looks at what the kernel refuses. Root is refused nothing,
// so as root the test gives up its rights, on this thread alone.
func TestUnprivileged(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	for _, d := range []string{"/ro", "/drop", "/blind"} {
		ok(t, os.Mkdir(dir+d, 0o755))
		ok(t, os.WriteFile(dir+d+"/f", []byte("x"), 0o644))
	}
	ok(t, os.WriteFile(dir+"/none", []byte("x"), 0))
	for d, mode := range map[string]uint32{"/drop": 0o333, "/blind": 0o444, "/ro": 0o555} {
		ok(t, syscall.Chmod(dir+d, mode))
		t.Cleanup(func() { ok(t, syscall.Chmod(dir+d, 0o755)) }) // or the clean-up fails
	}
	if os.Getuid() == 0 {
		const nobody = 65534
		for _, n := range []string{"", "/ro", "/drop", "/blind", "/none", "/drop/f", "/blind/f"} {
			ok(t, os.Chown(dir+n, nobody, nobody))
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ok(t, unix.Setfsgid(nobody))
		ok(t, unix.Setfsuid(nobody))
		defer func() { ok(t, unix.Setfsuid(0)); ok(t, unix.Setfsgid(0)) }()
	}
	_, err := f.Open(ctx, "/none", 0)
	want(t, fault.Denied, err)
	_, err = f.Create(ctx, "/ro/new", vfs.CreateOptions{})
	want(t, fault.Denied, err)
	want(t, fault.Denied, f.Mkdir(ctx, "/ro/new", 0))
	want(t, fault.Denied, f.Remove(ctx, "/ro/f"))
	want(t, fault.Denied, f.Rename(ctx, "/ro/f", "/f", true))
	_, err = f.Create(ctx, "/drop/in", vfs.CreateOptions{}) // os.Root must be able to read what it walks through
	want(t, fault.Denied, err)
	want(t, fault.Denied, last(f, t, "/drop"))
	_, err = f.Stat(ctx, "/blind/f")
	want(t, fault.Denied, err)
	if m := listed(t, f, "/blind"); len(m) != 1 { // names can be read, nothing more
		t.Errorf("listed %v", m)
	}
	// Its owner may change the mode of a file that nobody may open.
	when := time.Unix(1e9, 0)
	ok(t, f.SetAttr(ctx, "/none", vfs.Attr{Mode: ptr(fs.FileMode(0o200)), ModTime: &when}))
	if i, err := f.Stat(ctx, "/none"); err != nil || i.Mode != 0o200 || !i.ModTime.Equal(when) {
		t.Errorf("now it is %+v, %v", i, err)
	}
	ok(t, f.Symlink(ctx, "drop", "/l"))
	ok(t, f.SetAttr(ctx, "/l", vfs.Attr{Mode: ptr(fs.FileMode(0o700))}))
	if i, err := f.Stat(ctx, "/drop"); err != nil || i.Mode.Perm() != 0o700 {
		t.Errorf("through a link it is %+v, %v", i, err)
	}
}

func TestUmask(t *testing.T) {
	for _, tt := range []struct {
		o         Options
		file, dir fs.FileMode
	}{
		{Options{}, 0o644, 0o755},
		{Options{Umask: 0o027}, 0o640, 0o750},
		{Options{Umask: NoUmask}, 0o666, 0o777},
	} {
		dir := t.TempDir()
		f := open(t, dir, tt.o)
		withUmask(t, 0o077, func() { // as a service manager sets it
			put(t, f, "/atomic", "x", vfs.CreateOptions{})
			put(t, f, "/visible", "x", vfs.CreateOptions{Upload: vfs.Visible})
			put(t, f, "/resume", "x", vfs.CreateOptions{Upload: vfs.AtomicResume})
			h, err := f.OpenFile(t.Context(), "/handle", os.O_RDWR|os.O_CREATE, 0)
			ok(t, err)
			ok(t, h.Close())
			ok(t, f.Mkdir(t.Context(), "/dir", 0))
		})
		for name, i := range listed(t, f, "/") {
			mode := tt.file
			if name == "dir" {
				mode = fs.ModeDir | tt.dir
			}
			if i.Mode != mode {
				t.Errorf("umask %o: %s has mode %v, want %v", tt.o.Umask, name, i.Mode, mode)
			}
		}
	}
}
