package vfs

import (
	"path"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
)

// The limits of a path name, in bytes and in components.
const (
	MaxName  = 255  // one component
	MaxPath  = 4096 // the whole path
	MaxDepth = 256  // components
)

// Clean turns what a client sent into the one form every layer uses: absolute,
// with "//", "." and ".." resolved by text alone, without a trailing slash.
// ".." at the root stays at the root. All other bytes are opaque; they need
// not be UTF-8. Clean(Clean(x)) is Clean(x).
//
// It refuses control bytes (C0 and DEL, so NUL, CR and LF too) and names over
// the limits with fault.NameRefused, and a name that does not start with "/"
// with fault.Invalid.
func Clean(name string) (string, error) { return clean(name, false) }

// CleanExisting is Clean for names that are only looked up, read, removed or
// renamed away: it lets control bytes other than NUL pass, because such names
// may lie on a disk that somebody else filled. What creates a name uses Clean.
func CleanExisting(name string) (string, error) { return clean(name, true) }

// Join resolves what a client typed against its working directory: an absolute
// arg stands for itself. The result is not validated; Clean does that.
func Join(cwd, arg string) string {
	if !strings.HasPrefix(arg, "/") {
		arg = cwd + "/" + arg
	}
	return path.Clean("/" + arg)
}

// Split cuts a clean path into its directory and its last component. The root
// gives "/" and "".
func Split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i <= 0 {
		return "/", name[i+1:]
	}
	return name[:i], name[i+1:]
}

// Under reports whether name is dir or lies below it; both are clean.
// It exists because a bare prefix test takes "/home/u-evil" for a child of "/home/u".
func Under(dir, name string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(name, dir) && (len(name) == len(dir) || name[len(dir)] == '/')
}

func clean(name string, control bool) (string, error) {
	if name == "" || name[0] != '/' {
		return "", fault.New(fault.Invalid, "path", name, errRelative)
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c == 0 || (c < ' ' || c == 0x7f) && !control {
			return "", fault.New(fault.NameRefused, "path", name, errControl)
		}
	}
	name = path.Clean(name)
	if len(name) > MaxPath {
		return "", fault.New(fault.NameRefused, "path", name, errPathLong)
	}
	depth, start := 0, 1
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if i-start > MaxName {
			return "", fault.New(fault.NameRefused, "path", name, errNameLong)
		}
		if depth++; depth > MaxDepth {
			return "", fault.New(fault.NameRefused, "path", name, errDeep)
		}
		start = i + 1
	}
	return name, nil
}

type text string

func (t text) Error() string { return string(t) }

const (
	errRelative text = "the path is not absolute"
	errControl  text = "the name holds a control byte"
	errPathLong text = "the path is longer than 4096 bytes"
	errNameLong text = "a name in the path is longer than 255 bytes"
	errDeep     text = "the path is deeper than 256 directories"
)
