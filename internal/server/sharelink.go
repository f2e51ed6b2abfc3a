package server

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// shareLink joins the old and the new process of an upgrade for as long as the
// old one has sessions. Both have sessions whose protected data connections
// arrive on the one shared port. The new process accepts them all; those whose
// ticket is not of its own sessions go to the old one over this socket, as
// descriptors, with the bytes that were read. What the old one accepted before
// it let go comes back the same way. So a client of either notices nothing.
type shareLink struct {
	c      *net.UnixConn
	shared *ftp.SharedPort
	log    *slog.Logger
	next   func() ftp.PassFunc // where connections go that are not ours either; may return nil

	mu sync.Mutex // one writer
}

// The first byte of a message.
const (
	linkUp      = 'U' // the new process accepts on the shared port, too
	linkServing = 'S' // and has taken over: the old one is to leave the port to it
	linkTry     = 'T' // a connection: take it if its ticket is yours, or send it back
	linkFinal   = 'F' // a connection: yours, whatever it is
)

// linkLimit bounds a message; a TLS hello is smaller than a record and a half.
const linkLimit = 32 << 10

// newLinkPair makes both ends; the other one is for the new process.
func newLinkPair() (own *net.UnixConn, other *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket for the new process: %w", err)
	}
	other = os.NewFile(uintptr(fds[1]), "link")
	own, err = linkOf(os.NewFile(uintptr(fds[0]), "link"))
	if err != nil {
		other.Close()
	}
	return own, other, err
}

// linkOf takes over an end that came as a file.
func linkOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the socket to the other process cannot be used: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("the socket to the other process is a %T", c)
	}
	return u, nil
}

// pass sends a connection to the other process; see ftp.PassFunc.
func (l *shareLink) pass(nc net.Conn, read []byte, final bool) bool {
	t, ok := nc.(*net.TCPConn)
	if !ok || len(read) > linkLimit-1 {
		return false
	}
	fd, err := duplicate(t)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	kind := byte(linkTry)
	if final {
		kind = linkFinal
	}
	if l.send(append([]byte{kind}, read...), syscall.UnixRights(fd)) != nil {
		return false
	}
	t.Close() // the copy lives on over there
	return true
}

func (l *shareLink) send(msg, rights []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _, err := l.c.WriteMsgUnix(msg, rights, nil)
	return err
}

// run adopts what comes until the other process ends. told is called with
// linkUp and linkServing.
func (l *shareLink) run(told func(byte)) {
	buf, oob := make([]byte, linkLimit), make([]byte, syscall.CmsgSpace(4))
	for {
		n, oobn, _, _, err := l.c.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		if buf[0] != linkTry && buf[0] != linkFinal {
			told(buf[0])
			continue
		}
		nc, err := received(oob[:oobn])
		if err != nil {
			l.log.Error("a data connection was lost between two processes", "err", err)
			continue
		}
		back := l.next()
		if buf[0] == linkTry {
			back = func(nc net.Conn, read []byte, _ bool) bool { return l.pass(nc, read, true) }
		}
		l.shared.Adopt(nc, append([]byte(nil), buf[1:n]...), back)
	}
}

// received is the connection that came with a message.
func received(oob []byte) (net.Conn, error) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("no descriptor came: %v", err)
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("no descriptor came: %v", err)
	}
	syscall.CloseOnExec(fds[0])
	f := os.NewFile(uintptr(fds[0]), "data connection")
	defer f.Close()
	return net.FileConn(f)
}

// linkBefore begins to serve the shared port together with the process before
// this one, once this one serves.
func (s *Server) linkBefore() {
	if s.shared == nil || s.came == nil {
		return
	}
	defer s.serveShared()
	if s.came.link == nil {
		return
	}
	c, err := linkOf(s.came.link)
	if err != nil {
		s.log.Error("sessions of the old process lose the shared data port", "err", err)
		return
	}
	l := &shareLink{c: c, shared: s.shared, log: s.log, next: func() ftp.PassFunc { return nil }}
	s.mu.Lock()
	s.before = l
	s.mu.Unlock()
	s.shared.SetPass(l.pass)
	s.bg.Go(func() {
		defer c.Close()
		l.run(func(byte) {})
		s.mu.Lock()
		s.before = nil
		if s.after == nil {
			s.shared.SetPass(nil)
		}
		s.mu.Unlock()
	})
	l.tell(linkUp)
}

// linkTaken tells the old process to leave the shared port to this one.
func (s *Server) linkTaken() {
	s.mu.Lock()
	l := s.before
	s.mu.Unlock()
	if l != nil {
		l.tell(linkServing)
	}
}

func (l *shareLink) tell(what byte) {
	if err := l.send([]byte{what}, nil); err != nil {
		l.log.Error("the old process does not hear that the shared data port is served", "err", err)
	}
}

// linkAfter passes what comes on the shared port on to the process after this
// one, as soon as that accepts there; until then this one goes on accepting.
func (s *Server) linkAfter(c *net.UnixConn) {
	l := &shareLink{c: c, shared: s.shared, log: s.log, next: func() ftp.PassFunc {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.before == nil { // a process may have been replaced twice within one drain
			return nil
		}
		return s.before.pass
	}}
	s.mu.Lock()
	s.after = l
	s.mu.Unlock()
	s.bg.Go(func() {
		defer c.Close()
		l.run(func(what byte) {
			s.shared.SetPass(l.pass)
			if what == linkServing {
				s.shared.Retire()
			}
		})
		s.mu.Lock() // it did not come up, or this one ends
		s.after = nil
		s.mu.Unlock()
		s.shared.SetPass(l.next())
	})
}

// unlink ends the links; the other processes notice.
func (s *Server) unlink() {
	for _, l := range []*shareLink{s.before, s.after} {
		if l != nil {
			l.c.Close()
		}
	}
}
