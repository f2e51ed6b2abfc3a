//go:build lab

package netlab

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the doctor's words into README.md")

// TestReadme keeps the doctor's finding on the README's first screen what the
// program really prints in that network. What differs from run to run, the
// ports that the server draws, is set to one of them.
func TestReadme(t *testing.T) {
	t.Parallel()
	l := build(t, &topology{name: "readme", serverNAT: true,
		rules: map[string]string{"sr": helper + pre("ip daddr 5.6.2.2 tcp dport { 21, 990 } dnat to 192.168.88.10") + dropRest}})
	out, err := l.run("c", password+"\n", binary(), "doctor", "ftp://ftp.example.org", "--user", "lab", "--password-stdin", "--quick", "--timeout", "4s")
	if err == nil {
		t.Error("exit code 0 with findings")
	}
	out, _, _ = strings.Cut(out, "\nnote ") // of the certificate, and of what is of no matter here
	out = regexp.MustCompile(`\b200[01][0-9]\b`).ReplaceAllString(out, "20007")
	out = strings.ReplaceAll(out, "20007-20007", passive)
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	block := "```\n$ portreeve doctor ftp://ftp.example.org --user lab --password-stdin\n" + strings.TrimSpace(strings.Join(lines, "\n")) + "\n```\n"
	const file, begin, end = "../../README.md", "<!-- from test/netlab, TestReadme -->\n", "<!-- end -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	old, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("README.md has no place %q ... %q", begin, end)
	}
	if n := fmt.Sprintf(": %d networks,", len(everything())); !strings.Contains(tail, n) {
		t.Errorf("README.md does not say%s", n)
	}
	if old == block {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+block+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("README.md does not show what the doctor says (go test -tags lab ./test/netlab -run Readme -update corrects it):\n%s", block)
}
