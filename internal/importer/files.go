package importer

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxFile bounds what is read of one file, in bytes.
const maxFile = 256 << 20

// find returns the file that a setting names: beside the configuration first,
// by its last name, then where it says. "" when there is none.
func (s *state) find(name string) string {
	for _, p := range []string{filepath.Join(s.dir, filepath.Base(name)), name} {
		if !filepath.IsAbs(p) && p == name {
			p = filepath.Join(s.dir, p)
		}
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// main returns the configuration file: the path itself, or the first of these
// names in the directory. It is a problem when there is none.
func (s *state) main(names ...string) string {
	if s.path != s.dir {
		return s.path
	}
	for _, n := range names {
		p := filepath.Join(s.dir, n)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	s.problem(s.dir, 0, "there is none of %s in it", strings.Join(names, ", "))
	return ""
}

// read returns a whole file; a failure is a problem.
func (s *state) read(file string) []byte {
	st, err := os.Stat(file)
	if err == nil && st.Size() > maxFile {
		err = errors.New("it is larger than 256 MiB")
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		s.problem(file, 0, "cannot be read: %v", err)
		return nil
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
}

// line is one line of a text file, trimmed.
type line struct {
	n    int
	text string
}

// lines returns the lines that say something. A NUL or what is not UTF-8 is a
// problem: then it is not the file it should be.
func (s *state) lines(file string, comments bool) []line {
	var out []line
	sc := bufio.NewScanner(bytes.NewReader(s.read(file)))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		t := strings.TrimSpace(sc.Text())
		switch {
		case !utf8.ValidString(t) || strings.ContainsRune(t, 0):
			s.problem(file, n, "the line is not text")
		case t == "" || comments && strings.HasPrefix(t, "#"):
		default:
			out = append(out, line{n, t})
		}
	}
	if err := sc.Err(); err != nil {
		s.problem(file, 0, "%v", err)
	}
	return out
}
