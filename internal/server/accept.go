package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/limits"
)

const (
	spareFiles      = 64 // descriptors kept for the database, logs and running transfers
	tcpUserTimeout  = 18 // TCP_USER_TIMEOUT of linux/tcp.h; package syscall lacks it
	userTimeout     = 120 * time.Second
	acceptDelayMin  = 5 * time.Millisecond
	acceptDelayMax  = time.Second
	maxProxyWaiting = 256 // connections whose PROXY header has not come yet, for each listener
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// acceptor is the control socket of one [[listen]] entry. It hands connections
// out through ready, their socket options set and their PROXY header, if one
// is due, taken off. It waits when descriptors run out and turns away
// connections that would use the spare ones.
type acceptor struct {
	ln    *net.TCPListener
	log   *slog.Logger
	limit int // descriptor numbers from here on are spare

	// shut tells addresses whose connections are dropped without a word; nil: none.
	shut    func(netip.Addr) (why string, drop bool)
	dropped atomic.Uint64 // by shut
	abroad  atomic.Uint64 // of those, for their country
	spared  atomic.Uint64 // turned away because descriptors ran short

	mu       sync.RWMutex
	implicit bool           // TLS from the first byte: a refusal cannot be said in the clear
	trusted  []netip.Prefix // proxies that must send a header; empty: none

	ready   chan net.Conn // connections whose header has been read
	closed  chan struct{}
	once    sync.Once
	readers sync.WaitGroup // of PROXY headers
	slots   chan struct{}
}

func newAcceptor(ln *net.TCPListener, log *slog.Logger) *acceptor {
	return &acceptor{
		ln: ln, log: log, limit: spareFrom(maxFiles()),
		ready: make(chan net.Conn), closed: make(chan struct{}), slots: make(chan struct{}, maxProxyWaiting),
	}
}

// Addr returns the bound address.
func (a *acceptor) Addr() net.Addr { return a.ln.Addr() }

// start begins to accept, on goroutines that wg waits for and Close ends.
func (a *acceptor) start(wg *sync.WaitGroup) {
	wg.Go(func() {
		a.run()
		a.readers.Wait()
	})
}

// Close closes the socket; connections that nobody has taken are closed, too.
func (a *acceptor) Close() {
	a.once.Do(func() {
		close(a.closed)
		a.ln.Close()
	})
}

// retire stops accepting in this process; another one has the socket, too. What
// was accepted is still handed out.
func (a *acceptor) retire() { a.ln.Close() }

// configure replaces what a reload may change.
func (a *acceptor) configure(implicit bool, trusted []netip.Prefix) {
	a.mu.Lock()
	a.implicit, a.trusted = implicit, trusted
	a.mu.Unlock()
}

func (a *acceptor) isTrusted(c *net.TCPConn) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if len(a.trusted) == 0 {
		return false
	}
	return containsAddr(a.trusted, addrOf(c.RemoteAddr()).Addr())
}

// run accepts until the socket is closed. One slow proxy must not keep other
// clients waiting, so headers are read on goroutines of their own.
func (a *acceptor) run() {
	for {
		c, err := a.next()
		if err != nil {
			return
		}
		if !a.isTrusted(c) {
			if !a.drop(addrOf(c.RemoteAddr()).Addr(), c) {
				a.hand(c, c)
			}
			continue
		}
		select {
		case a.slots <- struct{}{}:
		default:
			a.log.Warn("too many proxied connections wait for their PROXY header", "remote", c.RemoteAddr().String())
			c.Close()
			continue
		}
		a.readers.Go(func() {
			defer func() { <-a.slots }()
			stop := closeWhen(a.closed, c)
			pc, err := readProxy(c, proxyWait)
			stop()
			if err != nil {
				a.log.Warn("no usable PROXY header from a trusted proxy; switch the header on there, or take the address out of the listener's proxy networks",
					"remote", c.RemoteAddr().String(), "err", err)
				c.Close()
				return
			}
			if !a.drop(addrOf(pc.RemoteAddr()).Addr(), c) {
				a.hand(pc, c)
			}
		})
	}
}

// drop resets a connection that is not wanted, so that it leaves nothing behind
// here, not even a socket in TIME_WAIT.
func (a *acceptor) drop(from netip.Addr, c *net.TCPConn) bool {
	if a.shut == nil {
		return false
	}
	why, shut := a.shut(from)
	if !shut {
		return false
	}
	a.dropped.Add(1)
	if strings.HasPrefix(why, limits.Abroad) {
		a.abroad.Add(1)
	}
	a.log.Debug("connection dropped", "remote", from.String(), "why", why)
	c.SetLinger(0)
	c.Close()
	return true
}

func (a *acceptor) hand(c net.Conn, raw *net.TCPConn) {
	select {
	case a.ready <- c:
	case <-a.closed:
		raw.Close()
	}
}

// closeWhen closes c when done is closed, until the returned function is called.
func closeWhen(done <-chan struct{}, c net.Conn) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			c.Close()
		case <-ctx.Done():
		}
	}()
	return func() { cancel(); <-ended }
}

// next accepts one connection and sets its options.
func (a *acceptor) next() (*net.TCPConn, error) {
	var delay time.Duration
	for {
		c, err := a.ln.AcceptTCP()
		if err == nil {
			if a.tune(c) {
				return c, nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if delay == 0 {
			a.log.Error("cannot accept connections for the moment", "address", a.Addr().String(), "err", err)
		}
		delay = min(max(2*delay, acceptDelayMin), acceptDelayMax)
		select {
		case <-time.After(delay):
		case <-a.closed:
			return nil, net.ErrClosed
		}
	}
}

// tune sets keep-alive and the user timeout, so that a client that vanished is
// noticed. It refuses the connection when its descriptor is one of the spare
// ones: the kernel gives out the lowest free number, so the number alone tells
// how many are in use.
func (a *acceptor) tune(c *net.TCPConn) bool {
	c.SetKeepAliveConfig(keepAlive)
	spare := false
	if rc, err := c.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) {
			spare = int(fd) >= a.limit
			if runtime.GOOS == "linux" {
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout.Milliseconds()))
			}
		})
	}
	if !spare {
		return true
	}
	a.spared.Add(1)
	a.log.Error("out of file descriptors: a connection was turned away; raise the limit (LimitNOFILE in the unit, or ulimit -n)", "remote", c.RemoteAddr().String())
	a.mu.RLock()
	clear := !a.implicit
	a.mu.RUnlock()
	if clear {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		c.Write([]byte("421 The server has too many connections; try again in a minute.\r\n"))
	}
	c.Close()
	return false
}

// spareFrom is the first descriptor number that is kept for other things, the
// kept passive listeners among them. A process that may open very few files at
// all keeps a quarter of them.
func spareFrom(limit int) int { return limit - min(spareFiles+keptListeners(limit), limit/4) }

// keptListeners is how many idle passive listeners a pool may keep open. They
// save system calls; they must not use up what running transfers need.
func keptListeners(limit int) int { return max(min(256, limit/64), 1) }

// maxFiles raises the soft limit of open files to the hard one and returns it.
func maxFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return limitFromProc("/proc/self/limits") // a sandbox may forbid to ask
	}
	if l.Cur < l.Max {
		up := l
		up.Cur = l.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &up) == nil {
			l = up
		}
	}
	return int(min(l.Cur, 1<<30))
}

// limitFromProc reads the soft limit of open files, a huge number when unknown.
func limitFromProc(name string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return 1 << 30
	}
	_, after, _ := strings.Cut(string(b), "Max open files")
	if f := strings.Fields(after); len(f) > 0 {
		if n, err := strconv.Atoi(f[0]); err == nil {
			return n
		}
	}
	return 1 << 30
}

// fileBudget is how many control connections the descriptors allow: half of
// them, because the other half is for data connections and files.
func fileBudget() int { return max(spareFrom(maxFiles())/2, 1) }

// addrOf returns the address of a TCP endpoint with an IPv4-mapped one
// unmapped; the zero value for anything else.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func containsAddr(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
