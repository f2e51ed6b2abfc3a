package session

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Rename moves a file or directory. It needs Rename at from, and at to what
// making the thing there needs: Upload for a file, Mkdir for a directory. With
// replace an existing file gives way, for which Overwrite and Delete are needed.
// Files may cross mounts (they are copied, then removed); directories may not.
func (s *Session) Rename(ctx context.Context, from, to string, replace bool) (err error) {
	began, shown, target := s.m.conf.Now(), from, to
	defer func() { err = s.tell(ctx, events.Rename, shown, target, began, 0, err) }()
	v := s.view.Load()
	src, err := s.authorizeIn(v, opRename, from)
	if err != nil {
		return err
	}
	shown = src.name
	if err := v.mounts.Protect("rename", src.name); err != nil {
		return err
	}
	info, err := src.lstat(ctx)
	if err != nil {
		return src.fail("rename", err)
	}
	what := opUpload
	if info.IsDir() {
		what = opMkdir
	} else if err := src.file(opRename); err != nil {
		return err
	}
	dst, err := s.authorizeIn(v, what, to)
	if err != nil {
		return err
	}
	target = dst.name
	if src.name == dst.name {
		return nil
	}
	if err := s.movable(ctx, &src, &dst, info, replace); err != nil {
		return err
	}
	if err := s.ask(ctx, events.Rename, &src, &dst); err != nil {
		return err
	}
	if src.mount != dst.mount {
		return src.fail("rename", s.moveAcross(ctx, src, dst, info, replace))
	}
	return src.fail("rename", s.renameIn(ctx, &src, &dst, info, replace))
}

// movable checks what could turn a rename into a way around the rules.
func (s *Session) movable(ctx context.Context, src, dst *place, info vfs.Info, replace bool) error {
	v := src.v
	if err := v.mounts.Protect("rename", dst.name); err != nil {
		return err
	}
	refuse := func(text string) error { return fault.New(fault.Denied, "rename", src.name, errors.New(text)) }
	if dst.rights()&account.Download != 0 && src.rights()&account.Download == 0 {
		return refuse("the file may not be read where it is, so it may not go where it could be")
	}
	if info.IsDir() {
		if vfs.Under(src.name, dst.name) {
			return fault.New(fault.Invalid, "rename", src.name, errors.New("a directory cannot go into itself"))
		}
		if b := v.below(src.where()); b != "" {
			return refuse("a rule or mount applies inside the directory, at " + b)
		}
		if b := v.below(dst.where()); b != "" {
			return refuse("a rule or mount applies inside the target, at " + b)
		}
		if v.at(src.where()) {
			return refuse("a rule applies to exactly this directory")
		}
	} else if err := dst.file(opUpload); err != nil {
		return err
	}
	there, err := dst.lstat(ctx)
	switch {
	case fault.KindOf(err) == fault.NotExist:
		return nil
	case err != nil:
		return err
	case !replace:
		return fault.New(fault.Exist, "rename", dst.name, nil)
	case there.IsDir():
		return fault.New(fault.WrongType, "rename", dst.name, errors.New("the target is a directory"))
	case info.IsDir():
		return fault.New(fault.WrongType, "rename", dst.name, errors.New("the target is a file"))
	}
	if err := dst.may(opOverwrite); err != nil {
		return err
	}
	return dst.may(opDelete)
}

// renameIn renames inside one storage; with a quota the replaced file is given back.
func (s *Session) renameIn(ctx context.Context, src, dst *place, info vfs.Info, replace bool) error {
	// The target was seen not to exist, or the right to replace it was checked.
	// Without that right nothing that appeared meanwhile may be replaced.
	if have := dst.rights(); have&account.Overwrite == 0 || have&account.Delete == 0 {
		replace = false
	}
	do := func() error { return src.fs.Rename(ctx, src.rel, dst.rel, replace) }
	c := dst.charge()
	switch {
	case c == nil && s.m.books.pins.Load() == 0:
		return do() // nobody keeps books
	case info.IsDir():
		return s.moveDir(src, do)
	}
	a, b := s.m.books.stripe(src.key()), s.m.books.stripe(dst.key())
	unlock := lockBoth(s.m.books.order(a, b))
	defer unlock()
	if a.open[src.key()] != nil {
		return errInUse // its books go by the path
	}
	oldSrc, wasSrc, err := src.size(ctx, false)
	if err != nil {
		return err
	}
	oldDst, wasDst, err := b.accounted(ctx, dst, false)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	b.set(dst, oldSrc, wasSrc)
	s.booked(dst, c.Settle(ctx, -oldDst, -count(wasDst)))
	return nil
}

// order puts two stripes in the order in which they are locked.
func (b *books) order(x, y *stripe) (*stripe, *stripe) {
	for i := range b.stripes {
		switch &b.stripes[i] {
		case x:
			return x, y
		case y:
			return y, x
		}
	}
	return x, y
}

func lockBoth(x, y *stripe) func() {
	x.mu.Lock()
	if x == y {
		return x.mu.Unlock
	}
	y.mu.Lock()
	return func() { y.mu.Unlock(); x.mu.Unlock() }
}

// moveAcross copies a regular file to another mount and removes the source.
// The user's own quota sees only the difference, so a move never needs room twice.
func (s *Session) moveAcross(ctx context.Context, src, dst place, info vfs.Info, replace bool) error {
	if !info.Mode.IsRegular() {
		return fault.Text(fault.Unsupported, "only files can be moved from one mount to another")
	}
	mountOnly := func(p place) *limits.Charge { return limits.NewCharge(nil, p.v.scope(p.mount)) }
	out, err := s.copyFile(ctx, src, dst, vfs.CreateOptions{Exclusive: !replace, Perm: info.Mode.Perm()}, events.Rename, mountOnly)
	if err != nil {
		return err
	}
	if set, ok := dst.fs.(vfs.AttrSetter); ok { // a move keeps the time; best effort, as the bytes are safe
		set.SetAttr(ctx, dst.rel, vfs.Attr{ModTime: &info.ModTime})
	}
	// If this fails both copies stay; the user sees the error and loses nothing.
	bytes, files, err := s.takeAway(ctx, &src, mountOnly(src), func() error { return src.fs.Remove(ctx, src.rel) })
	s.booked(&dst, limits.NewCharge(dst.v.user, nil).Settle(ctx, out.dBytes-bytes, out.dFiles-files))
	return err
}

// Copy copies a file on the server: Download at from, what Create needs at to.
// It returns the octets copied and publishes one copy event.
func (s *Session) Copy(ctx context.Context, from, to string) (n int64, err error) {
	began, shown, target := s.m.conf.Now(), from, to
	defer func() { err = s.tell(ctx, events.Copy, shown, target, began, n, err) }()
	v := s.view.Load()
	src, err := s.authorizeIn(v, opDownload, from)
	if err != nil {
		return 0, err
	}
	shown = src.name
	dst, err := s.authorizeIn(v, opCreate, to)
	if err != nil {
		return 0, err
	}
	target = dst.name
	if src.name == dst.name {
		return 0, fault.New(fault.Exist, "copy", src.name, errors.New("source and target are the same"))
	}
	if err := s.ask(ctx, events.Copy, &src, &dst); err != nil {
		return 0, err
	}
	f, err := s.copyFile(ctx, src, dst, vfs.CreateOptions{}, events.Copy, place.charge0)
	if err != nil {
		return 0, src.fail("copy", err)
	}
	return f.moved.Load(), nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyFile copies through the same two gates as a download and an upload. The
// storage does it alone when it can and nothing has to be counted.
func (s *Session) copyFile(ctx context.Context, src, dst place, o vfs.CreateOptions, k events.Kind, charge func(place) *limits.Charge) (*File, error) {
	if err := src.file(opDownload); err != nil {
		return nil, err
	}
	if c, ok := dst.fs.(vfs.Copier); ok && src.mount == dst.mount && dst.charge() == nil {
		if err := dst.file(opCreate); err != nil {
			return nil, err
		}
		if src.v.mounts.Virtual(src.name) || dst.v.mounts.Virtual(dst.name) {
			return nil, fault.Text(fault.WrongType, "it is a directory")
		}
		if err := s.writable(ctx, &dst, &o); err != nil {
			return nil, err
		}
		o.Upload, o.Sync, o.Owner = s.m.conf.Upload, s.m.conf.Sync, s.user
		n, err := c.Copy(ctx, src.rel, dst.rel, o)
		f := &File{}
		f.moved.Store(n)
		return f, err
	}
	in, err := s.openFile(ctx, src.name, 0, k)
	if err != nil {
		return nil, err
	}
	in.quiet = true
	defer in.Close(nil)
	o.Size = in.size
	out, err := s.create(ctx, dst.name, o, k, charge)
	if err != nil {
		return nil, err
	}
	out.quiet = true
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	// Hide ReadFrom and WriteTo: the loop must come by Grant for kick and quota.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{ctxReader{ctx, in}}, *b)
	if err == nil {
		err = out.Commit(ctx)
	}
	if e := out.Close(err); err == nil {
		err = e
	}
	return out, err
}

// ctxReader ends a copy when the command is aborted.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
