// Package telemetry owns the set-up of the log, the type that keeps secrets out
// of it, and the counters that are served to Prometheus. It does not decide
// what is logged or counted, and it holds no global state: loggers and
// registries are handed in.
package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLogger returns a logger that writes one line per message to w. Format is
// "text" for people or "json" for programs; anything else is text. A
// *slog.LevelVar as level can be changed while the logger is in use.
//
// Control characters never reach w raw, in either format: a file name must not
// be able to forge a log line or to send commands to a terminal. Writes to w
// are serialised and each is a whole line.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(&plainWriter{w: w}, o))
	}
	return slog.New(slog.NewTextHandler(&plainWriter{w: w}, o))
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", s)
}

// plainWriter escapes what the handlers of slog leave raw: encoding/json passes
// DEL and the C1 control characters (U+0080 to U+009F, among them CSI, which
// many terminals obey) and the text handler passes a key or a value that a
// MarshalText method made. Outside of strings neither format contains such
// characters, so the escape stays valid.
type plainWriter struct{ w io.Writer }

func (p *plainWriter) Write(line []byte) (int, error) {
	if out := escapeControls(line); out != nil {
		if _, err := p.w.Write(out); err != nil {
			return 0, err
		}
		return len(line), nil
	}
	return p.w.Write(line)
}

// escapeControls returns nil when there is nothing to escape. The line feed at the end stays.
func escapeControls(line []byte) []byte {
	clean := true
	for i, c := range line {
		if c < 0x20 && !(c == '\n' && i == len(line)-1) || c == 0x7f ||
			c == 0xc2 && i+1 < len(line) && line[i+1] >= 0x80 && line[i+1] < 0xa0 {
			clean = false
			break
		}
	}
	if clean {
		return nil
	}
	var b bytes.Buffer
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\n' && i == len(line)-1:
			b.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, c)
		case c == 0xc2 && i+1 < len(line) && line[i+1] >= 0x80 && line[i+1] < 0xa0:
			i++
			fmt.Fprintf(&b, `\u%04x`, line[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.Bytes()
}

// Secret is text that must not be shown: fmt with any verb, slog, encoding/json
// and encoding.TextMarshaler all give "***". Convert to string to use it. Never
// make it the key of a map: encoding/json writes string keys without asking.
type Secret string

const hidden = "***"

// String hides the secret.
func (Secret) String() string { return hidden }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return hidden }

// Format hides the secret from verbs that do not ask for a string, such as %x.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
