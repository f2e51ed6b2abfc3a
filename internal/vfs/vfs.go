// Package vfs owns the storage contract, the rules for path names and the
// table of mounts. It does not own any storage: localfs, memfs and others do.
package vfs

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// FS is what a storage must be able to do. Names are clean absolute slash
// paths inside this FS ("/" is its root), checked by Clean before they arrive.
// All methods may be called concurrently. Errors are classified by
// fault.KindOf: NotExist, Exist, WrongType, Denied, NameRefused, NoSpace,
// Quota, Busy, Unsupported, Unavailable, Canceled.
type FS interface {
	// Stat follows a symbolic link that stays inside the FS; a link that
	// leaves it or dangles is described as the link itself.
	Stat(ctx context.Context, name string) (Info, error)
	// List streams the entries of a directory in storage order, without "."
	// and "..". The caller may stop early. A failure ends the sequence. See
	// Passing for how long a Name is good.
	List(ctx context.Context, name string) iter.Seq2[Info, error]
	// Open opens a regular file for reading at offset (bytes).
	// An offset past the end is fault.Range.
	Open(ctx context.Context, name string, offset int64) (Reader, error)
	// Create opens a regular file for writing. Nothing is visible before
	// Commit when o.Upload is Atomic.
	Create(ctx context.Context, name string, o CreateOptions) (Writer, error)
	Mkdir(ctx context.Context, name string, perm fs.FileMode) error
	// Remove removes a file, a link or an empty directory.
	Remove(ctx context.Context, name string) error
	// Rename moves a file or directory; with replace an existing file gives way.
	Rename(ctx context.Context, from, to string, replace bool) error
}

type passing struct{}

// Passing returns a context for FS.List whose caller is done with each Info, or
// has cloned its Name, before it asks for the next one. The Name may then lie in
// a buffer that is used again: without this a listing allocates for each entry.
func Passing(ctx context.Context) context.Context { return context.WithValue(ctx, passing{}, true) }

// IsPassing reports whether ctx is one of Passing.
func IsPassing(ctx context.Context) bool { return ctx.Value(passing{}) != nil }

// Info describes one file. It is a plain value so that listings allocate little.
type Info struct {
	Name    string // last component; "/" for the root
	Size    int64  // bytes
	Mode    fs.FileMode
	ModTime time.Time
	UID     uint32
	GID     uint32
	Links   uint32
	Dev     uint64 // with Inode: identity of the file, 0 when the storage has none
	Inode   uint64
	Target  string // of a symbolic link, only where it may be shown
}

// IsDir reports whether the entry is a directory.
func (i Info) IsDir() bool { return i.Mode.IsDir() }

// Upload says when an upload becomes visible under its name.
type Upload uint8

const (
	// Atomic writes to a hidden name in the same directory and renames on Commit.
	Atomic Upload = iota
	// Visible writes in place, as classic FTP servers do.
	Visible
	// AtomicResume is Atomic, but the hidden file survives a failure and a
	// later Create of the same name by the same owner may continue it.
	AtomicResume
)

// CreateOptions says how a file is opened for writing.
type CreateOptions struct {
	Exclusive bool        // fault.Exist when the name exists (STOU, upload without the right to overwrite)
	Append    bool        // continue at the end of the existing file; creates it when missing
	Offset    int64       // > 0: keep the bytes before it and continue there (REST); past the end is fault.Range
	Upload    Upload      // ignored (Visible) with Append or Offset > 0
	Size      int64       // size hint in bytes, 0 when unknown (ALLO)
	Keep      bool        // keep what arrived when Abort is called (resumable partial)
	Owner     string      // account name, part of the stable temporary name of AtomicResume
	Perm      fs.FileMode // permission bits of a new file before umask; 0 means 0o666
	Sync      bool        // make data and directory entry durable in Commit
}

// Reader is an open file being read. Readers may also offer
// interface{ OSFile() *os.File }, io.Seeker and io.ReaderAt.
type Reader interface {
	io.Reader
	io.Closer
}

// Writer is an open upload. Exactly one of Commit and Abort ends it; both
// release everything. Writers may also offer interface{ OSFile() *os.File }
// and io.WriterAt. After Commit fails nothing is left open.
type Writer interface {
	io.Writer
	Commit(ctx context.Context) error
	// Abort discards the upload or keeps the partial, as CreateOptions.Keep says.
	Abort(cause error) error
}

// Linker is the ability to read and make symbolic links. Targets are paths
// inside the FS; a target that would leave it is fault.Denied.
type Linker interface {
	Symlink(ctx context.Context, target, name string) error
	Readlink(ctx context.Context, name string) (string, error)
}

// Attr is a set of attributes to change; nil fields stay as they are.
type Attr struct {
	Mode    *fs.FileMode // permission bits only (0o777)
	ModTime *time.Time
	ATime   *time.Time
	Size    *int64 // truncate or extend
}

// AttrSetter is the ability to change attributes.
type AttrSetter interface {
	SetAttr(ctx context.Context, name string, a Attr) error
}

// RandomAccess is the ability to hold a file open for reads and writes at any
// offset (SFTP). flag is a subset of os.O_RDONLY/O_WRONLY/O_RDWR/O_CREATE/O_EXCL/O_TRUNC.
type RandomAccess interface {
	OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (Handle, error)
}

// Handle is an open random-access file.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (Info, error)
	Truncate(size int64) error
	Sync() error
}

// Copier copies a file inside the storage without moving bytes through us.
type Copier interface {
	Copy(ctx context.Context, from, to string, o CreateOptions) (int64, error)
}

// Space is free and total room in bytes, as seen by the user.
type Space struct{ Free, Total int64 }

// Spacer tells the room left in the directory.
type Spacer interface {
	Space(ctx context.Context, name string) (Space, error)
}

// Lstater describes a name without following a final symbolic link.
type Lstater interface {
	Lstat(ctx context.Context, name string) (Info, error)
}

// Resolver is the ability to tell where a name leads through symbolic links.
type Resolver interface {
	// Resolve returns the clean name without links that name stands for; the
	// last component is followed only if last is set. What does not exist yet
	// is kept as it is. A link that leaves the FS, or a loop, is fault.Denied.
	Resolve(ctx context.Context, name string, last bool) (string, error)
}

// HardLinker is the ability to make hard links.
type HardLinker interface {
	Link(ctx context.Context, from, to string) error
}

// Partials is the ability to tell what AtomicResume kept of an upload that
// failed, so that a client that asks for the size can continue it.
type Partials interface {
	// Partial returns the bytes kept for name by owner; fault.NotExist when there is nothing.
	Partial(ctx context.Context, name, owner string) (int64, error)
}

// Withdrawer is the ability of a Writer to take back a hidden upload while it
// runs, for a user who removes the name before it appears.
type Withdrawer interface {
	// Withdraw removes the hidden file at once and reports whether there was
	// one; Commit then fails with fault.NotExist. Another goroutine may write at
	// the same time, but Commit and Abort must not have begun.
	Withdraw() bool
}

// Sweeper is the ability to remove what broken uploads left behind.
type Sweeper interface {
	// Sweep removes hidden files that nobody writes and that have been still
	// for longer than age, and returns how many it removed.
	Sweep(ctx context.Context, age time.Duration) (int, error)
}

// OSFile returns the operating system's file behind x, or nil when bytes must
// pass through us. The transfer path needs it for sendfile and splice.
func OSFile(x any) *os.File {
	if o, ok := x.(interface{ OSFile() *os.File }); ok {
		return o.OSFile()
	}
	return nil
}
