package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// queueLines is how many lines of the log wait for a reader or disk that is slow.
const queueLines = 4096

// Queue is a writer that never waits: a goroutine passes what was written on,
// and what finds no room is lost and counted. A log that nobody reads, or whose
// disk is full, must not stop transfers. Methods may be called concurrently.
type Queue struct {
	w     io.Writer
	lines chan []byte
	lost  atomic.Uint64
	told  uint64       // of lost, in the log; of the goroutine
	note  *slog.Logger // past the queue

	mu     sync.RWMutex
	closed bool
	done   chan struct{}
}

// NewQueue returns a queue in front of w, and NewLogger in front of the queue.
// Lines of level debug are the first to be lost: half of the queue is kept for
// the others. Close ends the queue's goroutine.
func NewQueue(w io.Writer, level slog.Leveler, format string) (*Queue, *slog.Logger) {
	q := &Queue{w: w, lines: make(chan []byte, queueLines), note: NewLogger(w, level, format), done: make(chan struct{})}
	go q.run()
	return q, slog.New(shedding{NewLogger(q, level, format).Handler(), q})
}

// Write takes a copy of one line. It never waits and never fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		q.lost.Add(1)
		return len(line), nil
	}
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

// Lost is how many lines were not written: no room, or the write failed.
func (q *Queue) Lost() uint64 { return q.lost.Load() }

// crowded says that lines which matter less are better left out.
func (q *Queue) crowded() bool { return len(q.lines) > queueLines/2 }

func (q *Queue) run() {
	defer close(q.done)
	for line := range q.lines {
		if n, err := q.w.Write(line); err != nil || n < len(line) {
			q.lost.Add(1)
			continue
		}
		// Said where the hole ends: until then there may be no room for it.
		if lost := q.lost.Load(); lost > q.told && !q.crowded() {
			q.note.Warn("lines of this log were lost, because it could not be written as fast as they came; see that its disk has room and its reader reads", "lines", lost-q.told)
			q.told = lost
		}
	}
}

// Close writes what waits, for as long as within, and reports whether all of
// it was written. What comes later is lost.
func (q *Queue) Close(within time.Duration) bool {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-q.done:
		return true
	case <-t.C:
		return false
	}
}

type shedding struct {
	slog.Handler
	q *Queue
}

func (s shedding) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && s.q.crowded() {
		s.q.lost.Add(1)
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

func (s shedding) WithAttrs(as []slog.Attr) slog.Handler {
	return shedding{s.Handler.WithAttrs(as), s.q}
}

func (s shedding) WithGroup(name string) slog.Handler {
	return shedding{s.Handler.WithGroup(name), s.q}
}
