package server

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// proxyWait is how long a trusted proxy may take to send its header. FTP
// servers speak first, so a proxy that sends none would otherwise wait for us
// while we wait for it.
const proxyWait = 5 * time.Second

// proxiedConn is a control connection whose endpoints a PROXY header named.
// Data connections are never wrapped: that would take the kernel's short way away.
type proxiedConn struct {
	*net.TCPConn
	remote, local net.Addr
}

func (c *proxiedConn) RemoteAddr() net.Addr { return c.remote }
func (c *proxiedConn) LocalAddr() net.Addr  { return c.local }

// NetConn returns the connection below, whose addresses are those of the proxy's side.
func (c *proxiedConn) NetConn() net.Conn { return c.TCPConn }

// readProxy reads a PROXY header (version 1 or 2) from c and not one byte
// more, so that a TLS handshake or a command right behind it stays unread.
// A LOCAL header (a health check of the proxy itself) keeps the real addresses.
func readProxy(c *net.TCPConn, wait time.Duration) (net.Conn, error) {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	raw, err := proxyBytes(c)
	if err != nil {
		return nil, err
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(raw), len(raw)))
	if err != nil {
		return nil, fmt.Errorf("bad PROXY header: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	src, dst, ok := h.TCPAddrs()
	if h.Command.IsLocal() || !ok {
		return c, nil
	}
	return &proxiedConn{TCPConn: c, remote: src, local: dst}, nil
}

var (
	errNoProxy = errors.New("the connection does not start with a PROXY header")
	proxySig2  = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

const (
	proxyMax1 = 107  // longest version 1 line, CR LF included
	proxyMax2 = 4096 // address block and TLVs of version 2; ours are far smaller
)

// proxyBytes returns the raw header. Version 2 tells its length in bytes 14
// and 15; version 1 ends with LF and has to be read byte by byte.
func proxyBytes(r io.Reader) ([]byte, error) {
	buf := make([]byte, 8, 256)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(buf, []byte("PROXY ")):
		for len(buf) < proxyMax1 {
			buf = append(buf, 0)
			if _, err := io.ReadFull(r, buf[len(buf)-1:]); err != nil {
				return nil, err
			}
			if buf[len(buf)-1] == '\n' {
				return buf, nil
			}
		}
		return nil, errors.New("the PROXY line is longer than 107 octets")
	case bytes.Equal(buf, proxySig2[:8]):
		buf = buf[:16]
		if _, err := io.ReadFull(r, buf[8:]); err != nil {
			return nil, err
		}
		if !bytes.Equal(buf[:12], proxySig2) {
			return nil, errNoProxy
		}
		n := int(binary.BigEndian.Uint16(buf[14:]))
		if n > proxyMax2 {
			return nil, fmt.Errorf("the PROXY header is %d octets long, more than %d", n, proxyMax2)
		}
		buf = append(buf, make([]byte, n)...)
		_, err := io.ReadFull(r, buf[16:])
		return buf, err
	}
	return nil, errNoProxy
}
