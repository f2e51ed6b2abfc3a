package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/events"
)

// An upgrade puts a new process in the place of this one without closing a
// port: the new process inherits the listening sockets and the lock of the data
// directory, and says when it serves. This one then stops accepting and stays
// until its sessions have ended, at most the time of the drain setting.
// Connections that wait in a socket's queue go to whichever process accepts
// them; none is lost. Both use the same database for that while.

// handoverEnv tells the new process what it inherits: the process it must be
// the child of, the number of sockets from descriptor 3 on, the descriptors of
// the lock and of the pipe on which it reports, and, where data connections
// share a port, that of the socket over which the two processes exchange them.
const handoverEnv = "PORTREEVE_HANDOVER"

// handoverTime is how long a new process may take until it serves.
const handoverTime = time.Minute

// handover is what a process got from the one before it.
type handover struct {
	sockets int
	lock    *os.File
	report  *os.File
	link    *os.File // nil: no shared data port
}

// takeHandover reads the environment, once; nil without a handover.
func takeHandover() (*handover, error) {
	text, ok := os.LookupEnv(handoverEnv)
	if !ok {
		return nil, nil
	}
	os.Unsetenv(handoverEnv)
	var n [5]int
	parts := strings.Split(text, ":")
	if len(parts) != len(n) && len(parts) != len(n)-1 {
		return nil, fmt.Errorf("%s=%q cannot be read; it is set by a running server alone", handoverEnv, text)
	}
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || v > 1<<22 {
			return nil, fmt.Errorf("%s=%q cannot be read; it is set by a running server alone", handoverEnv, text)
		}
		n[i] = v
	}
	if n[0] != os.Getppid() {
		return nil, nil // inherited by somebody it was not meant for, or the old server died
	}
	for fd := 3; fd <= max(n[3], n[4]); fd++ {
		syscall.CloseOnExec(fd)
	}
	h := &handover{sockets: n[1], lock: os.NewFile(uintptr(n[2]), lockName), report: os.NewFile(uintptr(n[3]), "handover")}
	if n[4] != 0 {
		h.link = os.NewFile(uintptr(n[4]), "link")
	}
	return h, nil
}

// ready tells the old process that this one serves.
func (h *handover) ready() {
	if h == nil || h.report == nil {
		return
	}
	h.report.WriteString("ready\n") // the old process is gone when this fails, and with it the need
	h.report.Close()
	h.report = nil
}

// ControlReady says that the control socket answers. A new process reports to
// the one it replaces only then, so that commands always find one of the two.
func (s *Server) ControlReady() { s.upOnce.Do(func() { close(s.controlUp) }) }

// takeOver tells the old process to let go.
func (s *Server) takeOver() {
	if len(s.opt.Services) > 0 {
		select {
		case <-s.controlUp:
		case <-s.stopping:
			return
		}
	}
	s.came.ready()
	s.linkTaken()
}

// Upgrade starts the program anew, from the file this one was started from,
// and hands the ports over when it serves. It returns the new process. This
// server then stops when its sessions have ended. On error nothing has changed.
func (s *Server) Upgrade(ctx context.Context) (pid int, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.mu.Lock()
	st := s.state
	s.mu.Unlock()
	switch {
	case st != running:
		return 0, errors.New("the server is not running, or stopping already")
	case s.handed.Load():
		return 0, errors.New("the ports were handed over before; this process waits for its last sessions")
	}
	s.audit.pause()
	s.hooks.Pause()
	s.tasks.Pause()
	pid, err = s.succeed(ctx)
	if err != nil {
		s.audit.resume()
		s.hooks.Resume()
		s.tasks.Resume()
		s.log.Error("upgrade failed; this process serves on", "err", err)
		return 0, err
	}
	s.handed.Store(true)
	s.log.Info("a new process has taken over; this one ends with its last session", "pid", pid, "within", s.Config().Drain.String())
	s.publish(events.Event{Kind: events.Stop, Detail: "handed over to process " + strconv.Itoa(pid)})
	notify("MAINPID=" + strconv.Itoa(pid))
	s.bg.Go(s.leave)
	return pid, nil
}

// succeed starts the new process and waits until it serves.
func (s *Server) succeed(ctx context.Context) (pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // the package manager has put a new file there
	files := []uintptr{0, 1, 2}
	var dups []int
	defer func() {
		for _, fd := range dups {
			syscall.Close(fd)
		}
	}()
	add := func(c syscall.Conn) error {
		fd, err := duplicate(c)
		if err == nil {
			dups = append(dups, fd)
			files = append(files, uintptr(fd))
		}
		return err
	}
	for _, ln := range s.listening() {
		if err := add(ln); err != nil {
			return 0, fmt.Errorf("cannot pass the socket %s on: %w", ln.Addr(), err)
		}
	}
	sockets := len(files) - 3
	if err := add(s.lock.f); err != nil {
		return 0, fmt.Errorf("cannot pass the lock of the data directory on: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if err := add(w); err != nil {
		w.Close()
		return 0, err
	}
	handed := fmt.Sprintf("%s=%d:%d:%d:%d", handoverEnv, os.Getpid(), sockets, 3+sockets, 4+sockets)
	var link *net.UnixConn
	if s.shared != nil {
		own, other, err := newLinkPair()
		if err != nil {
			return 0, err
		}
		defer other.Close()
		if link, err = own, add(other); err != nil {
			own.Close()
			return 0, err
		}
		handed += fmt.Sprintf(":%d", 5+sockets)
	}
	env := append(environ(), handed)
	if s.confined != nil {
		env = append(env, s.confined.Environ())
	}
	// Not os/exec: it would switch the sockets to blocking, for this process, too.
	pid, err = syscall.ForkExec(exe, append([]string{exe}, os.Args[1:]...), &syscall.ProcAttr{Env: env, Files: files})
	w.Close()
	for _, fd := range dups { // the pipe must end when the new process does
		syscall.Close(fd)
	}
	dups = nil
	if err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", exe, err)
	}
	if link != nil {
		s.linkAfter(link) // before the new process serves: it says so over the link
	}
	if err := await(ctx, r); err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		reap(pid)
		return 0, fmt.Errorf("the new process (%s) did not begin to serve: %w; its messages are in the log", exe, err)
	}
	go reap(pid) // ends with either of the two processes
	return pid, nil
}

func await(ctx context.Context, r *os.File) error {
	r.SetReadDeadline(time.Now().Add(handoverTime))
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })
	defer stop()
	b, err := io.ReadAll(r)
	switch {
	case string(b) == "ready\n":
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it was not ready within %v", handoverTime)
	case err != nil:
		return err
	}
	return errors.New("it ended")
}

func reap(pid int) {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// environ is the environment without what was meant for this process alone.
func environ() []string {
	var out []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", handoverEnv:
			continue
		}
		out = append(out, kv)
	}
	return out
}

// duplicate returns a copy of a descriptor; the flags of the original stay.
func duplicate(c syscall.Conn) (fd int, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var errno syscall.Errno
	cerr := rc.Control(func(old uintptr) {
		var n uintptr
		n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 3)
		fd = int(n)
	})
	if cerr != nil {
		return 0, cerr
	}
	if errno != 0 {
		return 0, errno
	}
	return fd, nil
}

// listening are the sockets a successor needs.
func (s *Server) listening() []*net.TCPListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lns []*net.TCPListener
	for _, so := range s.sockets {
		lns = append(lns, so.acc.ln)
	}
	if s.sharedLn != nil {
		lns = append(lns, s.sharedLn)
	}
	if s.adminLn != nil {
		lns = append(lns, s.adminLn)
	}
	if s.metricsLn != nil {
		lns = append(lns, s.metricsLn)
	}
	if s.acmeLn != nil {
		lns = append(lns, s.acmeLn)
	}
	return lns
}

// leave stops accepting, waits for the sessions and then stops.
func (s *Server) leave() {
	s.mu.Lock()
	for _, so := range s.sockets {
		so.acc.retire()
	}
	limit := s.cfg.Drain.Std()
	s.mu.Unlock()
	if s.adminLn != nil {
		s.adminLn.Close()
	}
	if s.metricsLn != nil {
		s.metricsLn.Close()
	}
	if s.acmeLn != nil {
		s.acmeStop() // renewals are the new process's
		s.acmeLn.Close()
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	quiet := 0
	for quiet < 20 { // what was accepted last may not be a session yet
		select {
		case <-s.stopping:
			return
		case <-end.C:
			s.log.Warn("sessions are cut, because the time to finish was over")
			quiet = 20
		case <-look.C:
			if quiet++; s.connections() > 0 {
				quiet = 0
			}
		}
	}
	s.Stop("replaced by a new process")
}

// connections counts what the fronts hold, in a TLS handshake or later.
func (s *Server) connections() int {
	n, _ := s.manager.Counts()
	return n
}
