package sshd

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/portreeve/portreeve/internal/transcript"
)

// tape turns requests and replies into lines of a transcript: operation, path,
// handle and status, never the octets of a file. Reads or writes of one handle
// that follow each other are one line, as a file has thousands.
type tape struct {
	to     *transcript.Tape
	answer string // to the request at hand
	status uint32 // that of the answer; statusOK for data, statusFailure for what is neither

	op     byte // of the run of requests that is not written yet, 0: there is none
	handle uint64
	ended  uint32 // status of its answers
	more   int    // requests of that run after the one that was written
	octets int64
}

// record carries out a packet and records it.
func (x *sftp) record(to *transcript.Tape, p []byte) error {
	if x.tape == nil || x.tape.to != to {
		x.tape = &tape{to: to}
	}
	t := x.tape
	t.answer, t.status = "", statusFailure
	what, handle, n := describe(p)
	op := p[0]
	if op != t.op || handle != t.handle {
		t.flush() // what the server notes of this request comes after it
	}
	err := x.carry(p)
	if op == t.op && handle == t.handle && t.status == t.ended {
		t.more++
		t.octets += n
		return err
	}
	t.flush()
	to.Line(false, what)
	if t.answer != "" {
		to.Line(true, t.answer)
	}
	if (op == fxpRead || op == fxpWrite) && (t.status == statusOK || t.status == statusEOF) {
		t.op, t.handle, t.ended = op, handle, t.status
	}
	return err
}

// flush writes what a run of reads or writes amounted to.
func (t *tape) flush() {
	if t == nil {
		return
	}
	if t.more > 0 {
		t.to.Note("and %d more such requests, answered in the same way: %s handle %d, %d octets asked for", t.more, requestNames[t.op], t.handle, t.octets)
	}
	t.op, t.handle, t.more, t.octets = 0, 0, 0, 0
}

var requestNames = map[byte]string{
	fxpInit: "INIT", fxpOpen: "OPEN", fxpClose: "CLOSE", fxpRead: "READ", fxpWrite: "WRITE", fxpLstat: "LSTAT", fxpFstat: "FSTAT", fxpSetstat: "SETSTAT", fxpFsetstat: "FSETSTAT",
	fxpOpendir: "OPENDIR", fxpReaddir: "READDIR", fxpRemove: "REMOVE", fxpMkdir: "MKDIR", fxpRmdir: "RMDIR", fxpRealpath: "REALPATH", fxpStat: "STAT", fxpRename: "RENAME",
	fxpReadlink: "READLINK", fxpSymlink: "SYMLINK", fxpExtended: "EXTENDED",
}

var statusNames = map[uint32]string{statusOK: "OK", statusEOF: "EOF", statusNoSuchFile: "NO_SUCH_FILE", statusPermissionDenied: "PERMISSION_DENIED", statusFailure: "FAILURE", statusOpUnsupported: "OP_UNSUPPORTED"}

// describe words a request. For reads and writes it also returns the handle
// and the octets asked for.
func describe(p []byte) (text string, handle uint64, n int64) {
	d := decoder{b: p}
	op, id := d.u8(), d.u32()
	name := requestNames[op]
	if name == "" {
		name = fmt.Sprintf("request of type %d", op)
	}
	text = fmt.Sprintf("[%d] %s", id, name)
	handleOf := func() uint64 {
		b := d.bytes()
		if len(b) != 8 {
			return 0 // none of ours
		}
		return binary.BigEndian.Uint64(b)
	}
	switch op {
	case fxpInit:
		return fmt.Sprintf("INIT version %d", id), 0, 0
	case fxpOpen:
		path, flags := d.str(), d.u32()
		text += fmt.Sprintf(" %s flags %s", path, openFlags(flags))
	case fxpRead:
		handle = handleOf()
		off := d.u64()
		n = int64(d.u32())
		text += fmt.Sprintf(" handle %d offset %d length %d", handle, off, n)
	case fxpWrite:
		handle = handleOf()
		off := d.u64()
		n = int64(d.u32())
		text += fmt.Sprintf(" handle %d offset %d length %d", handle, off, n)
	case fxpClose, fxpFstat, fxpReaddir:
		text += fmt.Sprintf(" handle %d", handleOf())
	case fxpFsetstat:
		text += fmt.Sprintf(" handle %d", handleOf()) + attrText(d.attrs())
	case fxpSetstat, fxpMkdir:
		text += " " + d.str() + attrText(d.attrs())
	case fxpLstat, fxpStat, fxpOpendir, fxpRemove, fxpRmdir, fxpRealpath, fxpReadlink:
		text += " " + d.str()
	case fxpRename, fxpSymlink:
		text += " " + d.str() + " and " + d.str()
	case fxpExtended:
		ext := d.str()
		text += " " + ext
		switch ext {
		case "posix-rename@openssh.com", "hardlink@openssh.com":
			text += " " + d.str() + " and " + d.str()
		case "statvfs@openssh.com", "lsetstat@openssh.com", "expand-path@openssh.com", "check-file-name":
			text += " " + d.str()
		case "fstatvfs@openssh.com", "fsync@openssh.com", "check-file", "check-file-handle", "copy-data":
			text += fmt.Sprintf(" handle %d", handleOf())
		}
	}
	if d.bad {
		text += " (cut short)"
	}
	return text, handle, n
}

func openFlags(f uint32) string {
	var out []string
	for _, v := range []struct {
		bit  uint32
		name string
	}{{openRead, "READ"}, {openWrite, "WRITE"}, {openAppend, "APPEND"}, {openCreate, "CREATE"}, {openTrunc, "TRUNC"}, {openExcl, "EXCL"}} {
		if f&v.bit != 0 {
			out = append(out, v.name)
		}
	}
	return strings.Join(out, "+")
}

func attrText(a attrs) (s string) {
	if a.flags&attrSize != 0 {
		s += fmt.Sprintf(" size %d", a.size)
	}
	if a.flags&attrPerm != 0 {
		s += fmt.Sprintf(" mode %04o", a.perm)
	}
	if a.flags&attrTimes != 0 {
		s += " mtime " + a.mtime.UTC().Format("2006-01-02T15:04:05Z")
	}
	return s
}

// reply words a reply, given without its length.
func (t *tape) reply(p []byte) {
	d := decoder{b: p}
	kind, id := d.u8(), d.u32()
	switch kind {
	case fxpVersion:
		t.answer = fmt.Sprintf("VERSION %d", id)
	case fxpStatus:
		code, text := d.u32(), d.str()
		t.answer, t.status = fmt.Sprintf("[%d] STATUS %s: %s", id, statusNames[code], text), code
	case fxpHandle:
		if b := d.bytes(); len(b) == 8 {
			t.answer = fmt.Sprintf("[%d] HANDLE %d", id, binary.BigEndian.Uint64(b))
		}
	case fxpName:
		n := d.u32()
		t.answer = fmt.Sprintf("[%d] NAME, %d entries", id, n)
		if n == 1 {
			t.answer += ": " + d.str()
		}
	case fxpAttrs:
		t.answer = fmt.Sprintf("[%d] ATTRS%s", id, attrText(d.attrs()))
	default:
		t.answer = fmt.Sprintf("[%d] reply of type %d, %d octets", id, kind, len(p))
	}
}

// data words the reply to READ, which has no other octets than the file's.
func (t *tape) data(id uint32, n int) {
	t.answer, t.status = fmt.Sprintf("[%d] DATA, %d octets", id, n), statusOK
}
