package session

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// maxGap is how far past the end of a file a write or truncation may reach.
const maxGap = 64 << 20

// books keeps the quota right when several operations meet at one file: old
// and new size are compared under a lock of the path, and a file that is being
// written in place has one accounted size for all who write it. Paths without
// a quota never come here.
type books struct {
	seed    maphash.Seed
	pins    atomic.Int64 // entries in all stripes
	stripes [64]stripe
}

type stripe struct {
	mu   sync.Mutex
	open map[string]*entry
}

// entry is what the quota has been charged for a file open in place.
type entry struct {
	refs   int
	size   int64
	exists bool
}

func (b *books) init() {
	b.seed = maphash.MakeSeed()
	for i := range b.stripes {
		b.stripes[i].open = map[string]*entry{}
	}
}

func (b *books) stripe(key string) *stripe {
	return &b.stripes[maphash.String(b.seed, key)%uint64(len(b.stripes))]
}

// key names the file for all users and mounts that lead to it.
func (p *place) key() string { return p.v.mount(p.mount).Source + "\x00" + p.rel }

// charge returns a charge on the quotas that hold at p, nil when there are none.
func (p *place) charge() *limits.Charge {
	if p.fs == nil {
		return nil
	}
	return limits.NewCharge(p.v.user, p.v.scope(p.mount))
}

// size is what counts of the file at p: regular files only. A link counts for
// nothing when it is removed (follow false) and for its file when written to.
func (p *place) size(ctx context.Context, follow bool) (int64, bool, error) {
	var i vfs.Info
	var err error
	if follow {
		i, err = p.fs.Stat(ctx, p.rel)
	} else {
		i, err = p.lstat(ctx)
	}
	switch {
	case fault.KindOf(err) == fault.NotExist:
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case !i.Mode.IsRegular():
		return 0, false, nil
	}
	return i.Size, true, nil
}

// accounted is size, or what has been charged so far when the file is open in
// place; the stripe is locked.
func (st *stripe) accounted(ctx context.Context, p *place, follow bool) (int64, bool, error) {
	if e := st.open[p.key()]; e != nil {
		return e.size, e.exists, nil
	}
	return p.size(ctx, follow)
}

// set records the new accounted size for those who have the file open.
func (st *stripe) set(p *place, size int64, exists bool) {
	if e := st.open[p.key()]; e != nil {
		e.size, e.exists = size, exists
	}
}

// pin holds the accounted size of a file that is about to be written in place,
// and returns what it is now; the entry itself is read under the stripe's lock.
func (s *Session) pin(ctx context.Context, p *place) (e *entry, size int64, exists bool, err error) {
	st := s.m.books.stripe(p.key())
	st.mu.Lock()
	defer st.mu.Unlock()
	e = st.open[p.key()]
	if e == nil {
		if size, exists, err = p.size(ctx, true); err != nil {
			return nil, 0, false, err
		}
		e = &entry{size: size, exists: exists}
		st.open[p.key()] = e
		s.m.books.pins.Add(1)
	}
	e.refs++
	return e, e.size, e.exists, nil
}

// unpin ends a pin and books the difference since the last booking, which it returns.
func (s *Session) unpin(ctx context.Context, p *place, e *entry, c *limits.Charge) (dBytes, dFiles int64) {
	st := s.m.books.stripe(p.key())
	st.mu.Lock()
	defer st.mu.Unlock()
	size, exists, err := p.size(ctx, true)
	if err != nil { // the storage is away: keep what was charged
		size, exists = e.size, e.exists
	}
	dBytes, dFiles = size-e.size, count(exists)-count(e.exists)
	e.size, e.exists = size, exists
	if e.refs--; e.refs == 0 && st.open[p.key()] == e {
		delete(st.open, p.key())
		s.m.books.pins.Add(-1)
	}
	s.booked(p, c.Settle(ctx, dBytes, dFiles))
	return dBytes, dFiles
}

func count(exists bool) int64 {
	if exists {
		return 1
	}
	return 0
}

// replace runs do, which puts a whole new file at p, and books new against old.
func (s *Session) replace(ctx context.Context, p *place, c *limits.Charge, size int64, do func() error) (dBytes, dFiles int64, err error) {
	st := s.m.books.stripe(p.key())
	st.mu.Lock()
	defer st.mu.Unlock()
	old, existed, err := st.accounted(ctx, p, true)
	if err != nil {
		return 0, 0, err
	}
	if err := do(); err != nil {
		return 0, 0, err
	}
	st.set(p, size, true)
	dBytes, dFiles = size-old, 1-count(existed)
	s.booked(p, c.Settle(ctx, dBytes, dFiles))
	return dBytes, dFiles, nil
}

// uncharged runs do, which takes the file at p away, and gives its size back.
func (s *Session) uncharged(ctx context.Context, p *place, do func() error) error {
	c := p.charge()
	if c == nil {
		return do()
	}
	_, _, err := s.takeAway(ctx, p, c, do)
	return err
}

// takeAway is uncharged for a charge that need not be the whole one. It returns what went.
func (s *Session) takeAway(ctx context.Context, p *place, c *limits.Charge, do func() error) (bytes, files int64, err error) {
	st := s.m.books.stripe(p.key())
	st.mu.Lock()
	defer st.mu.Unlock()
	size, existed, err := st.accounted(ctx, p, false)
	if err != nil {
		return 0, 0, err
	}
	if err := do(); err != nil {
		return 0, 0, err
	}
	st.set(p, 0, false)
	s.booked(p, c.Settle(ctx, -size, -count(existed)))
	return size, count(existed), nil
}

// moveDir runs do, which moves the directory p, while nobody has a file below
// it open in place: the books know such a file by its path.
func (s *Session) moveDir(p *place, do func() error) error {
	key := p.key() + "/"
	for i := range s.m.books.stripes {
		st := &s.m.books.stripes[i]
		st.mu.Lock() // all of them, in order, until do is done
		defer st.mu.Unlock()
		for k := range st.open {
			if strings.HasPrefix(k, key) {
				return errInUse
			}
		}
	}
	return do()
}

var errInUse = fault.Text(fault.Busy, "a file is being written; try again when that is done")

// resized runs do, which grows or shrinks the file at p by d octets.
func (s *Session) resized(ctx context.Context, p *place, d int64, do func() error) error {
	c := p.charge()
	if c == nil {
		return do()
	}
	if d > 0 {
		if _, err := c.Take(ctx, d, d); err != nil {
			return err
		}
	}
	e, _, _, err := s.pin(ctx, p)
	if err != nil {
		c.Settle(ctx, 0, 0)
		return err
	}
	err = do()
	s.unpin(ctx, p, e, c)
	return err
}

// booked logs a quota that could not be kept; the operation itself is done.
func (s *Session) booked(p *place, err error) {
	if err != nil {
		s.m.log.Error("quota use could not be stored; it is counted in memory and tried again", "session", s.g.id, "user", s.user, "path", p.name, "err", err)
	}
}
