package sshd

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
)

// The flags of OPEN.
const (
	openRead   = 1
	openWrite  = 2
	openAppend = 4
	openCreate = 8
	openTrunc  = 16
	openExcl   = 32
)

// handle is an open file or directory.
type handle struct {
	name   string
	f      *session.File // nil for a directory
	dir    *directory
	upload bool // opened with Create: visible on CLOSE
	append bool
	serial bool  // the storage reads in order only; pos is where
	pos    int64 // of serial reads, of appending writes
	failed error // first write that failed: such an upload is not made visible
	later  vfs.Attr
	wants  bool // later is to be set when the upload is visible
}

// handles gives out names for open files. A name is never used twice, so a
// client that goes on with a closed one gets an error and not another's file.
type handles struct {
	open map[uint64]*handle
	last uint64
}

func (h *handles) add(x *handle) uint64 {
	if h.open == nil {
		h.open = map[uint64]*handle{}
	}
	h.last++
	h.open[h.last] = x
	return h.last
}

var errNoHandle = fault.Text(fault.Invalid, "no such handle")

// handle reads a handle; nil when there is none of that name.
func (x *sftp) handle(d *decoder) (*handle, uint64) {
	b := d.bytes()
	if d.bad {
		return nil, 0
	}
	if len(b) == 8 {
		id := binary.BigEndian.Uint64(b)
		if h := x.handles.open[id]; h != nil {
			return h, id
		}
	}
	return nil, 0
}

// file reads the handle of a file; nil when it is none.
func (x *sftp) file(d *decoder) *handle {
	if h, _ := x.handle(d); h != nil && h.f != nil {
		return h
	}
	return nil
}

// usable reports whether a request was whole and its handle is one of a file;
// if only the latter is wrong, the client is told.
func (x *sftp) usable(d *decoder, h *handle, op string) bool {
	if !d.bad && h == nil {
		x.status(op, "", errNoHandle)
	}
	return !d.bad && h != nil
}

// give answers with a new handle.
func (x *sftp) give(h *handle) {
	id := x.handles.add(h)
	x.begin()
	at := x.reply(fxpHandle)
	x.out = appendU64(appendU32(x.out, 8), id)
	x.shut(at)
}

var errManyHandles = fault.Text(fault.Limit, "256 files are open in this session already; close some first")

func (x *sftp) openFile(d *decoder) {
	name := clientPath(d.str())
	flags := d.u32()
	a := d.attrs()
	if d.bad {
		return
	}
	if len(x.handles.open) >= maxHandles {
		x.status("open", name, errManyHandles)
		return
	}
	h, err := x.start(name, flags, &a)
	if err != nil {
		x.status("open", name, err)
		return
	}
	x.give(h)
}

// start opens a file as the flags ask. What replaces a file or makes a new one
// goes the way of every upload: under a hidden name until CLOSE, if that is
// the server's mode. What continues a file works in place.
func (x *sftp) start(name string, flags uint32, a *attrs) (*handle, error) {
	writes := flags&(openWrite|openAppend) != 0
	perm := os.FileMode(0o666)
	if a.flags&attrPerm != 0 {
		perm = a.perm
	}
	switch {
	case !writes && flags&openRead == 0:
		return nil, fault.Text(fault.Invalid, "the file is to be opened for neither reading nor writing")
	case !writes:
		return x.openRead(name)
	case flags&openTrunc != 0 && flags&openCreate == 0:
		if _, err := x.s.Stat(x.ctx, name); err != nil {
			return nil, err
		}
	case flags&openTrunc == 0 && flags&(openCreate|openExcl) != openCreate|openExcl:
		return x.openInPlace(name, flags, perm)
	}
	if x.pending[name] != nil {
		return nil, fault.Text(fault.Busy, "this session is writing the file already")
	}
	f, err := x.s.Create(x.ctx, name, vfs.CreateOptions{Exclusive: flags&openExcl != 0, Perm: perm})
	if err != nil {
		return nil, err
	}
	x.s.Note("PUT", name)
	h := &handle{name: name, f: f, upload: true, append: flags&openAppend != 0}
	x.pending[name] = h
	return h, nil
}

func (x *sftp) openRead(name string) (*handle, error) {
	if p := x.pending[name]; p != nil {
		// A client that reads back what it is writing needs the file as it is.
		if err := x.settle(p); err != nil {
			return nil, err
		}
	}
	h := &handle{name: name}
	var err error
	h.f, err = x.s.OpenHandle(x.ctx, name, os.O_RDONLY, 0)
	if fault.KindOf(err) == fault.Unsupported {
		h.f, err = x.s.Open(x.ctx, name, 0)
		h.serial = true
	}
	if err != nil {
		return nil, err
	}
	x.s.Note("GET", name)
	return h, nil
}

func (x *sftp) openInPlace(name string, flags uint32, perm os.FileMode) (*handle, error) {
	if p := x.pending[name]; p != nil {
		if err := x.settle(p); err != nil {
			return nil, err
		}
	}
	mode := os.O_WRONLY
	if flags&openRead != 0 {
		mode = os.O_RDWR
	}
	if flags&openCreate != 0 {
		mode |= os.O_CREATE
	}
	f, err := x.s.OpenHandle(x.ctx, name, mode, perm)
	if err != nil {
		return nil, err
	}
	h := &handle{name: name, f: f, append: flags&openAppend != 0}
	if h.append {
		i, err := f.Stat()
		if err != nil {
			f.Close(err)
			return nil, err
		}
		h.pos = i.Size
	}
	x.s.Note("PUT", name)
	return h, nil
}

// settle makes an upload visible before its CLOSE and goes on in place, for a
// client that renames or opens a file while it writes it, as sshfs may.
func (x *sftp) settle(h *handle) error {
	if h.failed != nil {
		return h.failed
	}
	if err := x.commit(h); err != nil {
		h.failed = err
		return err
	}
	f, err := x.s.OpenHandle(x.ctx, h.name, os.O_RDWR, 0)
	if err != nil {
		f, err = x.s.OpenHandle(x.ctx, h.name, os.O_WRONLY, 0)
	}
	if err != nil {
		h.failed = err
		return err
	}
	h.f, h.upload = f, false
	return nil
}

// commit makes an upload visible and closes its file.
func (x *sftp) commit(h *handle) error {
	delete(x.pending, h.name)
	if h.failed != nil {
		h.f.Close(h.failed)
		return h.failed
	}
	if err := h.f.Commit(x.ctx); err != nil {
		h.f.Close(err)
		return err
	}
	if err := h.f.Close(nil); err != nil {
		return err
	}
	if h.wants {
		h.wants = false
		return x.s.SetAttr(x.ctx, h.name, h.later)
	}
	return nil
}

func (x *sftp) close(d *decoder) {
	h, id := x.handle(d)
	if d.bad {
		return
	}
	if h == nil {
		x.status("close", "", errNoHandle)
		return
	}
	delete(x.handles.open, id)
	err := x.finish(h)
	x.s.Note("", "")
	x.status("close", h.name, err)
	x.closed++ // end comes when the client has its answer: a stopping server hangs up then
}

func (x *sftp) finish(h *handle) error {
	switch {
	case h.dir != nil:
		h.dir.stop()
		return nil
	case h.upload:
		return x.commit(h)
	}
	return h.f.Close(nil)
}

// closeAll ends what a client left open.
func (x *sftp) closeAll(cause error) {
	for id, h := range x.handles.open {
		delete(x.handles.open, id)
		if h.dir != nil {
			h.dir.stop()
		} else {
			h.f.Close(cause)
		}
		x.end()
	}
	clear(x.pending)
}

// dataHead is what precedes the octets in the reply to READ.
const dataHead = 4 + 1 + 4 + 4

var dataBuffers = sync.Pool{New: func() any { b := make([]byte, dataHead+maxRead); return &b }}

func (x *sftp) read(d *decoder) {
	h := x.file(d)
	off, n := d.offset(), d.u32()
	if !x.usable(d, h, "read") {
		return
	}
	if h.upload { // the storage's file is for writing only
		if err := x.settle(h); err != nil {
			x.status("read", h.name, err)
			return
		}
	}
	if err := x.flush(); err != nil {
		return // the next read of the channel reports it
	}
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	p := (*b)[dataHead : dataHead+int(min(n, maxRead))]
	k, err := h.readAt(x, p, off)
	if k == 0 && len(p) > 0 {
		if err == nil {
			err = io.EOF
		}
		x.status("read", h.name, err)
		return
	}
	head := (*b)[:dataHead]
	binary.BigEndian.PutUint32(head, uint32(dataHead-4+k))
	head[4] = fxpData
	binary.BigEndian.PutUint32(head[5:], x.id)
	binary.BigEndian.PutUint32(head[9:], uint32(k))
	if x.tape != nil {
		x.tape.data(x.id, k)
	}
	x.keep()
	x.rw.Write((*b)[:dataHead+k])
	x.send()
}

func (h *handle) readAt(x *sftp, p []byte, off int64) (int, error) {
	if !h.serial {
		return h.f.ReadAt(p, off)
	}
	if off != h.pos {
		f, err := x.s.Open(x.ctx, h.name, off)
		if fault.KindOf(err) == fault.Range {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		h.f.Close(nil)
		h.f, h.pos = f, off
	}
	n, err := io.ReadFull(h.f, p)
	h.pos += int64(n)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

func (x *sftp) write(d *decoder) {
	h := x.file(d)
	off, p := d.offset(), d.bytes()
	if !x.usable(d, h, "write") {
		return
	}
	if h.append {
		off = h.pos
	}
	n, err := h.f.WriteAt(p, off)
	if h.append {
		h.pos += int64(n)
	}
	if err != nil && h.failed == nil {
		h.failed = err
	}
	x.status("write", h.name, err)
}

func (x *sftp) fsync(d *decoder) {
	h := x.file(d)
	if !x.usable(d, h, "fsync") {
		return
	}
	x.status("fsync", h.name, h.f.Sync())
}

// copyData is the extension of draft-ietf-secsh-filexfer-extensions-00 section
// 7: octets go from one open file to another without passing the network.
func (x *sftp) copyData(d *decoder) {
	from := x.file(d)
	off, length := d.offset(), d.offset()
	to := x.file(d)
	at := d.offset()
	if from == nil {
		to = nil
	}
	if !x.usable(d, to, "copy") {
		return
	}
	if from.upload {
		if err := x.settle(from); err != nil {
			x.status("copy", from.name, err)
			return
		}
	}
	if from == to && (length == 0 || off < at+length && at < off+length) {
		x.status("copy", from.name, fault.Text(fault.Invalid, "the two ranges overlap"))
		return
	}
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	var err error
	for done := int64(0); length == 0 || done < length; {
		p := *b
		if length > 0 {
			p = p[:min(int64(len(p)), length-done)]
		}
		var n int
		n, err = from.readAt(x, p, off+done)
		if n > 0 {
			if _, werr := to.f.WriteAt(p[:n], at+done); werr != nil {
				to.failed, err = werr, werr
				break
			}
			done += int64(n)
			x.touch()
		}
		if err != nil || n == 0 {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	x.status("copy", to.name, err)
}
