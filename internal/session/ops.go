package session

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Stat describes name and follows links inside the tree. A directory may be
// described with any right there; a file needs one that works on existing
// files, so that an upload-only folder does not tell what lies in it.
func (s *Session) Stat(ctx context.Context, name string) (vfs.Info, error) {
	p, err := s.authorize(opStat, name)
	if err != nil {
		return vfs.Info{}, err
	}
	i, err := p.v.mounts.Stat(ctx, p.name)
	return s.seen(p, i, err)
}

// Lstat is Stat that describes a link itself.
func (s *Session) Lstat(ctx context.Context, name string) (vfs.Info, error) {
	p, err := s.authorize(opStat, name)
	if err != nil {
		return vfs.Info{}, err
	}
	i, err := p.lstat(ctx)
	return s.seen(p, i, err)
}

const blindRights = account.Upload | account.Mkdir | account.Rmdir

func (s *Session) seen(p place, i vfs.Info, err error) (vfs.Info, error) {
	if err != nil {
		err = p.fail("stat", err)
	}
	if (err != nil || !i.IsDir()) && p.rights()&^blindRights == 0 {
		// The same answer whether it exists or not.
		return vfs.Info{}, fault.New(fault.Denied, "stat", p.name, errors.New("only uploads are allowed here"))
	}
	return i, err
}

// List streams a directory: mount points included, hidden names left out. The
// caller may stop early; a failure ends the sequence.
func (s *Session) List(ctx context.Context, name string) iter.Seq2[vfs.Info, error] {
	return func(yield func(vfs.Info, error) bool) {
		p, err := s.authorize(opList, name)
		if err != nil {
			yield(vfs.Info{}, err)
			return
		}
		s.mu.Lock()
		s.lists++
		s.mu.Unlock()
		var failed error
		if s.m.conf.Listings {
			began := s.m.conf.Now()
			defer func() { s.listed(ctx, p.name, began, failed) }()
		}
		defer func() {
			s.mu.Lock()
			s.lists--
			s.mu.Unlock()
			s.idle()
		}()
		base, real := strings.TrimSuffix(p.name, "/")+"/", strings.TrimSuffix(p.real, "/")+"/"
		hides := p.v.hides()
		for i, err := range p.v.mounts.List(ctx, p.name) {
			if err == nil {
				err = s.over()
			}
			if err != nil {
				failed = p.fail("list", err)
				yield(vfs.Info{}, failed)
				return
			}
			if hides && (p.v.policy.Hidden(base+i.Name) || p.real != "" && p.v.policy.Hidden(real+i.Name)) {
				continue
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// listed publishes that a listing is over.
func (s *Session) listed(ctx context.Context, name string, began time.Time, err error) {
	e := s.g.event(events.Listing)
	e.User, e.Path, e.Time = s.user, name, s.m.conf.Now()
	e.Took = e.Time.Sub(began)
	if err != nil {
		e.Fault, e.Detail = fault.KindOf(err), err.Error()
	}
	s.m.publish(ctx, e)
}

func (v *view) hides() bool {
	for i := range v.policy.Rules {
		if len(v.policy.Rules[i].Hide) > 0 {
			return true
		}
	}
	return false
}

// ask puts an operation to the synchronous hooks, if any. A hook that is for
// some paths holds for what lies there, by whatever name it is reached: where
// links lead elsewhere, the hooks are asked about those names as well.
func (s *Session) ask(ctx context.Context, k events.Kind, p *place, target *place) error {
	if s.m.bus == nil || !s.m.bus.Asks(k) {
		return nil
	}
	ctx = events.WithGroups(ctx, p.v.policy.Groups)
	e := s.g.event(k)
	e.Path = p.name
	linked := p.real != ""
	if target != nil {
		e.Target = target.name
		linked = linked || target.real != ""
	}
	if err := s.m.bus.Ask(ctx, e); err != nil || !linked {
		return err
	}
	e.Path = p.where()
	if target != nil {
		e.Target = target.where()
	}
	return s.m.bus.Ask(ctx, e)
}

func (m *Manager) asking() bool { return m.bus != nil && m.bus.Asking() }

// tell publishes what came of a change and returns err, or why the event could
// not be kept when it must be. Everyday misses (no such file, exists
// already) are no news; what was refused or broke is.
func (s *Session) tell(ctx context.Context, k events.Kind, name, target string, began time.Time, bytes int64, err error) error {
	kind := fault.KindOf(err)
	switch kind {
	case fault.NotExist, fault.Exist, fault.WrongType, fault.Invalid, fault.Range, fault.Unsupported, fault.Stopping:
		return err
	}
	e := s.g.event(k)
	e.User, e.Path, e.Target, e.Bytes, e.Fault = s.user, name, target, bytes, kind
	e.Took = s.m.conf.Now().Sub(began)
	if err != nil {
		e.Detail = err.Error()
	}
	if perr := s.m.record(ctx, e); err == nil {
		return perr
	}
	return err
}

// change runs do at the authorised place, with hooks before and an event after.
func (s *Session) change(ctx context.Context, o op, k events.Kind, name string, do func(p place) error) (err error) {
	began := s.m.conf.Now()
	shown := name
	defer func() { err = s.tell(ctx, k, shown, "", began, 0, err) }()
	p, err := s.authorize(o, name)
	if err != nil {
		return err
	}
	shown = p.name
	if err := s.ask(ctx, k, &p, nil); err != nil {
		return err
	}
	return p.fail(rules[o].name, do(p))
}

// Mkdir makes a directory; perm before umask.
func (s *Session) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	return s.change(ctx, opMkdir, events.Mkdir, name, func(p place) error {
		if p.v.mounts.Virtual(p.name) {
			return fault.Text(fault.Exist, "it is a mount point or leads to one")
		}
		return p.fs.Mkdir(ctx, p.rel, perm.Perm())
	})
}

// Remove removes a file or link; fault.WrongType for a directory. A name that
// is not visible yet because the same user is uploading it is removed, too: the
// upload then fails, as if the file had been there and was removed.
func (s *Session) Remove(ctx context.Context, name string) error {
	return s.change(ctx, opDelete, events.Delete, name, func(p place) error {
		if err := p.v.mounts.Protect("delete", p.name); err != nil {
			return err
		}
		i, err := p.lstat(ctx)
		switch {
		case fault.KindOf(err) == fault.NotExist && p.file(opDelete) == nil && s.m.withdraw(s.user, p.key()):
			return nil
		case err != nil:
			return err
		case i.IsDir():
			return fault.Text(fault.WrongType, "it is a directory")
		}
		if err := p.file(opDelete); err != nil {
			return err
		}
		return s.uncharged(ctx, &p, func() error { return p.fs.Remove(ctx, p.rel) })
	})
}

// Rmdir removes an empty directory; fault.WrongType for anything else.
func (s *Session) Rmdir(ctx context.Context, name string) error {
	return s.change(ctx, opRmdir, events.Rmdir, name, func(p place) error {
		if err := p.v.mounts.Protect("rmdir", p.name); err != nil {
			return err
		}
		i, err := p.lstat(ctx)
		switch {
		case err != nil:
			return err
		case !i.IsDir():
			return fault.Text(fault.WrongType, "it is not a directory")
		}
		return p.fs.Remove(ctx, p.rel)
	})
}

// SetAttr changes permission bits (right Chmod), times (Times) and size
// (Overwrite); each right is checked for what a asks, before anything changes.
func (s *Session) SetAttr(ctx context.Context, name string, a vfs.Attr) error {
	var need []op
	if a.Mode != nil {
		m := a.Mode.Perm() // never setuid, setgid or sticky
		a.Mode = &m
		need = append(need, opChmod)
	}
	if a.ModTime != nil || a.ATime != nil {
		need = append(need, opTimes)
	}
	if a.Size != nil {
		need = append(need, opTruncate)
	}
	if len(need) == 0 {
		_, err := s.Stat(ctx, name)
		return err
	}
	return s.change(ctx, need[0], events.Attr, name, func(p place) error {
		for _, o := range need[1:] {
			if err := p.may(o); err != nil {
				return err
			}
		}
		set, ok := p.fs.(vfs.AttrSetter)
		if !ok {
			return fault.Text(fault.Unsupported, "this storage has no such attributes")
		}
		i, err := p.fs.Stat(ctx, p.rel)
		if err != nil {
			return err
		}
		if !i.IsDir() {
			if err := p.file(need[0]); err != nil {
				return err
			}
		}
		if a.Size == nil {
			return set.SetAttr(ctx, p.rel, a)
		}
		if *a.Size < 0 || *a.Size > i.Size+maxGap {
			return fault.Text(fault.Range, "the new size leaves a gap of more than 64 MiB")
		}
		return s.resized(ctx, &p, *a.Size-i.Size, func() error { return set.SetAttr(ctx, p.rel, a) })
	})
}

// Symlink makes a link at name to target, a path of the user's tree, or one
// relative to name's directory. Both must be in the same mount, and the link
// must not open what its own place does not: every right at name is needed at
// target as well.
func (s *Session) Symlink(ctx context.Context, target, name string) error {
	return s.link(ctx, target, name, func(p, t place) error {
		l, ok := p.fs.(vfs.Linker)
		if !ok {
			return fault.Text(fault.Unsupported, "this storage has no links")
		}
		return l.Symlink(ctx, t.rel, p.rel)
	})
}

// Link makes a hard link at to for the file from; rights as for Symlink. With
// a quota it is refused, because one file would be counted twice or never.
func (s *Session) Link(ctx context.Context, from, to string) error {
	return s.link(ctx, from, to, func(p, t place) error {
		l, ok := p.fs.(vfs.HardLinker)
		if !ok {
			return fault.Text(fault.Unsupported, "this storage has no hard links")
		}
		if p.charge() != nil {
			return fault.Text(fault.Denied, "hard links cannot be made where a quota holds")
		}
		return l.Link(ctx, t.rel, p.rel)
	})
}

func (s *Session) link(ctx context.Context, target, name string, do func(p, t place) error) (err error) {
	began, shown := s.m.conf.Now(), name
	defer func() { err = s.tell(ctx, events.Link, shown, target, began, 0, err) }()
	v := s.view.Load()
	p, err := s.authorizeIn(v, opLink, name)
	if err != nil {
		return err
	}
	shown = p.name
	dir, _ := vfs.Split(p.name)
	target = vfs.Join(dir, target)
	t, err := s.authorizeIn(v, opDownload, target)
	if err != nil {
		return err
	}
	switch {
	case t.mount != p.mount:
		return fault.New(fault.Denied, "link", p.name, errors.New("the target is in another mount"))
	case (v.rights(p.name)|v.rights(p.where()))&^(v.rights(t.name)&v.rights(t.where())) != 0:
		return fault.New(fault.Denied, "link", p.name, errors.New("the target grants less than the place of the link"))
	case v.below(t.where()) != "":
		return fault.New(fault.Denied, "link", p.name, errors.New("a rule or mount applies inside the target, at "+v.below(t.where())))
	}
	if err := errors.Join(p.file(opLink), t.file(opLink)); err != nil {
		return fault.New(fault.NameRefused, "link", p.name, err)
	}
	if p.v.mounts.Virtual(p.name) {
		return fault.New(fault.Exist, "link", p.name, nil)
	}
	if err := s.ask(ctx, events.Link, &p, &t); err != nil {
		return err
	}
	return p.fail("link", do(p, t))
}

// Readlink returns the target of a link as a path of the user's tree.
func (s *Session) Readlink(ctx context.Context, name string) (string, error) {
	p, err := s.authorize(opReadlink, name)
	if err != nil {
		return "", err
	}
	l, ok := p.fs.(vfs.Linker)
	if !ok {
		return "", fault.New(fault.Unsupported, "readlink", p.name, nil)
	}
	t, err := l.Readlink(ctx, p.rel)
	if err != nil {
		return "", p.fail("readlink", err)
	}
	if mp := p.v.mount(p.mount).Path; strings.HasPrefix(t, "/") && mp != "/" {
		t = mp + strings.TrimSuffix(t, "/") // absolute inside the storage is below the mount for the user
	}
	return t, nil
}

// Space tells the room in the directory: the least of disk and quotas.
// fault.Unsupported when neither the storage nor a quota knows.
func (s *Session) Space(ctx context.Context, name string) (vfs.Space, error) {
	p, err := s.authorize(opSpace, name)
	if err != nil {
		return vfs.Space{}, err
	}
	sp, known := vfs.Space{}, false
	if x, ok := p.fs.(vfs.Spacer); ok {
		if sp, err = x.Space(ctx, p.rel); err != nil {
			return vfs.Space{}, p.fail("space", err)
		}
		known = true
	}
	scopes := [2]*limits.Scope{p.v.user}
	if p.fs != nil {
		scopes[1] = p.v.scope(p.mount)
	}
	for _, sc := range scopes {
		u, err := sc.Usage(ctx)
		if err != nil {
			return vfs.Space{}, fault.Wrap("space", p.name, err)
		}
		if u.MaxBytes <= 0 {
			continue
		}
		room := max(0, u.MaxBytes-u.UsedBytes)
		if !known || room < sp.Free {
			sp.Free = room
		}
		if !known || u.MaxBytes < sp.Total {
			sp.Total = u.MaxBytes
		}
		known = true
	}
	if !known {
		return vfs.Space{}, fault.New(fault.Unsupported, "space", p.name, errors.New("this storage does not know its size"))
	}
	return sp, nil
}

// accessMode is the part of OpenHandle's flag that says read, write or both.
const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
