package account

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/fault"
)

// MaxName is the longest name of a user or group in octets.
const MaxName = 64

// ValidName checks the name of a user or group: 1 to 64 of a-z A-Z 0-9 . _ @ -,
// not "." or "..", not beginning with "-". Names become path components (%u),
// command arguments and log fields, so nothing else is ever let in, not even
// from a directory service. The error is fault.Invalid.
func ValidName(name string) error {
	switch {
	case name == "":
		return fault.Text(fault.Invalid, "the name is empty")
	case len(name) > MaxName:
		return fault.Text(fault.Invalid, fmt.Sprintf("the name is %d characters long; at most %d are allowed", len(name), MaxName))
	case name == "." || name == "..":
		return fault.Text(fault.Invalid, fmt.Sprintf("the name %q means a directory", name))
	case name[0] == '-':
		return fault.Text(fault.Invalid, fmt.Sprintf("the name %q begins with a dash and would look like an option", name))
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '@', c == '-':
		default:
			return fault.Text(fault.Invalid, fmt.Sprintf("the name %q contains a character that is not one of a-z A-Z 0-9 . _ @ -", name))
		}
	}
	return nil
}

// ExpandHome replaces %u by the user's name, %g by the group's and %% by %.
// Both names are checked again here (ValidName): a name from elsewhere must
// not become a path. group may be empty when the template has no %g.
func ExpandHome(template, user, group string) (string, error) {
	if !strings.Contains(template, "%") {
		return template, nil
	}
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '%' {
			b.WriteByte(template[i])
			continue
		}
		i++
		if i == len(template) {
			return "", fault.Text(fault.Invalid, fmt.Sprintf("home template %q ends with %%; write %%%% for a percent sign", template))
		}
		switch c := template[i]; c {
		case '%':
			b.WriteByte('%')
		case 'u', 'g':
			name := user
			if c == 'g' {
				name = group
			}
			if err := ValidName(name); err != nil {
				return "", fault.New(fault.Invalid, "expand home template "+template, "", err)
			}
			b.WriteString(name)
		default:
			return "", fault.Text(fault.Invalid, fmt.Sprintf("home template %q: %%%c is unknown; %%u is the user, %%g the group", template, c))
		}
	}
	return b.String(), nil
}

// MatchName reports whether name matches pattern: "*" stands for any run of
// characters, "?" for exactly one; all else for itself, byte for byte. Invalid
// UTF-8 counts one character an octet. It keeps one point to come back to, so
// the cost is bounded by len(pattern)*len(name), whatever the pattern.
func MatchName(pattern, name string) bool {
	p, n := 0, 0
	star, mark := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == '?':
			_, w := utf8.DecodeRuneInString(name[n:])
			p, n = p+1, n+w
		case p < len(pattern) && pattern[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			// Advance by whole characters: a "?" after the star must not match half of one.
			_, w := utf8.DecodeRuneInString(name[mark:])
			mark += w
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func matchAny(patterns []string, name string) (string, bool) {
	for _, p := range patterns {
		if MatchName(p, name) {
			return p, true
		}
	}
	return "", false
}

// covers reports whether name is rule or lies below it, by whole components:
// /in covers /in and /in/x, never /inbox.
func covers(rule, name string) bool {
	if rule == "/" {
		return true
	}
	return strings.HasPrefix(name, rule) && (len(name) == len(rule) || name[len(rule)] == '/')
}

func cleanAbs(p string) bool { return strings.HasPrefix(p, "/") && path.Clean(p) == p }
