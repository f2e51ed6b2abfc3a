package importer

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// proftpd is the state of reading proftpd.conf.
type proftpd struct {
	*state
	userFile, groupFile *directive
	root                *directive // DefaultRoot
	groupsOf            map[string][]string
	access              []*directive // <Directory> and <Limit> outside of <Anonymous>
	people              []unixUser
	peopleFile          string
}

// proWord are directives that need no work: a key of the configuration
// (Exact), or only words.
var proWord = map[string]struct {
	key  string
	kind byte // n(umber), s(econds), t(ext), p(ath), 0: only the note
	v    Verdict
	note string
}{
	"serverident": {"", 0, Approximated, "the greeting does not name the program; set ftp.banner"}, "servername": {"ftp.banner", 't', Approximated, "it is the greeting"}, "servertype": {"", 0, Exact, "the server runs by itself"},
	"serveradmin": {"", 0, Dropped, "not shown to clients"}, "defaultserver": {"", 0, Dropped, "accounts are the same on every listener"}, "useipv6": {"", 0, Exact, "all addresses are listened on"},
	"identlookups": {"", 0, Exact, "never asked"}, "usereversedns": {"", 0, Exact, "addresses are never looked up"}, "multilinerfc2228": {"", 0, Exact, "replies follow the RFCs"}, "deferwelcome": {"", 0, Exact, "the greeting comes first, as the RFC wants"},
	"showsymlinks": {"", 0, Approximated, "links that lead out of the home are not followed"}, "timeoutidle": {"ftp.idle_timeout", 's', Exact, ""}, "timeoutlogin": {"ftp.login_timeout", 's', Exact, ""},
	"timeoutstalled": {"ftp.stall_timeout", 's', Exact, ""}, "timeoutnotransfer": {"", 0, Approximated, "ftp.idle_timeout ends such sessions"}, "timeoutsession": {"", 0, Dropped, "a session may last"}, "timeoutlinger": {"", 0, Dropped, "not needed"},
	"displaylogin": {"", 0, Dropped, "the greeting has one line; set ftp.banner"}, "displayconnect": {"", 0, Dropped, "the greeting has one line; set ftp.banner"}, "displaychdir": {"", 0, Dropped, "no message files"}, "displayquit": {"", 0, Dropped, "no message files"},
	"listoptions": {"", 0, Dropped, "listings have one form"}, "denyfilter": {"", 0, Exact, "names that cannot be are refused"}, "maxinstances": {"limits.max_connections", 'n', Exact, ""}, "maxclients": {"limits.max_connections", 'n', Exact, ""},
	"maxclientsperhost": {"limits.per_address", 'n', Exact, ""}, "maxhostsperuser": {"", 0, Dropped, "not counted"}, "maxconnectionsperhost": {"limits.per_address", 'n', Exact, ""}, "maxclientsperuser": {"limits.per_user", 'n', Exact, ""},
	"maxloginattempts": {"limits.login_failures", 'n', Approximated, "counted by address and not by session"}, "user": {"", 0, Exact, "the service manager chooses the user"}, "group": {"", 0, Exact, "the service manager chooses the group"},
	"umask": {"", 0, Approximated, "files get mode 0644, directories 0755; the service's umask takes away from it"}, "allowoverwrite": {"", 0, Exact, "the right overwrite"}, "allowretrieverestart": {"", 0, Exact, "always on"},
	"allowstorerestart": {"", 0, Exact, "the right append"}, "hiddenstores": {"", 0, Exact, "uploads are atomic"}, "persistentpasswd": {"", 0, Exact, "accounts are in the own database"}, "authpam": {"", 0, Dropped, "accounts are in the own database"},
	"authpamconfig": {"", 0, Dropped, "accounts are in the own database"}, "authorder": {"", 0, Exact, "accounts are in the own database"}, "requirevalidshell": {"", 0, Exact, "accounts have no shell"}, "transferlog": {"", 0, Approximated, "the trail is in the database: portreeve event list"},
	"systemlog": {"log.file", 't', Exact, ""}, "extendedlog": {"", 0, Approximated, "the trail is in the database: portreeve event list"}, "logformat": {"", 0, Dropped, "the trail has its own format"}, "wtmplog": {"", 0, Dropped, "not written"},
	"uselastlog": {"", 0, Dropped, "portreeve user show tells the last log-in"}, "syslogfacility": {"", 0, Dropped, "the service manager takes the log"}, "sysloglevel": {"", 0, Dropped, "set log.level"}, "scoreboardfile": {"", 0, Exact, "portreeve session list"},
	"pidfile": {"", 0, Exact, "the service manager knows it"}, "delayengine": {"", 0, Exact, "failed log-ins take the same time whatever was wrong"}, "delaytable": {"", 0, Exact, "not needed"}, "controlsengine": {"", 0, Exact, "the control socket"},
	"controlsmaxclients": {"", 0, Dropped, "not needed"}, "controlslog": {"", 0, Dropped, "not needed"}, "controlsinterval": {"", 0, Dropped, "not needed"}, "controlssocket": {"admin.socket", 0, Approximated, "the control socket is in data_dir"}, "loadmodule": {"", 0, Exact, "one binary"},
	"modulepath": {"", 0, Exact, "one binary"}, "allowforeignaddress": {"", 0, Approximated, "name the other servers in ftp.fxp"}, "usesendfile": {"", 0, Exact, "used where it helps"}, "usefastcopy": {"", 0, Exact, ""},
	"tlslog": {"", 0, Dropped, "one log"}, "tlsciphersuite": {"", 0, Approximated, "the ciphers are those of TLS 1.2 and 1.3 that are held to be safe"}, "tlsrsacertificatefile": {"tls.cert", 't', Exact, ""},
	"tlsrsacertificatekeyfile": {"tls.key", 't', Exact, ""}, "tlscertificatechainfile": {"", 0, Approximated, "append it to the file of tls.cert"}, "tlscacertificatefile": {"tls.client_ca", 't', Exact, ""}, "tlseccertificatefile": {"", 0, Dropped, "one certificate; [[tls.certificate]] chooses by name"},
	"tlseccertificatekeyfile": {"", 0, Dropped, "one certificate; [[tls.certificate]] chooses by name"}, "tlsrenegotiate": {"", 0, Exact, "TLS 1.2 renegotiation is off"}, "tlssessioncache": {"", 0, Exact, "sessions are resumed by tickets"}, "tlsverifyclient": {"", 0, Approximated, "client_cert of the listener"},
	"passiveports": {"", 0, Exact, "ftp.passive.ports"}, "masqueradeaddress": {"ftp.passive.address", 't', Exact, ""}, "quotaengine": {"", 0, Approximated, "set quotas of accounts: portreeve user set --quota-bytes"}, "quotalimittable": {"", 0, Dropped, "the table is a binary file; set quotas of accounts"},
	"quotatallytable": {"", 0, Approximated, "count the files: portreeve quota rescan"}, "quotadirectorytally": {"", 0, Exact, ""}, "quotadisplayunits": {"", 0, Dropped, "not needed"}, "quotashowquotas": {"", 0, Exact, "SITE QUOTA"}, "quotalog": {"", 0, Dropped, "one log"},
	"createhome": {"", 0, Approximated, "homes are made with the account"}, "rootlogin": {"", 0, Exact, "no account is root"}, "transferrate": {"", 0, Exact, "the bandwidth of the accounts"}, "banengine": {"", 0, Approximated, "limits.login_failures bans addresses"},
	"banonevent": {"", 0, Approximated, "limits.login_failures and limits.ban_time"}, "banlog": {"", 0, Dropped, "one log"}, "bantable": {"", 0, Exact, "bans are in the database"}, "allowoverride": {"", 0, Exact, "no .ftpaccess files"},
	"anonrequirepassword": {"", 0, Dropped, "anonymous needs no password"}, "useralias": {"", 0, Exact, "anonymous and ftp are the same"}, "allowfilter": {"", 0, Dropped, "rights and name patterns say what may be done"}, "commandbuffersize": {"ftp.max_line", 'n', Exact, ""},
	"pathallowfilter": {"", 0, Dropped, "regular expressions are not supported; use name patterns (--allow)"}, "pathdenyfilter": {"", 0, Dropped, "regular expressions are not supported; use name patterns (--deny)"}, "hidefiles": {"", 0, Dropped, "regular expressions are not supported; use name patterns (--hide)"},
	"tlsoptions": {"", 0, Exact, "data_session of the listener"}, "defaultaddress": {"", 0, Exact, "the address of the listener"}, "defaulttransfermode": {"", 0, Dropped, "the transfer type is ASCII until the client says otherwise"}, "debuglevel": {"", 0, Dropped, "set log.level"}, "facts": {"", 0, Exact, ""},
}

func readProftpd(s *state) {
	file := s.main("proftpd.conf")
	if file == "" {
		return
	}
	p := &proftpd{state: s, groupsOf: map[string][]string{}}
	n := 0
	top := flatten(s.proftpdTree(file, &n)) // also of a broken tree: what else is wrong should be known too
	p.server(top, p.set.add("ftp", "", "21"), true)
	if len(s.problems) == 0 {
		p.accounts(file)
	}
}

// flatten dissolves the sections that only group or condition.
func flatten(ds []*directive) (out []*directive) {
	for _, d := range ds {
		switch d.name {
		case "ifmodule", "ifdefine", "global", "ifversion":
			if d.section {
				out = append(out, flatten(d.children)...)
				continue
			}
		}
		d.children = flatten(d.children)
		out = append(out, d)
	}
	return out
}

// server judges the directives of the main server or of a virtual host.
func (p *proftpd) server(ds []*directive, l *listener, main bool) {
	tls, required := false, ""
	for _, d := range ds {
		if len(d.args) == 0 && d.name != "anonymous" {
			p.problem(d.file, d.line, "%s has no value", d.name)
			continue
		}
		done := true
		switch d.name {
		case "port":
			if n, err := strconv.Atoi(d.args[0]); err != nil || n < 0 || n > 65535 {
				p.problem(d.file, d.line, "the port %q is not a number from 0 to 65535", d.args[0])
				continue
			}
			l.port = d.args[0]
			p.note(d.file, d.line, "Port", d.value(), Exact, "the address of the listener")
		case "defaultaddress":
			l.host = d.args[0]
			p.note(d.file, d.line, "DefaultAddress", d.value(), Exact, "the address of the listener")
		case "tlsengine":
			tls = on(d.args[0])
			p.note(d.file, d.line, "TLSEngine", d.value(), Exact, "tls of the listener")
		case "tlsrequired":
			required = strings.ToLower(d.args[0])
			v, note := Exact, "tls and data_tls of the listener"
			if strings.Contains(required, "+") || required == "ctrl+data" {
				note = "tls and data_tls of the listener"
			}
			p.note(d.file, d.line, "TLSRequired", d.value(), v, note)
		case "tlsprotocol":
			old := strings.Contains(d.value(), "TLSv1 ") || strings.HasSuffix(d.value(), "TLSv1") || strings.Contains(d.value(), "TLSv1.1") || strings.Contains(d.value(), "SSLv3")
			v, note := Exact, "TLS 1.2 and 1.3"
			if old {
				v, note = Approximated, "TLS 1.2 is the least; legacy_tls of a listener accepts 1.0 and 1.1"
			}
			p.note(d.file, d.line, "TLSProtocol", d.value(), v, note)
		case "tlsoptions":
			v, note := Approximated, "options of a certain TLS library"
			if strings.Contains(d.value(), "NoSessionReuseRequired") {
				l.put("data_session", "off")
				v, note = Exact, "data_session of the listener"
			}
			if strings.Contains(d.value(), "UseImplicitSSL") {
				l.protocol = "ftps"
			}
			p.note(d.file, d.line, "TLSOptions", d.value(), v, note)
		case "passiveports":
			if len(d.args) != 2 || !digits(d.args[0]) || !digits(d.args[1]) {
				p.problem(d.file, d.line, "PassivePorts needs two numbers, not %q", d.value())
				continue
			}
			if main {
				p.set.put("ftp.passive.ports", d.args[0]+"-"+d.args[1])
			} else {
				l.put("passive_ports", d.args[0]+"-"+d.args[1])
			}
			p.note(d.file, d.line, "PassivePorts", d.value(), Exact, "passive ports of the server or listener")
		case "masqueradeaddress":
			if main {
				p.set.put("ftp.passive.address", d.args[0])
			} else {
				l.put("passive_address", d.args[0])
			}
			p.note(d.file, d.line, "MasqueradeAddress", d.value(), Exact, "the announced passive address")
		case "servername":
			if main {
				p.set.put("ftp.banner", d.value())
			} else {
				l.put("banner", d.value())
			}
			p.note(d.file, d.line, "ServerName", d.value(), Approximated, "it is the greeting")
		default:
			done = p.accountWord(d, main)
		}
		if !done {
			p.word(d)
		}
	}
	switch {
	case l.protocol == "ftps":
		delete(l.keys, "tls")
	case !tls:
		l.put("tls", "off")
		delete(l.keys, "data_session")
	case required == "on" || required == "ctrl" || required == "auth" || required == "ctrl+data" || required == "auth+data":
		l.put("tls", "required")
	default:
		l.put("tls", "offered")
	}
	if tls && (required == "on" || strings.Contains(required, "data")) {
		l.put("data_tls", "required")
	} else if tls {
		l.put("data_tls", "offered")
	}
	if tls && l.keys["data_session"] == "" {
		l.put("data_session", "require") // the default of mod_tls
	}
}

func on(s string) bool {
	s = strings.ToLower(s)
	return s == "on" || s == "yes" || s == "true" || s == "1"
}

// accountWord takes directives that belong to accounts; false: not one of them.
func (p *proftpd) accountWord(d *directive, main bool) bool {
	switch d.name {
	case "virtualhost":
		l := p.set.add("ftp", hostOf(d.args[0]), "21")
		p.note(d.file, d.line, "<VirtualHost>", d.value(), Approximated, "a listener of its own; accounts are the same on every listener")
		p.server(d.children, l, false)
	case "anonymous":
		p.anonymous(d)
	case "authuserfile":
		p.userFile = d
		p.note(d.file, d.line, "AuthUserFile", d.value(), Exact, "taken into the accounts")
	case "authgroupfile":
		p.groupFile = d
		p.note(d.file, d.line, "AuthGroupFile", d.value(), Exact, "taken into the accounts")
	case "defaultroot":
		v, note := Exact, "everybody is kept in the home"
		if d.args[0] != "~" || len(d.args) > 1 {
			v, note = Approximated, "everybody is kept in the home, whatever the root and the groups"
			if strings.HasPrefix(d.args[0], "/") && len(d.args) == 1 {
				p.root, v, note = d, Exact, "the home of the accounts"
			}
		}
		p.note(d.file, d.line, "DefaultRoot", d.value(), v, note)
	case "directory", "limit":
		if !main {
			p.note(d.file, d.line, "<"+d.name+">", d.value(), Approximated, "it holds on every listener")
		}
		p.access = append(p.access, d)
	case "class":
		p.note(d.file, d.line, "<Class>", d.value(), Dropped, "write networks where they are needed")
	case "transferrate":
		p.access = append(p.access, d)
	case "allowoverwrite":
		p.access = append(p.access, d)
		p.note(d.file, d.line, "AllowOverwrite", d.value(), Exact, "the right overwrite")
	default:
		return false
	}
	return true
}

func hostOf(s string) string {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && !a.IsUnspecified() {
		return a.String()
	}
	return ""
}

// word notes a directive of the table.
func (p *proftpd) word(d *directive) {
	w, known := proWord[d.name]
	value := d.value()
	if !known {
		p.note(d.file, d.line, d.name, value, Dropped, "it has no counterpart here")
		return
	}
	switch w.kind {
	case 'n', 's':
		if strings.EqualFold(d.args[0], "none") {
			value, w.note = d.value(), join2(w.note, "no limit")
			p.set.number(w.key, 0)
			if w.kind == 's' {
				delete(p.set.keys, w.key)
			}
			break
		}
		n, err := strconv.Atoi(d.args[0])
		if err != nil || n < 0 {
			p.problem(d.file, d.line, "%s must be a number, not %q", d.name, d.args[0])
			return
		}
		if w.kind == 'n' {
			p.set.number(w.key, n)
		} else if n > 0 {
			p.set.seconds(w.key, n)
		}
	case 't':
		p.set.put(w.key, value)
	}
	note := w.note
	if note == "" {
		note = w.key
	}
	p.note(d.file, d.line, d.name, value, w.v, note)
}

func (p *proftpd) anonymous(d *directive) {
	if len(d.args) != 1 {
		p.problem(d.file, d.line, "<Anonymous> needs a directory")
		return
	}
	home := d.args[0]
	if strings.HasPrefix(home, "~") {
		home = "/srv/ftp"
	}
	p.set.yes("anonymous.enabled", true)
	p.set.put("anonymous.home", home)
	p.note(d.file, d.line, "<Anonymous>", d.value(), Exact, "anonymous.enabled and anonymous.home")
	upload := false
	for _, c := range d.children {
		switch c.name {
		case "limit":
			if slices.Contains(commands(c.args), "STOR") && !verdict(c, "anonymous", nil, true) {
				p.note(c.file, c.line, "<Limit> in <Anonymous>", c.value(), Exact, "anonymous may not change anything but upload, when anonymous.upload says so")
				continue
			}
			p.note(c.file, c.line, "<Limit> in <Anonymous>", c.value(), Approximated, "anonymous reads, and uploads when anonymous.upload says so")
		case "directory":
			for _, lim := range c.children {
				if lim.name == "limit" && slices.Contains(commands(lim.args), "STOR") && verdict(lim, "anonymous", nil, false) {
					upload = true
				}
			}
			p.note(c.file, c.line, "<Directory> in <Anonymous>", c.value(), Approximated, "anonymous.upload is for the whole tree; make an account with --rights drop-box for one directory")
		default:
			p.word(c)
		}
	}
	p.set.yes("anonymous.upload", upload)
}
