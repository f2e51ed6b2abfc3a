package store

import (
	"io/fs"
	"strings"
	"testing"
)

// TestMigrationNumbers fails when two migrations have one number, or the two
// databases differ in their steps: no database would open.
func TestMigrationNumbers(t *testing.T) {
	steps := map[string]string{}
	for _, kind := range []string{"sqlite", "postgres"} {
		seen := map[string]string{}
		files, err := fs.Glob(migrations, "migrations/"+kind+"/*.sql")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", kind, err, len(files))
		}
		var names []string
		for _, f := range files {
			name := f[strings.LastIndexByte(f, '/')+1:]
			number, _, _ := strings.Cut(name, "_")
			if other := seen[number]; other != "" {
				t.Errorf("%s: %s and %s have one number", kind, other, name)
			}
			seen[number] = name
			names = append(names, name)
		}
		steps[kind] = strings.Join(names, " ")
	}
	if steps["sqlite"] != steps["postgres"] {
		t.Errorf("the steps differ:\nsqlite   %s\npostgres %s", steps["sqlite"], steps["postgres"])
	}
}
