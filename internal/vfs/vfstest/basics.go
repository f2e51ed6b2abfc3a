package vfstest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func testRoot(s *tree) {
	i, err := s.Stat(s.ctx, "/")
	s.ok(err)
	if !i.IsDir() || i.Name != "/" {
		s.Errorf("the root is %+v", i)
	}
	s.names("/")
	s.want(fault.Denied, s.Remove(s.ctx, "/"))
	s.want(fault.Denied, s.Rename(s.ctx, "/", "/x", true))
	s.mkdir("/x")
	s.want(fault.Denied, s.Rename(s.ctx, "/x", "/", true))
	s.want(fault.Denied, s.Mkdir(s.ctx, "/", 0))
	_, err = s.Create(s.ctx, "/", vfs.CreateOptions{})
	s.want(fault.Denied, err)
	_, err = s.Open(s.ctx, "/", 0)
	s.want(fault.WrongType, err)
	s.names("/", "x")
}

func testFiles(s *tree) {
	big := strings.Repeat("0123456789abcdef", 20000) // over any buffer's edge
	for name, data := range map[string]string{"/empty": "", "/one": "x", "/big": big, "/bin": "\x00\xff\r\n\x00"} {
		s.put(name, data)
		s.holds(name, data)
	}
	s.put("/big", "short")
	s.holds("/big", "short")
	i, err := s.Stat(s.ctx, "/one")
	s.ok(err)
	if i.Name != "one" || !i.Mode.IsRegular() || i.IsDir() {
		s.Errorf("Stat gives %+v", i)
	}
	r, err := s.Open(s.ctx, "/one", 0)
	s.ok(err)
	buf := make([]byte, 10)
	if n, err := r.Read(buf); n != 1 || err != nil && err != io.EOF {
		s.Errorf("Read gives %d, %v", n, err)
	}
	if n, err := r.Read(buf); n != 0 || err != io.EOF { // exactly io.EOF: callers compare
		s.Errorf("Read at the end gives %d, %v", n, err)
	}
	s.ok(r.Close())
}

func testOffsets(s *tree) {
	s.put("/f", "hello")
	for off, want := range map[int64]string{0: "hello", 1: "ello", 4: "o", 5: ""} {
		if got, err := s.read("/f", off); got != want || err != nil {
			s.Errorf("from %d: %q, %v; want %q", off, got, err, want)
		}
	}
	_, err := s.Open(s.ctx, "/f", 6)
	s.want(fault.Range, err)
	_, err = s.Open(s.ctx, "/f", 1<<62)
	s.want(fault.Range, err)
	_, err = s.Open(s.ctx, "/f", -1)
	s.want(fault.Invalid, err)
}

func testDirectories(s *tree) {
	s.mkdir("/a", "/a/b", "/a/b/c")
	s.put("/a/b/f", "x")
	s.names("/", "a")
	s.names("/a/b", "c", "f")
	s.names("/a/b/c")
	i, err := s.Stat(s.ctx, "/a/b")
	s.ok(err)
	if !i.IsDir() || i.Name != "b" {
		s.Errorf("Stat gives %+v", i)
	}
	s.want(fault.Exist, s.Mkdir(s.ctx, "/a", 0))
	s.want(fault.Exist, s.Mkdir(s.ctx, "/a/b/f", 0))
	s.want(fault.NotExist, s.Mkdir(s.ctx, "/no/x", 0))
	s.want(fault.WrongType, s.Mkdir(s.ctx, "/a/b/f/x", 0))
}

func testRemove(s *tree) {
	s.mkdir("/d", "/d/e")
	s.put("/d/f", "x")
	err := s.Remove(s.ctx, "/d")
	s.want(fault.WrongType, err)
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		s.Errorf("%v does not say why", err)
	}
	s.ok(s.Remove(s.ctx, "/d/e"))
	s.ok(s.Remove(s.ctx, "/d/f"))
	s.want(fault.NotExist, s.Remove(s.ctx, "/d/f"))
	s.ok(s.Remove(s.ctx, "/d"))
	s.names("/")
	s.want(fault.NotExist, s.Remove(s.ctx, "/d/f"))
	s.put("/f", "x")
	s.want(fault.WrongType, s.Remove(s.ctx, "/f/x"))
	// A file that is being read can be removed; the reader goes on.
	r, err := s.Open(s.ctx, "/f", 0)
	s.ok(err)
	s.ok(s.Remove(s.ctx, "/f"))
	if b, err := io.ReadAll(r); string(b) != "x" || err != nil {
		s.Errorf("the reader of a removed file gets %q, %v", b, err)
	}
	s.ok(r.Close())
}

func testRename(s *tree) {
	s.put("/f", "1")
	s.mkdir("/d", "/d/e", "/full")
	s.put("/full/x", "x")
	s.ok(s.Rename(s.ctx, "/f", "/d/g", false))
	s.absent("/f")
	s.holds("/d/g", "1")
	s.put("/h", "2")
	s.ok(s.Rename(s.ctx, "/h", "/d/g", true)) // a file gives way
	s.holds("/d/g", "2")
	s.ok(s.Rename(s.ctx, "/d/g", "/d/g", false)) // nothing to do
	s.ok(s.Rename(s.ctx, "/d/g", "/d/G", true))  // same directory
	s.holds("/d/G", "2")
	s.ok(s.Rename(s.ctx, "/d/G", "/d/g", false))
	s.ok(s.Rename(s.ctx, "/d", "/D", false)) // a directory with what is in it
	s.holds("/D/g", "2")
	s.names("/", "D", "full")
	s.want(fault.NotExist, s.Rename(s.ctx, "/no", "/x", true))
	s.want(fault.NotExist, s.Rename(s.ctx, "/no", "/no", true))
	s.want(fault.NotExist, s.Rename(s.ctx, "/D/g", "/no/x", true))
	s.want(fault.WrongType, s.Rename(s.ctx, "/D/g", "/full/x/y", true))
	s.want(fault.Invalid, s.Rename(s.ctx, "/D", "/D/e/D", true))
	s.want(fault.Invalid, s.Rename(s.ctx, "/D", "/D/D", false))
	s.want(fault.Exist, s.Rename(s.ctx, "/D", "/full", true)) // directories never give way
	s.want(fault.Exist, s.Rename(s.ctx, "/D/g", "/D/e", true))
	s.want(fault.WrongType, s.Rename(s.ctx, "/D/e", "/full/x", true))
	s.holds("/D/g", "2")
	s.holds("/full/x", "x")
}

func testRenameExclusive(s *tree) {
	s.put("/a", "a")
	s.put("/b", "b")
	s.mkdir("/d", "/e")
	for _, to := range []string{"/b", "/d"} {
		s.want(fault.Exist, s.Rename(s.ctx, "/a", to, false))
	}
	s.want(fault.Exist, s.Rename(s.ctx, "/d", "/e", false))
	s.want(fault.Exist, s.Rename(s.ctx, "/d", "/b", false))
	s.holds("/a", "a")
	s.holds("/b", "b")
	// Of many that move to one free name exactly one succeeds.
	const n = 16
	for i := range n {
		s.put(fmt.Sprintf("/src%d", i), fmt.Sprint(i))
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = s.Rename(s.ctx, fmt.Sprintf("/src%d", i), "/one", false) })
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			s.holds("/one", fmt.Sprint(i))
		} else {
			s.want(fault.Exist, err)
			s.holds(fmt.Sprintf("/src%d", i), fmt.Sprint(i))
		}
	}
	if won != 1 {
		s.Errorf("%d of %d moves to one name succeeded", won, n)
	}
}

func testList(s *tree) {
	want := map[string]bool{}
	s.mkdir("/d")
	for i := range 1500 {
		n := fmt.Sprintf("file with a longer name %04d", i)
		want[n] = true
		s.upload("/d/"+n, "12", vfs.CreateOptions{Upload: vfs.Visible})
	}
	s.mkdir("/d/sub")
	got := s.list("/d")
	if len(got) != len(want)+1 {
		s.Errorf("%d entries, want %d", len(got), len(want)+1)
	}
	for n, i := range got {
		switch {
		case n == "sub":
			if !i.IsDir() {
				s.Errorf("sub is listed as %v", i.Mode)
			}
		case !want[n] || i.Size != 2 || !i.Mode.IsRegular() || i.ModTime.IsZero():
			s.Errorf("unexpected entry %+v", i)
		}
	}
	s.put("/f", "x")
	s.want(fault.WrongType, s.listErr("/f"))
	s.want(fault.NotExist, s.listErr("/no"))
	s.want(fault.NotExist, s.listErr("/no/where"))
}

func testListStops(s *tree) {
	for i := range 200 {
		s.upload(fmt.Sprintf("/%d", i), "", vfs.CreateOptions{Upload: vfs.Visible})
	}
	for range 3000 { // a leaked descriptor each would show
		n := 0
		for _, err := range s.List(s.ctx, "/") {
			s.ok(err)
			if n++; n == 3 {
				break
			}
		}
		if n != 3 {
			s.Fatalf("stopped after %d entries", n)
		}
	}
	seq := s.List(s.ctx, "/") // the same sequence starts anew
	for range 2 {
		n := 0
		for range seq {
			n++
		}
		if n != 200 {
			s.Errorf("%d entries, want 200", n)
		}
	}
	// One listing inside another, with changes between.
	for i, err := range s.List(s.ctx, "/") {
		s.ok(err)
		for j, err := range s.List(s.ctx, "/") {
			s.ok(err)
			_ = j
			break
		}
		s.ok(s.Remove(s.ctx, "/"+i.Name))
	}
	s.names("/")
}

func testListChanging(s *tree) {
	for i := range 300 {
		s.upload(fmt.Sprintf("/keep%d", i), "", vfs.CreateOptions{Upload: vfs.Visible})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("/tmp%d", i%50)
			if w, err := s.Create(s.ctx, name, vfs.CreateOptions{}); err == nil {
				_ = w.Commit(s.ctx)
			}
			_ = s.Remove(s.ctx, name)
		}
	})
	for range 20 {
		n := 0
		for i, err := range s.List(s.ctx, "/") {
			s.ok(err)
			if strings.HasPrefix(i.Name, "keep") {
				n++
			} else if !strings.HasPrefix(i.Name, "tmp") {
				s.Errorf("unexpected entry %q", i.Name)
			}
		}
		if n != 300 {
			s.Errorf("%d of the 300 entries that stay were listed", n)
		}
	}
	close(stop)
	wg.Wait()
}

func testFaults(s *tree) {
	s.put("/f", "x")
	s.mkdir("/d")
	_, err := s.Open(s.ctx, "/no", 0)
	s.want(fault.NotExist, err)
	if !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("errors.Is(%v, fs.ErrNotExist) is false", err)
	}
	_, err = s.Open(s.ctx, "/d", 0)
	s.want(fault.WrongType, err)
	_, err = s.Open(s.ctx, "/f/x", 0)
	s.want(fault.WrongType, err)
	_, err = s.Stat(s.ctx, "/no/x")
	s.want(fault.NotExist, err)
	for _, o := range []vfs.CreateOptions{{}, {Upload: vfs.Visible}, {Append: true}, {Upload: vfs.AtomicResume}} {
		_, err = s.Create(s.ctx, "/d", o)
		s.want(fault.WrongType, err)
		_, err = s.Create(s.ctx, "/no/x", o)
		s.want(fault.NotExist, err)
		_, err = s.Create(s.ctx, "/f/x", o)
		s.want(fault.WrongType, err)
	}
	_, err = s.Create(s.ctx, "/g", vfs.CreateOptions{Offset: -1})
	s.want(fault.Invalid, err)
	_, err = s.Create(s.ctx, "/g", vfs.CreateOptions{Size: -1})
	s.want(fault.Invalid, err)
	s.names("/", "d", "f")
	var fe *fault.Error
	if _, err := s.Stat(s.ctx, "/no"); !errors.As(err, &fe) || fe.Path != "/no" {
		s.Errorf("%v does not carry the client's path", err)
	}
}

func testCancelled(s *tree) {
	s.put("/f", "x")
	s.mkdir("/d")
	check := func(what string, err error) {
		s.Helper()
		if fault.KindOf(err) != fault.Stopping { // the cause of the context, not just "canceled"
			s.Errorf("%s with a context that is done gives %v", what, err)
		}
	}
	_, err := s.Stat(ctxDone, "/f")
	check("Stat", err)
	_, err = s.Open(ctxDone, "/f", 0)
	check("Open", err)
	_, err = s.Create(ctxDone, "/g", vfs.CreateOptions{})
	check("Create", err)
	check("Mkdir", s.Mkdir(ctxDone, "/e", 0))
	check("Remove", s.Remove(ctxDone, "/f"))
	check("Rename", s.Rename(ctxDone, "/f", "/g", true))
	for _, err := range s.List(ctxDone, "/") {
		check("List", err)
	}
	w := s.create("/g", vfs.CreateOptions{})
	s.write(w, "x")
	check("Commit", w.Commit(ctxDone))
	s.names("/", "d", "f")
}

func testMetadata(s *tree) {
	before := time.Now().Add(-2 * time.Second)
	s.upload("/f", "x", vfs.CreateOptions{Perm: 0o640})
	s.upload("/x", "x", vfs.CreateOptions{Perm: 0o7777})
	s.put("/plain", "x")
	s.ok(s.Mkdir(s.ctx, "/d", 0o750))
	s.ok(s.Mkdir(s.ctx, "/e", 0))
	s.ok(s.Mkdir(s.ctx, "/g", fs.ModeSetgid|fs.ModeSticky|0o7777))
	for name, want := range map[string]fs.FileMode{
		"/f": 0o640, "/x": 0o755, "/plain": 0o644, "/d": fs.ModeDir | 0o750, "/e": fs.ModeDir | 0o755, "/g": fs.ModeDir | 0o755,
	} {
		i, err := s.Stat(s.ctx, name)
		s.ok(err)
		if i.Mode != want {
			s.Errorf("%s has mode %v, want %v", name, i.Mode, want)
		}
		if i.ModTime.Before(before) || i.ModTime.After(time.Now().Add(2*time.Second)) {
			s.Errorf("%s was modified at %v", name, i.ModTime)
		}
		l := s.list("/")[i.Name]
		if l.Mode != i.Mode || l.Size != i.Size && !i.IsDir() || l.Inode != i.Inode || !l.ModTime.Equal(i.ModTime) {
			s.Errorf("List says %+v, Stat %+v", l, i)
		}
	}
}
