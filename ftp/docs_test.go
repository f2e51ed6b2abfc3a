package ftp

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// With -update the tests below write docs/reference/rfc.md and
// docs/reference/ftp-commands.md; without it they fail when those are stale.
var updateDocs = flag.Bool("update", false, "write docs/reference/rfc.md and ftp-commands.md")

func freshDoc(t *testing.T, name, want string) {
	t.Helper()
	file := filepath.Join("..", "docs", "reference", name)
	if *updateDocs {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is stale (%v); run: go test ./ftp -run Docs -update", file, err)
	}
}

var rfcTitles = map[int]string{
	854:  "Telnet Protocol Specification",
	959:  "File Transfer Protocol",
	1122: "Requirements for Internet Hosts - Communication Layers",
	1123: "Requirements for Internet Hosts - Application and Support",
	2228: "FTP Security Extensions",
	2389: "Feature negotiation mechanism for the File Transfer Protocol",
	2428: "FTP Extensions for IPv6 and NATs",
	2577: "FTP Security Considerations",
	2640: "Internationalization of the File Transfer Protocol",
	3659: "Extensions to FTP",
	4217: "Securing FTP with TLS",
	7151: "File Transfer Protocol HOST Command for Virtual Hosts",
	8446: "The Transport Layer Security (TLS) Protocol Version 1.3",
}

// cited collects what one section is cited by.
type cited struct{ commands, code, dialogs []string }

var (
	cites   = regexp.MustCompile(`RFC (\d+) section ([0-9A-Z]+(?:\.[0-9]+)*)`)
	crooked = regexp.MustCompile(`RFC[ -]?\d+(?:,? §|,? sec\.|,? [0-9]+\.[0-9]|-section|,? chapter)|RFC-?\d`)
	wrapped = regexp.MustCompile(`\n\s*//\s*`)
)

// TestDocsRFC writes which section is kept where, and which transcripts prove it.
func TestDocsRFC(t *testing.T) {
	all := map[string]*cited{}
	at := func(key string) *cited {
		if all[key] == nil {
			all[key] = &cited{}
		}
		return all[key]
	}
	for _, c := range commands {
		if c.rfc == "" {
			t.Errorf("%s names no source", c.name)
		}
		if cites.FindString(c.rfc) == c.rfc {
			e := at(c.rfc)
			e.commands = append(e.commands, c.name)
		}
	}
	codeCitations(t, at)
	files, _ := filepath.Glob("testdata/dialog/*.txtar")
	var others []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txtar")
		source, _, _ := strings.Cut(parseDialog(t, f).cites, ":")
		found := cites.FindAllString(source, -1)
		if len(found) == 0 {
			others = append(others, name)
		}
		for _, key := range found {
			e := at(key)
			e.dialogs = append(e.dialogs, name)
		}
	}
	freshDoc(t, "rfc.md", rfcDoc(t, all, others))
}

// codeCitations finds the citations in this package's comments, with the
// declaration they belong to. A citation that a line break cuts counts too.
func codeCitations(t *testing.T, at func(string) *cited) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range f.Comments {
			var text strings.Builder
			for _, c := range g.List {
				text.WriteString(c.Text + "\n")
			}
			if m := crooked.FindString(text.String()); m != "" {
				t.Errorf("%s: %q is not of the form \"RFC 959 section 4.2\"", file, m)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range cites.FindAllString(wrapped.ReplaceAllString(text.String(), " "), -1) {
				e := at(m)
				if where := file + " " + declAt(f, g); !slices.Contains(e.code, where) {
					e.code = append(e.code, where)
				}
			}
		}
	}
}

// declAt names the declaration that a comment documents or stands in.
func declAt(f *ast.File, g *ast.CommentGroup) string {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == g || d.Pos() <= g.Pos() && g.End() <= d.End() {
				return d.Name.Name
			}
		case *ast.GenDecl:
			if d.Doc != g && (g.Pos() < d.Pos() || d.End() < g.Pos()) {
				continue
			}
			for _, s := range d.Specs {
				if name, has := specComment(s, g); has || d.Doc == g {
					return name
				}
			}
			name, _ := specComment(d.Specs[0], g)
			return name
		}
	}
	return "(package)"
}

// specComment names a specification and tells whether g belongs to it.
func specComment(s ast.Spec, g *ast.CommentGroup) (name string, has bool) {
	inside := s.Pos() <= g.Pos() && g.End() <= s.End()
	switch s := s.(type) {
	case *ast.TypeSpec:
		return s.Name.Name, inside || s.Doc == g || s.Comment == g
	case *ast.ValueSpec:
		return s.Names[0].Name, inside || s.Doc == g || s.Comment == g
	}
	return "(package)", false
}

func rfcDoc(t *testing.T, all map[string]*cited, others []string) string {
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return slices.Compare(sectionKey(a), sectionKey(b)) })
	var b bytes.Buffer
	b.WriteString("# RFC conformance\n\nGenerated by `go test ./ftp -run Docs -update` from the citations in the code and in the transcripts\n" +
		"under `ftp/testdata/dialog`. Each transcript also runs against other servers:\n`go test ./ftp -run TestDialogs -target host:port -user NAME -pass PASSWORD`.\n")
	last := 0
	for _, k := range keys {
		m := cites.FindStringSubmatch(k)
		n, _ := strconv.Atoi(m[1])
		if n != last {
			last = n
			if rfcTitles[n] == "" {
				t.Errorf("RFC %d has no title in rfcTitles", n)
			}
			fmt.Fprintf(&b, "\n## RFC %d: %s\n\n| section | commands | code | transcripts |\n|---|---|---|---|\n", n, rfcTitles[n])
		}
		e := all[k]
		slices.Sort(e.dialogs)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", m[2], strings.Join(e.commands, " "), strings.Join(e.code, ", "), strings.Join(e.dialogs, ", "))
	}
	slices.Sort(others)
	fmt.Fprintf(&b, "\n## Drafts and habits\n\nTranscripts of what no RFC defines: %s.\n", strings.Join(others, ", "))
	return b.String()
}

// sectionKey orders "RFC 959 section 4.10" after 4.2.
func sectionKey(cite string) []int {
	m := cites.FindStringSubmatch(cite)
	n, _ := strconv.Atoi(m[1])
	key := []int{n}
	for _, p := range strings.Split(m[2], ".") {
		k, err := strconv.Atoi(p)
		if err != nil {
			k = 1000 + int(p[0])
		}
		key = append(key, k)
	}
	return key
}

// TestDocsCommands writes the command table.
func TestDocsCommands(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# FTP commands\n\nGenerated by `go test ./ftp -run Docs -update` from the command table in `ftp/table.go`.\n\n" +
		"| command | argument | when | during a transfer | in FEAT | source | what it does |\n|---|---|---|---|---|---|---|\n")
	cell := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + strings.ReplaceAll(s, "|", `\|`) + "`"
	}
	for _, c := range commands {
		busy := ""
		if c.flags&during != 0 {
			busy = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", c.name, cell(c.syntax), c.phase, busy, cell(c.feat), c.rfc, c.help)
	}
	b.WriteString("\n## SITE subcommands\n\n| subcommand | argument | what it does |\n|---|---|---|\n")
	for _, s := range siteCommands {
		fmt.Fprintf(&b, "| SITE %s | %s | %s |\n", s.name, cell(s.syntax), s.help)
	}
	freshDoc(t, "ftp-commands.md", b.String())
}

// TestEveryCommandHasTranscripts walks the table: a row without a transcript is untested.
func TestEveryCommandHasTranscripts(t *testing.T) {
	used := map[string]int{}
	files, _ := filepath.Glob("testdata/dialog/*.txtar")
	for _, f := range files {
		for _, s := range parseDialog(t, f).steps {
			if w := strings.Fields(strings.ToUpper(s.arg)); s.verb == "C:" && len(w) > 0 {
				used[w[0]]++
				if w[0] == "SITE" && len(w) > 1 {
					used["SITE "+w[1]]++
				}
			}
		}
	}
	for _, c := range commands {
		if used[c.name] == 0 {
			t.Errorf("%s has no transcript", c.name)
		}
	}
	for _, s := range siteCommands {
		if used["SITE "+s.name] == 0 {
			t.Errorf("SITE %s has no transcript", s.name)
		}
	}
}
