package hook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// message is one event for one receiver.
type message struct {
	id   string
	body []byte // JSON of payload
	p    payload
}

// payload is what receivers get, as JSON.
type payload struct {
	ID    string       `json:"id"` // the same at every try
	Hook  string       `json:"hook"`
	Mode  string       `json:"mode"` // notify, or ask: the answer decides
	Test  bool         `json:"test,omitempty"`
	Event events.Event `json:"event"`
}

// messageID is the same for the same event and hook, also when a crash makes
// the event go through the rules again, so that receivers can sort out repeats.
// Names are part of it, since numbers begin anew when a backup is restored.
func messageID(hook string, e *events.Event) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %q %q %q", hook, e.ID, e.Time.UnixMicro(), e.Kind, e.Session, e.Path))
	return "msg_" + hex.EncodeToString(sum[:16])
}

func newMessage(r *rule, e *events.Event, test bool) (message, error) {
	m := message{id: messageID(r.Name, e)}
	m.p = payload{ID: m.id, Hook: r.Name, Mode: string(r.Mode), Test: test, Event: *e}
	m.p.Event.Result = events.ResultOf(e.Fault)
	// Octets that are not UTF-8 would become U+FFFD, and two names one.
	m.p.Event.Path, m.p.Event.Target, m.p.Event.Detail = whole(e.Path), whole(e.Target), whole(e.Detail)
	var err error
	if m.body, err = json.Marshal(m.p); err != nil {
		return m, fault.New(fault.Internal, "write the message for hook "+r.Name, "", err)
	}
	return m, nil
}

// stored is the message of a delivery in the outbox.
func stored(d *events.Delivery) (message, error) {
	m := message{id: d.Message, body: d.Body}
	if err := json.Unmarshal(d.Body, &m.p); err != nil {
		return m, fault.New(fault.Internal, "read a delivery of the outbox", "", err)
	}
	return m, nil
}

// whole writes octets that are not UTF-8, and NUL, as \xHH, as the store does.
func whole(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
		return s
	}
	return escape(s, func(r rune) bool { return r == 0 })
}

// plain makes a text one harmless line: control characters, line ends of
// Unicode, its invisible and reordering characters, and octets that are not
// UTF-8 become escapes.
func plain(s string) string { return escape(s, unsafeRune) }

func unsafeRune(r rune) bool {
	return !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r)
}

func escape(s string, unsafe func(rune) bool) string {
	var b strings.Builder
	for i, w := 0, 0; i < len(s); i += w {
		var r rune
		r, w = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && w == 1, r < 0x80 && unsafe(r):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unsafe(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[i : i+w])
		}
	}
	return b.String()
}

// clip shortens a text to at most n octets without cutting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// firstLine is the first line of what a receiver sent, fit for people.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return clip(plain(strings.TrimSpace(line)), 200)
}

// lines tells an event to people, one field a line.
func lines(e *events.Event) []string {
	var out []string
	add := func(name, v string) {
		if v != "" {
			out = append(out, fmt.Sprintf("%-9s %s", name+":", plain(v)))
		}
	}
	add("event", string(e.Kind))
	add("result", e.Result)
	add("time", e.Time.UTC().Format(time.RFC3339))
	add("user", e.User)
	add("path", e.Path)
	add("target", e.Target)
	if e.Bytes > 0 {
		add("bytes", strconv.FormatInt(e.Bytes, 10))
	}
	add("protocol", e.Protocol)
	add("from", e.Remote)
	add("session", e.Session)
	add("detail", e.Detail)
	if e.ID > 0 {
		add("number", strconv.FormatInt(e.ID, 10))
	}
	return out
}

// environment is the event for a program. Values are one harmless line each;
// the exact names are in the JSON on standard input.
func environment(m *message) []string {
	e := &m.p.Event
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
	add := func(name, v string) { env = append(env, "PORTREEVE_"+name+"="+clip(plain(v), 4096)) }
	add("MESSAGE", m.id)
	add("HOOK", m.p.Hook)
	add("MODE", m.p.Mode)
	add("EVENT", string(e.Kind))
	add("RESULT", e.Result)
	add("NUMBER", strconv.FormatInt(e.ID, 10))
	add("TIME", e.Time.UTC().Format(time.RFC3339Nano))
	add("USER", e.User)
	add("PROTOCOL", e.Protocol)
	add("REMOTE", e.Remote)
	add("SESSION", e.Session)
	add("PATH", e.Path)
	add("TARGET", e.Target)
	add("BYTES", strconv.FormatInt(e.Bytes, 10))
	return env
}
