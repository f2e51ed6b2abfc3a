package session

import (
	"log/slog"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/transcript"
)

// TestTapeThatEndsAsItBegins: a transcript that is stopped while it begins hides
// none that is asked for later, and its end takes away none that has begun since.
func TestTapeThatEndsAsItBegins(t *testing.T) {
	rec, err := transcript.Open(t.TempDir(), transcript.Limits{Session: 1 << 20, Total: 1 << 20}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	r := newRig(t, Config{Transcripts: rec}, limits.Config{})
	g, err := r.m.Connect(t.Context(), origin(1))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(nil)
	var told *transcript.Tape
	g.OnTape(func(t *transcript.Tape) { told = t })
	ask := func(session string) {
		if _, err := rec.Ask(transcript.Request{Session: session}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	ask(g.ID())
	first := rec.Begin(transcript.Meta{Session: g.ID()}, g.dropTape)
	first.End("") // before the guest has it
	g.setTape(first)
	g.watch("ann")
	second := g.Tape()
	if second == nil || second.Ended() || told != second {
		t.Fatal("a transcript that has ended hides the next one")
	}
	const other = "0123456789abcdef"
	ask(other)
	third := rec.Begin(transcript.Meta{Session: other}, g.dropTape)
	g.setTape(third)
	second.End("")
	if g.Tape() != third || told != third {
		t.Fatal("the end of a transcript took the next one away")
	}
	third.End("")
	if g.Tape() != nil || told != nil {
		t.Fatal("a transcript that has ended is still the guest's")
	}
}
