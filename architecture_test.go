package portreeve_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/portreeve/portreeve/"

// allowed is the table of docs/design/architecture.md section 1: what each
// package may import of the others. fault and telemetry are open to all.
var allowed = map[string][]string{
	"ftp":                  {},
	"internal/fault":       {},
	"internal/config":      {},
	"internal/telemetry":   {},
	"internal/account":     {},
	"internal/vfs":         {},
	"internal/vfs/localfs": {"internal/vfs"},
	"internal/vfs/memfs":   {"internal/vfs"},
	"internal/vfs/vfstest": {"internal/vfs"},
	"internal/store":       {"internal/account", "internal/events"},
	"internal/events":      {"internal/account"},
	"internal/limits":      {"internal/account"},
	"internal/ports":       {"internal/config", "ftp"},
	"internal/nat":         {},
	"internal/hook":        {"internal/config", "internal/account", "internal/events"},
	"internal/task":        {"internal/config", "internal/account", "internal/events", "internal/session", "internal/vfs"},
	"internal/firewall":    {"internal/ports"},
	"internal/certs":       {"internal/config"},
	"internal/sandbox":     {},
	"internal/auth":        {"internal/account", "internal/limits"},
	"internal/session":     {"internal/transcript", "internal/account", "internal/auth", "internal/events", "internal/limits", "internal/vfs"},
	"internal/tlsrec":      {},
	"internal/ftpd":        {"internal/tlsrec", "internal/transcript", "ftp", "internal/session", "internal/auth", "internal/account", "internal/vfs"},
	"internal/sshd":        {"internal/transcript", "internal/session", "internal/auth", "internal/account", "internal/vfs"},
	"internal/transcript":  {},
	"internal/admin":       {"internal/transcript", "internal/store", "internal/session", "internal/account", "internal/events", "internal/limits", "internal/auth", "internal/hook", "internal/task"},
	"internal/doctor":      {"internal/config", "internal/ports", "internal/nat", "internal/firewall", "internal/certs", "ftp"},
	"internal/importer":    {"internal/account", "internal/config"},
	"internal/api":         {"internal/admin", "internal/events", "internal/session", "internal/auth", "internal/doctor", "internal/account", "internal/ports", "internal/hook", "internal/task"},
	"internal/server":      {"*"},
	"cmd/portreeve":        {"*"},
}

// noDisk may not reach storage, the database or files of the host by themselves.
var noDisk = []string{"internal/ftpd", "internal/sshd", "internal/api"}

// oneHome names the package that owns a foreign module.
var oneHome = map[string]string{
	"github.com/pelletier/go-toml/v2":         "internal/config",
	"modernc.org/sqlite":                      "internal/store",
	"github.com/pressly/goose/v3":             "internal/store",
	"github.com/spf13/cobra":                  "cmd/portreeve",
	"github.com/go-crypt/crypt":               "internal/auth",
	"github.com/jackc/pgx/v5":                 "internal/store",
	"github.com/go-ldap/ldap/v3":              "internal/auth",
	"github.com/coreos/go-oidc/v3":            "internal/auth",
	"golang.org/x/oauth2":                     "internal/auth",
	"github.com/GehirnInc/crypt":              "internal/auth",
	"github.com/landlock-lsm/go-landlock":     "internal/sandbox",
	"github.com/pquerna/otp":                  "internal/auth",
	"github.com/netresearch/go-cron":          "internal/config",
	"github.com/wneessen/go-mail":             "internal/hook",
	"github.com/oschwald/maxminddb-golang/v2": "internal/limits",
}

// TestArchitecture fails on any import that the table does not allow.
func TestArchitecture(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata" || d.Name() == "portreeve-data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(p))
		if pkg == "test" || strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "tools/") {
			return nil
		}
		seen++
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table; say in docs/design/architecture.md why no present package can own it", p, pkg)
			return nil
		}
		checkImports(t, p, pkg, may)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d files were checked: the walk is broken", seen)
	}
}

func checkImports(t *testing.T, file, pkg string, may []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, im := range f.Imports {
		name, _ := strconv.Unquote(im.Path.Value)
		if own, inside := strings.CutPrefix(name, module); inside {
			if own == "cmd/portreeve" {
				t.Errorf("%s: nothing may import the command", file)
			}
			if own != "internal/fault" && own != "internal/telemetry" && !slices.Contains(may, own) && !slices.Contains(may, "*") {
				t.Errorf("%s: %s may not import %s", file, pkg, own)
			}
			if pkg == "ftp" {
				t.Errorf("%s: the public engine may not import %s", file, name)
			}
			continue
		}
		if pkg == "ftp" && strings.Contains(strings.Split(name, "/")[0], ".") {
			t.Errorf("%s: the public engine uses the standard library only, not %s", file, name)
		}
		for mod, home := range oneHome {
			if (name == mod || strings.HasPrefix(name, mod+"/")) && pkg != home {
				t.Errorf("%s: %s belongs to %s alone", file, mod, home)
			}
		}
		if slices.Contains(noDisk, pkg) && name == "database/sql" {
			t.Errorf("%s: a front may not reach %s", file, name)
		}
	}
}

// TestNoHostPathsByHand keeps storage behind os.Root: opening files by joined
// names is how jails are broken (docs/design/security.md rule 2).
func TestNoHostPathsByHand(t *testing.T) {
	for _, dir := range []string{"internal/ftpd", "internal/sshd", "internal/session", "internal/vfs/localfs"} {
		files, _ := filepath.Glob(dir + "/*.go")
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"os.Open(", "os.OpenFile(", "os.Create(", "os.ReadFile(", "os.WriteFile(", "exec.Command("} {
				if strings.Contains(string(src), bad) {
					t.Errorf("%s: %s) reaches the host's files by name", name, bad)
				}
			}
		}
	}
}
