package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// testLimits takes the delays and ceilings out that a test does not look at.
var testLimits = limits.Config{NoLoginDelay: true, BanScore: -1, Caps: limits.Caps{MaxSessions: -1, MaxPerAddress: -1, MaxHalfOpen: -1}}

func TestLogin(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	r.user(account.User{Name: "off", Disabled: true})
	r.user(account.User{Name: "nohome", Home: "-"})
	u := r.users["nohome"]
	u.Home = ""
	r.users["nohome"] = u
	g := r.connect()
	for _, c := range []struct {
		user, secret string
		want         fault.Kind
	}{{"ann", "wrong", fault.Login}, {"nobody", "secret", fault.Login}, {"off", "secret", fault.Login}, {"ann", "down", fault.Unavailable}, {"nohome", "secret", fault.Unavailable}} {
		_, err := g.Login(bg, auth.Password{User: c.user, Secret: c.secret})
		r.want(err, c.want)
		if c.want == fault.Login && err.Error() != "login: "+auth.ErrBad.Error() {
			t.Errorf("the error for %s says more than it may: %v", c.user, err)
		}
	}
	if _, err := g.Login(bg, auth.Password{User: "ann", Secret: "more"}); !errors.Is(err, auth.ErrMore) {
		t.Errorf("got %v", err)
	}
	s, err := g.Login(bg, auth.Password{User: "ann", Secret: "secret"})
	r.want(err, fault.None)
	_, err = g.Login(bg, auth.Password{User: "ann", Secret: "secret"})
	r.want(err, fault.Invalid)
	if s.ID() != g.ID() || s.User() != "ann" || s.Method() != "password" {
		t.Error(s.ID(), s.User(), s.Method())
	}
	s.Close(nil)
	s.Close(errors.New("again"))
	r.want(s.Context().Err(), fault.Canceled)
	if _, err := s.Stat(bg, "/"); err == nil {
		t.Error("a closed session answers")
	}
	s, err = g.Login(bg, auth.Password{User: "ann", Secret: "secret"}) // REIN
	r.want(err, fault.None)
	g.Close(errors.New("connection reset"))
	g.Close(nil)
	_, err = g.Login(bg, auth.Password{User: "ann", Secret: "secret"})
	r.want(err, fault.Canceled)
	r.idle()
	var got []string
	for _, e := range r.events() {
		got = append(got, fmt.Sprintf("%s %s %s", e.Kind, e.User, e.Result))
		if e.Session != g.ID() || e.Remote != "192.0.2.1:4000" || e.Protocol != "ftp" || e.Listener != "test" {
			t.Errorf("event lacks the connection: %+v", e)
		}
	}
	want := []string{"login.failed ann login", "login.failed nobody login", "login.failed off login", "login.failed ann unavailable", "login.failed nohome unavailable",
		"login ann ok", "logout ann ok", "login ann ok", "logout ann internal"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_ = s
}

func TestLoginThrottleAndBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, limits.Config{})
		r.user(account.User{Name: "ann"})
		defer r.bus.Close(bg)
		defer r.m.stop(nil)
		g := r.connect()
		began := time.Now()
		var took []time.Duration
		for n := 0; ; n++ {
			at := time.Now()
			_, err := g.Login(bg, auth.Password{User: "nobody", Secret: "x"})
			took = append(took, time.Since(at))
			if fault.KindOf(err) == fault.Limit {
				break
			}
			r.want(err, fault.Login)
			if n > 30 {
				t.Fatal("never banned")
			}
		}
		for i, d := range took {
			if d == 0 || d%(250*time.Millisecond) != 0 {
				t.Errorf("answer %d came after %v", i, d)
			}
		}
		if total := time.Since(began); total < 20*time.Second {
			t.Errorf("%d guesses took only %v", len(took), total)
		}
		_, err := r.m.Connect(bg, origin(1))
		r.want(err, fault.Limit)
		g2, err := r.m.Connect(bg, origin(2))
		r.want(err, fault.None)
		_, err = g2.Login(bg, auth.Password{User: "ann", Secret: "secret"})
		r.want(err, fault.None)
		g.Close(nil)
		g2.Close(nil)
		if es := r.events(events.Ban, events.Refused); len(es) != 2 || es[0].Target != "192.0.2.1/32" {
			t.Errorf("events %+v", es)
		}
	})
}

func TestCapsAndStatus(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := newRig(t, Config{MaxSessions: 3, MaxPerUser: 1, Now: func() time.Time { return now }}, limits.Config{NoLoginDelay: true})
	r.user(account.User{Name: "ann"})
	s := r.login("ann")
	g := r.connect()
	_, err := g.Login(bg, auth.Password{User: "ann", Secret: "secret"})
	r.want(err, fault.Limit)
	r.connect()
	_, err = r.m.Connect(bg, origin(9))
	r.want(err, fault.Limit)
	g.SetOrigin(auth.Origin{Protocol: "ftp", TLS: true, Host: "x", Remote: netip.MustParseAddrPort("203.0.113.1:1")})
	if o := g.Origin(); o.Remote != origin(1).Remote || !o.TLS {
		t.Errorf("origin %+v", o)
	}
	g.SetTLS("TLS 1.3")

	f, err := s.Create(bg, "/big", vfs.CreateOptions{Size: 4000})
	r.want(err, fault.None)
	s.Note("STOR", "/big")
	now = now.Add(2 * time.Second)
	f.Write(make([]byte, 1000))
	var st Status
	for _, x := range r.m.Sessions() {
		if x.ID == s.ID() {
			st = x
		}
	}
	if st.User != "ann" || st.Command != "STOR" || st.Path != "/big" || st.Op != "upload" || st.Bytes != 1000 || st.Size != 4000 || st.Percent() != 25 || st.Rate != 500 || st.Open != 1 || st.Received != 1000 {
		t.Errorf("status %+v", st)
	}
	now = now.Add(30 * time.Second) // idle since: the rate fades
	if got := s.g.status(now).Rate; got > 5 {
		t.Errorf("rate after a long pause: %d", got)
	}
	if n, tr := r.m.Counts(); n != 3 || tr != 1 {
		t.Errorf("counts %d, %d", n, tr)
	}
	f.Close(errors.New("aborted"))
	if _, rec := r.m.Totals(); rec != 1000 {
		t.Errorf("total %d", rec)
	}
	for _, x := range r.m.all() {
		if x.ID() == g.ID() {
			if st := x.status(now); st.User != "" || st.TLS != "TLS 1.3" || st.Percent() != -1 {
				t.Errorf("guest %+v", st)
			}
		}
		x.Close(nil)
	}
	r.idle()
}

func TestKickInTheMiddleOfTransfers(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Bandwidth: account.Bandwidth{Up: 1, Down: 1}}) // so slow that it must wait
	r.put("/srv/ann", "/old", strings.Repeat("x", 10_000))
	s := r.login("ann")
	bye := make(chan string, 2)
	s.OnKick(func(reason string) { bye <- reason })
	up, err := s.Create(bg, "/new", vfs.CreateOptions{})
	r.want(err, fault.None)
	down, err := s.Open(bg, "/old", 0)
	r.want(err, fault.None)
	errs := make(chan error, 3)
	go func() { _, err := up.Write(make([]byte, 10_000)); errs <- err }()
	go func() { _, err := io.Copy(io.Discard, struct{ io.Reader }{down}); errs <- err }()
	go func() { // the kernel's way
		for {
			n, err := down.Grant(bg, 1<<20)
			if err != nil {
				errs <- err
				return
			}
			_ = n // nothing moves; the grant is repeated
			time.Sleep(time.Millisecond)
		}
	}()
	time.Sleep(20 * time.Millisecond)
	if !r.m.Kick(s.ID(), "too greedy") || r.m.Kick(s.ID(), "again") || r.m.Kick("nobody", "x") {
		t.Error("Kick does not tell what it did")
	}
	for range 3 {
		if err := <-errs; fault.KindOf(err) != fault.Canceled || !strings.Contains(err.Error(), "too greedy") {
			t.Errorf("got %v", err)
		}
	}
	if got := <-bye; got != "too greedy" {
		t.Errorf("the front was told %q", got)
	}
	late := make(chan string, 1)
	s.OnKick(func(reason string) { late <- reason })
	if got := <-late; got != "too greedy" {
		t.Errorf("a late front was told %q", got)
	}
	r.want(up.Commit(bg), fault.Canceled)
	up.Close(io.ErrUnexpectedEOF)
	s.Close(io.EOF) // closes what is open
	s.g.Close(nil)
	if r.get("/srv/ann", "/new") != "<none>" {
		t.Error("a kicked upload became visible")
	}
	r.idle()
	for _, e := range r.events(events.Upload, events.Download, events.Logout) {
		if e.Fault != fault.Canceled || !strings.Contains(e.Detail, "too greedy") {
			t.Errorf("%s: %s, %s", e.Kind, e.Fault, e.Detail)
		}
	}
}

func TestBandwidthThroughTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100_000
		r := newRig(t, Config{}, testLimits)
		defer r.m.stop(nil)
		defer r.bus.Close(bg)
		r.user(account.User{Name: "ann", Bandwidth: account.Bandwidth{Up: rate, Down: 2 * rate}})
		content := strings.Repeat("x", 10*rate)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 2 { // two sessions share it
			wg.Go(func() {
				s := r.login("ann")
				defer s.g.Close(nil)
				if err := upload(s, fmt.Sprint("/f", i), content[:5*rate], vfs.CreateOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began).Seconds(); took < 9.7 || took > 10.3 {
			t.Errorf("upload took %.2f s, want 10", took)
		}
		s := r.login("ann")
		defer s.g.Close(nil)
		began = time.Now()
		f, err := s.Open(bg, "/f0", 0)
		r.want(err, fault.None)
		for moved := int64(0); moved < 5*rate; {
			n, err := f.Grant(bg, 4<<20)
			r.want(err, fault.None)
			n = min(n, 1000) // the socket takes less than was granted; nothing is lost
			f.Moved(n)
			moved += n
		}
		f.Close(nil)
		if took := time.Since(began).Seconds(); took < 2.3 || took > 2.7 {
			t.Errorf("download took %.2f s, want 2.5", took)
		}
	})
}

func TestEventsOfChanges(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: "/ro", Rights: account.ReadOnly}}})
	r.put("/srv/ann", "/ro/f", "x")
	s := r.login("ann")
	perm := fs.FileMode(0o600)
	mode := vfs.Attr{Mode: &perm}
	r.want(s.Mkdir(bg, "/d/", 0o755), fault.None)
	r.want(upload(s, "/d/f", "hello", vfs.CreateOptions{}), fault.None)
	_, err := download(s, "/d/f")
	r.want(err, fault.None)
	_, err = s.Copy(bg, "/d/f", "/d/g")
	r.want(err, fault.None)
	r.want(s.Rename(bg, "/d/g", "/d/h", false), fault.None)
	r.want(s.SetAttr(bg, "/d/h", mode), fault.None)
	r.want(s.Symlink(bg, "h", "/d/l"), fault.None)
	r.want(s.Remove(bg, "/d/h"), fault.None)
	r.want(s.Rmdir(bg, "/d"), fault.WrongType) // not empty: no news
	r.want(s.Mkdir(bg, "/d", 0o755), fault.Exist)
	r.want(s.Remove(bg, "/ro/f"), fault.Denied) // news
	_, err = s.Create(bg, "/ro/g", vfs.CreateOptions{})
	r.want(err, fault.Denied)
	f, _ := s.Create(bg, "/d/broken", vfs.CreateOptions{})
	f.Write([]byte("abc"))
	f.Close(io.ErrUnexpectedEOF)
	f.Close(nil)
	f, _ = s.Create(bg, "/d/forgotten", vfs.CreateOptions{})
	f.Close(nil) // never committed
	for range s.List(bg, "/") {
	}
	s.g.Close(nil)
	var got []string
	for _, e := range r.events() {
		got = append(got, strings.TrimRight(fmt.Sprintf("%s %s %s %d %s", e.Kind, e.Path, e.Target, e.Bytes, e.Result), " "))
		if e.User != "ann" {
			t.Errorf("%s is nobody's", e.Kind)
		}
	}
	want := []string{"login   0 ok", "mkdir /d  0 ok", "upload /d/f  5 ok", "download /d/f  5 ok", "copy /d/f /d/g 5 ok", "rename /d/g /d/h 0 ok", "attr /d/h  0 ok",
		"link /d/l /d/h 0 ok", "delete /d/h  0 ok", "delete /ro/f  0 denied", "upload /ro/g  0 denied", "upload /d/broken  3 canceled", "upload /d/forgotten  0 canceled", "logout   13 ok"}
	for i := range want {
		want[i] = strings.TrimRight(want[i], " ")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHooksMayRefuse(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	r.put("/srv/ann", "/f", "x")
	s := r.login("ann")
	defer s.g.Close(nil)
	r.bus.OnAsk("no", func(context.Context, events.Event) error { return errors.New("not today") })
	for i, err := range []error{upload(s, "/new", "x", vfs.CreateOptions{}), s.Remove(bg, "/f"), s.Rename(bg, "/f", "/g", false), s.Mkdir(bg, "/d", 0),
		func() error { _, err := download(s, "/f"); return err }(), func() error { _, err := s.Copy(bg, "/f", "/g"); return err }()} {
		if fault.KindOf(err) != fault.Denied {
			t.Errorf("operation %d: %v", i, err)
		}
	}
}

func TestRefresh(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", ID: 1})
	r.put("/srv/ann", "/f", "x")
	s := r.login("ann")
	defer s.g.Close(nil)
	r.user(account.User{Name: "ann", ID: 1, Rules: []account.Rule{{Path: "/", Rights: account.ReadOnly}}, Quota: account.Quota{Bytes: 10}, Bandwidth: account.Bandwidth{Down: 5}})
	r.want(r.m.Refresh(bg, "ann"), fault.None)
	r.want(s.Remove(bg, "/f"), fault.Denied)
	if u, _ := s.Usage(bg); u.MaxBytes != 10 {
		t.Errorf("usage %+v", u)
	}
	_, err := s.Stat(bg, "/f")
	r.want(err, fault.None)
	for name, change := range map[string]func(u *account.User){
		"disabled": func(u *account.User) { u.Disabled = true },
		"password": func(u *account.User) { u.PasswordHash = "other" },
		"protocol": func(u *account.User) { u.Protocols = []string{"sftp"} },
		"key only": func(u *account.User) { u.KeyOnly = true },
		"expired":  func(u *account.User) { u.Expires = time.Unix(1, 0) },
		"removed":  nil,
	} {
		r.user(account.User{Name: "bob", ID: 2, PasswordHash: "hash"})
		b := r.login("bob")
		u := r.users["bob"]
		if change == nil {
			delete(r.users, "bob")
		} else {
			change(&u)
			r.user(u)
		}
		r.want(r.m.Refresh(bg, "bob"), fault.None)
		if b.Context().Err() == nil {
			t.Errorf("%s: the session lives on", name)
		}
		b.g.Close(nil)
	}
	if s.Context().Err() != nil {
		t.Error("another user's session ended")
	}
	if n := r.m.KickUser("ann", "bye"); n != 1 {
		t.Errorf("kicked %d", n)
	}
	s.g.Close(nil)
	r.idle()
}

func TestShutdown(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	front := func(s *Session) { s.OnKick(func(string) { s.g.Close(nil) }) }
	idle, busy, stuck := r.login("ann"), r.login("ann"), r.login("ann")
	front(idle)
	front(busy)
	front(stuck)
	f, err := busy.Create(bg, "/f", vfs.CreateOptions{})
	r.want(err, fault.None)
	g, err := stuck.Create(bg, "/g", vfs.CreateOptions{})
	r.want(err, fault.None)
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() { done <- r.m.Shutdown(ctx) }()
	<-idle.Context().Done()
	_, err = r.m.Connect(bg, origin(1))
	r.want(err, fault.Stopping)
	f.Write([]byte("all of it"))
	r.want(f.Commit(bg), fault.None) // a transfer under way may finish
	f.Close(nil)
	<-busy.Context().Done()
	r.want(context.Cause(busy.Context()), fault.Stopping)
	if stuck.Context().Err() != nil {
		t.Error("cut before the deadline")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	_, err = g.Write([]byte("x"))
	r.want(err, fault.Stopping)
	g.Close(err)
	if r.get("/srv/ann", "/f") != "all of it" || r.get("/srv/ann", "/g") != "<none>" {
		t.Error("wrong files")
	}
	r.idle()
}

func TestShutdownWithoutAnybody(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.want(r.m.Shutdown(bg), fault.None)
	r.want(r.m.Shutdown(bg), fault.None)
}

func TestHandleReadsAndWrites(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	s := r.login("ann")
	defer s.g.Close(nil)
	f, err := s.OpenHandle(bg, "/f", os.O_RDWR|os.O_CREATE, 0o644)
	r.want(err, fault.None)
	want := bytes.Repeat([]byte("0123456789"), 1000)
	var wg sync.WaitGroup
	for i := 0; i < len(want); i += 1000 { // SFTP clients pipeline
		wg.Go(func() {
			if _, err := f.WriteAt(want[i:i+1000], int64(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := make([]byte, len(want)+1)
	if n, err := f.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Errorf("read %d, %v", n, err)
	}
	r.want(f.Truncate(5), fault.None)
	r.want(f.Sync(), fault.None)
	if i, err := f.Stat(); err != nil || i.Size != 5 {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<40); fault.KindOf(err) != fault.Range {
		t.Errorf("a hole of a TiB: %v", err)
	}
	r.want(f.Close(nil), fault.None)
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		// position 0 lies inside the file, so only the storage can refuse
		t.Error("a closed handle can be written")
	}
	if got := r.get("/srv/ann", "/f"); got != "01234" {
		t.Errorf("got %q", got)
	}
	if es := r.events(events.Upload); len(es) != 1 || es[0].Bytes != int64(len(want)) || es[0].Fault != fault.Range {
		t.Errorf("events %+v", es)
	}
}

func TestReadlink(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.All}}, Mounts: []account.Mount{{Path: "/m", Source: "/srv/m"}}})
	r.put("/srv/m", "/d/f", "x")
	s := r.login("ann")
	defer s.g.Close(nil)
	r.want(s.Symlink(bg, "/m/d/f", "/m/l"), fault.None)
	if got, err := s.Readlink(bg, "/m/l"); err != nil || vfs.Join("/m", got) != "/m/d/f" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := download(s, "/m/l"); err != nil || got != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if i, err := s.Lstat(bg, "/m/l"); err != nil || i.Mode.IsRegular() {
		t.Errorf("%+v, %v", i, err)
	}
	r.want(s.Symlink(bg, "/m/d/f", "/l"), fault.Denied) // to another mount
}

func TestIdleSessionIsSmall(t *testing.T) {
	if n := reflect.TypeFor[Session]().Size() + reflect.TypeFor[Guest]().Size(); n > 640 {
		t.Errorf("session and guest take %d octets", n)
	}
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Comment: "long", Keys: []string{strings.Repeat("k", 1000)}})
	a, b := r.login("ann"), r.login("ann")
	if a.who != b.who || a.view.Load().policy != b.view.Load().policy {
		t.Error("sessions of one user do not share the account and the policy")
	}
	a.g.Close(nil)
	b.g.Close(nil)
	r.idle()
}

func TestGrantAndMovedDoNotAllocate(t *testing.T) {
	for _, q := range []account.Quota{{}, {Bytes: 1 << 50}} {
		r := newRig(t, Config{}, testLimits)
		r.user(account.User{Name: "ann", Quota: q})
		s := r.login("ann")
		f, err := s.Create(bg, "/f", vfs.CreateOptions{})
		r.want(err, fault.None)
		if n := testing.AllocsPerRun(1000, func() {
			n, _ := f.Grant(bg, 4<<20)
			f.Moved(n)
		}); n != 0 {
			t.Errorf("quota %v: %v allocations", q, n)
		}
		f.Close(errors.New("enough"))
		s.g.Close(nil)
	}
}

func BenchmarkGrantMoved(b *testing.B) {
	r := newRig(b, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	s := r.login("ann")
	f, err := s.Create(bg, "/f", vfs.CreateOptions{})
	r.want(err, fault.None)
	b.ReportAllocs()
	for b.Loop() {
		n, _ := f.Grant(bg, 4<<20)
		f.Moved(n)
	}
	f.Close(errors.New("enough"))
}

func BenchmarkStat(b *testing.B) {
	r := newRig(b, Config{}, testLimits)
	r.user(account.User{Name: "ann"})
	r.put("/srv/ann", "/dir/file", "x")
	s := r.login("ann")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Stat(bg, "/dir/file"); err != nil {
			b.Fatal(err)
		}
	}
}
