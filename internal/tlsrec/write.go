package tlsrec

import "io"

// Write sends p in records of 16 KiB, all in as few writes below as their
// buffer allows: one for 256 KiB. It returns how many octets of p have been
// handed over for sure.
func (c *Conn) Write(p []byte) (int, error) { return c.write(p, false) }

// Hold is Write for the last block of the data: what fits stays in the buffer
// until CloseWrite, so that close_notify goes out with it.
func (c *Conn) Hold(p []byte) (int, error) { return c.write(p, true) }

func (c *Conn) write(p []byte, hold bool) (n int, err error) {
	for sealed := 0; sealed < len(p); {
		k := min(len(p)-sealed, maxText)
		if c.wbuf != nil && len(*c.wbuf)+k+headerLen+1+tagLen+spare > writeLen {
			if c.flush() != nil {
				return n, c.werr
			}
			n = sealed
		}
		if c.append(typeData, p[sealed:sealed+k]); c.werr != nil {
			return n, c.werr
		}
		sealed += k
	}
	if !hold && c.flush() != nil {
		return n, c.werr
	}
	return len(p), c.werr
}

// CloseWrite sends close_notify, once.
func (c *Conn) CloseWrite() error {
	if c.closed || c.werr != nil {
		return c.werr
	}
	c.closed = true
	c.append(typeAlert, []byte{1, alertCloseNotify})
	if err := c.flush(); err != nil {
		return err
	}
	c.werr = io.ErrClosedPipe
	return nil
}

// append seals text as one record behind what is in the buffer, which has room.
func (c *Conn) append(typ byte, text []byte) {
	if c.werr != nil {
		return
	}
	c.out.ready()
	if c.wbuf == nil {
		c.wbuf = writeBufs.Get().(*[]byte)
	}
	if c.out.seq >= updateAfter {
		c.updateKeys()
	}
	c.seal(typ, text)
}

// updateKeys tells the peer that other keys follow, and takes them.
func (c *Conn) updateKeys() {
	c.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 0})
	c.out.update()
}

func (c *Conn) seal(typ byte, text []byte) {
	b := *c.wbuf
	at, n := len(b), len(text)+1+tagLen
	b = b[:at+headerLen+n]
	h := header{typeData, 3, 3, byte(n >> 8), byte(n)}
	copy(b[at:], h[:])
	c.out.sealer.seal(b[at+headerLen:], text, typ, c.out.nonce(), h)
	*c.wbuf = b
}

// flush writes the buffer. After an error nothing more is written.
func (c *Conn) flush() error {
	if c.werr == nil && c.wbuf != nil && len(*c.wbuf) > 0 {
		_, c.werr = c.raw.Write(*c.wbuf)
		*c.wbuf = (*c.wbuf)[:0]
	}
	return c.werr
}
