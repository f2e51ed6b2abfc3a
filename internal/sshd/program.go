package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sort"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/vfs"
)

// maxCommand is the longest command line that is looked at, in octets.
const maxCommand = 8 << 10

// program waits for what a channel is to run and runs it: SFTP or one of a
// fixed list of commands. Nothing is ever started on the host.
func (c *conn) program(ch ssh.Channel, reqs <-chan *ssh.Request) {
	for r := range reqs {
		c.touch()
		switch r.Type {
		case "subsystem":
			name := payloadString(r.Payload)
			if name != "sftp" {
				r.Reply(false, nil)
				continue
			}
			r.Reply(true, nil)
			c.g.Tape().Note("subsystem sftp")
			go ssh.DiscardRequests(reqs)
			c.sftp(ch)
			return
		case "exec":
			line := payloadString(r.Payload)
			r.Reply(true, nil)
			go ssh.DiscardRequests(reqs)
			c.begin()
			exit(ch, c.command(ch, line))
			ch.CloseWrite()
			c.end()
			return
		case "shell":
			r.Reply(true, nil)
			io.WriteString(ch.Stderr(), "This server transfers files only: there is no shell. Use sftp, scp or a client that speaks SFTP.\r\n")
			exit(ch, 1)
			return
		default: // env, pty-req, signal, window-change, x11-req, agent forwarding
			r.Reply(false, nil)
		}
	}
}

func payloadString(p []byte) string {
	d := decoder{b: p}
	s := d.str()
	if d.bad {
		return ""
	}
	return s
}

// exit tells the exit status.
func exit(ch ssh.Channel, code int) {
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
}

func (c *conn) sftp(ch ssh.Channel) {
	x := newSFTP(c.session, ch, c.log)
	x.begin, x.end, x.touch = c.begin, c.end, c.touch
	x.gather, x.release = c.nc.gather, c.nc.release
	err := x.serve()
	c.session.Note("", "")
	if errors.Is(err, errMalformed) {
		c.log.Warn("an SFTP client broke the protocol and was let go", "session", c.g.ID(), "user", c.session.User(), "remote", c.nc.RemoteAddr().String(), "err", err)
		exit(ch, 1)
		return
	}
	exit(ch, 0)
}

// run is what a command has to work with.
type run struct {
	s     *session.Session
	ctx   context.Context
	in    io.Reader
	out   io.Writer
	err   io.Writer
	touch func()
	log   *slog.Logger
}

// command carries out a command line and returns its exit status.
func (c *conn) command(ch ssh.Channel, line string) int {
	r := &run{s: c.session, ctx: c.session.Context(), in: ch, out: ch, err: ch.Stderr(), touch: c.touch, log: c.log}
	return r.exec(line)
}

func (r *run) exec(line string) int {
	if len(line) > maxCommand {
		return r.complain("", "the command is too long")
	}
	if line == shellQuestion {
		io.WriteString(r.out, shellAnswer)
		return 0
	}
	args, err := words(line)
	if t := r.s.Tape(); t != nil {
		t.Note("command %s", taped(args, line))
	}
	if err != nil || len(args) == 0 {
		return r.complain("", "the command cannot be read; quotes must come in pairs")
	}
	name := path.Base(args[0].text)
	defer r.s.Note("", "")
	switch {
	case name == "scp":
		return r.scp(args[1:])
	case sumCommands[name] != "":
		return r.sum(name, args[1:])
	case name == "rsync":
		return r.complain(name, "this server has no rsync; use rclone with its sftp backend, which also transfers only what has changed, or sftp or scp")
	case name == "sftp-server" || name == "internal-sftp":
		return r.complain(name, "ask for the subsystem sftp instead (sftp does it unless -s is given)")
	}
	return r.complain("", fmt.Sprintf("the command %q is not available: this server transfers files only (sftp, scp) and can compute checksums (md5sum, sha1sum, sha256sum, sha512sum)", plain(name)))
}

// taped is what a transcript says of a command line: all of it when it is for
// one of our commands, else the first word, since the rest may be anything.
func taped(args []word, line string) string {
	if len(args) == 0 {
		return "that cannot be read"
	}
	if name := path.Base(args[0].text); name == "scp" || sumCommands[name] != "" {
		return line
	}
	return args[0].text + " (arguments left out)"
}

// rclone asks which shell it talks to before it asks for checksums. This is
// the answer of a POSIX one.
const (
	shellQuestion = "echo ${ShellId}%ComSpec%"
	shellAnswer   = "%ComSpec%\n"
)

func (r *run) complain(who, text string) int {
	if who != "" {
		text = who + ": " + text
	} else {
		text = fault.Sentence(text)
	}
	io.WriteString(r.err, text+"\n")
	return 1
}

// word is one argument; magic says that it holds an unquoted * or ?.
type word struct {
	text  string
	magic bool
}

// words splits a line as a POSIX shell would, with quotes and backslashes but
// without anything that a shell would execute: all other characters are text.
func words(line string) ([]word, error) {
	var all []word
	var cur strings.Builder
	in, magic := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				all = append(all, word{cur.String(), magic})
				cur.Reset()
			}
			in, magic = false, false
			continue
		case c == '\\':
			if i++; i == len(line) {
				return nil, errors.New("a backslash at the end")
			}
			cur.WriteByte(line[i])
		case c == '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, errors.New("an open quote")
			}
			cur.WriteString(line[i+1 : i+1+n])
			i += n + 1
		case c == '"':
			n, err := doubleQuoted(line[i+1:], &cur)
			if err != nil {
				return nil, err
			}
			i += n
		default:
			magic = magic || c == '*' || c == '?'
			cur.WriteByte(c)
		}
		in = true
	}
	if in {
		all = append(all, word{cur.String(), magic})
	}
	return all, nil
}

// doubleQuoted copies text up to the closing quote and returns how much that was, with the quote.
func doubleQuoted(s string, to *strings.Builder) (int, error) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
			to.WriteByte(s[i])
		default:
			to.WriteByte(c)
		}
	}
	return 0, errors.New("an open quote")
}

// maxMatches is how many names a pattern may stand for.
const maxMatches = 10000

// expand turns a word into paths. Only the last component may be a pattern;
// one that matches nothing stands for itself, as in a shell.
func (r *run) expand(w word) []string {
	name := clientPath(strings.TrimPrefix(strings.TrimPrefix(w.text, "~"), "/"))
	dir, pattern := vfs.Split(name)
	if !w.magic || !strings.ContainsAny(pattern, "*?") {
		return []string{name}
	}
	var out []string
	for i, err := range r.s.List(r.ctx, dir) {
		if err != nil || len(out) == maxMatches {
			break
		}
		if (i.Name[0] != '.' || pattern[0] == '.') && match(pattern, i.Name) {
			out = append(out, vfs.Join(dir, i.Name))
		}
	}
	if len(out) == 0 {
		return []string{name}
	}
	sort.Strings(out)
	return out
}

// match compares with * and ? in linear time: of several stars only the last is tried again.
func match(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
