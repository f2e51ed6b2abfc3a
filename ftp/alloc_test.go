//go:build !race

// The race detector empties pools at random and allocates by itself.

package ftp

import (
	"os"
	"runtime"
	"testing"
)

// TestNoAllocationPerChunk compares what a long and a longer transfer
// allocate: the difference is what each further chunk costs. The limits are
// those of the standard library: net makes five small objects for a call of
// sendfile or splice, which moves 4 MiB, and crypto/tls one for about two
// records that it reads. Ours is nothing.
func TestNoAllocationPerChunk(t *testing.T) {
	dir := t.TempDir()
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}, TLS: serverTLS(), Binding: BindRequire})
	for _, tc := range []struct {
		mode, verb string
		limit      float64
	}{{"plain", "RETR", 0.6}, {"plain", "STOR", 0.6}, {"tls", "RETR", 0.3}, {"tls", "STOR", 12}} {
		perBlock(t, dir, addr, tc.mode, tc.verb, tc.limit)
	}
}

// perBlock fails when the server at addr, whose files lie in dir, allocates more
// than limit times for each 256 KiB that move.
func perBlock(t *testing.T, dir, addr, mode, verb string, limit float64) {
	t.Helper()
	const short, long, chunk = 32 << 20, 160 << 20, 256 << 10
	allocated := func(size int64) float64 {
		if err := os.Truncate(touch(t, dir, "file"), size); err != nil {
			t.Fatal(err)
		}
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		moved(t, addr, mode, verb, 1, size)
		runtime.ReadMemStats(&m1)
		return float64(m1.Mallocs - m0.Mallocs)
	}
	allocated(short) // fills the pools
	few, many := allocated(short), allocated(long)
	each := (many - few) * chunk / (long - short)
	t.Logf("%s %s: %.2f allocations for each 256 KiB", mode, verb, each)
	if each > limit {
		t.Errorf("%s %s: %.2f allocations for each 256 KiB, at most %g is right", mode, verb, each, limit)
	}
}

// TestOwnRecordsAllocateLittle: with records of our own nothing is allocated
// for a block, up or down.
func TestOwnRecordsAllocateLittle(t *testing.T) {
	engineRecords = func() Handover { return &testHandover{} }
	defer func() { engineRecords = nil }()
	dir := t.TempDir()
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}, TLS: serverTLS(), Binding: BindRequire})
	for _, verb := range []string{"RETR", "STOR"} {
		perBlock(t, dir, addr, "tls", verb, 0.3)
	}
}
