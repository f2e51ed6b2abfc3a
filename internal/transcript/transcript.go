// Package transcript owns the transcripts of sessions: the requests for them,
// what is written and how, and the files, their ceilings and their age. It does
// not own what a session is or who may ask (session, admin), and it never sees
// a secret: whoever feeds it has cut them.
//
// Nothing is recorded unless an administrator has asked for it, and what was
// asked for ends by itself.
package transcript

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// Ceilings that no request and no configuration goes beyond.
const (
	MaxFor      = 24 * time.Hour
	DefaultFor  = 15 * time.Minute
	maxRequests = 100 // in force at the same time
	maxSessions = 100 // that one request records: a stranger may use a name or an address as often as it likes
)

// Limits are the ceilings that the configuration sets.
type Limits struct {
	Keep    time.Duration // files older than this are removed; 0: never
	Session int64         // octets of one transcript
	Total   int64         // octets of all of them
}

// Request is what an administrator asked for. Exactly one of Session, User and
// Network is set.
type Request struct {
	ID      string
	Session string       // a live connection
	User    string       // sessions that log in as this account, or try to, from now on
	Network netip.Prefix // connections from there, from now on
	By      string       // who asked
	Since   time.Time
	Until   time.Time // recording ends then, also of sessions that go on
	Begun   int       // transcripts that were begun
}

func (r *Request) covers(m *Meta) bool {
	switch {
	case r.Session != "":
		return r.Session == m.Session
	case r.User != "":
		return r.User == m.User
	}
	return r.Network.Contains(m.Remote.Addr().Unmap().WithZone(""))
}

// Meta says which session a transcript is of.
type Meta struct {
	Session  string
	Protocol string
	Listener string
	User     string // empty before log-in
	Remote   netip.AddrPort
	Local    netip.AddrPort
}

// Recorder holds the requests in force and the transcripts. Its methods may be
// called concurrently; those of a nil Recorder find nothing.
type Recorder struct {
	root *os.Root
	now  func() time.Time
	log  *slog.Logger

	limits atomic.Pointer[Limits]
	used   atomic.Int64 // octets of all files
	asked  atomic.Int32 // requests in force, as of the last look
	active atomic.Int32 // tapes that run

	mu       sync.Mutex
	requests []*Request
	tapes    map[string]*Tape // that run, by session
	failed   bool             // the log was told that none can be begun
}

// Open returns the recorder of a directory, which is made when it is not there.
// Requests do not outlive a Recorder, files do. now may be nil.
func Open(dir string, l Limits, now func() time.Time, log *slog.Logger) (*Recorder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of transcripts: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the directory of transcripts: %w", err)
	}
	if now == nil {
		now = time.Now
	}
	r := &Recorder{root: root, now: now, log: log, tapes: map[string]*Tape{}}
	r.SetLimits(l)
	r.used.Store(r.measure())
	return r, nil
}

// SetLimits replaces the ceilings; what is recorded already stays.
func (r *Recorder) SetLimits(l Limits) { r.limits.Store(&l) }

// Asked reports whether there may be a request. It costs one atomic load.
func (r *Recorder) Asked() bool { return r != nil && r.asked.Load() > 0 }

// Active reports whether any session is being recorded. It costs one atomic load.
func (r *Recorder) Active() bool { return r != nil && r.active.Load() > 0 }

// Ask puts a request in force for a span, 0 being DefaultFor. The subject is
// taken from q, as is By. fault.Invalid for a span beyond MaxFor, fault.Limit
// when there are too many.
func (r *Recorder) Ask(q Request, span time.Duration) (Request, error) {
	if span == 0 {
		span = DefaultFor
	}
	if span < 0 || span > MaxFor {
		return q, fault.Text(fault.Invalid, fmt.Sprintf("a transcript can be asked for %s at most, not for %s", MaxFor, span))
	}
	var id [4]byte
	rand.Read(id[:])
	now := r.now()
	q.ID, q.Since, q.Until, q.Begun = hex.EncodeToString(id[:]), now, now.Add(span), 0
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	if len(r.requests) >= maxRequests {
		return q, fault.Text(fault.Limit, fmt.Sprintf("%d transcripts are asked for already; stop one first", maxRequests))
	}
	r.requests = append(r.requests, &q)
	r.asked.Store(int32(len(r.requests)))
	return q, nil
}

// expire drops requests whose time is over; mu is held.
func (r *Recorder) expire(now time.Time) {
	r.requests = slices.DeleteFunc(r.requests, func(q *Request) bool { return !now.Before(q.Until) })
	r.asked.Store(int32(len(r.requests)))
}

// Requests returns those in force, oldest first.
func (r *Recorder) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(r.now())
	out := make([]Request, len(r.requests))
	for i, q := range r.requests {
		out[i] = *q
	}
	return out
}

// Stop takes a request back and ends what is recorded because of it.
// fault.NotExist when there is none of that id.
func (r *Recorder) Stop(id string) (Request, error) {
	r.mu.Lock()
	i := slices.IndexFunc(r.requests, func(q *Request) bool { return q.ID == id })
	if i < 0 {
		r.mu.Unlock()
		return Request{}, fault.Text(fault.NotExist, fmt.Sprintf("there is no request %q for a transcript; it may have ended already", id))
	}
	q := *r.requests[i]
	r.requests = slices.Delete(r.requests, i, i+1)
	r.asked.Store(int32(len(r.requests)))
	end := r.those(func(t *Tape) bool { return t.request == id })
	r.mu.Unlock()
	for _, t := range end {
		t.End("an administrator ended the recording")
	}
	return q, nil
}

// Begin returns the running transcript of a session, or begins one that was
// asked for; else nil. gone is called once, when it ends, on any goroutine.
func (r *Recorder) Begin(m Meta, gone func()) *Tape {
	if !r.Asked() {
		return nil
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tapes[m.Session]; t != nil {
		return t
	}
	r.expire(now)
	var q *Request
	for _, v := range r.requests { // the last one wins
		if v.covers(&m) && v.Begun < maxSessions {
			q = v
		}
	}
	if q == nil {
		return nil
	}
	t, err := r.open(&m, q, now)
	if err != nil {
		if !r.failed { // once: strangers connect as often as they like
			r.failed = true
			r.log.Error("a transcript that was asked for cannot be recorded", "session", m.Session, "request", q.ID, "err", err)
		}
		return nil
	}
	r.failed = false
	q.Begun++
	t.gone = gone
	r.tapes[m.Session] = t
	r.active.Add(1)
	return t
}

// forget takes a tape out that has ended.
func (r *Recorder) forget(t *Tape) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tapes[t.session] == t {
		delete(r.tapes, t.session)
		r.active.Add(-1)
	}
}

// those returns the running tapes of a kind, to be ended when mu, which is held,
// is not any more.
func (r *Recorder) those(kind func(*Tape) bool) (ts []*Tape) {
	for _, t := range r.tapes {
		if kind(t) {
			ts = append(ts, t)
		}
	}
	return ts
}

// Sweep ends what is past its time and removes files that are too old. It is
// to be called now and then.
func (r *Recorder) Sweep() {
	now := r.now()
	r.mu.Lock()
	r.expire(now)
	end := r.those(func(t *Tape) bool { return !now.Before(t.until) })
	r.mu.Unlock()
	for _, t := range end {
		t.End(overText)
	}
	if keep := r.limits.Load().Keep; keep > 0 {
		r.each(func(name string, i fs.FileInfo) {
			if now.Sub(i.ModTime()) <= keep || r.running(name) {
				return
			}
			if err := r.root.Remove(name); err != nil {
				r.log.Warn("an old transcript could not be removed", "file", name, "err", err)
				return
			}
			r.used.Add(-i.Size())
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tapes) == 0 { // nobody writes: count what was removed by hand, too
		r.used.Store(r.measure())
	}
}

// Close ends all transcripts.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.requests = nil
	r.asked.Store(0)
	end := r.those(func(*Tape) bool { return true })
	r.mu.Unlock()
	for _, t := range end {
		t.End("the server stopped")
	}
	return r.root.Close()
}
