package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSecretIsHiddenEverywhere(t *testing.T) {
	const word = "hunter2"
	s := Secret(word)
	type box struct {
		S Secret
		P *Secret
		M map[string]Secret
	}
	b := box{s, &s, map[string]Secret{"k": s}}
	js, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	for _, format := range []string{"text", "json"} {
		NewLogger(&logs, slog.LevelDebug, format).Info("x", "secret", s, "box", b, "group", slog.GroupValue(slog.Any("in", s)))
	}
	for what, out := range map[string]string{
		"%v": fmt.Sprintf("%v %+v", s, b), "%s": fmt.Sprintf("%s", s), "%q": fmt.Sprintf("%q", s),
		"%x": fmt.Sprintf("%x %X", s, s), "%#v": fmt.Sprintf("%#v %#v", s, b), "%x of a struct": fmt.Sprintf("%x", b),
		"json": string(js), "logs": logs.String(),
	} {
		if strings.Contains(out, word) || strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", word)) {
			t.Errorf("%s shows the secret: %s", what, out)
		}
		if !strings.Contains(out, "***") {
			t.Errorf("%s does not show ***: %s", what, out)
		}
	}
	if string(s) != word {
		t.Error("the secret itself is gone")
	}
}

type rude struct{}

func (rude) MarshalText() ([]byte, error) { return []byte("a\x1b[2J\nfake"), nil }

func TestControlCharactersNeverRaw(t *testing.T) {
	hostile := []string{"a\nlevel=ERROR msg=forged", "\x1b[2J", "\x7f", "\u009b2J", "\u0085", "a\rb", "\x00", "\xc2\x9b", "\x9b", "tab\there", "\u2028"}
	for _, format := range []string{"text", "json"} {
		for _, h := range hostile {
			var out bytes.Buffer
			NewLogger(&out, slog.LevelInfo, format).Info(h, "path", h, "err", errors.New(h), "any", []string{h}, "stringer", fmt.Sprint(h), h, 1, "rude", rude{})
			line := out.Bytes()
			if n := bytes.Count(line, []byte("\n")); n != 1 || line[len(line)-1] != '\n' {
				t.Errorf("%s %q: %d lines: %q", format, h, n, line)
			}
			for b := line[:len(line)-1]; len(b) > 0; {
				r, n := utf8.DecodeRune(b)
				if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError && n == 1 {
					t.Errorf("%s %q: raw control %q in %q", format, h, b[:n], line)
					break
				}
				b = b[n:]
			}
			if format == "json" && !json.Valid(line) {
				t.Errorf("%q: not JSON: %q", h, line)
			}
		}
	}
}

func TestJSONEscapesKeepTheText(t *testing.T) {
	var out bytes.Buffer
	want := "a\x7fb\u009bc\nd"
	NewLogger(&out, slog.LevelInfo, "json").Info("m", "path", want)
	var got struct{ Path string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Path != want {
		t.Errorf("got %q, %v from %s", got.Path, err, out.Bytes())
	}
}

func TestLevelChangesLive(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	log := NewLogger(&out, &level, "text")
	log.Debug("quiet")
	if out.Len() != 0 {
		t.Fatalf("debug written at info: %s", out.String())
	}
	level.Set(slog.LevelDebug)
	log.Debug("loud")
	if !strings.Contains(out.String(), "loud") {
		t.Error("debug not written after the change")
	}
}

func TestParseLevel(t *testing.T) {
	for s, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "WARN": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(s); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v", s, got, err)
		}
	}
	if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), "debug, info, warn, error") {
		t.Errorf("no useful error: %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriterErrorsAreReported(t *testing.T) {
	for _, line := range []string{"plain\n", "with \x1b\n"} {
		if n, err := (&plainWriter{broken{}}).Write([]byte(line)); err == nil || n != 0 {
			t.Errorf("%q: %d, %v", line, n, err)
		}
	}
	var out bytes.Buffer
	if n, err := (&plainWriter{&out}).Write([]byte("\x1b\n")); n != 2 || err != nil {
		t.Errorf("length of the caller's bytes expected, got %d, %v", n, err)
	}
}
