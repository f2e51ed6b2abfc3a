package sshd

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// netConn is the client's connection with the first octets read ahead.
type netConn struct {
	net.Conn
	ahead []byte
}

func newNetConn(nc net.Conn) *netConn { return &netConn{Conn: nc} }

func (c *netConn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
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
