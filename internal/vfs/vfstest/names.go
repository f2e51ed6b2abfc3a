package vfstest

import (
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// oddNames are names that clients do send and that must arrive unchanged.
var oddNames = []string{
	" ", "  two  spaces  ", "-", "-la", "--help", `"`, `quo"te`, "'", `\`, `a\b`, "*", "?", "[a]", "{a,b}", "~", "~root", "$HOME", "%2e%2e",
	"%s%n", "&;|<>", "a:b", "CON", "nul.txt", "trailing.", "trailing ", "...", "..a", "a..", ".hidden", ".ptmp", "x.ptmp", ".zzzzzzzzzzzzzzzz.ptmp",
	"gr\u00f6\u00dfe", "gro\u0308\u00dfe", "日本語", "🦀", "\u202e", "\ufeff", "\u00a0", "\u2028", "\xff\xfe", "\xe4\xf6", "\xc3", "a\xc0\xafb", "\x80\x9f",
}

func testNames(s *tree) {
	s.mkdir("/d", "/e")
	for _, n := range oddNames {
		s.put("/d/"+n, n)
		s.mkdir("/e/" + n)
		s.put("/e/"+n+"/"+n, n)
	}
	s.names("/d", oddNames...)
	s.names("/e", oddNames...)
	for _, n := range oddNames {
		s.holds("/d/"+n, n)
		s.holds("/e/"+n+"/"+n, n)
		i, err := s.Stat(s.ctx, "/d/"+n)
		s.ok(err)
		if i.Name != n {
			s.Errorf("Stat calls %q %q", n, i.Name)
		}
		s.ok(s.Rename(s.ctx, "/d/"+n, "/e/"+n+"/moved", false))
		s.ok(s.Remove(s.ctx, "/e/"+n+"/moved"))
		s.ok(s.Remove(s.ctx, "/e/"+n+"/"+n))
		s.ok(s.Remove(s.ctx, "/e/"+n))
	}
	s.names("/d")
	s.names("/e")
}

func testNamesRefused(s *tree) {
	s.put("/f", "x")
	for _, n := range []string{"\n", "a\r\nb", "\x01", "\x1b[2J", "\x7f", "tab\t", "\x00", "a\x00b"} {
		name := "/" + n
		_, err := s.Create(s.ctx, name, vfs.CreateOptions{})
		s.want(fault.NameRefused, err)
		_, err = s.Create(s.ctx, name, vfs.CreateOptions{Append: true})
		s.want(fault.NameRefused, err)
		s.want(fault.NameRefused, s.Mkdir(s.ctx, name, 0))
		s.want(fault.NameRefused, s.Rename(s.ctx, "/f", name, true))
		_, err = s.Stat(s.ctx, name)
		if strings.Contains(n, "\x00") {
			s.want(fault.NameRefused, err)
		} else {
			s.want(fault.NotExist, err)
			s.want(fault.NotExist, s.Remove(s.ctx, name))
		}
	}
	// Names that did not go through Clean are an error, never a way out.
	for _, n := range []string{"", "f", "..", "../f", "/../f", "/f/", "//f", "/./f", "/d/../f", "/..", "/."} {
		_, err := s.Stat(s.ctx, n)
		s.want(fault.Invalid, err)
		_, err = s.Open(s.ctx, n, 0)
		s.want(fault.Invalid, err)
		_, err = s.Create(s.ctx, n, vfs.CreateOptions{})
		s.want(fault.Invalid, err)
		s.want(fault.Invalid, s.Mkdir(s.ctx, n, 0))
		s.want(fault.Invalid, s.Remove(s.ctx, n))
		s.want(fault.Invalid, s.Rename(s.ctx, n, "/g", true))
		s.want(fault.Invalid, s.Rename(s.ctx, "/f", n, true))
		s.want(fault.Invalid, s.listErr(n))
	}
	s.names("/", "f")
	s.holds("/f", "x")
}

func testLongNames(s *tree) {
	long := "/" + strings.Repeat("n", vfs.MaxName)
	for _, up := range []vfs.Upload{vfs.Atomic, vfs.Visible, vfs.AtomicResume} {
		s.upload(long, "x", vfs.CreateOptions{Upload: up})
		s.holds(long, "x")
		s.ok(s.Remove(s.ctx, long))
	}
	w := s.create(long, vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: strings.Repeat("o", 64)})
	s.write(w, "1")
	s.ok(w.Abort(nil))
	s.upload(long, "2", vfs.CreateOptions{Upload: vfs.AtomicResume, Owner: strings.Repeat("o", 64), Append: true})
	s.holds(long, "12")
	multi := "/" + strings.Repeat("\xf0\x9f\xa6\x80", vfs.MaxName/4) + "abc"
	s.put(multi, "y")
	s.names("/", long[1:], multi[1:])
	_, err := s.Create(s.ctx, long+"n", vfs.CreateOptions{})
	s.want(fault.NameRefused, err)
	s.want(fault.NameRefused, s.Mkdir(s.ctx, long+"n", 0))
	s.want(fault.NameRefused, s.Rename(s.ctx, long, long+"n", true))
}

func testDeep(s *tree) {
	name := ""
	for range 200 {
		name += "/d"
		s.mkdir(name)
	}
	s.put(name+"/f", "deep")
	s.holds(name+"/f", "deep")
	s.names(name, "f")
	s.ok(s.Rename(s.ctx, name+"/f", "/up", false))
	s.ok(s.Rename(s.ctx, "/up", name+"/g", false))
	s.holds(name+"/g", "deep")
	s.ok(s.Remove(s.ctx, name+"/g"))
	for ; name != ""; name = strings.TrimSuffix(name, "/d") {
		s.ok(s.Remove(s.ctx, name))
	}
	s.names("/")
	_, err := s.Create(s.ctx, strings.Repeat("/d", vfs.MaxDepth+1), vfs.CreateOptions{})
	s.want(fault.NameRefused, err)
	// The whole path is limited too, also on lookup.
	wide := strings.Repeat("/"+strings.Repeat("w", 250), 17)
	_, err = s.Stat(s.ctx, wide)
	s.want(fault.NameRefused, err)
}
