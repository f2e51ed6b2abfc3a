package ftp

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// factSet is the set of facts that MLST and MLSD send (RFC 3659 section 7.5).
type factSet uint16

const (
	factType factSet = 1 << iota
	factSize
	factModify
	factCreate
	factPerm
	factUnique
	factMode
	factOwner
	factGroup
	allFacts = 1<<iota - 1
)

var factNames = []string{"type", "size", "modify", "create", "perm", "unique", "UNIX.mode", "UNIX.owner", "UNIX.group"}

// String lists the facts in the form of OPTS MLST: "type;size;".
func (f factSet) String() string {
	var b strings.Builder
	for i, n := range factNames {
		if f&(1<<i) != 0 {
			b.WriteString(n + ";")
		}
	}
	return b.String()
}

// feature is the FEAT line: the facts that are on carry a star.
func (f factSet) feature() string {
	var b strings.Builder
	for i, n := range factNames {
		b.WriteString(n)
		if f&(1<<i) != 0 {
			b.WriteByte('*')
		}
		b.WriteByte(';')
	}
	return b.String()
}

// parseFactSet reads the argument of OPTS MLST; unknown facts are passed over
// (RFC 3659 section 7.9).
func parseFactSet(s string) factSet {
	var f factSet
	for _, n := range strings.Split(s, ";") {
		for i, known := range factNames {
			if strings.EqualFold(strings.TrimSpace(n), known) {
				f |= 1 << i
			}
		}
	}
	return f
}

// append appends the facts of i and the space before the name.
func (f factSet) append(b []byte, i *Info) []byte {
	if f&factType != 0 {
		switch {
		case i.IsDir():
			b = append(b, "type=dir;"...)
		case i.Mode&fs.ModeSymlink != 0:
			b = append(b, "type=OS.unix=symlink;"...)
		case i.Mode.IsRegular():
			b = append(b, "type=file;"...)
		default:
			b = append(b, "type=OS.unix=other;"...)
		}
	}
	if f&factSize != 0 && i.Mode.IsRegular() {
		b = append(strconv.AppendInt(append(b, "size="...), i.Size, 10), ';')
	}
	if f&factModify != 0 && !i.ModTime.IsZero() {
		b = append(appendTime(append(b, "modify="...), i.ModTime), ';')
	}
	if f&factCreate != 0 && !i.Created.IsZero() {
		b = append(appendTime(append(b, "create="...), i.Created), ';')
	}
	if f&factPerm != 0 && i.Perm != "" {
		b = append(append(append(b, "perm="...), i.Perm...), ';')
	}
	if f&factUnique != 0 && i.Inode != 0 {
		b = strconv.AppendUint(append(b, "unique="...), i.Dev, 16)
		b = append(strconv.AppendUint(append(b, 'g'), i.Inode, 16), ';')
	}
	if f&factMode != 0 {
		b = append(b, "UNIX.mode=0"...)
		m := uint64(i.Mode.Perm())
		b = append(b, byte('0'+m>>6&7), byte('0'+m>>3&7), byte('0'+m&7), ';')
	}
	if f&factOwner != 0 && i.Owner != "" {
		b = append(appendName(append(b, "UNIX.owner="...), i.Owner), ';')
	}
	if f&factGroup != 0 && i.Group != "" {
		b = append(appendName(append(b, "UNIX.group="...), i.Group), ';')
	}
	return append(b, ' ')
}

// appendTime appends t as time-val in whole seconds UTC (RFC 3659 section 2.3).
// By hand: it is a third of what our own code does for an entry of a listing.
func appendTime(b []byte, t time.Time) []byte {
	y, m, d := t.UTC().Date()
	if y < 0 || y > 9999 { // no four digits
		return t.UTC().AppendFormat(b, "20060102150405")
	}
	hh, mm, ss := t.UTC().Clock()
	for _, two := range [...]int{y / 100, y % 100, int(m), d, hh, mm, ss} {
		b = append(b, byte('0'+two/10), byte('0'+two%10))
	}
	return b
}

// asciiLimit is the largest file whose length in ASCII is counted for SIZE.
const asciiLimit = 16 << 20

// cmdSIZE tells what RETR would send now. In ASCII that means reading the
// file, which is done up to a limit (RFC 3659 section 4).
func (c *Conn) cmdSIZE(arg string) Reply {
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	if err != nil {
		return lookupRefusal(err, shown(arg))
	}
	if !info.Mode.IsRegular() {
		return ok(550, "%s: not a plain file.", shown(arg))
	}
	if !c.ascii || c.srv.RawASCII {
		return ok(213, "%d", info.Size)
	}
	if info.Size > asciiLimit {
		return ok(550, "%s: too large to count its bytes in ASCII; send TYPE I first.", shown(arg))
	}
	c.begin("SIZE", name, func(t *transfer) Reply {
		src, err := c.sess.Open(t.ctx, name, 0)
		if err != nil {
			return lookupRefusal(err, shown(arg))
		}
		n, err := countTo(t.ctx, newASCIIReader(src), 2*asciiLimit)
		src.Close(err)
		if err != nil {
			return lookupRefusal(err, shown(arg))
		}
		return ok(213, "%d", n)
	})
	return Reply{}
}

// cmdMDTM tells the time of last change, or sets it where old clients put a
// time before the name. A file of that very name comes first.
func (c *Conn) cmdMDTM(arg string) Reply {
	info, err := c.sess.Stat(c.ctx, c.abs(arg))
	if stamp, rest, found := strings.Cut(arg, " "); err != nil && found && rest != "" {
		if t, terr := ParseTimeVal(stamp); terr == nil {
			return c.setTimes(rest, &t, nil, func() Reply { return ok(213, "Time of %s set.", shown(rest)) })
		}
	}
	if err != nil {
		return lookupRefusal(err, shown(arg))
	}
	if !info.Mode.IsRegular() {
		return ok(550, "%s: not a plain file.", shown(arg))
	}
	return ok(213, "%s", FormatTimeVal(info.ModTime))
}

func (c *Conn) setTimes(arg string, modified, created *time.Time, done func() Reply) Reply {
	s, is := c.sess.(TimeSetter)
	if !is {
		return ok(502, "This storage does not keep times.")
	}
	if err := s.SetTimes(c.ctx, c.abs(arg), modified, created); err != nil {
		return refusal(err, shown(arg))
	}
	return done()
}

func timeAndPath(arg string) (t time.Time, path string, valid bool) {
	stamp, path, found := strings.Cut(arg, " ")
	t, err := ParseTimeVal(stamp)
	return t, path, found && path != "" && err == nil
}

func (c *Conn) cmdMFMT(arg string) Reply {
	t, p, valid := timeAndPath(arg)
	if !valid {
		return ok(501, "MFMT takes a time, YYYYMMDDHHMMSS in UTC, and a path.")
	}
	return c.setTimes(p, &t, nil, func() Reply { return ok(213, "Modify=%s; %s", FormatTimeVal(t), shown(p)) })
}

func (c *Conn) cmdMFCT(arg string) Reply {
	t, p, valid := timeAndPath(arg)
	if !valid {
		return ok(501, "MFCT takes a time, YYYYMMDDHHMMSS in UTC, and a path.")
	}
	return c.setTimes(p, nil, &t, func() Reply { return ok(213, "Create=%s; %s", FormatTimeVal(t), shown(p)) })
}

// cmdMFF sets facts. All are checked before the first is set; the reply names those that were.
func (c *Conn) cmdMFF(arg string) Reply {
	list, p, found := strings.Cut(arg, " ")
	if !found || p == "" || !strings.HasSuffix(list, ";") {
		return ok(501, "MFF takes facts, each with a semicolon behind, and a path.")
	}
	var modified, created *time.Time
	var mode *fs.FileMode
	var answer strings.Builder
	for _, f := range strings.Split(strings.TrimSuffix(list, ";"), ";") {
		name, value, _ := strings.Cut(f, "=")
		switch strings.ToLower(name) {
		case "modify", "create":
			t, err := ParseTimeVal(value)
			if err != nil {
				return ok(501, "MFF: %s takes a time, YYYYMMDDHHMMSS in UTC.", name)
			}
			if strings.EqualFold(name, "modify") {
				modified = &t
				answer.WriteString("Modify=" + FormatTimeVal(t) + ";")
			} else {
				created = &t
				answer.WriteString("Create=" + FormatTimeVal(t) + ";")
			}
		case "unix.mode":
			m, valid := parseMode(value)
			if !valid {
				return ok(501, "MFF: UNIX.mode takes octal permission bits, up to 777.")
			}
			mode = &m
			answer.WriteString("UNIX.mode=" + value + ";")
		default:
			return ok(504, "MFF: the fact %q cannot be set.", name)
		}
	}
	return c.setFacts(p, modified, created, mode, answer.String())
}

func (c *Conn) setFacts(p string, modified, created *time.Time, mode *fs.FileMode, answer string) Reply {
	if mode != nil {
		if err := c.chmod(c.ctx, c.abs(p), *mode); err != nil {
			return refusal(err, shown(p))
		}
	}
	if modified != nil || created != nil {
		return c.setTimes(p, modified, created, func() Reply { return ok(213, "%s %s", answer, shown(p)) })
	}
	return ok(213, "%s %s", answer, shown(p))
}

// parseMode reads octal permission bits. Bits above 0o777 are refused: a
// client never sets setuid, setgid or sticky.
func parseMode(s string) (fs.FileMode, bool) {
	m, err := strconv.ParseUint(s, 8, 12)
	return fs.FileMode(m), err == nil && m <= 0o777
}

func (c *Conn) chmod(ctx context.Context, name string, mode fs.FileMode) error {
	ch, is := c.sess.(Chmoder)
	if !is {
		return errors.ErrUnsupported
	}
	return ch.Chmod(ctx, name, mode)
}
