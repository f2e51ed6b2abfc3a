package sshd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
)

// The packet types of version 3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

var errMalformed = errors.New("malformed packet")

// sftp is one SFTP session on one channel (draft-ietf-secsh-filexfer-02, with
// the extensions of OpenSSH). One goroutine reads, acts and answers, in order:
// with requests in flight the SSH layer decrypts ahead on a goroutine of its
// own, and no request waits for a scheduler. Replies that are small are
// gathered until the client has nothing more to say.
type sftp struct {
	s   *session.Session
	ctx context.Context
	rw  io.ReadWriter
	in  packetReader
	out []byte // replies not sent yet
	log *slog.Logger

	// begin and end enclose open files, touch notes a request, gather holds
	// writes to the network back until release.
	begin, end, touch func()
	gather, release   func()
	held              bool
	closed            int // calls of end that are due after the next flush

	id      uint32 // of the request at hand
	handles handles
	pending map[string]*handle // uploads that are not visible yet, by path
	tape    *tape              // of the session's transcript; nil: it has none
}

// gather is how many octets of small replies are sent together.
const gather = 32 << 10

func newSFTP(s *session.Session, rw io.ReadWriter, log *slog.Logger) *sftp {
	nothing := func() {}
	x := &sftp{s: s, ctx: s.Context(), rw: rw, log: log, begin: nothing, end: nothing, touch: nothing, gather: nothing, release: nothing, pending: map[string]*handle{}}
	x.in = packetReader{src: rw, wait: func() error {
		err := x.flush()
		x.keep()
		return err
	}}
	return x
}

// serve runs until the client leaves or breaks the protocol. Files that are
// open then are closed as failed: an upload without CLOSE is never visible.
func (x *sftp) serve() (err error) {
	defer func() {
		why := err
		if why == nil {
			why = errors.New("the client left without closing the file")
		}
		x.tape.flush()
		x.closeAll(fault.New(fault.Canceled, "", "", why))
		x.flush()
		x.in.free()
		x.send()
	}()
	p, err := x.in.next()
	if err != nil {
		return leaving(err)
	}
	if err := x.hello(p); err != nil {
		return err
	}
	for {
		p, err := x.in.next()
		if err != nil {
			return leaving(err)
		}
		x.touch()
		if err := x.packet(p); err != nil {
			x.flush() // what was answered before still counts
			return err
		}
		if len(x.out) >= gather {
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
}

// leaving makes the end of the stream between packets no error.
func leaving(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (x *sftp) flush() error {
	var err error
	if len(x.out) > 0 {
		x.keep()
		_, err = x.rw.Write(x.out)
		if x.out = x.out[:0]; cap(x.out) > 2*gather {
			x.out = nil
		}
	}
	x.send()
	for ; x.closed > 0; x.closed-- {
		x.end()
	}
	return err
}

// keep and send hold the network back: the SSH layer's window adjustments,
// which it makes while requests are read, go out with the replies to them, and
// all packets of a large reply in one piece.
func (x *sftp) keep() {
	if !x.held {
		x.gather()
		x.held = true
	}
}

func (x *sftp) send() {
	if x.held {
		x.held = false
		x.release()
	}
}

// extensions are those announced, with the data that goes with each.
var extensions = [...][2]string{
	{"posix-rename@openssh.com", "1"}, {"statvfs@openssh.com", "2"}, {"fstatvfs@openssh.com", "2"}, {"hardlink@openssh.com", "1"},
	{"fsync@openssh.com", "1"}, {"lsetstat@openssh.com", "1"}, {"limits@openssh.com", "1"}, {"expand-path@openssh.com", "1"},
	{"copy-data", "1"}, {"home-directory", "1"}, {"users-groups-by-id@openssh.com", "1"}, {"check-file", "md5,sha1,sha256,sha512"},
}

func (x *sftp) hello(p []byte) error {
	if to := x.s.Tape(); to != nil && len(p) >= 5 {
		what, _, _ := describe(p)
		to.Line(false, what)
		to.Line(true, "VERSION 3")
	}
	d := decoder{b: p}
	if t, v := d.u8(), d.u32(); d.bad || t != fxpInit || v < 3 {
		return fmt.Errorf("%w: the first one must ask for version 3 or later", errMalformed)
	}
	at := x.open(fxpVersion)
	x.out = appendU32(x.out, 3)
	for _, e := range extensions {
		x.out = appendString(appendString(x.out, e[0]), e[1])
	}
	x.shut(at)
	return nil
}

// open starts a reply and shut writes its length.
func (x *sftp) open(t byte) (at int) {
	at = len(x.out)
	x.out = append(x.out, 0, 0, 0, 0, t)
	return at
}

func (x *sftp) shut(at int) {
	binary.BigEndian.PutUint32(x.out[at:], uint32(len(x.out)-at-4))
	if x.tape != nil {
		x.tape.reply(x.out[at+4:])
	}
}

// reply starts a reply to the request at hand.
func (x *sftp) reply(t byte) (at int) {
	at = x.open(t)
	x.out = appendU32(x.out, x.id)
	return at
}

// status answers with what became of the request.
func (x *sftp) status(op, name string, err error) {
	if err == nil {
		at := x.reply(fxpStatus)
		x.out = append(x.out, done...)
		x.shut(at)
		return
	}
	a := answerTo(err)
	if err != io.EOF {
		level := a.level
		if level < slog.LevelError {
			level = slog.LevelDebug // it is an event of the session already
		}
		x.log.Log(x.ctx, level, "refused", "session", x.s.ID(), "user", x.s.User(), "cmd", op, "path", name, "code", a.code, "fault", fault.KindOf(err).String(), "err", err)
	}
	x.say(a.code, a.text)
}

// done is the rest of the reply of success.
var done = appendString(appendString(appendU32(nil, statusOK), "Done."), "en")

func (x *sftp) say(code uint32, text string) {
	at := x.reply(fxpStatus)
	x.out = appendString(appendString(appendU32(x.out, code), fault.Sentence(text)), "en")
	x.shut(at)
}

// clientPath is the name a client sent, absolute; the session checks it.
func clientPath(p string) string { return vfs.Join("/", p) }

// packet carries out one request, and records it where that was asked for. An
// error ends the channel; everything that is wrong with files is a status.
func (x *sftp) packet(p []byte) error {
	if to := x.s.Tape(); to != nil && len(p) >= 5 {
		return x.record(to, p)
	}
	x.tape = nil
	return x.carry(p)
}

func (x *sftp) carry(p []byte) error {
	d := &decoder{b: p}
	t := d.u8()
	x.id = d.u32()
	if d.bad {
		return errMalformed
	}
	act, ok := requests[t]
	switch {
	case ok:
		act(x, d)
	case t == fxpExtended:
		name := d.str()
		if ext, known := extended[name]; known && !d.bad {
			ext(x, d)
		} else if !d.bad {
			x.say(statusOpUnsupported, "this server does not know the request "+plain(name))
		}
	case t == fxpInit:
		return fmt.Errorf("%w: a second greeting", errMalformed)
	default:
		x.say(statusOpUnsupported, "this server does not know requests of that type")
	}
	if d.bad {
		return fmt.Errorf("%w of type %d", errMalformed, t)
	}
	return nil
}

// requests and extended say who carries out what. A handler that finds d.bad
// returns without a reply; packet then ends the channel.
var (
	requests map[byte]func(*sftp, *decoder)
	extended map[string]func(*sftp, *decoder)
)

func init() {
	requests = map[byte]func(*sftp, *decoder){
		fxpOpen: (*sftp).openFile, fxpClose: (*sftp).close, fxpRead: (*sftp).read, fxpWrite: (*sftp).write,
		fxpLstat: (*sftp).lstat, fxpStat: (*sftp).stat, fxpFstat: (*sftp).fstat, fxpSetstat: (*sftp).setstat, fxpFsetstat: (*sftp).fsetstat,
		fxpOpendir: (*sftp).opendir, fxpReaddir: (*sftp).readdir, fxpRemove: (*sftp).remove, fxpMkdir: (*sftp).mkdir, fxpRmdir: (*sftp).rmdir,
		fxpRealpath: (*sftp).realpath, fxpRename: (*sftp).rename, fxpReadlink: (*sftp).readlink, fxpSymlink: (*sftp).symlink,
	}
	extended = map[string]func(*sftp, *decoder){
		"posix-rename@openssh.com": (*sftp).posixRename, "statvfs@openssh.com": (*sftp).statvfs, "fstatvfs@openssh.com": (*sftp).fstatvfs,
		"hardlink@openssh.com": (*sftp).hardlink, "fsync@openssh.com": (*sftp).fsync, "lsetstat@openssh.com": (*sftp).lsetstat,
		"limits@openssh.com": (*sftp).limits, "expand-path@openssh.com": (*sftp).expandPath, "copy-data": (*sftp).copyData,
		"home-directory": (*sftp).homeDirectory, "users-groups-by-id@openssh.com": (*sftp).usersGroups,
		"check-file": (*sftp).checkHandle, "check-file-handle": (*sftp).checkHandle, "check-file-name": (*sftp).checkName,
	}
}
