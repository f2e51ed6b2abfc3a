package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/vfs"
)

// scp is one run of the SCP protocol, as "scp -O" and older programs speak it.
type scp struct {
	*run
	in        *bufio.Reader
	recursive bool
	preserve  bool
	toDir     bool // the target must be a directory
	failed    bool
	depth     int
}

// maxScpDepth is how deep directories may nest.
const maxScpDepth = vfs.MaxDepth

// errScpOver ends the protocol; the client was told why, or is gone.
var errScpOver = errors.New("scp: over")

func (r *run) scp(args []word) int {
	x := &scp{run: r, in: bufio.NewReaderSize(r.in, 4<<10)}
	var source, sink bool
	for len(args) > 0 && len(args[0].text) > 1 && args[0].text[0] == '-' {
		a := args[0].text
		args = args[1:]
		if a == "--" {
			break
		}
		for _, o := range a[1:] {
			switch o {
			case 'f':
				source = true
			case 't':
				sink = true
			case 'r':
				x.recursive = true
			case 'p':
				x.preserve = true
			case 'd':
				x.toDir = true
			case 'v', 'q':
			default:
				return r.complain("scp", fmt.Sprintf("the option -%c is not available here", o))
			}
		}
	}
	switch {
	case source == sink:
		return r.complain("scp", "use it from your side: scp FILE user@host:/path or scp user@host:/path .")
	case len(args) == 0:
		return r.complain("scp", "no path is given")
	case sink && len(args) != 1:
		return r.complain("scp", "more than one target is given")
	}
	var err error
	if source {
		err = x.source(args)
	} else {
		err = x.sink(r.expand(word{text: args[0].text})[0])
	}
	if err != nil || x.failed {
		return 1
	}
	return 0
}

// tell reports a problem; the transfer of other files goes on.
func (x *scp) tell(name string, err error) error {
	text := answerTo(err).text
	if errors.Is(err, errScpLine) || errors.Is(err, errScpName) {
		text = err.Error()
	}
	if a := answerTo(err); text == a.text && a.level >= levelError {
		x.log.Error("refused", "session", x.s.ID(), "user", x.s.User(), "cmd", "scp", "path", name, "err", err)
	}
	x.failed = true
	return x.send("\x01scp: " + plain(name) + ": " + text + "\n")
}

// die reports a problem after which nothing makes sense.
func (x *scp) die(name string, err error) error {
	x.tell(name, err)
	return errScpOver
}

func (x *scp) send(s string) error {
	if t := x.s.Tape(); t != nil {
		t.Line(true, strings.TrimSuffix(s, "\n"))
	}
	if _, err := io.WriteString(x.out, s); err != nil {
		return errScpOver
	}
	return nil
}

func (x *scp) ack() error { return x.send("\x00") }

// response reads the client's answer: nil, or an error that it has shown to
// its user. Over means that it is gone or cannot go on.
func (x *scp) response() (refused bool, err error) {
	c, err := x.in.ReadByte()
	if err != nil {
		return false, errScpOver
	}
	switch c {
	case 0:
		x.s.Tape().Line(false, "\x00")
		return false, nil
	case 1, 2:
		if _, err := x.line(); err != nil {
			return false, errScpOver
		}
		x.failed = true
		if c == 2 {
			return true, errScpOver
		}
		return true, nil
	}
	return false, errScpOver
}

// line reads up to a newline, which it leaves out.
func (x *scp) line() (string, error) {
	b, err := x.in.ReadSlice('\n')
	if err != nil || len(b) > maxScpLine {
		return "", errScpOver
	}
	x.touch()
	x.s.Tape().Line(false, string(b[:len(b)-1]))
	return string(b[:len(b)-1]), nil
}

// source sends files to the client.
func (x *scp) source(args []word) error {
	if _, err := x.response(); err != nil {
		return err
	}
	for _, a := range args {
		for _, name := range x.expand(a) {
			if err := x.sendAny(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *scp) sendAny(name string) error {
	if err := x.s.Context().Err(); err != nil {
		return x.die(name, fault.New(fault.Canceled, "scp", name, err))
	}
	i, err := x.s.Stat(x.ctx, name)
	switch {
	case err != nil:
		return x.tell(name, err)
	case i.IsDir() && !x.recursive:
		return x.tell(name, fault.Text(fault.Canceled, "not a regular file; -r copies directories"))
	case i.IsDir():
		return x.sendDir(name, i)
	case !i.Mode.IsRegular():
		return x.tell(name, fault.Text(fault.Canceled, "not a regular file"))
	}
	return x.sendFile(name, i)
}

// sendable refuses names that would break the line they travel in.
func sendable(name string) bool { return !strings.ContainsAny(name, "\n\r") }

// times sends the times of a file when the client wants them.
func (x *scp) times(i vfs.Info) (refused bool, err error) {
	if !x.preserve {
		return false, nil
	}
	t := max(i.ModTime.Unix(), 0)
	if err := x.send(fmt.Sprintf("T%d 0 %d 0\n", t, t)); err != nil {
		return false, err
	}
	return x.response()
}

func (x *scp) sendFile(name string, i vfs.Info) error {
	_, base := vfs.Split(name)
	if !sendable(base) {
		return x.tell(name, errScpName)
	}
	f, err := x.s.Open(x.ctx, name, 0)
	if err != nil {
		return x.tell(name, err)
	}
	size := i.Size
	if n := f.Size(); n > 0 {
		size = n // of the open file, which is what will be sent
	}
	x.s.Note("GET", name)
	refused, err := x.times(i)
	if err == nil && !refused {
		if err = x.send(fmt.Sprintf("C%04o %d %s\n", i.Mode.Perm(), size, base)); err == nil {
			refused, err = x.response()
		}
	}
	if err != nil || refused {
		f.Close(fault.New(fault.Canceled, "scp", name, errors.New("the client refused the file")))
		return err
	}
	rerr, err := x.sendData(f, size)
	if err != nil {
		f.Close(fault.New(fault.Canceled, "scp", name, errors.New("the connection ended")))
		return err
	}
	f.Close(rerr)
	if rerr != nil {
		err = x.tell(name, rerr)
	} else {
		err = x.ack()
	}
	if err == nil {
		_, err = x.response()
	}
	return err
}

// sendData sends exactly size octets, as it was announced: a file that cannot
// be read to its end is filled up with zeros and reported.
func (x *scp) sendData(f io.Reader, size int64) (rerr, err error) {
	b := dataBuffers.Get().(*[]byte)
	defer dataBuffers.Put(b)
	for left := size; left > 0; {
		p := (*b)[:min(int64(len(*b)), left)]
		n := len(p)
		if rerr == nil {
			if n, rerr = io.ReadFull(f, p); rerr != nil {
				if rerr == io.EOF || rerr == io.ErrUnexpectedEOF {
					rerr = fault.Text(fault.Busy, "the file became shorter while it was sent")
				}
				if x.s.Context().Err() != nil {
					return rerr, errScpOver
				}
				clear(p[n:])
				n = len(p)
			}
		} else {
			clear(p)
		}
		if _, err := x.out.Write(p[:n]); err != nil {
			return nil, errScpOver
		}
		left -= int64(n)
		x.touch()
	}
	return rerr, nil
}

func (x *scp) sendDir(name string, i vfs.Info) error {
	_, base := vfs.Split(name)
	if base == "" {
		base = x.s.User() // of the root, which has no name of its own
	}
	if !sendable(base) {
		return x.tell(name, errScpName)
	}
	if x.depth >= maxScpDepth {
		return x.tell(name, fault.Text(fault.Limit, "directories are nested too deep"))
	}
	// Read first: a listing that is refused must not leave an empty directory there.
	var names []string
	for e, err := range x.s.List(x.ctx, name) {
		if err != nil {
			return x.tell(name, err)
		}
		names = append(names, e.Name)
	}
	refused, err := x.times(i)
	if err == nil && !refused {
		if err = x.send(fmt.Sprintf("D%04o 0 %s\n", i.Mode.Perm(), base)); err == nil {
			refused, err = x.response()
		}
	}
	if err != nil || refused {
		return err
	}
	x.depth++
	for _, n := range names {
		if err := x.sendAny(vfs.Join(name, n)); err != nil {
			return err
		}
	}
	x.depth--
	if err := x.send("E\n"); err != nil {
		return err
	}
	_, err = x.response()
	return err
}
