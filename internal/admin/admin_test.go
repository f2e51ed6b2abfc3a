package admin

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/store"
)

// live records what the service asks of the running server.
type live struct {
	status    []session.Status
	refreshed []string
	kicked    []string
	err       error
}

func (l *live) Sessions() []session.Status { return l.status }
func (l *live) Kick(id, reason string) bool {
	l.kicked = append(l.kicked, id+": "+reason)
	return id == "s1"
}
func (l *live) KickUser(name, reason string) int {
	l.kicked = append(l.kicked, name+": "+reason)
	return 2
}
func (l *live) Refresh(_ context.Context, name string) error {
	l.refreshed = append(l.refreshed, name)
	return l.err
}

type rig struct {
	*Service
	db   *store.DB
	live *live
	data string // data directory
	srv  string // for homes
	seen chan events.Event
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{db: db, live: &live{}, seen: make(chan events.Event, 100)}
	tmp := t.TempDir()
	r.data, r.srv = filepath.Join(tmp, "data"), filepath.Join(tmp, "srv")
	if err := os.Mkdir(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	bus := events.NewBus(events.Options{Sink: db})
	sub := bus.Subscribe("test", events.UserChanged)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sub.Run(context.Background(), func(e events.Event) { r.seen <- e })
	}()
	t.Cleanup(func() {
		bus.Close(context.Background())
		<-done
		db.Close()
	})
	r.Service, err = New(Config{Store: db, Events: bus, Live: r.live, DataDir: r.data,
		Hash: func(_ context.Context, p string) (string, error) {
			if p == "" {
				return "", fault.Text(fault.Invalid, "the password is empty")
			}
			return "hash of " + p, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// event waits for the next event.
func (r *rig) event(t *testing.T) events.Event {
	t.Helper()
	select {
	case e := <-r.seen:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event came")
		return events.Event{}
	}
}

func wantKind(t *testing.T, err error, k fault.Kind, parts ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != k {
		t.Fatalf("error = %v (kind %v), want kind %v", err, fault.KindOf(err), k)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestCreateUser(t *testing.T) {
	r := newRig(t)
	home := filepath.Join(r.srv, "deep", "ann")
	ctx := WithActor(t.Context(), "root (uid 0)")
	u, err := r.CreateUser(ctx, NewUser{Name: "ann", Password: "secret", Settings: Settings{
		Home: &home, QuotaBytes: ptr(int64(10)), Rules: []account.Rule{{Path: "/in", Rights: account.ReadOnly}},
		Networks: &[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Protocols: &[]string{"ftps"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if u.ID == 0 || u.CreatedAt.IsZero() {
		t.Errorf("ID or time is missing: %+v", u)
	}
	got, err := r.db.UserByName(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if got.PasswordHash != "hash of secret" || got.Home != home || got.Quota.Bytes != 10 || len(got.Rules) != 1 || got.Protocols[0] != "ftps" {
		t.Errorf("stored %+v", got)
	}
	if st, err := os.Stat(home); err != nil || !st.IsDir() {
		t.Errorf("home was not made: %v", err)
	}
	e := r.event(t)
	if e.User != "ann" || !strings.HasPrefix(e.Detail, "made: ") || !strings.HasSuffix(e.Detail, " by root (uid 0)") || !strings.Contains(e.Detail, `quota none -> {"bytes":10}`) {
		t.Errorf("event %+v", e)
	}
	if !slices.Equal(r.live.refreshed, []string{"ann"}) {
		t.Errorf("refreshed %v", r.live.refreshed)
	}
}

func TestCreateUserDefaultHome(t *testing.T) {
	r := newRig(t)
	u, err := r.CreateUser(t.Context(), NewUser{Name: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(r.data, "home", "bob"); u.Home != want {
		t.Errorf("home %q, want %q", u.Home, want)
	}
	if got, _ := r.db.UserByName(t.Context(), "bob"); got.PasswordHash != "" {
		t.Errorf("a password came from nowhere: %q", got.PasswordHash)
	}
}

func TestCreateUserRefused(t *testing.T) {
	r := newRig(t)
	if _, err := r.CreateUser(t.Context(), NewUser{Name: "taken"}); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(r.data, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(r.srv, "never")
	tests := []struct {
		name string
		n    NewUser
		kind fault.Kind
		says string
	}{
		{"bad name", NewUser{Name: "../x"}, fault.Invalid, "not one of"},
		{"empty name", NewUser{}, fault.Invalid, "empty"},
		{"taken", NewUser{Name: "taken", Settings: Settings{Home: &fresh}}, fault.Exist, "there is a user taken already"},
		{"relative home", NewUser{Name: "x", Settings: Settings{Home: ptr("srv/x")}}, fault.Invalid, "not an absolute path"},
		{"home is a file", NewUser{Name: "x", Settings: Settings{Home: &file}}, fault.Invalid, "is not a directory"},
		{"home below a file", NewUser{Name: "x", Settings: Settings{Home: ptr(file + "/x")}}, fault.Invalid, "not a directory"},
		{"home is the data directory", NewUser{Name: "x", Settings: Settings{Home: &r.data}}, fault.Invalid, "own data directory"},
		{"home is above", NewUser{Name: "x", Settings: Settings{Home: ptr(filepath.Dir(r.data))}}, fault.Invalid, "contains the server's own"},
		{"home is the root", NewUser{Name: "x", Settings: Settings{Home: ptr("/")}}, fault.Invalid, "contains the server's own"},
		{"home is inside", NewUser{Name: "x", Settings: Settings{Home: ptr(r.data + "/tls")}}, fault.Invalid, "is inside"},
		{"home is all homes' sibling", NewUser{Name: "x", Settings: Settings{Home: ptr(r.data + "/home2")}}, fault.Invalid, "is inside"},
		{"home is a link to it", NewUser{Name: "x", Settings: Settings{Home: &link}}, fault.Invalid, "own data directory"},
		{"home goes through a link", NewUser{Name: "x", Settings: Settings{Home: ptr(link + "/new/dir")}}, fault.Invalid, "own data directory"},
		{"mount of it", NewUser{Name: "x", Settings: Settings{Home: &fresh, Mounts: []account.Mount{{Path: "/d", Source: r.data}}}}, fault.Invalid, "mount /d"},
		{"protocol", NewUser{Name: "x", Settings: Settings{Home: &fresh, Protocols: &[]string{"ftpx"}}}, fault.Invalid, `"ftpx" is unknown`},
		{"negative", NewUser{Name: "x", Settings: Settings{Home: &fresh, QuotaBytes: ptr(int64(-1))}}, fault.Invalid, "negative"},
		{"group", NewUser{Name: "x", Settings: Settings{Home: &fresh, Groups: &[]string{"none"}}}, fault.Invalid, "no group"},
		{"password", NewUser{Name: "x", Password: "a\nb", Settings: Settings{Home: &fresh}}, fault.Invalid, "control character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.CreateUser(t.Context(), tt.n)
			wantKind(t, err, tt.kind, tt.says)
			if _, err := r.db.UserByName(t.Context(), "x"); fault.KindOf(err) != fault.NotExist {
				t.Errorf("the user is there: %v", err)
			}
		})
	}
	if _, err := os.Stat(r.srv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused user left a directory behind: %v", err)
	}
}

func TestUpdateUserChangesOnlyWhatIsGiven(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	_, err := r.CreateUser(ctx, NewUser{Name: "ann", Password: "pw", Settings: Settings{
		Comment: ptr("first"), MaxSessions: ptr(3), Home: ptr(filepath.Join(r.srv, "ann")),
		Rules: []account.Rule{{Path: "/", Rights: account.ReadOnly}, {Path: "/in", Rights: account.All}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.event(t)
	u, err := r.UpdateUser(ctx, "ann", Settings{Disabled: ptr(true), DropRules: []string{"/"}, Rules: []account.Rule{{Path: "/in", Rights: account.List}, {Path: "/out", Rights: 0}}})
	if err != nil {
		t.Fatal(err)
	}
	if !u.Disabled || u.Comment != "first" || u.MaxSessions != 3 || u.PasswordHash != "hash of pw" {
		t.Errorf("changed too much or too little: %+v", u)
	}
	want := []account.Rule{{Path: "/in", Rights: account.List}, {Path: "/out"}}
	if len(u.Rules) != 2 || u.Rules[0].Rights != want[0].Rights || u.Rules[1].Path != "/out" || u.Rules[1].Rights != 0 {
		t.Errorf("rules %+v, want %+v", u.Rules, want)
	}
	if e := r.event(t); !strings.HasPrefix(e.Detail, "changed: disabled none -> true; rules [") || !strings.HasSuffix(e.Detail, `{"path":"/out","rights":"none"}]`) {
		t.Errorf("event detail %q", e.Detail)
	}
	if !slices.Equal(r.live.refreshed, []string{"ann", "ann"}) {
		t.Errorf("refreshed %v", r.live.refreshed)
	}
}

func TestUpdateUserRefused(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.CreateUser(ctx, NewUser{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	_, err := r.UpdateUser(ctx, "nobody", Settings{Disabled: ptr(true)})
	wantKind(t, err, fault.NotExist, `there is no user "nobody"`)
	_, err = r.UpdateUser(ctx, "ann", Settings{Home: ptr(r.data), Comment: ptr("lost")})
	wantKind(t, err, fault.Invalid, "own data directory")
	made := filepath.Join(r.srv, "new")
	_, err = r.UpdateUser(ctx, "ann", Settings{Home: &made, Groups: &[]string{"none"}})
	wantKind(t, err, fault.Invalid, "no group")
	if _, err := os.Stat(made); err == nil {
		t.Error("the refused change left its directory behind")
	}
	if u, _ := r.User(ctx, "ann"); u.Comment != "" || u.Home != filepath.Join(r.data, "home", "ann") {
		t.Errorf("a refused change left %+v", u)
	}
}

func TestBadHomeCanStillBeDisabled(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	// As an importer or an earlier configuration may have left it.
	if _, err := r.db.CreateUser(ctx, account.User{Name: "old", Home: r.data}); err != nil {
		t.Fatal(err)
	}
	u, err := r.UpdateUser(ctx, "old", Settings{Disabled: ptr(true)})
	if err != nil || !u.Disabled {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestSetPassword(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if _, err := r.CreateUser(ctx, NewUser{Name: "ann", Settings: Settings{MustChange: ptr(true)}}); err != nil {
		t.Fatal(err)
	}
	r.event(t)
	if err := r.SetPassword(ctx, "ann", "new"); err != nil {
		t.Fatal(err)
	}
	u, _ := r.db.UserByName(ctx, "ann")
	if u.PasswordHash != "hash of new" || u.MustChange {
		t.Errorf("stored %q, must change %v", u.PasswordHash, u.MustChange)
	}
	if e := r.event(t); !strings.HasPrefix(e.Detail, "password set: ") || strings.Contains(e.Detail, "new") {
		t.Errorf("event detail %q", e.Detail)
	}
	wantKind(t, r.SetPassword(ctx, "ann", ""), fault.Invalid, "empty")
	wantKind(t, r.SetPassword(ctx, "ann", "a\rb"), fault.Invalid, "control")
	wantKind(t, r.SetPassword(ctx, "bob", "x"), fault.NotExist, "bob")
}

func TestDeleteUser(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	u, err := r.CreateUser(ctx, NewUser{Name: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteUser(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	_, err = r.User(ctx, "ann")
	wantKind(t, err, fault.NotExist, "ann")
	wantKind(t, r.DeleteUser(ctx, "ann"), fault.NotExist, "ann")
	if _, err := os.Stat(u.Home); err != nil {
		t.Errorf("the files went with the account: %v", err)
	}
}

func TestUsersPages(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	for _, n := range []string{"eve", "ann", "dan", "bob", "cat"} {
		if _, err := r.CreateUser(ctx, NewUser{Name: n, Settings: Settings{Comment: ptr("team of " + n)}}); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		o    ListOptions
		want string
		next string
	}{
		{ListOptions{}, "ann bob cat dan eve", ""},
		{ListOptions{Limit: 2}, "ann bob", "bob"},
		{ListOptions{Limit: 2, After: "bob"}, "cat dan", "dan"},
		{ListOptions{Limit: 2, After: "dan"}, "eve", ""},
		{ListOptions{Limit: 5}, "ann bob cat dan eve", ""},
		{ListOptions{Match: "AN"}, "ann dan", ""},
		{ListOptions{Match: "of e"}, "eve", ""},
		{ListOptions{Match: "a", Limit: 1}, "ann", "ann"},
		{ListOptions{Match: "nobody"}, "", ""},
	}
	for _, tt := range tests {
		us, next, err := r.Users(ctx, tt.o)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range us {
			names = append(names, u.Name)
		}
		if got := strings.Join(names, " "); got != tt.want || next != tt.next {
			t.Errorf("%+v: %q next %q, want %q next %q", tt.o, got, next, tt.want, tt.next)
		}
	}
}

func TestSessions(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.live.status = []session.Status{{ID: "s1", User: "ann", Op: "upload", Bytes: 50, Size: 200, Remote: netip.MustParseAddrPort("192.0.2.7:1234")}}
	ss, err := r.Sessions(ctx)
	if err != nil || len(ss) != 1 {
		t.Fatal(ss, err)
	}
	if s := ss[0]; s.ID != "s1" || s.Transfer != "upload" || s.Remote != "192.0.2.7:1234" || s.Percent() != 25 {
		t.Errorf("session %+v", s)
	}
	if err := r.Kick(ctx, "s1", ""); err != nil {
		t.Error(err)
	}
	wantKind(t, r.Kick(ctx, "s2", "bye"), fault.NotExist, `"s2"`)
	if n, err := r.KickUser(ctx, "ann", "bye"); n != 2 || err != nil {
		t.Error(n, err)
	}
	if want := []string{"s1: " + defaultReason, "s2: bye", "ann: bye"}; !slices.Equal(r.live.kicked, want) {
		t.Errorf("kicked %q, want %q", r.live.kicked, want)
	}
	if (Session{}).Percent() != -1 || (Session{Bytes: 9, Size: 3}).Percent() != 100 {
		t.Error("percent of an unknown or overshot size is wrong")
	}
}

func TestLiveFailureDoesNotUndoTheChange(t *testing.T) {
	r := newRig(t)
	r.live.err = errors.New("storage is down")
	if _, err := r.CreateUser(t.Context(), NewUser{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	if e := r.event(t); e.User != "ann" {
		t.Errorf("event %+v", e)
	}
}

// TestSettingsReachTheUser fails when a setting is added that apply forgets.
func TestSettingsReachTheUser(t *testing.T) {
	full := Settings{
		Comment: ptr("c"), Disabled: ptr(true), MustChange: ptr(true), Home: ptr("/h"), Groups: &[]string{"g"},
		Mounts: []account.Mount{{Path: "/m"}}, DropMounts: []string{"/old"}, Rules: []account.Rule{{Path: "/r"}}, DropRules: []string{"/old"},
		QuotaBytes: ptr(int64(1)), QuotaFiles: ptr(int64(1)), BandwidthDown: ptr(int64(1)), BandwidthUp: ptr(int64(1)), MaxSessions: ptr(1),
		Protocols: &[]string{"ftp"}, Networks: &[]netip.Prefix{{}}, Hours: &[]account.Hours{{}}, Expires: ptr(time.Unix(1, 0)),
		Keys: &[]string{"k"}, Certificates: &[]string{"c"}, KeyOnly: ptr(true), Auth: &[]string{"publickey"},
		AddGroups: []string{"g"}, DropGroups: []string{"old"}, ChangeRules: []RuleChange{{Path: "/r"}},
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "IfMatch" {
			continue // a condition, not a setting
		}
		if v.Field(i).IsZero() {
			t.Errorf("this test does not know the setting %s", name)
			continue
		}
		only := reflect.New(v.Type()).Elem()
		only.Field(i).Set(v.Field(i))
		u := account.User{Mounts: []account.Mount{{Path: "/old"}}, Rules: []account.Rule{{Path: "/old"}}, Groups: []string{"old"}}
		before := u
		only.Interface().(Settings).apply(&u)
		if reflect.DeepEqual(before, u) {
			t.Errorf("the setting %s changes nothing", name)
		}
		if only.Interface().(Settings).Empty() {
			t.Errorf("the setting %s counts as nothing", name)
		}
	}
	if !(Settings{}).Empty() {
		t.Error("nothing is something")
	}
}
