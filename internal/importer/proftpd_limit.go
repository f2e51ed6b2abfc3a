package importer

import (
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// limitGroups are the command groups of <Limit>.
var limitGroups = map[string][]string{
	"READ":  {"RETR", "SIZE"},
	"WRITE": {"APPE", "DELE", "MKD", "RMD", "RNFR", "RNTO", "STOR", "STOU", "SITE_CHMOD", "MFMT"},
	"DIRS":  {"LIST", "NLST", "MLSD", "CWD"},
	"ALL":   {"RETR", "SIZE", "APPE", "DELE", "MKD", "RMD", "RNFR", "RNTO", "STOR", "STOU", "SITE_CHMOD", "MFMT", "LIST", "NLST", "MLSD", "CWD"},
}

func commands(args []string) (out []string) {
	for _, a := range args {
		a = strings.ToUpper(a)
		switch g, ok := limitGroups[a]; {
		case ok:
			out = append(out, g...)
		case a == "XMKD" || a == "XRMD":
			out = append(out, a[1:])
		default:
			out = append(out, a)
		}
	}
	return out
}

// commandRights are the rights that a command stands for.
var commandRights = map[string]account.Rights{
	"RETR": account.Download, "STOR": account.Upload | account.Overwrite, "STOU": account.Upload, "APPE": account.Append, "DELE": account.Delete, "MKD": account.Mkdir, "RMD": account.Rmdir,
	"RNFR": account.Rename, "RNTO": account.Rename, "SITE_CHMOD": account.Chmod, "MFMT": account.Times, "LIST": account.List, "NLST": account.List, "MLSD": account.List,
}

// verdict tells whether a <Limit> lets a user do its commands; before is what
// holds without it.
func verdict(d *directive, user string, groups []string, before bool) bool {
	allow, deny, allowAll, denyAll, named := false, false, false, false, false
	match := func(names []string, of func(string) bool) bool {
		for _, n := range strings.FieldsFunc(strings.Join(names, ","), func(r rune) bool { return r == ',' || r == ' ' }) {
			if want, not := strings.CutPrefix(n, "!"); of(want) != not {
				return true
			}
		}
		return false
	}
	for _, c := range d.children {
		isUser := func(n string) bool { return n == user || n == "*" }
		isGroup := func(n string) bool { return slices.Contains(groups, n) }
		switch c.name {
		case "allowall":
			allowAll = true
		case "denyall":
			denyAll = true
		case "allowuser":
			named, allow = true, allow || match(c.args, isUser)
		case "denyuser":
			deny = deny || match(c.args, isUser)
		case "allowgroup":
			named, allow = true, allow || match(c.args, isGroup)
		case "denygroup":
			deny = deny || match(c.args, isGroup)
		}
	}
	switch {
	case deny:
		return false
	case allow:
		return true
	case denyAll:
		return false
	case allowAll:
		return true
	case named:
		return before
	}
	return before
}

// accounts reads AuthUserFile and AuthGroupFile and gives every account the
// rights that the sections leave it.
func (p *proftpd) accounts(conf string) {
	name, line := "/etc/passwd", 0
	if p.userFile != nil {
		name, line = p.userFile.args[0], p.userFile.line
	}
	p.peopleFile = p.find(name)
	if p.userFile == nil && (p.peopleFile == "" || filepath.Dir(p.peopleFile) != filepath.Clean(p.dir)) {
		p.note(conf, 0, "local users", "", Dropped, "put copies of /etc/passwd and /etc/shadow beside proftpd.conf, and the accounts come along with their passwords")
		p.orphans()
		return
	}
	if p.peopleFile == "" {
		p.problem(conf, line, "the AuthUserFile %s is not here; put it beside proftpd.conf", name)
		return
	}
	p.people = p.passwd(p.peopleFile)
	if p.userFile == nil {
		if sh := filepath.Join(p.dir, "shadow"); exists(sh) {
			p.shadow(sh, p.people)
		}
		p.people = people(p.people)
	}
	p.groups()
	p.limits()
	for _, u := range p.people {
		n := User{User: account.User{Name: u.name, Comment: u.comment(), Home: u.home}}
		if p.root != nil {
			n.Home = p.root.args[0]
		}
		n.Home = strings.TrimSuffix(n.Home, "/.")
		for _, g := range p.groupsOf[u.name] {
			if account.ValidName(g) == nil {
				n.Groups = append(n.Groups, g)
			}
		}
		p.rights(&n)
		p.user(p.peopleFile, u.line, n, u.hash)
	}
}

func (p *proftpd) groups() {
	if p.groupFile == nil {
		return
	}
	f := p.find(p.groupFile.args[0])
	if f == "" {
		p.problem(p.groupFile.file, p.groupFile.line, "the AuthGroupFile %s is not here; put it beside proftpd.conf", p.groupFile.args[0])
		return
	}
	byGID, members, order := p.state.groupFile(f)
	for _, g := range order {
		if err := account.ValidName(g.text); err != nil {
			p.note(f, g.n, "group", g.text, Dropped, causeOf(err))
			continue
		}
		p.res.Groups = append(p.res.Groups, account.Group{Name: g.text})
		p.note(f, g.n, "group", g.text, Exact, "")
	}
	for _, u := range p.people {
		if g := byGID[u.gid]; g != "" {
			p.groupsOf[u.name] = append(p.groupsOf[u.name], g)
		}
		for _, g := range order {
			if slices.Contains(members[g.text], u.name) && !slices.Contains(p.groupsOf[u.name], g.text) {
				p.groupsOf[u.name] = append(p.groupsOf[u.name], g.text)
			}
		}
	}
}

// limits notes every section once; rights applies them to each account.
func (p *proftpd) limits() {
	for _, d := range p.access {
		switch d.name {
		case "directory":
			v, note := Exact, "rules of the accounts whose home it is in"
			if strings.ContainsAny(strings.TrimSuffix(d.value(), "/*"), "*?[") {
				v, note = Dropped, "patterns of paths are not supported"
			} else if !slices.ContainsFunc(p.people, func(u unixUser) bool { _, ok := p.inside(u.home, d.args[0]); return ok }) {
				v, note = Dropped, "no account has it in its home"
			}
			p.note(d.file, d.line, "<Directory>", d.value(), v, note)
			for _, c := range d.children {
				if c.name == "limit" {
					p.limitNote(c)
				} else if c.name != "allowoverwrite" {
					p.word(c)
				}
			}
		case "limit":
			p.limitNote(d)
		case "transferrate":
			p.rateNote(d)
		}
	}
}

func (p *proftpd) limitNote(d *directive) {
	v, note := Exact, "rights of the accounts"
	if slices.Contains(d.args, "LOGIN") {
		note = "accounts that may not log in are disabled"
	}
	for _, c := range d.children {
		switch c.name {
		case "allowall", "denyall", "allowuser", "denyuser", "allowgroup", "denygroup", "order":
		case "allow", "deny":
			if slices.Contains(d.args, "LOGIN") && (c.name == "allow" || strings.EqualFold(c.value(), "from all")) {
				note = "networks of the accounts"
				continue
			}
			v, note = Approximated, "an account's networks are for its log-in and not for one command"
		case "ignorehidden":
			v, note = Approximated, "name patterns hide names (--hide)"
		default:
			v, note = Approximated, c.name+" has no counterpart"
		}
	}
	for _, a := range commands(d.args) {
		if _, ok := commandRights[a]; !ok && a != "LOGIN" && a != "CWD" && a != "SIZE" {
			v, note = Approximated, a+" is not a right of its own"
		}
	}
	p.note(d.file, d.line, "<Limit>", d.value(), v, note)
}

func (p *proftpd) rateNote(d *directive) {
	if len(d.args) < 2 {
		p.problem(d.file, d.line, "TransferRate needs commands and a rate, not %q", d.value())
		return
	}
	rate, _, _ := strings.Cut(d.args[1], ":")
	if _, err := strconv.ParseFloat(rate, 64); err != nil {
		p.problem(d.file, d.line, "the rate %q of TransferRate is not a number", d.args[1])
		return
	}
	v, note := Exact, "the bandwidth of the accounts"
	if len(d.args) > 2 || strings.Contains(d.args[1], ":") {
		v, note = Approximated, "it holds for every account, from the first octet"
	}
	p.note(d.file, d.line, "TransferRate", d.value(), v, note)
}

// inside returns the client's path of a <Directory> within a home.
func (p *proftpd) inside(home, dir string) (string, bool) {
	if p.root != nil {
		home = p.root.args[0]
	}
	home = strings.TrimSuffix(path.Clean(strings.TrimSuffix(home, "/.")), "/")
	dir = strings.TrimSuffix(strings.TrimSuffix(dir, "*"), "/")
	switch {
	case dir == "" || dir == "~":
		return "/", true
	case strings.HasPrefix(dir, "~/"):
		return path.Clean(dir[1:]), true
	case dir == home || strings.HasPrefix(home, dir+"/"):
		return "/", true
	case strings.HasPrefix(dir, home+"/"):
		return path.Clean(dir[len(home):]), true
	}
	return "", false
}

// rights applies the sections to an account, from the root downwards.
func (p *proftpd) rights(u *User) {
	groups := p.groupsOf[u.Name]
	// ProFTPD does not let a file be replaced unless AllowOverwrite says so.
	rules := map[string]account.Rights{"/": account.ReadWrite &^ (account.Overwrite | account.Append)}
	apply := func(at string, d *directive) {
		base, ok := rules[at]
		if !ok {
			base = above(rules, at)
		}
		if d.name == "allowoverwrite" {
			base &^= account.Overwrite | account.Append
			if on(d.args[0]) {
				base |= account.Overwrite | account.Append
			}
			rules[at] = base
			return
		}
		over := base & (account.Overwrite | account.Append)
		for _, c := range commands(d.args) {
			r := commandRights[c]
			if c == "STOR" || c == "APPE" { // overwriting needs AllowOverwrite besides
				r &^= (account.Overwrite | account.Append) &^ over
			}
			if r != 0 {
				if verdict(d, u.Name, groups, base.Has(r)) {
					base |= r
				} else {
					base &^= commandRights[c]
				}
			}
		}
		rules[at] = base
	}
	for _, d := range p.access {
		if d.name == "allowoverwrite" {
			apply("/", d)
		}
	}
	for _, d := range p.access {
		switch {
		case d.name == "limit" && slices.Contains(d.args, "LOGIN"):
			p.login(u, groups, d)
		case d.name == "limit":
			apply("/", d)
		case d.name == "transferrate":
			p.rate(u, d)
		}
	}
	var dirs []*directive
	for _, d := range p.access {
		if d.name == "directory" && !strings.ContainsAny(strings.TrimSuffix(d.value(), "/*"), "*?[") {
			dirs = append(dirs, d)
		}
	}
	slices.SortStableFunc(dirs, func(a, b *directive) int { return len(a.args[0]) - len(b.args[0]) })
	for _, d := range dirs {
		at, ok := p.inside(u.Home, d.args[0])
		if !ok {
			continue
		}
		for _, c := range d.children {
			if c.name == "allowoverwrite" {
				apply(at, c)
			}
		}
		for _, c := range d.children {
			if c.name == "limit" && !slices.Contains(c.args, "LOGIN") {
				apply(at, c)
			}
		}
	}
	for at, r := range rules {
		u.Rules = append(u.Rules, account.Rule{Path: at, Rights: r})
	}
	slices.SortFunc(u.Rules, func(a, b account.Rule) int { return strings.Compare(a.Path, b.Path) })
	if len(u.Rules) == 1 {
		u.Rules = limitRights(u.Rules[0].Rights)
	}
}

// above returns the rights of the nearest rule over a path.
func above(rules map[string]account.Rights, at string) account.Rights {
	for p := path.Dir(at); ; p = path.Dir(p) {
		if r, ok := rules[p]; ok {
			return r
		}
	}
}

// login applies <Limit LOGIN>: who may not is disabled, from where becomes networks.
func (p *proftpd) login(u *User, groups []string, d *directive) {
	var nets []netip.Prefix
	for _, c := range d.children {
		if c.name != "allow" {
			continue
		}
		for _, a := range c.args {
			if a == "from" || strings.EqualFold(a, "all") {
				continue
			}
			for f := range strings.SplitSeq(a, ",") {
				if n, err := parseNetwork(prefixDots(f)); err == nil {
					nets = append(nets, n)
				}
			}
		}
	}
	if len(nets) > 0 {
		u.Networks = nets
		return
	}
	if !verdict(d, u.Name, groups, true) {
		u.Disabled = true
	}
}

// prefixDots turns ProFTPD's "10.0." into 10.0.0.0/16.
func prefixDots(s string) string {
	if !strings.HasSuffix(s, ".") {
		return s
	}
	n := strings.Count(s, ".")
	return s + strings.Repeat("0.", 3-min(3, n)) + "0/" + strconv.Itoa(8*n)
}

func (p *proftpd) rate(u *User, d *directive) {
	rate, _, _ := strings.Cut(d.args[1], ":")
	f, err := strconv.ParseFloat(rate, 64)
	if err != nil {
		return
	}
	n := int64(f * 1024)
	for c := range strings.SplitSeq(strings.ToUpper(d.args[0]), ",") {
		switch c {
		case "RETR":
			u.Bandwidth.Down = n
		case "STOR", "APPE", "STOU":
			u.Bandwidth.Up = n
		}
	}
}

// orphans notes the sections when there is nobody they could be for.
func (p *proftpd) orphans() {
	for _, d := range p.access {
		if d.section {
			p.note(d.file, d.line, "<"+d.name+">", d.value(), Dropped, "there are no accounts it could be for")
		}
	}
}
