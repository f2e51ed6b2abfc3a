package ftp

import (
	"errors"
	"net/netip"
	"path"
	"strings"
	"time"
)

// cmdUSER begins a log-in anew, whatever was before; the transfer parameters
// stay as they are (RFC 959 section 4.1.1).
func (c *Conn) cmdUSER(arg string) Reply {
	if c.srv.ControlTLS == TLSRequired && c.srv.TLS != nil && c.tlsConn() == nil {
		return ok(530, "TLS is required: send AUTH TLS first (explicit FTPS), or connect to the implicit FTPS port.")
	}
	c.leave(nil)
	c.user = arg
	// With a client certificate the user may be known without a password (RFC 4217 section 12.2).
	sess, err := c.login(false, "")
	switch {
	case err == nil:
		c.enter(sess)
		return ok(232, "User %s logged in by certificate.", arg)
	case errors.Is(err, ErrPassword):
		return ok(331, "Password needed for %s.", arg)
	}
	return c.failed(err)
}

func (c *Conn) cmdPASS(arg string) Reply {
	switch {
	case c.sess != nil:
		return ok(503, "You are logged in already; USER starts a new log-in.")
	case c.user == "":
		return ok(503, "Send USER first.")
	}
	sess, err := c.login(true, arg)
	if err != nil {
		c.user = ""
		return c.failed(err)
	}
	c.enter(sess)
	if w, is := sess.(Welcomer); is {
		return ok(230, "User %s logged in. %s", c.user, w.Welcome())
	}
	return ok(230, "User %s logged in.", c.user)
}

func (c *Conn) enter(s Session) {
	c.sess, c.failures, c.cwd = s, 0, "/"
	c.bind.entered(c.user, c.remote.Addr())
	if h, is := s.(interface{ Home() string }); is {
		c.cwd = path.Clean("/" + h.Home())
	}
}

func (c *Conn) failed(err error) Reply {
	c.failures++
	r := refusal(err, "log-in")
	if r.Code == 550 || r.Code == 502 {
		r.Code = 530
	}
	if c.ctx.Err() != nil {
		return Reply{} // kicked meanwhile; 421 is out already
	}
	r.close = r.Code == 421 || c.failures >= c.srv.MaxFailures
	return r
}

// leave ends the access of the user who is logged in, and nothing else.
func (c *Conn) leave(cause error) {
	c.data.drop()
	c.bind.left()
	if c.sess != nil {
		c.sess.Close(cause)
		c.opened = time.Now() // whoever was logged in has the full time to log in again
	}
	c.sess, c.user, c.acct, c.cwd, c.once = nil, "", "", "/", pending{}
}

// logout returns the connection to the state after the greeting; TLS stays.
func (c *Conn) logout(cause error) {
	c.leave(cause)
	c.ascii, c.epsvAll = true, false
	c.facts, c.hash, c.idle = allFacts, 0, c.srv.IdleTimeout
}

func (c *Conn) cmdACCT(arg string) Reply {
	switch {
	case c.sess != nil:
		return ok(202, "No account is needed here.")
	case c.user == "":
		return ok(503, "Send USER first.")
	}
	c.acct = arg
	return ok(202, "No account is needed here; send PASS.")
}

func (c *Conn) cmdCWD(arg string) Reply {
	dir := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, dir)
	if err != nil && (arg == "~" || strings.HasPrefix(arg, "~/")) {
		dir = path.Clean("/" + strings.TrimPrefix(arg, "~"))
		info, err = c.sess.Stat(c.ctx, dir)
	}
	if err != nil {
		return lookupRefusal(err, shown(arg))
	}
	if !info.IsDir() {
		return ok(550, "%s: not a directory.", shown(arg))
	}
	if e, is := c.sess.(interface{ Enter(name string) error }); is {
		if err := e.Enter(dir); err != nil {
			return lookupRefusal(err, shown(arg))
		}
	}
	c.cwd = dir
	return ok(250, "%s is the current directory.", quotePath(dir))
}

func (c *Conn) cmdCDUP(string) Reply { return c.cmdCWD("..") }

func (c *Conn) cmdPWD(string) Reply {
	return ok(257, "%s is the current directory.", quotePath(c.cwd))
}

func (c *Conn) cmdSMNT(string) Reply {
	return ok(502, "SMNT is not offered; mounts are set up by the administrator.")
}

// cmdREIN logs out but leaves TLS in place: going back to clear text, as
// RFC 4217 section 11 would have it, would open a door to downgrade.
func (c *Conn) cmdREIN(string) Reply {
	c.logout(nil)
	c.setHost("")
	if !c.srv.Implicit {
		c.protP, c.pbsz = false, false
	}
	return ok(220, "%s", c.srv.Greeting)
}

func (c *Conn) cmdQUIT(string) Reply {
	if t := c.current(); t != nil {
		<-t.done // the result of the transfer comes first (RFC 959 section 4.1.1)
	}
	return Reply{Code: 221, Text: "Goodbye.", close: true}
}

func (c *Conn) cmdHOST(arg string) Reply {
	name := strings.ToLower(strings.TrimSuffix(arg, "."))
	if !validHost(name) {
		return ok(501, "HOST: that is no host name.")
	}
	if st := c.TLS(); st != nil && st.ServerName != "" && !strings.EqualFold(st.ServerName, name) {
		return ok(504, "HOST: the TLS handshake named another host, %q.", st.ServerName)
	}
	h, is := c.srv.Backend.(HostChecker)
	if !is {
		return ok(504, "HOST: no host of that name here.")
	}
	if err := h.Host(c.ctx, c, name); err != nil {
		r := refusal(err, name)
		if r.Code == 550 || r.Code == 451 {
			r.Code = 504
		}
		return r
	}
	c.setHost(name)
	return ok(220, "%s", c.srv.Greeting)
}

// validHost accepts host names, IPv4 literals and bracketed IPv6 literals (RFC 7151 section 3.1).
func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		a, err := netip.ParseAddr(strings.Trim(s, "[]"))
		return err == nil && a.Is6() && strings.HasSuffix(s, "]")
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for _, l := range strings.Split(s, ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := 0; i < len(l); i++ {
			ch := l[i]
			if !(ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '-' || ch == '_') {
				return false
			}
		}
	}
	return true
}
