package sshd

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// limits answers limits@openssh.com (PROTOCOL of OpenSSH, section 4.8).
func (x *sftp) limits(*decoder) {
	at := x.reply(fxpExtendedReply)
	for _, v := range [...]uint64{maxPacket, maxRead, maxRead, maxHandles} {
		x.out = appendU64(x.out, v)
	}
	x.shut(at)
}

func (x *sftp) statvfs(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	x.room(name)
}

func (x *sftp) fstatvfs(d *decoder) {
	h, _ := x.handle(d)
	switch {
	case d.bad:
	case h == nil:
		x.status("fstatvfs", "", errNoHandle)
	default:
		x.room(h.name)
	}
}

// block is the unit in which room is told.
const block = 4096

// room tells the space where name is, as statvfs(3) would: the least of disk and quota.
func (x *sftp) room(name string) {
	if i, err := x.s.Stat(x.ctx, name); err != nil {
		x.status("statvfs", name, err)
		return
	} else if !i.IsDir() {
		name, _ = vfs.Split(name)
	}
	sp, err := x.s.Space(x.ctx, name)
	if err != nil {
		x.status("statvfs", name, err)
		return
	}
	flags := uint64(2) // ST_NOSUID
	if x.s.Rights(name)&(account.Upload|account.Overwrite|account.Append) == 0 {
		flags |= 1 // ST_RDONLY
	}
	total, free := uint64(max(sp.Total, 0))/block, uint64(max(sp.Free, 0))/block
	const names = 1 << 20 // of files; storages do not tell
	at := x.reply(fxpExtendedReply)
	for _, v := range [...]uint64{block, block, total, free, free, names, names, names, 0, flags, vfs.MaxName} {
		x.out = appendU64(x.out, v)
	}
	x.shut(at)
}

// usersGroups answers users-groups-by-id@openssh.com with no name for any
// number, so that clients show the numbers.
func (x *sftp) usersGroups(d *decoder) {
	users, groups := d.bytes(), d.bytes()
	if d.bad || len(users)%4 != 0 || len(groups)%4 != 0 || len(users)+len(groups) > maxPacket/2 {
		d.bad = true
		return
	}
	at := x.reply(fxpExtendedReply)
	for _, list := range [...][]byte{users, groups} {
		x.out = appendU32(x.out, uint32(len(list)))
		for range len(list) / 4 {
			x.out = appendU32(x.out, 0)
		}
	}
	x.shut(at)
}

var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
	"crc32": func() hash.Hash { return crc32.NewIEEE() },
}

// checkHandle and checkName answer check-file (draft-ietf-secsh-filexfer-13
// section 9.1): hashes of a file, or of each of its blocks.
func (x *sftp) checkHandle(d *decoder) {
	x.check(d, x.file(d))
}

func (x *sftp) checkName(d *decoder) {
	name := clientPath(d.str())
	if d.bad {
		return
	}
	h, err := x.openRead(name)
	if err != nil {
		d.take(len(d.b))
		x.status("check-file", name, err)
		return
	}
	defer func() { h.f.Close(nil) }()
	x.check(d, h)
}

const minHashBlock = 256

func (x *sftp) check(d *decoder, h *handle) {
	algorithms, off, length, size := d.str(), d.offset(), d.offset(), int64(d.u32())
	if !x.usable(d, h, "check-file") {
		return
	}
	if h.upload {
		if err := x.settle(h); err != nil {
			x.status("check-file", h.name, err)
			return
		}
	}
	used := ""
	for a := range strings.SplitSeq(algorithms, ",") {
		if hashes[a] != nil {
			used = a
			break
		}
	}
	switch {
	case used == "":
		x.status("check-file", h.name, fault.New(fault.Unsupported, "check-file", h.name, nil))
		return
	case size != 0 && size < minHashBlock:
		x.status("check-file", h.name, fault.Text(fault.Invalid, "a block must have at least 256 octets"))
		return
	}
	sums, err := x.sums(h, hashes[used](), off, length, size)
	if err != nil {
		x.status("check-file", h.name, err)
		return
	}
	at := x.reply(fxpExtendedReply)
	x.out = appendString(appendString(x.out, "check-file"), used)
	x.out = append(x.out, sums...)
	x.shut(at)
}

// sums hashes length octets from off on (0: to the end), a hash for each block
// of size octets (0: one for all).
func (x *sftp) sums(h *handle, sum hash.Hash, off, length, size int64) (out []byte, err error) {
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	left := length
	inBlock := int64(0)
	for length == 0 || left > 0 {
		p := (*b)[:maxRead]
		if length > 0 {
			p = p[:min(int64(len(p)), left)]
		}
		if size > 0 {
			p = p[:min(int64(len(p)), size-inBlock)]
		}
		n, err := h.readAt(x, p, off)
		x.touch()
		sum.Write(p[:n])
		off, left, inBlock = off+int64(n), left-int64(n), inBlock+int64(n)
		if size > 0 && inBlock == size {
			out, inBlock = sum.Sum(out), 0
			sum.Reset()
			if len(out) > maxPacket/2 {
				return nil, fault.Text(fault.Invalid, "that would be more hashes than fit into an answer; ask for larger blocks")
			}
		}
		if err == io.EOF || err == nil && n == 0 {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if size == 0 || inBlock > 0 {
		out = sum.Sum(out)
	}
	return out, nil
}
