package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/localfs"
)

// used compares what is counted with what is stored.
func (r *rig) used(s *Session, sources ...string) limits.Usage {
	r.t.Helper()
	u, err := s.Usage(bg)
	if err != nil {
		r.t.Fatal(err)
	}
	var bytes, files int64
	for _, src := range sources {
		b, n, err := weigh(bg, r.store(src), "/")
		if err != nil {
			r.t.Fatal(err)
		}
		bytes += b
		files += n
	}
	if u.UsedBytes != bytes || u.UsedFiles != files {
		r.t.Errorf("counted %d octets in %d files, stored are %d in %d", u.UsedBytes, u.UsedFiles, bytes, files)
	}
	if u.MaxBytes > 0 && bytes > u.MaxBytes || u.MaxFiles > 0 && files > u.MaxFiles {
		r.t.Errorf("%d octets in %d files, allowed are %d in %d", bytes, files, u.MaxBytes, u.MaxFiles)
	}
	return u
}

func TestParallelUploadsAtTheLimit(t *testing.T) {
	for _, mode := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		r := newRig(t, Config{Upload: mode}, testLimits)
		const max = 1 << 20
		r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: max}})
		var wg sync.WaitGroup
		var ok, full int
		var mu sync.Mutex
		for i := range 32 {
			wg.Go(func() {
				s := r.login("ann")
				defer s.g.Close(nil)
				err := upload(s, fmt.Sprint("/f", i), strings.Repeat("x", 50_000), vfs.CreateOptions{})
				mu.Lock()
				defer mu.Unlock()
				switch fault.KindOf(err) {
				case fault.None:
					ok++
				case fault.Quota:
					full++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := r.login("ann")
		u := r.used(s, "/srv/ann")
		if ok+full != 32 || full < 11 || int64(ok)*50_000 != u.UsedBytes {
			t.Errorf("%d stored, %d refused, %d octets used", ok, full, u.UsedBytes)
		}
		if ok < 15 {
			t.Errorf("only %d of 20 possible uploads went through", ok)
		}
		s.g.Close(nil)
		if r.quota["ann"] != [2]int64{u.UsedBytes, u.UsedFiles} {
			t.Errorf("the store says %v", r.quota["ann"])
		}
		r.idle()
	}
}

func TestQuotaFollowsEveryChange(t *testing.T) {
	for _, mode := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		r := newRig(t, Config{Upload: mode}, testLimits)
		r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 1000, Files: 4}, Mounts: []account.Mount{{Path: "/m", Source: "/srv/m", Quota: account.Quota{Bytes: 300}}}})
		s := r.login("ann")
		size := func(n int) string { return strings.Repeat("x", n) }
		check := func(bytes, files int64) {
			t.Helper()
			if u := r.used(s, "/srv/ann", "/srv/m"); u.UsedBytes != bytes || u.UsedFiles != files {
				t.Errorf("mode %d: used %d octets in %d files, want %d in %d", mode, u.UsedBytes, u.UsedFiles, bytes, files)
			}
		}
		r.want(upload(s, "/a", size(500), vfs.CreateOptions{}), fault.None)
		check(500, 1)
		r.want(upload(s, "/a", size(200), vfs.CreateOptions{}), fault.None) // overwrite: the old size is credited
		check(200, 1)
		r.want(upload(s, "/a", size(100), vfs.CreateOptions{Append: true}), fault.None)
		check(300, 1)
		r.want(upload(s, "/a", size(100), vfs.CreateOptions{Offset: 250}), fault.None) // 50 of it are charged already
		check(350, 1)
		r.want(upload(s, "/b", size(651), vfs.CreateOptions{}), fault.Quota)
		check(350, 1)
		_, err := s.Create(bg, "/b", vfs.CreateOptions{Size: 651})
		r.want(err, fault.Quota)
		r.want(upload(s, "/b", size(650), vfs.CreateOptions{Size: 650}), fault.None)
		check(1000, 2)
		r.want(upload(s, "/b", size(1), vfs.CreateOptions{Append: true}), fault.Quota)
		check(1000, 2)
		r.want(s.Remove(bg, "/b"), fault.None)
		check(350, 1)
		n := int64(100)
		r.want(s.SetAttr(bg, "/a", vfs.Attr{Size: &n}), fault.None)
		check(100, 1)
		n = 2000
		r.want(s.SetAttr(bg, "/a", vfs.Attr{Size: &n}), fault.Quota)
		check(100, 1)
		_, err = s.Copy(bg, "/a", "/b")
		r.want(err, fault.None)
		check(200, 2)
		r.want(s.Rename(bg, "/a", "/b", true), fault.None) // one of them is gone
		check(100, 1)
		r.want(upload(s, "/m/big", size(301), vfs.CreateOptions{}), fault.Quota) // the mount's own
		r.want(upload(s, "/m/big", size(250), vfs.CreateOptions{}), fault.None)
		check(350, 2)
		r.want(s.Rename(bg, "/b", "/m/b", false), fault.Quota)
		check(350, 2)
		r.want(s.Rename(bg, "/m/big", "/big", false), fault.None) // moves the charge
		check(350, 2)
		r.want(s.Rename(bg, "/b", "/m/b", false), fault.None)
		check(350, 2)
		if r.quota["mount:/srv/m"] != [2]int64{100, 1} {
			t.Errorf("the mount's books say %v", r.quota["mount:/srv/m"])
		}
		r.want(upload(s, "/c", "", vfs.CreateOptions{}), fault.None)
		r.want(upload(s, "/d", "", vfs.CreateOptions{}), fault.None)
		r.want(upload(s, "/e", "", vfs.CreateOptions{}), fault.Quota) // files
		r.want(s.Rename(bg, "/c", "/f", false), fault.None)
		check(350, 4)
		f, err := s.OpenHandle(bg, "/d", os.O_RDWR, 0)
		r.want(err, fault.None)
		_, err = f.WriteAt([]byte(size(100)), 0)
		r.want(err, fault.None)
		_, err = f.WriteAt([]byte(size(100)), 50)
		r.want(err, fault.None)
		r.want(s.Link(bg, "/d", "/x"), fault.Denied)
		_, err = f.WriteAt([]byte("x"), 650)
		r.want(err, fault.Quota)
		r.want(f.Truncate(10), fault.None)
		r.want(f.Close(nil), fault.None)
		check(360, 4)
		if sp, err := s.Space(bg, "/"); err != nil || sp.Free != 640 {
			t.Errorf("space %+v, %v", sp, err)
		}
		if sp, err := s.Space(bg, "/m"); err != nil || sp.Free != 200 {
			t.Errorf("space in the mount %+v, %v", sp, err)
		}
		s.g.Close(nil)
		r.idle()
		// A rescan comes to the same result, and repairs what is wrong.
		r.quota["ann"] = [2]int64{1, 1}
		if u, err := r.m.Rescan(bg, "ann"); err != nil || u.UsedBytes != 360 || u.UsedFiles != 4 || r.quota["ann"] != [2]int64{360, 4} {
			t.Errorf("rescan: %+v, %v, %v", u, err, r.quota["ann"])
		}
	}
}

// TestMoveNeedsNoSecondRoom moves a file between mounts of a full account.
func TestMoveNeedsNoSecondRoom(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 100}, Mounts: []account.Mount{{Path: "/m", Source: "/srv/m"}}})
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(upload(s, "/f", strings.Repeat("x", 100), vfs.CreateOptions{}), fault.None)
	r.want(s.Rename(bg, "/f", "/m/f", false), fault.None)
	r.used(s, "/srv/ann", "/srv/m")
}

// TestRenameUnderAnotherUsersUpload: the books of a file that ann writes in
// place go by its path, so bob, who has no quota, may not move it meanwhile.
func TestRenameUnderAnotherUsersUpload(t *testing.T) {
	r := newRig(t, Config{Upload: vfs.Visible}, testLimits)
	shared := []account.Mount{{Path: "/m", Source: "/srv/m"}}
	r.user(account.User{Name: "ann", Mounts: shared, Quota: account.Quota{Bytes: 100}})
	r.user(account.User{Name: "bob", Mounts: shared})
	ann, bob := r.login("ann"), r.login("bob")
	defer ann.g.Close(nil)
	defer bob.g.Close(nil)
	r.want(bob.Mkdir(bg, "/m/d", 0o755), fault.None)
	f, err := ann.Create(bg, "/m/d/f", vfs.CreateOptions{})
	r.want(err, fault.None)
	r.want(bob.Rename(bg, "/m/d/f", "/m/g", false), fault.Busy)
	r.want(bob.Rename(bg, "/m/d", "/m/e", false), fault.Busy)
	io.WriteString(f, "12345")
	r.want(f.Commit(bg), fault.None)
	f.Close(nil)
	r.want(bob.Rename(bg, "/m/d", "/m/e", false), fault.None)
	r.used(ann, "/srv/m")
}

// TestExactFitOverTheKernelsWay plays an engine that asks before it knows that
// nothing more comes, on a real file.
func TestExactFitOverTheKernelsWay(t *testing.T) {
	for _, extra := range []int{0, 1, 5000} {
		for _, appending := range []bool{false, true} {
			r := newRig(t, Config{Upload: vfs.Visible, KeepPartial: true}, testLimits)
			dir := t.TempDir()
			r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 10_000}, Home: dir})
			fs, err := localfs.New(dir, localfs.Options{})
			r.want(err, fault.None)
			r.stores[dir] = fs
			s := r.login("ann")
			src := io.Reader(strings.NewReader(strings.Repeat("x", 10_000+extra)))
			if appending {
				r.want(upload(s, "/f", strings.Repeat("x", 3000), vfs.CreateOptions{}), fault.None)
				src = io.MultiReader(io.LimitReader(src, int64(7000+extra)))
			}
			f, err := s.Create(bg, "/f", vfs.CreateOptions{Append: appending})
			r.want(err, fault.None)
			for err == nil {
				var n, k int64
				if n, err = f.Grant(bg, 4<<20); err != nil {
					break
				}
				k, err = io.CopyN(f.OSFile(), src, n)
				f.Moved(k)
			}
			if err == io.EOF {
				err = f.Commit(bg)
			}
			want := map[bool]fault.Kind{true: fault.None, false: fault.Quota}[extra == 0]
			r.want(err, want)
			f.Close(err)
			if i, e := os.Stat(filepath.Join(dir, "f")); e != nil || i.Size() != 10_000 {
				t.Errorf("the file has %v octets (%v)", i, e)
			}
			if u, _ := s.Usage(bg); u.UsedBytes != 10_000 {
				t.Errorf("used %d", u.UsedBytes)
			}
			s.g.Close(nil)
			r.idle()
			if es := r.events(events.QuotaFull); len(es) != min(extra, 1) {
				t.Errorf("%d quota events with %d octets too many", len(es), extra)
			}
		}
	}
}

// TestQuotaUnderRandomLoad lets sessions do everything to the same few names
// at once; in the end the books must agree with the storage to the octet.
func TestQuotaUnderRandomLoad(t *testing.T) {
	for _, mode := range []vfs.Upload{vfs.Atomic, vfs.Visible} {
		r := newRig(t, Config{Upload: mode}, testLimits)
		q := account.Quota{Bytes: 200_000, Files: 12}
		r.user(account.User{Name: "ann", Quota: q, Mounts: []account.Mount{{Path: "/m", Source: "/srv/m", Quota: account.Quota{Bytes: 80_000}}}})
		names := []string{"/a", "/b", "/c", "/d", "/e", "/m/a", "/m/b", "/m/c"}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(w), 3))
				s := r.login("ann")
				defer s.g.Close(nil)
				for range 250 {
					a, b := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
					content := strings.Repeat("x", rnd.IntN(30_000))
					switch rnd.IntN(9) {
					case 0, 1, 2:
						upload(s, a, content, vfs.CreateOptions{})
					case 3:
						upload(s, a, content, vfs.CreateOptions{Append: true})
					case 4:
						s.Remove(bg, a)
					case 5, 6:
						if strings.HasPrefix(a, "/m") == strings.HasPrefix(b, "/m") {
							s.Rename(bg, a, b, true)
						}
					case 7:
						if f, err := s.Create(bg, a, vfs.CreateOptions{}); err == nil {
							io.WriteString(f, content)
							f.Close(errors.New("aborted"))
						}
					case 8:
						s.Copy(bg, a, b)
					}
					if u, _ := s.Usage(bg); u.UsedBytes > q.Bytes || u.UsedFiles > q.Files {
						t.Errorf("%+v", u)
					}
				}
			})
		}
		wg.Wait()
		s := r.login("ann")
		r.used(s, "/srv/ann", "/srv/m")
		b, n, err := weigh(context.Background(), r.store("/srv/m"), "/")
		if got := r.quota["mount:/srv/m"]; err != nil || got != [2]int64{b, n} {
			t.Errorf("mount: books %v, stored %d in %d", got, b, n)
		}
		s.g.Close(nil)
		r.idle()
	}
}
