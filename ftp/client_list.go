package ftp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"
)

// Entry is one entry of a listing.
type Entry struct {
	Info
	Facts Facts // of MLSD and MLST; nil when the entry comes from LIST
}

// maxListLine bounds a line of a listing.
const maxListLine = 64 << 10

// List lists a directory ("" is the working directory) without the entries for
// itself and its parent: by MLSD where FEAT names it, otherwise by LIST, of
// which lines in unknown forms are left out. The sequence ends after the first
// error. Breaking out of it ends the transfer.
func (c *Client) List(ctx context.Context, path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := c.Features(ctx)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		if f.Has("MLST") || f.Has("MLSD") {
			for e, err := range c.MachineList(ctx, path) {
				if err == nil {
					t, _ := e.Facts.Get("type")
					if strings.EqualFold(t, "cdir") || strings.EqualFold(t, "pdir") {
						continue
					}
				}
				if !yield(e, err) {
					return
				}
			}
			return
		}
		now := time.Now()
		for l, err := range c.Lines(ctx, withArg("LIST", path)) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			in, err := ParseListLine(l, now)
			if err != nil {
				continue
			}
			if !yield(Entry{Info: in}, nil) {
				return
			}
		}
	}
}

// MachineList lists a directory by MLSD (RFC 3659 section 7), with every entry
// the server sends, including those of type cdir and pdir.
func (c *Client) MachineList(ctx context.Context, path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for l, err := range c.Lines(ctx, withArg("MLSD", path)) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			e, err := entryOf(l)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func entryOf(line string) (Entry, error) {
	facts, name, err := ParseFacts(line)
	if err != nil {
		return Entry{}, &ProtocolError{Line: clip(line), Why: "it is not a line of facts"}
	}
	return Entry{Info: facts.Info(decodeName(name)), Facts: facts}, nil
}

// NameList returns the names in a directory, by NLST (RFC 1123 section
// 4.1.2.7). Whether they carry the path is up to the server.
func (c *Client) NameList(ctx context.Context, path string) ([]string, error) {
	var names []string
	for l, err := range c.Lines(ctx, withArg("NLST", path)) {
		var refused *Error
		if errors.As(err, &refused) && refused.Code == 550 && len(names) == 0 && path == "" {
			return nil, nil // how several servers say that the directory is empty
		}
		if err != nil {
			return names, err
		}
		names = append(names, decodeName(l))
	}
	return names, nil
}

// Stat describes one file or directory by MLST. The name is the server's
// spelling, usually the full path.
func (c *Client) Stat(ctx context.Context, path string) (Entry, error) {
	r, err := c.reply(ctx, 2, withArg("MLST", path))
	if err != nil {
		return Entry{}, err
	}
	if len(r.Lines) < 2 {
		return Entry{}, &ProtocolError{Line: clip(r.Text), Why: "it has no line of facts as a reply to MLST should"}
	}
	// The line begins with one space (RFC 3659 section 7.2), which a few
	// servers forget; a line without facts begins with two.
	return entryOf(strings.TrimPrefix(r.Lines[1], " "))
}

// Lines runs a command that sends text (LIST, NLST, MLSD with their arguments)
// and yields its lines without their ends. The sequence ends after the first
// error. Breaking out of it ends the transfer.
func (c *Client) Lines(ctx context.Context, cmd string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		t, err := c.begin(ctx, cmd, 0)
		if err != nil {
			yield("", err)
			return
		}
		d := &download{t: t}
		defer d.Close()
		br := bufio.NewReaderSize(d, 32<<10)
		for {
			line, err := listLine(br)
			if err == io.EOF && line == "" {
				return
			}
			if err != nil && err != io.EOF {
				yield("", err)
				return
			}
			if !yield(line, nil) || err == io.EOF {
				return
			}
		}
	}
}

func listLine(br *bufio.Reader) (string, error) {
	var b []byte
	for {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		if len(b) > maxListLine {
			return "", &ProtocolError{Line: clip(string(b)), Why: "the line of the listing is too long"}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), err
	}
}

// withArg joins a verb and an argument that may be empty.
func withArg(verb, arg string) string {
	if arg == "" {
		return verb
	}
	return verb + " " + arg
}
