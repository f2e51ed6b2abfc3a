package session

import (
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// TestStewardFollowsNoLinks: a task with every right does not do, by the way of
// a link that the user has laid, what the user may not do.
func TestStewardFollowsNoLinks(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	u := r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: "/kept", Rights: account.ReadOnly}}})
	r.put("/srv/ann", "/kept/in/f", "x")
	r.put("/srv/ann", "/in/old", "x")
	r.want(r.store("/srv/ann").(vfs.Linker).Symlink(bg, "/kept", "/team"), fault.None) // as a moved link can come to point there
	user := r.login("ann")
	defer user.g.Close(nil)
	r.want(user.Remove(bg, "/team/in/f"), fault.Denied)
	s, err := r.m.Steward(bg, u, "clean")
	r.want(err, fault.None)
	defer s.Close()
	_, err = s.Lstat(bg, "/team/in")
	r.want(err, fault.Denied)
	for _, err := range s.List(bg, "/team") {
		r.want(err, fault.Denied)
	}
	r.want(s.Remove(bg, "/team/in/f"), fault.Denied)
	r.want(s.Rename(bg, "/in/old", "/team/in/old", false), fault.Denied)
	r.want(s.Mkdir(bg, "/team/new", 0o700), fault.Denied)
	r.want(s.Remove(bg, "/in/old"), fault.None)
	if r.get("/srv/ann", "/kept/in/f") != "x" {
		t.Error("the file is gone")
	}
}
