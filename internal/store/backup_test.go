package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "data", FileName), filepath.Join(dir, "backup.db")
	db := open(t, path)
	if _, err := db.CreateUser(t.Context(), account.User{Name: "ann", Home: "/srv", PasswordHash: "$x"}); err != nil {
		t.Fatal(err)
	}
	must(t, db.Backup(t.Context(), backup))
	wantKind(t, "a second backup of the name", db.Backup(t.Context(), backup), fault.Exist)
	if st, err := os.Stat(backup); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", st, err)
	}
	must(t, db.DeleteUser(t.Context(), "ann"))
	must(t, db.Close())
	before, err := os.ReadFile(backup)
	must(t, err)

	kept, err := Restore(t.Context(), backup, path)
	if err != nil || kept != path+".before-restore" {
		t.Fatalf("kept %q, %v", kept, err)
	}
	if after, err := os.ReadFile(backup); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the backup was changed: %v", err)
	}
	again := open(t, path)
	if u, err := again.UserByName(t.Context(), "ann"); err != nil || u.PasswordHash != "$x" {
		t.Errorf("restored %+v, %v", u, err)
	}
	must(t, again.Close())

	// Refused ones leave everything as it is.
	newer, broken := filepath.Join(dir, "newer.db"), filepath.Join(dir, "broken.db")
	must(t, copyFile(backup, newer))
	n := open(t, newer)
	if _, err := n.write.Exec(`INSERT INTO ` + versionTable + ` (version_id, is_applied) VALUES (99999, 1)`); err != nil {
		t.Fatal(err)
	}
	must(t, n.Close())
	must(t, os.WriteFile(broken, append(before[:len(before)/2:len(before)/2], make([]byte, 4096)...), 0o600))
	for file, word := range map[string]string{newer: "newer Portreeve", broken: "damaged", filepath.Join(dir, "none"): "no such file"} {
		if _, err := Restore(t.Context(), file, path); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
	last := open(t, path)
	if _, err := last.UserByName(t.Context(), "ann"); err != nil {
		t.Errorf("a refused restore changed the database: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "data", "*.restore*"))
	for _, l := range left {
		if !strings.HasSuffix(l, ".before-restore") {
			t.Errorf("left behind: %s", l)
		}
	}
}
