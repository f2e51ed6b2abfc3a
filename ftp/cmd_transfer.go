package ftp

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"strconv"
	"time"
)

func (t *transfer) typeName() string {
	if t.ascii {
		return "ASCII"
	}
	return "BINARY"
}

// limited ends a source after n bytes.
func limited(src io.Reader, n int64) io.Reader {
	if n < 0 {
		return src
	}
	return &io.LimitedReader{R: src, N: n}
}

func (c *Conn) cmdRETR(arg string) Reply {
	p := c.takePending()
	if r, fine := c.dataReady(); !fine {
		return r
	}
	offset, limit := p.rest, int64(-1)
	if p.rangeEnd > 0 {
		offset, limit = p.rangeStart, p.rangeEnd-p.rangeStart
	}
	skip := int64(0)
	if c.ascii && !c.srv.RawASCII && offset > 0 { // markers count octets as sent (RFC 3659 section 5.1)
		skip, offset = offset, 0
	}
	name := c.abs(arg)
	src, err := c.sess.Open(c.ctx, name, offset)
	if err != nil {
		c.data.drop()
		return lookupRefusal(err, shown(arg))
	}
	t := c.newTransfer("RETR", name)
	t.describe(src, arg, limit)
	if r, whole := t.atOnce(src); whole {
		return r
	}
	t.start(func(t *transfer) Reply { return t.retrieve(src, skip, limit) })
	return Reply{}
}

// describe finds out the size and words the 150.
func (t *transfer) describe(src Source, arg string, limit int64) {
	if s, is := src.(Sizer); is {
		if t.size = s.Size(); t.size > limit && limit >= 0 {
			t.size = limit
		}
	}
	t.mark = "Opening " + t.typeName() + " data connection for " + shown(arg)
	if t.size >= 0 && !t.ascii {
		t.mark += " (" + strconv.FormatInt(t.size, 10) + " bytes)"
	}
	t.mark += "."
}

func (t *transfer) retrieve(src Source, skip, limit int64) Reply {
	d, fail := t.openData()
	if fail != nil {
		src.Close(fail)
		return ok(fail.Code, "%s", fail.Message)
	}
	if limit >= 0 {
		limit -= t.moved.Load() // what atOnce has sent
	}
	err := t.sendSource(d, src, skip, limit)
	if err == nil {
		err = t.endSending(d)
	} else {
		d.raw.Close()
		d.finishTLS()
	}
	if cerr := src.Close(t.errorOf(err)); err == nil && cerr != nil {
		err = &sourceError{cerr}
	}
	return t.outcome(err, "Transfer complete.")
}

func (t *transfer) sendSource(d *dataConn, src Source, skip, limit int64) error {
	if f, m, tc := t.kernelFile(d, src); f != nil {
		return t.sendFile(f, m, tc, limit)
	}
	var r io.Reader = src
	if t.ascii {
		r = newASCIIReader(src)
		if _, err := io.CopyN(io.Discard, r, skip); err != nil {
			if err == io.EOF {
				err = &Error{554, "The restart offset lies behind the end of the file."}
			}
			return &sourceError{err}
		}
	}
	return t.sendReader(d, limited(r, limit))
}

func (c *Conn) cmdSTOR(arg string) Reply {
	p := c.takePending()
	o := CreateOptions{Offset: p.rest, Size: p.alloc}
	if p.rangeEnd > 0 {
		return ok(501, "RANG does not apply to STOR; use REST.")
	}
	return c.store("STOR", c.abs(arg), arg, o)
}

func (c *Conn) cmdAPPE(arg string) Reply {
	p := c.takePending()
	o := CreateOptions{Append: true, Size: p.alloc}
	if p.rest > 0 { // behind REST it acts exactly as STOR (RFC 3659 section 5.3)
		o = CreateOptions{Offset: p.rest, Size: p.alloc}
	}
	return c.store("APPE", c.abs(arg), arg, o)
}

// cmdSTOU finds a name that is free, by the file system's own word.
func (c *Conn) cmdSTOU(arg string) Reply {
	p := c.takePending()
	if p.rest > 0 {
		return ok(501, "REST does not apply to STOU.")
	}
	if r, fine := c.dataReady(); !fine {
		return r
	}
	base := arg
	if base == "" {
		base = "ftp"
	}
	for try := range 20 {
		name := base
		if try > 0 || arg == "" {
			var id [5]byte
			rand.Read(id[:])
			name = base + "." + hex.EncodeToString(id[:])
		}
		sink, err := c.sess.Create(c.ctx, c.abs(name), CreateOptions{Exclusive: true, Size: p.alloc})
		if err == nil {
			c.receive("STOU", c.abs(name), "FILE: "+encodePath(path.Base(c.abs(name))), "Transfer complete; stored as "+encodePath(path.Base(c.abs(name)))+".", sink)
			return Reply{}
		}
		if _, serr := c.sess.Stat(c.ctx, c.abs(name)); serr != nil { // not for want of a free name
			c.data.drop()
			return refusal(err, shown(name))
		}
	}
	c.data.drop()
	return ok(450, "No free name was found; try again.")
}

func (c *Conn) store(verb, name, arg string, o CreateOptions) Reply {
	if r, fine := c.dataReady(); !fine {
		return r
	}
	if c.ascii && !c.srv.RawASCII && o.Offset > 0 {
		c.data.drop()
		return ok(504, "REST with an ASCII upload is not offered; send TYPE I first.")
	}
	sink, err := c.sess.Create(c.ctx, name, o)
	if err != nil {
		c.data.drop()
		return refusal(err, shown(arg))
	}
	kind := "BINARY"
	if c.ascii {
		kind = "ASCII"
	}
	c.receive(verb, name, "Opening "+kind+" data connection for "+shown(arg)+".", "Transfer complete.", sink)
	return Reply{}
}

// receive takes an upload into sink. A small one that comes at once is done when
// it returns, any other goes on by itself.
func (c *Conn) receive(verb, name, mark, done string, sink Sink) {
	t := c.newTransfer(verb, name)
	t.upload, t.mark = true, mark
	work := func(t *transfer) Reply { return t.store(sink, done) }
	t.enter()
	if t.readHead(sink) {
		t.run(work)
		return
	}
	go t.run(work)
}

func (t *transfer) store(sink Sink, done string) Reply {
	d, fail := t.openData()
	if fail != nil {
		sink.Close(fail)
		return ok(fail.Code, "%s", fail.Message)
	}
	err := t.receiveSink(d, sink)
	unsure := d.tls == nil || t.loose // the end of the data may be that of the client
	if err == nil && unsure && gone(t.c.raw) {
		// This end of the data is not that of the file. It catches clients
		// whose control connection went first; for those that are killed
		// the kernel may end the data a moment earlier: see confirm.
		err = errControlGone
	}
	var cerr error
	if d.tls != nil && err == nil {
		cerr = d.closeNotify() // clients wait for it before they read the reply
	}
	if ferr := errors.Join(cerr, d.finishTLS()); err == nil && ferr != nil {
		t.c.srv.Logger.Debug("client closed before our close_notify", "session", t.c.id, "err", ferr)
	}
	var se *sourceError
	if t.refused = errors.As(err, &se); !t.refused {
		d.raw.Close()
	}
	if err == nil && unsure {
		err = t.confirm()
	}
	if err == nil {
		if cerr := sink.Commit(t.ctx); cerr != nil {
			err = &sourceError{cerr}
		}
	}
	if cerr := sink.Close(t.errorOf(err)); err == nil && cerr != nil {
		err = &sourceError{cerr}
	}
	return t.outcome(err, done)
}

var errControlGone = errors.New("ftp: the control connection ended before the upload did")

func (t *transfer) receiveSink(d *dataConn, sink Sink) error {
	if f, m, tc := t.kernelFile(d, sink); f != nil {
		return t.receiveFile(f, m, tc)
	}
	var w io.Writer = sink
	var aw *asciiWriter
	if t.ascii {
		aw = &asciiWriter{dst: sink}
		w = aw
	}
	var r io.Reader = d.raw
	if d.tls != nil {
		r = d.tls
	}
	pool, need := &blocks, 1
	if d.rec != nil {
		r, pool, need = d.rec, &textBufs, RecordRoom
	}
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	for {
		n, err := t.readData(d, r, *buf, need)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return &sourceError{werr}
			}
			t.moved.Add(int64(n))
		}
		if err == nil {
			continue
		}
		if err = t.endOfData(d, err); err != nil {
			return err
		}
		if aw != nil {
			if ferr := aw.flush(); ferr != nil {
				return &sourceError{ferr}
			}
		}
		return nil
	}
}

// endOfData says whether err is the good end of an upload, nil.
func (t *transfer) endOfData(d *dataConn, err error) error {
	if d.tls != nil && d.rec == nil {
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errNoCloseNotify // amid a record: cut short for certain
		case err == io.EOF && d.bulk != nil && d.bulk.eof:
			err = io.ErrUnexpectedEOF // crypto/tls takes FIN between records for an end; only close_notify is one
		}
	}
	switch {
	case err == io.EOF:
		return nil
	case !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case !t.c.srv.LooseClose:
		return errNoCloseNotify
	}
	t.loose = true
	t.c.srv.Logger.Warn("upload ended without a TLS close; stored as policy allows", "session", t.c.id, "path", t.name)
	return nil
}

// readData fills buf but for less than need octets, so that storage sees large
// writes; it returns less only with an error. The deadline holds for each read:
// what trickles is no stall.
func (t *transfer) readData(d *dataConn, r io.Reader, buf []byte, need int) (n int, err error) {
	for len(buf)-n >= need && err == nil {
		var k int
		if d.tls == nil { // steadyConn does it for TLS
			t.renew(d)
		}
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

func (c *Conn) cmdABOR(string) Reply {
	t := c.current()
	if t == nil {
		c.data.drop()
		return ok(226, "No transfer to abort.")
	}
	t.cut(errAbort)
	select {
	case <-t.done:
	case <-time.After(30 * time.Second): // storage that hangs must not hold the session for ever
		return ok(451, "The transfer has not ended yet.")
	}
	return ok(226, "ABOR done.")
}
