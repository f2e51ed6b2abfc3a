package tlsrec

import (
	"errors"
	"io"
)

// typeKeyUpdate is the one handshake message that a client may send after the
// handshake (RFC 8446 section 4.6.3).
const typeKeyUpdate = 24

var errCut = errors.New("tlsrec: the connection ended in the middle of a record")

// Read decrypts into p, which has at least Room octets, as many records as have
// come already and fit, and waits for one if none has. What lies in p behind
// the n octets is of no meaning. It returns io.EOF only when the peer has
// sent close_notify, io.ErrUnexpectedEOF when the connection below ended
// between records without, another error when it ended amid one, and *Alert when the peer has broken the protocol, which it is told,
// or sent an alert. An error may come with octets, and all later calls return it.
func (c *Conn) Read(p []byte) (n int, err error) {
	if len(p) < Room {
		return 0, io.ErrShortBuffer
	}
	for c.rerr == nil && len(p)-n >= Room {
		size, whole := c.next()
		if c.rerr != nil {
			break
		}
		if !whole {
			if n > 0 {
				return n, nil
			}
			c.fill(size)
			continue
		}
		n += c.record((*c.rbuf)[c.r:c.r+size], p[n:])
		c.r += size
	}
	return n, c.rerr
}

// next looks at the record that lies at the beginning of the buffer, says how
// long it is, as far as that is known, and whether all of it has come.
func (c *Conn) next() (size int, whole bool) {
	have := c.w - c.r
	if have < headerLen {
		return headerLen, false
	}
	h := (*c.rbuf)[c.r:]
	size = headerLen + int(h[3])<<8 + int(h[4])
	switch {
	case h[1] != 3 || h[2] != 3:
		c.fail(alertProtocolVersion, "a record of another version of TLS")
	case size > maxRecord:
		c.fail(alertRecordOverflow, "a record that is too long")
	}
	return size, have >= size
}

// fill reads what has come, and at least something. The record at the
// beginning takes size octets; it is moved to the front when it may not fit.
func (c *Conn) fill(size int) {
	if c.rbuf == nil {
		c.rbuf = readBufs.Get().(*[]byte)
	}
	buf := *c.rbuf
	if c.r == c.w || len(buf)-c.r < max(size, maxRecord) {
		c.w = copy(buf, buf[c.r:c.w])
		c.r = 0
	}
	k, err := c.raw.Read(buf[c.w:])
	c.w += k
	switch {
	case k > 0: // the error comes again
	case err == io.EOF && (c.w > c.r || len(c.hand) > 0):
		c.rerr = errCut
	case err == io.EOF:
		c.rerr = io.ErrUnexpectedEOF
	case err != nil:
		c.rerr = err
	}
}

// record opens one record into p and returns how much data it brought.
func (c *Conn) record(rec, p []byte) int {
	h, body := header(rec), rec[headerLen:]
	if h[0] == typeChangeCipherSpec { // in the clear, and of no meaning: RFC 8446 appendix D.4
		if len(body) != 1 || body[0] != 1 {
			return c.fail(alertDecodeError, "a ChangeCipherSpec that is none")
		}
		if len(c.hand) > 0 {
			return c.fail(alertUnexpectedMessage, "a record amid a handshake message")
		}
		return c.useless()
	}
	text := len(body) - tagLen
	if text < 0 {
		return c.fail(alertBadRecordMAC, "a record that is too short")
	}
	if text > Room {
		p = body // only to see whether it is authentic
	}
	c.in.ready()
	switch {
	case !c.in.sealer.open(p[:text], body, c.in.nonce(), h):
		return c.fail(alertBadRecordMAC, "a record that was damaged or forged")
	case h[0] != typeData:
		return c.fail(alertUnexpectedMessage, "a record of an unknown type")
	case text > Room:
		return c.fail(alertRecordOverflow, "a record with too much text")
	}
	p = p[:text]
	for len(p) > 0 && p[len(p)-1] == 0 { // padding, RFC 8446 section 5.4
		p = p[:len(p)-1]
	}
	if len(p) == 0 {
		return c.fail(alertUnexpectedMessage, "a record without a type")
	}
	typ := p[len(p)-1]
	return c.content(typ, p[:len(p)-1])
}

func (c *Conn) content(typ byte, p []byte) int {
	if typ != typeHandshake && len(c.hand) > 0 {
		return c.fail(alertUnexpectedMessage, "a record amid a handshake message")
	}
	switch {
	case typ == typeData && len(p) > maxText:
		return c.fail(alertRecordOverflow, "a record with too much text")
	case typ == typeData && len(p) > 0:
		c.idle = 0
		return len(p)
	case typ == typeData:
		return c.useless()
	case typ == typeAlert:
		return c.alert(p)
	case typ == typeHandshake && len(p) > 0:
		return c.handshake(p)
	}
	return c.fail(alertUnexpectedMessage, "a record of an unknown type")
}

func (c *Conn) alert(p []byte) int {
	switch {
	case len(p) != 2:
		return c.fail(alertUnexpectedMessage, "an alert that is none")
	case p[1] == alertCloseNotify:
		c.rerr = io.EOF
	case p[1] == alertUserCanceled: // some Java versions say so before close_notify
		return c.useless()
	default:
		c.rerr = &Alert{Code: p[1], Received: true}
	}
	return 0
}

// handshake takes KeyUpdate (RFC 8446 section 4.6.3), which may come in pieces.
func (c *Conn) handshake(p []byte) int {
	c.hand = append(c.hand, p...)
	m := c.hand
	switch {
	case m[0] != typeKeyUpdate:
		return c.fail(alertUnexpectedMessage, "a handshake message other than KeyUpdate")
	case len(m) < 4:
		return c.useless()
	case m[1] != 0 || m[2] != 0 || m[3] != 1:
		return c.fail(alertDecodeError, "a KeyUpdate of a wrong length")
	case len(m) < 5:
		return c.useless()
	case m[4] > 1:
		return c.fail(alertDecodeError, "a KeyUpdate that asks for nothing known")
	case len(m) > 5:
		return c.fail(alertUnexpectedMessage, "a message behind KeyUpdate in one record")
	}
	c.hand = c.hand[:0]
	if c.useless(); c.rerr != nil {
		return 0
	}
	if m[4] == 1 {
		c.answerUpdate()
	}
	c.in.update()
	return 0
}

// answerUpdate changes our keys, as the peer asks. An error is that of the next write.
func (c *Conn) answerUpdate() {
	if c.werr != nil || c.closed {
		return
	}
	c.out.ready()
	if c.wbuf == nil {
		c.wbuf = writeBufs.Get().(*[]byte)
	}
	c.updateKeys()
	c.flush()
}

// useless counts records that bring nothing.
func (c *Conn) useless() int {
	if c.idle++; c.idle > maxUseless {
		return c.fail(alertUnexpectedMessage, "too many records in a row that bring nothing")
	}
	return 0
}

// fail tells the peer what is wrong and ends the connection both ways.
func (c *Conn) fail(code byte, why string) int {
	c.rerr = &Alert{Code: code, why: why}
	if c.werr == nil && !c.closed {
		c.append(typeAlert, []byte{2, code})
		c.flush()
	}
	c.werr = errors.Join(c.rerr, c.werr)
	return 0
}
