package portreeve_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/firewall"
)

// TestReadme holds the README to what it says: every link leads somewhere,
// every test that proves a claim exists, and the numbers are those of the tree.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(m[1]); err != nil && !strings.HasPrefix(m[1], "http") {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
	mk, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`make ([a-z]+)`").FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(mk) {
			t.Errorf("the Makefile has no target %s", m[1])
		}
	}
	proofs := regexp.MustCompile("`go test ([^`]+)`").FindAllStringSubmatch(text, -1)
	if len(proofs) < 8 {
		t.Errorf("only %d claims name a test", len(proofs))
	}
	for _, m := range proofs {
		packages, run, _ := strings.Cut(strings.ReplaceAll(m[1], `\|`, "|"), " -run ")
		for p := range strings.FieldsSeq(packages) {
			if !hasTest(t, p, strings.Trim(run, "'")) {
				t.Errorf("go test %s proves nothing: no such test", m[1])
			}
		}
	}
	dialogs, err := filepath.Glob("ftp/testdata/dialog/*")
	if err != nil {
		t.Fatal(err)
	}
	number(t, text, `(\d+) transcripts`, len(dialogs)/10*10)
	number(t, text, `for (\d+) firewalls`, len(firewall.Targets()))
}

// number compares one that the README gives with the true one.
func number(t *testing.T, text, pattern string, want int) {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil || m[1] != strconv.Itoa(want) {
		t.Errorf("the README says %v, the tree has %d", m, want)
	}
}

// hasTest reports that a package has a test whose name matches.
func hasTest(t *testing.T, dir, run string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(run)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			if want.Match(m[1]) {
				return true
			}
		}
	}
	return false
}
