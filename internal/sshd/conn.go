package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
)

// maxChannels is how many session channels a connection may have open.
const maxChannels = 10

var errStopping = fault.Text(fault.Stopping, stopText)

// conn is one SSH connection, from accept to its end.
type conn struct {
	s   *Server
	nc  *netConn
	log *slog.Logger

	g       *session.Guest
	session *session.Session
	ssh     *ssh.ServerConn
	ctx     context.Context // of the log-in, then of the session

	busy   atomic.Int64 // open files and running commands
	last   atomic.Int64 // time of the last request, Unix nanoseconds
	pinged atomic.Int64 // time of a keep-alive without an answer yet, 0: none

	mu       sync.Mutex
	channels map[ssh.Channel]struct{}
	noMore   bool // the client promised to open no further session
	over     bool
	cause    error // why it ended, when that was us
}

// run serves the connection. Nothing that goes wrong in it may hurt another.
func (c *conn) run() {
	defer c.nc.Close()
	var cause error
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("a connection was closed because of a bug; please report it", "remote", c.nc.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			cause = fault.New(fault.Internal, "session", "", fmt.Errorf("panic: %v", p))
		}
		if c.g != nil {
			c.g.Close(c.ended(cause))
		}
	}()
	deadline := time.Now().Add(c.s.opt.LoginTimeout)
	c.nc.SetDeadline(deadline)
	from := auth.Origin{Protocol: "sftp", Listener: c.s.opt.Listener, Remote: addrOf(c.nc.RemoteAddr()), Local: addrOf(c.nc.LocalAddr())}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	g, err := c.s.m.Connect(ctx, from)
	if err != nil {
		// RFC 4253 section 4.2 lets other lines come before the version.
		c.nc.SetWriteDeadline(time.Now().Add(2 * time.Second))
		c.nc.Write([]byte(fault.Sentence(answerTo(err).text) + "\r\n"))
		return
	}
	c.g, c.ctx = g, ctx
	g.OnKick(func(reason string) { c.goodbye(fault.Text(fault.Canceled, reason), reason) })
	if err := c.nc.door(deadline, c.s.opt.Ports); err != nil {
		cause = fault.New(fault.Canceled, "", "", err)
		return
	}
	if cause = c.serve(deadline); cause != nil {
		c.log.Debug("connection ended", "remote", from.Remote.String(), "err", cause)
	}
}

// serve logs in and runs the channels. The error says why the connection ended.
func (c *conn) serve(deadline time.Time) error {
	conf := c.s.base
	c.authenticate(&conf)
	sc, channels, requests, err := ssh.NewServerConn(c.nc, &conf)
	if err != nil {
		if time.Now().After(deadline) {
			err = fmt.Errorf("no log-in within %s: %w", c.s.opt.LoginTimeout, err)
		}
		return fault.New(fault.Canceled, "handshake", "", err)
	}
	c.ssh = sc
	defer sc.Close()
	// What the last successful callback returned, and nothing else, says who it is.
	s, ok := sc.Permissions.ExtraData[sessionKey{}].(*session.Session)
	if !ok {
		return fault.New(fault.Internal, "login", "", errors.New("sshd: log-in without a session"))
	}
	c.session, c.ctx = s, s.Context()
	c.nc.SetDeadline(time.Time{})
	if a, ok := sc.Conn.(ssh.AlgorithmsConnMetadata); ok {
		n := a.Algorithms()
		c.g.SetTLS("SSH " + n.Read.Cipher + ", " + n.KeyExchange)
	}
	if t := c.g.Tape(); t != nil {
		t.Note("the client is %s", sc.ClientVersion())
	}
	c.touch()
	watch := c.watch()
	defer watch.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.global(requests) })
	c.announceHostKeys()
	for nch := range channels {
		if ch, reqs := c.accept(nch); ch != nil {
			wg.Go(func() {
				defer c.dropChannel(ch)
				defer c.recovered()
				c.program(ch, reqs)
			})
		}
	}
	return nil
}

// recovered ends the connection after a panic in one of its channels.
func (c *conn) recovered() {
	p := recover()
	if p == nil {
		return
	}
	c.log.Error("a connection was closed because of a bug; please report it", "session", c.g.ID(), "user", c.session.User(),
		"remote", c.nc.RemoteAddr().String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	c.goodbye(fault.New(fault.Internal, "session", "", fmt.Errorf("panic: %v", p)), "the server failed; the administrator finds the details in the log")
}

// accept takes a channel or refuses it with a sentence.
func (c *conn) accept(n ssh.NewChannel) (ssh.Channel, <-chan *ssh.Request) {
	c.touch()
	if t := n.ChannelType(); t != "session" {
		n.Reject(ssh.Prohibited, "This server transfers files only; "+plain(t)+" channels, such as for forwarding, are not available.")
		return nil, nil
	}
	c.mu.Lock()
	open, noMore := len(c.channels), c.noMore
	c.mu.Unlock()
	if noMore || open >= maxChannels {
		n.Reject(ssh.ResourceShortage, fmt.Sprintf("At most %d sessions can be open in one connection.", maxChannels))
		return nil, nil
	}
	ch, reqs, err := n.Accept()
	if err != nil {
		return nil, nil
	}
	c.mu.Lock()
	if c.channels == nil {
		c.channels = map[ssh.Channel]struct{}{}
	}
	c.channels[ch] = struct{}{}
	c.mu.Unlock()
	return ch, reqs
}

func (c *conn) dropChannel(ch ssh.Channel) {
	ch.Close()
	c.mu.Lock()
	delete(c.channels, ch)
	c.mu.Unlock()
}

// begin and end enclose what a stopping server waits for.
func (c *conn) begin() { c.busy.Add(1) }

func (c *conn) end() {
	if c.busy.Add(-1) == 0 && c.s.isClosing() {
		go c.goodbye(errStopping, stopText)
	}
}

func (c *conn) touch() { c.last.Store(time.Now().UnixNano()) }

// goodbye tells the reason to whoever listens and closes the connection. The
// library cannot send SSH_MSG_DISCONNECT, so the reason goes to standard error
// of the open channels, which sftp and scp show.
func (c *conn) goodbye(cause error, reason string) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over, c.cause = true, cause
	open := make([]ssh.Channel, 0, len(c.channels))
	for ch := range c.channels {
		open = append(open, ch)
	}
	c.mu.Unlock()
	// A client that reads nothing must not hold this up.
	c.nc.SetWriteDeadline(time.Now().Add(2 * time.Second))
	told := make(chan struct{})
	go func() {
		for _, ch := range open {
			ch.Stderr().Write([]byte(fault.Sentence(reason) + "\r\n"))
		}
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(2 * time.Second):
	}
	c.nc.Close()
}

// ended classifies why the connection ended, for the events.
func (c *conn) ended(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	return cause
}

// watch ends the connection when it has been idle for too long, or when the
// client does not answer any more. It costs no goroutine while nothing is due.
func (c *conn) watch() *time.Timer {
	every := min(c.s.opt.KeepAlive, c.s.opt.IdleTimeout)
	var t *time.Timer
	ready := make(chan struct{})
	t = time.AfterFunc(every, func() {
		<-ready
		now := time.Now()
		if idle := now.Sub(time.Unix(0, c.last.Load())); idle >= c.s.opt.IdleTimeout && c.busy.Load() == 0 {
			text := fmt.Sprintf("nothing was asked for %s, so the connection is closed", c.s.opt.IdleTimeout)
			c.goodbye(fault.Text(fault.Canceled, text), text)
			return
		}
		if sent := c.pinged.Load(); sent == 0 {
			c.pinged.Store(now.UnixNano())
			go func() {
				if _, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					c.pinged.Store(0)
				}
			}()
		} else if now.Sub(time.Unix(0, sent)) > 3*c.s.opt.KeepAlive {
			c.goodbye(fault.Text(fault.Canceled, "the client does not answer any more"), "no answer from you")
			return
		}
		t.Reset(every)
	})
	close(ready)
	return t
}

// global answers requests that belong to no channel. There is no forwarding to ask for.
func (c *conn) global(reqs <-chan *ssh.Request) {
	for r := range reqs {
		switch r.Type {
		case "no-more-sessions@openssh.com":
			c.mu.Lock()
			c.noMore = true
			c.mu.Unlock()
			r.Reply(true, nil)
		case "hostkeys-prove-00@openssh.com":
			c.proveHostKeys(r)
		case "keepalive@openssh.com":
			r.Reply(true, nil)
		default:
			r.Reply(false, nil)
		}
	}
}

// addrOf returns the address of a TCP endpoint, an IPv4-mapped one unmapped.
func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
