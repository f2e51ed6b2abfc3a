package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/fault"
)

// Format is how events are written to a file, one line each.
type Format string

// The formats.
const (
	JSON    Format = "json"    // every event, as in the API
	Text    Format = "text"    // every event, for people
	Xferlog Format = "xferlog" // transfers and deletions, as wu-ftpd and most FTP servers write them
	W3C     Format = "w3c"     // every event, W3C extended log format
)

// Header is what a file of this format begins with.
func (f Format) Header(now time.Time) string {
	if f != W3C {
		return ""
	}
	return "#Software: Portreeve\r\n#Version: 1.0\r\n#Date: " + now.UTC().Format(time.DateTime) +
		"\r\n#Fields: date time c-ip c-port s-sitename cs-protocol x-session cs-username cs-method cs-uri-stem x-target x-result x-bytes time-taken x-id x-detail\r\n"
}

// Append adds the line of e to b, or nothing when the format has no place for
// that kind of event. Control characters never reach the file raw.
func (f Format) Append(b []byte, e Event) []byte {
	switch f {
	case Xferlog:
		return appendXferlog(b, e)
	case W3C:
		return appendW3C(b, e)
	case Text:
		return appendText(b, e)
	}
	line, err := json.Marshal(e)
	if err != nil { // no field of Event can fail
		return b
	}
	return append(append(b, escapeControls(line)...), '\n')
}

// escapeControls escapes what encoding/json leaves raw: DEL and the C1 control
// characters, which some terminals obey. They occur within strings only.
func escapeControls(line []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(line); i++ {
		w := 0
		r := rune(line[i])
		switch {
		case line[i] == 0x7f:
			w = 1
		case line[i] == 0xc2 && i+1 < len(line) && line[i+1] < 0xa0:
			w, r = 2, rune(line[i+1])
		default:
			continue
		}
		out = append(out, line[done:i]...)
		out = fmt.Appendf(out, `\u%04x`, r)
		i += w - 1
		done = i + 1
	}
	if out == nil {
		return line
	}
	return append(out, line[done:]...)
}

// visible writes control characters, invisible ones and octets that are not
// UTF-8 as escapes, and passes the rest.
func visible(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, w := 0, 0; i < len(s); i += w {
		var r rune
		r, w = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && w == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func appendText(b []byte, e Event) []byte {
	b = e.Time.Local().AppendFormat(b, "2006-01-02 15:04:05.000 ")
	b = fmt.Appendf(b, "%-18s %s", e.Kind, e.Result)
	for _, p := range [...]struct{ name, val string }{{"user", e.User}, {"from", e.Remote}, {"session", e.Session}, {"path", e.Path}, {"to", e.Target}} {
		if p.val != "" {
			b = fmt.Appendf(b, " %s=%s", p.name, visible(p.val))
		}
	}
	if e.Bytes > 0 {
		b = fmt.Appendf(b, " bytes=%d", e.Bytes)
	}
	if e.Took > 0 {
		b = fmt.Appendf(b, " took=%s", e.Took.Round(time.Millisecond))
	}
	if e.Detail != "" {
		b = fmt.Appendf(b, " (%s)", visible(e.Detail))
	}
	return append(b, '\n')
}

// word makes s one word of a line of words.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' {
			return '_'
		}
		return r
	}, visible(s))
}

func host(remote string) string {
	h, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return h
}

// appendXferlog writes the fourteen fields of xferlog(5).
func appendXferlog(b []byte, e Event) []byte {
	direction := ""
	switch e.Kind {
	case Upload:
		direction = "i"
	case Download:
		direction = "o"
	case Delete:
		direction = "d"
	default:
		return b
	}
	access, done := "r", "c"
	if e.User == "anonymous" || e.User == "ftp" {
		access = "a"
	}
	if e.Result != ResultOf(fault.None) {
		done = "i"
	}
	service := e.Protocol
	if service == "" {
		service = "ftp"
	}
	return fmt.Appendf(b, "%s %d %s %d %s b _ %s %s %s %s 0 * %s\n", e.Time.Local().Format("Mon Jan _2 15:04:05 2006"), int64(e.Took.Round(time.Second).Seconds()),
		word(host(e.Remote)), e.Bytes, word(e.Path), direction, access, word(e.User), word(service), done)
}

// appendW3C writes the fields that Header names.
func appendW3C(b []byte, e Event) []byte {
	port := "-"
	if _, p, err := net.SplitHostPort(e.Remote); err == nil {
		port = p
	}
	b = e.Time.UTC().AppendFormat(b, "2006-01-02 15:04:05")
	for _, s := range [...]string{host(e.Remote), port, e.Listener, e.Protocol, e.Session, e.User, string(e.Kind), e.Path, e.Target, e.Result} {
		b = append(append(b, ' '), escapeW3C(s)...)
	}
	b = fmt.Appendf(b, " %d %d %d %s", e.Bytes, e.Took.Milliseconds(), e.ID, escapeW3C(e.Detail))
	return append(b, '\r', '\n')
}

// escapeW3C writes spaces as "+" and everything that is not printable ASCII,
// and "+" and "%" themselves, as %XX.
func escapeW3C(s string) string {
	if s == "" {
		return "-"
	}
	var b bytes.Buffer
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			b.WriteByte('+')
		case c <= ' ' || c >= 0x7f || c == '+' || c == '%' || c == '"':
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
