package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// valve is a writer that blocks while it is shut, or fails.
type valve struct {
	shut sync.Mutex
	mu   sync.Mutex
	fail error
	b    bytes.Buffer
}

func (v *valve) Write(p []byte) (int, error) {
	v.shut.Lock()
	defer v.shut.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail != nil {
		return 0, v.fail
	}
	return v.b.Write(p)
}

func (v *valve) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.b.String()
}

// TestStalledReader: nobody waits for a log that nobody reads, debug goes
// first, and the hole is told once there is room again.
func TestStalledReader(t *testing.T) {
	v := &valve{}
	q, log := NewQueue(v, slog.LevelDebug, "json")
	log = log.With("part", "test")
	v.shut.Lock()
	for range 2 * queueLines {
		log.Debug("chatter")
	}
	if n := len(q.lines); n > queueLines/2+1 {
		t.Errorf("%d lines of chatter wait; half of the queue is not theirs", n)
	}
	for range queueLines {
		log.Warn("important")
	}
	lost := q.Lost()
	if lost < queueLines || lost > 3*queueLines {
		t.Errorf("%d lines lost", lost)
	}
	if q.Close(20 * time.Millisecond) {
		t.Error("the queue says it was written while nobody reads")
	}
	v.shut.Unlock()
	if !q.Close(20 * time.Second) {
		t.Fatal("what waits is not written")
	}
	text := v.text()
	chatter, important := strings.Count(text, `"chatter"`), strings.Count(text, `"important"`)
	if uint64(chatter+important)+lost != 3*queueLines || important < queueLines/2-2 {
		t.Errorf("%d lines of chatter and %d of weight were written, %d lost", chatter, important, lost)
	}
	if strings.Count(text, "lines of this log were lost") != 1 {
		t.Error("the hole is not told once")
	}
	log.Error("after the end") // must not panic
	if q.Lost() != lost+1 {
		t.Error("a line after the end is not counted")
	}
}

// TestLogDiskFull: lines that cannot be written are counted, and the log goes
// on when there is room again.
func TestLogDiskFull(t *testing.T) {
	v := &valve{fail: errors.New("no space left on device")}
	q, log := NewQueue(v, slog.LevelInfo, "text")
	for range 10 {
		log.Info("lost")
	}
	for end := time.Now().Add(10 * time.Second); q.Lost() < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of 10 lost lines are counted", q.Lost())
		}
	}
	v.mu.Lock()
	v.fail = nil
	v.mu.Unlock()
	log.Info("room again")
	if !q.Close(10 * time.Second) {
		t.Fatal("not written")
	}
	if text := v.text(); !strings.Contains(text, "room again") || !strings.Contains(text, "lines=10") {
		t.Errorf("the log says %q", text)
	}
}
