package ftp

import (
	"crypto/tls"
	"slices"
	"strings"
)

func (c *Conn) cmdNOOP(string) Reply { return ok(200, "NOOP done.") }

func (c *Conn) cmdSYST(string) Reply { return ok(215, "UNIX Type: L8") }

func (c *Conn) cmdHELP(arg string) Reply {
	arg = strings.ToUpper(strings.TrimSpace(arg))
	if sub, found := strings.CutPrefix(arg, "SITE "); found {
		return c.siteHELP(sub)
	}
	if arg != "" {
		cmd := byName[arg]
		if cmd == nil {
			return ok(501, "%q is not a command of this server.", arg)
		}
		return ok(214, "%s: %s", strings.TrimSpace(cmd.name+" "+cmd.syntax), cmd.help)
	}
	lines := []string{"Commands of this server:"}
	var row strings.Builder
	for i := range commands {
		if commands[i].flags&hidden != 0 {
			continue
		}
		name := commands[i].name
		row.WriteString(name + strings.Repeat(" ", 8-len(name)))
		if row.Len() >= 64 {
			lines = append(lines, strings.TrimRight(row.String(), " "))
			row.Reset()
		}
	}
	if row.Len() > 0 {
		lines = append(lines, strings.TrimRight(row.String(), " "))
	}
	return Reply{Code: 214, Text: "HELP with a command explains it.", Lines: lines}
}

// cmdFEAT lists extensions from the command table (RFC 2389 section 3.2).
func (c *Conn) cmdFEAT(string) Reply {
	var feats []string
	for i := range commands {
		cmd := &commands[i]
		if cmd.feat != "" && c.offers(cmd.name) {
			feats = append(feats, cmd.feat)
		}
	}
	feats = append(feats, hashFeature(c.hash), "MLST "+c.facts.feature(), "MFF modify;create;UNIX.mode;", "TVFS", "UTF8")
	slices.Sort(feats)
	return Reply{Code: 211, Text: "End.", Lines: append([]string{"Extensions:"}, feats...)}
}

// offers reports whether a command does anything on this connection.
func (c *Conn) offers(name string) bool {
	switch name {
	case "AUTH":
		return c.srv.TLS != nil && !c.srv.Implicit && c.srv.ControlTLS != TLSOff
	case "PBSZ", "PROT":
		return c.srv.TLS != nil && (c.srv.Implicit || c.srv.ControlTLS != TLSOff)
	case "EPRT":
		return !c.srv.NoActive
	case "EPSV":
		return c.srv.Passive != nil || c.srv.Shared != nil
	case "HOST":
		_, is := c.srv.Backend.(HostChecker)
		return is
	}
	return true
}

func (c *Conn) cmdCLNT(arg string) Reply {
	c.srv.Logger.Debug("client software", "session", c.id, "name", arg)
	return ok(200, "Noted.")
}

func (c *Conn) cmdCSID(arg string) Reply {
	if !strings.Contains(arg, "=") {
		return ok(501, "CSID takes Name=...; and perhaps Version=...;")
	}
	c.srv.Logger.Debug("client software", "session", c.id, "name", arg)
	s := "Name=" + c.srv.Product + ";"
	if c.srv.Version != "" {
		s += " Version=" + c.srv.Version + ";"
	}
	return ok(200, "%s CaseSensitive=1; DirSep=/;", s)
}

func tlsName(v uint16) string { return tls.VersionName(v) }
