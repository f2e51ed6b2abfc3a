package sshd

import (
	"errors"
	"io"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// maxDrain is how much of a refused upload is read to its end, so that the
// client hears why. More than that is not worth it: the connection is closed.
const maxDrain = 64 << 20

// sink receives files from the client. target is where they go: into it when
// it is a directory, else under this very name.
func (x *scp) sink(target string) error {
	i, err := x.s.Stat(x.ctx, target)
	isDir := err == nil && i.IsDir()
	if x.toDir && !isDir {
		if err == nil {
			err = fault.Text(fault.Canceled, "not a directory")
		}
		return x.die(target, err)
	}
	if err := x.ack(); err != nil {
		return err
	}
	return x.receive(target, isDir)
}

// receive handles the lines of one directory level. It returns at its "E" or
// at the end of the stream.
func (x *scp) receive(target string, isDir bool) error {
	var times *scpLine
	for {
		if x.depth == 0 {
			if _, err := x.in.Peek(1); err == io.EOF {
				return nil // the client has nothing more
			}
		}
		line, err := x.line()
		if err != nil {
			return err
		}
		if line != "" && line[0] <= 2 { // the client reports a problem of its own
			x.failed = true
			if line[0] == 2 {
				return errScpOver
			}
			continue
		}
		l, err := parseScpLine(line)
		if err != nil {
			return x.die(target, err)
		}
		switch l.kind {
		case 'T':
			times = &l
			err = x.ack()
		case 'E':
			if x.depth == 0 {
				return x.die(target, errScpLine)
			}
			return x.ack()
		case 'C':
			err = x.receiveFile(place(target, isDir, l.name), &l, times)
			times = nil
		case 'D':
			err = x.receiveDir(place(target, isDir, l.name), &l, times)
			times = nil
		}
		if err != nil {
			return err
		}
	}
}

func place(target string, isDir bool, name string) string {
	if isDir {
		return vfs.Join(target, name)
	}
	return target
}

func (x *scp) receiveDir(name string, l, times *scpLine) error {
	if !x.recursive || x.depth >= maxScpDepth {
		return x.die(name, errScpLine)
	}
	i, err := x.s.Stat(x.ctx, name)
	switch {
	case err == nil && !i.IsDir():
		return x.die(name, fault.Text(fault.Canceled, "not a directory"))
	case err != nil:
		// It may be there and not for the user to see. The owner must be able
		// to fill a new one, whatever its mode will be.
		if err = x.s.Mkdir(x.ctx, name, l.mode|0o700); err != nil && fault.KindOf(err) != fault.Exist {
			// The client goes on with the contents whatever is answered here.
			return x.die(name, err)
		}
	}
	if err := x.ack(); err != nil {
		return err
	}
	x.depth++
	if err := x.receive(name, true); err != nil {
		return err
	}
	x.depth--
	if err := x.attributes(name, l, times, true); err != nil {
		// The "E" was acknowledged; what the client reads next belongs to the next line.
		x.failed = true
		io.WriteString(x.err, "scp: "+plain(name)+": "+answerTo(err).text+"\n")
	}
	return nil
}

// attributes sets what -p asks for.
func (x *scp) attributes(name string, l, times *scpLine, mode bool) error {
	var a vfs.Attr
	if times != nil {
		a.ModTime, a.ATime = &times.mtime, &times.atime
	}
	// A file has got its mode when it was made; without the right to change it
	// the umask has the last word.
	if mode && x.preserve && x.s.Rights(name).Has(account.Chmod) {
		a.Mode = &l.mode
	}
	if a == (vfs.Attr{}) {
		return nil
	}
	return x.s.SetAttr(x.ctx, name, a)
}

func (x *scp) receiveFile(name string, l, times *scpLine) error {
	f, err := x.s.Create(x.ctx, name, vfs.CreateOptions{Size: l.size, Perm: l.mode})
	if err != nil {
		return x.tell(name, err) // instead of the acknowledgement: the client leaves the file out
	}
	x.s.Note("PUT", name)
	if err := x.ack(); err != nil {
		f.Close(fault.New(fault.Canceled, "scp", name, errScpOver))
		return err
	}
	werr, err := x.receiveData(f, l.size)
	if err != nil {
		if werr == nil {
			werr = fault.New(fault.Canceled, "scp", name, errors.New("the connection ended before the file was complete"))
		}
		f.Close(werr)
		return err
	}
	// The client says whether it could read its file to the end. If not, what
	// came is not the file.
	refused, err := x.response()
	switch {
	case err != nil || refused:
		f.Close(fault.New(fault.Canceled, "scp", name, errors.New("the client could not read its file")))
		if err == nil {
			err = x.ack()
		}
		return err
	case werr == nil:
		werr = f.Commit(x.ctx)
	}
	if cerr := f.Close(werr); werr == nil {
		werr = cerr
	}
	if werr == nil {
		werr = x.attributes(name, l, times, x.preserve)
	}
	if werr != nil {
		return x.tell(name, werr)
	}
	return x.ack()
}

// receiveData takes size octets. werr is why they were not stored: they are
// read to the end all the same, if that is not too far.
func (x *scp) receiveData(f io.Writer, size int64) (werr, err error) {
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	for left := size; left > 0; {
		n, err := x.in.Read((*b)[:min(int64(len(*b)), left)])
		left -= int64(n)
		x.touch()
		if werr == nil && n > 0 {
			if _, werr = f.Write((*b)[:n]); werr != nil && left > maxDrain {
				x.tell("upload", werr)
				return werr, errScpOver
			}
		}
		if err != nil {
			return werr, errScpOver
		}
	}
	return werr, nil
}
