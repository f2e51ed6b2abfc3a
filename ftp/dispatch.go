package ftp

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// wrongDoor looks at the first byte a client sends. It reports done when the
// client speaks something else than FTP and has been told so.
func (c *Conn) wrongDoor() (done bool, err error) {
	b, err := c.rd.peekByte()
	if err != nil {
		return true, c.readFailed(err)
	}
	if b == 0x16 && c.tlsConn() == nil { // a TLS ClientHello; the greeting is out already
		c.finish(ok(421, "This port speaks FTP and starts TLS with AUTH TLS (explicit FTPS).%s", c.ports()))
		return true, errors.New("ftp: TLS ClientHello on a port without implicit TLS")
	}
	return false, nil
}

func (c *Conn) ports() string {
	if c.srv.Ports == nil {
		return ""
	}
	return " " + c.srv.Ports()
}

// foreign are first words of other protocols (ALPACA, misdirected clients).
var foreign = map[string]bool{"GET": true, "POST": true, "HEAD": true, "PUT": true, "DELETE": true, "OPTIONS": true, "CONNECT": true, "TRACE": true,
	"PATCH": true, "PROPFIND": true, "HOST:": true, "EHLO": true, "HELO": true}

// foreignLine reports whether an unknown command is the first line of another
// protocol. Requests of HTTP and its relatives end with the version.
func foreignLine(verb, arg string) bool {
	if foreign[verb] || strings.HasPrefix(verb, "SSH-") {
		return true
	}
	last := strings.ToUpper(arg[strings.LastIndexByte(arg, ' ')+1:])
	return strings.HasPrefix(last, "HTTP/") || strings.HasPrefix(last, "RTSP/") || strings.HasPrefix(last, "SIP/")
}

// dispatch carries out one command line.
func (c *Conn) dispatch(line string) Reply {
	if c.traced() {
		c.tell(false, redact(line))
	}
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	cmd := byName[verb]
	if cmd == nil {
		return c.unknown(verb, arg)
	}
	c.cmds++
	if t := c.current(); t != nil && cmd.flags&during == 0 {
		<-t.done // a pipelined command waits for the transfer before it
		if c.ctx.Err() != nil {
			return Reply{}
		}
	}
	if r := c.permitted(cmd, arg); r.Code != 0 {
		if cmd.flags&during == 0 {
			c.clearPending(cmd)
		}
		return r
	}
	c.errs = 0
	saved := c.once
	if cmd.flags&during == 0 {
		c.clearPending(cmd)
	} else {
		c.once.rnfr = "" // RNTO follows at once or not at all (RFC 959 section 4.1.3)
	}
	if cmd.flags&partner != 0 {
		c.once.rnfr = saved.rnfr
	}
	if n, is := c.sess.(interface{ Note(command, path string) }); is && cmd.flags&secret == 0 && cmd.name != "NOOP" {
		n.Note(cmd.name, noted(cmd, arg))
	}
	return cmd.run(c, arg)
}

func (c *Conn) unknown(verb, arg string) Reply {
	if c.sess == nil && foreignLine(verb, arg) {
		r := ok(421, "This is an FTP server; that was another protocol.%s", c.ports())
		r.close, r.hostile = true, true
		return r
	}
	c.once = pending{}
	if c.errs++; c.errs > 50 {
		r := ok(421, "Too many unknown commands; closing.")
		r.close, r.hostile = true, true
		return r
	}
	// Only what redact keeps: a password may have been glued to PASS, and replies
	// are recorded, too.
	return ok(500, "%q not understood; HELP lists the commands.", strings.TrimSuffix(redact(verb), " ***"))
}

// permitted checks phase and argument before a handler sees the command.
func (c *Conn) permitted(cmd *command, arg string) Reply {
	switch {
	case cmd.phase == loggedIn && c.sess == nil:
		return ok(530, "Log in first, with USER and PASS.")
	case cmd.phase == preLogin && (c.sess != nil || c.user != ""):
		return ok(503, "%s is only possible before USER.", cmd.name)
	case cmd.arg == mustArg && arg == "":
		return ok(501, "%s needs an argument: %s %s", cmd.name, cmd.name, cmd.syntax)
	case cmd.arg == noArg && strings.Trim(arg, " ") != "":
		return ok(501, "%s takes no argument.", cmd.name)
	case cmd.flags&isPath == 0 && strings.IndexByte(arg, 0) >= 0:
		return ok(501, "%s: the argument holds a NUL byte.", cmd.name)
	}
	return Reply{}
}

// clearPending drops what earlier commands left for a partner that is not cmd:
// RNFR survives only into RNTO; REST, RANG and ALLO survive commands that set
// up the transfer and are used up by it.
func (c *Conn) clearPending(cmd *command) {
	keep := pending{}
	if cmd.flags&(keeps|moves) != 0 || cmd.name == "HASH" {
		keep.rest, keep.alloc, keep.rangeStart, keep.rangeEnd = c.once.rest, c.once.alloc, c.once.rangeStart, c.once.rangeEnd
	}
	if cmd.name == "SITE" {
		keep.cpfr = c.once.cpfr
	}
	c.once = keep
}

// takePending returns and clears what was left for a transfer.
func (c *Conn) takePending() pending {
	p := c.once
	c.once = pending{}
	return p
}

// onOwnStack runs f on a goroutine of its own, so that a deep call does not
// leave the session goroutine with a big stack for the rest of its life.
func onOwnStack[T any](f func() T) T {
	ch := make(chan T, 1)
	go func() { ch <- f() }()
	return <-ch
}

type loginResult struct {
	sess  Session
	err   error
	fault string // of a panic, with its stack
}

func (c *Conn) login(complete bool, password string) (Session, error) {
	cred := Credentials{User: c.user, Password: password, Account: c.acct, Complete: complete}
	ctx, cancel := context.WithDeadline(c.ctx, c.opened.Add(c.srv.LoginTimeout))
	defer cancel()
	r := onOwnStack(func() (r loginResult) {
		defer func() {
			if p := recover(); p != nil {
				r = loginResult{fault: fmt.Sprintf("%v\n%s", p, debug.Stack())}
			}
		}()
		r.sess, r.err = c.srv.Backend.Login(ctx, c, cred)
		return r
	})
	if r.fault != "" {
		panic(r.fault) // for the session's goroutine, which ends the session
	}
	return r.sess, r.err
}
