package importer

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// readFilezilla reads "FileZilla Server.xml" of 0.9, or users.xml and
// settings.xml of 1.x; the outermost element tells which it is.
func readFilezilla(s *state) {
	file := s.main("FileZilla Server.xml", "users.xml", "settings.xml")
	if file == "" {
		return
	}
	root := s.xmlTree(file)
	if root == nil {
		return
	}
	switch root.name {
	case "FileZillaServer":
		z := &filezilla{state: s, file: file, groups: map[string]*element{}}
		z.settings(root.child("Settings"))
		z.accounts(root)
	case "filezilla":
		readFilezilla1(s, file, root)
	default:
		s.problem(file, root.line, "the outermost element is <%s>; <FileZillaServer> or <filezilla> was expected", root.name)
	}
}

type filezilla struct {
	*state
	file   string
	groups map[string]*element
}

// fzItems are the settings of 0.9 that mean something here; the others of the
// program are dropped with the note "".
var fzItems = map[string]struct {
	to   string // key of the configuration
	kind byte   // n(umber), s(econds), t(ext)
	v    Verdict
	note string
}{
	"Number of Threads": {"", 'n', Dropped, "chosen by the server"}, "Maximum user count": {"limits.max_connections", 'n', Exact, ""}, "Timeout": {"ftp.idle_timeout", 's', Exact, ""},
	"No Transfer Timeout": {"ftp.stall_timeout", 's', Exact, ""}, "Login Timeout": {"ftp.login_timeout", 's', Exact, ""}, "Initial Welcome Message": {"ftp.banner", 't', Exact, ""},
	"Custom PASV IP": {"ftp.passive.address", 't', Exact, ""},
}

func (z *filezilla) settings(st *element) {
	items, line := map[string]string{}, map[string]int{}
	for _, it := range st.all("Item") {
		name := it.attr["name"]
		items[name], line[name] = it.text, it.line
		if it.attr["type"] == "numeric" {
			if _, err := strconv.ParseInt(it.text, 10, 64); err != nil {
				z.problem(z.file, it.line, "the setting %q must be a number, not %q", name, it.text)
			}
		}
	}
	if len(z.problems) > 0 {
		return
	}
	on := func(k string) bool { return items[k] == "1" }
	num := func(k string) int { n, _ := strconv.Atoi(items[k]); return n }
	known := map[string]string{}
	tell := func(k, note string) { known[k] = note }
	for p := range strings.FieldsSeq(strings.ReplaceAll(items["Serverports"], ",", " ")) {
		l := z.set.add("ftp", "", p)
		switch {
		case !on("Enable FTP over SSL/TLS support"):
			l.put("tls", "off")
		case on("Force explicit TLS") || on("Force explicit SSL"):
			l.put("tls", "required")
		default:
			l.put("tls", "offered")
		}
	}
	if on("Enable FTP over SSL/TLS support") {
		for p := range strings.FieldsSeq(strings.ReplaceAll(items["Implicit SSL ports"], ",", " ")) {
			z.set.add("ftps", "", p)
		}
	}
	for k, note := range map[string]string{"Serverports": "a listener each", "Implicit SSL ports": "a listener each", "Enable FTP over SSL/TLS support": "tls of the listeners",
		"Force explicit TLS": "tls of the listeners", "Force explicit SSL": "tls of the listeners", "Allow explicit SSL": "tls of the listeners", "Force PROT P": "data_tls of the listeners",
		"Use custom PASV ports": "ftp.passive.ports", "Custom PASV min port": "ftp.passive.ports", "Custom PASV max port": "ftp.passive.ports", "Custom PASV IP type": "ftp.passive.address",
		"SSL Certificate file": "tls.cert", "SSL Key file": "tls.key", "Require TLS session resumption": "data_session of the listeners"} {
		tell(k, note)
	}
	for _, l := range z.set.listen {
		if on("Force PROT P") && l.keys["tls"] != `"off"` {
			l.put("data_tls", "required")
		}
		if on("Require TLS session resumption") && l.keys["tls"] != `"off"` {
			l.put("data_session", "require")
		}
	}
	if on("Use custom PASV ports") && num("Custom PASV min port") > 0 {
		z.set.put("ftp.passive.ports", items["Custom PASV min port"]+"-"+items["Custom PASV max port"])
	}
	for k, key := range map[string]string{"SSL Certificate file": "tls.cert", "SSL Key file": "tls.key"} {
		if items[k] != "" {
			z.set.put(key, strings.ReplaceAll(items[k], `\`, "/"))
		}
	}
	if on("Autoban enable") && num("Autoban attempts") > 0 && num("Autoban time") > 0 {
		z.set.number("limits.login_failures", num("Autoban attempts"))
		z.set.seconds("limits.ban_time", num("Autoban time")*3600) // in hours
		tell("Autoban enable", "on, as here")
		tell("Autoban attempts", "limits.login_failures")
		tell("Autoban time", "limits.ban_time")
	}
	for _, k := range sortedByLine(line) {
		value := items[k]
		secret := strings.Contains(strings.ToLower(k), "password")
		if secret && value != "" {
			value = "***"
		}
		it, mapped := fzItems[k]
		note, told := known[k]
		switch {
		case told:
			z.note(z.file, line[k], k, value, Exact, note)
		case !mapped:
			z.note(z.file, line[k], k, value, Dropped, "it has no counterpart here")
		case it.to == "" || value == "":
			v, note := it.v, it.note
			if value == "" {
				v, note = Exact, "empty"
			}
			z.note(z.file, line[k], k, value, v, note)
		case k == "Custom PASV IP" && items["Custom PASV IP type"] != "1":
			z.note(z.file, line[k], k, value, Exact, "not used, because of the type")
		default:
			switch it.kind {
			case 's':
				if num(k) > 0 {
					z.set.seconds(it.to, num(k))
				}
			case 'n':
				z.set.number(it.to, num(k))
			default:
				z.set.put(it.to, strings.Join(strings.Fields(value), " "))
			}
			z.note(z.file, line[k], k, value, Exact, it.to)
		}
	}
}

func (z *filezilla) accounts(root *element) {
	for _, g := range root.child("Groups").all("Group") {
		z.groups[g.attr["Name"]] = g
		z.group(g)
	}
	for _, u := range root.child("Users").all("User") {
		z.user09(u)
	}
}

// options reads <Option Name="...">; in 0.9 a 2 is "as the group says".
func options(e *element) map[string]string {
	m := map[string]string{}
	for _, o := range e.all("Option") {
		m[o.attr["Name"]] = o.text
	}
	return m
}

// tree turns permissions into home, mounts and rules.
func (z *filezilla) tree(who string, e *element) (home string, mounts []account.Mount, rules []account.Rule) {
	for _, p := range e.child("Permissions").all("Permission") {
		o := options(p)
		var r account.Rights
		for k, bit := range map[string]account.Rights{"FileRead": account.Download, "FileWrite": account.Upload | account.Overwrite | account.Times, "FileDelete": account.Delete,
			"FileAppend": account.Append, "DirCreate": account.Mkdir, "DirDelete": account.Rmdir, "DirList": account.List} {
			if o[k] == "1" {
				r |= bit
			}
		}
		if o["FileWrite"] == "1" && o["FileDelete"] == "1" {
			r |= account.Rename
		}
		dir := p.attr["Dir"]
		template := strings.NewReplacer(":u", "%u", ":U", "%u", ":g", "%g", ":G", "%g").Replace(strings.ReplaceAll(dir, "%", "%%"))
		if o["DirSubdirs"] == "0" {
			z.note(z.file, p.line, "permission of "+who, dir, Approximated, "rights reach into subdirectories")
		}
		paths := []string{}
		for _, a := range p.child("Aliases").all("Alias") {
			if t := strings.TrimRight(strings.ReplaceAll(a.text, `\`, "/"), "/"); strings.HasPrefix(t, "/") {
				paths = append(paths, t)
			} else {
				z.note(z.file, a.line, "alias of "+who, a.text, Dropped, "it is not an absolute path")
			}
		}
		if o["IsHome"] == "1" {
			home = template
			paths = append(paths, "/")
		}
		if len(paths) == 0 {
			z.note(z.file, p.line, "permission of "+who, dir, Dropped, "it has no place in the tree: it is neither the home nor has it an alias")
			continue
		}
		z.note(z.file, p.line, "permission of "+who, dir, Exact, fmt.Sprintf("%s at %s", r, strings.Join(paths, ", ")))
		for _, at := range paths {
			if at != "/" {
				mounts = append(mounts, account.Mount{Path: at, Source: template})
			}
			rules = append(rules, account.Rule{Path: at, Rights: r})
		}
	}
	return home, mounts, rules
}

// speed reads a limit in kilobytes a second: type 2 is the constant, 0 none
// of its own. Rules by hour are dropped.
func (z *filezilla) speed(who string, e *element) (b account.Bandwidth) {
	sl := e.child("SpeedLimits")
	if len(sl.attr) == 0 {
		return b
	}
	for _, d := range []struct {
		kind, limit string
		to          *int64
	}{{"DlType", "DlLimit", &b.Down}, {"UlType", "UlLimit", &b.Up}} {
		switch sl.attr[d.kind] {
		case "2":
			n, err := strconv.ParseInt(sl.attr[d.limit], 10, 64)
			if err != nil || n < 0 {
				z.problem(z.file, sl.line, "the speed limit %s of %s is not a number: %q", d.limit, who, sl.attr[d.limit])
				continue
			}
			*d.to = n << 10
		case "3":
			z.note(z.file, sl.line, "speed rules of "+who, d.kind, Dropped, "speeds do not change by the hour")
		}
	}
	return b
}

func (z *filezilla) group(e *element) {
	name := e.attr["Name"]
	g := account.Group{Name: name, Bandwidth: z.speed("group "+name, e)}
	g.Home, g.Mounts, g.Rules = z.tree("group "+name, e)
	g.Mounts = slices.DeleteFunc(g.Mounts, func(m account.Mount) bool { return !filepath.IsAbs(m.Source) })
	if g.Home != "" && !filepath.IsAbs(g.Home) {
		z.note(z.file, e.line, "home of group "+name, g.Home, Dropped, "it is no directory of this system")
		g.Home = ""
	}
	if err := account.ValidName(name); err != nil {
		z.note(z.file, e.line, "group", name, Dropped, causeOf(err))
		delete(z.groups, name)
		return
	}
	if err := g.Validate(); err != nil {
		z.problem(z.file, e.line, "group %s: %s", name, causeOf(err))
		return
	}
	z.res.Groups = append(z.res.Groups, g)
	z.note(z.file, e.line, "group", name, Exact, "")
}

func (z *filezilla) user09(e *element) {
	name, o := e.attr["Name"], options(e)
	u := User{User: account.User{Name: name, Comment: strings.Join(strings.Fields(o["Comments"]), " "), Disabled: o["Enabled"] == "0", Bandwidth: z.speed(name, e)}}
	u.Home, u.Mounts, u.Rules = z.tree(name, e)
	u.Home = strings.NewReplacer("%u", name, "%g", o["Group"], "%%", "%").Replace(u.Home)
	if g := o["Group"]; g != "" {
		if z.groups[g] == nil {
			z.problem(z.file, e.line, "user %s is in the group %q, which is not there", name, g)
		} else {
			u.Groups = []string{g}
		}
	}
	if n, err := strconv.Atoi(o["User Limit"]); err == nil {
		u.MaxSessions = n
	}
	if o["IP Limit"] != "" && o["IP Limit"] != "0" {
		z.note(z.file, e.line, "IP limit of "+name, o["IP Limit"], Dropped, "sessions of an address are bounded by limits.per_address, for everybody")
	}
	if o["ForceSsl"] == "1" {
		u.Protocols = []string{"ftps"}
		z.note(z.file, e.line, "forced TLS of "+name, "", Exact, "the account may use ftps alone, which includes AUTH TLS")
	}
	u.Networks = z.networks(name, e)
	hash := strings.ToLower(o["Pass"])
	switch _, err := hex.DecodeString(hash); {
	case hash == "":
	case err != nil:
		z.problem(z.file, e.line, "the password of %s is not a hexadecimal digest", name)
		return
	case o["Salt"] != "":
		h, err := saltedSHA512(hash, o["Salt"])
		if err != nil {
			z.problem(z.file, e.line, "user %s: %v", name, err)
			return
		}
		hash = h
	case len(hash) == 32:
		hash = "{MD5}" + hash
	default:
		z.problem(z.file, e.line, "the password of %s is neither an MD5 digest nor has it a salt", name)
		return
	}
	z.user(z.file, e.line, u, hash)
}

func (z *filezilla) networks(who string, e *element) (nets []netip.Prefix) {
	for _, ip := range e.child("IpFilter", "Allowed").all("IP") {
		n, err := parseNetwork(ip.text)
		if err != nil {
			z.note(z.file, ip.line, "allowed address of "+who, ip.text, Dropped, "patterns of addresses are not supported; write a network")
			continue
		}
		nets = append(nets, n)
	}
	for _, ip := range e.child("IpFilter", "Disallowed").all("IP") {
		v, note := Dropped, "an account has allowed networks; refuse the others in limits.deny"
		if ip.text == "*" && len(nets) > 0 {
			v, note = Exact, "only the allowed ones may log in"
		}
		z.note(z.file, ip.line, "refused address of "+who, ip.text, v, note)
	}
	if len(e.child("IpFilter", "Disallowed").children) == 0 && len(nets) > 0 {
		z.note(z.file, e.line, "allowed addresses of "+who, "", Dropped, "nothing is refused, so the list has no effect")
		return nil
	}
	return nets
}
