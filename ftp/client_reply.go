package ftp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ProtocolError reports that the server said something that is not FTP, or
// too much of it. The connection cannot be used further.
type ProtocolError struct {
	Line string // what was received, shortened
	Why  string
}

// Error says what was wrong and quotes the line.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("ftp: the server's answer %q makes no sense: %s", e.Line, e.Why)
}

// Limits of what a client keeps of one reply. STAT of a directory comes as
// a reply, so they are generous.
const (
	maxReplyLine  = 16 << 10
	maxReplyLines = 20_000
	maxReplyBytes = 2 << 20
)

// Err returns nil for replies below 400 and an *Error for the others.
func (r Reply) Err() error {
	if r.Code < 400 {
		return nil
	}
	msg := r.Text
	if len(r.Lines) > 0 {
		msg = strings.Join(append(r.Lines[:len(r.Lines):len(r.Lines)], r.Text), " ")
	}
	return &Error{Code: r.Code, Message: strings.TrimSpace(msg)}
}

// readReply reads one reply as RFC 959 section 4.2 defines it: a line with a
// code and a space, or a first line with a code and a hyphen, any lines, and
// a last line with the same code and a space. Lines in between that repeat
// "code-" lose it. Line ends without CR and last lines without text are
// tolerated. trace, which may be nil, sees each line.
func readReply(br *bufio.Reader, trace func(line string)) (Reply, error) {
	line, err := readReplyLine(br, trace)
	if err != nil {
		return Reply{}, err
	}
	code, sep, ok := replyCode(line)
	if !ok {
		return Reply{}, &ProtocolError{Line: clip(line), Why: "it does not begin with a three-digit code"}
	}
	r := Reply{Code: code}
	if sep == ' ' {
		r.Text = after(line, 4)
		return r, nil
	}
	first, prefix := line[4:], line[:4]
	r.Lines = append(r.Lines, first)
	for size := len(first); ; {
		line, err = readReplyLine(br, trace)
		if err != nil {
			return Reply{}, noEOF(err)
		}
		if c, sep, ok := replyCode(line); ok && c == code && sep == ' ' {
			r.Text = after(line, 4)
			return r, nil
		}
		line = strings.TrimPrefix(line, prefix)
		if size += len(line); size > maxReplyBytes || len(r.Lines) >= maxReplyLines {
			return Reply{}, &ProtocolError{Line: clip(first), Why: "the reply is too long"}
		}
		r.Lines = append(r.Lines, line)
	}
}

// replyCode reads the code and what follows it; the end of the line counts as
// a space. 6yz are the protected replies of RFC 2228 section 4.
func replyCode(line string) (code int, sep byte, ok bool) {
	if len(line) < 3 || line[0] < '1' || line[0] > '6' {
		return 0, 0, false
	}
	n, ok := readDecimal(line[:3], 3, 699)
	if !ok {
		return 0, 0, false
	}
	if len(line) == 3 {
		return n, ' ', true
	}
	return n, line[3], line[3] == ' ' || line[3] == '-'
}

func after(s string, n int) string {
	if len(s) < n {
		return ""
	}
	return s[n:]
}

// readReplyLine reads one line without its end and without Telnet commands.
func readReplyLine(br *bufio.Reader, trace func(line string)) (string, error) {
	var b []byte
	for {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		if len(b) > maxReplyLine {
			return "", &ProtocolError{Line: clip(string(b)), Why: "the line is too long"}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(b) > 0 {
				err = noEOF(err)
			}
			return "", err
		}
	}
	// CR NUL is a CR that is part of the line; it cannot stand before LF.
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte{'\n'}), []byte{'\r'})
	line := string(stripTelnet(b))
	if trace != nil {
		trace(line)
	}
	return line, nil
}

// stripTelnet removes Telnet commands and undoes the doubling of byte 255
// (RFC 854, RFC 1123 section 4.1.2.10).
func stripTelnet(b []byte) []byte {
	if bytes.IndexByte(b, 255) < 0 {
		return b
	}
	out := b[:0]
	for i := 0; i < len(b); i++ {
		if b[i] != 255 || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		switch n := b[i+1]; {
		case n == 255:
			out = append(out, 255)
			i++
		case n >= 251: // WILL, WONT, DO, DONT and their option
			i += 2
		case n >= 240:
			i++
		default:
			out = append(out, 255)
		}
	}
	return out
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pendingReply is a reply that is being waited for. One goroutine reads it, so a
// transfer can watch for it while it waits for the data connection.
type pendingReply struct {
	done chan struct{}
	r    Reply
	err  error
}

// expect begins to read the next reply. At most one is under way.
func (c *Client) expect() *pendingReply {
	p := &pendingReply{done: make(chan struct{})}
	br := c.br
	go func() {
		defer close(p.done)
		p.r, p.err = readReply(br, func(l string) { c.trace(false, l) })
	}()
	return p
}

// await waits for p. Without a reply in time, or when ctx ends, the
// connection is closed: nobody could tell which command a late reply is for.
func (c *Client) await(ctx context.Context, p *pendingReply) (Reply, error) {
	t := time.NewTimer(c.opts.Timeout)
	defer t.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return Reply{}, c.broken(context.Cause(ctx))
	case <-t.C:
		return Reply{}, c.broken(fmt.Errorf("ftp: no reply from %s within %v", c.addr, c.opts.Timeout))
	}
	if p.err != nil {
		return Reply{}, c.broken(p.err)
	}
	if p.r.Code == 421 {
		c.broken(p.r.Err()) // the server is about to close
	}
	return p.r, nil
}

// broken notes that the connection is of no more use and returns the reason.
func (c *Client) broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("ftp: %s closed the control connection: %w", c.addr, io.ErrUnexpectedEOF)
	}
	c.errMu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.errMu.Unlock()
	c.raw.Close()
	return err
}
