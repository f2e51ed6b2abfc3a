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

var errCut = errors.New("connection cut")

func testAtomic(s *tree) {
	w := s.create("/f", vfs.CreateOptions{})
	s.write(w, "new")
	s.absent("/f")
	s.names("/") // the hidden file does not show
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "new")
	w = s.create("/f", vfs.CreateOptions{Keep: true})
	s.write(w, "other")
	s.holds("/f", "new") // the old one stays until the new one is whole
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "other")
	s.names("/", "f")
}

func testAtomicAbort(s *tree) {
	s.put("/old", "old")
	for _, keep := range []bool{false, true} {
		for _, name := range []string{"/f", "/old"} {
			w := s.create(name, vfs.CreateOptions{Keep: keep})
			s.write(w, "half")
			s.ok(w.Abort(errCut))
		}
	}
	s.holds("/old", "old")
	s.names("/", "old")
	s.mkdir("/d")
	w := s.create("/d/f", vfs.CreateOptions{})
	s.ok(w.Abort(errCut))
	s.ok(s.Remove(s.ctx, "/d")) // nothing lies about
}

func testAtomicParallel(s *tree) {
	const n = 12
	var wg sync.WaitGroup
	data := func(i int) string { return strings.Repeat(fmt.Sprint(i%10), 70000) }
	for i := range n {
		wg.Go(func() {
			w, err := s.Create(s.ctx, "/f", vfs.CreateOptions{})
			if err != nil {
				s.Error(err)
				return
			}
			for part := data(i); part != ""; part = part[7000:] {
				if _, err := io.WriteString(w, part[:7000]); err != nil {
					s.Error(err)
				}
			}
			if i%3 == 0 {
				err = w.Abort(errCut)
			} else {
				err = w.Commit(s.ctx)
			}
			if err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	got := s.get("/f")
	if len(got) != 70000 || strings.Trim(got, got[:1]) != "" {
		s.Errorf("the uploads mixed: %d bytes, %.20q", len(got), got)
	}
	s.names("/", "f")
}

func testAtomicKeepsMode(s *tree) {
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		name := fmt.Sprintf("/%d", up)
		s.upload(name, "1", vfs.CreateOptions{Perm: 0o600, Upload: up})
		s.upload(name, "2", vfs.CreateOptions{Perm: 0o644, Upload: up})
		i, err := s.Stat(s.ctx, name)
		s.ok(err)
		if permOf(i) != 0o600 {
			s.Errorf("overwriting (mode %d) turned 0600 into %v", up, i.Mode)
		}
		s.holds(name, "2")
	}
}

func testVisible(s *tree) {
	o := vfs.CreateOptions{Upload: vfs.Visible}
	w := s.create("/f", o)
	s.write(w, "half")
	s.holds("/f", "half")
	s.write(w, " whole")
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "half whole")
	s.upload("/f", "x", o)
	s.holds("/f", "x")
	r, err := s.Open(s.ctx, "/f", 0) // a reader sees what is written in place
	s.ok(err)
	w = s.create("/f", vfs.CreateOptions{Append: true})
	s.write(w, "yz")
	if b, err := io.ReadAll(r); string(b) != "xyz" || err != nil {
		s.Errorf("the reader gets %q, %v", b, err)
	}
	s.ok(r.Close())
	s.ok(w.Commit(s.ctx))
}

func testAppend(s *tree) {
	o := vfs.CreateOptions{Append: true}
	s.upload("/f", "one", o) // missing: made
	s.upload("/f", " two", o)
	s.upload("/f", "", o)
	s.upload("/f", " three", vfs.CreateOptions{Append: true, Upload: vfs.Visible, Sync: true})
	s.holds("/f", "one two three")
	_, err := s.Create(s.ctx, "/f", vfs.CreateOptions{Append: true, Offset: 2})
	s.want(fault.Invalid, err)
}

func testOffset(s *tree) {
	s.put("/f", "0123456789")
	s.upload("/f", "abc", vfs.CreateOptions{Offset: 4})
	s.holds("/f", "0123abc") // what lies beyond is cut
	s.upload("/f", "XYZ", vfs.CreateOptions{Offset: 7})
	s.holds("/f", "0123abcXYZ")
	s.upload("/f", "", vfs.CreateOptions{Offset: 5})
	s.holds("/f", "0123a")
	_, err := s.Create(s.ctx, "/f", vfs.CreateOptions{Offset: 6})
	s.want(fault.Range, err)
	_, err = s.Create(s.ctx, "/no", vfs.CreateOptions{Offset: 1})
	s.want(fault.Range, err)
	s.holds("/f", "0123a")
	s.names("/", "f")
	s.upload("/f", "whole", vfs.CreateOptions{}) // the refused ones hold no lock
	s.upload("/f", "!", vfs.CreateOptions{Append: true})
	s.holds("/f", "whole!")
}

func testAbort(s *tree) {
	tests := []struct {
		name  string
		o     vfs.CreateOptions
		exist bool
		want  string // "-" for no file
	}{
		{"visible new kept", vfs.CreateOptions{Upload: vfs.Visible, Keep: true}, false, "half"},
		{"visible new", vfs.CreateOptions{Upload: vfs.Visible}, false, "-"},
		{"visible old kept", vfs.CreateOptions{Upload: vfs.Visible, Keep: true}, true, "half"},
		{"visible old", vfs.CreateOptions{Upload: vfs.Visible}, true, "-"},
		{"append kept", vfs.CreateOptions{Append: true, Keep: true}, true, "012345half"},
		{"append", vfs.CreateOptions{Append: true}, true, "012345"},
		{"append new", vfs.CreateOptions{Append: true}, false, "-"},
		{"append new kept", vfs.CreateOptions{Append: true, Keep: true}, false, "half"},
		{"offset kept", vfs.CreateOptions{Offset: 1, Keep: true}, true, "0half5"},
		{"offset", vfs.CreateOptions{Offset: 3}, true, "012"},
	}
	for _, tt := range tests {
		name := "/" + tt.name
		if tt.exist {
			s.put(name, "012345")
		}
		w := s.create(name, tt.o)
		s.write(w, "half")
		s.ok(w.Abort(errCut))
		if tt.want == "-" {
			s.absent(name)
			continue
		}
		s.holds(name, tt.want)
		s.upload(name, "!", vfs.CreateOptions{Append: true}) // the lock is free again
		s.holds(name, tt.want+"!")
	}
	s.put("/empty", "")
	w := s.create("/empty", vfs.CreateOptions{Append: true})
	s.write(w, "half")
	s.ok(w.Abort(errCut))
	s.holds("/empty", "") // it was there before
}

func testBusy(s *tree) {
	s.put("/f", "12345")
	inPlace := []vfs.CreateOptions{{Append: true}, {Offset: 2}, {Upload: vfs.Visible}}
	for _, a := range inPlace {
		w := s.create("/f", a)
		for _, b := range inPlace {
			_, err := s.Create(s.ctx, "/f", b)
			s.want(fault.Busy, err)
		}
		s.write(w, "6789")
		s.ok(w.Commit(s.ctx))
		s.upload("/f", "12345", vfs.CreateOptions{Upload: vfs.Visible})
	}
	resume := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	w := s.create("/f", resume)
	_, err := s.Create(s.ctx, "/f", resume)
	s.want(fault.Busy, err)
	s.write(w, "x")
	s.ok(w.Commit(s.ctx))
	s.holds("/f", "x")
}

func testExclusive(s *tree) {
	s.put("/f", "old")
	s.mkdir("/d")
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		o := vfs.CreateOptions{Exclusive: true, Upload: up}
		for _, name := range []string{"/f", "/d"} {
			_, err := s.Create(s.ctx, name, o)
			s.want(fault.Exist, err)
		}
		name := fmt.Sprintf("/new%d", up)
		s.upload(name, "x", o)
		s.holds(name, "x")
	}
	_, err := s.Create(s.ctx, "/f", vfs.CreateOptions{Exclusive: true, Append: true})
	s.want(fault.Exist, err)
	w := s.create("/late", vfs.CreateOptions{Exclusive: true})
	s.write(w, "mine")
	s.put("/late", "theirs") // somebody was quicker
	s.want(fault.Exist, w.Commit(s.ctx))
	s.holds("/late", "theirs")
	s.holds("/f", "old")
	s.names("/", "f", "d", "new0", "new1", "new2", "late")
}

func testExclusiveParallel(s *tree) {
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible} {
		name := fmt.Sprintf("/one%d", up)
		const n = 16
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				w, err := s.Create(s.ctx, name, vfs.CreateOptions{Exclusive: true, Upload: up})
				if err == nil {
					_, err = io.WriteString(w, fmt.Sprint(i))
					err = errors.Join(err, w.Commit(s.ctx))
				}
				errs[i] = err
			})
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				s.holds(name, fmt.Sprint(i))
			} else {
				s.want(fault.Exist, err)
			}
		}
		if won != 1 {
			s.Errorf("%d of %d exclusive uploads won", won, n)
		}
	}
	s.names("/", "one0", "one1")
}

func testResume(s *tree) {
	o := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	for _, keep := range []bool{false, true} {
		s.put("/f", "the old file")
		o.Keep, o.Append, o.Offset = keep, false, 0
		w := s.create("/f", o)
		s.write(w, "0123456789")
		s.ok(w.Abort(errCut))
		s.holds("/f", "the old file")
		s.names("/", "f")
		o.Append = true
		w = s.create("/f", o)
		s.write(w, "abc")
		s.ok(w.Abort(errCut)) // again
		o.Append, o.Offset = false, 12
		w = s.create("/f", o)
		s.write(w, "XYZ")
		s.holds("/f", "the old file")
		s.ok(w.Commit(s.ctx))
		s.holds("/f", "0123456789abXYZ")
		s.names("/", "f")
	}
	o.Append, o.Offset = true, 0
	s.upload("/f", "!", o) // nothing hidden any more: the file itself goes on
	s.holds("/f", "0123456789abXYZ!")
}

func testResumeOwner(s *tree) {
	ann := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	bob := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "bob"}
	wa := s.create("/f", ann)
	s.write(wa, "from ann")
	wb := s.create("/f", bob) // not busy: it is another hidden file
	s.write(wb, "from bob")
	s.ok(wa.Abort(errCut))
	s.ok(wb.Abort(errCut))
	p, ok := s.FS.(vfs.Partials)
	if ok {
		n, err := p.Partial(s.ctx, "/f", "ann")
		if n != 8 || err != nil {
			s.Errorf("Partial gives %d, %v; want 8", n, err)
		}
		_, err = p.Partial(s.ctx, "/f", "eve")
		s.want(fault.NotExist, err)
		_, err = p.Partial(s.ctx, "/g", "ann")
		s.want(fault.NotExist, err)
	} else {
		s.lacks("vfs.Partials")
	}
	bob.Append = true
	s.upload("/f", "!", bob)
	s.holds("/f", "from bob!")
	ann.Append = true
	s.upload("/f", "?", ann)
	s.holds("/f", "from ann?")
}

func testResumeEdges(s *tree) {
	o := vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: "ann"}
	w := s.create("/f", o)
	s.write(w, "12345")
	s.ok(w.Abort(errCut))
	past := o
	past.Offset = 6
	_, err := s.Create(s.ctx, "/f", past)
	s.want(fault.Range, err)
	s.upload("/f", "fresh", o) // starting over forgets the partial
	s.holds("/f", "fresh")
	past.Offset = 1
	_, err = s.Create(s.ctx, "/g", past) // neither partial nor file
	s.want(fault.Range, err)
	s.mkdir("/d")
	w = s.create("/d/f", o)
	s.want(fault.Busy, s.Remove(s.ctx, "/d")) // somebody uploads into it
	s.write(w, "x")
	s.ok(w.Abort(errCut))
	s.names("/d")
	s.ok(s.Remove(s.ctx, "/d")) // what looks empty can be removed
	s.mkdir("/d")
	w = s.create("/d/f", o) // nothing stays of an empty one
	s.ok(w.Abort(errCut))
	s.ok(s.Remove(s.ctx, "/d"))
}

func testEndsOnce(s *tree) {
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		name := fmt.Sprintf("/%d", up)
		w := s.create(name, vfs.CreateOptions{Upload: up})
		s.write(w, "x")
		s.ok(w.Commit(s.ctx))
		s.ok(w.Abort(errCut)) // harmless, so that it can be deferred
		s.want(fault.Invalid, w.Commit(s.ctx))
		if _, err := w.Write([]byte("y")); err == nil {
			s.Error("a write after Commit succeeds")
		}
		s.holds(name, "x")
		w = s.create(name, vfs.CreateOptions{Upload: up, Append: true, Keep: true})
		s.ok(w.Abort(errCut))
		s.ok(w.Abort(errCut))
		s.want(fault.Invalid, w.Commit(s.ctx))
		s.holds(name, "x")
	}
}

func testRemovedMeanwhile(s *tree) {
	w := s.create("/f", vfs.CreateOptions{Upload: vfs.Visible})
	s.write(w, "x")
	s.ok(s.Remove(s.ctx, "/f"))
	s.want(fault.NotExist, w.Commit(s.ctx)) // or the client would believe it is there
	s.absent("/f")
	s.put("/g", "old")
	w = s.create("/g", vfs.CreateOptions{})
	s.write(w, "new")
	s.ok(s.Remove(s.ctx, "/g"))
	s.ok(w.Commit(s.ctx)) // hidden: it arrives all the same
	s.holds("/g", "new")
	w = s.create("/h", vfs.CreateOptions{})
	s.mkdir("/h")
	s.want(fault.Exist, w.Commit(s.ctx))
	s.names("/", "g", "h")
	w = s.create("/v", vfs.CreateOptions{Upload: vfs.Visible})
	s.write(w, "mine")
	s.ok(s.Remove(s.ctx, "/v"))
	s.put("/v", "theirs")
	s.ok(w.Abort(errCut))
	s.holds("/v", "theirs") // not ours to remove
}

func testWithdrawn(s *tree) {
	for _, mode := range []vfs.Upload{vfs.Atomic, vfs.AtomicResume} {
		s.mkdir("/d")
		w := s.create("/d/f", vfs.CreateOptions{Upload: mode, Owner: "ann"})
		s.write(w, "x")
		s.true(w.(vfs.Withdrawer).Withdraw())
		s.true(!w.(vfs.Withdrawer).Withdraw()) // there is nothing any more
		s.ok(s.Remove(s.ctx, "/d"))            // nothing holds the directory
		s.write(w, "y")
		s.want(fault.NotExist, w.Commit(s.ctx))
		s.mkdir("/d")
		w = s.create("/d/f", vfs.CreateOptions{Upload: mode, Owner: "ann"})
		s.true(w.(vfs.Withdrawer).Withdraw())
		s.ok(w.Abort(errCut))
		s.names("/d")
		s.ok(s.Remove(s.ctx, "/d"))
	}
	w := s.create("/v", vfs.CreateOptions{Upload: vfs.Visible})
	s.write(w, "x")
	s.true(!w.(vfs.Withdrawer).Withdraw()) // not hidden: Remove is for it
	s.ok(w.Commit(s.ctx))
	s.holds("/v", "x")
}

func testMovedMeanwhile(s *tree) {
	s.mkdir("/d")
	w := s.create("/d/f", vfs.CreateOptions{})
	s.write(w, "x")
	s.ok(s.Rename(s.ctx, "/d", "/e", false))
	s.ok(w.Commit(s.ctx))
	s.holds("/e/f", "x")
	s.absent("/d")
	w = s.create("/e/g", vfs.CreateOptions{Upload: vfs.Visible})
	s.write(w, "y")
	s.ok(s.Rename(s.ctx, "/e", "/d", false))
	s.ok(w.Abort(errCut))
	s.names("/d", "f")
}

func testSizeHint(s *tree) {
	const hint = 3 << 20
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		name := fmt.Sprintf("/%d", up)
		s.upload(name, "less than promised", vfs.CreateOptions{Size: hint, Upload: up})
		s.holds(name, "less than promised")
		more := strings.Repeat("m", hint+1)
		s.upload(name, more, vfs.CreateOptions{Size: hint, Upload: up})
		s.holds(name, more)
		w := s.create(name, vfs.CreateOptions{Size: hint, Append: true, Upload: up, Keep: true})
		s.write(w, "!")
		s.ok(w.Abort(errCut))
	}
	s.holds("/1", strings.Repeat("m", hint+1)+"!")
}

func testSync(s *tree) {
	s.mkdir("/d")
	for _, o := range []vfs.CreateOptions{{}, {Upload: vfs.Visible}, {Append: true}, {Upload: vfs.AtomicResume}, {Exclusive: true}} {
		o.Sync = true
		name := fmt.Sprintf("/d/%d%v%v", o.Upload, o.Append, o.Exclusive)
		s.upload(name, "kept", o)
		s.holds(name, "kept")
	}
}

// testConcurrent lets everything happen at once on few names. It asserts that
// nothing fails in an unforeseen way and that no upload is ever seen half.
func testConcurrent(s *tree) {
	s.mkdir("/a", "/b")
	names := []string{"/a/1", "/a/2", "/b/1", "/b/2"}
	deadline := time.Now().Add(400 * time.Millisecond)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := g; time.Now().Before(deadline); i++ {
				name, other := names[i%4], names[(i/4)%4]
				var err error
				switch i % 7 {
				case 0, 1:
					var w vfs.Writer
					if w, err = s.Create(s.ctx, name, vfs.CreateOptions{}); err == nil {
						_, _ = io.WriteString(w, "whole")
						_, _ = io.WriteString(w, " file")
						err = w.Commit(s.ctx)
					}
				case 2:
					var got string
					if got, err = s.read(name, 0); err == nil && got != "whole file" {
						s.Errorf("%s was seen as %q", name, got)
					}
				case 3:
					err = s.Rename(s.ctx, name, other, true)
				case 4:
					err = s.Remove(s.ctx, name)
				case 5:
					for i, lerr := range s.List(s.ctx, "/a") {
						if err = lerr; lerr == nil && i.Size != 10 {
							s.Errorf("listed with %d bytes", i.Size)
						}
					}
				case 6:
					_, err = s.Stat(s.ctx, name)
				}
				switch fault.KindOf(err) {
				case fault.None, fault.NotExist, fault.Exist:
				default:
					s.Errorf("step %d: %v", i%7, err)
				}
			}
		})
	}
	wg.Wait()
	for _, n := range names {
		if err := s.Remove(s.ctx, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Error(err)
		}
	}
	s.ok(s.Remove(s.ctx, "/a"))
	s.ok(s.Remove(s.ctx, "/b"))
}
