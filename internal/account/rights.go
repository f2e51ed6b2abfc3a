package account

import (
	"errors"
	"fmt"
	"strings"
)

// rightNames are the stable words, in the order of the bits.
var rightNames = [...]string{"list", "download", "upload", "overwrite", "append", "delete", "rename", "mkdir", "rmdir", "chmod", "times", "link"}

var rightSets = map[string]Rights{
	"all": All, "none": 0,
	"rw": ReadWrite, "read-write": ReadWrite,
	"ro": ReadOnly, "read-only": ReadOnly,
	"drop-box": Upload | Mkdir, // bring something, see nothing
}

// Has reports whether every right of want is in r.
func (r Rights) Has(want Rights) bool { return r&want == want }

// String returns the shortest of: "none", "all", "read-write", "read-only", or
// the words joined by commas. ParseRights understands it.
func (r Rights) String() string {
	switch r & All {
	case 0:
		return "none"
	case All:
		return "all"
	case ReadWrite:
		return "read-write"
	case ReadOnly:
		return "read-only"
	}
	var words []string
	for i, w := range rightNames {
		if r&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return strings.Join(words, ",")
}

// ParseRights reads words separated by commas or white space, from left to
// right: a right ("list", "upload", ...) or a set ("all", "rw"/"read-write",
// "ro"/"read-only", "drop-box", "none") is added, with a "-" before it removed. A list that
// begins with a removal starts from read-write, so "-delete" is "rw,-delete".
// The empty string is an error: nobody should lose all rights by a slip.
func ParseRights(s string) (Rights, error) {
	fields := strings.FieldsFunc(strings.ToLower(s), func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	if len(fields) == 0 {
		return 0, errors.New(`rights are empty; write "none" to give none`)
	}
	var r Rights
	for i, f := range fields {
		word, minus := strings.CutPrefix(f, "-")
		if !minus {
			word = strings.TrimPrefix(word, "+")
		}
		bits, ok := rightByName(word)
		switch {
		case !ok:
			return 0, fmt.Errorf("right %q is unknown; known are %s and the sets all, read-write (rw), read-only (ro), drop-box, none", word, strings.Join(rightNames[:], ", "))
		case minus && i == 0:
			r = ReadWrite &^ bits
		case minus:
			r &^= bits
		default:
			r |= bits
		}
	}
	return r, nil
}

func rightByName(word string) (Rights, bool) {
	for i, w := range rightNames {
		if w == word {
			return 1 << i, true
		}
	}
	r, ok := rightSets[word]
	return r, ok
}

// MarshalText writes the words, so that JSON and TOML never show a number.
func (r Rights) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRights.
func (r *Rights) UnmarshalText(text []byte) error {
	v, err := ParseRights(string(text))
	if err != nil {
		return err
	}
	*r = v
	return nil
}
