package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	a := newApp(strings.NewReader(""), io.Discard, io.Discard, nil)
	if code := a.run([]string{"man", dir}); code != exitFine {
		t.Fatalf("exit code %d", code)
	}
	pages, _ := filepath.Glob(dir + "/*.1")
	if len(pages) < 20 {
		t.Errorf("only %d pages", len(pages))
	}
	for _, p := range pages {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, part := range []string{".TH ", ".SH NAME\n", " \\- ", ".SH SYNOPSIS\n.B portreeve", ".SH DESCRIPTION\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q", filepath.Base(p), part)
			}
		}
		known := map[string]bool{".TH": true, ".SH": true, ".B": true, ".BR": true, ".TP": true, ".nf": true, ".fi": true}
		for line := range strings.Lines(text) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, ".") && !known[word] {
				t.Errorf("%s: text is taken for a request: %q", filepath.Base(p), line)
			}
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "portreeve-event-verify.1"))
	if !strings.Contains(string(b), ".B \\-\\-mark MARK\n") || !strings.Contains(string(b), ".BR portreeve\\-event (1)") {
		t.Errorf("portreeve-event-verify.1:\n%s", b)
	}
}
