package ftpd

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
)

// Session implements ftp.Session and all its abilities on a session.Session.
type Session struct {
	b *Backend
	c *ftp.Conn
	s *session.Session

	mu  sync.Mutex
	ids map[uint32]string // numbers as text: a listing repeats the same few
}

var (
	_ ftp.Session    = (*Session)(nil)
	_ ftp.Chmoder    = (*Session)(nil)
	_ ftp.TimeSetter = (*Session)(nil)
	_ ftp.Symlinker  = (*Session)(nil)
	_ ftp.Copier     = (*Session)(nil)
	_ ftp.Spacer     = (*Session)(nil)
	_ ftp.Usage      = (*Session)(nil)
	_ ftp.Diagnoser  = (*Session)(nil)

	_ ftp.Backend     = (*Backend)(nil)
	_ ftp.Admitter    = (*Backend)(nil)
	_ ftp.HostChecker = (*Backend)(nil)

	_ ftp.Source  = (*file)(nil)
	_ ftp.Sink    = (*file)(nil)
	_ ftp.OSFiler = (*file)(nil)
	_ ftp.Meter   = (*file)(nil)
)

func newSession(b *Backend, c *ftp.Conn, s *session.Session) *Session {
	return &Session{b: b, c: c, s: s, ids: map[uint32]string{}}
}

func (s *Session) fail(err error, op, name string) error {
	return s.b.refuse(err, phaseUser, op, name)
}

// Stat describes a file, following links. See ftp.Session.
func (s *Session) Stat(ctx context.Context, name string) (ftp.Info, error) {
	i, err := s.s.Stat(ctx, name)
	if err != nil {
		return ftp.Info{}, s.fail(err, "stat", name)
	}
	out := s.info(&i)
	out.Perm = permFact(s.s.Rights(name), i.Mode)
	return out, nil
}

// List streams a directory. The perm fact of files is computed once for the
// directory; sub-directories may have rules of their own and are looked up.
func (s *Session) List(ctx context.Context, name string) iter.Seq2[ftp.Info, error] {
	return func(yield func(ftp.Info, error) bool) {
		s.s.Note("LIST", name)
		defer s.s.Note("", "")
		file := permFact(s.s.Rights(name), 0)
		base := strings.TrimSuffix(name, "/") + "/"
		var last account.Rights
		dir := ""
		for i, err := range s.s.List(vfs.Passing(ctx), name) { // as ftp.Session has it
			if err != nil {
				yield(ftp.Info{}, s.fail(err, "list", name))
				return
			}
			out := s.info(&i)
			out.Perm = file
			if i.Mode.IsDir() {
				if r := s.s.Rights(base + i.Name); dir == "" || r != last {
					last, dir = r, permFact(r, i.Mode)
				}
				out.Perm = dir
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

func (s *Session) info(i *vfs.Info) ftp.Info {
	return ftp.Info{
		Name: i.Name, Size: i.Size, Mode: i.Mode, ModTime: i.ModTime,
		Owner: s.number(i.UID), Group: s.number(i.GID), Links: i.Links, Dev: i.Dev, Inode: i.Inode, Target: i.Target,
	}
}

// number returns a user or group as text. Names of the host's accounts are
// not shown: they are nobody's business outside and cost a look-up.
func (s *Session) number(id uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.ids[id]
	if !ok {
		t = strconv.FormatUint(uint64(id), 10)
		if len(s.ids) < 1024 {
			s.ids[id] = t
		}
	}
	return t
}

// Open opens a file for reading at offset. See ftp.Session.
func (s *Session) Open(ctx context.Context, name string, offset int64) (ftp.Source, error) {
	f, err := s.s.Open(ctx, name, offset)
	if err != nil {
		return nil, s.fail(err, "open", name)
	}
	s.s.Note("RETR", name)
	return &file{s: s, f: f, name: name}, nil
}

// Create opens a file for writing. See ftp.Session.
func (s *Session) Create(ctx context.Context, name string, o ftp.CreateOptions) (ftp.Sink, error) {
	f, err := s.s.Create(ctx, name, vfs.CreateOptions{Exclusive: o.Exclusive, Append: o.Append, Offset: o.Offset, Size: o.Size})
	if err != nil {
		return nil, s.fail(err, "create", name)
	}
	cmd := "STOR"
	if o.Append {
		cmd = "APPE"
	}
	s.s.Note(cmd, name)
	return &file{s: s, f: f, name: name}, nil
}

// Mkdir makes a directory. See ftp.Session.
func (s *Session) Mkdir(ctx context.Context, name string) error {
	return s.fail(s.s.Mkdir(ctx, name, 0o777), "mkdir", name)
}

// Remove removes a file or link. See ftp.Session.
func (s *Session) Remove(ctx context.Context, name string) error {
	return s.fail(s.s.Remove(ctx, name), "delete", name)
}

// Rmdir removes an empty directory. See ftp.Session.
func (s *Session) Rmdir(ctx context.Context, name string) error {
	return s.fail(s.s.Rmdir(ctx, name), "rmdir", name)
}

// Rename moves a file or directory. An existing file at the new name gives way,
// as rename(2) has it, where the user may overwrite. See ftp.Session.
func (s *Session) Rename(ctx context.Context, from, to string) error {
	return s.fail(s.s.Rename(ctx, from, to, true), "rename", to)
}

// Close ends the session. See ftp.Session.
func (s *Session) Close(cause error) { s.s.Close(ended(cause)) }

// Chmod changes permission bits. See ftp.Chmoder.
func (s *Session) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	mode &= 0o777
	return s.fail(s.s.SetAttr(ctx, name, vfs.Attr{Mode: &mode}), "chmod", name)
}

// SetTimes changes times. Storages keep no settable creation time, so a
// request for that alone is fault.Unsupported. See ftp.TimeSetter.
func (s *Session) SetTimes(ctx context.Context, name string, modified, created *time.Time) error {
	if modified == nil {
		if created == nil {
			return nil
		}
		return s.fail(fault.New(fault.Unsupported, "set creation time", name, nil), "times", name)
	}
	return s.fail(s.s.SetAttr(ctx, name, vfs.Attr{ModTime: modified}), "times", name)
}

// Symlink makes a symbolic link. See ftp.Symlinker.
func (s *Session) Symlink(ctx context.Context, target, name string) error {
	return s.fail(s.s.Symlink(ctx, target, name), "symlink", name)
}

// Copy copies a file on the server. See ftp.Copier.
func (s *Session) Copy(ctx context.Context, from, to string) error {
	_, err := s.s.Copy(ctx, from, to)
	return s.fail(err, "copy", to)
}

// Space tells the bytes the user may still store. See ftp.Spacer.
func (s *Session) Space(ctx context.Context, name string) (int64, error) {
	sp, err := s.s.Space(ctx, name)
	return sp.Free, s.fail(err, "space", name)
}

// Usage tells quota use. See ftp.Usage.
func (s *Session) Usage(ctx context.Context) (usedBytes, maxBytes, usedFiles, maxFiles int64, err error) {
	u, err := s.s.Usage(ctx)
	return u.UsedBytes, u.MaxBytes, u.UsedFiles, u.MaxFiles, s.fail(err, "usage", "")
}

// Diagnose tells the client what the server saw of its data connections. See ftp.Diagnoser.
func (s *Session) Diagnose(ctx context.Context, c *ftp.Conn) ([]string, error) {
	if s.b.opt.Diagnose == nil {
		return nil, s.fail(fault.New(fault.Unsupported, "diagnose", "", nil), "diagnose", "")
	}
	return s.b.opt.Diagnose(ctx, c), nil
}

// file implements ftp.Source and ftp.Sink, ftp.OSFiler and ftp.Meter. It hides
// neither the operating system's file nor the meter, which would cost the
// kernel's short way between file and socket.
type file struct {
	s    *Session
	f    *session.File
	name string
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.f.Read(p)
	if err != nil && err != io.EOF {
		err = f.s.fail(err, "read", f.name)
	}
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	return n, f.s.fail(err, "write", f.name)
}

// OSFile returns the file itself, nil when bytes must pass through us. See ftp.OSFiler.
func (f *file) OSFile() *os.File { return f.f.OSFile() }

// Size tells the bytes left to send. See ftp.Sizer.
func (f *file) Size() int64 {
	if n := f.f.Size(); n > 0 || f.f.OSFile() != nil {
		return n
	}
	return -1
}

// Grant waits for pace and checks quota. See ftp.Meter.
func (f *file) Grant(ctx context.Context, max int64) (int64, error) {
	n, err := f.f.Grant(ctx, max)
	if err != nil {
		return n, f.s.fail(err, "transfer", f.name)
	}
	return n, nil
}

// Moved accounts for bytes the engine moved. See ftp.Meter.
func (f *file) Moved(n int64) { f.f.Moved(n) }

// Commit makes an upload visible. See ftp.Sink.
func (f *file) Commit(ctx context.Context) error {
	err := f.f.Commit(ctx)
	if err != nil && ctx.Err() != nil && fault.KindOf(err) == fault.Internal { // ABOR, or the end of the session
		err = ended(context.Cause(ctx))
	}
	return f.s.fail(err, "commit", f.name)
}

// Close ends the transfer. See ftp.Source.
func (f *file) Close(cause error) error {
	f.s.s.Note("", "")
	return f.s.fail(f.f.Close(ended(cause)), "close", f.name)
}
