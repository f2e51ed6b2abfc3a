package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// TestAskAroundLinks: a hook that guards /secret is asked about what lies there
// whatever link leads to it.
func TestAskAroundLinks(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}}})
	r.put("/srv/ann", "/secret/f", "x")
	r.put("/srv/ann", "/free/f", "x")
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(s.Symlink(bg, "/secret", "/dir"), fault.None)
	r.want(s.Symlink(bg, "/secret/f", "/file"), fault.None)
	r.bus.OnAsk("guard", func(_ context.Context, e events.Event) error {
		if strings.HasPrefix(e.Path, "/secret") || strings.HasPrefix(e.Target, "/secret") {
			return errors.New("guarded")
		}
		return nil
	}, events.Download, events.Upload, events.Delete, events.Rename, events.Mkdir, events.Attr, events.Copy)
	_, err := download(s, "/free/f")
	r.want(err, fault.None)
	r.want(s.Remove(bg, "/file"), fault.None) // the link itself
	r.want(s.Symlink(bg, "/secret/f", "/file"), fault.None)
	get := func(name string) error { _, err := download(s, name); return err }
	copied := func(from, to string) error { _, err := s.Copy(bg, from, to); return err }
	for what, err := range map[string]error{
		"get": get("/file"), "get below": get("/dir/f"), "put": upload(s, "/file", "y", vfs.CreateOptions{}), "put below": upload(s, "/dir/new", "y", vfs.CreateOptions{}),
		"delete": s.Remove(bg, "/dir/f"), "mkdir": s.Mkdir(bg, "/dir/d", 0o755), "attr": s.SetAttr(bg, "/file", vfs.Attr{Mode: new(os.FileMode)}),
		"rename from": s.Rename(bg, "/dir/f", "/free/g", false), "rename to": s.Rename(bg, "/free/f", "/dir/g", false),
		"copy from": copied("/file", "/free/h"), "copy to": copied("/free/f", "/dir/h"),
	} {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAskReadWriteHandle: a file that is opened for reading and writing is a
// download for the hooks and the trail, too.
func TestAskReadWriteHandle(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}}})
	r.put("/srv/ann", "/f", "content")
	s := r.login("ann")
	defer s.g.Close(nil)
	f, err := s.OpenHandle(bg, "/f", os.O_RDWR, 0)
	r.want(err, fault.None)
	if n, err := f.ReadAt(make([]byte, 7), 0); n != 7 {
		t.Fatal(n, err)
	}
	r.want(f.Close(nil), fault.None)
	r.bus.OnAsk("no", func(context.Context, events.Event) error { return errors.New("no") }, events.Download)
	_, err = s.OpenHandle(bg, "/f", os.O_RDWR, 0)
	r.want(err, fault.Denied)
	f, err = s.OpenHandle(bg, "/new", os.O_RDWR|os.O_CREATE, 0o644)
	r.want(err, fault.None)
	r.want(f.Close(nil), fault.None)
	if err := r.bus.Close(bg); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	read := slices.ContainsFunc(r.recorded, func(e events.Event) bool { return e.Kind == events.Download && e.Path == "/f" && e.Bytes == 7 })
	r.mu.Unlock()
	if !read {
		t.Error("7 octets were read and the trail does not tell")
	}
}

// TestAskGroups: a hook is told the groups that a directory gave at this
// log-in, which are nowhere else yet.
func TestAskGroups(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	r.m.verifier = granting{r}
	var told []string
	r.bus.OnAsk("groups", func(ctx context.Context, e events.Event) error {
		groups, ok := events.GroupsIn(ctx)
		if !ok || !slices.Equal(groups, []string{"partners"}) {
			t.Errorf("%s: groups %v, %v", e.Kind, groups, ok)
		}
		told = append(told, string(e.Kind))
		return nil
	}, events.Login, events.Mkdir)
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(s.Mkdir(bg, "/d", 0o755), fault.None)
	r.want(r.m.Refresh(bg, "ann"), fault.None)
	r.want(s.Mkdir(bg, "/e", 0o755), fault.None)
	if len(told) != 3 {
		t.Errorf("asked about %v", told)
	}
}

// granting is a directory that puts everybody in a group.
type granting struct{ *rig }

func (g granting) Verify(ctx context.Context, from auth.Origin, c auth.Credential) (auth.Identity, error) {
	id, err := g.rig.Verify(ctx, from, c)
	id.Granted = []string{"partners"}
	id.User.Groups = id.Granted
	return id, err
}
