package sshd

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/portreeve/portreeve/internal/vfs"
)

// Limits of the protocol, announced by limits@openssh.com. A read of maxRead
// and its header fit into a packet of maxPacket; so does a write of maxRead.
const (
	maxPacket  = 256 << 10
	maxRead    = 255 << 10
	maxHandles = 256
)

// decoder takes the fields of a packet (draft-ietf-secsh-filexfer-02). After
// the first field that is not whole, bad is set and all further ones are zero.
// Byte strings point into the packet.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// offset is a u64 that must fit into a file position.
func (d *decoder) offset() int64 {
	v := d.u64()
	if v > 1<<63-1 {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *decoder) bytes() []byte {
	n := d.u32()
	if n > maxPacket {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) str() string { return string(d.bytes()) }

// The flags of attributes.
const (
	attrSize     = 1
	attrUIDGID   = 2
	attrPerm     = 4
	attrTimes    = 8
	attrExtended = 1 << 31
)

// attrs is the attributes of a request.
type attrs struct {
	flags    uint32
	size     int64
	uid, gid uint32
	perm     fs.FileMode
	atime    time.Time
	mtime    time.Time
}

func (d *decoder) attrs() (a attrs) {
	a.flags = d.u32()
	if a.flags&attrSize != 0 {
		a.size = d.offset()
	}
	if a.flags&attrUIDGID != 0 {
		a.uid, a.gid = d.u32(), d.u32()
	}
	if a.flags&attrPerm != 0 {
		// Masked before the conversion: Go's own bits for setuid and the like
		// lie elsewhere, and none of them is for a client to set.
		a.perm = fs.FileMode(d.u32() & 0o777)
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = time.Unix(int64(d.u32()), 0), time.Unix(int64(d.u32()), 0)
	}
	if a.flags&attrExtended != 0 {
		for n := d.u32(); n > 0 && !d.bad; n-- {
			d.bytes()
			d.bytes()
		}
	}
	return a
}

// change is what a asks of a file; ownership is not the client's to give.
func (a *attrs) change() (v vfs.Attr) {
	if a.flags&attrSize != 0 {
		v.Size = &a.size
	}
	if a.flags&attrPerm != 0 {
		v.Mode = &a.perm
	}
	if a.flags&attrTimes != 0 {
		v.ATime, v.ModTime = &a.atime, &a.mtime
	}
	return v
}

// The type bits of a Unix mode.
const (
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeLink    = 0o120000
	modeSocket  = 0o140000
)

func unixMode(m fs.FileMode) uint32 {
	p := uint32(m.Perm())
	switch {
	case m&fs.ModeDir != 0:
		return p | modeDir
	case m&fs.ModeSymlink != 0:
		return p | modeLink
	case m&fs.ModeNamedPipe != 0:
		return p | modeFIFO
	case m&fs.ModeSocket != 0:
		return p | modeSocket
	case m&fs.ModeCharDevice != 0:
		return p | modeChar
	case m&fs.ModeDevice != 0:
		return p | modeBlock
	}
	return p | modeRegular
}

// unixTime is the 32 bits that version 3 has for a time; what does not fit is the nearest that does.
func unixTime(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), 1<<32-1))
}

func appendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func appendString(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}

func appendAttrs(b []byte, i *vfs.Info) []byte {
	b = appendU32(b, attrSize|attrUIDGID|attrPerm|attrTimes)
	b = appendU64(b, uint64(max(i.Size, 0)))
	b = appendU32(b, i.UID)
	b = appendU32(b, i.GID)
	b = appendU32(b, unixMode(i.Mode))
	t := unixTime(i.ModTime)
	return appendU32(appendU32(b, t), t)
}

// bigSize holds the largest packet with its length, and some that follow it.
const bigSize = maxPacket + 64<<10

// smallSize is what an idle session keeps.
const smallSize = 4 << 10

var bigBuffers = sync.Pool{New: func() any { b := make([]byte, bigSize); return &b }}

// packetReader cuts a stream into packets. It reads ahead, so that one read
// serves many small requests, and holds a large buffer only while large
// packets come.
type packetReader struct {
	src        io.Reader
	wait       func() error // called before a read that may block
	buf        []byte
	start, end int
	big        *[]byte
	large      bool // a large packet came since the buffer was empty
}

// next returns the next packet without its length. It is valid until next is
// called again. The error is io.EOF between packets, io.ErrUnexpectedEOF
// within one.
func (r *packetReader) next() ([]byte, error) {
	for {
		have := r.buf[r.start:r.end]
		need := 4
		if len(have) >= 4 {
			n := binary.BigEndian.Uint32(have)
			if n == 0 || n > maxPacket {
				return nil, fmt.Errorf("%w: a packet of %d octets", errMalformed, n)
			}
			need += int(n)
			if len(have) >= need {
				r.start += need
				return have[4:need], nil
			}
		}
		if err := r.fill(need); err != nil {
			return nil, err
		}
	}
}

// fill reads more, after making room for a packet of need octets.
func (r *packetReader) fill(need int) error {
	have := r.end - r.start
	if have == 0 {
		r.start, r.end = 0, 0
		if r.big != nil && !r.large {
			bigBuffers.Put(r.big)
			r.big, r.buf = nil, nil
		}
		r.large = false
	}
	if need > smallSize {
		r.large = true
	}
	switch {
	case need > len(r.buf) && need > smallSize:
		big := bigBuffers.Get().(*[]byte)
		copy(*big, r.buf[r.start:r.end])
		r.big, r.buf, r.start, r.end = big, *big, 0, have
	case r.buf == nil:
		r.buf = make([]byte, smallSize)
	case r.start+need > len(r.buf):
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	}
	if err := r.wait(); err != nil {
		return err
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && have > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// free gives the buffers back.
func (r *packetReader) free() {
	if r.big != nil {
		bigBuffers.Put(r.big)
		r.big = nil
	}
	r.buf, r.start, r.end = nil, 0, 0
}
