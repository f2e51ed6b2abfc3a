package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// reserveChunk is how many octets an upload sets aside at once.
const reserveChunk = 4 << 20

// Usage is what is stored and what may be; a maximum of 0 is no limit.
type Usage struct {
	UsedBytes, MaxBytes int64
	UsedFiles, MaxFiles int64
}

// ledger holds the scopes in use. A scope is a thing with a quota: a user, or
// the source of a mount. Only scopes with a quota are counted: an account
// without one pays nothing, and one that is given a quota later starts from
// what the store says, so give it the true figure with SetUsage (quota rescan).
type ledger struct {
	mu     sync.Mutex
	store  QuotaStore
	scopes map[string]*Scope
}

func (g *ledger) init(s QuotaStore) {
	g.store = s
	g.scopes = map[string]*Scope{}
}

// Scope is the account of one quota, shared by all sessions it applies to.
// What is used and what is reserved together never exceed the maximum, unless
// the maximum was lowered or files were put there behind the server's back.
type Scope struct {
	g    *ledger
	name string
	refs int // under g.mu

	mu                 sync.Mutex
	loaded             bool
	max                account.Quota
	bytes, files       int64 // used
	resBytes, resFiles int64 // reserved
	dirtyB, dirtyF     int64 // used but not in the store yet
	flushing           bool
	flushAgain         time.Time // not before, unless somebody insists
	marked             bool      // in the journal
	markAgain          time.Time // not before, after the journal failed
}

// MountScope is the name under which the use of a mount's own quota is kept.
func MountScope(source string) string { return "mount:" + source }

// Quota returns the scope of that name, which is that of a user or a
// MountScope, and sets its maximum; nil when q limits nothing. Methods of a
// nil *Scope succeed and count nothing. Release it at the end.
func (l *Limits) Quota(name string, q account.Quota) *Scope {
	if q.Bytes <= 0 && q.Files <= 0 {
		return nil
	}
	g := &l.ledger
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.scopes[name]
	if s == nil {
		s = &Scope{g: g, name: name}
		g.scopes[name] = s
	}
	s.refs++
	s.mu.Lock()
	s.max = q
	s.mu.Unlock()
	return s
}

// Release ends the use of the scope. What is not in the store yet is written.
func (s *Scope) Release(ctx context.Context) error {
	if s == nil {
		return nil
	}
	err := s.flush(ctx, true)
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.refs--
	s.mu.Lock()
	idle := s.refs <= 0 && s.dirtyB == 0 && s.dirtyF == 0 && !s.flushing
	if idle && s.marked && s.resBytes == 0 && s.resFiles == 0 {
		err = errors.Join(err, s.unmark(ctx))
	}
	s.mu.Unlock()
	if idle && s.g.scopes[s.name] == s {
		delete(s.g.scopes, s.name) // loaded again when next needed
	}
	return err
}

// FlushQuota writes what the store does not know yet; call it before the store closes.
func (l *Limits) FlushQuota(ctx context.Context) error {
	g := &l.ledger
	g.mu.Lock()
	all := make([]*Scope, 0, len(g.scopes))
	for _, s := range g.scopes {
		all = append(all, s)
	}
	g.mu.Unlock()
	var first error
	for _, s := range all {
		first = errors.Join(first, s.flush(ctx, true))
		s.mu.Lock()
		if s.marked && s.dirtyB == 0 && s.dirtyF == 0 && s.resBytes == 0 && s.resFiles == 0 {
			first = errors.Join(first, s.unmark(ctx))
		}
		s.mu.Unlock()
	}
	return first
}

// markTime bounds the one write with which the use of a scope begins. When it
// fails, the operations of the next markPause do without.
const (
	markTime  = 5 * time.Second
	markPause = time.Minute
)

// flushWait is how long an operation waits for its quota use to be kept. What
// the store has not taken by then stays in memory and follows later; the
// operations of the next flushPause do not wait.
const (
	flushWait  = 5 * time.Second
	flushPause = 10 * time.Second
)

// mark notes in the journal that the scope is about to change. A journal that
// cannot be written costs a recount by hand after a crash, not the operation.
func (s *Scope) mark() {
	if s == nil {
		return
	}
	j, ok := s.g.store.(QuotaJournal)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marked || time.Now().Before(s.markAgain) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), markTime)
	defer cancel()
	if s.marked = j.MarkQuota(ctx, s.name) == nil; !s.marked {
		s.markAgain = time.Now().Add(markPause)
	}
}

// ClearMark takes a mark away that a crash left, unless the scope is in use
// again: then it goes with that use.
func (l *Limits) ClearMark(ctx context.Context, name string) error {
	g := &l.ledger
	j, ok := g.store.(QuotaJournal)
	if !ok {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.scopes[name]; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.marked {
			return nil
		}
	}
	return j.ClearQuota(ctx, name)
}

// unmark takes the mark away; s.mu is held.
func (s *Scope) unmark(ctx context.Context) error {
	s.marked = false
	return s.g.store.(QuotaJournal).ClearQuota(ctx, s.name)
}

// load reads what is used, once; s.mu is held.
func (s *Scope) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	if s.g.store != nil {
		b, f, err := s.g.store.QuotaUsed(ctx, s.name)
		if err != nil && fault.KindOf(err) != fault.NotExist {
			return fmt.Errorf("limits: load the quota use of %q: %w", s.name, fault.New(fault.Unavailable, "", "", err))
		}
		s.bytes, s.files = max(0, b+s.dirtyB), max(0, f+s.dirtyF)
	}
	s.loaded = true
	return nil
}

// Usage returns what is used (reservations not included) and the maximum.
func (s *Scope) Usage(ctx context.Context) (Usage, error) {
	if s == nil {
		return Usage{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return Usage{}, err
	}
	return Usage{UsedBytes: s.bytes, MaxBytes: s.max.Bytes, UsedFiles: s.files, MaxFiles: s.max.Files}, nil
}

// reserve sets aside between need and want octets and files files.
func (s *Scope) reserve(ctx context.Context, need, want, files int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return 0, err
	}
	if files > 0 && s.max.Files > 0 && s.files+s.resFiles+files > s.max.Files {
		return 0, fault.Text(fault.Quota, fmt.Sprintf("the quota of %d files is used up", s.max.Files))
	}
	n := want
	if s.max.Bytes > 0 {
		room := s.max.Bytes - s.bytes - s.resBytes
		if room < need {
			return 0, fault.Text(fault.Quota, fmt.Sprintf("the quota of %d octets is used up", s.max.Bytes))
		}
		// Near the limit take less, so that others are not refused for room
		// that is only set aside.
		n = max(need, min(want, max(room/8, 64<<10), room))
	}
	s.resBytes += n
	s.resFiles += files
	return n, nil
}

// settle takes back a reservation and books what really changed.
func (s *Scope) settle(resB, resF, dBytes, dFiles int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resBytes -= resB
	s.resFiles -= resF
	if !s.loaded { // the store was away; it keeps the sum, load adds what is dirty
		s.dirtyB += dBytes
		s.dirtyF += dFiles
		return
	}
	dBytes = max(dBytes, -s.bytes) // never below nothing: files may be older than the quota
	dFiles = max(dFiles, -s.files)
	s.bytes += dBytes
	s.files += dFiles
	s.dirtyB += dBytes
	s.dirtyF += dFiles
}

// flush writes the difference to the store. While one goroutine writes, others
// leave theirs to it, so that a burst of small uploads becomes few writes. After
// a failure nobody waits again for a while, unless they insist.
func (s *Scope) flush(ctx context.Context, insist bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.g.store == nil {
		s.dirtyB, s.dirtyF = 0, 0
		return nil
	}
	if s.flushing || !insist && time.Now().Before(s.flushAgain) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	s.flushing = true
	defer func() { s.flushing = false }()
	for s.dirtyB != 0 || s.dirtyF != 0 {
		b, f := s.dirtyB, s.dirtyF
		s.dirtyB, s.dirtyF = 0, 0
		s.mu.Unlock()
		err := s.g.store.AddQuota(ctx, s.name, b, f)
		s.mu.Lock()
		if err != nil { // kept for the next time
			s.dirtyB += b
			s.dirtyF += f
			s.flushAgain = time.Now().Add(flushPause)
			return fmt.Errorf("limits: keep the quota use of %q: %w", s.name, err)
		}
	}
	return nil
}

// SetUsage replaces what is counted for a scope, after its files were counted
// anew. Uploads under way stay reserved on top.
func (l *Limits) SetUsage(ctx context.Context, name string, bytes, files int64) error {
	g := &l.ledger
	g.mu.Lock()
	s := g.scopes[name]
	if s == nil {
		s = &Scope{g: g, name: name}
		g.scopes[name] = s
	}
	s.refs++
	g.mu.Unlock()
	s.mu.Lock()
	err := s.load(ctx)
	if err == nil {
		s.dirtyB += bytes - s.bytes
		s.dirtyF += files - s.files
		s.bytes, s.files = bytes, files
	}
	s.mu.Unlock()
	if e := s.Release(ctx); err == nil {
		err = e
	}
	return err
}

// Charge is the quota of one operation in up to two scopes, that of the user
// and that of the mount. A zero Charge counts nothing. Methods may be called
// concurrently. Settle ends it.
type Charge struct {
	scopes [2]*Scope

	mu    sync.Mutex
	held  int64 // octets reserved in each scope
	used  int64 // of those, taken
	files int64
	done  bool
}

// NewCharge returns a charge on two scopes, which may be nil or the same.
func NewCharge(a, b *Scope) *Charge {
	if a == nil || a == b {
		a, b = b, nil
	}
	if a == nil {
		return nil
	}
	a.mark()
	b.mark()
	return &Charge{scopes: [2]*Scope{a, b}}
}

// Files reserves n new files; fault.Quota when there is no room for them.
func (c *Charge) Files(ctx context.Context, n int64) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.reserve(ctx, 0, 0, n); err != nil {
		return err
	}
	c.files += n
	return nil
}

// Take allows some of want octets to be stored, at least least (1 when 0), and
// returns how many. fault.Quota when there is not that much room.
func (c *Charge) Take(ctx context.Context, least, want int64) (int64, error) {
	if c == nil || want <= 0 {
		return want, nil
	}
	least = min(max(least, 1), want)
	c.mu.Lock()
	defer c.mu.Unlock()
	if free := c.held - c.used; free < least {
		n, err := c.reserve(ctx, least-free, max(want-free, reserveChunk), 0)
		if err != nil {
			return 0, err
		}
		c.held += n
	}
	n := min(want, c.held-c.used)
	c.used += n
	return n, nil
}

// Used is how many octets were taken and not given back.
func (c *Charge) Used() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// Back returns octets that were taken and not stored.
func (c *Charge) Back(n int64) {
	if c == nil || n <= 0 {
		return
	}
	c.mu.Lock()
	c.used = max(0, c.used-n)
	c.mu.Unlock()
}

// reserve reserves in both scopes or in none.
func (c *Charge) reserve(ctx context.Context, need, want, files int64) (int64, error) {
	n, err := c.scopes[0].reserve(ctx, need, want, files)
	if err != nil || c.scopes[1] == nil {
		return n, err
	}
	m, err := c.scopes[1].reserve(ctx, need, n, files)
	if err != nil {
		c.scopes[0].settle(n, files, 0, 0)
		return 0, err
	}
	if m < n {
		c.scopes[0].settle(n-m, 0, 0, 0)
	}
	return m, nil
}

// Settle ends the charge: the reservation goes and the real change is booked
// (negative when less is stored than before). The books in memory are right
// when it returns, whatever the error, which is about keeping them.
func (c *Charge) Settle(ctx context.Context, dBytes, dFiles int64) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	if c.done {
		c.mu.Unlock()
		return nil
	}
	c.done = true
	held, files := c.held, c.files
	c.mu.Unlock()
	var first error
	for _, s := range c.scopes {
		if s == nil {
			continue
		}
		s.mu.Lock()
		first = errors.Join(first, s.load(ctx))
		s.mu.Unlock()
		s.settle(held, files, dBytes, dFiles)
		first = errors.Join(first, s.flush(ctx, false))
	}
	return first
}
