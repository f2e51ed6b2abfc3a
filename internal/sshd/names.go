package sshd

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

func putU32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }

func (x *sftp) attributes(op, name string, i vfs.Info, err error) {
	if err != nil {
		x.status(op, name, err)
		return
	}
	at := x.reply(fxpAttrs)
	x.out = appendAttrs(x.out, &i)
	x.shut(at)
}

// waiting returns the upload of this session under the name, nil when there is
// none. Its client may ask about the file though nobody else can see it yet.
func (x *sftp) waiting(name string) *handle {
	if len(x.pending) == 0 {
		return nil
	}
	return x.pending[name]
}

func (x *sftp) stat(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	if h := x.waiting(name); h != nil {
		i, err := h.f.Stat()
		x.attributes("stat", name, i, err)
		return
	}
	i, err := x.s.Stat(x.ctx, name)
	x.attributes("stat", name, i, err)
}

func (x *sftp) lstat(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	if h := x.waiting(name); h != nil {
		i, err := h.f.Stat()
		x.attributes("lstat", name, i, err)
		return
	}
	i, err := x.s.Lstat(x.ctx, name)
	x.attributes("lstat", name, i, err)
}

func (x *sftp) fstat(d *decoder) {
	h, _ := x.handle(d)
	switch {
	case d.bad:
	case h == nil:
		x.status("fstat", "", errNoHandle)
	case h.dir != nil:
		i, err := x.s.Stat(x.ctx, h.name)
		x.attributes("fstat", h.name, i, err)
	default:
		i, err := h.f.Stat()
		x.attributes("fstat", h.name, i, err)
	}
}

func (x *sftp) setstat(d *decoder) {
	name := clientPath(d.str())
	a := d.attrs()
	if d.bad {
		return
	}
	if h := x.waiting(name); h != nil {
		x.status("setstat", name, x.setLater(h, &a))
		return
	}
	x.status("setstat", name, x.setAttrs(name, &a))
}

func (x *sftp) fsetstat(d *decoder) {
	h, _ := x.handle(d)
	a := d.attrs()
	if d.bad {
		return
	}
	switch {
	case h == nil:
		x.status("fsetstat", "", errNoHandle)
	case h.upload:
		x.status("fsetstat", h.name, x.setLater(h, &a))
	case h.f != nil && a.flags&attrSize != 0:
		// Through the handle, which knows how far the quota is charged.
		err := h.f.Truncate(a.size)
		if a.flags &^= attrSize; err == nil && a.flags != 0 {
			err = x.setAttrs(h.name, &a)
		}
		x.status("fsetstat", h.name, err)
	default:
		x.status("fsetstat", h.name, x.setAttrs(h.name, &a))
	}
}

var errOwner = fault.Text(fault.Denied, "ownership cannot be changed over SFTP")

func (x *sftp) setAttrs(name string, a *attrs) error {
	if a.flags&attrUIDGID != 0 && a.flags&(attrSize|attrPerm|attrTimes) == 0 {
		i, err := x.s.Stat(x.ctx, name)
		if err == nil && (i.UID != a.uid || i.GID != a.gid) {
			err = errOwner
		}
		return err
	}
	return x.s.SetAttr(x.ctx, name, a.change())
}

// setLater keeps attributes of an upload until it is visible: the storage's
// name for it is not the client's. Rights are checked now, while the client
// can still be told.
func (x *sftp) setLater(h *handle, a *attrs) error {
	have := x.s.Rights(h.name)
	switch {
	case a.flags&attrPerm != 0 && !have.Has(account.Chmod):
		return fault.New(fault.Denied, "chmod", h.name, errors.New("no right to chmod"))
	case a.flags&attrTimes != 0 && !have.Has(account.Times):
		return fault.New(fault.Denied, "times", h.name, errors.New("no right to times"))
	case a.flags&attrUIDGID != 0 && a.flags&(attrSize|attrPerm|attrTimes) == 0:
		return errOwner
	}
	if a.flags&attrSize != 0 {
		if err := h.f.Truncate(a.size); err != nil {
			return err
		}
	}
	c := a.change()
	if c.Mode != nil {
		h.later.Mode, h.wants = c.Mode, true
	}
	if c.ModTime != nil {
		h.later.ModTime, h.later.ATime, h.wants = c.ModTime, c.ATime, true
	}
	return nil
}

func (x *sftp) lsetstat(d *decoder) {
	name := clientPath(d.str())
	a := d.attrs()
	if d.bad {
		return
	}
	i, err := x.s.Lstat(x.ctx, name)
	switch {
	case err != nil:
	case i.Mode.Type() != 0 && !i.IsDir():
		err = fault.New(fault.Unsupported, "setstat", name, errors.New("attributes of a link itself"))
	default:
		err = x.setAttrs(name, &a)
	}
	x.status("lsetstat", name, err)
}

func (x *sftp) remove(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	if h := x.waiting(name); h != nil {
		if err := x.settle(h); err != nil {
			x.status("remove", name, err)
			return
		}
	}
	x.status("remove", name, x.s.Remove(x.ctx, name))
}

func (x *sftp) mkdir(d *decoder) {
	name := clientPath(d.str())
	a := d.attrs()
	if d.bad {
		return
	}
	perm := a.perm
	if a.flags&attrPerm == 0 {
		perm = 0o777
	}
	x.status("mkdir", name, x.s.Mkdir(x.ctx, name, perm))
}

func (x *sftp) rmdir(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	x.status("rmdir", name, x.s.Rmdir(x.ctx, name))
}

func (x *sftp) rename(d *decoder)      { x.move(d, false) }
func (x *sftp) posixRename(d *decoder) { x.move(d, true) }

func (x *sftp) move(d *decoder, replace bool) {
	from, to := clientPath(d.str()), clientPath(d.str())
	if d.bad {
		return
	}
	h := x.waiting(from)
	if h != nil {
		if err := x.settle(h); err != nil {
			x.status("rename", from, err)
			return
		}
	}
	err := x.s.Rename(x.ctx, from, to, replace)
	if err == nil && h != nil {
		h.name = to
	}
	x.status("rename", from, err)
}

func (x *sftp) readlink(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	t, err := x.s.Readlink(x.ctx, name)
	if err != nil {
		x.status("readlink", name, err)
		return
	}
	x.oneName(t)
}

// symlink has its arguments in the order of OpenSSH, the target first, which
// is the reverse of the draft's and what all clients send.
func (x *sftp) symlink(d *decoder) {
	target, name := d.str(), clientPath(d.str())
	if d.bad {
		return
	}
	x.status("symlink", name, x.s.Symlink(x.ctx, target, name))
}

func (x *sftp) hardlink(d *decoder) {
	from, to := clientPath(d.str()), clientPath(d.str())
	if d.bad {
		return
	}
	x.status("hardlink", to, x.s.Link(x.ctx, from, to))
}

// oneName answers with a name and no attributes.
func (x *sftp) oneName(name string) {
	at := x.reply(fxpName)
	x.out = appendU32(x.out, 1)
	x.out = appendString(appendString(x.out, name), name)
	x.out = appendU32(x.out, 0)
	x.shut(at)
}

// realpath works by text alone: links lead nowhere outside, and where they
// lead inside is no concern of a name.
func (x *sftp) realpath(d *decoder) {
	name := d.str()
	if d.bad {
		return
	}
	x.resolve(name)
}

func (x *sftp) resolve(name string) {
	clean, err := vfs.CleanExisting(clientPath(name))
	if err != nil {
		x.status("realpath", name, err)
		return
	}
	x.oneName(clean)
}

// expandPath is realpath with "~", which is the root of the user's tree.
func (x *sftp) expandPath(d *decoder) {
	name := d.str()
	if d.bad {
		return
	}
	if rest, ok := strings.CutPrefix(name, "~"); ok {
		who, below, _ := strings.Cut(rest, "/")
		if who != "" && who != x.s.User() {
			x.status("expand-path", name, fault.New(fault.NotExist, "expand-path", name, nil))
			return
		}
		name = "/" + below
	}
	x.resolve(name)
}

func (x *sftp) homeDirectory(d *decoder) {
	who := d.str()
	if d.bad {
		return
	}
	if who != "" && who != x.s.User() {
		x.status("home-directory", "", fault.New(fault.NotExist, "home-directory", "", nil))
		return
	}
	x.oneName("/")
}
