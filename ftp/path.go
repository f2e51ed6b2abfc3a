package ftp

import (
	"path"
	"strings"
)

// decodePath turns a pathname argument into a name: CR NUL stands for CR
// (RFC 2640 section 3.1), any other NUL for a newline, which cannot be sent
// in a command line.
func decodePath(arg string) string {
	if strings.IndexByte(arg, 0) < 0 {
		return arg
	}
	return strings.ReplaceAll(strings.ReplaceAll(arg, "\r\x00", "\r"), "\x00", "\n")
}

// encodePath is the reverse for names in replies: a newline becomes NUL.
func encodePath(name string) string { return strings.ReplaceAll(name, "\n", "\x00") }

// abs returns the absolute clean path that arg names from the current directory.
func (c *Conn) abs(arg string) string {
	arg = decodePath(arg)
	if !strings.HasPrefix(arg, "/") {
		arg = c.cwd + "/" + arg
	}
	return path.Clean("/" + arg)
}

// shown makes an argument fit for a sentence in a reply.
func shown(arg string) string { return encodePath(decodePath(arg)) }

// match reports whether name matches pattern with * and ?; it takes linear
// time in practice and quadratic at worst (no recursion, no braces, no ranges).
func match(pattern, name string) bool {
	p, n, star, back := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			back++
			p, n = star+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func hasMeta(s string) bool { return strings.ContainsAny(s, "*?") }
