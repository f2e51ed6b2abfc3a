package ftpd

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
	"github.com/portreeve/portreeve/internal/vfs/memfs"
)

type anybody struct{ u account.User }

func (a anybody) Verify(context.Context, auth.Origin, auth.Credential) (auth.Identity, error) {
	return auth.Identity{User: a.u, Method: "password"}, nil
}

// open returns a session on a storage in memory.
func open(t testing.TB, u account.User) *Session {
	t.Helper()
	mem := memfs.New(memfs.Options{})
	bus := events.NewBus(events.Options{})
	m := session.NewManager(session.Config{}, anybody{u},
		func(context.Context, account.Mount, account.Policy) (vfs.FS, error) { return mem, nil }, limits.New(limits.Config{}), bus)
	g, err := m.Connect(t.Context(), auth.Origin{Protocol: "ftp", Remote: netip.MustParseAddrPort("192.0.2.1:1234")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Login(t.Context(), auth.Password{User: u.Name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close(nil)
		m.Shutdown(context.Background())
		bus.Close(context.Background())
	})
	return newSession(New(m, Options{}), nil, s)
}

func write(t testing.TB, s *Session, name, text string, o ftp.CreateOptions) {
	t.Helper()
	w, err := s.Create(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(nil); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s *Session, name string, offset int64) string {
	t.Helper()
	r, err := s.Open(t.Context(), name, offset)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(nil); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAbilities drives every method and ability through to the storage.
func TestAbilities(t *testing.T) {
	ctx := t.Context()
	s := open(t, account.User{Name: "ann", Home: "/x", Rules: []account.Rule{{Path: "/", Rights: account.All}}, Quota: account.Quota{Bytes: 1000, Files: 10}})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	write(t, s, "/a", "hello", ftp.CreateOptions{})
	write(t, s, "/a", " world", ftp.CreateOptions{Append: true})
	write(t, s, "/a", "WORLD!", ftp.CreateOptions{Offset: 6})
	if got := read(t, s, "/a", 6); got != "WORLD!" {
		t.Errorf("read %q", got)
	}
	_, err := s.Create(ctx, "/a", ftp.CreateOptions{Exclusive: true})
	if fault.KindOf(err) != fault.Exist {
		t.Errorf("STOU on an existing name: %v", err)
	}
	check(s.Copy(ctx, "/a", "/b"))
	check(s.Rename(ctx, "/b", "/c"))
	check(s.Mkdir(ctx, "/d"))
	check(s.Chmod(ctx, "/c", 0o777|1<<15))
	stamp := time.Date(2020, 2, 29, 12, 0, 0, 0, time.UTC)
	check(s.SetTimes(ctx, "/c", &stamp, nil))
	check(s.SetTimes(ctx, "/c", &stamp, &stamp))
	check(s.SetTimes(ctx, "/c", nil, nil))
	if err := s.SetTimes(ctx, "/c", nil, &stamp); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a creation time alone: %v", err)
	}
	i, err := s.Stat(ctx, "/c")
	check(err)
	if i.Mode.Perm() != 0o777 || !i.ModTime.Equal(stamp) || i.Size != 12 || i.Perm != "adfrw" || i.Owner == "" || i.Group == "" {
		t.Errorf("stat: %+v", i)
	}
	check(s.Symlink(ctx, "/c", "/link"))
	if free, err := s.Space(ctx, "/"); err != nil || free <= 0 || free > 1000-24 {
		t.Errorf("space: %d, %v", free, err)
	}
	used, most, files, mostFiles, err := s.Usage(ctx)
	if err != nil || used != 24 || most != 1000 || files < 2 || mostFiles != 10 {
		t.Errorf("usage: %d of %d, %d of %d, %v", used, most, files, mostFiles, err)
	}
	check(s.Remove(ctx, "/link"))
	check(s.Rmdir(ctx, "/d"))
	if err := s.Rmdir(ctx, "/d"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("rmdir twice: %v", err)
	}
	w, err := s.Create(ctx, "/big", ftp.CreateOptions{})
	check(err)
	_, err = w.Write(make([]byte, 2000))
	if fault.KindOf(err) != fault.Quota {
		t.Errorf("writing over the quota: %v", err)
	}
	check(w.Close(err))
	if _, err := s.Stat(ctx, "/big"); fault.KindOf(err) != fault.NotExist {
		t.Errorf("an upload that failed is visible: %v", err)
	}
	for range s.List(ctx, "/missing") {
	}
	n := 0
	for _, err := range s.List(ctx, "/missing") {
		if n++; fault.KindOf(err) != fault.NotExist {
			t.Errorf("listing what is not there: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d answers to one bad listing", n)
	}
}

// TestListAllocates: the front adds no allocation for an entry of a listing.
func TestListAllocates(t *testing.T) {
	s := open(t, account.User{Name: "ann", Home: "/x"})
	fill(t, s, 1000)
	inner := testing.AllocsPerRun(5, func() {
		for _, err := range s.s.List(t.Context(), "/") {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	outer := testing.AllocsPerRun(5, func() { list(t, s) })
	if outer > inner+20 {
		t.Errorf("%v allocations for 1000 entries, %v below the front", outer, inner)
	}
}

func fill(t testing.TB, s *Session, n int) {
	t.Helper()
	for i := range n {
		write(t, s, fmt.Sprintf("/file-%06d", i), "x", ftp.CreateOptions{})
	}
}

func list(t testing.TB, s *Session) (n int) {
	for _, err := range s.List(t.Context(), "/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func BenchmarkList(b *testing.B) {
	s := open(b, account.User{Name: "ann", Home: "/x"})
	fill(b, s, 10000)
	b.ReportAllocs()
	for b.Loop() {
		if n := list(b, s); n != 10000 {
			b.Fatal(n)
		}
	}
}
