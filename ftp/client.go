package ftp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ClientTLS says how a client protects its control connection.
type ClientTLS uint8

// The ways. ExplicitTLS sends AUTH TLS (RFC 4217 section 4), ImplicitTLS
// starts with TLS from the first byte.
const (
	NoTLS ClientTLS = iota
	ExplicitTLS
	ImplicitTLS
)

// DataMode says how a client asks for data connections.
type DataMode uint8

// The modes. DataAuto is EPSV, and PASV on servers that refuse it.
const (
	DataAuto DataMode = iota
	DataEPSV
	DataPASV
	DataEPRT // active
	DataPORT // active, IPv4 only
)

// Dialer makes connections. *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// ClientOptions says how a Client behaves. The zero value is a plain client
// with passive data connections.
type ClientOptions struct {
	TLS       ClientTLS
	TLSConfig *tls.Config // nil: verify against the system's roots. ClientSessionCache is replaced.
	// ClearData leaves data connections unprotected (PROT C) on a protected
	// control connection.
	ClearData bool
	// FreshDataTLS makes each data connection negotiate TLS anew instead of
	// resuming the control connection's session. For checking servers.
	FreshDataTLS bool
	// StrictClose makes a download that ends without a TLS close_notify an
	// error (io.ErrUnexpectedEOF). Several servers never send one.
	StrictClose bool
	Data        DataMode
	// StrictPASV uses the address of a 227 reply even when it is private or
	// zero and differs from the server's; without it the server's is used then.
	StrictPASV bool
	// ActiveListen is where active data connections are awaited: an address,
	// a port, or both. Zero parts are the control connection's address and a
	// port of the system's choice. ActiveAnnounce, when valid, is announced instead.
	ActiveListen   netip.AddrPort
	ActiveAnnounce netip.Addr
	Timeout        time.Duration // for each reply, connection, and pause in a transfer; default 60 s
	Dialer         Dialer        // default *net.Dialer
	Logger         *slog.Logger  // debug lines of the dialogue, secrets cut; nil: none
	// OnTrace sees every protocol line, secrets cut. Replies are reported from
	// another goroutine than commands, but never at the same time.
	OnTrace func(sent bool, line string)
}

// Client is a connection to an FTP server. Its methods may not be called
// concurrently, except Abort and Close. While the reader of a Retrieve or the
// sequence of a List is open, other methods fail with ErrBusy. Refusals of the
// server are *Error; after any other error of a command the connection is closed.
type Client struct {
	opts ClientOptions
	addr string // as dialled, for messages
	host string // without the port: verified name, and where passive ports are
	raw  net.Conn
	conn net.Conn // raw, or TLS on it
	br   *bufio.Reader

	mu      sync.Mutex // one command at a time
	xfer    *exchange  // under way, guarded by mu
	traceMu sync.Mutex
	errMu   sync.Mutex
	err     error // why the connection is of no use

	tlsConn   *tls.Conn
	session   sessionCache
	protected bool // PROT P is in force
	noEPSV    bool
	typ       string // the last TYPE that was accepted
	features  Features
	banner    Reply
	lastData  DataInfo
}

var (
	// ErrBusy is returned while a transfer is under way on the connection.
	ErrBusy = errors.New("ftp: a transfer is under way on this connection")
	// ErrAborted is returned by a transfer that Abort ended.
	ErrAborted = errors.New("ftp: the transfer was aborted")
)

// Dial connects to addr ("host:port"; the port may be left out), negotiates
// TLS as the options say, and reads the greeting. ctx covers this alone.
func Dial(ctx context.Context, addr string, o ClientOptions) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Dialer == nil {
		o.Dialer = &net.Dialer{KeepAlive: 30 * time.Second}
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
		addr = net.JoinHostPort(host, map[bool]string{false: "21", true: "990"}[o.TLS == ImplicitTLS])
	}
	c := &Client{opts: o, addr: addr, host: host}
	dctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	c.raw, err = o.Dialer.DialContext(dctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("ftp: connect to %s: %w", addr, err)
	}
	c.conn, c.br = c.raw, bufio.NewReader(c.raw)
	if err := c.open(ctx); err != nil {
		c.raw.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) open(ctx context.Context) error {
	if c.opts.TLS == ImplicitTLS {
		if err := c.startTLS(ctx); err != nil {
			return err
		}
	}
	r, err := c.await(ctx, c.expect())
	// 120 announces a delay before 220 (RFC 959 section 5.4).
	for err == nil && r.Code == 120 {
		r, err = c.await(ctx, c.expect())
	}
	if err != nil {
		return fmt.Errorf("ftp: greeting of %s: %w", c.addr, err)
	}
	if r.Code != 220 {
		if e := r.Err(); e != nil {
			return e
		}
		return &ProtocolError{Line: clip(r.Text), Why: fmt.Sprintf("the greeting has code %d instead of 220", r.Code)}
	}
	c.banner = r
	if c.opts.TLS != ExplicitTLS {
		return nil
	}
	if _, err := c.want(ctx, 2, "AUTH TLS"); err != nil {
		return fmt.Errorf("ftp: %s refuses TLS: %w", c.addr, err)
	}
	return c.startTLS(ctx)
}

// Banner is the greeting.
func (c *Client) Banner() Reply { return c.banner }

// LocalAddr and RemoteAddr are the ends of the control connection.
func (c *Client) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr is the server's end of the control connection.
func (c *Client) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// ConnectionState describes the TLS of the control connection; ok is false
// without TLS.
func (c *Client) ConnectionState() (cs tls.ConnectionState, ok bool) {
	if c.tlsConn == nil {
		return cs, false
	}
	return c.tlsConn.ConnectionState(), true
}

// Cmd sends one command line and returns its reply, whatever its code. The
// error is about the connection. It must not be used for commands that
// transfer data; a preliminary (1yz) reply is returned as it is, and its final
// one must be fetched with Next.
func (c *Client) Cmd(ctx context.Context, line string) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.xfer != nil {
		return Reply{}, ErrBusy
	}
	return c.cmd(ctx, line)
}

// Next reads one more reply, after a preliminary one.
func (c *Client) Next(ctx context.Context) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.xfer != nil {
		return Reply{}, ErrBusy
	}
	if err := c.alive(ctx); err != nil {
		return Reply{}, err
	}
	return c.await(ctx, c.expect())
}

func (c *Client) cmd(ctx context.Context, line string) (Reply, error) {
	if err := c.send(ctx, line); err != nil {
		return Reply{}, err
	}
	return c.await(ctx, c.expect())
}

// want sends a command whose reply must be of the class given; 0 is any.
func (c *Client) want(ctx context.Context, class int, line string) (Reply, error) {
	if c.xfer != nil {
		return Reply{}, ErrBusy
	}
	r, err := c.cmd(ctx, line)
	if err != nil {
		return r, err
	}
	return r, expectClass(r, class)
}

func expectClass(r Reply, class int) error {
	if err := r.Err(); err != nil {
		return err
	}
	if class != 0 && r.Code/100 != class {
		return &Error{Code: r.Code, Message: strings.TrimSpace(r.Text) + " (unexpected reply)"}
	}
	return nil
}

func (c *Client) alive(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c.errMu.Lock()
	defer c.errMu.Unlock()
	if c.err != nil {
		return fmt.Errorf("ftp: the connection to %s is closed: %w", c.addr, c.err)
	}
	return nil
}

// send writes one line. Byte 255 is doubled, as Telnet wants (RFC 2640
// section 3.1); a newline in a name travels as NUL, which servers that support
// such names turn back.
func (c *Client) send(ctx context.Context, line string) error {
	if err := c.alive(ctx); err != nil {
		return err
	}
	if strings.ContainsAny(line, "\r\x00") {
		return fmt.Errorf("ftp: the command %q contains a carriage return or NUL, which FTP cannot carry", clip(redactLine(line)))
	}
	c.trace(true, redactLine(line))
	b := make([]byte, 0, len(line)+2)
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\n':
			b = append(b, 0)
		case 255:
			b = append(b, 255, 255)
		default:
			b = append(b, line[i])
		}
	}
	stop := c.watch(ctx)
	_, err := c.conn.Write(append(b, '\r', '\n'))
	stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return c.broken(err)
	}
	return nil
}

// watch sets the deadline for a write, and ends it early when ctx does.
func (c *Client) watch(ctx context.Context) (stop func()) {
	c.conn.SetWriteDeadline(time.Now().Add(c.opts.Timeout))
	cancel := context.AfterFunc(ctx, func() { c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	return func() { cancel() }
}

func (c *Client) trace(sent bool, line string) {
	if c.opts.OnTrace == nil && c.opts.Logger == nil {
		return
	}
	c.traceMu.Lock()
	defer c.traceMu.Unlock()
	if c.opts.Logger != nil {
		c.opts.Logger.Debug("ftp dialogue", "server", c.addr, "sent", sent, "line", line)
	}
	if c.opts.OnTrace != nil {
		c.opts.OnTrace(sent, line)
	}
}

// redactLine cuts the argument of commands that carry secrets.
func redactLine(line string) string {
	verb, arg, has := strings.Cut(line, " ")
	if has {
		switch strings.ToUpper(verb) {
		case "SITE":
			if len(arg) > 4 && strings.EqualFold(arg[:4], "PSWD") {
				return line[:len(verb)+5] + " ****"
			}
		case "PASS", "ACCT", "ADAT":
			return verb + " ****"
		}
	}
	return line
}

// Quit says QUIT, waits for the answer and closes the connection.
func (c *Client) Quit(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.want(ctx, 2, "QUIT")
	if errors.Is(err, ErrBusy) {
		return err
	}
	c.broken(net.ErrClosed)
	return err
}

// Close closes the connection at once. A transfer under way fails. It may be
// called at any time, more than once.
func (c *Client) Close() error {
	c.broken(net.ErrClosed)
	return nil
}
