package vfstest

import (
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// testResolve: a storage with links must be able to tell where they lead, or
// links would be a way around rules that hold for paths.
func testResolve(s *tree) {
	l, linker := s.FS.(vfs.Linker)
	r, ok := s.FS.(vfs.Resolver)
	if !ok {
		if linker {
			s.Error("it has links and no Resolver")
		}
		return
	}
	s.ok(s.Mkdir(s.ctx, "/d", 0))
	s.ok(s.Mkdir(s.ctx, "/d/e", 0))
	s.put("/d/e/f", "x")
	if linker {
		s.ok(l.Symlink(s.ctx, "/d/e", "/dir"))
		s.ok(l.Symlink(s.ctx, "/dir/f", "/d/file"))
		s.ok(l.Symlink(s.ctx, "/loop", "/loop"))
		s.ok(l.Symlink(s.ctx, "/nothing/here", "/dangling"))
	}
	for _, tt := range []struct {
		name string
		last bool
		want string
		link bool
	}{
		{"/", true, "/", false},
		{"/", false, "/", false},
		{"/d/e/f", true, "/d/e/f", false},
		{"/d/none/below", true, "/d/none/below", false},
		{"/dir", true, "/d/e", true},
		{"/dir", false, "/dir", true},
		{"/dir/f", false, "/d/e/f", true},
		{"/dir/new", true, "/d/e/new", true},
		{"/d/file", true, "/d/e/f", true},
		{"/d/file", false, "/d/file", true},
		{"/dangling", true, "/nothing/here", true},
		{"/dangling/x", true, "/nothing/here/x", true},
	} {
		if tt.link && !linker {
			continue
		}
		got, err := r.Resolve(s.ctx, tt.name, tt.last)
		if err != nil || got != tt.want {
			s.Errorf("Resolve(%q, %v) = %q, %v; want %q", tt.name, tt.last, got, err, tt.want)
		}
	}
	if linker {
		_, err := r.Resolve(s.ctx, "/loop", true)
		s.want(fault.Denied, err)
	}
	_, err := r.Resolve(s.ctx, "relative", true)
	s.want(fault.Invalid, err)
}
