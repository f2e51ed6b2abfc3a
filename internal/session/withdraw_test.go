package session

import (
	"io"
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
