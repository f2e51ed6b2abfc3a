package localfs

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func withUmask(t testing.TB, mask int, f func()) {
	t.Helper()
	old := syscall.Umask(mask)
	defer syscall.Umask(old)
	f()
}

// outside makes a directory that must stay as it is.
func outside(t *testing.T) (dir string, same func()) {
	t.Helper()
	dir = t.TempDir()
	ok(t, os.WriteFile(dir+"/secret", []byte("secret"), 0o644))
	ok(t, os.Mkdir(dir+"/sub", 0o755))
	return dir, func() {
		t.Helper()
		onDisk(t, dir+"/secret", "secret")
		if es := entries(t, dir); !slices.Equal(es, []string{"secret", "sub"}) {
			t.Errorf("outside there is now %q", es)
		}
		if es := entries(t, dir+"/sub"); len(es) != 0 {
			t.Errorf("outside there is now sub/%q", es)
		}
		fi, err := os.Stat(dir + "/secret")
		if err != nil || fi.Mode() != 0o644 {
			t.Errorf("outside changed: %v, %v", fi.Mode(), err)
		}
	}
}

func TestLinksThatLeave(t *testing.T) {
	out, same := outside(t)
	defer same()
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	up := strings.Repeat("../", 20)
	links := map[string]string{
		"abs": out + "/secret", "absdir": out, "rel": up + out[1:] + "/secret", "reldir": up + out[1:], "up": "..", "proc": "/proc/self/root",
		"procdir": "/proc/self/root" + out, "cwd": "/proc/self/cwd", "root": "/", "chain": "absdir", "mixed": "real/../../" + out[1:], "fd": "/proc/self/fd",
	}
	ok(t, os.Mkdir(dir+"/real", 0o755))
	for n, target := range links {
		ok(t, os.Symlink(target, dir+"/"+n))
	}
	put(t, f, "/mine", "mine", vfs.CreateOptions{})
	all := listed(t, f, "/")
	when := time.Unix(1, 0)
	for n := range links {
		for _, l := range []func() (vfs.Info, error){
			func() (vfs.Info, error) { return f.Stat(ctx, "/"+n) },
			func() (vfs.Info, error) { return f.Lstat(ctx, "/"+n) },
			func() (vfs.Info, error) { return all[n], nil },
		} {
			i, err := l()
			if err != nil || i.Mode&fs.ModeSymlink == 0 || i.Target != "" && n != "chain" || i.Name != n {
				t.Errorf("%s is described as %+v, %v", n, i, err)
			}
		}
		var errs []error
		add := func(_ any, err error) { errs = append(errs, err) }
		for _, name := range []string{"/" + n, "/" + n + "/secret", "/" + n + "/sub", "/" + n + "/sub/new"} {
			add(f.Open(ctx, name, 0))
			for _, o := range []vfs.CreateOptions{{}, {Upload: vfs.Visible}, {Upload: vfs.AtomicResume}, {Append: true}} {
				add(f.Create(ctx, name, o))
			}
			add(f.OpenFile(ctx, name, os.O_RDWR, 0))
			add(f.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0))
			add(nil, f.SetAttr(ctx, name, vfs.Attr{Mode: new(fs.FileMode), ModTime: &when}))
			add(nil, f.SetAttr(ctx, name, vfs.Attr{Size: new(int64)}))
			add(f.Copy(ctx, name, "/copy", vfs.CreateOptions{}))
			add(f.Copy(ctx, "/mine", name, vfs.CreateOptions{}))
			for i, err := range f.List(ctx, name) {
				add(i, err)
			}
		}
		for _, name := range []string{"/" + n + "/secret", "/" + n + "/sub", "/" + n + "/new"} {
			add(f.Stat(ctx, name))
			add(f.Lstat(ctx, name))
			add(nil, f.Remove(ctx, name))
			add(nil, f.Mkdir(ctx, name, 0))
			add(nil, f.Rename(ctx, "/mine", name, true))
			add(nil, f.Rename(ctx, name, "/stolen", true))
			add(nil, f.Link(ctx, name, "/stolen"))
			add(nil, f.Link(ctx, "/mine", name))
			add(nil, f.Symlink(ctx, "x", name))
			add(f.Readlink(ctx, name))
			add(f.Space(ctx, name))
		}
		for i, err := range errs {
			if k := fault.KindOf(err); k != fault.Denied {
				t.Errorf("%s, operation %d: %v (%v), want denied", n, i, k, err)
			}
		}
		if n != "chain" {
			_, err := f.Readlink(ctx, "/"+n)
			want(t, fault.Denied, err)
		}
		_, err := f.Create(ctx, "/"+n, vfs.CreateOptions{Exclusive: true})
		want(t, fault.Exist, err)
	}
	for n := range links { // the links themselves can be cleared away
		ok(t, f.Rename(ctx, "/"+n, "/real/l", false))
		ok(t, f.Remove(ctx, "/real/l"))
	}
	if es := entries(t, dir); !slices.Equal(es, []string{"mine", "real"}) {
		t.Errorf("left: %q", es)
	}
}

// TestRace swaps a directory for a link to the outside as fast as the kernel
// can, while clients work in it. Nothing outside may be seen or touched.
func TestRace(t *testing.T) {
	out, same := outside(t)
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	ok(t, os.Mkdir(dir+"/d", 0o755))
	ok(t, os.Mkdir(dir+"/d/sub", 0o755))
	ok(t, os.WriteFile(dir+"/d/secret", []byte("inside"), 0o644))
	ok(t, os.Symlink(out, dir+"/l"))
	ok(t, os.WriteFile(dir+"/mine", []byte("mine"), 0o644))
	stop := make(chan struct{})
	var swaps int
	var swapper, wg sync.WaitGroup
	swapper.Go(func() {
		for ; ; swaps++ {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, dir+"/d", unix.AT_FDCWD, dir+"/l", unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	const tries = 3000
	hits := map[string]int{}
	var mu sync.Mutex
	try := func(name string, op func() error) {
		wg.Go(func() {
			n := 0
			for range tries {
				err := op()
				switch fault.KindOf(err) {
				case fault.None:
					n++
				case fault.Denied, fault.NotExist, fault.Exist, fault.WrongType, fault.Busy:
				default:
					t.Errorf("%s: %v", name, err)
				}
			}
			mu.Lock()
			hits[name] = n
			mu.Unlock()
		})
	}
	try("list", func() error {
		for i, err := range f.List(ctx, "/d") {
			if err != nil {
				return err
			}
			if i.Name == "secret" && i.Size != 6 || i.Name == "sub" && i.Dev == 0 {
				t.Errorf("listed %+v", i)
			}
			if fi, err := os.Lstat(out + "/" + i.Name); err == nil && i.Inode == fi.Sys().(*syscall.Stat_t).Ino {
				t.Errorf("%s of the outside was listed", i.Name)
			}
		}
		return nil
	})
	try("open", func() error {
		r, err := f.Open(ctx, "/d/secret", 0)
		if err != nil {
			return err
		}
		defer r.Close()
		if b, err := io.ReadAll(r); string(b) != "inside" {
			t.Errorf("read %q, %v", b, err)
		}
		return nil
	})
	for name, up := range map[string]vfs.Upload{"atomic": vfs.Atomic, "visible": vfs.Visible} {
		try(name, func() error {
			w, err := f.Create(ctx, "/d/"+name, vfs.CreateOptions{Upload: up})
			if err != nil {
				return err
			}
			return errors.Join(w.Commit(ctx))
		})
	}
	try("mkdir", func() error { return f.Mkdir(ctx, "/d/new", 0) })
	try("remove", func() error { return f.Remove(ctx, "/d/new") })
	try("rename", func() error { return f.Rename(ctx, "/d/atomic", "/d/sub/moved", true) })
	try("chmod", func() error { return f.SetAttr(ctx, "/d/secret", vfs.Attr{Mode: ptr(fs.FileMode(0o600))}) })
	try("stat", func() error {
		i, err := f.Stat(ctx, "/d/secret")
		if fi, oerr := os.Lstat(out + "/secret"); err == nil && oerr == nil && i.Inode == fi.Sys().(*syscall.Stat_t).Ino {
			t.Error("the outside was described")
		}
		return err
	})
	wg.Wait()
	close(stop)
	swapper.Wait()
	same()
	t.Logf("%d swaps; of %d tries each these succeeded: %v", swaps, tries, hits)
	for name, n := range hits {
		if n == 0 && name != "remove" && name != "rename" && name != "mkdir" {
			t.Errorf("%s never succeeded, so the race was not one", name)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// promptly fails the test when f blocks.
func promptly(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	ok(t, unix.Mkfifo(dir+"/fifo", 0o666))
	ok(t, os.Symlink("fifo", dir+"/tofifo"))
	sock, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/sock"})
	ok(t, err)
	sock.SetUnlinkOnClose(false)
	ok(t, sock.Close())
	names := []string{"/fifo", "/tofifo", "/sock"}
	if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err == nil {
		names = append(names, "/null")
	} else {
		t.Logf("no right to make a device here (%v): FIFO and socket alone", err)
	}
	put(t, f, "/mine", "mine", vfs.CreateOptions{})
	for _, n := range names {
		ops := map[string]func() error{
			"Open":     func() error { _, err := f.Open(ctx, n, 0); return err },
			"Create":   func() error { _, err := f.Create(ctx, n, vfs.CreateOptions{}); return err },
			"Visible":  func() error { _, err := f.Create(ctx, n, vfs.CreateOptions{Upload: vfs.Visible}); return err },
			"Append":   func() error { _, err := f.Create(ctx, n, vfs.CreateOptions{Append: true}); return err },
			"Resume":   func() error { _, err := f.Create(ctx, n, vfs.CreateOptions{Upload: vfs.AtomicResume}); return err },
			"OpenFile": func() error { _, err := f.OpenFile(ctx, n, os.O_RDWR, 0); return err },
			"ReadOnly": func() error { _, err := f.OpenFile(ctx, n, os.O_RDONLY, 0); return err },
			"Write":    func() error { _, err := f.OpenFile(ctx, n, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0); return err },
			"Copy":     func() error { _, err := f.Copy(ctx, n, "/copy", vfs.CreateOptions{}); return err },
			"CopyTo":   func() error { _, err := f.Copy(ctx, "/mine", n, vfs.CreateOptions{}); return err },
			"SetAttr":  func() error { return f.SetAttr(ctx, n, vfs.Attr{Mode: ptr(fs.FileMode(0))}) },
			"Truncate": func() error { return f.SetAttr(ctx, n, vfs.Attr{Size: new(int64)}) },
			"Link":     func() error { return f.Link(ctx, n, "/hard") },
		}
		for what, op := range ops {
			if err := promptly(t, what+" "+n, op); fault.KindOf(err) != fault.Denied {
				t.Errorf("%s %s: %v, want denied", what, n, err)
			}
		}
		below := map[string]func() error{
			"List":   func() error { return last(f, t, n) },
			"Open":   func() error { _, err := f.Open(ctx, n+"/x", 0); return err },
			"Create": func() error { _, err := f.Create(ctx, n+"/x", vfs.CreateOptions{}); return err },
			"Mkdir":  func() error { return f.Mkdir(ctx, n+"/x", 0) },
			"Remove": func() error { return f.Remove(ctx, n+"/x") },
			"Rename": func() error { return f.Rename(ctx, "/mine", n+"/x", true) },
			"Stat":   func() error { _, err := f.Stat(ctx, n+"/x"); return err },
		}
		for what, op := range below {
			if err := promptly(t, what+" below "+n, op); fault.KindOf(err) != fault.WrongType {
				t.Errorf("%s below %s: %v, want wrong-type", what, n, err)
			}
		}
		if i, err := f.Stat(ctx, n); err != nil || i.Mode.IsRegular() || i.IsDir() {
			t.Errorf("Stat %s gives %+v, %v", n, i, err)
		}
	}
	for _, n := range names { // an operator's stray file can be cleared away
		ok(t, f.Rename(ctx, n, "/moved", false))
		ok(t, f.Remove(ctx, "/moved"))
	}
	if es := entries(t, dir); !slices.Equal(es, []string{"mine"}) {
		t.Errorf("left: %q", es)
	}
}

func last(f *FS, t *testing.T, name string) (err error) {
	for _, err = range f.List(t.Context(), name) {
	}
	return err
}

func TestSpecialBits(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	mode := func(name string) fs.FileMode {
		fi, err := os.Stat(dir + name)
		ok(t, err)
		return fi.Mode()
	}
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		put(t, f, "/new", "#!/bin/sh", vfs.CreateOptions{Upload: up, Perm: fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o7777})
		if m := mode("/new"); m != 0o755 {
			t.Errorf("an upload made %v", m)
		}
		ok(t, f.Remove(ctx, "/new"))
	}
	ok(t, os.WriteFile(dir+"/suid", []byte("old"), 0o755))
	ok(t, os.Chmod(dir+"/suid", fs.ModeSetuid|0o755))
	put(t, f, "/suid", "new", vfs.CreateOptions{})
	if m := mode("/suid"); m != 0o755 {
		t.Errorf("overwriting a setuid file left %v", m)
	}
	ok(t, os.Chmod(dir+"/suid", fs.ModeSetuid|fs.ModeSetgid|0o755))
	_, err := f.Copy(ctx, "/suid", "/copy", vfs.CreateOptions{})
	ok(t, err)
	if m := mode("/copy"); m != 0o755 {
		t.Errorf("a copy of a setuid file is %v", m)
	}
	ok(t, f.SetAttr(ctx, "/suid", vfs.Attr{Mode: ptr(fs.FileMode(0o700))}))
	if m := mode("/suid"); m != 0o700 {
		t.Errorf("chmod of a setuid file left %v", m)
	}
	ok(t, f.Mkdir(ctx, "/shared", 0))
	ok(t, os.Chmod(dir+"/shared", fs.ModeSetgid|fs.ModeSticky|0o775))
	ok(t, f.SetAttr(ctx, "/shared", vfs.Attr{Mode: ptr(fs.FileMode(0o750))}))
	if m := mode("/shared"); m != fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o750 {
		t.Errorf("chmod took what an operator set on a directory: %v", m)
	}
	ok(t, f.Mkdir(ctx, "/shared/sub", 0))
	if m := mode("/shared/sub"); m != fs.ModeDir|fs.ModeSetgid|0o755 {
		t.Errorf("a directory in a setgid directory is %v", m)
	}
}

func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, Options{})
	ctx := t.Context()
	ok(t, f.Mkdir(ctx, "/d", 0))
	put(t, f, "/d/f", "12345", vfs.CreateOptions{})
	ok(t, unix.Mkfifo(dir+"/d/fifo", 0o600))
	before := len(entries(t, "/proc/self/fd"))
	for range 50 {
		for _, o := range []vfs.CreateOptions{{}, {Upload: vfs.Visible}, {Upload: vfs.AtomicResume}, {Append: true}, {Offset: 2}, {Offset: 99}, {Exclusive: true}} {
			for _, name := range []string{"/d/f", "/d/new", "/d", "/no/x", "/d/fifo"} {
				if w, err := f.Create(ctx, name, o); err == nil {
					if second, err := f.Create(ctx, name, vfs.CreateOptions{Append: true}); err == nil {
						_ = second.Abort(nil)
					}
					_ = w.Abort(nil)
				}
			}
			put(t, f, "/d/f", "12345", vfs.CreateOptions{})
			_ = f.Remove(ctx, "/d/new")
		}
		for _, off := range []int64{0, 3, 99} {
			if r, err := f.Open(ctx, "/d/f", off); err == nil {
				_ = r.Close()
			}
		}
		_, _ = f.Open(ctx, "/d/fifo", 0)
		_, _ = f.Open(ctx, "/d", 0)
		_ = f.Rename(ctx, "/d/f", "/g", true)
		_ = f.Rename(ctx, "/g", "/d/f", false)
		_ = f.SetAttr(ctx, "/d/f", vfs.Attr{ModTime: ptr(time.Now())})
		_, _ = f.Copy(ctx, "/d/f", "/d/copy", vfs.CreateOptions{})
		_, _ = f.Space(ctx, "/d")
		for range f.List(ctx, "/d") {
			break
		}
		for range f.List(ctx, "/d/f") {
		}
		_, _ = f.Sweep(ctx, 0)
		ok(t, f.Remove(ctx, "/d/copy"))
		want(t, fault.WrongType, f.Remove(ctx, "/d"))
	}
	if after := len(entries(t, "/proc/self/fd")); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	for _, e := range entries(t, dir+"/d") {
		if isTemp(e) {
			t.Errorf("%s is left", e)
		}
	}
}
