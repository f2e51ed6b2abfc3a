package ftp

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (c *Conn) cmdTYPE(arg string) Reply {
	f := strings.Fields(strings.ToUpper(arg))
	if len(f) == 0 || len(f) > 2 {
		return ok(501, "TYPE takes A, I or L 8.")
	}
	form := ""
	if len(f) == 2 {
		form = f[1]
	}
	switch f[0] {
	case "A":
		if form != "" && form != "N" {
			if form == "T" || form == "C" {
				return ok(504, "TYPE A %s: only the non-print format N is offered.", form)
			}
			return ok(501, "TYPE A takes N, T or C.")
		}
		c.ascii = true
		return ok(200, "Type is ASCII.")
	case "I":
		if form != "" {
			return ok(501, "TYPE I takes no format.")
		}
		c.ascii = false
		return ok(200, "Type is binary.")
	case "L", "L8":
		if f[0] == "L8" {
			form = "8"
		}
		n, err := strconv.Atoi(form)
		if err != nil || n < 1 || n > 255 {
			return ok(501, "TYPE L takes a byte size, 8.")
		}
		if n != 8 {
			return ok(504, "TYPE L %d: only bytes of 8 bits are offered.", n)
		}
		c.ascii = false
		return ok(200, "Type is binary.")
	case "E":
		return ok(504, "TYPE E: EBCDIC is not offered.")
	}
	return ok(501, "TYPE %s is unknown; A, I and L 8 are offered.", f[0])
}

func (c *Conn) cmdSTRU(arg string) Reply {
	switch strings.ToUpper(arg) {
	case "F":
		return ok(200, "Structure is file.")
	case "R", "P":
		return ok(504, "STRU %s is not offered; use F.", strings.ToUpper(arg))
	}
	return ok(501, "STRU takes F, R or P.")
}

func (c *Conn) cmdMODE(arg string) Reply {
	switch strings.ToUpper(arg) {
	case "S":
		return ok(200, "Mode is stream.")
	case "B", "C", "Z":
		return ok(504, "MODE %s is not offered; use S.", strings.ToUpper(arg))
	}
	return ok(501, "MODE takes S, B or C.")
}

// number parses an unsigned decimal that fits a file offset.
func number(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil && s[0] != '+'
}

func (c *Conn) cmdALLO(arg string) Reply {
	f := strings.Fields(arg)
	valid := len(f) == 1 || len(f) == 3 && strings.EqualFold(f[1], "R")
	if !valid {
		return ok(501, "ALLO takes a number of bytes.")
	}
	n, good := number(f[0])
	if len(f) == 3 && good {
		_, good = number(f[2])
	}
	if !good {
		return ok(501, "ALLO takes a number of bytes.")
	}
	c.once.alloc = n
	return ok(200, "Noted; room is found as bytes arrive.")
}

func (c *Conn) cmdREST(arg string) Reply {
	n, good := number(arg)
	if !good {
		return ok(501, "REST takes a byte offset, 0 or more.")
	}
	c.once.rest, c.once.rangeStart, c.once.rangeEnd = n, 0, 0
	return ok(350, "Restarting at %d; send RETR, STOR or APPE.", n)
}

// cmdRANG limits the next transfer or HASH to bytes first to last, both
// included. "1 0" takes the limit away.
func (c *Conn) cmdRANG(arg string) Reply {
	f := strings.Fields(arg)
	if len(f) != 2 {
		return ok(501, "RANG takes a first and a last byte.")
	}
	a, ok1 := number(f[0])
	b, ok2 := number(f[1])
	if !ok1 || !ok2 {
		return ok(501, "RANG takes a first and a last byte.")
	}
	c.once.rest, c.once.rangeStart, c.once.rangeEnd = 0, 0, 0
	if a == 1 && b == 0 {
		return ok(350, "Range is the whole file.")
	}
	if b < a || b == 1<<63-1 {
		return ok(501, "RANG: the last byte lies before the first.")
	}
	c.once.rangeStart, c.once.rangeEnd = a, b+1
	return ok(350, "Restarting at %d; ending at %d.", a, b)
}

func (c *Conn) cmdLANG(arg string) Reply {
	if l := strings.ToLower(arg); l == "" || l == "en" || strings.HasPrefix(l, "en-") {
		return ok(200, "Replies are in English.")
	}
	return ok(504, "LANG: only English (EN) is offered.")
}

func (c *Conn) cmdOPTS(arg string) Reply {
	what, opt, _ := strings.Cut(arg, " ")
	switch strings.ToUpper(what) {
	case "UTF8", "UTF-8":
		switch strings.ToUpper(strings.TrimSpace(opt)) {
		case "", "ON", "NLST":
			return ok(200, "Names are sent in UTF-8, always.")
		case "OFF":
			return ok(504, "Names are bytes as stored, normally UTF-8; this cannot be changed.")
		}
		return ok(501, "OPTS UTF8 takes ON.")
	case "MLST":
		c.facts = parseFactSet(opt)
		return ok(200, "%s", strings.TrimSpace("MLST OPTS "+c.facts.String()))
	case "HASH":
		if opt == "" {
			return ok(200, "%s", hashes[c.hash].name)
		}
		i := slices.IndexFunc(hashes, func(h hashKind) bool { return strings.EqualFold(h.name, opt) })
		if i < 0 {
			return ok(504, "OPTS HASH: algorithm not offered; see FEAT.")
		}
		c.hash = i
		return ok(200, "%s", hashes[i].name)
	}
	if cmd := byName[strings.ToUpper(what)]; cmd != nil {
		return ok(501, "%s has no options.", cmd.name)
	}
	return ok(501, "OPTS: no such command.")
}

// mayDial decides whether PORT or EPRT may name ap: the client itself, or a
// network that FXP is allowed for, and never a port below 1024 (RFC 2577 section 3).
func (c *Conn) mayDial(ap netip.AddrPort) (Reply, bool) {
	a := ap.Addr().Unmap()
	if ap.Port() < 1024 {
		return ok(504, "Port %d is reserved; data connections go to ports from 1024.", ap.Port()), false
	}
	if a.WithZone("") == c.remote.Addr().WithZone("") || allowed(c.srv.FXP, a) {
		return Reply{}, true
	}
	if a.IsPrivate() && !c.remote.Addr().IsPrivate() {
		return ok(504, "%s is an address of your private network that this server cannot reach; you come from %s. Use passive mode (EPSV or PASV).", a, c.remote.Addr()), false
	}
	return ok(504, "Data connections go to %s only, the address you come from, not to %s.", c.remote.Addr(), a), false
}

func allowed(nets []netip.Prefix, a netip.Addr) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (c *Conn) activeRefused() (Reply, bool) {
	switch {
	case c.epsvAll:
		return ok(503, "EPSV ALL is in force: only EPSV sets up data connections."), true
	case c.srv.NoActive:
		return ok(502, "Active mode is switched off here; use EPSV or PASV."), true
	}
	return Reply{}, false
}

func (c *Conn) cmdPORT(arg string) Reply {
	if r, no := c.activeRefused(); no {
		return r
	}
	ap, err := ParsePort(arg)
	if err != nil {
		return ok(501, "PORT takes six numbers from 0 to 255 with commas between them.")
	}
	return c.setActive("PORT", ap)
}

func (c *Conn) cmdEPRT(arg string) Reply {
	if r, no := c.activeRefused(); no {
		return r
	}
	ap, err := ParseEPRT(arg)
	if errors.Is(err, ErrFamily) {
		return ok(522, "Network protocol not supported, use (%s).", c.families())
	}
	if err != nil {
		return ok(501, "EPRT takes |1|IPv4 address|port| or |2|IPv6 address|port|.")
	}
	if ap.Addr().Unmap().Is4() != c.local.Addr().Is4() {
		return ok(522, "Network protocol not supported on this connection, use (%s).", c.families())
	}
	return c.setActive("EPRT", ap)
}

func (c *Conn) setActive(verb string, ap netip.AddrPort) Reply {
	if peer := c.remote.Addr().Unmap(); peer.Is6() && ap.Addr() == netip.IPv6Unspecified() {
		// lftp names the address it listens on, which is "any"; the only one
		// that it may mean is the one it comes from.
		ap = netip.AddrPortFrom(peer, ap.Port())
	}
	if r, fine := c.mayDial(ap); !fine {
		c.misdirected(verb, ap)
		return r
	}
	a := ap.Addr().Unmap()
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(c.remote.Addr().Zone())
	}
	c.unused()
	c.data.drop()
	c.data.active(verb, netip.AddrPortFrom(a, ap.Port()))
	return ok(200, "%s noted; the data connection will go to %s.", verb, netip.AddrPortFrom(a, ap.Port()))
}

// families is the list for 522: what this control connection can carry.
func (c *Conn) families() string {
	if c.local.Addr().Is4() {
		return "1"
	}
	return "2"
}

func (c *Conn) cmdPASV(string) Reply {
	if c.epsvAll {
		return ok(503, "EPSV ALL is in force: only EPSV sets up data connections.")
	}
	if !c.local.Addr().Is4() {
		return ok(522, "PASV is for IPv4 and this connection is IPv6; use EPSV. Network protocol not supported, use (2).")
	}
	l, r := c.lease("PASV")
	if l == nil {
		return r
	}
	ap := c.announced(l)
	if !ap.Addr().Is4() {
		c.data.drop()
		return ok(425, "No IPv4 address to announce; use EPSV.")
	}
	return ok(227, "Entering Passive Mode (%s).", FormatPort(ap))
}

func (c *Conn) cmdEPSV(arg string) Reply {
	switch a := strings.ToUpper(strings.TrimSpace(arg)); a {
	case "ALL":
		c.epsvAll = true
		return ok(200, "EPSV ALL: other ways to set up data connections are refused from now on.")
	case "":
	case "1", "2":
		if a != c.families() {
			return ok(522, "Network protocol not supported on this connection, use (%s).", c.families())
		}
	default:
		if _, err := strconv.ParseUint(a, 10, 16); err == nil {
			return ok(522, "Network protocol not supported, use (%s).", c.families())
		}
		return ok(501, "EPSV takes 1, 2, ALL or nothing.")
	}
	l, r := c.lease("EPSV")
	if l == nil {
		return r
	}
	return ok(229, "Entering Extended Passive Mode (|||%d|).", c.data.announced.Port())
}

// announced is the address for 227: the lease's own, the configured one, or
// the one the client reached.
func (c *Conn) announced(l Lease) netip.AddrPort {
	a := l.Addr().Addr().Unmap()
	if !a.IsValid() || a.IsUnspecified() {
		a = netip.Addr{}
		if c.srv.PassiveAddress != nil {
			a = c.srv.PassiveAddress(c).Unmap()
		}
		if !a.IsValid() {
			a = c.local.Addr()
		}
	}
	c.data.announced = netip.AddrPortFrom(a, c.data.announced.Port())
	return c.data.announced
}

func (c *Conn) lease(verb string) (Lease, Reply) {
	from := c.srv.Passive
	if c.srv.Shared != nil && c.protP && !c.bind.unshared {
		from = c.srv.Shared
	}
	if from == nil {
		if c.srv.Shared != nil {
			return nil, ok(425, "Clear data connections have no ports here; send PBSZ 0 and PROT P.")
		}
		return nil, ok(502, "Passive mode is switched off here; use EPRT or PORT.")
	}
	c.unused()
	c.data.drop()
	l, err := from.Lease(c.ctx, c)
	if err != nil {
		c.srv.Logger.Warn("no passive port", "session", c.id, "remote", c.remote, "err", err)
		if errors.Is(err, ErrNoPort) {
			return nil, ok(425, "All passive ports are in use; try again in a moment.")
		}
		return nil, refusalOr(err, ok(425, "No passive port could be opened; the administrator finds the reason in the log."))
	}
	c.data.passive(verb, l)
	port := l.Addr().Port()
	if c.srv.PassivePort != nil {
		port = c.srv.PassivePort(c, port)
	}
	c.data.announced = netip.AddrPortFrom(c.local.Addr(), port)
	return l, Reply{}
}

func refusalOr(err error, r Reply) Reply {
	var fe *Error
	if errors.As(err, &fe) {
		return Reply{Code: fe.Code, Text: fe.Message}
	}
	return r
}
