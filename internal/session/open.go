package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Open opens a regular file for reading at offset.
func (s *Session) Open(ctx context.Context, name string, offset int64) (*File, error) {
	f, err := s.openFile(ctx, name, offset, events.Download)
	if err != nil {
		err = s.tell(ctx, events.Download, name, "", s.m.conf.Now(), 0, err)
	}
	return f, err
}

func (s *Session) openFile(ctx context.Context, name string, offset int64, k events.Kind) (*File, error) {
	p, err := s.authorize(opDownload, name)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fault.New(fault.Range, "download", p.name, errors.New("negative offset"))
	}
	if err := p.file(opDownload); err != nil {
		return nil, err
	}
	if p.fs == nil || p.v.mounts.Virtual(p.name) {
		return nil, s.notFile(&p, "download")
	}
	if k == events.Download {
		if err := s.ask(ctx, k, &p, nil); err != nil {
			return nil, err
		}
	}
	r, err := p.fs.Open(ctx, p.rel, offset)
	if err != nil {
		return nil, p.fail("download", err)
	}
	f := &File{s: s, place: p, name: p.name, kind: k, r: r, os: vfs.OSFile(r), local: k != events.Download}
	f.size = sizeOf(r, f.os, offset)
	return f, s.add(f)
}

// notFile is the error for a path that leads to a mount or to nothing.
func (s *Session) notFile(p *place, op string) error {
	if p.v.mounts.Virtual(p.name) {
		return fault.New(fault.WrongType, op, p.name, errors.New("it is a directory"))
	}
	return fault.New(fault.NotExist, op, p.name, nil)
}

// sizeOf tells how much is left to send, 0 when the storage does not say. It
// asks the open file, never the name again.
func sizeOf(r any, f *os.File, offset int64) int64 {
	switch x := r.(type) {
	case interface{ Size() int64 }:
		return max(0, x.Size()-offset)
	case interface{ Stat() (vfs.Info, error) }:
		if i, err := x.Stat(); err == nil {
			return max(0, i.Size-offset)
		}
	}
	if f != nil {
		if i, err := f.Stat(); err == nil {
			return max(0, i.Size()-offset)
		}
	}
	return 0
}

// Create opens a file for writing. A new name needs the right Upload; an
// existing file Append when it is continued (o.Append, o.Offset), else
// Overwrite. o.Upload, Keep, Sync and Owner are the server's to decide and
// replaced. A size hint beyond the quota is fault.Quota at once.
func (s *Session) Create(ctx context.Context, name string, o vfs.CreateOptions) (*File, error) {
	f, err := s.create(ctx, name, o, events.Upload, place.charge0)
	if err != nil {
		err = s.tell(ctx, events.Upload, name, "", s.m.conf.Now(), 0, err)
	}
	return f, err
}

func (p place) charge0() *limits.Charge { return p.charge() }

func (s *Session) create(ctx context.Context, name string, o vfs.CreateOptions, k events.Kind, charge func(place) *limits.Charge) (*File, error) {
	p, err := s.authorize(opCreate, name)
	if err != nil {
		return nil, err
	}
	if err := p.file(opCreate); err != nil {
		return nil, err
	}
	if p.v.mounts.Virtual(p.name) {
		return nil, s.notFile(&p, "upload")
	}
	if o.Offset < 0 {
		return nil, fault.New(fault.Range, "upload", p.name, errors.New("negative offset"))
	}
	if err := s.writable(ctx, &p, &o); err != nil {
		return nil, err
	}
	if k == events.Upload {
		if err := s.ask(ctx, k, &p, nil); err != nil {
			return nil, err
		}
	}
	o.Upload, o.Keep, o.Sync, o.Owner = s.m.conf.Upload, s.m.conf.KeepPartial, s.m.conf.Sync, s.user
	o.Perm = o.Perm.Perm()
	f := &File{s: s, place: p, name: p.name, kind: k, up: true, charge: charge(p), local: k != events.Upload}
	f.track = f.charge != nil || k == events.Rename && p.v.user != nil
	inPlace := o.Append || o.Offset > 0 || o.Upload == vfs.Visible
	if err := f.reserve(ctx, &o, inPlace); err != nil {
		return nil, p.fail("upload", err)
	}
	f.w, err = p.fs.Create(ctx, p.rel, o)
	if err != nil {
		f.settle(ctx)
		return nil, p.fail("upload", err)
	}
	f.os = vfs.OSFile(f.w)
	return f, s.add(f)
}

// writable decides by what is there which right the upload needs.
func (s *Session) writable(ctx context.Context, p *place, o *vfs.CreateOptions) error {
	const every = account.Upload | account.Overwrite | account.Append
	have := p.rights()
	if have&every == every {
		return nil // nothing to find out; the storage refuses a directory by itself
	}
	i, err := p.fs.Stat(ctx, p.rel)
	switch {
	case err == nil && i.IsDir():
		return fault.New(fault.WrongType, "upload", p.name, errors.New("it is a directory"))
	case err == nil && o.Exclusive:
		return fault.New(fault.Exist, "upload", p.name, nil)
	case err == nil && (o.Append || o.Offset > 0):
		return p.may(opAppend)
	case err == nil:
		return p.may(opOverwrite)
	case fault.KindOf(err) != fault.NotExist:
		return p.fail("upload", err)
	}
	if err := p.may(opUpload); err != nil {
		return err
	}
	// Somebody may create the file before we do; the storage then refuses.
	switch {
	case o.Append && have&account.Append == 0:
		o.Append, o.Exclusive = false, true
	case !o.Append && o.Offset == 0 && have&account.Overwrite == 0:
		o.Exclusive = true
	case o.Offset > 0 && have&account.Append == 0:
		o.Exclusive = true
	}
	return nil
}

// OpenHandle opens a file for reads and writes at any offset. flag is made of
// the os.O_ constants. Reading needs Download; a new file Upload; an existing
// file Overwrite, or Append if it is neither truncated nor written below its
// present end. What is written is visible at once.
func (s *Session) OpenHandle(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	k := events.Upload
	if flag&accessMode == os.O_RDONLY {
		k = events.Download
	}
	f, err := s.openHandle(ctx, name, flag, perm, k)
	if err != nil {
		err = s.tell(ctx, k, name, "", s.m.conf.Now(), 0, err)
	}
	return f, err
}

func (s *Session) openHandle(ctx context.Context, name string, flag int, perm fs.FileMode, k events.Kind) (*File, error) {
	writes := flag&accessMode != os.O_RDONLY
	first := opDownload
	if writes {
		first = opCreate
	} else {
		flag &^= os.O_CREATE | os.O_TRUNC | os.O_EXCL
	}
	p, err := s.authorize(first, name)
	if err != nil {
		return nil, err
	}
	if err := p.file(first); err != nil {
		return nil, err
	}
	if flag&accessMode == os.O_RDWR {
		if err := p.may(opDownload); err != nil {
			return nil, err
		}
	}
	if p.fs == nil || p.v.mounts.Virtual(p.name) {
		return nil, s.notFile(&p, rules[first].name)
	}
	ra, ok := p.fs.(vfs.RandomAccess)
	if !ok {
		return nil, fault.New(fault.Unsupported, "open", p.name, errors.New("this storage has no random access"))
	}
	f := &File{s: s, place: p, name: p.name, kind: k, up: writes, both: flag&accessMode == os.O_RDWR}
	if writes {
		if err := f.handleRights(ctx, &flag); err != nil {
			return nil, err
		}
		f.charge = p.charge()
		f.track = f.charge != nil
	}
	if err := s.ask(ctx, k, &p, nil); err != nil {
		return nil, err
	}
	if f.shows = f.shows && f.both && flag&os.O_TRUNC == 0; f.shows {
		// It is a download as well, of what others have put there.
		if err := s.ask(ctx, events.Download, &p, nil); err != nil {
			return nil, err
		}
	}
	if f.track {
		if err := f.reserve(ctx, &vfs.CreateOptions{}, true); err != nil {
			return nil, p.fail("upload", err)
		}
	}
	f.h, err = ra.OpenFile(ctx, p.rel, flag, perm.Perm())
	if err != nil {
		f.settle(ctx)
		return nil, p.fail("open", err)
	}
	i, err := f.h.Stat()
	if err != nil {
		f.h.Close()
		f.settle(ctx)
		return nil, p.fail("open", err)
	}
	f.end = i.Size
	if !writes {
		f.size = i.Size
	}
	return f, s.add(f)
}

// handleRights decides what an open for writing needs, and from where on it may write.
func (f *File) handleRights(ctx context.Context, flag *int) error {
	p := &f.place
	have := p.rights()
	i, err := p.fs.Stat(ctx, p.rel)
	f.shows = err == nil
	switch {
	case err == nil && i.IsDir():
		return fault.New(fault.WrongType, "open", p.name, errors.New("it is a directory"))
	case err == nil && *flag&os.O_CREATE != 0 && *flag&os.O_EXCL != 0:
		return fault.New(fault.Exist, "open", p.name, nil)
	case err == nil && have&account.Overwrite != 0:
		return nil
	case err == nil && *flag&os.O_TRUNC != 0:
		return p.may(opOverwrite)
	case err == nil:
		f.floor = i.Size
		return p.may(opAppend)
	case fault.KindOf(err) != fault.NotExist || *flag&os.O_CREATE == 0:
		return p.fail("open", err)
	}
	if have&account.Overwrite == 0 {
		*flag |= os.O_EXCL
	}
	return p.may(opUpload)
}

// reserve sets quota aside before anything is opened for writing.
func (f *File) reserve(ctx context.Context, o *vfs.CreateOptions, inPlace bool) (err error) {
	if !f.track {
		f.size = o.Size
		return nil
	}
	p := &f.place
	defer func() {
		if err != nil {
			f.settle(ctx)
		}
	}()
	exists := false
	if inPlace {
		if f.pinned, f.was, exists, err = f.s.pin(ctx, p); err != nil {
			return err
		}
		f.old = f.was
	} else if _, exists, err = p.size(ctx, true); err != nil {
		return err
	}
	switch {
	case o.Append:
		f.base = f.old
	case o.Offset > 0:
		f.base = o.Offset
	default:
		f.old = 0 // what is replaced counts until Commit
	}
	if !exists {
		if err := f.charge.Files(ctx, 1); err != nil {
			return err
		}
	}
	if hidden := o.Offset - f.old; o.Upload == vfs.AtomicResume && hidden > 0 {
		// What is continued may be a partial that was never charged.
		if _, err := f.charge.Take(ctx, hidden, hidden); err != nil {
			return err
		}
		f.old = o.Offset
	}
	f.size = o.Size
	if grow := f.base + o.Size - f.old; o.Size > 0 && grow > 0 {
		if _, err := f.charge.Take(ctx, grow, grow); err != nil {
			return fmt.Errorf("%d octets announced: %w", o.Size, err)
		}
		f.charge.Back(grow) // stays reserved for this upload
	}
	return nil
}
