package ftp

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// Reply is one final or preliminary reply. A zero Code means that the handler
// has arranged for the reply itself (transfers answer when they end).
type Reply struct {
	Code  int
	Text  string   // the last (or only) line
	Lines []string // the lines before it; the first is sent as "code-line"
	// mark is the text of a 150 that goes out ahead in the same write.
	mark string
	// raw lines are sent as they are, without a leading space.
	raw bool
	// close ends the control connection after the reply.
	close   bool
	hostile bool // with close: counts against the peer
}

// Error is a refusal with the reply it deserves. Backends return it to choose
// the reply; the client returns it for 4xx and 5xx replies.
type Error struct {
	Code    int
	Message string
}

// Error returns "code message".
func (e *Error) Error() string { return strconv.Itoa(e.Code) + " " + e.Message }

var (
	// ErrPassword is what a Backend returns from Login when a password is
	// needed to go on (331).
	ErrPassword = errors.New("ftp: password needed")
	// ErrNoPort is what PassivePorts returns when its range is used up.
	ErrNoPort = errors.New("ftp: no free passive port")
	// ErrPanic is the cause that Session.Close gets when the session met a
	// fault of the program and was ended.
	ErrPanic = errors.New("ftp: panic")

	// ErrHostile is in the cause that Disconnect gets when the server ended a
	// connection for what no FTP client does: another protocol, text hidden
	// behind AUTH, over-long lines or unknown commands by the dozen.
	ErrHostile = errors.New("ftp: hostile use of the protocol")
	// ErrServerClosed is returned by Serve after Shutdown or Close.
	ErrServerClosed = errors.New("ftp: server closed")
)

func ok(code int, format string, args ...any) Reply {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return Reply{Code: code, Text: format}
}

// refusal turns an error of the backend into a reply. what names the object in
// the sentence, usually the path as the client gave it.
func refusal(err error, what string) Reply {
	var fe *Error
	switch {
	case errors.As(err, &fe):
		return Reply{Code: fe.Code, Text: fe.Message, close: fe.Code == 421}
	case errors.Is(err, fs.ErrNotExist):
		return ok(550, "%s: no such file or directory.", what)
	case errors.Is(err, fs.ErrExist):
		return ok(550, "%s: already exists.", what)
	case errors.Is(err, fs.ErrPermission):
		return ok(550, "%s: permission denied.", what)
	case errors.Is(err, errors.ErrUnsupported):
		return ok(502, "%s: this storage cannot do that.", what)
	case errors.Is(err, syscall.ENOSPC):
		return ok(452, "%s: the server's disk is full; nothing more can be stored until the administrator makes room.", what)
	case errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return ok(552, "%s: more than may be stored here.", what)
	}
	return ok(451, "%s: the server failed to carry this out; try again later.", what)
}

// lookupRefusal is refusal for a name that should exist. RFC 959 section 5.4
// keeps 553 for the commands that make names (STOR, STOU, APPE, RNTO); a name
// that cannot be has nothing behind it.
func lookupRefusal(err error, what string) Reply {
	r := refusal(err, what)
	if r.Code == 553 {
		r.Code = 550
	}
	return r
}

// quotePath writes a path the way 257 wants it: in double quotes, with quotes
// doubled (RFC 959 appendix II). Newlines become NUL (see decodePath), other
// control bytes '?', so that a name can never forge a reply line.
func quotePath(p string) string {
	return `"` + encodePath(strings.ReplaceAll(p, `"`, `""`)) + `"`
}

// appendLine appends text with every byte that could end or forge a line made
// harmless. NUL survives: it stands for a newline in a name.
func appendLine(b []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == 0x7f || ch < 0x20 && ch != 0 && ch != '\t':
			b = append(b, '?')
		case ch == 0xff: // Telnet IAC is doubled (RFC 854, RFC 2640 section 3.1)
			b = append(b, 0xff, 0xff)
		default:
			b = append(b, ch)
		}
	}
	return append(b, '\r', '\n')
}

// appendReply appends r in the form of RFC 959 section 4.2. Lines between the
// first and the last begin with a space, so they can never look like an end.
func appendReply(b []byte, r Reply) []byte {
	if r.mark != "" {
		b = appendLine(append(b, "150 "...), r.mark)
	}
	code := strconv.Itoa(r.Code)
	for i, l := range r.Lines {
		switch {
		case i == 0:
			b = append(append(b, code...), '-')
		case !r.raw || (len(l) > 0 && l[0] >= '0' && l[0] <= '9'):
			b = append(b, ' ')
		}
		b = appendLine(b, l)
	}
	b = append(append(b, code...), ' ')
	return appendLine(b, r.Text)
}
