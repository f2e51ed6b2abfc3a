package ftp

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Fact is one "name=value" of a machine listing (RFC 3659 section 7.5).
type Fact struct {
	Name  string // as sent; names are compared without regard to case
	Value string
}

// Facts are the facts of one entry, in the order they were sent.
type Facts []Fact

// Get returns the value of a fact. The name's case does not matter.
func (f Facts) Get(name string) (value string, ok bool) {
	for i := range f {
		if strings.EqualFold(f[i].Name, name) {
			return f[i].Value, true
		}
	}
	return "", false
}

// ParseFacts reads a line of MLSD, or one of MLST without its leading space
// (RFC 3659 section 7.2): facts that end with ';', one space, and a name that
// may hold anything but line ends. An empty list of facts is allowed, facts
// that are not known are kept.
func ParseFacts(line string) (Facts, string, error) {
	bad := func(why string) (Facts, string, error) {
		return nil, "", fmt.Errorf("%q is not a line of facts: %s", clip(line), why)
	}
	if strings.ContainsAny(line, "\r\n") {
		return bad("it contains a line end")
	}
	head, name, ok := strings.Cut(line, " ")
	// No value may contain a space, but servers send link targets that do. So
	// the first space ends the facts only when a ';' or nothing is before it.
	for ok && head != "" && !strings.HasSuffix(head, ";") {
		more, rest, found := strings.Cut(name, " ")
		head, name, ok = head+" "+more, rest, found
	}
	if !ok {
		return bad("no space between facts and name")
	}
	if name == "" {
		return bad("the name is empty")
	}
	var facts Facts
	for head != "" {
		one, rest, found := strings.Cut(head, ";")
		k, v, isFact := strings.Cut(one, "=")
		if !found || !isFact || k == "" || strings.Contains(k, " ") {
			return bad("a fact is not of the form name=value;")
		}
		facts = append(facts, Fact{Name: k, Value: v})
		head = rest
	}
	return facts, name, nil
}

// FormatFacts writes facts and name as a line of MLSD, without a line end. The
// caller keeps ';' out of values, '=' and spaces out of fact names, and line
// ends out of everything.
func FormatFacts(facts Facts, name string) string {
	n := 1 + len(name)
	for i := range facts {
		n += len(facts[i].Name) + len(facts[i].Value) + 2
	}
	b := make([]byte, 0, n)
	for i := range facts {
		b = append(b, facts[i].Name...)
		b = append(b, '=')
		b = append(b, facts[i].Value...)
		b = append(b, ';')
	}
	b = append(b, ' ')
	return string(append(b, name...))
}

// Info translates the standard facts and the common UNIX ones. Facts that are
// missing or malformed leave their field zero, except that a missing or
// unknown type means a file.
func (f Facts) Info(name string) Info {
	in := Info{Name: name}
	var devIno string
	for _, x := range f {
		switch strings.ToLower(x.Name) {
		case "type":
			in.Mode |= typeMode(x.Value, &in.Target)
		case "size", "sizd":
			if n, err := strconv.ParseInt(x.Value, 10, 64); err == nil && n >= 0 {
				in.Size = n
			}
		case "modify":
			in.ModTime, _ = ParseTimeVal(x.Value)
		case "create":
			in.Created, _ = ParseTimeVal(x.Value)
		case "perm":
			in.Perm = x.Value
		case "unique":
			devIno = x.Value
		case "unix.mode":
			if m, err := strconv.ParseUint(x.Value, 8, 12); err == nil {
				in.Mode |= fs.FileMode(m).Perm()
			}
		case "unix.ownername", "unix.owner":
			if in.Owner == "" || strings.EqualFold(x.Name, "unix.ownername") {
				in.Owner = x.Value
			}
		case "unix.groupname", "unix.group":
			if in.Group == "" || strings.EqualFold(x.Name, "unix.groupname") {
				in.Group = x.Value
			}
		}
	}
	// By habit unique is "<dev>g<inode>" in hex, as this server writes it, or
	// with a U in between; it is opaque in all other forms.
	if d, i, ok := strings.Cut(strings.Replace(strings.ToUpper(devIno), "U", "G", 1), "G"); ok {
		dev, err1 := strconv.ParseUint(d, 16, 64)
		ino, err2 := strconv.ParseUint(i, 16, 64)
		if errors.Join(err1, err2) == nil {
			in.Dev, in.Inode = dev, ino
		}
	}
	return in
}

// typeMode reads the type fact (RFC 3659 section 7.5.1), with the OS-specific
// spellings of symbolic links that servers use.
func typeMode(v string, target *string) fs.FileMode {
	switch l := strings.ToLower(v); {
	case l == "dir" || l == "cdir" || l == "pdir":
		return fs.ModeDir
	case strings.HasPrefix(l, "os.unix=slink:"):
		*target = v[len("os.unix=slink:"):]
		return fs.ModeSymlink
	case strings.HasPrefix(l, "os.unix=slink"), strings.HasPrefix(l, "os.unix=symlink"):
		return fs.ModeSymlink
	case strings.HasPrefix(l, "os.unix=chr"), strings.HasPrefix(l, "os.unix=character"):
		return fs.ModeDevice | fs.ModeCharDevice
	case strings.HasPrefix(l, "os.unix=blk"), strings.HasPrefix(l, "os.unix=block"):
		return fs.ModeDevice
	case strings.HasPrefix(l, "os.unix=pipe"), strings.HasPrefix(l, "os.unix=fifo"):
		return fs.ModeNamedPipe
	case strings.HasPrefix(l, "os.unix=socket"):
		return fs.ModeSocket
	}
	return 0
}
