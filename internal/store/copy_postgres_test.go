//go:build postgres

package store

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// TestBackupOfPostgres: a backup of a server's database is a file like that of
// any other, and goes back into a server or into a file.
func TestBackupOfPostgres(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	from := open(t, newServerDB(t))
	if _, err := from.CreateGroup(ctx, account.Group{Name: "staff", Comment: "Größe"}); err != nil {
		t.Fatal(err)
	}
	ann := account.User{Name: "ann", Home: "/srv/ann", PasswordHash: "$x", Groups: []string{"staff"}, Expires: time.Unix(2e9, 0).UTC(),
		Rules: []account.Rule{{Path: "/", Rights: account.ReadWrite, Deny: []string{"*.exe"}}}, Mounts: []account.Mount{{Path: "/pub", Source: "/srv/pub", ReadOnly: true}}}
	for _, u := range []account.User{{Name: "gone", Home: "/srv"}, ann} {
		if _, err := from.CreateUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	must(t, from.DeleteUser(ctx, "gone"))
	must(t, from.SetTOTP(ctx, UserCodes, "ann", "SECRET", []string{"h1", "h2"}))
	if _, err := from.CreateAdministrator(ctx, account.Administrator{Name: "ops", Scopes: []string{"read"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := from.CreateToken(ctx, account.Token{ID: "0011", Administrator: "ops"}, "hash"); err != nil {
		t.Fatal(err)
	}
	must(t, from.Append(ctx, []events.Event{{Time: time.Now(), Kind: events.Login, User: "ann", Path: "/a\xff b"}, {Time: time.Now(), Kind: events.Logout, User: "ann"}}))

	backup := filepath.Join(dir, "backup.db")
	must(t, from.Backup(ctx, backup))
	wantKind(t, "a second backup of the name", from.Backup(ctx, backup), fault.Exist)
	if left, _ := filepath.Glob(backup + "?*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	want, err := from.UserByName(ctx, "ann")
	must(t, err)
	same := func(db *DB) {
		t.Helper()
		got, err := db.UserByName(ctx, "ann")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v, %v", db.path, got, want, err)
		}
		if secret, hash, a, err := db.TokenByID(ctx, "0011"); err != nil || hash != "hash" || a.Name != "ops" {
			t.Errorf("%s: token %v %v %v, %v", db.path, secret, hash, a, err)
		}
		if v, err := db.VerifyEvents(ctx); err != nil || len(v.Broken) > 0 || v.Checked != 2 {
			t.Errorf("%s: the trail %+v, %v", db.path, v, err)
		}
		u, err := db.CreateUser(ctx, account.User{Name: "new", Home: "/srv/new"})
		if err != nil || u.ID <= want.ID {
			t.Errorf("%s: a new user has the number %d, %v", db.path, u.ID, err)
		}
		must(t, db.Append(ctx, []events.Event{{Time: time.Now(), Kind: events.Login, User: "new"}}))
		if v, err := db.VerifyEvents(ctx); err != nil || len(v.Broken) > 0 {
			t.Errorf("%s: the trail goes on wrongly: %+v, %v", db.path, v, err)
		}
	}
	url := newServerDB(t)
	if _, err := Restore(ctx, backup, url); err != nil {
		t.Fatal(err)
	}
	same(open(t, url))
	file := filepath.Join(dir, "data", FileName)
	if _, err := Restore(ctx, backup, file); err != nil {
		t.Fatal(err)
	}
	same(open(t, file))

	// Refused ones change nothing.
	_, err = Restore(ctx, backup, url)
	wantKind(t, "a database in use", err, fault.Exist)
	newer := filepath.Join(dir, "newer.db")
	must(t, copyFile(backup, newer))
	n := open(t, newer)
	if _, err := n.write.Exec(`INSERT INTO ` + versionTable + ` (version_id, is_applied) VALUES (99999, 1)`); err != nil {
		t.Fatal(err)
	}
	must(t, n.Close())
	fresh := newServerDB(t)
	if _, err := Restore(ctx, newer, fresh); err == nil || !strings.Contains(err.Error(), "newer Portreeve") {
		t.Errorf("a newer backup: %v", err)
	}
	if e, err := open(t, fresh).empty(ctx); err != nil || !e {
		t.Errorf("a refused restore wrote something: %v, %v", e, err)
	}
}
