package store

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// fullUser has no zero field but ID and times, so that a forgotten column shows.
func fullUser() account.User {
	return account.User{
		Name: "ann", Comment: "Ann's ä", Disabled: true, PasswordHash: "$argon2id$x", MustChange: true, Home: "/srv/ann",
		Groups: []string{"two", "one"},
		Mounts: []account.Mount{{Path: "/m", Source: "/data", ReadOnly: true, Quota: account.Quota{Bytes: 1, Files: 2}}},
		Rules:  []account.Rule{{Path: "/in", Rights: account.Upload | account.List, Allow: []string{"*.csv"}, Deny: []string{"x"}, Hide: []string{".*"}}},
		Quota:  account.Quota{Bytes: 1 << 40, Files: 7}, Bandwidth: account.Bandwidth{Down: 8, Up: 9}, MaxSessions: 3,
		Protocols: []string{"ftps", "sftp"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Hours:   []account.Hours{{Days: []time.Weekday{1, 5}, From: "08:00", Until: "18:00"}},
		Expires: time.UnixMicro(1893456000123456), Keys: []string{"ssh-ed25519 AAAAC3 a", "ssh-rsa AAAAB3 b"},
		Certificates: []string{strings.Repeat("ab", 32), strings.Repeat("cd", 32)}, KeyOnly: true, Auth: []string{"publickey", "totp"}, LastLogin: time.UnixMicro(1700000000000001),
	}
}

// allSet reports the zero fields of a struct, but for the named ones.
func zeroFields(v any, but ...string) (names []string) {
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		name := rv.Type().Field(i).Name
		if rv.Field(i).IsZero() && !strings.Contains(strings.Join(but, " "), name) {
			names = append(names, name)
		}
	}
	return names
}

func addGroups(t *testing.T, db *DB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := db.CreateGroup(t.Context(), account.Group{Name: name})
		must(t, err)
	}
}

func TestUserRoundTrip(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		addGroups(t, db, "one", "two")
		in := fullUser()
		if z := zeroFields(in, "ID", "CreatedAt", "UpdatedAt", "TOTP", "TOTPSecret"); z != nil {
			t.Fatalf("the test user does not set %v; add them here and to the columns", z)
		}
		made, err := db.CreateUser(t.Context(), in)
		must(t, err)
		if made.ID == 0 || time.Since(made.CreatedAt) > time.Minute || !made.CreatedAt.Equal(made.UpdatedAt) {
			t.Errorf("ID %d, created %v, updated %v", made.ID, made.CreatedAt, made.UpdatedAt)
		}
		got, err := db.UserByName(t.Context(), "ann")
		must(t, err)
		if !reflect.DeepEqual(got, made) {
			t.Errorf("read back\n%+v\nwant\n%+v", got, made)
		}
		byCert, err := db.UserByCertificate(t.Context(), strings.Repeat("CD", 32))
		if err != nil || byCert.Name != "ann" {
			t.Errorf("by certificate: %v, %v", byCert.Name, err)
		}
		_, err = db.UserByCertificate(t.Context(), strings.Repeat("00", 32))
		wantKind(t, "unknown certificate", err, fault.NotExist)
		for _, name := range []string{"Ann", "an", "annn", "", "ann\x00", "'; DROP TABLE users; --"} {
			_, err := db.UserByName(t.Context(), name)
			wantKind(t, fmt.Sprintf("name %q", name), err, fault.NotExist)
		}
		must(t, func() error { _, err := db.CreateUser(t.Context(), account.User{Name: "Ann"}); return err }())
		_, err = db.CreateUser(t.Context(), account.User{Name: "ann"})
		wantKind(t, "same name", err, fault.Exist)
		if err == nil || !strings.Contains(err.Error(), `"ann"`) {
			t.Errorf("message: %v", err)
		}
		_, err = db.CreateUser(t.Context(), account.User{Name: "eve", Certificates: in.Certificates[:1]})
		wantKind(t, "same certificate", err, fault.Exist)
		_, err = db.CreateUser(t.Context(), account.User{Name: "eve", Groups: []string{"none"}})
		wantKind(t, "unknown group", err, fault.Invalid)
		_, err = db.CreateUser(t.Context(), account.User{Name: "../eve"})
		wantKind(t, "bad name", err, fault.Invalid)
		if n, err := db.CountUsers(t.Context()); err != nil || n != 2 {
			t.Errorf("%d users, %v: a refused one must leave nothing", n, err)
		}
	})
}

func TestUpdateUser(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		addGroups(t, db, "one", "two")
		made, err := db.CreateUser(t.Context(), fullUser())
		must(t, err)
		_, err = db.CreateUser(t.Context(), account.User{Name: "bob", Certificates: []string{strings.Repeat("ef", 32)}})
		must(t, err)
		must(t, db.SetQuota(t.Context(), "ann", 5, 6))

		must(t, db.UpdateUser(t.Context(), "ann", func(u *account.User) error {
			*u = account.User{Name: "anna", Groups: []string{"one"}, Keys: []string{"k"}, Comment: "new"}
			return nil
		}))
		got, err := db.UserByName(t.Context(), "anna")
		must(t, err)
		want := account.User{ID: made.ID, Name: "anna", Groups: []string{"one"}, Keys: []string{"k"}, Comment: "new", CreatedAt: made.CreatedAt, UpdatedAt: got.UpdatedAt}
		if !reflect.DeepEqual(got, want) || got.UpdatedAt.Before(made.UpdatedAt) {
			t.Errorf("after update\n%+v\nwant\n%+v", got, want)
		}
		if b, f, err := db.QuotaUsed(t.Context(), "anna"); b != 5 || f != 6 || err != nil {
			t.Errorf("quota did not follow the name: %d, %d, %v", b, f, err)
		}
		_, err = db.UserByName(t.Context(), "ann")
		wantKind(t, "old name", err, fault.NotExist)
		_, err = db.UserByCertificate(t.Context(), strings.Repeat("ab", 32))
		wantKind(t, "old certificate", err, fault.NotExist)

		mine := errors.New("mine")
		if err := db.UpdateUser(t.Context(), "anna", func(u *account.User) error { u.Comment = "lost"; u.Groups[0] = "x"; return mine }); err != mine {
			t.Errorf("error of the function: %v", err)
		}
		wantKind(t, "missing", db.UpdateUser(t.Context(), "nobody", func(*account.User) error { return nil }), fault.NotExist)
		wantKind(t, "taken name", db.UpdateUser(t.Context(), "anna", func(u *account.User) error { u.Name = "bob"; return nil }), fault.Exist)
		wantKind(t, "bad name", db.UpdateUser(t.Context(), "anna", func(u *account.User) error { u.Name = ".."; return nil }), fault.Invalid)
		wantKind(t, "taken certificate", db.UpdateUser(t.Context(), "anna", func(u *account.User) error {
			u.Comment, u.Certificates = "lost", []string{strings.Repeat("ef", 32)}
			return nil
		}), fault.Exist)
		if again, err := db.UserByName(t.Context(), "anna"); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("a refused update left traces: %+v, %v", again, err)
		}
	})
}

func TestSmallUserWrites(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		made, err := db.CreateUser(t.Context(), account.User{Name: "ann", PasswordHash: "old", MustChange: true})
		must(t, err)
		must(t, db.SetPassword(t.Context(), "ann", "new", false))
		at := time.UnixMicro(1800000000000007)
		must(t, db.TouchLogin(t.Context(), "ann", at))
		u, err := db.UserByName(t.Context(), "ann")
		if err != nil || u.PasswordHash != "new" || u.MustChange || !u.LastLogin.Equal(at) {
			t.Errorf("%+v, %v", u, err)
		}
		must(t, db.Rehash(t.Context(), made, "old", "renewed")) // somebody set another one since
		if u, _ := db.UserByName(t.Context(), "ann"); u.PasswordHash != "new" {
			t.Errorf("a new password was overwritten by %q", u.PasswordHash)
		}
		must(t, db.Rehash(t.Context(), made, "new", "renewed"))
		if u, _ := db.UserByName(t.Context(), "ann"); u.PasswordHash != "renewed" {
			t.Errorf("hash = %q", u.PasswordHash)
		}
		wantKind(t, "SetPassword", db.SetPassword(t.Context(), "x", "h", false), fault.NotExist)
		wantKind(t, "TouchLogin", db.TouchLogin(t.Context(), "x", at), fault.NotExist)
		must(t, db.AddQuota(t.Context(), "ann", 1, 1))
		must(t, db.DeleteUser(t.Context(), "ann"))
		wantKind(t, "DeleteUser", db.DeleteUser(t.Context(), "ann"), fault.NotExist)
		if b, _, _ := db.QuotaUsed(t.Context(), "ann"); b != 0 {
			t.Error("the quota use of a deleted user is left")
		}
		again, err := db.CreateUser(t.Context(), account.User{Name: "ann"})
		if err != nil || again.ID == made.ID {
			t.Errorf("ID %d is used again: %v", again.ID, err)
		}
	})
}

func TestKeys(t *testing.T) {
	db := open(t, ":memory:")
	blob := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), make([]byte, 32)...)
	b64 := base64.StdEncoding.EncodeToString(blob)
	sum := sha256.Sum256(blob)
	fp := "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	for _, u := range []account.User{
		{Name: "bob", Keys: []string{`from="10.0.0.1",command="x y" ssh-ed25519 ` + b64 + ` bob@host`}},
		{Name: "ann", Keys: []string{"ssh-ed25519 " + b64, "ssh-ed25519 " + b64 + " again"}},
		{Name: "eve", Keys: []string{"ssh-ed25519 AAAA%%% broken"}},
	} {
		_, err := db.CreateUser(t.Context(), u)
		must(t, err)
	}
	if names, err := db.NamesByKey(t.Context(), fp); err != nil || fmt.Sprint(names) != "[ann bob]" {
		t.Errorf("NamesByKey = %v, %v", names, err)
	}
	if names, err := db.NamesByKey(t.Context(), "SHA256:none"); err != nil || names != nil {
		t.Errorf("NamesByKey = %v, %v", names, err)
	}
}

func TestListUsers(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), FileName))
	addGroups(t, db, "one", "two")
	const n = 1000
	for i := range n {
		u := account.User{Name: fmt.Sprintf("user%04d", (i*7919)%n)}
		if i%3 == 0 {
			u.Groups, u.Keys = []string{"two", "one"}, []string{"key of " + u.Name}
		}
		_, err := db.CreateUser(t.Context(), u)
		must(t, err)
	}
	for _, limit := range []int{0, 1, 7, 333, 1000, 5000} {
		after, seen, pages := "", 0, 0
		for {
			us, err := db.ListUsers(t.Context(), after, limit)
			must(t, err)
			if len(us) == 0 {
				break
			}
			if len(us) > pageSize(limit) {
				t.Fatalf("limit %d: %d users", limit, len(us))
			}
			for _, u := range us {
				if want := fmt.Sprintf("user%04d", seen); u.Name != want {
					t.Fatalf("limit %d: %s, want %s", limit, u.Name, want)
				}
				if len(u.Keys) == 1 != (len(u.Groups) == 2) || len(u.Keys) == 1 && (u.Keys[0] != "key of "+u.Name || u.Groups[0] != "two") {
					t.Fatalf("%s has keys %v and groups %v", u.Name, u.Keys, u.Groups)
				}
				seen++
			}
			after = us[len(us)-1].Name
			if pages++; limit == 1 && pages == 20 {
				break
			}
		}
		if seen != n && limit != 1 {
			t.Errorf("limit %d: %d users in %d pages", limit, seen, pages)
		}
	}
	if m, err := db.MembersOf(t.Context(), "one", "user0000", 3); err != nil || len(m) != 3 || m[0] <= "user0000" {
		t.Errorf("MembersOf = %v, %v", m, err)
	}
}

func TestGroups(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		u := fullUser()
		in := account.Group{
			Name: "staff", Comment: "c", Home: "/srv/%g/%u", Mounts: u.Mounts, Rules: u.Rules, Quota: u.Quota, Bandwidth: u.Bandwidth,
			MaxSessions: 4, Protocols: u.Protocols, Networks: u.Networks, Hours: u.Hours, Auth: u.Auth,
		}
		if z := zeroFields(in, "ID", "CreatedAt", "UpdatedAt"); z != nil {
			t.Fatalf("the test group does not set %v", z)
		}
		made, err := db.CreateGroup(t.Context(), in)
		must(t, err)
		if got, err := db.GroupByName(t.Context(), "staff"); err != nil || !reflect.DeepEqual(got, made) {
			t.Errorf("read back\n%+v, %v\nwant\n%+v", got, err, made)
		}
		_, err = db.CreateGroup(t.Context(), account.Group{Name: "staff"})
		wantKind(t, "same name", err, fault.Exist)
		_, err = db.CreateGroup(t.Context(), account.Group{Name: "a b"})
		wantKind(t, "bad name", err, fault.Invalid)
		addGroups(t, db, "other")
		_, err = db.CreateUser(t.Context(), account.User{Name: "ann", Groups: []string{"other", "staff"}})
		must(t, err)
		must(t, db.UpdateGroup(t.Context(), "staff", func(g *account.Group) error { g.Name, g.MaxSessions = "crew", 9; return nil }))
		ann, err := db.UserByName(t.Context(), "ann")
		if err != nil || fmt.Sprint(ann.Groups) != "[other crew]" {
			t.Errorf("groups = %v, %v", ann.Groups, err)
		}
		gs, err := db.GroupsOf(t.Context(), ann)
		if err != nil || len(gs) != 2 || gs[0].Name != "other" || gs[1].MaxSessions != 9 || !gs[1].CreatedAt.Equal(made.CreatedAt) {
			t.Errorf("GroupsOf = %+v, %v", gs, err)
		}
		ann.Groups = append(ann.Groups, "gone")
		if gs, err := db.GroupsOf(t.Context(), ann); err != nil || len(gs) != 2 {
			t.Errorf("GroupsOf with one that is gone = %+v, %v", gs, err)
		}
		wantKind(t, "taken", db.UpdateGroup(t.Context(), "crew", func(g *account.Group) error { g.Name = "other"; return nil }), fault.Exist)
		wantKind(t, "missing", db.UpdateGroup(t.Context(), "none", func(*account.Group) error { return nil }), fault.NotExist)
		wantKind(t, "delete with members", db.DeleteGroup(t.Context(), "crew"), fault.Busy)
		wantKind(t, "members of none", func() error { _, err := db.MembersOf(t.Context(), "none", "", 0); return err }(), fault.NotExist)
		must(t, db.UpdateUser(t.Context(), "ann", func(u *account.User) error { u.Groups = nil; return nil }))
		must(t, db.DeleteGroup(t.Context(), "crew"))
		wantKind(t, "delete again", db.DeleteGroup(t.Context(), "crew"), fault.NotExist)
		gs, err = db.ListGroups(t.Context(), "", 0)
		if n, _ := db.CountGroups(t.Context()); err != nil || len(gs) != 1 || n != 1 {
			t.Errorf("ListGroups = %v, %v", gs, err)
		}
	})
}

func TestEvents(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		base := time.UnixMicro(1800000000000000)
		full := events.Event{
			Time: base, Kind: events.Upload, Node: "n", Session: "s1", Protocol: "ftp", Listener: "l", User: "ann", Remote: "192.0.2.1:5000",
			Path: "/in/a", Target: "/t", Bytes: 1 << 40, Took: time.Second + 3, Fault: fault.Quota, Result: "quota", Detail: "d",
		}
		if z := zeroFields(full, "ID"); z != nil {
			t.Fatalf("the test event does not set %v", z)
		}
		must(t, db.Append(t.Context(), nil))
		must(t, db.Append(t.Context(), []events.Event{
			full,
			{Time: base.Add(1 * time.Second), Kind: events.Login, User: "bob", Remote: "192.0.2.10:5000"},
			{Time: base.Add(2 * time.Second), Kind: events.Rename, User: "ann", Path: "/inbox", Target: "/in/b", Remote: "[2001:db8::1]:9"},
			{Time: base.Add(3 * time.Second), Kind: events.Delete, User: "ann", Path: "/in", Session: "s1"},
			{Time: base.Add(4 * time.Second), Kind: events.Delete, User: "x'; DROP TABLE events; --", Path: "/b\xff\x00\\ä", Fault: fault.Denied},
		}))
		got, err := db.ListEvents(t.Context(), EventFilter{Oldest: true, Limit: 1})
		if full.ID = 1; err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], full) {
			t.Errorf("read back\n%+v, %v\nwant\n%+v", got, err, full)
		}
		tests := []struct {
			name string
			f    EventFilter
			want string // IDs
		}{
			{"all", EventFilter{}, "[5 4 3 2 1]"},
			{"oldest", EventFilter{Oldest: true}, "[1 2 3 4 5]"},
			{"limit", EventFilter{Limit: 2}, "[5 4]"},
			{"next page", EventFilter{Limit: 2, Before: 4}, "[3 2]"},
			{"new ones", EventFilter{After: 3, Oldest: true}, "[4 5]"},
			{"user", EventFilter{User: "ann"}, "[4 3 1]"},
			{"hostile user", EventFilter{User: "x'; DROP TABLE events; --"}, "[5]"},
			{"kinds", EventFilter{Kinds: []events.Kind{events.Login, events.Delete}}, "[5 4 2]"},
			{"session", EventFilter{Session: "s1"}, "[4 1]"},
			{"address", EventFilter{Address: netip.MustParseAddr("192.0.2.1")}, "[1]"},
			{"address v6", EventFilter{Address: netip.MustParseAddr("2001:db8::1")}, "[3]"},
			{"path", EventFilter{Path: "/in"}, "[4 3 1]"},
			{"path of a file", EventFilter{Path: "/in/a"}, "[1]"},
			{"path root", EventFilter{Path: "/"}, "[5 4 3 1]"},
			{"path octets", EventFilter{Path: "/b\xff\x00\\ä"}, "[5]"},
			{"since", EventFilter{Since: base.Add(3 * time.Second)}, "[5 4]"},
			{"until", EventFilter{Until: base.Add(1 * time.Second)}, "[1]"},
			{"failed", EventFilter{Failed: true}, "[5 1]"},
			{"together", EventFilter{User: "ann", Path: "/in", Since: base.Add(1), Kinds: []events.Kind{events.Rename}}, "[3]"},
		}
		for _, tt := range tests {
			es, err := db.ListEvents(t.Context(), tt.f)
			ids := []int64{}
			for _, e := range es {
				ids = append(ids, e.ID)
			}
			if err != nil || fmt.Sprint(ids) != tt.want {
				t.Errorf("%s: %v, %v; want %s", tt.name, ids, err, tt.want)
			}
		}
		es, err := db.ListEvents(t.Context(), EventFilter{Limit: 1})
		if err != nil || es[0].Path != `/b\xff\x00\ä` || es[0].Fault != fault.Denied || es[0].Result != "denied" {
			t.Errorf("%+v, %v", es, err)
		}
		if n, err := db.PruneEvents(t.Context(), base.Add(2*time.Second)); err != nil || n != 2 {
			t.Errorf("pruned %d, %v", n, err)
		}
		must(t, db.Append(t.Context(), []events.Event{{Time: base, Kind: events.Stop}}))
		if es, err := db.ListEvents(t.Context(), EventFilter{Limit: 1}); err != nil || es[0].ID != 6 {
			t.Errorf("the next ID is %d, %v", es[0].ID, err)
		}
	})
}

func TestPruneManyEvents(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), FileName))
	batch := make([]events.Event, 2*pruneStep+1)
	for i := range batch {
		batch[i] = events.Event{Time: time.UnixMicro(int64(i + 1)), Kind: events.Login}
	}
	must(t, db.Append(t.Context(), batch))
	if n, err := db.PruneEvents(t.Context(), time.UnixMicro(int64(len(batch)))); err != nil || n != int64(len(batch)-1) {
		t.Errorf("pruned %d, %v", n, err)
	}
}

// The bus and the store together: what is published can be listed.
func TestBusIntoStore(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), FileName))
	b := events.NewBus(events.Options{Sink: db, Node: "here"})
	for i := range 700 {
		must(t, b.Publish(t.Context(), events.Event{Kind: events.Upload, Bytes: int64(i), Fault: fault.None}))
	}
	must(t, b.Close(t.Context()))
	es, err := db.ListEvents(t.Context(), EventFilter{Oldest: true, Limit: 1000})
	if err != nil || len(es) != 700 || es[699].Bytes != 699 || es[0].Node != "here" || es[0].Result != "ok" {
		t.Errorf("%d events, %v", len(es), err)
	}
}

func TestQuota(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		want := func(bytes, files int64) {
			t.Helper()
			if b, f, err := db.QuotaUsed(t.Context(), "mount:/data"); b != bytes || f != files || err != nil {
				t.Errorf("used %d, %d, %v; want %d, %d", b, f, err, bytes, files)
			}
		}
		add := func(b, f int64) { t.Helper(); must(t, db.AddQuota(t.Context(), "mount:/data", b, f)) }
		want(0, 0)
		add(-5, -1)
		want(0, 0)
		add(1<<40, 3)
		add(-1, 2)
		want(1<<40-1, 5)
		add(-1<<50, -2)
		want(0, 3)
		must(t, db.SetQuota(t.Context(), "mount:/data", 7, 8))
		want(7, 8)
		wantKind(t, "negative", db.SetQuota(t.Context(), "mount:/data", -1, 0), fault.Invalid)
	})
}

func TestBans(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		at := time.UnixMicro(1800000000000000)
		p := netip.MustParsePrefix
		must(t, db.SaveBan(t.Context(), p("192.0.2.77/24"), at.Add(time.Hour), "first"))
		must(t, db.SaveBan(t.Context(), p("192.0.2.0/24"), at.Add(2*time.Hour), "again"))
		must(t, db.SaveBan(t.Context(), p("2001:db8::/64"), time.Time{}, "for ever"))
		wantKind(t, "no network", db.SaveBan(t.Context(), netip.Prefix{}, at, ""), fault.Invalid)
		bans, err := db.ListBans(t.Context(), at)
		if err != nil || len(bans) != 2 || bans[0].Network != p("192.0.2.0/24") || bans[0].Reason != "again" || !bans[0].Until.Equal(at.Add(2*time.Hour)) ||
			bans[1].Until != (time.Time{}) || time.Since(bans[1].Created) > time.Minute {
			t.Errorf("ListBans = %+v, %v", bans, err)
		}
		if bans, err := db.ListBans(t.Context(), at.Add(2*time.Hour)); err != nil || len(bans) != 1 || bans[0].Reason != "for ever" {
			t.Errorf("after the end: %+v, %v", bans, err)
		}
		if n, err := db.PruneBans(t.Context(), at.Add(2*time.Hour)); err != nil || n != 1 {
			t.Errorf("pruned %d, %v", n, err)
		}
		must(t, db.DeleteBan(t.Context(), p("2001:db8::1/64")))
		wantKind(t, "delete again", db.DeleteBan(t.Context(), p("2001:db8::/64")), fault.NotExist)
	})
}

func TestMeta(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		_, err := db.Meta(t.Context(), "a")
		wantKind(t, "missing", err, fault.NotExist)
		must(t, db.SetMeta(t.Context(), "a", "1"))
		must(t, db.SetMeta(t.Context(), "a", "2"))
		if v, err := db.Meta(t.Context(), "a"); v != "2" || err != nil {
			t.Errorf("Meta = %q, %v", v, err)
		}
		must(t, db.DeleteMeta(t.Context(), "a"))
		must(t, db.DeleteMeta(t.Context(), "a"))
		_, err = db.Meta(t.Context(), "a")
		wantKind(t, "removed", err, fault.NotExist)
	})
}
