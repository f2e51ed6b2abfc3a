package ftp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
)

// sessionCache holds the TLS session of the control connection and no other.
// Data connections only read it: servers that bind data connections to their
// control connection look for exactly this session.
type sessionCache struct {
	mu sync.Mutex
	s  *tls.ClientSessionState
}

// Get ignores the key: there is one server per Client.
func (c *sessionCache) Get(string) (*tls.ClientSessionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s, c.s != nil
}

func (c *sessionCache) Put(_ string, s *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s = s
}

// readOnlySessions is what data connections get.
type readOnlySessions struct{ *sessionCache }

func (readOnlySessions) Put(string, *tls.ClientSessionState) {}

// tlsConfig returns the configuration of one connection.
func (c *Client) tlsConfig(sessions tls.ClientSessionCache) *tls.Config {
	cfg := &tls.Config{}
	if c.opts.TLSConfig != nil {
		cfg = c.opts.TLSConfig.Clone()
	}
	if cfg.ServerName == "" {
		// Data connections go to other ports and perhaps addresses, and still
		// have to show the same name: TLS verifies resumed sessions against it.
		cfg.ServerName = c.host
	}
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{"ftp"} // registered for FTP; keeps other protocols' answers out
	}
	cfg.ClientSessionCache = sessions
	return cfg
}

// startTLS wraps the control connection. Bytes that arrived before the
// handshake would be taken for protected ones, so they end the connection.
func (c *Client) startTLS(ctx context.Context) error {
	if n := c.br.Buffered(); n > 0 {
		head, _ := c.br.Peek(n)
		return c.broken(&ProtocolError{Line: clip(string(head)), Why: "it came unprotected, after TLS was agreed"})
	}
	hctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	t := tls.Client(c.raw, c.tlsConfig(&c.session))
	if err := t.HandshakeContext(hctx); err != nil {
		return c.broken(fmt.Errorf("ftp: TLS handshake with %s: %w", c.addr, err))
	}
	c.tlsConn, c.conn = t, t
	c.br.Reset(t)
	return nil
}

// secure negotiates the protection of data connections (RFC 4217 section 9).
func (c *Client) secure(ctx context.Context) error {
	if c.tlsConn == nil || c.protected == !c.opts.ClearData {
		return nil
	}
	if _, err := c.want(ctx, 2, "PBSZ 0"); err != nil {
		return err
	}
	level := "P"
	if c.opts.ClearData {
		level = "C"
	}
	if _, err := c.want(ctx, 2, "PROT "+level); err != nil {
		return err
	}
	c.protected = !c.opts.ClearData
	return nil
}

// eofWatch notes whether the TCP connection below TLS ended. When TLS reports
// the end of data and this has not, the peer sent close_notify.
type eofWatch struct {
	net.Conn
	eof bool
}

func (w *eofWatch) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err == io.EOF {
		w.eof = true
	}
	return n, err
}
