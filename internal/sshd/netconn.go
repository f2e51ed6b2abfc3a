package sshd

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// netConn is the client's connection, between the kernel and the SSH library.
// The library reads and writes a packet of 32 KiB in two or three calls, which
// is most of what a transfer costs. So reads are made ahead while much comes,
// and writes are held back while more is sure to follow: see gather.
type netConn struct {
	net.Conn
	ahead []byte // read and not taken yet
	from  *[]byte
	hot   bool // the last read filled what it was given

	mu    sync.Mutex // of writes
	held  []byte
	hold  *[]byte
	depth int // gather calls under way
	timer *time.Timer
	err   error // of a write that came too late to be reported
}

func newNetConn(nc net.Conn) *netConn { return &netConn{Conn: nc} }

const (
	wireSize   = 256 << 10 // of a buffer for either direction
	wireBlock  = 4 << 10   // what the library's own buffers hold
	holdAtMost = time.Millisecond
)

var wireBuffers = sync.Pool{New: func() any { b := make([]byte, wireSize); return &b }}

// Read is for one goroutine at a time.
func (c *netConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 && (!c.hot || len(p) >= wireSize) {
		n, err := c.Conn.Read(p)
		c.hot = n == len(p) && n >= wireBlock
		return n, err
	}
	if len(c.ahead) == 0 {
		if c.from == nil {
			c.from = wireBuffers.Get().(*[]byte)
		}
		n, err := c.Conn.Read(*c.from)
		if n == 0 {
			c.cool()
			return 0, err
		}
		c.ahead = (*c.from)[:n]
		c.hot = n >= wireBlock
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
		if !c.hot {
			c.cool()
		}
	}
	return n, nil
}

// cool gives the buffer back before a wait that may be long.
func (c *netConn) cool() {
	c.hot = false
	if c.from != nil {
		wireBuffers.Put(c.from)
		c.from = nil
	}
}

// gather holds writes back until release is called, a buffer is full, or a
// millisecond has passed. The last is what makes it safe: the client may have
// to see what is held before it lets us go on.
func (c *netConn) gather() {
	c.mu.Lock()
	c.depth++
	c.mu.Unlock()
}

// release ends a gather and writes what is held.
func (c *netConn) release() {
	c.mu.Lock()
	c.depth--
	c.flush()
	c.mu.Unlock()
}

// Write is for one goroutine at a time; the error may be that of an earlier write.
func (c *netConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	// A write of exactly the library's buffer is the head of a packet whose
	// rest follows at once, but for one packet in thousands: the timer has that.
	more := c.depth > 0 || len(p) == wireBlock
	if len(c.held) == 0 && !more {
		return c.Conn.Write(p)
	}
	if c.hold == nil {
		c.hold = wireBuffers.Get().(*[]byte)
		c.held = (*c.hold)[:0]
	}
	for rest := p; len(rest) > 0; {
		n := copy(c.held[len(c.held):cap(c.held)], rest)
		c.held, rest = c.held[:len(c.held)+n], rest[n:]
		if len(c.held) == cap(c.held) && c.send() != nil {
			return 0, c.err
		}
	}
	if !more {
		c.flush()
		return len(p), c.err
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(holdAtMost, c.late)
	} else {
		c.timer.Reset(holdAtMost)
	}
	return len(p), nil
}

// late writes what was held for too long.
func (c *netConn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send()
}

func (c *netConn) send() error {
	if len(c.held) > 0 && c.err == nil {
		_, c.err = c.Conn.Write(c.held)
	}
	c.held = c.held[:0]
	return c.err
}

// flush writes what is held and gives the buffer back.
func (c *netConn) flush() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.send()
	if c.hold != nil {
		wireBuffers.Put(c.hold)
		c.hold, c.held = nil, nil
	}
}

// Close writes what is held and closes the connection. A write that is stuck,
// because the client reads nothing, must not hold it up.
func (c *netConn) Close() error {
	if c.mu.TryLock() {
		c.send()
		c.mu.Unlock()
	}
	return c.Conn.Close()
}

// doorWait is how long a client may stay silent before it is greeted. SSH
// clients send their version at once, so they do not wait; those that let the
// server begin lose this much.
const doorWait = 150 * time.Millisecond

var errWrongDoor = errors.New("the client does not speak SSH")

// door looks at what the client says first. One that speaks HTTP, FTP or TLS
// gets an answer in its own language; SSH and silence pass.
func (c *netConn) door(deadline time.Time, ports func() string) error {
	first := make([]byte, 64)
	c.SetReadDeadline(time.Now().Add(doorWait))
	n, err := c.Conn.Read(first)
	c.SetReadDeadline(deadline)
	c.ahead = first[:n]
	switch {
	case n > 0:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	default:
		return err
	}
	if foreign(c.ahead, "") == nil {
		return nil
	}
	text := "This port speaks SSH (SFTP and SCP)."
	if ports != nil {
		text += " On this server " + ports() + "."
	}
	answer := foreign(c.ahead, text)
	c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	c.Write(answer)
	return errWrongDoor
}

// foreign returns the answer for a client that does not speak SSH, nil for one that may.
func foreign(b []byte, text string) []byte {
	if b[0] == 0x16 && (len(b) < 2 || b[1] == 3) {
		// A TLS alert: fatal, handshake_failure. Text would look like noise.
		return []byte{0x15, 3, 1, 0, 2, 2, 40}
	}
	word, _, _ := bytes.Cut(b, []byte(" "))
	switch strings.ToUpper(string(bytes.TrimRight(word, "\r\n\x00"))) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PROPFIND", "PATCH", "PRI":
		return []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + text + "\r\n")
	case "USER", "PASS", "AUTH", "FEAT", "HELP", "QUIT", "SYST", "OPTS", "HOST", "NOOP", "CLNT", "EHLO", "HELO":
		return []byte("421 " + text + "\r\n")
	}
	return nil
}
