package importer

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// filezilla1 reads the files of FileZilla Server 1.x.
type filezilla1 struct {
	*state
	file   string
	groups map[string]bool
}

func readFilezilla1(s *state, file string, root *element) {
	z := &filezilla1{state: s, file: file, groups: map[string]bool{}}
	if len(root.all("user"))+len(root.all("group")) > 0 || filepath.Base(file) == "users.xml" {
		for _, g := range root.all("group") {
			z.group(g)
		}
		for _, u := range root.all("user") {
			z.account(u)
		}
		st := filepath.Join(s.dir, "settings.xml")
		if s.path != s.dir || !exists(st) {
			return
		}
		if file, root = st, s.xmlTree(st); root == nil {
			return
		}
		z.file = file
	}
	z.server(root)
}

// fz1Leaves are settings by their path; what is not here has no counterpart.
var fz1Leaves = map[string]string{
	"ftp_server/session/pasv/host_override": "ftp.passive.address", "ftp_server/session/pasv/port_range/min": "", "ftp_server/session/pasv/port_range/max": "",
	"ftp_server/welcome_message": "ftp.banner", "ftp_server/session/control_timeouts/activity_timeout": "ftp.idle_timeout",
	"ftp_server/session/control_timeouts/login_timeout": "ftp.login_timeout", "ftp_server/autobanner/max_login_failures": "limits.login_failures",
	"ftp_server/autobanner/ban_duration": "limits.ban_time", "ftp_server/autobanner/login_failures_time_window": "limits.login_window",
	"ftp_server/session/tls/cert/index": "", "ftp_server/session/tls/cert/key_path": "tls.key", "ftp_server/session/tls/cert/certs_path": "tls.cert",
}

func (z *filezilla1) server(root *element) {
	for _, l := range root.child("ftp_server").all("listener") {
		port, host := l.child("port").text, l.child("address").text
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			z.problem(z.file, l.line, "the port %q of a listener is not a number from 1 to 65535", port)
			continue
		}
		if host == "0.0.0.0" && z.hasDual(root, port) {
			host = "" // the [::] entry beside it makes it all addresses
		} else if host == "::" && z.hasDual(root, port) {
			z.note(z.file, l.line, "listener", "[::]:"+port, Exact, "one listener serves IPv4 and IPv6")
			continue
		}
		mode := map[string]string{"0": "off", "1": "required", "2": "implicit", "3": "offered"}[l.attr["tls_mode"]]
		value := fmt.Sprintf("%s:%s tls_mode %s", host, port, l.attr["tls_mode"])
		switch mode {
		case "":
			z.problem(z.file, l.line, "the tls_mode %q of a listener is unknown; 0 to 3 are known", l.attr["tls_mode"])
			continue
		case "implicit":
			z.set.add("ftps", host, port)
		default:
			z.set.add("ftp", host, port).put("tls", mode)
		}
		z.note(z.file, l.line, "listener", value, Exact, "")
	}
	var first, last string
	var walk func(e *element, path string)
	walk = func(e *element, path string) {
		if path == "ftp_server/listener" {
			return
		}
		if len(e.children) > 0 {
			for _, c := range e.children {
				walk(c, strings.TrimPrefix(path+"/"+c.name, "/"))
			}
			return
		}
		key, known := fz1Leaves[path]
		value := e.text
		if strings.Contains(path, "password") || strings.Contains(path, "private") {
			value = ""
		}
		switch {
		case path == "ftp_server/session/tls/min_tls_ver" && (value == "1.2" || value == "1.3"):
			z.note(z.file, e.line, path, value, map[string]Verdict{"1.2": Exact, "1.3": Approximated}[value], "TLS 1.2 and 1.3 are spoken")
			return
		case !known:
			z.note(z.file, e.line, path, value, Dropped, "it has no counterpart here")
			return
		case path == "ftp_server/session/pasv/port_range/min":
			first = e.text
		case path == "ftp_server/session/pasv/port_range/max":
			last = e.text
		case key == "" || e.text == "":
		case strings.HasSuffix(key, "_timeout") || strings.HasSuffix(key, "_time") || strings.HasSuffix(key, "_window"):
			// In milliseconds, with or without a unit.
			n, err := strconv.ParseInt(strings.TrimSuffix(e.text, "ms"), 10, 64)
			if err != nil {
				z.problem(z.file, e.line, "%s must be a number, not %q", path, e.text)
				return
			}
			if n /= 1000; n > 0 {
				z.set.seconds(key, int(n))
			}
		case key == "limits.login_failures":
			n, err := strconv.Atoi(e.text)
			if err != nil {
				z.problem(z.file, e.line, "%s must be a number, not %q", path, e.text)
				return
			}
			z.set.number(key, n)
		default:
			z.set.put(key, e.text)
		}
		z.note(z.file, e.line, path, value, Exact, key)
	}
	walk(root, "")
	if digits(first) && digits(last) && first != "0" {
		z.set.put("ftp.passive.ports", first+"-"+last)
	} else if first != "" && !digits(first) || last != "" && !digits(last) {
		z.problem(z.file, root.line, "the passive ports %q to %q are not numbers", first, last)
	}
}

func (z *filezilla1) hasDual(root *element, port string) bool {
	n := 0
	for _, l := range root.child("ftp_server").all("listener") {
		if a := l.child("address").text; (a == "0.0.0.0" || a == "::") && l.child("port").text == port {
			n++
		}
	}
	return n > 1
}

// tree turns mount points into home, mounts and rules.
func (z *filezilla1) tree(who string, e *element, names *strings.Replacer) (home string, mounts []account.Mount, rules []account.Rule) {
	for _, m := range e.all("mount_point") {
		at := m.attr["tvfs_path"]
		source := m.attr["native_path"]
		if n := m.attr["new_native_path"]; n != "" {
			source = n
		}
		source = names.Replace(source)
		value := at + " = " + source
		var r account.Rights
		switch m.attr["access"] {
		case "0":
			r = account.ReadOnly
		case "1":
			r = account.ReadWrite
			if m.attr["recursive"] != "2" {
				r &^= account.Mkdir | account.Rmdir
			}
		case "2":
			// A directory below another mount would be reached through that one.
			if strings.HasPrefix(at, "/") {
				rules = append(rules, account.Rule{Path: at})
			}
			z.note(z.file, m.line, "mount of "+who, value, Exact, "disabled: no rights at all there")
			continue
		default:
			z.problem(z.file, m.line, "the access %q of a mount of %s is unknown; 0, 1 and 2 are known", m.attr["access"], who)
			continue
		}
		if !strings.HasPrefix(at, "/") {
			z.problem(z.file, m.line, "the tvfs_path %q of %s is not an absolute path", at, who)
			continue
		}
		v, note := Exact, r.String()
		if m.attr["recursive"] == "0" {
			v, note = Approximated, r.String()+"; rights reach into subdirectories"
		}
		z.note(z.file, m.line, "mount of "+who, value, v, note)
		if at == "/" {
			home = source
		} else {
			mounts = append(mounts, account.Mount{Path: at, Source: source, ReadOnly: r == account.ReadOnly})
		}
		rules = append(rules, account.Rule{Path: at, Rights: r})
	}
	if len(rules) == 1 && rules[0].Path == "/" && rules[0].Rights == account.ReadWrite {
		rules = nil
	}
	return home, mounts, rules
}

func (z *filezilla1) rates(who string, e *element) (b account.Bandwidth) {
	rl := e.child("rate_limits")
	for key, to := range map[string]*int64{"inbound": &b.Up, "outbound": &b.Down} {
		v := rl.attr[key]
		if v == "" || v == "unlimited" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			z.problem(z.file, rl.line, "the rate %s of %s is not a number: %q", key, who, v)
			continue
		}
		*to = n
	}
	for _, key := range []string{"session_inbound", "session_outbound"} {
		if v := rl.attr[key]; v != "" && v != "unlimited" {
			z.note(z.file, rl.line, key+" of "+who, v, Dropped, "all sessions of an account share its bandwidth")
		}
	}
	return b
}

func (z *filezilla1) common(who string, e *element) (sessions int, comment string) {
	if t := e.child("session_count_limit"); t.text != "" && t.text != "unlimited" {
		n, err := strconv.Atoi(t.text)
		if err != nil || n < 0 {
			z.problem(z.file, t.line, "the session_count_limit of %s is not a number: %q", who, t.text)
		}
		sessions = n
	}
	if d := e.child("disallowed_ips"); d.text != "" {
		z.note(z.file, d.line, "disallowed_ips of "+who, d.text, Dropped, "an account has allowed networks; refuse the others in limits.deny")
	}
	if l := e.child("session_open_limits"); l.attr["files"] != "" && l.attr["files"] != "unlimited" {
		z.note(z.file, l.line, "session_open_limits of "+who, l.attr["files"], Dropped, "open files are not counted")
	}
	return sessions, strings.Join(strings.Fields(e.child("description").text), " ")
}

func (z *filezilla1) group(e *element) {
	name := e.attr["name"]
	g := account.Group{Name: name, Bandwidth: z.rates("group "+name, e)}
	g.MaxSessions, g.Comment = z.common("group "+name, e)
	g.Home, g.Mounts, g.Rules = z.tree("group "+name, e, strings.NewReplacer("%<user>", "%u", "%u", "%u", "%", "%%"))
	var mounts []account.Mount
	for _, m := range g.Mounts {
		if filepath.IsAbs(m.Source) {
			mounts = append(mounts, m)
		} else {
			z.note(z.file, e.line, "mount of group "+name, m.Source, Dropped, "it is no directory of this system")
		}
	}
	if g.Mounts = mounts; g.Home != "" && !filepath.IsAbs(g.Home) {
		z.note(z.file, e.line, "home of group "+name, g.Home, Dropped, "it is no directory of this system")
		g.Home = ""
	}
	if err := account.ValidName(name); err != nil {
		z.note(z.file, e.line, "group", name, Dropped, causeOf(err))
		return
	}
	if err := g.Validate(); err != nil {
		z.problem(z.file, e.line, "group %s: %s", name, causeOf(err))
		return
	}
	z.groups[name] = true
	z.res.Groups = append(z.res.Groups, g)
	z.note(z.file, e.line, "group", name, Exact, "")
}

func (z *filezilla1) account(e *element) {
	name := e.attr["name"]
	if name == "<system_user>" || name == "<system user>" {
		z.note(z.file, e.line, "user", name, Dropped, "users of the system do not log in")
		return
	}
	u := User{User: account.User{Name: name, Disabled: e.attr["enabled"] == "false", Bandwidth: z.rates(name, e)}}
	u.MaxSessions, u.Comment = z.common(name, e)
	u.Home, u.Mounts, u.Rules = z.tree(name, e, strings.NewReplacer("%<user>", name, "%u", name))
	for _, g := range e.all("group") {
		if n := g.attr["name"] + g.text; z.groups[n] {
			u.Groups = append(u.Groups, n)
		} else {
			z.problem(z.file, g.line, "user %s is in the group %q, which is not there", name, n)
		}
	}
	if a := e.child("allowed_ips"); a.text != "" {
		for f := range strings.FieldsSeq(strings.ReplaceAll(a.text, ",", " ")) {
			n, err := parseNetwork(f)
			if err != nil {
				z.problem(z.file, a.line, "allowed_ips of %s: %v", name, err)
				continue
			}
			u.Networks = append(u.Networks, n)
		}
	}
	if im := e.child("impersonation"); im.child("name").text != "" {
		z.note(z.file, im.line, "impersonation of "+name, im.child("name").text, Dropped, "files belong to the server's user")
	}
	hash, ok := z.password(name, e.child("password"))
	if ok {
		z.user(z.file, e.line, u, hash)
	}
}

// password reads the variants: 0 none, 1 PBKDF2 with SHA-256, 2 MD5, 3 salted SHA-512.
func (z *filezilla1) password(name string, p *element) (hash string, ok bool) {
	bad := func(what string) (string, bool) {
		z.problem(z.file, p.line, "the password of %s: %s", name, what)
		return "", false
	}
	text := p.child("hash").text
	switch p.attr["index"] {
	case "", "0":
		return "", true
	case "1":
		key, err1 := unbase64(text)
		salt, err2 := unbase64(p.child("salt").text)
		n, err3 := strconv.Atoi(p.child("iterations").text)
		if err1 != nil || err2 != nil || err3 != nil || len(key) == 0 || n < 1 {
			return bad("hash, salt or iterations cannot be read")
		}
		return pbkdf2("sha256", n, salt, key), true
	case "2":
		if len(text) != 32 {
			return bad("the MD5 digest does not have 32 digits")
		}
		return "{MD5}" + strings.ToLower(text), true
	case "3":
		h, err := saltedSHA512(text, p.child("salt").text)
		if err != nil {
			return bad(err.Error())
		}
		return h, true
	}
	return bad(fmt.Sprintf("the kind %q is unknown", p.attr["index"]))
}
