package session

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// verb is an operation at /d/..., as a client would do it.
type verb struct {
	name string
	need account.Rights // all of these, nothing else
	do   func(s *Session) error
}

var bg = context.Background()

func listed(s *Session, name string) ([]string, error) {
	var names []string
	for i, err := range s.List(bg, name) {
		if err != nil {
			return names, err
		}
		names = append(names, i.Name)
	}
	return names, nil
}

func handle(s *Session, name string, flag int, off int64) error {
	f, err := s.OpenHandle(bg, name, flag, 0o644)
	if err != nil {
		return err
	}
	if flag&accessMode != os.O_RDONLY {
		_, err = f.WriteAt([]byte("x"), off)
	} else {
		_, err = f.ReadAt(make([]byte, 1), 0)
	}
	f.Close(err)
	return err
}

func verbs() []verb {
	mode, when, size := os.FileMode(0o600), time.Unix(1e9, 0), int64(1)
	return []verb{
		{"list", account.List, func(s *Session) error { _, err := listed(s, "/d"); return err }},
		{"download", account.Download, func(s *Session) error { _, err := download(s, "/d/file"); return err }},
		{"upload new", account.Upload, func(s *Session) error { return upload(s, "/d/new", "x", vfs.CreateOptions{}) }},
		{"upload unique", account.Upload, func(s *Session) error { return upload(s, "/d/new", "x", vfs.CreateOptions{Exclusive: true}) }},
		{"append new", account.Upload, func(s *Session) error { return upload(s, "/d/new", "x", vfs.CreateOptions{Append: true}) }},
		{"overwrite", account.Overwrite, func(s *Session) error { return upload(s, "/d/file", "x", vfs.CreateOptions{}) }},
		{"append", account.Append, func(s *Session) error { return upload(s, "/d/file", "x", vfs.CreateOptions{Append: true}) }},
		{"resume", account.Append, func(s *Session) error { return upload(s, "/d/file", "x", vfs.CreateOptions{Offset: 2}) }},
		{"delete", account.Delete, func(s *Session) error { return s.Remove(bg, "/d/file") }},
		{"rename file", account.Rename | account.Upload, func(s *Session) error { return s.Rename(bg, "/d/file", "/d/new", false) }},
		{"rename dir", account.Rename | account.Mkdir, func(s *Session) error { return s.Rename(bg, "/d/dir", "/d/new", false) }},
		{"rename over", account.Rename | account.Upload | account.Overwrite | account.Delete, func(s *Session) error { return s.Rename(bg, "/d/file", "/d/other", true) }},
		{"mkdir", account.Mkdir, func(s *Session) error { return s.Mkdir(bg, "/d/new", 0o755) }},
		{"rmdir", account.Rmdir, func(s *Session) error { return s.Rmdir(bg, "/d/dir") }},
		{"chmod", account.Chmod, func(s *Session) error { return s.SetAttr(bg, "/d/file", vfs.Attr{Mode: &mode}) }},
		{"chmod dir", account.Chmod, func(s *Session) error { return s.SetAttr(bg, "/d/dir", vfs.Attr{Mode: &mode}) }},
		{"times", account.Times, func(s *Session) error { return s.SetAttr(bg, "/d/file", vfs.Attr{ModTime: &when}) }},
		{"chmod and times", account.Chmod | account.Times, func(s *Session) error { return s.SetAttr(bg, "/d/file", vfs.Attr{Mode: &mode, ModTime: &when}) }},
		{"truncate", account.Overwrite, func(s *Session) error { return s.SetAttr(bg, "/d/file", vfs.Attr{Size: &size}) }},
		{"symlink", account.Link | account.Download, func(s *Session) error { return s.Symlink(bg, "file", "/d/new") }},
		{"hard link", account.Link | account.Download, func(s *Session) error { return s.Link(bg, "/d/file", "/d/new") }},
		{"copy new", account.Download | account.Upload, func(s *Session) error { _, err := s.Copy(bg, "/d/file", "/d/new"); return err }},
		{"copy over", account.Download | account.Overwrite, func(s *Session) error { _, err := s.Copy(bg, "/d/file", "/d/other"); return err }},
		{"handle read", account.Download, func(s *Session) error { return handle(s, "/d/file", os.O_RDONLY, 0) }},
		{"handle new", account.Upload, func(s *Session) error { return handle(s, "/d/new", os.O_WRONLY|os.O_CREATE, 0) }},
		{"handle overwrite", account.Overwrite, func(s *Session) error { return handle(s, "/d/file", os.O_WRONLY, 0) }},
		{"handle truncate", account.Overwrite, func(s *Session) error { return handle(s, "/d/file", os.O_WRONLY|os.O_TRUNC, 0) }},
		{"handle read write", account.Overwrite | account.Download, func(s *Session) error { return handle(s, "/d/file", os.O_RDWR, 0) }},
	}
}

// TestRightsMatrix gives each set of rights that lacks exactly one needed
// right, and the needed ones alone, to each operation.
func TestRightsMatrix(t *testing.T) {
	for _, v := range verbs() {
		t.Run(v.name, func(t *testing.T) {
			try := func(have account.Rights, below string) error {
				r := newRig(t, Config{}, testLimits)
				r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: below, Rights: have}}})
				r.put("/srv/ann", "/d/file", "content")
				r.put("/srv/ann", "/d/other", "content")
				if err := r.store("/srv/ann").Mkdir(bg, "/d/dir", 0o755); err != nil {
					t.Fatal(err)
				}
				s := r.login("ann")
				defer s.g.Close(nil)
				err := v.do(s)
				if err != nil && (r.get("/srv/ann", "/d/file") != "content" || r.get("/srv/ann", "/d/other") != "content" || r.get("/srv/ann", "/d/new") != "<none>") {
					t.Errorf("refused with %v, but something changed", err)
				}
				return err
			}
			if err := try(v.need, "/d"); err != nil {
				t.Errorf("with just %v: %v", v.need, err)
			}
			if err := try(0, "/elsewhere"); err != nil {
				t.Errorf("a rule elsewhere matters: %v", err)
			}
			for bit := account.Rights(1); bit <= account.Link; bit <<= 1 {
				if v.need&bit == 0 {
					continue
				}
				have := account.All &^ bit
				switch err := try(have, "/d"); {
				case strings.HasPrefix(v.name, "handle overwrite") && err == nil:
					t.Errorf("with append only, a byte in the middle was written")
				case fault.KindOf(err) != fault.Denied:
					t.Errorf("with all but %v: %v", bit, err)
				}
			}
			if err := try(0, "/d"); fault.KindOf(err) != fault.Denied {
				t.Errorf("with no right at all: %v", err)
			}
		})
	}
}

func TestStatRights(t *testing.T) {
	for _, c := range []struct {
		have      account.Rights
		file, dir fault.Kind
		missing   fault.Kind
	}{
		{0, fault.Denied, fault.Denied, fault.Denied},
		{account.Upload, fault.Denied, fault.None, fault.Denied}, // a drop box tells nothing
		{account.Upload | account.Mkdir, fault.Denied, fault.None, fault.Denied},
		{account.List, fault.None, fault.None, fault.NotExist},
		{account.Append, fault.None, fault.None, fault.NotExist},
		{account.Download, fault.None, fault.None, fault.NotExist},
	} {
		r := newRig(t, Config{}, testLimits)
		r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/d", Rights: c.have}}})
		r.put("/srv/ann", "/d/sub/file", "content")
		s := r.login("ann")
		for name, want := range map[string]fault.Kind{"/d/sub/file": c.file, "/d/sub": c.dir, "/d/sub/no": c.missing} {
			if _, err := s.Stat(bg, name); fault.KindOf(err) != want {
				t.Errorf("%v: Stat(%s) = %v, want %v", c.have, name, err, want)
			}
			if _, err := s.Lstat(bg, name); fault.KindOf(err) != want {
				t.Errorf("%v: Lstat(%s) = %v, want %v", c.have, name, err, want)
			}
		}
		s.g.Close(nil)
	}
}

func TestWrongTypes(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	// Without Append the session looks before it opens; with it the storage decides.
	r.user(account.User{Name: "ann"})
	r.user(account.User{Name: "bob", Rules: []account.Rule{{Path: "/", Rights: account.All &^ account.Append}}})
	for _, name := range []string{"ann", "bob"} {
		r.put("/srv/"+name, "/dir/file", "content")
		s := r.login(name)
		_, err := s.Create(bg, "/dir", vfs.CreateOptions{})
		r.want(err, fault.WrongType)
		_, err = s.Open(bg, "/dir", 0)
		r.want(err, fault.WrongType)
		_, err = s.Open(bg, "/", 0)
		r.want(err, fault.WrongType)
		_, err = s.OpenHandle(bg, "/dir", os.O_WRONLY|os.O_CREATE, 0o644)
		r.want(err, fault.WrongType)
		r.want(s.Remove(bg, "/dir"), fault.WrongType)
		r.want(s.Rmdir(bg, "/dir/file"), fault.WrongType)
		r.want(s.Rmdir(bg, "/dir"), fault.WrongType) // not empty
		r.want(s.Mkdir(bg, "/dir", 0o755), fault.Exist)
		r.want(s.Rename(bg, "/dir/file", "/dir", true), fault.WrongType)
		_, err = s.Copy(bg, "/dir", "/x")
		r.want(err, fault.WrongType)
		r.want(upload(s, "/no/file", "x", vfs.CreateOptions{}), fault.NotExist)
		r.want(upload(s, "/dir/file", "x", vfs.CreateOptions{Exclusive: true}), fault.Exist)
		_, err = s.Open(bg, "/dir/file", 8)
		r.want(err, fault.Range)
		_, err = s.Open(bg, "/dir/file", -1)
		r.want(err, fault.Range)
		r.want(upload(s, "/dir/x", "x", vfs.CreateOptions{Offset: -1}), fault.Range)
		for _, root := range []error{s.Remove(bg, "/"), s.Rmdir(bg, "/"), s.Rename(bg, "/", "/x", true), s.Rename(bg, "/dir", "/", true)} {
			if k := fault.KindOf(root); k != fault.Denied && k != fault.WrongType {
				t.Errorf("the root: %v", root)
			}
		}
		s.g.Close(nil)
	}
	r.idle()
}

func TestMountPoints(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Mounts: []account.Mount{
		{Path: "/shared/pub", Source: "/srv/pub", ReadOnly: true}, {Path: "/box", Source: "/srv/box"}}})
	r.put("/srv/pub", "/readme", "read me")
	r.put("/srv/ann", "/mine", "mine")
	r.put("/srv/ann", "/sub/f", "x")
	s := r.login("ann")
	defer s.g.Close(nil)
	if names, err := listed(s, "/"); err != nil || fmt.Sprint(names) != "[box shared mine sub]" {
		t.Errorf("root lists %v, %v", names, err)
	}
	if names, err := listed(s, "/shared"); err != nil || fmt.Sprint(names) != "[pub]" {
		t.Errorf("/shared lists %v, %v", names, err)
	}
	if got, err := download(s, "/shared/pub/readme"); err != nil || got != "read me" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"/box", "/shared", "/shared/pub"} {
		r.want(s.Rmdir(bg, name), fault.Denied)
		r.want(s.Remove(bg, name), fault.Denied)
		r.want(s.Rename(bg, name, "/gone", true), fault.Denied)
		r.want(s.Rename(bg, "/mine", name, true), fault.Denied)
		r.want(s.Rename(bg, "/sub", name, true), fault.Denied)
		r.want(s.Mkdir(bg, name, 0o755), map[bool]fault.Kind{true: fault.Denied, false: fault.Exist}[name == "/shared/pub"])
		r.want(upload(s, name, "x", vfs.CreateOptions{}), map[bool]fault.Kind{true: fault.Denied, false: fault.WrongType}[name == "/shared/pub"])
	}
	// Read-only holds for every way to write.
	ro := "/shared/pub/readme"
	mode := os.FileMode(0o600)
	for i, err := range []error{
		upload(s, ro, "x", vfs.CreateOptions{}), s.Remove(bg, ro), s.Rename(bg, ro, "/x", false), s.Rename(bg, "/mine", ro+"2", false),
		s.Mkdir(bg, ro+"2", 0o755), s.SetAttr(bg, ro, vfs.Attr{Mode: &mode}), handle(s, ro, os.O_RDWR, 0),
		func() error { _, err := s.Copy(bg, "/mine", ro+"2"); return err }(),
	} {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("write %d on a read-only mount: %v", i, err)
		}
	}
	if got := s.Rights("/shared/pub"); got != account.ReadOnly {
		t.Errorf("rights on a read-only mount: %v", got)
	}
	// Across mounts: files move, directories do not.
	if err := s.Rename(bg, "/mine", "/box/mine", false); err != nil {
		t.Fatal(err)
	}
	if r.get("/srv/box", "/mine") != "mine" || r.get("/srv/ann", "/mine") != "<none>" {
		t.Error("the file did not move")
	}
	r.want(s.Rename(bg, "/sub", "/box/sub", false), fault.Unsupported)
	r.put("/srv/ann", "/mine", "other")
	r.want(s.Rename(bg, "/mine", "/box/mine", false), fault.Exist)
}

func TestRenameIsNoWayAroundTheRules(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{
		{Path: "/", Rights: account.All},
		{Path: "/in", Rights: account.Upload | account.Rename | account.List},
		{Path: "/keep", Rights: account.All &^ account.Delete},
		{Path: "/a/secret", Rights: 0},
		{Path: "/b/log", Rights: account.ReadOnly},
	}})
	for _, n := range []string{"/in/f", "/keep/f", "/keep/g", "/a/secret/f", "/a/f", "/b/log/f", "/c/f"} {
		r.put("/srv/ann", n, n)
	}
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(s.Rename(bg, "/in/f", "/c/readable", false), fault.Denied) // from where one may not read to where one may
	r.want(s.Rename(bg, "/keep/f", "/keep/g", true), fault.Denied)    // replacing is deleting
	r.want(s.Rename(bg, "/keep/f", "/keep/g", false), fault.Exist)    //
	r.want(s.Rename(bg, "/a", "/open", false), fault.Denied)          // would take /a/secret out of its rule
	r.want(s.Rename(bg, "/a/secret", "/open", false), fault.Denied)   //
	r.want(s.Rename(bg, "/c", "/c/below", false), fault.Invalid)      // into itself
	r.want(s.Rename(bg, "/b/log/f", "/c/g", false), fault.Denied)     // no right to rename there
	r.want(s.Rename(bg, "/c/f", "/b/log/g", false), fault.Denied)     // no right to upload there
	r.want(s.Symlink(bg, "/a/secret/f", "/c/link"), fault.Denied)     // a link opens nothing
	r.want(s.Symlink(bg, "/b/log", "/c/link"), fault.Denied)          //
	r.want(s.Symlink(bg, "../a", "/c/link"), fault.Denied)            // /a/secret lies inside
	r.want(s.Rename(bg, "/nothing", "/c/x", false), fault.NotExist)   //
	r.want(s.Rename(bg, "/c/f", "/c/../c/./f", false), fault.None)    // itself
	r.want(s.Rename(bg, "/keep/f", "/keep/new", false), fault.None)   //
	r.want(s.Rename(bg, "/c", "/moved", false), fault.None)           //
	r.want(s.Rename(bg, "/moved/f", "/a/f", true), fault.None)        //
	if r.get("/srv/ann", "/a/f") != "/c/f" || r.get("/srv/ann", "/keep/g") != "/keep/g" {
		t.Error("wrong content")
	}
}

// TestLinksAreNoWayAroundTheRules: rules hold for what a link leads to. A link
// that pointed to a free place may point to another after it, or a directory
// above it, was moved; and links may be there that nobody asked the rules about.
func TestLinksAreNoWayAroundTheRules(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{
		{Path: "/", Rights: account.All},
		{Path: "/vault", Rights: 0},
		{Path: "/log", Rights: account.ReadOnly, Hide: []string{"*.key"}},
		{Path: "/w", Rights: account.All, Deny: []string{"*.exe"}},
	}})
	for _, n := range []string{"/a/b/f", "/a/vault/gold", "/a/c/d/f", "/vault/gold", "/vault/d/gold", "/log/f", "/log/my.key", "/w/x.exe", "/free/f"} {
		r.put("/srv/ann", n, n)
	}
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(s.Symlink(bg, "/a/vault/gold", "/a/b/one"), fault.None) // "../vault/gold"
	r.want(s.Symlink(bg, "/a/vault/gold", "/a/c/two"), fault.None)
	r.want(s.Symlink(bg, "/a/vault", "/a/c/dir"), fault.None)
	r.want(s.Rename(bg, "/a/b/one", "/free/one", false), fault.None) // alone
	r.want(s.Rename(bg, "/a/c", "/moved", false), fault.None)        // with the directory around it
	planted := r.store("/srv/ann").(vfs.Linker)
	for name, target := range map[string]string{"/p-gold": "vault/gold", "/p-vault": "vault", "/p-log": "log", "/p-w": "w", "/p-exe": "w/x.exe", "/p-free": "free/f", "/p-p": "p-vault/gold"} {
		if err := planted.Symlink(bg, target, name); err != nil {
			t.Fatal(err)
		}
	}
	mode := fs.FileMode(0o600)
	for _, n := range []string{"/free/one", "/moved/two", "/moved/dir/gold", "/p-gold", "/p-vault/gold", "/p-p", "/p-vault/d/gold"} {
		if got, err := download(s, n); fault.KindOf(err) != fault.Denied {
			t.Errorf("download of %s: %q, %v; want denied", n, got, err)
		}
		_, err := s.Stat(bg, n)
		r.want(err, fault.Denied)
		r.want(upload(s, n, "new", vfs.CreateOptions{}), fault.Denied)
		r.want(s.SetAttr(bg, n, vfs.Attr{Mode: &mode}), fault.Denied)
		_, err = s.Copy(bg, n, "/copy")
		r.want(err, fault.Denied)
		_, err = s.Copy(bg, "/free/f", n)
		r.want(err, fault.Denied)
		r.want(s.Symlink(bg, n, "/again"), fault.Denied)
	}
	r.want(s.Remove(bg, "/p-vault/gold"), fault.Denied)
	r.want(s.Mkdir(bg, "/p-vault/new", 0), fault.Denied)
	r.want(s.Rename(bg, "/p-vault/gold", "/gold", false), fault.Denied)
	r.want(s.Rename(bg, "/p-vault/d", "/d", false), fault.Denied)
	r.want(upload(s, "/p-log/f", "x", vfs.CreateOptions{}), fault.Denied)
	r.want(upload(s, "/p-w/y.exe", "x", vfs.CreateOptions{}), fault.NameRefused)
	_, err := download(s, "/p-exe")
	r.want(err, fault.NameRefused)
	for i, err := range s.List(bg, "/p-vault") {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("listing of a link to a closed directory: %v, %v", i.Name, err)
		}
	}
	for i, err := range s.List(bg, "/p-log") {
		if err != nil || i.Name == "my.key" {
			t.Errorf("listing through a link: %q, %v", i.Name, err)
		}
	}
	// What the rules allow goes on through links, and a link itself is the user's.
	if got, err := download(s, "/p-free"); err != nil || got != "/free/f" {
		t.Errorf("through a free link: %q, %v", got, err)
	}
	if got, err := download(s, "/p-log/f"); err != nil || got != "/log/f" {
		t.Errorf("through a link to a readable place: %q, %v", got, err)
	}
	r.want(s.Remove(bg, "/p-gold"), fault.None)
	r.want(s.Rename(bg, "/p-vault", "/p-other", false), fault.None)
	for _, n := range []string{"/vault/gold", "/vault/d/gold", "/log/f"} {
		if got := r.get("/srv/ann", n); got != n {
			t.Errorf("%s holds %q", n, got)
		}
	}
}

func TestNameFilters(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All, Allow: []string{"*.txt"}, Deny: []string{"bad*"}, Hide: []string{".*", "*.hid"}}}})
	for _, n := range []string{"/a.txt", "/b.exe", "/bad.txt", "/.ssh/key.txt", "/dir/c.txt", "/x.hid"} {
		r.put("/srv/ann", n, n)
	}
	s := r.login("ann")
	defer s.g.Close(nil)
	if names, err := listed(s, "/"); err != nil || fmt.Sprint(names) != "[a.txt b.exe bad.txt dir]" {
		t.Errorf("listed %v, %v", names, err)
	}
	for name, want := range map[string]fault.Kind{
		"/a.txt": fault.None, "/dir/c.txt": fault.None, "/b.exe": fault.NameRefused, "/bad.txt": fault.NameRefused,
		"/.ssh/key.txt": fault.NotExist, "/x.hid": fault.NotExist,
	} {
		if _, err := download(s, name); fault.KindOf(err) != want {
			t.Errorf("download %s: %v, want %v", name, err, want)
		}
	}
	for _, name := range []string{"/new.exe", "/bad2.txt", "/.profile", "/y.hid", "/.ssh/x.txt", "/evil\r\n.txt", "/nul\x00.txt"} {
		for i, err := range []error{upload(s, name, "x", vfs.CreateOptions{}), s.Rename(bg, "/a.txt", name, false), handle(s, name, os.O_RDWR|os.O_CREATE, 0),
			func() error { _, err := s.Copy(bg, "/a.txt", name); return err }()} {
			if fault.KindOf(err) != fault.NameRefused {
				t.Errorf("way %d to %q: %v", i, name, err)
			}
		}
	}
	if _, err := s.Stat(bg, "/.ssh"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("a hidden directory: %v", err)
	}
	for _, err := range []error{s.Remove(bg, "/b.exe"), s.Remove(bg, "/bad.txt"), s.Rename(bg, "/b.exe", "/b.txt", false)} {
		r.want(err, fault.NameRefused)
	}
	r.want(s.Remove(bg, "/x.hid"), fault.NotExist)
	if s.Rights("/.ssh") != 0 {
		t.Error("rights at a hidden name")
	}
	r.want(s.Mkdir(bg, "/sub.d", 0o755), fault.None) // allow patterns are for files
}

// TestPermissionSeesTheCleanPath: perm(p) == perm(clean(p)), whatever the spelling.
func TestPermissionSeesTheCleanPath(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{
		{Path: "/", Rights: account.ReadWrite}, {Path: "/a", Rights: account.ReadOnly, Hide: []string{"h*"}},
		{Path: "/a/b", Rights: 0, Deny: []string{"d*"}}, {Path: "/u-evil", Rights: account.Download}, {Path: "/u", Rights: account.List}},
		Mounts: []account.Mount{{Path: "/a/m", Source: "/srv/m", ReadOnly: true}}})
	s := r.login("ann")
	defer s.g.Close(nil)
	rnd := rand.New(rand.NewPCG(7, 7))
	parts := []string{"a", "b", "m", "u", "u-evil", "hid", "d1", "..", ".", "", "x\ny", "A", "a ", "...", strings.Repeat("n", 256)}
	for range 20_000 {
		p := ""
		for range 1 + rnd.IntN(6) {
			p += "/" + parts[rnd.IntN(len(parts))]
		}
		if rnd.IntN(4) == 0 {
			p += "/"
		}
		c, err := vfs.CleanExisting(p)
		if err != nil {
			if s.Rights(p) != 0 {
				t.Fatalf("Rights(%q) = %v, but %v", p, s.Rights(p), err)
			}
			continue
		}
		if s.Rights(p) != s.Rights(c) {
			t.Fatalf("Rights(%q) = %v, Rights(%q) = %v", p, s.Rights(p), c, s.Rights(c))
		}
		if _, err := vfs.Clean(p); err != nil {
			continue // a control byte before "..": refused for new names, whatever it comes to
		}
		for o := op(0); o < opCount; o++ {
			x, errX := s.authorize(o, p)
			y, errY := s.authorize(o, c)
			if x.name != y.name || x.rel != y.rel || x.mount != y.mount || fault.KindOf(errX) != fault.KindOf(errY) {
				t.Fatalf("%s: %q gives %v %v, %q gives %v %v", rules[o].name, p, x.name, errX, c, y.name, errY)
			}
		}
	}
}

func TestEveryOpHasARule(t *testing.T) {
	for o := op(0); o < opCount; o++ {
		if rules[o].name == "" || rules[o].rights == 0 {
			t.Errorf("op %d needs nothing", o)
		}
	}
}

func TestAppendOnly(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.Append | account.Upload | account.Download}}})
	r.put("/srv/ann", "/log", "12345")
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(upload(s, "/log", "6", vfs.CreateOptions{Append: true}), fault.None)
	r.want(handle(s, "/log", os.O_WRONLY, 6), fault.None)
	r.want(handle(s, "/log", os.O_WRONLY, 5), fault.Denied)
	f, err := s.OpenHandle(bg, "/log", os.O_RDWR, 0)
	r.want(err, fault.None)
	r.want(f.Truncate(3), fault.Denied)
	if _, err := f.WriteAt([]byte("x"), 7+maxGap+1); fault.KindOf(err) != fault.Range {
		t.Errorf("a gap of more than 64 MiB: %v", err)
	}
	f.Close(nil)
	if got := r.get("/srv/ann", "/log"); got != "123456x" {
		t.Errorf("log is %q", got)
	}
}
