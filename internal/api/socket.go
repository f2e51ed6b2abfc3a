package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// maxSocketPath is what fits into sockaddr_un on Linux, less the final NUL.
const maxSocketPath = 107

// Listen makes the unix socket of the API at path, readable and writable by
// its owner alone. A socket that a crashed server left is replaced; the caller
// holds the lock of the data directory, so that it cannot be a live one's.
// Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	// The socket gets its mode under another name and appears by a rename:
	// between bind and chmod anybody could connect.
	tmp := path + "." + strconv.Itoa(os.Getpid())
	os.Remove(tmp)
	bind, done, err := shorten(tmp)
	if err != nil {
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	defer done()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: bind, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the control socket %s: %w; set admin.socket to another place if the directory cannot hold sockets", path, cause(err))
	}
	ln.SetUnlinkOnClose(false) // its name is about to change
	if err = os.Chmod(tmp, 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		ln.Close()
		os.Remove(tmp)
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	return &socket{UnixListener: ln, path: path, made: st}, nil
}

// socket removes its file when it closes, unless another server's has taken the name.
type socket struct {
	*net.UnixListener
	path string
	made os.FileInfo
	once sync.Once
}

func (s *socket) Close() error {
	s.once.Do(func() {
		if st, err := os.Lstat(s.path); err == nil && os.SameFile(st, s.made) {
			os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}

// shorten returns a name for path that fits into a socket address: through
// /proc when the path itself is too long. done must be called after its use.
func shorten(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// Probe tells whether a server answers at the socket. ErrNotRunning when none
// does; an error of kind fault.Denied when the caller may not ask.
func Probe(ctx context.Context, path string) error {
	c, err := dial(ctx, path)
	if err != nil {
		return reach(path, err)
	}
	return c.Close()
}

// cause strips the wrapping of a net.OpError, whose text repeats the path.
func cause(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
