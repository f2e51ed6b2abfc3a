package session

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// maxGrant is the most that moves between two looks at pace, quota and kick.
const maxGrant = 4 << 20

// File is an open file whose bytes are paced, charged and counted. Read,
// Write, Grant, Moved and Commit are for one goroutine at a time; ReadAt,
// WriteAt and Close may be called concurrently. Close must be called in the end
// and publishes one event, and another one for a handle that was both written
// to and read from.
type File struct {
	s     *Session
	place place
	name  string
	kind  events.Kind
	up    bool // bytes go to the storage
	quiet bool // part of another operation, which publishes its own event
	local bool // nothing crosses the network: no pace, not in the live totals
	both  bool // a handle for reading and writing
	shows bool // a handle for writing that can read what was there before
	track bool // what the storage gains is wanted: for the charge, or by a move
	start time.Time
	size  int64 // octets to move, 0 unknown

	r  vfs.Reader
	w  vfs.Writer
	h  vfs.Handle
	os *os.File

	charge *limits.Charge
	pinned *entry // written in place
	was    int64  // size at the start, when written in place
	old    int64  // size before, where growth is what counts
	base   int64  // position of the first octet
	floor  int64  // WriteAt below it needs Overwrite
	dBytes int64  // booked by Commit
	dFiles int64

	moved  atomic.Int64
	shown  atomic.Int64 // read through a handle that shows
	credit atomic.Int64 // granted and not moved yet
	full   atomic.Bool  // the quota event was published
	denied error        // the quota is used up; one octet may be tried, see Grant
	excess bool         // that octet came

	mu        sync.Mutex // protects what follows, and end against concurrent WriteAt
	end       int64      // of a handle: highest octet written or present
	committed bool
	closed    bool
	gone      bool  // withdrawn by Remove
	failed    error // first failure of pace, quota or storage

	rate       rate  // under s.mu
	prev, next *File // under s.mu
}

// add registers the file with its session; a session that ended meanwhile gets nothing.
func (s *Session) add(f *File) error {
	f.start = s.m.conf.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		f.abandon()
		return fault.New(fault.Canceled, "open", f.name, s.over())
	}
	s.open++
	f.next = s.files
	if f.next != nil {
		f.next.prev = f
	}
	s.files = f
	return nil
}

func (f *File) abandon() {
	if f.r != nil {
		f.r.Close()
	}
	if f.h != nil {
		f.h.Close()
	}
	if f.w != nil {
		f.w.Abort(context.Canceled)
	}
	f.settle(context.WithoutCancel(f.s.m.ctx))
}

func (s *Session) remove(f *File) {
	s.mu.Lock()
	if f.prev != nil {
		f.prev.next = f.next
	} else if s.files == f {
		s.files = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	s.open--
	s.mu.Unlock()
	s.idle()
}

func (f *File) op() string {
	switch {
	case f.local:
		return string(f.kind)
	case f.up:
		return "upload"
	}
	return "download"
}

// Name is the clean client-visible path.
func (f *File) Name() string { return f.name }

// Size is how many octets are to move, 0 when unknown.
func (f *File) Size() int64 { return f.size }

// OSFile returns the operating system's file, positioned where the transfer
// starts, for a caller that moves the bytes itself between Grant and Moved; nil
// when bytes must pass through Read or Write.
func (f *File) OSFile() *os.File { return f.os }

// Grant waits until some octets may move and returns how many: 1 to max, 4 MiB
// at most, less when paced or near the quota. Octets granted and not moved are
// granted again. The error ends the transfer: the cause of a kick or of ctx,
// or fault.Quota.
func (f *File) Grant(ctx context.Context, max int64) (int64, error) {
	if err := f.s.over(); err != nil {
		return 0, f.fail(err)
	}
	if c := f.credit.Load(); c > 0 {
		return min(c, max), nil
	}
	if f.excess {
		return 0, f.fail(f.denied)
	}
	n, err := f.take(ctx, max)
	if err != nil {
		if fault.KindOf(err) != fault.Quota || f.os == nil || max < 1 {
			return 0, f.fail(err)
		}
		// The caller does not know yet whether more is coming. An upload that
		// fits exactly must be able to see its end: let one octet through, and
		// take it back if it comes.
		f.denied, n = err, 1
	}
	f.credit.Store(n)
	return n, nil
}

// Moved accounts for octets that the caller has moved after Grant.
func (f *File) Moved(n int64) {
	if n <= 0 {
		return
	}
	f.credit.Store(max(0, f.credit.Load()-n))
	f.count(n)
	if f.denied != nil {
		f.excess = true
		f.fail(f.denied)
		f.os.Truncate(f.base + f.moved.Add(-n))
	}
}

// count adds to the counters of file, session and server.
func (f *File) count(n int64) {
	f.moved.Add(n)
	switch {
	case f.local:
	case f.up:
		f.s.received.Add(n)
		f.s.m.received.Add(n)
	default:
		f.s.sent.Add(n)
		f.s.m.sent.Add(n)
	}
}

// take gets permission for up to want octets at the present position. The
// error is raw: the caller passes it to fail.
func (f *File) take(ctx context.Context, want int64) (int64, error) {
	n := min(want, maxGrant)
	if n <= 0 {
		return 0, nil
	}
	charged := false
	if f.charge != nil {
		if free := f.old - f.base - f.moved.Load(); free > 0 {
			n = min(n, free) // overwrites what is charged already
		} else {
			var err error
			if n, err = f.charge.Take(ctx, 1, n); err != nil {
				return 0, err
			}
			charged = true
		}
	}
	got, err := f.paced(ctx, n)
	if charged {
		f.charge.Back(n - got)
	}
	return got, err
}

// paced waits for bandwidth.
func (f *File) paced(ctx context.Context, n int64) (int64, error) {
	if f.local {
		return n, nil
	}
	var err error
	if f.up {
		n, err = f.s.pace.Up(ctx, f.s.ctx.Done(), n)
	} else {
		n, err = f.s.pace.Down(ctx, f.s.ctx.Done(), n)
	}
	if over := f.s.over(); over != nil {
		f.unpaced(n)
		return 0, over
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f *File) unpaced(n int64) {
	switch {
	case n <= 0 || f.local:
	case f.up:
		f.s.pace.ReturnUp(n)
	default:
		f.s.pace.ReturnDown(n)
	}
}

// fail remembers the first failure for the event and classifies it.
func (f *File) fail(err error) error {
	err = relabel(f.op(), f.name, err)
	f.mu.Lock()
	if f.failed == nil {
		f.failed = err
	}
	f.mu.Unlock()
	if fault.KindOf(err) == fault.Quota && !f.full.Swap(true) {
		e := f.s.g.event(events.QuotaFull)
		e.User, e.Path, e.Fault, e.Detail = f.s.user, f.name, fault.Quota, err.Error()
		f.s.m.publish(f.s.m.ctx, e)
	}
	return err
}

// Read reads the next octets of a file opened with Open.
func (f *File) Read(p []byte) (int, error) {
	if f.r == nil {
		return 0, f.fail(fault.Text(fault.Invalid, "the file is not open for reading in turn"))
	}
	n, err := f.Grant(f.s.ctx, int64(len(p)))
	if err != nil {
		return 0, err
	}
	k, err := f.r.Read(p[:n])
	f.Moved(int64(k))
	if err != nil && err != io.EOF {
		err = f.fail(err)
	}
	return k, err
}

// Write stores the next octets of a file opened with Create.
func (f *File) Write(p []byte) (int, error) {
	if f.w == nil {
		return 0, f.fail(fault.Text(fault.Invalid, "the file is not open for writing in turn"))
	}
	done := 0
	for done < len(p) {
		n, err := f.writable(int64(len(p) - done))
		if err != nil {
			return done, f.fail(err)
		}
		k, err := f.w.Write(p[done : done+int(n)])
		f.Moved(int64(k))
		done += k
		if err != nil {
			return done, f.fail(err)
		}
	}
	return done, nil
}

// writable is Grant for octets that are here already.
func (f *File) writable(want int64) (int64, error) {
	if err := f.s.over(); err != nil {
		return 0, err
	}
	if f.excess {
		return 0, f.denied
	}
	if c := f.credit.Load(); c > 0 && f.denied == nil {
		return min(c, want), nil
	}
	n, err := f.take(f.s.ctx, want)
	if err == nil {
		f.credit.Store(n)
	}
	return n, err
}

// Commit makes an upload visible under its name and books it in the quota. An
// upload whose session was kicked is not committed: the error is the cause.
func (f *File) Commit(ctx context.Context) error {
	if f.w == nil {
		return nil
	}
	if err := f.s.over(); err != nil {
		return f.fail(err)
	}
	f.mu.Lock()
	switch {
	case f.closed:
		f.mu.Unlock()
		return fault.New(fault.Canceled, f.op(), f.name, os.ErrClosed)
	case f.committed:
		f.mu.Unlock()
		return nil
	case f.gone:
		f.mu.Unlock()
		return f.fail(errWithdrawn)
	case f.excess:
		f.mu.Unlock()
		return f.fail(f.denied)
	}
	if err := f.chargeHidden(ctx); err != nil {
		f.mu.Unlock()
		return f.fail(err)
	}
	f.committed = true // whatever comes of it: a Writer is done after Commit
	f.mu.Unlock()
	do := func() error { return f.w.Commit(ctx) }
	var err error
	if f.track && f.pinned == nil {
		f.dBytes, f.dFiles, err = f.s.replace(ctx, &f.place, f.charge, f.moved.Load(), do)
	} else {
		err = do()
	}
	if err != nil {
		return f.fail(err)
	}
	return nil
}

// chargeHidden charges what a continued partial held before this upload.
func (f *File) chargeHidden(ctx context.Context) error {
	if f.charge == nil || f.pinned == nil || f.os == nil || f.s.m.conf.Upload != vfs.AtomicResume {
		return nil
	}
	fi, err := f.os.Stat()
	if err != nil {
		return err
	}
	if more := fi.Size() - f.was - f.charge.Used(); more > 0 {
		_, err = f.charge.Take(ctx, more, more)
	}
	return err
}

// settle ends the quota charge; what Commit has booked stays.
func (f *File) settle(ctx context.Context) {
	switch {
	case !f.track:
	case f.pinned != nil:
		f.dBytes, f.dFiles = f.s.unpin(ctx, &f.place, f.pinned, f.charge)
		f.pinned = nil
	default:
		f.s.booked(&f.place, f.charge.Settle(ctx, 0, 0))
	}
}

var errWithdrawn = fault.Text(fault.NotExist, "the file was removed while it was uploaded")

// withdraw takes back the hidden uploads of a user to the file with that key,
// in whatever session, and reports whether there were any. A client that lost
// its connection, or has several, removes what it failed to upload that way.
func (m *Manager) withdraw(user, key string) (any bool) {
	for _, g := range m.all() {
		s := g.session()
		if s == nil || s.user != user {
			continue
		}
		s.mu.Lock()
		var files []*File
		for f := s.files; f != nil; f = f.next {
			if f.w != nil && f.kind == events.Upload && f.place.key() == key {
				files = append(files, f)
			}
		}
		s.mu.Unlock()
		for _, f := range files {
			any = f.withdraw() || any
		}
	}
	return any
}

func (f *File) withdraw() bool {
	w, can := f.w.(vfs.Withdrawer)
	if !can {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.committed || !w.Withdraw() {
		return false
	}
	f.gone = true
	return true
}

var errNotCommitted = errors.New("the upload was not completed")

// Close ends the transfer. cause is why it failed, nil when it did not; an
// upload without Commit is discarded or kept for a resume, as the server
// decided. It publishes one event, the first time it is called, and returns
// what went wrong on closing.
func (f *File) Close(cause error) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	committed := f.committed
	failed := f.failed
	f.mu.Unlock()
	if over := f.s.over(); over != nil && (cause != nil || f.w != nil && !committed) {
		cause = over // a kick shows as a broken connection; record the kick
	} else if failed != nil && (cause != nil || committed || f.h != nil) {
		cause = failed
	}
	if cause == nil && f.w != nil && !committed {
		cause = fault.New(fault.Canceled, f.op(), f.name, errNotCommitted)
	}
	var err error
	switch {
	case f.r != nil:
		f.r.Close() // a reader has nothing to lose
	case f.h != nil:
		if f.up && f.s.m.conf.Sync {
			err = f.h.Sync()
		}
		if e := f.h.Close(); err == nil {
			err = e
		}
	case f.w != nil && !committed:
		err = f.w.Abort(cause)
	}
	if err != nil {
		err = f.place.fail(f.op(), err)
		if cause == nil {
			cause = err
		}
	}
	ctx := context.WithoutCancel(f.s.m.ctx)
	f.settle(ctx)
	f.unpaced(f.credit.Swap(0))
	f.s.remove(f)
	if !f.quiet {
		if perr := f.publish(ctx, f.kind, f.moved.Load(), cause); err == nil {
			err = perr
		}
		if n := f.shown.Load(); n > 0 {
			if perr := f.publish(ctx, events.Download, n, nil); err == nil {
				err = perr
			}
		}
	}
	return err
}

func (f *File) publish(ctx context.Context, k events.Kind, n int64, cause error) error {
	e := f.s.g.event(k)
	e.User, e.Path, e.Bytes = f.s.user, f.name, n
	e.Took = f.s.m.conf.Now().Sub(f.start)
	if cause != nil {
		e.Fault, e.Detail = fault.KindOf(cause), cause.Error()
	}
	return f.s.m.record(ctx, e)
}
