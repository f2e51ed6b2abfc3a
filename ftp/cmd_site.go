package ftp

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// siteCommand is a row of the table of SITE subcommands.
type siteCommand struct {
	name, syntax, help string
	run                func(c *Conn, arg string) Reply
}

// siteCommands is filled by init, as commands is.
var siteCommands []siteCommand

func siteTable() []siteCommand {
	return []siteCommand{
		{"CHMOD", "mode path", "Set permission bits, in octal.", (*Conn).siteCHMOD},
		{"CPFR", "path", "Name the file that CPTO will copy.", (*Conn).siteCPFR},
		{"CPTO", "path", "Copy what CPFR named.", (*Conn).siteCPTO},
		{"DIAG", "", "Tell what the server saw of your data connections.", (*Conn).siteDIAG},
		{"HELP", "[subcommand]", "List the subcommands or explain one.", (*Conn).siteHELP},
		{"IDLE", "[seconds]", "Tell or set the idle timeout.", (*Conn).siteIDLE},
		{"MKDIR", "path", "Make a directory and those above it.", (*Conn).siteMKDIR},
		{"PSWD", "old new", "Choose a new password, where yours must be changed. TLS only.", (*Conn).sitePSWD},
		{"QUOTA", "", "Tell what is stored and what may be.", (*Conn).siteQUOTA},
		{"RMDIR", "path", "Remove an empty directory.", (*Conn).siteRMDIR},
		{"SYMLINK", "target path", "Make a symbolic link.", (*Conn).siteSYMLINK},
		{"UTIME", "time path", "Set the time of last change.", (*Conn).siteUTIME},
	}
}

func (c *Conn) cmdSITE(arg string) Reply {
	verb, rest, _ := strings.Cut(arg, " ")
	verb = strings.ToUpper(verb)
	i := siteIndex(verb)
	if verb != "CPTO" {
		c.once.cpfr = ""
	}
	if i < 0 {
		return ok(500, "SITE %q is not offered; SITE HELP lists what is.", siteWord(verb)) // a password may be glued to it
	}
	s := siteCommands[i]
	if s.syntax != "" && s.syntax[0] != '[' && rest == "" {
		return ok(501, "SITE %s needs arguments: %s", s.name, s.syntax)
	}
	return s.run(c, rest)
}

// siteIndex finds a subcommand in siteCommands, in whatever case; -1: none.
func siteIndex(verb string) int {
	return slices.IndexFunc(siteCommands, func(s siteCommand) bool { return strings.EqualFold(s.name, verb) })
}

func (c *Conn) siteHELP(arg string) Reply {
	if arg != "" {
		for _, s := range siteCommands {
			if strings.EqualFold(s.name, arg) {
				return ok(214, "%s: %s", strings.TrimSpace("SITE "+s.name+" "+s.syntax), s.help)
			}
		}
		return ok(501, "SITE %q is not offered.", siteWord(arg))
	}
	lines := []string{"SITE subcommands:"}
	for _, s := range siteCommands {
		lines = append(lines, strings.TrimSpace(s.name+" "+s.syntax))
	}
	return Reply{Code: 214, Text: "End.", Lines: lines}
}

func (c *Conn) siteCHMOD(arg string) Reply {
	m, p, found := strings.Cut(arg, " ")
	mode, valid := parseMode(m)
	if !found || p == "" || !valid {
		return ok(501, "SITE CHMOD takes octal permission bits, up to 777, and a path.")
	}
	if err := c.chmod(c.ctx, c.abs(p), mode); err != nil {
		return refusal(err, shown(p))
	}
	return ok(200, "Mode of %s set to %s.", shown(p), m)
}

func (c *Conn) siteSYMLINK(arg string) Reply {
	words, valid := splitQuoted(arg)
	if !valid || len(words) != 2 {
		return ok(501, "SITE SYMLINK takes a target and a path, in double quotes where they hold spaces.")
	}
	s, is := c.sess.(Symlinker)
	if !is {
		return ok(502, "This storage has no symbolic links.")
	}
	if err := s.Symlink(c.ctx, c.abs(words[0]), c.abs(words[1])); err != nil {
		return refusal(err, shown(words[1]))
	}
	return ok(200, "%s points to %s.", shown(words[1]), shown(words[0]))
}

// sitePSWD replaces the session by the one that the new password opens.
func (c *Conn) sitePSWD(arg string) Reply {
	if c.tlsConn() == nil {
		return ok(534, "A password is not changed on a connection without TLS; send AUTH TLS first.")
	}
	p, is := c.sess.(PasswordChanger)
	if !is {
		return ok(502, "The password of this account is set by the administrator.")
	}
	words, valid := splitQuoted(arg)
	if !valid || len(words) != 2 || words[1] == "" {
		return ok(501, "SITE PSWD takes the old and the new password, in double quotes where they hold spaces.")
	}
	s, err := p.ChangePassword(c.ctx, words[0], words[1])
	if err != nil {
		return refusal(err, "SITE PSWD")
	}
	if s != nil {
		c.enter(s)
	}
	return ok(200, "The password is changed; you are logged in.")
}

func (c *Conn) siteMKDIR(arg string) Reply {
	name := c.abs(arg)
	for i := 1; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		if _, err := c.sess.Stat(c.ctx, name[:i]); err != nil {
			if err := c.sess.Mkdir(c.ctx, name[:i]); err != nil {
				return refusal(err, shown(name[:i]))
			}
		}
	}
	r := c.cmdMKD(arg)
	if r.Code == 257 {
		r.Code = 200
	}
	return r
}

func (c *Conn) siteRMDIR(arg string) Reply {
	r := c.cmdRMD(arg)
	if r.Code == 250 {
		r.Code = 200
	}
	return r
}

func (c *Conn) siteCPFR(arg string) Reply {
	name := c.abs(arg)
	info, err := c.sess.Stat(c.ctx, name)
	if err != nil {
		return refusal(err, shown(arg))
	}
	if !info.Mode.IsRegular() {
		return ok(550, "%s: not a plain file.", shown(arg))
	}
	c.once.cpfr = name
	return ok(350, "Send SITE CPTO with the new name.")
}

func (c *Conn) siteCPTO(arg string) Reply {
	from := c.once.cpfr
	c.once.cpfr = ""
	if from == "" {
		return ok(503, "Send SITE CPFR first.")
	}
	cp, is := c.sess.(Copier)
	if !is {
		return ok(502, "This storage does not copy.")
	}
	to := c.abs(arg)
	if to == from {
		return ok(553, "%s: that is the file itself.", shown(arg))
	}
	c.begin("CPTO", to, func(t *transfer) Reply {
		if err := cp.Copy(t.ctx, from, to); err != nil {
			return refusal(err, shown(arg))
		}
		return ok(250, "Copied to %s.", shown(arg))
	})
	return Reply{}
}

// siteUTIME knows both forms in use: "time path", and
// "path atime mtime ctime UTC", each time as YYYYMMDDhhmm[ss].
func (c *Conn) siteUTIME(arg string) Reply {
	if stamp, p, found := strings.Cut(arg, " "); found {
		if t, valid := siteTime(stamp); valid && p != "" {
			return c.setTimes(p, &t, nil, func() Reply { return ok(200, "Time of %s set.", shown(p)) })
		}
	}
	f := strings.Split(arg, " ")
	if n := len(f); n >= 5 && strings.EqualFold(f[n-1], "UTC") {
		if t, valid := siteTime(f[n-3]); valid {
			p := strings.Join(f[:n-4], " ")
			return c.setTimes(p, &t, nil, func() Reply { return ok(200, "Time of %s set.", shown(p)) })
		}
	}
	return ok(501, "SITE UTIME takes a time, YYYYMMDDhhmmss in UTC, and a path.")
}

func siteTime(s string) (time.Time, bool) {
	if len(s) == 12 {
		s += "00"
	}
	t, err := ParseTimeVal(s)
	return t, err == nil
}

func (c *Conn) siteIDLE(arg string) Reply {
	if arg == "" {
		return ok(200, "Idle timeout is %d seconds; up to %d are possible.", int(c.idle.Seconds()), int(c.srv.IdleTimeout.Seconds()))
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 {
		return ok(501, "SITE IDLE takes seconds.")
	}
	d := time.Duration(n) * time.Second
	if n > 1<<30 || d > c.srv.IdleTimeout {
		return ok(501, "The idle timeout may be at most %d seconds.", int(c.srv.IdleTimeout.Seconds()))
	}
	c.idle = max(d, 10*time.Second)
	return ok(200, "Idle timeout is %d seconds.", int(c.idle.Seconds()))
}

func (c *Conn) siteQUOTA(string) Reply {
	u, is := c.sess.(Usage)
	if !is {
		return ok(200, "No quota is set.")
	}
	ub, mb, uf, mf, err := u.Usage(c.ctx)
	if err != nil {
		return refusal(err, "quota")
	}
	line := func(what string, used, most int64) string {
		if most == 0 {
			return what + ": no limit"
		}
		return what + ": " + strconv.FormatInt(used, 10) + " of " + strconv.FormatInt(most, 10)
	}
	return Reply{Code: 200, Text: "End of quota.", Lines: []string{"Quota of " + c.user + ":", line("bytes", ub, mb), line("files", uf, mf)}}
}
