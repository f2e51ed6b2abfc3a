package server

import (
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

// giveBack returns to the system what nobody uses any more: after the start the
// database's migrations, after log-ins their hashes. The runtime by itself would
// take minutes; on a small machine that is half of what an idle server holds. It
// takes some milliseconds, so it comes before the first session and when it is
// quiet.
func giveBack() { debug.FreeOSMemory() }

const (
	// quietFor is how long nobody must have come or gone before a settling: FTP
	// sessions that do nothing are parked by then, and their stacks free. And
	// restFor is the least time between two.
	quietFor = 1500 * time.Millisecond
	restFor  = 10 * time.Second
	// worthwhile is how much must be won, in bytes, and at least as an eighth of
	// what the heap holds.
	worthwhile = 1 << 20
)

// settling gives memory back once a burst of log-ins or good-byes is over. A
// log-in leaves the tens of MiB of its password hash behind, which the runtime
// by itself keeps for minutes. Not for concurrent use.
type settling struct {
	timer *time.Timer
	last  time.Time
}

func newSettling() *settling {
	t := time.NewTimer(quietFor)
	t.Stop()
	return &settling{timer: t}
}

// touch says that somebody came or went.
func (m *settling) touch() {
	m.timer.Reset(max(quietFor, restFor-time.Since(m.last)))
}

// settle gives back what there is, if it is worth the collection.
func (m *settling) settle() {
	m.last = time.Now()
	if held, idle := heap(); idle > max(worthwhile, held/8) {
		giveBack()
	}
}

// heap returns what the heap holds of the system's memory, and how much of that
// is free or was not there at the last collection, in bytes.
func heap() (held, idle uint64) {
	s := []gauges.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/gc/heap/live:bytes"}}
	gauges.Read(s)
	free, objects, unused, live := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()
	return free + objects + unused, free + objects - min(objects, live)
}
