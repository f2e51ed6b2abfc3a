package ftp

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Records makes the TLS records of large transfers in place of crypto/tls,
// which still does the handshake. It is called once for each data connection
// that may be taken over.
type Records func() Handover

// Handover follows one handshake and takes the connection over behind it. Its
// methods are called one after another.
type Handover interface {
	// Watch prepares cfg, which serves this handshake alone: it may set
	// KeyLogWriter and wrap WrapSession.
	Watch(cfg *tls.Config)
	// Take takes the connection over after the handshake. raw lies below TLS;
	// read is what was read from it behind the handshake's last record, and only
	// valid during the call. nil means that crypto/tls keeps the connection.
	Take(raw net.Conn, cs tls.ConnectionState, read []byte) RecordConn
	// Drop forgets what Watch has gathered, if nothing was taken over.
	Drop()
}

// RecordConn is one end of a TLS connection whose handshake is done.
type RecordConn interface {
	// Read needs room for RecordRoom octets. It returns io.EOF only when the
	// peer has sent close_notify, io.ErrUnexpectedEOF when TCP ended without
	// but behind a whole record, another error when it ended amid one.
	io.Reader
	io.Writer
	// Hold is Write for the last block, which may wait for CloseWrite.
	Hold(p []byte) (int, error)
	// CloseWrite sends close_notify.
	CloseWrite() error
	// Release wipes the keys. The connection below stays open.
	Release()
}

// RecordRoom is the longest text of a TLS record and the octet of its type.
const RecordRoom = 16<<10 + 1

// takeOverFrom is the size from which a download is worth keys of its own.
const takeOverFrom = 64 << 10

// wantsRecords reports whether the transfer's records may be made by c.srv.Records.
func (t *transfer) wantsRecords() bool {
	return t.c.srv.Records != nil && (t.upload || t.size >= takeOverFrom)
}

// takeOver ends the handshake h has watched, nil when there was none.
func (t *transfer) takeOver(d *dataConn, h Handover) {
	steady := &steadyConn{d.raw, t.c.srv.StallTimeout}
	d.bulk.Conn = steady
	if h != nil && t.wantsRecords() {
		d.rec = h.Take(steady, d.tls.ConnectionState(), d.bulk.unread())
	}
	if d.rec != nil {
		d.bulk.release()
		return
	}
	if h != nil {
		h.Drop()
	}
	d.bulk.exact = false
}

// steadyConn lies below TLS. A block or a record may take a slow client longer
// than a stall: as long as octets move it is none.
type steadyConn struct {
	net.Conn
	stall time.Duration
}

func (s *steadyConn) Read(p []byte) (int, error) {
	s.SetReadDeadline(time.Now().Add(s.stall))
	return s.Conn.Read(p)
}

func (s *steadyConn) Write(p []byte) (n int, err error) {
	for {
		s.SetWriteDeadline(time.Now().Add(s.stall))
		k, err := s.Conn.Write(p[n:])
		n += k
		if k == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// closeNotify says that nothing more comes; it may stay in a buffer until
// finishTLS.
func (d *dataConn) closeNotify() error {
	if d.rec != nil {
		return d.rec.CloseWrite()
	}
	return d.tls.CloseWrite()
}

// finishTLS sends what is still in a buffer and gives the buffers back.
func (d *dataConn) finishTLS() error {
	var err error
	if d.rec != nil {
		d.rec.Release()
	}
	if d.bulk != nil {
		err = d.bulk.flush()
		d.bulk.release()
	}
	return err
}

// sendTLS writes a block; last says that nothing but the end follows.
func (d *dataConn) sendTLS(p []byte, last bool) (int, error) {
	switch {
	case d.rec != nil && last:
		return d.rec.Hold(p)
	case d.rec != nil:
		return d.rec.Write(p)
	}
	n, err := d.tls.Write(p)
	if err == nil && d.bulk != nil && !last {
		err = d.bulk.flush()
	}
	return n, err
}
