package transcript

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxLine is how much of one line is kept, in octets as written.
	maxLine = 1024
	// lastRoom is kept free below every ceiling for the line that says why there is no more.
	lastRoom = 256

	overText = "the time that was asked for is over; the session goes on"
)

// Tape is the transcript of one session while it is recorded. Its methods may
// be called concurrently; those of a nil Tape, and of one that has ended, do nothing.
type Tape struct {
	r       *Recorder
	session string
	request string
	user    string // of a request for an account
	began   time.Time
	until   time.Time
	gone    func()

	mu    sync.Mutex
	f     *os.File
	size  int64
	ended bool
}

// For is the account whose sessions were asked for, "" when it was another request.
func (t *Tape) For() string { return t.user }

// Ended reports whether nothing more is recorded.
func (t *Tape) Ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// Line records a line of the protocol, without its end. sent: to the client.
// Secrets must have been cut; everything else may be as hostile as it likes.
func (t *Tape) Line(sent bool, line string) {
	if sent {
		t.add("< ", line)
	} else {
		t.add("> ", line)
	}
}

// Note records what the server has to say of the session.
func (t *Tape) Note(format string, args ...any) {
	if t != nil {
		t.add("- ", fmt.Sprintf(format, args...))
	}
}

func (t *Tape) add(mark, text string) {
	if t == nil {
		return
	}
	now := t.r.now()
	if !now.Before(t.until) {
		t.End(overText)
		return
	}
	line := t.line(now, mark, text)
	lim := t.r.limits.Load()
	n := int64(len(line)) + lastRoom
	t.mu.Lock()
	why := ""
	switch {
	case t.ended:
	case t.size+n > lim.Session:
		why = fmt.Sprintf("the ceiling of %d octets for one transcript (transcript.max_session) is reached; nothing more is recorded", lim.Session)
	case t.r.used.Load()+n > lim.Total:
		why = "all transcripts together have reached their ceiling (transcript.max_total); nothing more is recorded"
	default:
		if err := t.put(line); err != nil {
			why = "the transcript cannot be written"
			t.r.log.Error(why, "session", t.session, "err", err)
		}
	}
	t.mu.Unlock()
	if why != "" {
		t.End(why)
	}
}

func (t *Tape) line(now time.Time, mark, text string) string {
	return fmt.Sprintf("%10.3f %s%s\n", now.Sub(t.began).Seconds(), mark, escape(text))
}

// put writes; mu is held, or nobody else has the tape yet.
func (t *Tape) put(s string) error {
	n, err := t.f.WriteString(s)
	t.size += int64(n)
	t.r.used.Add(int64(n))
	return err
}

// End closes the transcript with a last line. It may be called more than once.
func (t *Tape) End(why string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return
	}
	t.ended = true
	if why != "" {
		_ = t.put(t.line(t.r.now(), "- ", why)) // there is room; a disk that takes no more is logged already
	}
	if err := t.f.Close(); err != nil {
		t.r.log.Error("a transcript may be short", "session", t.session, "err", err)
	}
	t.mu.Unlock()
	t.r.forget(t)
	if t.gone != nil {
		t.gone()
	}
}

// escape makes one line of printable text out of anything: what is not
// printable, and so could command a terminal, turn the order of letters around
// or begin a line of its own, is written as \xHH or \u{H}.
func escape(s string) string {
	clean := len(s) <= maxLine
	for i := 0; clean && i < len(s); i++ {
		clean = s[i] >= ' ' && s[i] < 0x7f && s[i] != '\\'
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		if b.Len() > maxLine {
			fmt.Fprintf(&b, " ... and %d octets more", len(s)-i)
			break
		}
		switch {
		case c == '\\':
			b.WriteString(`\\`)
		case c < ' ' || c == 0x7f || c == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\u{%x}`, c)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
