package tlsrec

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Record content types (RFC 8446 section 5.1).
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeData             = 23
)

// Limits of RFC 8446 section 5, and ours.
const (
	headerLen     = 5
	maxText       = 16 << 10
	maxCiphertext = maxText + 256
	maxRecord     = headerLen + maxCiphertext

	// Room is the least that Read needs to take a record: its text and its type.
	Room = maxText + 1

	// maxUseless is how many records in a row may bring nothing, as in crypto/tls.
	maxUseless = 16
)

// updateAfter is the number of records after which our keys are changed.
// AES-GCM bears 2^24.5 of them (RFC 8446 section 5.5). Tests change it.
var updateAfter uint64 = 1 << 23

const (
	readLen  = 256 << 10
	spare    = 128 // for what may come behind the data: KeyUpdates and close_notify
	writeLen = readLen + readLen/maxText*(headerLen+1+tagLen) + spare
)

var (
	readBufs  = sync.Pool{New: func() any { b := make([]byte, readLen+maxRecord); return &b }}
	writeBufs = sync.Pool{New: func() any { b := make([]byte, 0, writeLen); return &b }}
)

// Conn is the server's end of a data connection after its handshake. Its
// methods must not be called concurrently. Deadlines are those of the
// connection below.
type Conn struct {
	raw     io.ReadWriter
	in, out half

	rbuf *[]byte // rbuf[r:w] was read and not yet opened
	r, w int
	rerr error
	hand []byte // the beginning of a handshake message
	idle int    // records in a row that brought nothing

	wbuf   *[]byte
	werr   error
	closed bool // close_notify is out
}

// New takes a connection over whose handshake has just ended, and s with it.
// read is what was read from raw behind the handshake's last record; it is
// copied. wide asks for 512-bit registers; they must be there.
func New(raw io.ReadWriter, cs tls.ConnectionState, s *Secrets, read []byte, wide bool) *Conn {
	u := suites[cs.CipherSuite]
	c := &Conn{raw: raw}
	c.in = half{suite: u, wide: wide, secret: s.client}
	c.out = half{suite: u, wide: wide, secret: s.server, seq: s.sent}
	s.client, s.server = nil, nil
	if len(read) > 0 {
		c.rbuf = readBufs.Get().(*[]byte)
		c.w = copy(*c.rbuf, read)
	}
	return c
}

// Release overwrites the secrets and returns the buffers; the connection must
// not be used after. The one below stays open.
func (c *Conn) Release() {
	c.in.wipe()
	c.out.wipe()
	c.rerr, c.werr = errReleased, errReleased
	if c.rbuf != nil {
		readBufs.Put(c.rbuf)
		c.rbuf = nil
	}
	if c.wbuf != nil {
		*c.wbuf = (*c.wbuf)[:0]
		writeBufs.Put(c.wbuf)
		c.wbuf = nil
	}
}

var errReleased = errors.New("tlsrec: used after Release")

// Alert is a fatal alert (RFC 8446 section 6), sent or received.
type Alert struct {
	Code     byte
	Received bool // the peer sent it
	why      string
}

func (a *Alert) Error() string {
	if a.Received {
		return fmt.Sprintf("the peer ended the TLS connection: %s", tls.AlertError(a.Code))
	}
	return fmt.Sprintf("%s (%s)", a.why, tls.AlertError(a.Code))
}

// Codes of alerts.
const (
	alertCloseNotify       = 0
	alertUnexpectedMessage = 10
	alertBadRecordMAC      = 20
	alertRecordOverflow    = 22
	alertDecodeError       = 50
	alertProtocolVersion   = 70
	alertUserCanceled      = 90
)
