package ftp

import (
	"context"
	"io"
	"strings"
)

// cmdRNFR checks that the name exists; RNTO must be the very next command.
func (c *Conn) cmdRNFR(arg string) Reply {
	name := c.abs(arg)
	var err error
	if l, is := c.sess.(interface {
		Lstat(ctx context.Context, name string) (Info, error)
	}); is {
		_, err = l.Lstat(c.ctx, name)
	} else {
		_, err = c.sess.Stat(c.ctx, name)
	}
	if err != nil {
		return lookupRefusal(err, shown(arg))
	}
	c.once.rnfr = name
	return ok(350, "Send RNTO with the new name.")
}

func (c *Conn) cmdRNTO(arg string) Reply {
	from := c.takePending().rnfr
	if from == "" {
		return ok(503, "Send RNFR first.")
	}
	to := c.abs(arg)
	if strings.HasPrefix(to, strings.TrimSuffix(from, "/")+"/") { // EINVAL of the system; 501 would blame the syntax
		return ok(550, "%s: that lies inside of what is renamed.", shown(arg))
	}
	if err := c.sess.Rename(c.ctx, from, to); err != nil {
		return refusal(err, shown(arg))
	}
	return ok(250, "Renamed to %s.", shown(arg))
}

func (c *Conn) cmdDELE(arg string) Reply {
	if err := c.sess.Remove(c.ctx, c.abs(arg)); err != nil {
		return lookupRefusal(err, shown(arg))
	}
	return ok(250, "%s deleted.", shown(arg))
}

func (c *Conn) cmdRMD(arg string) Reply {
	if err := c.sess.Rmdir(c.ctx, c.abs(arg)); err != nil {
		return lookupRefusal(err, shown(arg))
	}
	return ok(250, "%s removed.", shown(arg))
}

func (c *Conn) cmdMKD(arg string) Reply {
	name := c.abs(arg)
	if err := c.sess.Mkdir(c.ctx, name); err != nil {
		return refusal(err, shown(arg))
	}
	return ok(257, "%s created.", quotePath(name))
}

func (c *Conn) cmdAVBL(arg string) Reply {
	s, is := c.sess.(Spacer)
	if !is {
		return ok(502, "This storage does not tell its free space.")
	}
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	if err == nil && !info.IsDir() {
		return ok(550, "%s: not a directory.", shown(arg))
	}
	if err != nil {
		return refusal(err, shown(arg))
	}
	n, err := s.Space(c.ctx, name)
	if err != nil {
		return refusal(err, shown(arg))
	}
	return ok(213, "%d", n)
}

// splitQuoted splits an argument into words; a word in double quotes may hold
// spaces, and a doubled quote stands for one.
func splitQuoted(s string) (words []string, valid bool) {
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		if s[0] != '"' {
			w, rest, _ := strings.Cut(s, " ")
			words, s = append(words, w), rest
			continue
		}
		var w strings.Builder
		i := 1
		for ; i < len(s); i++ {
			if s[i] == '"' {
				if i+1 < len(s) && s[i+1] == '"' {
					i++
				} else {
					break
				}
			}
			w.WriteByte(s[i])
		}
		if i >= len(s) || i+1 < len(s) && s[i+1] != ' ' {
			return nil, false
		}
		words, s = append(words, w.String()), s[i+1:]
	}
	return words, true
}

// cmdCOMB appends the parts to the target in order and removes them.
func (c *Conn) cmdCOMB(arg string) Reply {
	words, valid := splitQuoted(arg)
	if !valid || len(words) < 2 {
		return ok(501, "COMB takes a target and one or more parts, in double quotes where they hold spaces.")
	}
	for _, w := range words[1:] {
		if c.abs(w) == c.abs(words[0]) {
			return ok(501, "COMB: %s is both target and part.", shown(w))
		}
		if info, err := c.sess.Stat(c.ctx, c.abs(w)); err != nil {
			return refusal(err, shown(w))
		} else if !info.Mode.IsRegular() {
			return ok(550, "%s: not a plain file.", shown(w))
		}
	}
	c.begin("COMB", c.abs(words[0]), func(t *transfer) Reply {
		for _, w := range words[1:] {
			if err := t.appendFile(c.abs(words[0]), c.abs(w)); err != nil {
				return refusal(err, shown(w))
			}
		}
		return ok(250, "%d parts joined into %s.", len(words)-1, shown(words[0]))
	})
	return Reply{}
}

func (t *transfer) appendFile(to, from string) error {
	s := t.c.sess
	src, err := s.Open(t.ctx, from, 0)
	if err != nil {
		return err
	}
	sink, err := s.Create(t.ctx, to, CreateOptions{Append: true})
	if err != nil {
		src.Close(err)
		return err
	}
	buf := blocks.Get().(*[]byte)
	_, err = io.CopyBuffer(struct{ io.Writer }{sink}, struct{ io.Reader }{src}, *buf)
	blocks.Put(buf)
	if err == nil {
		err = sink.Commit(t.ctx)
	}
	if cerr := sink.Close(err); err == nil {
		err = cerr
	}
	if cerr := src.Close(err); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.Remove(t.ctx, from)
	}
	return err
}
