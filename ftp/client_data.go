package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// DataInfo describes the last data connection of a Client.
type DataInfo struct {
	Mode        string         // "EPSV", "PASV", "EPRT" or "PORT"
	Announced   netip.AddrPort // what the 227 or 229 reply, or our PORT or EPRT, said
	Local       netip.AddrPort
	Remote      netip.AddrPort
	TLS         *tls.ConnectionState // nil when unprotected
	CloseNotify bool                 // the server ended its data with close_notify
}

// LastData tells about the last data connection that was attempted.
func (c *Client) LastData() DataInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastData
}

// exchange is a data connection with the command that uses it.
type exchange struct {
	c     *Client
	ctx   context.Context
	raw   net.Conn
	conn  net.Conn  // raw, or TLS on it
	watch *eofWatch // below TLS
	first Reply     // the 1yz reply
	final *pendingReply
	stop  func() bool // ends the watch over ctx
	done  bool        // guarded by c.mu, as is err
	err   error
}

// copyChunk is how much moves between two looks at the clock. It stays below what
// a slow link moves within the timeout.
const copyChunk = 256 << 10

// begin opens a data connection and starts the transfer that line asks for.
func (c *Client) begin(ctx context.Context, line string, offset int64) (*exchange, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.xfer != nil {
		return nil, ErrBusy
	}
	if err := c.alive(ctx); err != nil {
		return nil, err
	}
	c.lastData = DataInfo{}
	t := &exchange{c: c, ctx: ctx}
	var ln net.Listener
	var err error
	if c.opts.Data == DataEPRT || c.opts.Data == DataPORT {
		if ln, err = c.listen(ctx); err != nil {
			return nil, err
		}
		defer ln.Close()
	} else if t.raw, err = c.dialPassive(ctx); err != nil {
		return nil, err
	}
	// REST must directly precede its command (RFC 3659 section 5).
	if offset > 0 {
		if _, err = c.want(ctx, 3, "REST "+strconv.FormatInt(offset, 10)); err != nil {
			t.kill()
			return nil, err
		}
	}
	if err = c.send(ctx, line); err != nil {
		t.kill()
		return nil, err
	}
	if err = t.establish(ln); err != nil {
		t.kill()
		return nil, err
	}
	t.stop = context.AfterFunc(ctx, t.kill)
	c.xfer = t
	return t, nil
}

// establish waits for the 1yz reply, for the server's connection when active,
// and for the TLS handshake. Some servers say 150 only after the handshake and
// others cannot begin one before, so it starts on the reply, or a second later.
func (t *exchange) establish(ln net.Listener) error {
	c := t.c
	t.conn = t.raw
	prelim := c.expect()
	shaken := make(chan error, 1)
	started := false
	shake := func() {
		if !started && c.protected && t.raw != nil {
			started = true
			go func() { shaken <- t.handshake() }()
		}
	}
	if ln == nil && c.protected {
		select {
		case <-prelim.done:
		case <-t.ctx.Done():
		case <-time.After(time.Second):
			shake()
		}
	}
	r, err := c.await(t.ctx, prelim)
	if err == nil {
		if err = r.Err(); err == nil && r.Code/100 != 1 {
			err = &ProtocolError{Line: clip(r.Text), Why: fmt.Sprintf("code %d instead of 150 before a transfer", r.Code)}
		}
	}
	if err != nil {
		if started {
			t.kill()
			<-shaken
		}
		return err
	}
	t.first, t.final = r, c.expect()
	if ln != nil {
		if t.raw, err = t.accept(ln); err != nil {
			return t.why(err)
		}
		t.conn = t.raw
	}
	c.lastData.Local, c.lastData.Remote = addrPort(t.raw.LocalAddr()), addrPort(t.raw.RemoteAddr())
	if shake(); started {
		if err := <-shaken; err != nil {
			return t.why(err)
		}
		cs := t.conn.(*tls.Conn).ConnectionState()
		c.lastData.TLS = &cs
	}
	return nil
}

// why ends a transfer that began with 1yz but has no data connection, and
// returns the server's explanation when it gives one.
func (t *exchange) why(err error) error {
	t.kill()
	r, rerr := t.c.await(t.ctx, t.final)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	if e := r.Err(); e != nil {
		return fmt.Errorf("%w (%w)", e, err)
	}
	return err
}

// handshake sets t.conn; it reads no other field that changes meanwhile.
func (t *exchange) handshake() error {
	c := t.c
	cfg := c.tlsConfig(readOnlySessions{&c.session})
	if c.opts.FreshDataTLS {
		cfg.ClientSessionCache = nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, c.opts.Timeout)
	defer cancel()
	w := &eofWatch{Conn: t.raw}
	tc := tls.Client(w, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("ftp: TLS handshake on the data connection to %s: %w", t.raw.RemoteAddr(), err)
	}
	t.watch, t.conn = w, tc
	return nil
}

// kill cuts the data connection so that the server cannot take what it got for all.
func (t *exchange) kill() {
	if t.raw == nil {
		return
	}
	if tc, ok := t.raw.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	t.raw.Close()
}

// finish ends the transfer and fetches the final reply, once. cause is why
// the data ended early, nil when all of it moved.
func (t *exchange) finish(cause error) error {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.done {
		return t.err
	}
	t.done = true
	c.xfer = nil
	t.stop()
	if cause != nil {
		t.kill()
	} else {
		t.raw.Close()
	}
	canceled := context.Cause(t.ctx)
	// The server answers soon after the data connection is gone, so the reply
	// is awaited even if ctx has ended: the control connection stays usable.
	r, err := c.await(context.WithoutCancel(t.ctx), t.final)
	if err == nil {
		err = r.Err()
	}
	var ne net.Error
	switch {
	case canceled != nil:
		t.err = canceled
	case cause != nil && (err == nil || !errors.As(cause, &ne)):
		t.err = cause
	default:
		t.err = err // also when the network failed: the server knows why
	}
	return t.err
}

// Abort ends the transfer under way by ABOR (RFC 959 section 4.1.3); its
// Reader or Store then fails with ErrAborted. Without a transfer it just asks.
// It may be called from another goroutine than the transfer's.
func (c *Client) Abort(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.xfer
	if t == nil {
		_, err := c.want(ctx, 2, "ABOR")
		return err
	}
	t.done, t.err, c.xfer = true, ErrAborted, nil
	t.stop()
	err := c.send(ctx, "ABOR")
	t.kill()
	if err != nil {
		return err
	}
	// First the transfer's own end, usually 426, then the answer to ABOR.
	if _, err := c.await(ctx, t.final); err != nil {
		return err
	}
	r, err := c.await(ctx, c.expect())
	if err != nil {
		return err
	}
	return expectClass(r, 2)
}

// closeWrite ends an upload. Under TLS it sends close_notify and waits for the
// server's, so that neither side has to guess whether the file is complete.
func (t *exchange) closeWrite() error {
	tc, ok := t.conn.(*tls.Conn)
	if !ok {
		return nil // finish closes, and FIN is the end of the file
	}
	if err := tc.CloseWrite(); err != nil {
		return err
	}
	if h, ok := t.raw.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
	}
	tc.SetReadDeadline(time.Now().Add(min(t.c.opts.Timeout, 10*time.Second)))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, io.LimitReader(tc, 1<<20))
	}()
	select {
	case <-ended:
	case <-t.final.done:
		// The verdict is there. A moment more for a close_notify on its way.
		select {
		case <-ended:
		case <-time.After(time.Second):
			t.raw.Close()
			<-ended
		}
	}
	t.c.mu.Lock()
	t.c.lastData.CloseNotify = !t.watch.eof
	t.c.mu.Unlock()
	return nil
}

// copyFrom sends r. Files go to a bare TCP connection within the kernel.
func (t *exchange) copyFrom(r io.Reader) (total int64, err error) {
	limit := func() { t.raw.SetWriteDeadline(time.Now().Add(t.c.opts.Timeout)) }
	if f, ok := r.(*os.File); ok && t.conn == t.raw {
		for {
			limit()
			n, err := io.CopyN(t.raw, f, copyChunk)
			total += n
			if err == io.EOF {
				return total, nil
			}
			if err != nil {
				return total, err
			}
		}
	}
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			limit()
			w, err := t.conn.Write(buf[:n])
			total += int64(w)
			if err != nil {
				return total, err
			}
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// download is what Retrieve returns.
type download struct {
	t   *exchange
	end error // sticky
}

// Read returns io.EOF only after the server has confirmed the transfer.
func (d *download) Read(p []byte) (int, error) {
	if d.end != nil {
		return 0, d.end
	}
	d.t.raw.SetReadDeadline(time.Now().Add(d.t.c.opts.Timeout))
	n, err := d.t.conn.Read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	return 0, d.ended(err)
}

// WriteTo lets io.Copy move a download into a file within the kernel.
func (d *download) WriteTo(w io.Writer) (total int64, err error) {
	for d.end == nil {
		d.t.raw.SetReadDeadline(time.Now().Add(d.t.c.opts.Timeout))
		n, err := io.CopyN(w, d.t.conn, copyChunk)
		total += n
		if err != nil {
			d.ended(err)
		}
	}
	if d.end == io.EOF {
		return total, nil
	}
	return total, d.end
}

func (d *download) ended(err error) error {
	t := d.t
	if err == io.EOF {
		err = nil
		if t.watch != nil {
			t.c.mu.Lock()
			t.c.lastData.CloseNotify = !t.watch.eof
			t.c.mu.Unlock()
			if t.watch.eof && t.c.opts.StrictClose {
				err = io.ErrUnexpectedEOF
			}
		}
	}
	if d.end = t.finish(err); d.end == nil {
		d.end = io.EOF
	}
	return d.end
}

// errClosedEarly marks a download that its reader did not want to the end.
var errClosedEarly = errors.New("ftp: the download was closed early")

// Close ends the download. When the end was not reached the data connection is
// cut and the server's complaint about that is swallowed.
func (d *download) Close() error {
	err := d.t.finish(errClosedEarly)
	if d.end == nil {
		d.end = os.ErrClosed
	}
	if err == nil || errors.Is(err, errClosedEarly) || errors.Is(err, ErrAborted) || errors.Is(err, d.end) {
		return nil
	}
	return err
}
