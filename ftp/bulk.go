package ftp

import (
	"io"
	"net"
	"sync"
	"time"
)

// blockSize is what moves at once on paths that go through our memory.
const blockSize = 256 << 10

var blocks = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// recordRoom is block plus what TLS adds to its 16 records.
const recordRoom = blockSize + 17*32

var recordBufs = sync.Pool{New: func() any { b := make([]byte, 0, recordRoom); return &b }}

// textBufs take a block of an upload from a RecordConn: 16 records of 16 KiB,
// and room in which the last of them ends.
var textBufs = sync.Pool{New: func() any { b := make([]byte, blockSize+RecordRoom-16<<10); return &b }}

// bulkConn lies between crypto/tls and a data connection. It joins the records
// of one block into one write, and reads ahead in large pieces. It takes no
// deadlines from crypto/tls, which sets the write deadline to now on close;
// those on the raw connection hold.
type bulkConn struct {
	net.Conn
	wbuf *[]byte
	rbuf *[]byte
	r, w int
	eof  bool // the peer has closed TCP, and crypto/tls has asked beyond its last byte

	// exact makes Read return no more than the rest of one record, so that what
	// follows the handshake is not in crypto/tls when its end is noticed.
	exact bool
	left  int // of the record
}

func newBulkConn(raw net.Conn) *bulkConn { return &bulkConn{Conn: raw} }

func (b *bulkConn) Write(p []byte) (int, error) {
	if b.wbuf == nil {
		b.wbuf = recordBufs.Get().(*[]byte)
	}
	if len(*b.wbuf)+len(p) > recordRoom {
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	*b.wbuf = append(*b.wbuf, p...)
	return len(p), nil
}

// flush writes what Write has gathered.
func (b *bulkConn) flush() error {
	if b.wbuf == nil || len(*b.wbuf) == 0 {
		return nil
	}
	_, err := b.Conn.Write(*b.wbuf)
	*b.wbuf = (*b.wbuf)[:0]
	return err
}

// Read flushes first: whoever waits for an answer must have asked.
func (b *bulkConn) Read(p []byte) (int, error) {
	if b.exact {
		return b.readRecord(p)
	}
	if b.r < b.w {
		n := copy(p, (*b.rbuf)[b.r:b.w])
		b.r += n
		return n, nil
	}
	if err := b.flush(); err != nil {
		return 0, err
	}
	if b.rbuf != nil && len(*b.rbuf) < blockSize {
		b.dropRead()
	}
	if b.rbuf == nil {
		// Handshakes read little; the large buffer comes with the data.
		if len(p) < 4096 {
			n, err := b.Conn.Read(p)
			b.eof = b.eof || err == io.EOF
			return n, err
		}
		b.rbuf = blocks.Get().(*[]byte)
	}
	n, err := b.Conn.Read(*b.rbuf)
	b.eof = b.eof || err == io.EOF
	b.r, b.w = 0, max(n, 0)
	m := copy(p, (*b.rbuf)[:b.w])
	b.r = m
	return m, err
}

func (b *bulkConn) SetDeadline(time.Time) error      { return nil }
func (b *bulkConn) SetReadDeadline(time.Time) error  { return nil }
func (b *bulkConn) SetWriteDeadline(time.Time) error { return nil }

// release returns the buffers; the connection must not be used after.
func (b *bulkConn) release() {
	if b.wbuf != nil {
		*b.wbuf = (*b.wbuf)[:0]
		recordBufs.Put(b.wbuf)
		b.wbuf = nil
	}
	b.dropRead()
}

func (b *bulkConn) dropRead() {
	switch {
	case b.rbuf == nil:
	case len(*b.rbuf) == blockSize:
		blocks.Put(b.rbuf)
	default:
		helloBufs.Put(b.rbuf)
	}
	b.rbuf, b.r, b.w = nil, 0, 0
}

// helloBufs are for handshakes, whose records are small, and are many at once
// on a shared port.
var helloBufs = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// readRecord reads what is left of a record, or the beginning of the next one.
func (b *bulkConn) readRecord(p []byte) (int, error) {
	if b.left == 0 {
		for b.w-b.r < recordHead {
			if err := b.more(); err == io.EOF && b.r < b.w {
				break // no header; crypto/tls words it
			} else if err != nil {
				return 0, err
			}
		}
		if b.left = b.w - b.r; b.left >= recordHead {
			h := (*b.rbuf)[b.r:]
			b.left = recordHead + int(h[3])<<8 + int(h[4])
		}
	}
	if b.r == b.w {
		if err := b.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, (*b.rbuf)[b.r:min(b.w, b.r+b.left)])
	b.r += n
	b.left -= n
	return n, nil
}

const recordHead = 5

// more reads at least something behind what is there, which is moved to the front.
func (b *bulkConn) more() error {
	if err := b.flush(); err != nil {
		return err
	}
	if b.rbuf == nil {
		b.rbuf = helloBufs.Get().(*[]byte)
	}
	b.w = copy(*b.rbuf, (*b.rbuf)[b.r:b.w])
	b.r = 0
	n, err := b.Conn.Read((*b.rbuf)[b.w:])
	b.eof = b.eof || err == io.EOF
	b.w += n
	if n > 0 {
		return nil
	}
	return err
}

// unread is what was read and not asked for yet.
func (b *bulkConn) unread() []byte {
	if b.rbuf == nil {
		return nil
	}
	return (*b.rbuf)[b.r:b.w]
}
