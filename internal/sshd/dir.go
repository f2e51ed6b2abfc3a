package sshd

import (
	"io"
	"io/fs"
	"iter"
	"strconv"
	"time"

	"github.com/portreeve/portreeve/internal/vfs"
)

// directory is an open listing. Entries come from the storage as the client
// asks for them.
type directory struct {
	next func() (vfs.Info, error, bool)
	stop func()
	dots []vfs.Info // "." and ".." not sent yet
	err  error      // the listing failed; told when all before it was sent
	now  time.Time
}

func (x *sftp) opendir(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	if len(x.handles.open) >= maxHandles {
		x.status("opendir", name, errManyHandles)
		return
	}
	i, err := x.s.Stat(x.ctx, name)
	if err != nil {
		x.status("opendir", name, err)
		return
	}
	dir := &directory{now: time.Now()}
	dir.next, dir.stop = iter.Pull2(x.s.List(x.ctx, name))
	// The first entry shows whether the listing is permitted at all.
	first, err, ok := dir.next()
	if ok && err != nil {
		dir.stop()
		x.status("opendir", name, err)
		return
	}
	i.Name = "."
	up := i
	if parent, _ := vfs.Split(name); parent != name {
		if p, err := x.s.Stat(x.ctx, parent); err == nil {
			up = p
		}
	}
	up.Name = ".."
	dir.dots = []vfs.Info{i, up}
	if ok {
		dir.dots = append(dir.dots, first)
	}
	x.s.Note("LS", name)
	x.give(&handle{name: name, dir: dir})
}

// listSize is how many octets of names go into one reply.
const listSize = 48 << 10

func (x *sftp) readdir(d *decoder) {
	h, _ := x.handle(d)
	if d.bad {
		return
	}
	if h == nil || h.dir == nil {
		x.status("readdir", "", errNoHandle)
		return
	}
	dir := h.dir
	at := x.reply(fxpName)
	count := len(x.out)
	x.out = appendU32(x.out, 0)
	n := uint32(0)
	for len(x.out)-at < listSize && dir.err == nil {
		var i vfs.Info
		if len(dir.dots) > 0 {
			i, dir.dots = dir.dots[0], dir.dots[1:]
		} else {
			next, err, ok := dir.next()
			if !ok {
				dir.err = io.EOF
				break
			}
			if err != nil {
				dir.err = err
				break
			}
			i = next
		}
		x.out = appendString(x.out, i.Name)
		x.out = appendLong(x.out, &i, dir.now)
		x.out = appendAttrs(x.out, &i)
		n++
	}
	if n == 0 {
		x.out = x.out[:at]
		x.status("readdir", h.name, dir.err)
		return
	}
	putU32(x.out[count:], n)
	x.shut(at)
}

// appendLong appends a line as "ls -l" has it, with its length. Owners are
// numbers: names of the host's accounts are nobody's business outside.
func appendLong(b []byte, i *vfs.Info, now time.Time) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendMode(b, i.Mode)
	b = appendPadded(append(b, ' '), uint64(max(i.Links, 1)), 4)
	b = appendNumber(append(b, ' '), i.UID, 8)
	b = appendNumber(append(b, ' '), i.GID, 8)
	b = appendPadded(append(b, ' '), uint64(max(i.Size, 0)), 8)
	layout := " Jan _2 15:04 "
	if age := now.Sub(i.ModTime); age > 182*24*time.Hour || age < -24*time.Hour {
		layout = " Jan _2  2006 "
	}
	b = i.ModTime.AppendFormat(b, layout)
	for j := range len(i.Name) {
		if c := i.Name[j]; c < ' ' || c == 0x7f {
			b = append(b, '?')
		} else {
			b = append(b, c)
		}
	}
	putU32(b[start:], uint32(len(b)-start-4))
	return b
}

func appendMode(b []byte, m fs.FileMode) []byte {
	kind := byte('-')
	switch {
	case m&fs.ModeDir != 0:
		kind = 'd'
	case m&fs.ModeSymlink != 0:
		kind = 'l'
	case m&fs.ModeNamedPipe != 0:
		kind = 'p'
	case m&fs.ModeSocket != 0:
		kind = 's'
	case m&fs.ModeCharDevice != 0:
		kind = 'c'
	case m&fs.ModeDevice != 0:
		kind = 'b'
	}
	b = append(b, kind)
	const bits = "rwxrwxrwx"
	for j := range 9 {
		c := byte('-')
		if m&(1<<(8-j)) != 0 {
			c = bits[j]
		}
		b = append(b, c)
	}
	return b
}

// appendPadded writes n to the right of a column.
func appendPadded(b []byte, n uint64, width int) []byte {
	var t [20]byte
	s := strconv.AppendUint(t[:0], n, 10)
	for j := len(s); j < width; j++ {
		b = append(b, ' ')
	}
	return append(b, s...)
}

// appendNumber writes n to the left of a column.
func appendNumber(b []byte, n uint32, width int) []byte {
	start := len(b)
	b = strconv.AppendUint(b, uint64(n), 10)
	for len(b)-start < width {
		b = append(b, ' ')
	}
	return b
}
