package localfs

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// A call into a network file system whose server is gone does not come back,
// and each one keeps a thread of the process. Sessions go on asking, so
// without a bound one dead storage would use up the threads of all.
const (
	stuckCalls = 32              // so many at once are no sign of trouble by themselves
	stuckAfter = 5 * time.Second // while none of them has ended
)

var errStuck = errors.New("the storage does not answer: calls to it hang, as with a network file system whose server is gone; it is tried again when one of them comes back")

// calls are those to the storage that are under way, except reading and
// writing of open files and copies, which may rightly take long.
type calls struct {
	n     atomic.Int32
	moved atomic.Int64 // when one ended, or the first began; in time since born
}

var born = time.Now()

// enter begins a call, which leave ends. When many hang it is refused
// (fault.Unavailable), and there is no leave.
func (f *FS) enter(op, name string) error {
	switch n := f.calls.n.Add(1); {
	case n == 1:
		f.calls.moved.Store(int64(time.Since(born)))
	case n > stuckCalls && f.Stuck():
		f.calls.n.Add(-1)
		return fault.New(fault.Unavailable, op, name, errStuck)
	}
	return nil
}

func (f *FS) leave() {
	f.calls.moved.Store(int64(time.Since(born)))
	f.calls.n.Add(-1)
}

// Stuck says that calls hang.
func (f *FS) Stuck() bool {
	return f.calls.n.Load() > 0 && time.Since(born)-time.Duration(f.calls.moved.Load()) > stuckAfter
}
