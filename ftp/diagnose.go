package ftp

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Codes of agreements that never became a transfer. They are reported to
// OnData like failed data connections; no reply carries them.
const (
	codeUnused = "PR-D10" // announced, and given up without a transfer; nobody had connected
	codeTarget = "PR-D11" // PORT or EPRT to an address that is not the client's
)

// Diagnoser is an optional ability of a Session: SITE DIAG. It tells the
// client what the server has seen of its data connections, one line each. It
// must be about nobody but the client itself.
type Diagnoser interface {
	Diagnose(ctx context.Context, c *Conn) ([]string, error)
}

func (c *Conn) siteDIAG(string) Reply {
	d, is := c.sess.(Diagnoser)
	if !is {
		return ok(502, "This server keeps no record of data connections.")
	}
	lines, err := d.Diagnose(c.ctx, c)
	if err != nil {
		return refusal(err, "DIAG")
	}
	return Reply{Code: 200, Text: "End.", Lines: append([]string{"What this server saw of you:"}, lines...)}
}

// unusedWait is how long a look for a connection on a port that is given up takes.
const unusedWait = time.Millisecond

// unused reports a passive port that is about to be given up although no
// transfer was asked for. Most clients connect first and ask then: when the
// way is blocked this is all a server ever sees of it.
func (c *Conn) unused() {
	d := &c.data
	if d.lease == nil || c.srv.OnData == nil {
		return
	}
	if q, is := d.lease.(interface {
		TryAccept(wait time.Duration) (net.Conn, error)
	}); is {
		if nc, err := q.TryAccept(unusedWait); err == nil {
			nc.Close()
			return // it can be reached, and that is all there is to know
		}
	}
	c.srv.OnData(c, DataAttempt{Time: d.at, Mode: d.mode, TLS: c.protP, Control: c.remote, Local: d.announced, Reaction: time.Since(d.at), Code: codeUnused})
}

// misdirected reports a PORT or EPRT that was refused for its address.
func (c *Conn) misdirected(verb string, to netip.AddrPort) {
	if c.srv.OnData != nil {
		c.srv.OnData(c, DataAttempt{Time: time.Now(), Mode: verb, TLS: c.protP, Control: c.remote, Local: c.local, Remote: to, Code: codeTarget})
	}
}
