// Package fault names what can go wrong in the terms every protocol shares.
// It owns the kinds and their classification; it does not own reply codes,
// which belong to each front.
package fault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Kind is the class of a failure. Fronts translate a kind into a reply code.
type Kind uint8

// The kinds, in the order of the table in docs/design/architecture.md.
const (
	None        Kind = iota // no error
	Internal                // a bug or something unforeseen
	Invalid                 // malformed argument or path
	NameRefused             // the name is not allowed by policy
	NotExist                // no such file or directory
	Exist                   // it exists already
	WrongType               // is, or is not, a directory; directory not empty
	Denied                  // the user has no right to do this
	Login                   // log-in needed or failed
	Quota                   // the account's quota is used up
	TooLarge                // over a size limit
	NoSpace                 // the disk is full
	Busy                    // locked or in use
	Limit                   // too many sessions, banned
	Range                   // bad restart offset
	Unsupported             // this storage cannot do it
	Canceled                // aborted or kicked
	Unavailable             // storage or database is down
	Stopping                // the server is shutting down
	kindCount
)

var names = [kindCount]string{"none", "internal", "invalid", "name-refused", "not-exist", "exist", "wrong-type", "denied",
	"login", "quota", "too-large", "no-space", "busy", "limit", "range", "unsupported", "canceled", "unavailable", "stopping"}

// String returns the kind's stable name, as used in logs, events and JSON.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "internal"
}

// Kinds returns every kind but None, for tests that walk all of them.
func Kinds() []Kind {
	ks := make([]Kind, 0, kindCount-1)
	for k := Internal; k < kindCount; k++ {
		ks = append(ks, k)
	}
	return ks
}

// Error is a classified failure. Path is the client-visible path, never one of the host.
type Error struct {
	Kind Kind
	Op   string
	Path string
	Err  error
}

// Error returns "op path: cause". It is meant for logs, not for clients.
func (e *Error) Error() string {
	s := e.Op
	if e.Path != "" {
		s += " " + e.Path
	}
	if s != "" {
		s += ": "
	}
	if e.Err != nil {
		return s + e.Err.Error()
	}
	return s + e.Kind.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is keeps errors.Is(err, fs.ErrNotExist) and friends working for bare kinds.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Kind == NotExist
	case fs.ErrExist:
		return e.Kind == Exist
	case fs.ErrPermission:
		return e.Kind == Denied
	}
	return false
}

// New returns a classified error. err may be nil.
func New(k Kind, op, path string, err error) error {
	return &Error{Kind: k, Op: op, Path: path, Err: err}
}

// Text returns a classified error whose cause is the given sentence.
func Text(k Kind, text string) error { return &Error{Kind: k, Err: errors.New(text)} }

// Wrap classifies err by KindOf and records what was being done; nil stays nil.
func Wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Op: op, Path: path, Err: err}
}

var errnoKinds = map[syscall.Errno]Kind{
	syscall.ENOENT: NotExist, syscall.EEXIST: Exist, syscall.ENOTEMPTY: WrongType, syscall.ENOTDIR: WrongType, syscall.EISDIR: WrongType,
	syscall.EACCES: Denied, syscall.EPERM: Denied, syscall.EROFS: Denied, syscall.ELOOP: Denied,
	syscall.ENOSPC: NoSpace, syscall.EDQUOT: Quota, syscall.EFBIG: TooLarge,
	syscall.EBUSY: Busy, syscall.ETXTBSY: Busy, syscall.EAGAIN: Busy,
	syscall.ENAMETOOLONG: NameRefused, syscall.EILSEQ: NameRefused, syscall.EINVAL: Invalid,
	syscall.ENOSYS: Unsupported, syscall.EOPNOTSUPP: Unsupported, syscall.EXDEV: Unsupported,
	syscall.EMFILE: Unavailable, syscall.ENFILE: Unavailable, syscall.EIO: Unavailable, syscall.ESTALE: Unavailable,
	syscall.ENOTCONN: Unavailable, syscall.ECONNABORTED: Unavailable, // a network file system whose server has gone
	syscall.ECONNRESET: Canceled, syscall.EPIPE: Canceled,
}

// KindOf classifies any error: a *Error by its kind, then io/fs, context,
// network and system errors. nil is None; what it does not know is Internal.
func KindOf(err error) Kind {
	if err == nil {
		return None
	}
	var fe *Error
	if errors.As(err, &fe) {
		return fe.Kind
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		if k, ok := errnoKinds[no]; ok {
			return k
		}
	}
	var ne net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NotExist
	case errors.Is(err, fs.ErrExist):
		return Exist
	case errors.Is(err, fs.ErrPermission):
		return Denied
	case errors.Is(err, fs.ErrInvalid):
		return Invalid
	case errors.Is(err, errors.ErrUnsupported):
		return Unsupported
	case errors.Is(err, context.Canceled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Unavailable
	case errors.As(err, &ne):
		// A bare Errno is a net.Error by its methods, also one from a disk.
		if _, bare := ne.(syscall.Errno); !bare {
			return Canceled
		}
	}
	return Internal
}
