// Package importer reads the settings and accounts of other servers and says
// of each what became of it. It reads files and decides nothing else: the
// caller stores the accounts and writes the configuration.
//
// A file that cannot be understood is refused as a whole, with every problem
// and its line: half an import is worse than none. What is understood but has
// no counterpart is no problem; it is in the report as dropped.
package importer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/fault"
)

// Verdict says how much of a setting was kept.
type Verdict string

// The verdicts.
const (
	Exact        Verdict = "exact"        // means the same here
	Approximated Verdict = "approximated" // comes close; the note says how it differs
	Dropped      Verdict = "dropped"      // has no counterpart; the note says why
)

// Entry is the fate of one directive.
type Entry struct {
	File    string  `json:"file"` // base name
	Line    int     `json:"line"`
	What    string  `json:"what"`
	Value   string  `json:"value,omitempty"`
	Verdict Verdict `json:"verdict"`
	Note    string  `json:"note,omitempty"` // what it became, or why not
}

// User is an account to make. Hash is in account.User.PasswordHash; where the
// other server kept the password in clear it is in Secret.
type User struct {
	account.User
	Secret string `json:"-"`
}

// Result is what a server's files say.
type Result struct {
	Format string          `json:"format"`
	Users  []User          `json:"users"`
	Groups []account.Group `json:"groups,omitempty"`
	Config string          `json:"config"` // the text of a portreeve.toml
	Report []Entry         `json:"report"`
}

// Problem is a place that could not be understood.
type Problem struct {
	File string
	Line int
	Text string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is the error of files that are not in order: all of them, one a line.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Options are what Read needs to know.
type Options struct {
	// CheckHash tells whether a password hash can be verified here; nil takes any.
	CheckHash func(hash string) error
}

var formats = map[string]func(*state){
	"vsftpd": readVsftpd, "proftpd": readProftpd, "pure-ftpd": readPureftpd, "filezilla": readFilezilla, "sftpgo": readSftpgo,
}

// Formats are the names that Read takes.
func Formats() []string {
	names := []string{}
	for n := range formats {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Read reads the files of a server: path is its configuration file, or a
// directory that has it. Files that it names are looked for beside it first,
// so that a copy of another machine's /etc works. Errors: Problems, or
// fault.Invalid and fault.NotExist for the path itself.
func Read(format, path string, o Options) (*Result, error) {
	read, ok := formats[format]
	if !ok {
		return nil, fault.Text(fault.Invalid, fmt.Sprintf("the format %q is unknown; known are %s", format, strings.Join(Formats(), ", ")))
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read what is to be imported: %w", err)
	}
	s := &state{opt: o, path: path, dir: path, set: newSettings(), res: &Result{Format: format, Users: []User{}, Report: []Entry{}}}
	if !st.IsDir() {
		s.dir = filepath.Dir(path)
	}
	read(s)
	s.finish()
	if len(s.problems) > 0 {
		slices.SortStableFunc(s.problems, func(a, b Problem) int {
			if c := strings.Compare(a.File, b.File); c != 0 {
				return c
			}
			return a.Line - b.Line
		})
		return nil, s.problems
	}
	return s.res, nil
}

// state is one run of an importer.
type state struct {
	opt      Options
	path     string // as given
	dir      string // where files are looked for
	set      *settings
	res      *Result
	problems Problems
}

func (s *state) problem(file string, line int, format string, args ...any) {
	s.problems = append(s.problems, Problem{filepath.Base(file), line, fmt.Sprintf(format, args...)})
}

func (s *state) note(file string, line int, what, value string, v Verdict, note string) {
	s.res.Report = append(s.res.Report, Entry{filepath.Base(file), line, what, strings.Join(strings.Fields(value), " "), v, note})
}

// user adds an account. A name that cannot be one here is dropped, a second
// account of a name is a problem. hash is empty for an account without password.
func (s *state) user(file string, line int, u User, hash string) {
	if err := account.ValidName(u.Name); err != nil {
		s.note(file, line, "user", u.Name, Dropped, causeOf(err))
		return
	}
	if slices.ContainsFunc(s.res.Users, func(o User) bool { return o.Name == u.Name }) {
		s.problem(file, line, "user %s is there a second time", u.Name)
		return
	}
	v, note := Exact, ""
	if u.Home != "" && !filepath.IsAbs(u.Home) {
		note = fmt.Sprintf("its home %q is no directory of this system; set one with: portreeve user set %s --home DIR", u.Home, u.Name)
		v, u.Home = Approximated, ""
	}
	u.Mounts = slices.DeleteFunc(u.Mounts, func(m account.Mount) bool {
		if filepath.IsAbs(m.Source) {
			return false
		}
		v, note = Approximated, fmt.Sprintf("%q at %s is no directory of this system; add one with: portreeve mount add %s DIR --user %s", m.Source, m.Path, m.Path, u.Name)
		return true
	})
	switch locked := hash == "*" || strings.HasPrefix(hash, "!"); {
	case hash == "" && u.Secret != "":
		note = join2(note, "the password was in clear and is kept as a hash")
	case hash == "" || locked:
		if len(u.Keys) == 0 {
			v, note = Approximated, join2(note, "it has no password to log in with")
		}
	default:
		if s.opt.CheckHash != nil {
			if err := s.opt.CheckHash(hash); err != nil {
				v, note = Approximated, join2(note, "its password is kept in a format that cannot be verified; set a new one with: portreeve user passwd "+u.Name)
				break
			}
		}
		u.PasswordHash = hash
		note = join2(note, "keeps its password")
	}
	if err := u.Validate(); err != nil {
		s.problem(file, line, "user %s: %s", u.Name, strings.ReplaceAll(causeOf(err), "\n", "; "))
		return
	}
	s.res.Users = append(s.res.Users, u)
	s.note(file, line, "user", u.Name, v, note)
}

func join2(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func causeOf(err error) string {
	var fe *fault.Error
	if errors.As(err, &fe) && fe.Err != nil {
		return fe.Err.Error()
	}
	return err.Error()
}

// finish makes the configuration text and tries it.
func (s *state) finish() {
	s.res.Config = s.set.text(s.res.Format)
	if len(s.problems) > 0 {
		return
	}
	if _, err := config.Parse("portreeve.toml", []byte(s.res.Config)); err != nil {
		var all config.Errors
		if !errors.As(err, &all) {
			s.problem(s.path, 0, "%v", err)
			return
		}
		for _, e := range all {
			s.problem(s.path, 0, "together the settings give a configuration that is not valid: %s", e.Text)
		}
	}
}

// Summary counts the report's verdicts in one line.
func (r *Result) Summary() string {
	n := map[Verdict]int{}
	for _, e := range r.Report {
		n[e.Verdict]++
	}
	return fmt.Sprintf("%s: %d users, %d groups; of %d settings %d are exact, %d approximated, %d dropped",
		r.Format, len(r.Users), len(r.Groups), len(r.Report), n[Exact], n[Approximated], n[Dropped])
}

// Text writes the parity report for people.
func (r *Result) Text() string {
	var b strings.Builder
	b.WriteString(r.Summary() + "\n")
	for _, e := range r.Report {
		fmt.Fprintf(&b, "%s:%d: %s: %s", e.File, e.Line, e.Verdict, e.What)
		if e.Value != "" {
			fmt.Fprintf(&b, " %s", e.Value)
		}
		if e.Note != "" {
			fmt.Fprintf(&b, " (%s)", e.Note)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
