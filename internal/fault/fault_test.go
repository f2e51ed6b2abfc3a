package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestKindOf(t *testing.T) {
	_, noFile := os.Open(t.TempDir() + "/none")
	tests := []struct {
		err  error
		want Kind
	}{
		{nil, None},
		{errors.New("what is this"), Internal},
		{Text(Quota, "all used"), Quota},
		{New(Busy, "create", "/f", nil), Busy},
		{fmt.Errorf("storing: %w", New(NoSpace, "write", "/f", syscall.ENOSPC)), NoSpace},
		{errors.Join(errors.New("first"), Text(Range, "second")), Range},
		// The kind that somebody chose beats the cause that it carries.
		{New(Denied, "open", "/f", syscall.ENOENT), Denied},
		{noFile, NotExist},
		{fs.ErrNotExist, NotExist},
		{fs.ErrExist, Exist},
		{fs.ErrPermission, Denied},
		{fs.ErrInvalid, Invalid},
		{errors.ErrUnsupported, Unsupported},
		{context.Canceled, Canceled},
		{context.DeadlineExceeded, Unavailable},
		{os.ErrDeadlineExceeded, Unavailable},
		{io.ErrUnexpectedEOF, Canceled},
		{net.ErrClosed, Canceled},
		{&net.OpError{Op: "read", Err: errors.New("reset by something odd")}, Canceled},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, Canceled},
		{&os.PathError{Op: "open", Path: "/f", Err: syscall.EMFILE}, Unavailable},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EXDEV}, Unsupported},
		{syscall.ENOTEMPTY, WrongType},
		{syscall.ENOTDIR, WrongType},
		{syscall.EISDIR, WrongType},
		{syscall.EACCES, Denied},
		{syscall.EROFS, Denied},
		{syscall.ELOOP, Denied},
		{syscall.EDQUOT, Quota},
		{syscall.EFBIG, TooLarge},
		{syscall.EAGAIN, Busy},
		{syscall.ENAMETOOLONG, NameRefused},
		{syscall.EIO, Unavailable},
		{syscall.EPIPE, Canceled},
		{syscall.E2BIG, Internal}, // not in the table
	}
	for _, tt := range tests {
		if got := KindOf(tt.err); got != tt.want {
			t.Errorf("KindOf(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestErrno(t *testing.T) {
	// What the table says must hold below any number of wrappers too.
	for no, want := range errnoKinds {
		err := fmt.Errorf("a: %w", fmt.Errorf("b: %w", &fs.PathError{Op: "x", Path: "/y", Err: no}))
		if got := KindOf(err); got != want {
			t.Errorf("KindOf(%v) = %v, want %v", no, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	if Wrap("open", "/f", nil) != nil {
		t.Error("nil does not stay nil")
	}
	err := Wrap("open", "/f", syscall.ENOENT)
	if KindOf(err) != NotExist || !errors.Is(err, syscall.ENOENT) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Wrap loses the cause: %v", err)
	}
	if got := KindOf(Wrap("copy", "/g", err)); got != NotExist {
		t.Errorf("wrapped twice it is %v", got)
	}
	var fe *Error
	if !errors.As(err, &fe) || fe.Op != "open" || fe.Path != "/f" {
		t.Errorf("Wrap gives %+v", fe)
	}
}

func TestIs(t *testing.T) {
	tests := []struct {
		kind   Kind
		target error
	}{{NotExist, fs.ErrNotExist}, {Exist, fs.ErrExist}, {Denied, fs.ErrPermission}}
	for _, k := range Kinds() {
		for _, tt := range tests {
			if got := errors.Is(New(k, "op", "/p", nil), tt.target); got != (k == tt.kind) {
				t.Errorf("errors.Is(%v, %v) = %v", k, tt.target, got)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{New(NotExist, "open", "/f", nil), "open /f: not-exist"},
		{New(Busy, "create", "/f", errors.New("in use")), "create /f: in use"},
		{New(Busy, "sweep", "", errors.New("in use")), "sweep: in use"},
		{Text(Quota, "nothing left"), "nothing left"},
		{Text(Quota, ""), ""},
		{&Error{Kind: Limit}, "limit"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestKinds(t *testing.T) {
	// The names are in logs and events: they are there, differ and do not change.
	want := []string{"internal", "invalid", "name-refused", "not-exist", "exist", "wrong-type", "denied", "login", "quota", "too-large",
		"no-space", "busy", "limit", "range", "unsupported", "canceled", "unavailable", "stopping"}
	ks := Kinds()
	if len(ks) != len(want) {
		t.Fatalf("%d kinds, want %d", len(ks), len(want))
	}
	for i, k := range ks {
		if k.String() != want[i] {
			t.Errorf("kind %d is called %q, want %q", k, k, want[i])
		}
	}
	if None.String() != "none" || Kind(200).String() != "internal" {
		t.Errorf("None is %q, an unknown kind %q", None, Kind(200))
	}
}
