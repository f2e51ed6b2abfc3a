package ftp

import (
	"errors"
	"io"
)

// Telnet bytes that appear on control connections (RFC 854).
const (
	telnetSE   = 240
	telnetDM   = 242
	telnetIP   = 244
	telnetWILL = 251
	telnetWONT = 252
	telnetDO   = 253
	telnetDONT = 254
	telnetIAC  = 255
)

var errLineTooLong = errors.New("ftp: command line too long")

// lineReader reads command lines from the control connection. It keeps a small
// buffer of its own that grows on demand, since one exists for every idle session.
type lineReader struct {
	src    io.Reader
	buf    []byte
	r, w   int
	max    int
	long   bool   // an over-long line is being skipped
	answer []byte // replies to Telnet option negotiation, to be written next
}

const firstBuffer = 512

func (l *lineReader) reset(src io.Reader) {
	l.src, l.r, l.w, l.long = src, 0, 0, false
}

// rest gives the buffer back until there is something to read again. Nothing is
// buffered.
func (l *lineReader) rest() { l.buf, l.r, l.w = nil, 0, 0 }

// buffered returns how many bytes were read beyond the last line.
func (l *lineReader) buffered() int { return l.w - l.r }

// peekByte returns the first unread byte, reading if there is none yet.
func (l *lineReader) peekByte() (byte, error) {
	if l.r == l.w {
		if err := l.fill(); err != nil {
			return 0, err
		}
	}
	return l.buf[l.r], nil
}

func (l *lineReader) fill() error {
	switch {
	case l.buf == nil:
		l.buf = make([]byte, firstBuffer)
	case l.r == l.w:
		l.r, l.w = 0, 0
		if len(l.buf) > firstBuffer { // a long line is over: give its memory back
			l.buf = make([]byte, firstBuffer)
		}
	case l.w == len(l.buf) && l.r > 0:
		l.w = copy(l.buf, l.buf[l.r:l.w])
		l.r = 0
	case l.w == len(l.buf):
		bigger := make([]byte, min(2*len(l.buf), l.max+2))
		l.w = copy(bigger, l.buf[:l.w])
		l.buf = bigger
	}
	for range 100 {
		n, err := l.src.Read(l.buf[l.w:])
		l.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// line returns the next command line without its end. A line ends with LF; a
// CR before it belongs to the end. Telnet commands are taken out. A line over
// the limit is skipped to its end and reported as errLineTooLong.
// After an error of src that passes, such as a deadline, it goes on where it was.
func (l *lineReader) line() (string, error) {
	scanned := 0
	for {
		for i := l.r + scanned; i < l.w; i++ {
			if l.buf[i] != '\n' {
				continue
			}
			raw := l.buf[l.r:i]
			l.r = i + 1
			if l.long || len(raw) > l.max+1 {
				l.long = false
				return "", errLineTooLong
			}
			if n := len(raw); n > 0 && raw[n-1] == '\r' {
				raw = raw[:n-1]
			}
			return l.strip(raw), nil
		}
		scanned = l.w - l.r
		if scanned >= l.max {
			l.long, scanned = true, 0
			l.r = l.w
		}
		if err := l.fill(); err != nil {
			return "", err
		}
	}
}

// strip removes Telnet commands and answers option requests with refusals
// (RFC 1123 section 4.1.2.12). A client whose urgent byte the kernel took out
// of line leaves IP or DM without its IAC in front of ABOR; those go too.
func (l *lineReader) strip(raw []byte) string {
	for len(raw) > 0 && (raw[0] == telnetIP || raw[0] == telnetDM) {
		raw = raw[1:]
	}
	i := 0
	for i < len(raw) && raw[i] != telnetIAC {
		i++
	}
	if i == len(raw) {
		return string(raw)
	}
	out := append([]byte(nil), raw[:i]...)
	for ; i < len(raw); i++ {
		if raw[i] != telnetIAC {
			out = append(out, raw[i])
			continue
		}
		i++
		if i >= len(raw) {
			break
		}
		switch c := raw[i]; {
		case c == telnetIAC:
			out = append(out, telnetIAC)
		case c >= telnetWILL && i+1 < len(raw):
			i++
			l.refuse(c, raw[i])
		case c < telnetSE: // not a Telnet command: keep the byte
			out = append(out, c)
		}
	}
	return string(out)
}

func (l *lineReader) refuse(verb, option byte) {
	if len(l.answer) > 64 {
		return
	}
	switch verb {
	case telnetWILL:
		l.answer = append(l.answer, telnetIAC, telnetDONT, option)
	case telnetDO:
		l.answer = append(l.answer, telnetIAC, telnetWONT, option)
	}
}
