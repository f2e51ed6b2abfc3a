package sshd

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/vfs"
)

// scpLine is a control line of the SCP protocol, which has no specification
// but the programs of BSD and OpenSSH.
type scpLine struct {
	kind  byte        // 'C' file, 'D' directory, 'E' end of directory, 'T' times
	mode  fs.FileMode // of C and D, 0o777 at most
	size  int64       // of C
	name  string      // of C and D: one component
	mtime time.Time   // of T
	atime time.Time
}

// maxScpLine is the longest control line, in octets.
const maxScpLine = 1024

var errScpLine = errors.New("protocol error")

// parseScpLine reads a line without its newline. A name that could lead
// anywhere but into the directory at hand is refused here, and so is one that
// would play tricks in a listing.
func parseScpLine(line string) (l scpLine, err error) {
	if line == "" || len(line) > maxScpLine {
		return l, errScpLine
	}
	l.kind = line[0]
	rest := line[1:]
	switch l.kind {
	case 'E':
		if rest != "" {
			return l, errScpLine
		}
	case 'T':
		f := strings.Split(rest, " ")
		if len(f) != 4 {
			return l, errScpLine
		}
		var v [4]int64
		for i := range f {
			if v[i], err = digits(f[i], 10); err != nil || i%2 == 1 && v[i] > 999999 {
				return l, errScpLine
			}
		}
		if v[0] > 1<<40 || v[2] > 1<<40 {
			return l, errScpLine
		}
		l.mtime, l.atime = time.Unix(v[0], v[1]*1000), time.Unix(v[2], v[3]*1000)
	case 'C', 'D':
		mode, rest, ok := strings.Cut(rest, " ")
		size, name, ok2 := strings.Cut(rest, " ")
		if !ok || !ok2 || len(mode) != 4 {
			return l, errScpLine
		}
		m, err := digits(mode, 8)
		if err != nil {
			return l, errScpLine
		}
		l.mode = fs.FileMode(m & 0o777)
		if l.size, err = digits(size, 10); err != nil {
			return l, errScpLine
		}
		if err := checkScpName(name); err != nil {
			return l, err
		}
		l.name = name
	default:
		return l, errScpLine
	}
	return l, nil
}

// digits reads an unsigned number that fits into 63 bits; strconv alone takes a sign.
func digits(s string, base int) (int64, error) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, errScpLine
	}
	v, err := strconv.ParseUint(s, base, 63)
	return int64(v), err
}

var errScpName = errors.New("unexpected file name: it must be one name, without a slash or control characters")

func checkScpName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > vfs.MaxName {
		return errScpName
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c < ' ' || c == 0x7f {
			return errScpName
		}
	}
	return nil
}
