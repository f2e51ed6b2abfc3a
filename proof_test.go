package portreeve_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestProofs holds the pages that name a test for each promise to that: the
// tests exist, every row has one, and no test of an attack is forgotten.
func TestProofs(t *testing.T) {
	named := map[string]bool{}
	for _, page := range []string{"docs/failures.md", "docs/attacks.md"} {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, "| ") {
				continue
			}
			if rows++; rows == 1 { // the heading
				continue
			}
			proofs := regexp.MustCompile("`([a-z0-9/]+) (Test\\w+)`").FindAllStringSubmatch(line, -1)
			if len(proofs) == 0 {
				t.Errorf("%s: a row without a test: %s", page, line)
			}
			for _, m := range proofs {
				named[m[1]+" "+m[2]] = true
				if !hasTest(t, m[1], "^"+m[2]+"$") {
					t.Errorf("%s: there is no %s in %s", page, m[2], m[1])
				}
			}
		}
		if rows < 20 {
			t.Errorf("%s has %d rows", page, rows)
		}
	}
	files, err := filepath.Glob("test/security/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t `).FindAllSubmatch(b, -1) {
			if name := "test/security " + string(m[1]); !named[name] {
				t.Errorf("docs/attacks.md does not list %s", m[1])
			}
		}
	}
}
