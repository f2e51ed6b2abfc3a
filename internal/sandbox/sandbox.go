// Package sandbox keeps this process to the files it needs, by Landlock, so
// that a mistake elsewhere cannot reach others. It owns the kernel's side of
// it; which files those are is said by server. No other package can own it:
// the rules hold for the whole process and for all it starts, for ever.
package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Paths are what the process keeps. Names are absolute; what does not exist
// when Enter is called stays out of reach.
type Paths struct {
	Write []string // directories and files, with all below: read, write, make, rename, remove
	Read  []string // directories and files, with all below: read
	Run   []string // directories and files, with all below: read and execute
}

// Covers reports whether name lies in a directory or is a file that may be
// written (write) or at least read.
func (p Paths) Covers(name string, write bool) bool {
	lists := [][]string{p.Write}
	if !write {
		lists = append(lists, p.Read, p.Run)
	}
	for _, l := range lists {
		if slices.ContainsFunc(l, func(dir string) bool { return within(name, dir) }) {
			return true
		}
	}
	return false
}

// Missing lists what want has and p does not cover.
func (p Paths) Missing(want Paths) []string {
	var out []string
	look := func(names []string, covers func(string) bool) {
		for _, n := range names {
			if _, err := os.Lstat(n); err == nil && !covers(n) && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	look(want.Write, func(n string) bool { return p.Covers(n, true) })
	look(want.Read, func(n string) bool { return p.Covers(n, false) })
	look(want.Run, func(n string) bool {
		return slices.ContainsFunc(p.Run, func(dir string) bool { return within(n, dir) })
	})
	return out
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// env tells a process started by this one what holds for it already.
const env = "PORTREEVE_SANDBOX"

const listSep = "\x1f" // a path can hold nearly everything else

// Environ is what a successor must have in its environment, "" without a sandbox.
func (p Paths) Environ() string {
	return env + "=" + strings.Join([]string{strings.Join(p.Write, "\x1e"), strings.Join(p.Read, "\x1e"), strings.Join(p.Run, "\x1e")}, listSep)
}

// Inherited returns the sandbox of the process that started this one. It
// removes it from the environment, so that programs are not told.
func Inherited() (Paths, bool) {
	text, ok := os.LookupEnv(env)
	parts := strings.Split(text, listSep)
	if !ok || len(parts) != 3 {
		return Paths{}, false
	}
	os.Unsetenv(env)
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, "\x1e")
	}
	return Paths{Write: list(parts[0]), Read: list(parts[1]), Run: list(parts[2])}, true
}
