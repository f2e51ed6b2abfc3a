package ftp

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// ParseListLine reads one line of LIST. RFC 959 section 4.1.3 leaves its form
// to the server, so this knows the two that exist in practice: "ls -l" with or
// without a group column, and the one of Windows ("04-27-24  09:09PM <DIR> name").
// now resolves dates without a year; times carry no zone and are taken as UTC.
// Lines that describe no entry ("total 12", ".", "..") are errors too.
func ParseListLine(line string, now time.Time) (Info, error) {
	in, ok := parseUnixLine(line, now)
	if !ok {
		in, ok = parseDOSLine(line)
	}
	if !ok || in.Name == "" || in.Name == "." || in.Name == ".." {
		return Info{}, fmt.Errorf("%q is not a line of a listing in the form of Unix or Windows", clip(line))
	}
	return in, nil
}

// field cuts the next word and the spaces before it.
func field(s string) (word, rest string) {
	s = strings.TrimLeft(s, " ")
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func parseUnixLine(line string, now time.Time) (Info, bool) {
	word, rest := field(line)
	mode, ok := parseModeString(word)
	if !ok {
		return Info{}, false
	}
	in := Info{Mode: mode}
	// The columns before the date vary: links may be missing, and group may be
	// missing. So the date is looked for, and the number before it is the size.
	var words []string
	for len(words) < 6 {
		at := rest
		if t, tail, ok := parseListDate(at, now); ok && len(words) >= 2 {
			size, owner := words[len(words)-1], words[:len(words)-1]
			if mode&fs.ModeDevice != 0 && len(owner) > 0 { // "major, minor" instead of a size
				size, owner = "0", owner[:len(owner)-1]
			}
			n, err := strconv.ParseInt(size, 10, 64)
			if err == nil && n >= 0 {
				in.Size, in.ModTime = n, t
				setOwner(&in, owner)
				// Exactly one space stands before a name, which may begin with others.
				in.Name = strings.TrimPrefix(tail, " ")
				if mode&fs.ModeSymlink != 0 {
					in.Name, in.Target, _ = strings.Cut(in.Name, " -> ")
				}
				return in, true
			}
		}
		var w string
		if w, rest = field(at); w == "" {
			return Info{}, false
		}
		words = append(words, w)
	}
	return Info{}, false
}

func setOwner(in *Info, words []string) {
	if len(words) > 0 {
		if n, err := strconv.ParseUint(words[0], 10, 32); err == nil {
			in.Links = uint32(n)
			words = words[1:]
		}
	}
	if len(words) > 0 {
		in.Owner = words[0]
	}
	if len(words) > 1 {
		in.Group = words[1]
	}
}

// parseModeString reads "drwxr-xr-x" with an optional mark for ACLs behind it.
func parseModeString(s string) (fs.FileMode, bool) {
	if len(s) < 10 || len(s) > 11 {
		return 0, false
	}
	kinds := map[byte]fs.FileMode{'-': 0, 'd': fs.ModeDir, 'l': fs.ModeSymlink, 'p': fs.ModeNamedPipe,
		's': fs.ModeSocket, 'b': fs.ModeDevice, 'c': fs.ModeDevice | fs.ModeCharDevice}
	m, ok := kinds[s[0]]
	if !ok {
		return 0, false
	}
	special := [3]fs.FileMode{fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}
	for i := 1; i < 10; i++ {
		bit := fs.FileMode(1) << (9 - i)
		switch c := s[i]; {
		case c == '-':
		case c == "rwx"[(i-1)%3]:
			m |= bit
		case i%3 == 0 && (c == 's' && i < 9 || c == 't' && i == 9):
			m |= bit | special[i/3-1]
		case i%3 == 0 && (c == 'S' && i < 9 || c == 'T' && i == 9):
			m |= special[i/3-1]
		default:
			return 0, false
		}
	}
	return m, len(s) == 10 || strings.IndexByte("+.@", s[10]) >= 0
}

// parseListDate reads "Nov 22 08:06", "Nov 22  2024" or "2024-11-22 08:06".
func parseListDate(s string, now time.Time) (time.Time, string, bool) {
	a, rest := field(s)
	b, rest := field(rest)
	if t, err := time.Parse("2006-01-02 15:04", a+" "+b); err == nil {
		return t, rest, true
	}
	c, rest := field(rest)
	if len(a) != 3 || len(b) > 2 {
		return time.Time{}, "", false
	}
	if t, err := time.Parse("Jan 2 2006", a+" "+b+" "+c); err == nil {
		return t, rest, true
	}
	// The year is the one that makes the time recent. It must be part of what
	// is parsed, or February 29 would be refused.
	for y := now.UTC().Year() + 1; y >= now.UTC().Year()-4; y-- {
		t, err := time.Parse("Jan 2 15:04 2006", fmt.Sprintf("%s %s %s %04d", a, b, c, y))
		if err == nil && t.Before(now.Add(25*time.Hour)) { // the server's zone may be ahead of UTC
			return t, rest, true
		}
	}
	return time.Time{}, "", false
}

func parseDOSLine(line string) (Info, bool) {
	day, rest := field(line)
	clock, rest := field(rest)
	var t time.Time
	var err error
	for _, layout := range []string{"01-02-06 03:04PM", "01-02-2006 03:04PM", "01-02-06 15:04", "01-02-2006 15:04", "2006-01-02 15:04"} {
		if t, err = time.Parse(layout, day+" "+clock); err == nil {
			break
		}
	}
	if err != nil {
		return Info{}, false
	}
	size, rest := field(rest)
	in := Info{ModTime: t, Name: strings.TrimPrefix(rest, " ")}
	if strings.EqualFold(size, "<DIR>") || strings.EqualFold(size, "<JUNCTION>") {
		// The column of sizes is as wide as the marks, so spaces follow.
		in.Mode, in.Name = fs.ModeDir, strings.TrimLeft(rest, " ")
		return in, true
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(size, ",", ""), 10, 64)
	if err != nil || n < 0 {
		return Info{}, false
	}
	in.Size = n
	return in, true
}
