package ftp

import (
	"errors"
	"os"
	"time"
)

// parkAfter is how long a session waits for a command before it is parked: its
// goroutine ends, and one that waits for all parked sessions starts another when
// something has come. A waiting goroutine's stack is a quarter of what an idle
// session takes, and its read buffer another part.
const parkAfter = time.Second

// errParked ends the goroutine of a session, not the session.
var errParked = errors.New("ftp: parked")

// command reads a command line. It returns errParked when the client has sent
// nothing for parkAfter and the session can be parked.
func (c *Conn) command() (string, error) {
	for {
		line, err := c.rd.line()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() != nil {
			return line, err
		}
		c.wmu.Lock()
		on := !c.closing && c.xfer == nil && time.Now().Before(c.idleEnd)
		if on {
			c.raw.SetReadDeadline(c.idleEnd)
		}
		c.wmu.Unlock()
		switch {
		case !on || c.ctx.Err() != nil: // whoever cancels moves the deadline afterwards
			return "", err
		case c.rd.buffered() == 0 && !c.unparkable:
			return "", errParked
		}
	}
}

// awake is the turn of a session that was parked; err ended the waiting.
func (c *Conn) awake(err error) func() error {
	return func() error {
		if err != nil {
			return c.readFailed(err)
		}
		return c.loop()
	}
}
