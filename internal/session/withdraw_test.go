package session

import (
	"io"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// A client that gives an upload up removes its name from another connection,
// and then the directory, as it could if the file had been visible.
func TestRemoveOfAnUploadUnderWay(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	shared := []account.Mount{{Path: "/m", Source: "/srv/m"}}
	r.user(account.User{Name: "ann", Mounts: shared})
	r.user(account.User{Name: "bob", Mounts: shared})
	one, two, bob := r.login("ann"), r.login("ann"), r.login("bob")
	for _, s := range []*Session{one, two, bob} {
		defer s.g.Close(nil)
	}
	r.want(two.Mkdir(bg, "/m/d", 0o755), fault.None)
	up, err := one.Create(bg, "/m/d/f", vfs.CreateOptions{})
	r.want(err, fault.None)
	io.WriteString(up, "half")
	r.want(two.Rmdir(bg, "/m/d"), fault.Busy)
	r.want(bob.Remove(bg, "/m/d/f"), fault.NotExist) // what others upload is not to be seen
	r.want(two.Remove(bg, "/m/d/f"), fault.None)
	r.want(two.Remove(bg, "/m/d/f"), fault.NotExist)
	r.want(two.Rmdir(bg, "/m/d"), fault.None)
	io.WriteString(up, "more")
	r.want(up.Commit(bg), fault.NotExist)
	if err := up.Close(nil); err != nil {
		t.Error(err)
	}
}

// TestWithdrawBooks: what was uploaded under a name that was removed meanwhile
// is given back, in every mode, and nobody else's Commit is in the way.
func TestWithdrawBooks(t *testing.T) {
	for _, mode := range []vfs.Upload{vfs.Atomic, vfs.AtomicResume} {
		r := newRig(t, Config{Upload: mode, KeepPartial: true}, testLimits)
		r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 100, Files: 3}})
		one, two := r.login("ann"), r.login("ann")
		defer one.g.Close(nil)
		defer two.g.Close(nil)
		for range 20 { // a leak of one file or 60 octets would end this
			up, err := one.Create(bg, "/f", vfs.CreateOptions{})
			r.want(err, fault.None)
			io.WriteString(up, "0123456789012345678901234567890123456789")
			var wg sync.WaitGroup
			var committed, removed error
			wg.Go(func() { removed = two.Remove(bg, "/f") })
			wg.Go(func() { committed = up.Commit(bg) })
			wg.Wait()
			r.want(up.Close(nil), fault.None)
			if removed != nil { // it was too early for the one and too late for the other
				r.want(committed, fault.None)
				r.want(two.Remove(bg, "/f"), fault.None)
			}
			if u, err := two.Usage(bg); err != nil || u.UsedBytes != 0 || u.UsedFiles != 0 {
				t.Fatalf("mode %v: %d octets in %d files are booked, %v", mode, u.UsedBytes, u.UsedFiles, err)
			}
		}
	}
}
