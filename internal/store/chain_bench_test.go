package store

import (
	"path/filepath"
	"testing"

	"github.com/portreeve/portreeve/internal/events"
)

// BenchmarkAppend is the cost of one event alone in its transaction: what a
// log-in or an upload waits for where the audit trail is required (synced), and
// what the writer beside the sessions pays otherwise.
func BenchmarkAppend(b *testing.B) {
	for name, options := range map[string][]Option{"plain": nil, "synced": {Synced()}} {
		for _, n := range []int{1, 64} {
			b.Run(name+map[int]string{1: "/1", 64: "/64"}[n], func(b *testing.B) {
				db, err := Open(b.Context(), filepath.Join(b.TempDir(), FileName), options...)
				if err != nil {
					b.Fatal(err)
				}
				defer db.Close()
				es := make([]events.Event, n)
				for i := range es {
					es[i] = events.Event{Kind: events.Upload, User: "ann", Session: "0123456789abcdef", Remote: "192.0.2.1:4000", Path: "/in/report.csv", Bytes: 1234}
				}
				for b.Loop() {
					if err := db.Append(b.Context(), es); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
