package vfstest

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func testLstat(s *tree) {
	l, ok := s.FS.(vfs.Lstater)
	if !ok {
		s.lacks("vfs.Lstater")
		return
	}
	s.put("/f", "12")
	i, err := l.Lstat(s.ctx, "/f")
	if err != nil || i.Size != 2 || i.Name != "f" {
		s.Errorf("Lstat gives %+v, %v", i, err)
	}
	_, err = l.Lstat(s.ctx, "/no")
	s.want(fault.NotExist, err)
	i, err = l.Lstat(s.ctx, "/")
	if err != nil || !i.IsDir() {
		s.Errorf("Lstat of the root gives %+v, %v", i, err)
	}
	links, ok := s.FS.(vfs.Linker)
	if !ok {
		return
	}
	s.ok(links.Symlink(s.ctx, "f", "/l"))
	i, err = l.Lstat(s.ctx, "/l")
	s.ok(err)
	if i.Mode&fs.ModeSymlink == 0 || i.Name != "l" || i.Target != "f" {
		s.Errorf("Lstat of a link gives %+v", i)
	}
	i, err = s.Stat(s.ctx, "/l")
	s.ok(err)
	if !i.Mode.IsRegular() || i.Size != 2 || i.Name != "l" {
		s.Errorf("Stat of a link gives %+v", i)
	}
	if e := s.list("/")["l"]; e.Mode&fs.ModeSymlink == 0 || e.Target != "f" {
		s.Errorf("List shows the link as %+v", e)
	}
}

func testLinks(s *tree) {
	l, ok := s.FS.(vfs.Linker)
	if !ok {
		s.lacks("vfs.Linker")
		return
	}
	s.mkdir("/d", "/d/e")
	s.put("/d/f", "data")
	for _, tt := range []struct{ target, name, stored string }{
		{"/d/f", "/abs", "d/f"},
		{"d/f", "/rel", "d/f"},
		{"./d/../d/f", "/messy", "d/f"},
		{"/d/f", "/d/e/up", "../f"},
		{"../f", "/d/e/up2", "../f"},
		{"/d", "/dir", "d"},
		{"/", "/d/e/root", "../.."},
		{".", "/d/self", "."},
		{"/not yet", "/dangling", "not yet"},
	} {
		s.ok(l.Symlink(s.ctx, tt.target, tt.name))
		got, err := l.Readlink(s.ctx, tt.name)
		if got != tt.stored || err != nil {
			s.Errorf("Symlink(%q, %q) reads back as %q, %v; want %q", tt.target, tt.name, got, err, tt.stored)
		}
	}
	for _, n := range []string{"/abs", "/rel", "/messy", "/d/e/up", "/d/e/up2"} {
		s.holds(n, "data")
	}
	s.holds("/dir/f", "data")
	s.holds("/d/e/root/d/self/f", "data")
	s.put("/dir/g", "through") // a linked directory can be written to
	s.holds("/d/g", "through")
	s.names("/dir", "e", "f", "g", "self")
	i, err := s.Stat(s.ctx, "/dangling")
	if err != nil || i.Mode&fs.ModeSymlink == 0 {
		s.Errorf("a dangling link is %+v, %v", i, err)
	}
	_, err = s.Open(s.ctx, "/dangling", 0)
	s.want(fault.NotExist, err)
	_, err = l.Readlink(s.ctx, "/d/f")
	s.want(fault.Invalid, err)
	_, err = l.Readlink(s.ctx, "/no")
	s.want(fault.NotExist, err)
	s.want(fault.Exist, l.Symlink(s.ctx, "x", "/abs"))
	s.want(fault.NotExist, l.Symlink(s.ctx, "x", "/no/l"))
	s.want(fault.Exist, s.Mkdir(s.ctx, "/dangling", 0))
	_, err = s.Create(s.ctx, "/dangling", vfs.CreateOptions{Exclusive: true})
	s.want(fault.Exist, err)
	s.ok(s.Rename(s.ctx, "/abs", "/abs2", false)) // moves the link
	s.ok(s.Remove(s.ctx, "/abs2"))                // removes the link
	s.ok(s.Remove(s.ctx, "/dir"))
	s.holds("/d/f", "data")
}

func testLinkChains(s *tree) {
	l, ok := s.FS.(vfs.Linker)
	if !ok {
		s.lacks("vfs.Linker")
		return
	}
	s.put("/f", "data")
	s.ok(l.Symlink(s.ctx, "f", "/1"))
	s.ok(l.Symlink(s.ctx, "1", "/2"))
	s.ok(l.Symlink(s.ctx, "2", "/3"))
	s.holds("/3", "data")
	s.upload("/3", "new", vfs.CreateOptions{})
	s.holds("/f", "new")
	s.ok(l.Symlink(s.ctx, "b", "/a"))
	s.ok(l.Symlink(s.ctx, "a", "/b"))
	s.ok(l.Symlink(s.ctx, "self/x", "/self"))
	for _, n := range []string{"/a", "/self"} {
		_, err := s.Open(s.ctx, n, 0)
		s.want(fault.Denied, err)
		_, err = s.Create(s.ctx, n, vfs.CreateOptions{})
		s.want(fault.Denied, err)
		i, err := s.Stat(s.ctx, n)
		if err != nil || i.Mode&fs.ModeSymlink == 0 {
			s.Errorf("a link in circles is %+v, %v", i, err)
		}
		s.want(fault.Denied, s.listErr(n))
		s.ok(s.Remove(s.ctx, n))
	}
}

func testLinkTargets(s *tree) {
	l, ok := s.FS.(vfs.Linker)
	if !ok {
		s.lacks("vfs.Linker")
		return
	}
	s.mkdir("/d", "/x", "/x/y")
	for _, target := range []string{"..", "../x", "d/../..", "../../etc/passwd", "x/../../d"} {
		s.want(fault.Denied, l.Symlink(s.ctx, target, "/l"))
	}
	s.want(fault.Denied, l.Symlink(s.ctx, "../../x", "/d/l"))
	s.want(fault.Invalid, l.Symlink(s.ctx, "", "/l"))
	s.want(fault.NameRefused, l.Symlink(s.ctx, "a\nb", "/l"))
	s.want(fault.NameRefused, l.Symlink(s.ctx, "a\x00b", "/l"))
	s.want(fault.NameRefused, l.Symlink(s.ctx, strings.Repeat("n", 256), "/l"))
	s.want(fault.NameRefused, l.Symlink(s.ctx, "x", "/l\n"))
	s.names("/", "d", "x")
	// An absolute target cannot leave: ".." stops at the root of the FS.
	s.ok(l.Symlink(s.ctx, "/../../d", "/l"))
	if got, err := l.Readlink(s.ctx, "/l"); got != "d" || err != nil {
		s.Errorf("reads back as %q, %v", got, err)
	}
	// A link made in a linked directory counts from the real one.
	s.ok(l.Symlink(s.ctx, "/x/y", "/ln"))
	s.put("/x/f", "here")
	s.put("/f", "not here")
	s.ok(l.Symlink(s.ctx, "../f", "/ln/rel"))
	s.ok(l.Symlink(s.ctx, "/x/f", "/ln/abs"))
	s.holds("/x/y/rel", "here")
	s.holds("/x/y/abs", "here")
}

func testUploadThroughLink(s *tree) {
	l, ok := s.FS.(vfs.Linker)
	if !ok {
		s.lacks("vfs.Linker")
		return
	}
	s.mkdir("/d")
	s.put("/d/f", "old")
	s.ok(l.Symlink(s.ctx, "d/f", "/l"))
	s.ok(l.Symlink(s.ctx, "d/new", "/n"))
	for _, o := range []vfs.CreateOptions{{}, {Upload: vfs.Visible}, {Upload: vfs.AtomicResume}} {
		s.upload("/l", "new", o)
		s.holds("/d/f", "new")
		if got, err := l.Readlink(s.ctx, "/l"); got != "d/f" || err != nil {
			s.Errorf("the link became %q, %v", got, err)
		}
		s.upload("/n", "made", o)
		s.holds("/d/new", "made")
		s.names("/d", "f", "new")
		s.ok(s.Remove(s.ctx, "/d/new"))
		s.upload("/l", "old", vfs.CreateOptions{})
	}
	s.upload("/l", "+", vfs.CreateOptions{Append: true})
	s.holds("/d/f", "old+")
	s.put("/victim", "v")
	s.ok(s.Rename(s.ctx, "/victim", "/l", true)) // a move replaces the link itself
	s.holds("/l", "v")
	s.holds("/d/f", "old+")
}

func testHardLinks(s *tree) {
	h, ok := s.FS.(vfs.HardLinker)
	if !ok {
		s.lacks("vfs.HardLinker")
		return
	}
	s.mkdir("/d")
	s.put("/f", "one")
	s.ok(h.Link(s.ctx, "/f", "/d/g"))
	s.holds("/d/g", "one")
	a, err := s.Stat(s.ctx, "/f")
	s.ok(err)
	b, err := s.Stat(s.ctx, "/d/g")
	s.ok(err)
	if a.Inode != b.Inode || a.Links != 2 || b.Links != 2 {
		s.Errorf("linked files are %+v and %+v", a, b)
	}
	s.upload("/f", "+", vfs.CreateOptions{Append: true})
	s.holds("/d/g", "one+")
	s.put("/f", "two") // an atomic overwrite makes a new file
	s.holds("/d/g", "one+")
	s.want(fault.Exist, h.Link(s.ctx, "/f", "/d/g"))
	s.want(fault.WrongType, h.Link(s.ctx, "/d", "/e"))
	s.want(fault.NotExist, h.Link(s.ctx, "/no", "/e"))
	s.want(fault.NameRefused, h.Link(s.ctx, "/f", "/\n"))
	if l, ok := s.FS.(vfs.Linker); ok {
		s.ok(l.Symlink(s.ctx, "f", "/l"))
		s.want(fault.Denied, h.Link(s.ctx, "/l", "/e"))
	}
	s.absent("/e")
}

func testSetAttr(s *tree) {
	a, ok := s.FS.(vfs.AttrSetter)
	if !ok {
		s.lacks("vfs.AttrSetter")
		return
	}
	s.put("/f", "12345")
	s.mkdir("/d")
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, n := range []string{"/f", "/d"} {
		s.ok(a.SetAttr(s.ctx, n, vfs.Attr{Mode: ptr(fs.FileMode(0o500)), ModTime: &when}))
		i, err := s.Stat(s.ctx, n)
		s.ok(err)
		if permOf(i) != 0o500 || !i.ModTime.Equal(when) {
			s.Errorf("%s is now %+v", n, i)
		}
		s.ok(a.SetAttr(s.ctx, n, vfs.Attr{Mode: ptr(fs.FileMode(0o700))}))
		s.ok(a.SetAttr(s.ctx, n, vfs.Attr{ATime: &when}))
		s.ok(a.SetAttr(s.ctx, n, vfs.Attr{}))
		i, err = s.Stat(s.ctx, n)
		s.ok(err)
		if permOf(i) != 0o700 || !i.ModTime.Equal(when) {
			s.Errorf("%s is now %+v; the time should have stayed", n, i)
		}
		// No way to the bits beyond the permissions.
		for _, m := range []fs.FileMode{0o4777, 0o7777, fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777, ^fs.FileMode(0)} {
			s.ok(a.SetAttr(s.ctx, n, vfs.Attr{Mode: &m}))
			if i, err = s.Stat(s.ctx, n); err != nil || i.Mode&^fs.ModeDir != 0o777 {
				s.Errorf("mode %o makes %s %v, %v", m, n, i.Mode, err)
			}
		}
	}
	for _, size := range []int64{3, 0, 7} {
		s.ok(a.SetAttr(s.ctx, "/f", vfs.Attr{Size: &size, ModTime: &when}))
		i, err := s.Stat(s.ctx, "/f")
		if err != nil || i.Size != size || !i.ModTime.Equal(when) {
			s.Errorf("truncated to %+v, %v", i, err)
		}
	}
	s.holds("/f", strings.Repeat("\x00", 7))
	s.want(fault.Invalid, a.SetAttr(s.ctx, "/f", vfs.Attr{Size: ptr(int64(-1))}))
	s.want(fault.WrongType, a.SetAttr(s.ctx, "/d", vfs.Attr{Size: ptr(int64(0))}))
	s.want(fault.NotExist, a.SetAttr(s.ctx, "/no", vfs.Attr{ModTime: &when}))
	if l, ok := s.FS.(vfs.Linker); ok {
		s.ok(l.Symlink(s.ctx, "f", "/l"))
		s.ok(a.SetAttr(s.ctx, "/l", vfs.Attr{Mode: ptr(fs.FileMode(0o640))}))
		if i, err := s.Stat(s.ctx, "/f"); err != nil || permOf(i) != 0o640 {
			s.Errorf("through a link: %+v, %v", i, err)
		}
	}
}

func testRandomAccess(s *tree) {
	r, ok := s.FS.(vfs.RandomAccess)
	if !ok {
		s.lacks("vfs.RandomAccess")
		return
	}
	h, err := r.OpenFile(s.ctx, "/f", os.O_RDWR|os.O_CREATE, 0o640)
	s.ok(err)
	const block, blocks = 1000, 300
	var wg sync.WaitGroup
	for i := range blocks { // in any order, at once
		wg.Go(func() {
			if _, err := h.WriteAt(bytes.Repeat([]byte{byte(i)}, block), int64(i)*block); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	buf := make([]byte, block)
	for i := range blocks {
		if _, err := h.ReadAt(buf, int64(i)*block); err != nil || bytes.Count(buf, []byte{byte(i)}) != block {
			s.Fatalf("block %d: %v", i, err)
		}
	}
	if n, err := h.ReadAt(buf, blocks*block-1); n != 1 || err != io.EOF {
		s.Errorf("reading over the end gives %d, %v", n, err)
	}
	i, err := h.Stat()
	if err != nil || i.Size != blocks*block || i.Name != "f" || permOf(i) != 0o640 {
		s.Errorf("Stat gives %+v, %v", i, err)
	}
	s.ok(h.Truncate(3))
	_, err = h.WriteAt([]byte("end"), 70000) // a hole reads as zeros
	s.ok(err)
	s.ok(h.Sync())
	s.ok(h.Close())
	s.holds("/f", "\x00\x00\x00"+strings.Repeat("\x00", 70000-3)+"end")
	if h.Close() == nil {
		s.Error("closing twice succeeds")
	}
	if _, err := h.ReadAt(buf, 0); err == nil || err == io.EOF {
		s.Errorf("reading a closed handle gives %v", err)
	}
}

func testRandomAccessFlags(s *tree) {
	r, ok := s.FS.(vfs.RandomAccess)
	if !ok {
		s.lacks("vfs.RandomAccess")
		return
	}
	s.put("/f", "old")
	s.mkdir("/d")
	open := func(name string, flag int, want fault.Kind) {
		s.Helper()
		h, err := r.OpenFile(s.ctx, name, flag, 0)
		s.want(want, err)
		if err == nil {
			s.ok(h.Close())
		}
	}
	open("/no", os.O_RDONLY, fault.NotExist)
	open("/no", os.O_RDWR, fault.NotExist)
	open("/no/x", os.O_RDWR|os.O_CREATE, fault.NotExist)
	open("/f/x", os.O_RDWR|os.O_CREATE, fault.WrongType)
	open("/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, fault.Exist)
	open("/d", os.O_RDWR|os.O_CREATE|os.O_EXCL, fault.Exist)
	open("/d", os.O_RDONLY, fault.WrongType)
	open("/d", os.O_WRONLY|os.O_CREATE, fault.WrongType)
	open("/f", os.O_RDONLY|os.O_TRUNC, fault.Invalid)
	open("/f", os.O_WRONLY|os.O_RDWR, fault.Invalid)
	open("/f", os.O_APPEND|os.O_WRONLY, fault.Invalid)
	open("/f\n", os.O_WRONLY|os.O_CREATE, fault.NameRefused)
	s.holds("/f", "old")
	h, err := r.OpenFile(s.ctx, "/f", os.O_RDONLY, 0)
	s.ok(err)
	_, err = h.WriteAt([]byte("x"), 0)
	s.want(fault.Denied, err)
	s.ok(h.Close())
	h, err = r.OpenFile(s.ctx, "/f", os.O_WRONLY, 0)
	s.ok(err)
	_, err = h.ReadAt(make([]byte, 1), 0)
	s.want(fault.Denied, err)
	s.ok(h.Close())
	s.holds("/f", "old")
	open("/f", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fault.None)
	s.holds("/f", "")
	open("/new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, fault.None)
	s.holds("/new", "")
}

func testCopy(s *tree) {
	c, ok := s.FS.(vfs.Copier)
	if !ok {
		s.lacks("vfs.Copier")
		return
	}
	data := strings.Repeat("copy me ", 40000)
	s.upload("/f", data, vfs.CreateOptions{Perm: 0o600})
	s.mkdir("/d")
	n, err := c.Copy(s.ctx, "/f", "/d/g", vfs.CreateOptions{})
	if n != int64(len(data)) || err != nil {
		s.Errorf("copied %d, %v", n, err)
	}
	s.holds("/d/g", data)
	if i, err := s.Stat(s.ctx, "/d/g"); err != nil || permOf(i) != 0o600 {
		s.Errorf("the copy is %+v, %v", i, err)
	}
	_, err = c.Copy(s.ctx, "/f", "/d/g", vfs.CreateOptions{Exclusive: true})
	s.want(fault.Exist, err)
	_, err = c.Copy(s.ctx, "/no", "/x", vfs.CreateOptions{})
	s.want(fault.NotExist, err)
	_, err = c.Copy(s.ctx, "/d", "/x", vfs.CreateOptions{})
	s.want(fault.WrongType, err)
	_, err = c.Copy(s.ctx, "/f", "/d", vfs.CreateOptions{})
	s.want(fault.WrongType, err)
	_, err = c.Copy(s.ctx, "/f", "/f", vfs.CreateOptions{Upload: vfs.Visible})
	s.want(fault.Invalid, err)
	_, err = c.Copy(s.ctx, "/f", "/f", vfs.CreateOptions{Append: true})
	s.want(fault.Invalid, err)
	_, err = c.Copy(s.ctx, "/f", "/f", vfs.CreateOptions{})
	s.ok(err)
	s.holds("/f", data)
	_, err = c.Copy(ctxDone, "/f", "/x", vfs.CreateOptions{})
	s.want(fault.Stopping, err)
	s.put("/empty", "")
	n, err = c.Copy(s.ctx, "/empty", "/d/g", vfs.CreateOptions{})
	if n != 0 || err != nil {
		s.Errorf("copied %d, %v", n, err)
	}
	s.holds("/d/g", "")
	s.names("/", "f", "d", "empty")
}

func testSpace(s *tree) {
	sp, ok := s.FS.(vfs.Spacer)
	if !ok {
		s.lacks("vfs.Spacer")
		return
	}
	got, err := sp.Space(s.ctx, "/")
	s.ok(err)
	if got.Total <= 0 || got.Free < 0 || got.Free > got.Total {
		s.Errorf("Space gives %+v", got)
	}
	_, err = sp.Space(s.ctx, "/no")
	s.want(fault.NotExist, err)
}

func testSweep(s *tree) {
	sw, ok := s.FS.(vfs.Sweeper)
	if !ok {
		s.lacks("vfs.Sweeper")
		return
	}
	o := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	s.mkdir("/d", "/d/e")
	s.put("/d/f", "stays")
	left := s.create("/d/e/left", o)
	s.write(left, "x")
	s.ok(left.Abort(errCut))
	live := s.create("/d/e/live", o)
	s.write(live, "x")
	hidden := s.create("/d/hidden", vfs.CreateOptions{})
	s.write(hidden, "x")
	n, err := sw.Sweep(s.ctx, time.Hour)
	if n != 0 || err != nil {
		s.Errorf("young partials: Sweep gives %d, %v", n, err)
	}
	time.Sleep(20 * time.Millisecond) // clocks of file systems are coarse
	n, err = sw.Sweep(s.ctx, time.Millisecond)
	if n != 1 || err != nil {
		s.Errorf("Sweep removed %d, %v; want 1", n, err)
	}
	s.ok(live.Commit(s.ctx)) // what is being written is left alone
	s.ok(hidden.Commit(s.ctx))
	s.holds("/d/e/live", "x")
	s.holds("/d/hidden", "x")
	s.holds("/d/f", "stays")
	s.names("/d/e", "live")
	_, err = sw.Sweep(ctxDone, 0)
	s.want(fault.Stopping, err)
}
