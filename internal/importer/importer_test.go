package importer

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// checkHash stands for auth.Hasher.Check, which this package must not import:
// DES has no prefix.
func checkHash(hash string) error {
	if strings.HasPrefix(hash, "$") || strings.HasPrefix(hash, "{") {
		return nil
	}
	return errors.New("unknown format")
}

// TestSamples holds the parity report, the accounts and the configuration of
// three samples of each format against golden files.
func TestSamples(t *testing.T) {
	for _, format := range Formats() {
		dirs, _ := filepath.Glob(filepath.Join("testdata", format, "*"))
		n := 0
		for _, dir := range dirs {
			if st, err := os.Stat(dir); err != nil || !st.IsDir() {
				continue
			}
			n++
			t.Run(format+"/"+filepath.Base(dir), func(t *testing.T) {
				r, err := Read(format, dir, Options{CheckHash: checkHash})
				if err != nil {
					t.Fatal(err)
				}
				golden(t, dir+".report", r.Text())
				users, err := json.MarshalIndent(map[string]any{"users": r.Users, "groups": r.Groups}, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				golden(t, dir+".accounts.json", string(users)+"\n")
				golden(t, dir+".toml", r.Config)
				if _, err := config.Parse("portreeve.toml", []byte(r.Config)); err != nil {
					t.Errorf("the configuration is not valid: %v", err)
				}
				for _, e := range r.Report {
					if e.Verdict == Dropped && e.Note == "" || e.Verdict == "" {
						t.Errorf("no reason is given: %+v", e)
					}
					if strings.Contains(e.Value+e.Note, "open-sesame") || strings.Contains(e.Value, "not-for-the-report") {
						t.Errorf("a password is in the report: %+v", e)
					}
				}
			})
		}
		if n < 3 {
			t.Errorf("%s has %d samples, not three", format, n)
		}
	}
}

// TestBroken: a file that is half broken gives nothing, and every problem with its line.
func TestBroken(t *testing.T) {
	dirs, _ := filepath.Glob("testdata/broken/*")
	for _, dir := range dirs {
		st, err := os.Stat(dir)
		if err != nil || !st.IsDir() {
			continue
		}
		format, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "pure-"), "-")
		if format == "ftpd" {
			format = "pure-ftpd"
		}
		r, err := Read(format, dir, Options{CheckHash: checkHash})
		var ps Problems
		if r != nil || !errors.As(err, &ps) {
			t.Errorf("%s: result %v, error %v", dir, r, err)
			continue
		}
		golden(t, dir+".problems", ps.Error()+"\n")
	}
	if _, err := Read("nothing", ".", Options{}); err == nil {
		t.Error("an unknown format was read")
	}
	if _, err := Read("vsftpd", "testdata/none", Options{}); err == nil {
		t.Error("a missing path was read")
	}
	if _, err := Read("vsftpd", t.TempDir(), Options{}); err == nil {
		t.Error("an empty directory was read")
	}
}

// FuzzRead: whatever a file holds, there is a result or a list of problems.
func FuzzRead(f *testing.F) {
	names := map[string]string{"vsftpd": "vsftpd.conf", "proftpd": "proftpd.conf", "pure-ftpd": "pure-ftpd.conf", "filezilla": "users.xml", "sftpgo": "dump.json"}
	for format, name := range names {
		files, _ := filepath.Glob(filepath.Join("testdata", format, "*", name))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(format, b)
		}
	}
	f.Fuzz(func(t *testing.T, format string, b []byte) {
		name, ok := names[format]
		if !ok {
			return
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Read(format, dir, Options{CheckHash: checkHash})
		if (r == nil) == (err == nil) {
			t.Fatalf("result %v and error %v", r, err)
		}
	})
}
