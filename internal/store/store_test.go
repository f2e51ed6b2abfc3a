package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// What the consumers (auth, events, limits) declare; spelled out because store
// must not import auth and limits.
var (
	_ events.Sink = (*DB)(nil)
	_ interface {
		UserByName(ctx context.Context, name string) (account.User, error)
		GroupsOf(ctx context.Context, u account.User) ([]account.Group, error)
	} = (*DB)(nil)
	_ interface {
		SaveBan(ctx context.Context, network netip.Prefix, until time.Time, reason string) error
		DeleteBan(ctx context.Context, network netip.Prefix) error
		QuotaUsed(ctx context.Context, user string) (bytes, files int64, err error)
		AddQuota(ctx context.Context, user string, dBytes, dFiles int64) error
	} = (*DB)(nil)
)

// TestMain lets the test binary play a second process: see TestTwoProcesses.
func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_CHILD"); path != "" {
		if err := child(path, os.Getenv("STORE_TEST_NAME")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if stopServer != nil {
		stopServer()
	}
	os.Exit(code)
}

// With the build tag postgres a test also runs on a real PostgreSQL server.
var (
	newServerDB func(t testing.TB) string // the URL of an empty database
	stopServer  func()
)

const childWrites = 60

func child(path, name string) error {
	ctx := context.Background()
	db, err := Open(ctx, path)
	if err != nil {
		return err
	}
	for i := range childWrites {
		if _, err := db.CreateUser(ctx, account.User{Name: fmt.Sprintf("%s-%d", name, i), Home: "/srv"}); err != nil {
			return err
		}
		if err := db.AddQuota(ctx, "shared", 1, 1); err != nil {
			return err
		}
		if _, err := db.ListUsers(ctx, "", 10); err != nil {
			return err
		}
	}
	return db.Close()
}

func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// both runs a test on a file, in memory and, with the build tag, on PostgreSQL.
func both(t *testing.T, f func(t *testing.T, db *DB)) {
	t.Run("file", func(t *testing.T) { f(t, open(t, filepath.Join(t.TempDir(), FileName))) })
	t.Run("memory", func(t *testing.T) { f(t, open(t, ":memory:")) })
	if newServerDB != nil {
		t.Run("postgres", func(t *testing.T) { f(t, open(t, newServerDB(t))) })
	}
}

func wantKind(t *testing.T, what string, err error, k fault.Kind) {
	t.Helper()
	if fault.KindOf(err) != k {
		t.Errorf("%s: %v (%v), want %v", what, err, fault.KindOf(err), k)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenFile(t *testing.T) {
	for _, name := range []string{FileName, "with ? and # and % and ü.db"} {
		dir := filepath.Join(t.TempDir(), "new", "dir")
		path := filepath.Join(dir, name)
		db := open(t, path)
		if _, err := db.CreateUser(t.Context(), account.User{Name: "ann"}); err != nil {
			t.Fatal(err)
		}
		for p, want := range map[string]os.FileMode{path: 0o600, path + "-wal": 0o600, dir: 0o700, filepath.Dir(dir): 0o700} {
			st, err := os.Stat(p)
			if err != nil || st.Mode().Perm() != want {
				t.Errorf("%s: %v, %v; want mode %o", p, st, err, want)
			}
		}
		if db.Path() != path {
			t.Errorf("Path = %s", db.Path())
		}
		var mode string
		var timeout, fk, sync int
		for q, v := range map[string]any{"journal_mode": &mode, "busy_timeout": &timeout, "foreign_keys": &fk, "synchronous": &sync} {
			must(t, db.write.QueryRow("PRAGMA "+q).Scan(v))
		}
		if mode != "wal" || timeout != 5000 || fk != 1 || sync != 1 {
			t.Errorf("journal_mode %s, busy_timeout %d, foreign_keys %d, synchronous %d", mode, timeout, fk, sync)
		}
		if _, err := db.read.Exec(`DELETE FROM users`); err == nil {
			t.Error("a reader can write")
		}
		must(t, db.Check(t.Context()))
	}
}

func TestTablesAreStrict(t *testing.T) {
	db := open(t, ":memory:")
	rows, err := db.read.Query(`SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0
		AND name NOT LIKE 'sqlite_%' AND name <> $1`, versionTable)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		t.Errorf("table %s is not STRICT", name)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db, err := Open(t.Context(), path)
	must(t, err)
	_, err = db.CreateUser(t.Context(), account.User{Name: "ann", Comment: "kept"})
	must(t, err)
	must(t, db.Close())
	must(t, db.Close())
	_, err = db.UserByName(t.Context(), "ann")
	wantKind(t, "use after Close", err, fault.Unavailable)
	must(t, os.Chmod(path, 0o644))
	db = open(t, path)
	if u, err := db.UserByName(t.Context(), "ann"); err != nil || u.Comment != "kept" {
		t.Errorf("after reopening: %+v, %v", u, err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o was not corrected", st.Mode().Perm())
	}
}

func TestTwoHandles(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	a, b := open(t, path), open(t, path)
	_, err := a.CreateUser(t.Context(), account.User{Name: "ann"})
	must(t, err)
	if _, err := b.UserByName(t.Context(), "ann"); err != nil {
		t.Errorf("the other handle does not see it: %v", err)
	}
	var wg sync.WaitGroup
	for i, db := range []*DB{a, b, a, b} {
		wg.Go(func() {
			for j := range 50 {
				if err := db.AddQuota(t.Context(), "x", 1, 0); err != nil {
					t.Errorf("writer %d, %d: %v", i, j, err)
				}
				if err := db.UpdateUser(t.Context(), "ann", func(u *account.User) error { u.MaxSessions++; return nil }); err != nil {
					t.Errorf("writer %d, %d: %v", i, j, err)
				}
			}
		})
	}
	wg.Wait()
	if n, _, err := a.QuotaUsed(t.Context(), "x"); err != nil || n != 200 {
		t.Errorf("quota = %d, %v; an update was lost", n, err)
	}
	if u, err := b.UserByName(t.Context(), "ann"); err != nil || u.MaxSessions != 200 {
		t.Errorf("max sessions = %d, %v; an update was lost", u.MaxSessions, err)
	}
}

// Four processes make the same new database at once and write to it.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	exe, err := os.Executable()
	must(t, err)
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+path, "STORE_TEST_NAME="+name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %s: %v: %s", name, err, out)
			}
		})
	}
	wg.Wait()
	db := open(t, path)
	if n, err := db.CountUsers(t.Context()); err != nil || n != 4*childWrites {
		t.Errorf("%d users, %v", n, err)
	}
	if bytes, files, err := db.QuotaUsed(t.Context(), "shared"); err != nil || bytes != 4*childWrites || files != 4*childWrites {
		t.Errorf("quota %d, %d, %v", bytes, files, err)
	}
	must(t, db.Check(t.Context()))
}

func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	a, b := open(t, path), open(t, path)
	_, err := b.write.Exec(`PRAGMA busy_timeout = 50`)
	must(t, err)
	held, err := a.write.Begin() // immediate: holds the write lock
	must(t, err)
	wantKind(t, "write while another writes", b.AddQuota(t.Context(), "x", 1, 1), fault.Busy)
	if _, err := b.CountUsers(t.Context()); err != nil {
		t.Errorf("a reader was disturbed: %v", err)
	}
	must(t, held.Rollback())
	must(t, b.AddQuota(t.Context(), "x", 1, 1))
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db := open(t, path)
	_, err := db.write.Exec(`INSERT INTO ` + versionTable + ` (version_id, is_applied) VALUES (99, 1)`)
	must(t, err)
	must(t, db.Close())
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = Open(t.Context(), path)
	wantKind(t, "newer schema", err, fault.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "newer Portreeve") || !strings.Contains(err.Error(), path) {
		t.Errorf("message: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestRefusesAndLeavesAlone(t *testing.T) {
	filled := func(t *testing.T, path string) {
		db, err := Open(t.Context(), path)
		must(t, err)
		for i := range 300 {
			_, err := db.CreateUser(t.Context(), account.User{Name: fmt.Sprintf("user%d", i), Comment: strings.Repeat("x", 100)})
			must(t, err)
		}
		must(t, db.Close())
	}
	spoil := func(t *testing.T, path string, at int64, n int) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte{0xAA}, n), at)
		must(t, err)
		must(t, f.Close())
	}
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"text", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(strings.Repeat("not a database\n", 100)), 0o600))
		}, "not a database"},
		{"header", func(t *testing.T, path string) { filled(t, path); spoil(t, path, 0, 100) }, "left as it is"},
		{"pages", func(t *testing.T, path string) { filled(t, path); spoil(t, path, 8192, 20000) }, "damaged"},
		{"truncated", func(t *testing.T, path string) { filled(t, path); must(t, os.Truncate(path, 20000)) }, "damaged"},
		{"another program", func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", path)
			must(t, err)
			_, err = db.Exec(`CREATE TABLE cookies (id INTEGER)`)
			must(t, err)
			must(t, db.Close())
			must(t, os.Chmod(path, 0o600))
		}, "another program"},
		{"directory", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "not a regular file"},
		{"only the wal left", func(t *testing.T, path string) { must(t, os.WriteFile(path+"-wal", []byte("x"), 0o600)) }, "is gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			db, err := Open(t.Context(), path)
			if err == nil {
				_ = db.Close()
				t.Fatal("it was opened")
			}
			wantKind(t, "Open", err, fault.Unavailable)
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("message %q does not say %q and the path", err, tt.want)
			}
			// A header in WAL mode may be rewritten; what is in the pages may not.
			if after, _ := os.ReadFile(path); len(before) > 100 && (len(after) < len(before) || !bytes.Equal(before[100:], after[100:len(before)])) {
				t.Errorf("the file was changed: %d octets before, %d after", len(before), len(after))
			}
		})
	}
}

// Damage that comes after Open is told, not hidden.
func TestCheckFindsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db := open(t, path)
	for i := range 300 {
		_, err := db.CreateUser(t.Context(), account.User{Name: fmt.Sprintf("user%d", i), Comment: strings.Repeat("x", 100)})
		must(t, err)
	}
	must(t, db.Check(t.Context()))
	// An index that lacks a row is damage that no page checksum would show.
	_, err := db.write.Exec(`PRAGMA writable_schema = 1`)
	must(t, err)
	_, err = db.write.Exec(`UPDATE sqlite_schema SET sql = replace(sql, '(account, id)', '(kind, id)') WHERE name = 'events_account'`)
	must(t, err)
	_, err = db.write.Exec(`PRAGMA writable_schema = RESET`)
	must(t, err)
	must(t, db.Append(t.Context(), []events.Event{{Kind: "k", User: "u"}}))
	_, err = db.write.Exec(`PRAGMA writable_schema = 1`)
	must(t, err)
	_, err = db.write.Exec(`UPDATE sqlite_schema SET sql = replace(sql, '(kind, id)', '(account, id)') WHERE name = 'events_account'`)
	must(t, err)
	_, err = db.write.Exec(`PRAGMA writable_schema = RESET`)
	must(t, err)
	err = db.Check(t.Context())
	wantKind(t, "Check", err, fault.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("message: %v", err)
	}
}

func TestCanceled(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), FileName))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.UserByName(ctx, "ann")
	wantKind(t, "read", err, fault.Canceled)
	wantKind(t, "write", db.AddQuota(ctx, "x", 1, 1), fault.Canceled)
	_, err = Open(ctx, filepath.Join(t.TempDir(), FileName))
	wantKind(t, "open", err, fault.Canceled)
	must(t, db.AddQuota(t.Context(), "x", 1, 1)) // still usable
}

// An interrupted migration leaves an empty file; the next start finishes it.
func TestEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	must(t, os.WriteFile(path, nil, 0o600))
	db := open(t, path)
	_, err := db.CreateUser(t.Context(), account.User{Name: "ann"})
	must(t, err)
}

func TestMigrateWaitsForLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	unlock, err := lockFile(t.Context(), path+".lock")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, path); err == nil {
		t.Error("migrated while another process does")
	}
	time.AfterFunc(50*time.Millisecond, unlock)
	open(t, path)
}
