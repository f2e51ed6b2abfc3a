package importer

import (
	"path/filepath"
	"strings"
)

// directive is one line of proftpd.conf, or a section with what is in it.
type directive struct {
	file     string
	line     int
	name     string // small letters; of a section without the brackets
	args     []string
	section  bool
	children []*directive
}

func (d *directive) value() string { return strings.Join(d.args, " ") }

// maxIncludes bounds Include, which may go in circles.
const maxIncludes = 100

// proftpdTree reads a file with what it includes. IfModule and IfDefine are
// taken as true, since a copied file cannot tell.
func (s *state) proftpdTree(file string, includes *int) []*directive {
	root := &directive{section: true}
	stack := []*directive{root}
	var cont strings.Builder
	for _, l := range s.lines(file, true) {
		if t, more := strings.CutSuffix(l.text, `\`); more {
			cont.WriteString(t + " ")
			continue
		}
		text := cont.String() + l.text
		cont.Reset()
		top := stack[len(stack)-1]
		if strings.HasPrefix(text, "</") {
			name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(text, "</"), ">"))
			if len(stack) == 1 || top.name != strings.TrimSpace(name) {
				s.problem(file, l.n, "%s closes a section that is not open", text)
				continue
			}
			stack = stack[:len(stack)-1]
			continue
		}
		section := strings.HasPrefix(text, "<")
		if section {
			if !strings.HasSuffix(text, ">") {
				s.problem(file, l.n, "the section has no closing >")
				continue
			}
			text = strings.Trim(text, "<>")
		}
		words, ok := splitWords(text)
		if !ok || len(words) == 0 {
			s.problem(file, l.n, "a quotation mark is not closed, or the line is empty")
			continue
		}
		d := &directive{file: file, line: l.n, name: strings.ToLower(words[0]), args: words[1:], section: section}
		if d.name == "include" && len(d.args) == 1 {
			*includes++
			inc := s.included(d)
			if *includes > maxIncludes {
				s.problem(file, l.n, "more than %d files are included", maxIncludes)
				continue
			}
			for _, f := range inc {
				top.children = append(top.children, s.proftpdTree(f, includes)...)
			}
			continue
		}
		top.children = append(top.children, d)
		if section {
			stack = append(stack, d)
		}
	}
	for _, open := range stack[1:] {
		s.problem(file, open.line, "the section <%s> is not closed", open.name)
	}
	return root.children
}

// included are the files of an Include, which may be a pattern or directory.
func (s *state) included(d *directive) []string {
	pattern := d.args[0]
	for _, p := range []string{filepath.Join(s.dir, filepath.Base(filepath.Dir(pattern)), filepath.Base(pattern)), filepath.Join(s.dir, filepath.Base(pattern)), pattern} {
		if found, err := filepath.Glob(p); err == nil && len(found) > 0 {
			return found
		}
	}
	s.note(d.file, d.line, "Include", pattern, Dropped, "there is no such file here")
	return nil
}

// splitWords divides at blanks; quotation marks keep words together.
func splitWords(s string) (words []string, ok bool) {
	var b strings.Builder
	in, quoted := false, false
	for _, r := range s {
		switch {
		case r == '"':
			quoted = !quoted
			in = true
		case (r == ' ' || r == '\t') && !quoted:
			if in {
				words = append(words, b.String())
			}
			b.Reset()
			in = false
		default:
			b.WriteRune(r)
			in = true
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words, !quoted
}
