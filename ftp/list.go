package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listOptions are the letters of "LIST -alRt"; others are ignored.
type listOptions struct {
	long      bool // lines of ls -l, not names
	recursive bool
	byTime    bool
	bySize    bool
	reverse   bool
	directory bool // the directory itself
	classify  bool // NLST -F: a slash behind directories
}

const optionLetters = "aAlLRtSrd1CFhnpsuUcgGiqx"

// parseListArg splits options from the path. What looks like options but names
// an existing file is a path, so that a file called "-la" can be listed.
func (c *Conn) parseListArg(arg string) (o listOptions, rest string) {
	rest = arg
	if strings.HasPrefix(rest, "-") {
		if _, err := c.sess.Stat(c.ctx, c.abs(arg)); err == nil {
			return o, rest
		}
	}
	for strings.HasPrefix(rest, "-") {
		word, after, _ := strings.Cut(rest, " ")
		if word == "--" {
			return o, after
		}
		if word == "-" || strings.Trim(word[1:], optionLetters) != "" {
			return o, rest
		}
		for _, l := range word[1:] {
			switch l {
			case 'l':
				o.long = true
			case 'R':
				o.recursive = true
			case 't':
				o.byTime = true
			case 'S':
				o.bySize = true
			case 'r':
				o.reverse = true
			case 'd':
				o.directory = true
			case 'F':
				o.classify = true
			}
		}
		rest = strings.TrimLeft(after, " ")
	}
	return o, rest
}

// lister writes one listing. Lines are gathered in one pooled block.
type lister struct {
	c      *Conn
	ctx    context.Context
	opt    listOptions
	out    io.Writer
	buf    []byte
	format func(b []byte, prefix string, i *Info) []byte
	now    time.Time
	minute int64  // of the last date, as its first second
	dated  []byte // the last date
	left   int    // entries a recursive or sorted listing may still hold
}

const flushAt = 64 << 10

func (l *lister) add(prefix string, i *Info) error {
	l.buf = l.format(l.buf, prefix, i)
	return l.flush(flushAt)
}

func (l *lister) text(s string) error {
	l.buf = append(append(l.buf, s...), '\r', '\n')
	return l.flush(flushAt)
}

func (l *lister) flush(above int) error {
	if len(l.buf) <= above {
		return nil
	}
	_, err := l.out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

var errTooMany = errors.New("ftp: listing too large")

// sortBelow is the size up to which a directory is sorted by name unasked.
const sortBelow = 1000

// directory lists dir; what is shown before each name is prefix.
func (l *lister) directory(dir, prefix string, keep func(*Info) bool) error {
	var held []Info
	sorting := l.opt.byTime || l.opt.bySize
	streaming := false
	var info Info // outside of the loop: it escapes, once and not for each entry
	for next, err := range l.c.sess.List(l.ctx, dir) {
		if err != nil {
			return &sourceError{err}
		}
		info = next
		if keep != nil && !keep(&info) {
			continue
		}
		if streaming {
			if err := l.add(prefix, &info); err != nil {
				return err
			}
			continue
		}
		info.Name, info.Target = strings.Clone(info.Name), strings.Clone(info.Target) // see Session.List
		held = append(held, info)
		if len(held) > sortBelow && !sorting && !l.opt.recursive {
			streaming = true
			for i := range held {
				if err := l.add(prefix, &held[i]); err != nil {
					return err
				}
			}
			held = nil
		} else if len(held) > l.left {
			return &sourceError{&Error{552, fmt.Sprintf("Sorted and recursive listings end at %d entries; list without options.", l.c.srv.ListEntries)}}
		}
	}
	l.sort(held)
	for i := range held {
		if err := l.add(prefix, &held[i]); err != nil {
			return err
		}
	}
	if l.opt.recursive {
		l.left -= len(held)
		return l.below(dir, prefix, held)
	}
	return nil
}

func (l *lister) sort(held []Info) {
	slices.SortFunc(held, func(a, b Info) int {
		r := 0
		switch {
		case l.opt.byTime:
			r = b.ModTime.Compare(a.ModTime)
		case l.opt.bySize && a.Size != b.Size:
			r = 1
			if a.Size > b.Size {
				r = -1
			}
		}
		if r == 0 {
			r = strings.Compare(a.Name, b.Name)
		}
		if l.opt.reverse {
			r = -r
		}
		return r
	})
}

// below goes on into the subdirectories, as ls -R prints them.
func (l *lister) below(dir, prefix string, held []Info) error {
	if strings.Count(dir, "/") > l.c.srv.ListDepth {
		return nil
	}
	for i := range held {
		if !held[i].IsDir() {
			continue
		}
		sub := path.Join(dir, held[i].Name)
		shown := prefix + held[i].Name
		if l.opt.long {
			rel := strings.TrimPrefix(strings.TrimPrefix(sub, l.c.cwd), "/")
			l.text("")
			if err := l.text(string(appendName(nil, rel)) + ":"); err != nil {
				return err
			}
			shown = ""
		} else {
			shown += "/"
		}
		if err := l.directory(sub, shown, nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) cmdLIST(arg string) Reply {
	return c.list("LIST", arg, true)
}

// cmdNLST sends names that RETR takes as they are (RFC 1123 section 4.1.2.7):
// those of another directory carry it in front, as the client wrote it.
func (c *Conn) cmdNLST(arg string) Reply {
	return c.list("NLST", arg, false)
}

func (c *Conn) list(verb, arg string, long bool) Reply {
	c.takePending()
	if r, fine := c.dataReady(); !fine {
		return r
	}
	o, rest := c.parseListArg(arg)
	o.long = o.long || long
	todo, r := c.plan(o, rest)
	if r.Code != 0 {
		c.data.drop()
		return r
	}
	c.begin(verb, c.abs(rest), func(t *transfer) Reply {
		return t.listing("Here comes the listing.", func(l *lister) error {
			l.opt, l.left = o, c.srv.ListEntries
			l.format = l.appendBare
			if o.long {
				l.format = l.appendLong
			}
			return todo(l)
		})
	})
	return Reply{}
}

// plan decides what a LIST or NLST argument means: a directory, a file, or a
// pattern in the last component.
func (c *Conn) plan(o listOptions, arg string) (func(*lister) error, Reply) {
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	prefix := ""
	if arg != "" && !o.long {
		prefix = strings.TrimSuffix(decodePath(arg), "/") + "/"
	}
	switch {
	case err == nil && info.IsDir() && !o.directory:
		return func(l *lister) error { return l.directory(name, prefix, nil) }, Reply{}
	case err == nil:
		info.Name = decodePath(arg)
		if arg == "" {
			info.Name = "."
		}
		return func(l *lister) error { return l.add("", &info) }, Reply{}
	case !hasMeta(path.Base(name)):
		return nil, lookupRefusal(err, shown(arg))
	}
	dir, pattern := path.Split(decodePath(arg))
	if hasMeta(dir) {
		return nil, ok(550, "%s: patterns are possible in the last part of a path only.", shown(arg))
	}
	abs := c.abs(dir)
	if info, err := c.sess.Stat(c.ctx, abs); err != nil || !info.IsDir() {
		return nil, ok(550, "%s: no such directory.", shown(dir))
	}
	keep := func(i *Info) bool {
		return match(pattern, i.Name) && (i.Name[0] != '.' || pattern[0] == '.')
	}
	return func(l *lister) error { return l.directory(abs, dir, keep) }, Reply{}
}

// listing runs a listing over a data connection.
func (t *transfer) listing(mark string, write func(l *lister) error) Reply {
	t.mark = mark
	d, fail := t.openData()
	if fail != nil {
		return ok(fail.Code, "%s", fail.Message)
	}
	buf := blocks.Get().(*[]byte)
	l := &lister{c: t.c, ctx: t.ctx, buf: (*buf)[:0], now: time.Now(), out: writerFunc(func(p []byte) (int, error) {
		if err := t.write(d, p); err != nil {
			return 0, err
		}
		return len(p), nil
	})}
	err := write(l)
	if err == nil {
		err = l.flush(0)
	}
	blocks.Put(buf)
	if err == nil {
		err = t.endSending(d)
	} else {
		d.raw.Close()
		d.finishTLS()
	}
	return t.outcome(err, "Listing complete.")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (c *Conn) cmdMLSD(arg string) Reply {
	c.takePending()
	if r, fine := c.dataReady(); !fine {
		return r
	}
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	if err != nil {
		c.data.drop()
		return lookupRefusal(err, shown(arg))
	}
	if !info.IsDir() {
		c.data.drop()
		return ok(501, "%s: not a directory; MLST tells of a file.", shown(arg))
	}
	facts := c.facts
	c.begin("MLSD", name, func(t *transfer) Reply {
		return t.listing("Here comes the listing.", func(l *lister) error {
			l.left = c.srv.ListEntries
			l.format = func(b []byte, _ string, i *Info) []byte {
				b = facts.append(b, i)
				return append(appendName(b, i.Name), '\r', '\n')
			}
			return l.directory(name, "", nil)
		})
	})
	return Reply{}
}

func (c *Conn) cmdMLST(arg string) Reply {
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	if err != nil {
		return lookupRefusal(err, shown(arg))
	}
	line := string(c.facts.append([]byte(" "), &info)) + encodePath(name)
	return Reply{Code: 250, Text: "End.", Lines: []string{"Facts of " + shown(name) + ":", line}, raw: true}
}

// cmdSTAT answers without an argument by the state of the session or of the
// running transfer, with one by a listing over the control connection.
func (c *Conn) cmdSTAT(arg string) Reply {
	t := c.current()
	if arg == "" {
		return c.status(t)
	}
	if c.sess == nil {
		return ok(530, "Log in first, with USER and PASS.")
	}
	if t != nil {
		<-t.done
	}
	o, rest := c.parseListArg(arg)
	o.long, o.recursive = true, false
	todo, r := c.plan(o, rest)
	if r.Code == 550 {
		r.Code = 450 // the only refusal of STAT in RFC 959 section 5.4
	}
	if r.Code != 0 {
		return r
	}
	code, kind := 213, "file"
	if info, err := c.sess.Stat(c.ctx, c.abs(rest)); err == nil && info.IsDir() {
		code, kind = 212, "directory"
	}
	var text strings.Builder
	l := &lister{c: c, ctx: c.ctx, opt: o, out: &text, now: time.Now(), left: c.srv.ListEntries}
	l.format = func(b []byte, prefix string, i *Info) []byte {
		if l.left--; l.left < 0 {
			return b
		}
		return l.appendLong(b, prefix, i)
	}
	if err := todo(l); err != nil {
		return refusal(errors.Unwrap(err), shown(arg))
	}
	l.flush(0)
	lines := []string{"Status of " + kind + " " + shown(rest) + ":"}
	for s := range strings.Lines(text.String()) {
		lines = append(lines, strings.TrimRight(s, "\r\n"))
	}
	return Reply{Code: code, Text: "End of status.", Lines: lines, raw: true}
}

func (c *Conn) status(t *transfer) Reply {
	if t != nil {
		n := t.moved.Load()
		s := fmt.Sprintf("%s %s: %d bytes moved", t.verb, encodePath(t.name), n)
		if t.size > 0 {
			s += fmt.Sprintf(" of %d (%d%%)", t.size, min(100*n/t.size, 100))
		}
		return ok(213, "%s in %s.", s, time.Since(t.started).Round(time.Second))
	}
	lines := []string{"Status of this session:", "Connected from " + c.remote.String() + " to " + c.local.String()}
	if c.sess != nil {
		lines = append(lines, "Logged in as "+c.user)
	} else {
		lines = append(lines, "Not logged in")
	}
	typ := "binary"
	if c.ascii {
		typ = "ASCII"
	}
	lines = append(lines, "TYPE: "+typ+"; STRUcture: file; MODE: stream", "Control connection: "+c.protection(), "Idle timeout: "+human(c.idle))
	switch {
	case c.data.lease != nil:
		lines = append(lines, "Passive: port "+strconv.Itoa(int(c.data.announced.Port())))
	case c.data.mode != "":
		lines = append(lines, "Active: to "+c.data.target.String())
	default:
		lines = append(lines, "No data connection")
	}
	return Reply{Code: 211, Text: "End of status.", Lines: lines}
}

func (c *Conn) protection() string {
	st := c.TLS()
	if st == nil {
		return "clear"
	}
	prot := "clear"
	if c.protP {
		prot = "private"
	}
	return tlsName(st.Version) + ", data connections " + prot
}
