package importer

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// pureWord tells what becomes of each directive of pure-ftpd.conf; kind is how
// its value must look: b(oolean), n(umber), t(ext), r(ange of two numbers).
var pureWord = map[string]struct {
	kind byte
	v    Verdict
	note string
}{
	"chrooteveryone": {'b', Exact, "everybody is kept in the home"}, "brokenclientscompatibility": {'b', Dropped, "answers follow the RFCs; known clients are tested"},
	"maxclientsnumber": {'n', Exact, "limits.max_connections"}, "daemonize": {'b', Exact, "the service manager runs it"}, "maxclientsperip": {'n', Exact, "limits.per_address"},
	"verboselog": {'b', Approximated, "log.level debug"}, "displaydotfiles": {'b', Exact, "names with a dot are shown or hidden"}, "anonymousonly": {'b', Exact, "anonymous.enabled"}, "noanonymous": {'b', Exact, "anonymous.enabled"},
	"syslogfacility": {'t', Dropped, "the service manager takes the log"}, "fortunesfile": {'t', Dropped, "no fortunes; set ftp.banner"}, "dontresolve": {'b', Exact, "addresses are never looked up"},
	"maxidletime": {'n', Exact, "ftp.idle_timeout"}, "ldapconfigfile": {'t', Dropped, "set up the directory in [ldap]"}, "mysqlconfigfile": {'t', Dropped, "accounts are in the own database"},
	"pgsqlconfigfile": {'t', Dropped, "accounts are in the own database"}, "puredb": {'t', Exact, "the accounts are taken from pureftpd.passwd beside it"}, "extauth": {'t', Dropped, "programs are not asked; a directory can be, see [ldap]"},
	"pamauthentication": {'b', Dropped, "accounts are in the own database"}, "unixauthentication": {'b', Dropped, "accounts of the system are not used"}, "limitrecursion": {'r', Exact, "ftp.list_entries and ftp.list_depth"},
	"anonymouscancreatedirs": {'b', Dropped, "anonymous may not make directories"}, "maxload": {'n', Dropped, "limits.max_connections is what bounds the load"}, "passiveportrange": {'r', Exact, "ftp.passive.ports"},
	"forcepassiveip": {'t', Exact, "ftp.passive.address"}, "anonymousratio": {'r', Dropped, "no ratios"}, "userratio": {'r', Dropped, "no ratios"}, "antiwarez": {'b', Dropped, "uploads of anonymous can be read as rights say"},
	"anonymousbandwidth": {'t', Dropped, "anonymous shares limits.bandwidth_down"}, "userbandwidth": {'t', Exact, "the bandwidth of the accounts"}, "umask": {'t', Approximated, "files get mode 0644, directories 0755; the service's umask takes away from it"},
	"minuid": {'n', Dropped, "accounts are not users of the system"}, "allowuserfxp": {'b', Approximated, "name the other servers in ftp.fxp"}, "allowanonymousfxp": {'b', Dropped, "name the other servers in ftp.fxp"},
	"prohibitdotfileswrite": {'b', Exact, "a name pattern of the accounts"}, "prohibitdotfilesread": {'b', Exact, "a name pattern of the accounts"}, "autorename": {'b', Dropped, "an upload of a name that exists is refused or replaces it, as rights say; STOU finds a free name"},
	"anonymouscantupload": {'b', Exact, "anonymous.upload"}, "trustedip": {'t', Exact, "the networks of the accounts"}, "logpid": {'b', Dropped, "sessions have ids"}, "altlog": {'t', Approximated, "the trail is in the database: portreeve event list"},
	"nochmod": {'b', Exact, "the right chmod"}, "keepallfiles": {'b', Exact, "the rights delete and overwrite"}, "createhomedir": {'b', Approximated, "homes are made with the account"}, "quota": {'t', Exact, "the quota of the accounts"},
	"pidfile": {'t', Dropped, "the service manager knows it"}, "calluploadscript": {'b', Dropped, "follow the trail instead: portreeve event tail"}, "maxdiskusage": {'n', Dropped, "a full disk is reported as 452; use quotas"}, "norename": {'b', Exact, "the right rename"},
	"customerproof": {'b', Exact, "nobody can lock himself out"}, "peruserlimits": {'t', Exact, "max_sessions of the accounts"}, "notruncate": {'b', Approximated, "the right overwrite"}, "tls": {'n', Exact, "tls and data_tls of the listener"},
	"tlsciphersuite": {'t', Approximated, "the ciphers are those of TLS 1.2 and 1.3 that are held to be safe"}, "certfile": {'t', Exact, "tls.cert and tls.key"}, "certfileandkey": {'t', Exact, "tls.cert and tls.key"}, "extcert": {'t', Dropped, "[[tls.certificate]] chooses by name"},
	"ipv4only": {'b', Exact, "the address of the listener"}, "ipv6only": {'b', Exact, "the address of the listener"}, "bind": {'t', Exact, "the address of the listener"}, "filesystemcharset": {'t', Dropped, "names are UTF-8"}, "clientcharset": {'t', Dropped, "names are UTF-8"},
	"allowdotfiles": {'b', Exact, "rights say"}, "nochroot": {'b', Approximated, "everybody is kept in the home"}, "trustedgid": {'n', Approximated, "everybody is kept in the home"},
}

// pure are the settings that decide about the accounts.
type pure struct {
	*state
	set_  map[string]string
	file  string
	deny  []string
	hide  []string
	gone  account.Rights
	quota account.Quota
	band  account.Bandwidth
	per   int
	from  []netip.Prefix
}

// readPureftpd reads pure-ftpd.conf and the accounts of pureftpd.passwd. When
// the path is that file alone, only the accounts.
func readPureftpd(s *state) {
	p := &pure{state: s, set_: map[string]string{}, file: s.main("pure-ftpd.conf", "pureftpd.conf", "pureftpd.passwd")}
	if p.file == "" {
		return
	}
	if strings.HasSuffix(p.file, ".passwd") {
		p.accounts(p.file)
		return
	}
	p.conf()
	if f := p.find("pureftpd.passwd"); f != "" {
		p.accounts(f)
	} else {
		p.note(p.file, 0, "accounts", "", Dropped, "pureftpd.passwd is not beside pure-ftpd.conf; the .pdb file cannot be read")
	}
}

func (p *pure) conf() {
	at := map[string]int{}
	for _, l := range p.lines(p.file, true) {
		name, value, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
		value = strings.TrimSpace(value)
		key := strings.ToLower(name)
		w, known := pureWord[key]
		if !known {
			p.problem(p.file, l.n, "the directive %q is unknown", name)
			continue
		}
		fields := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ':' })
		_, err := strconv.Atoi(value)
		low := strings.ToLower(value)
		switch {
		case value == "":
			p.problem(p.file, l.n, "%s has no value", name)
		case w.kind == 'b' && low != "yes" && low != "no" && low != "on" && low != "off" && low != "1" && low != "0":
			p.problem(p.file, l.n, "%s must be yes or no, not %q", name, value)
		case w.kind == 'n' && err != nil:
			p.problem(p.file, l.n, "%s must be a number, not %q", name, value)
		case w.kind == 'r' && (len(fields) != 2 || !digits(fields[0]) || !digits(fields[1])):
			p.problem(p.file, l.n, "%s needs two numbers, not %q", name, value)
		}
		if w.kind == 'b' {
			value = map[bool]string{true: "yes", false: "no"}[low == "yes" || low == "on" || low == "1"]
		}
		p.set_[key], at[key] = value, l.n
		v, note := w.v, w.note
		switch {
		case w.kind == 'b' && value == "no" && v != Exact && key != "antiwarez":
			v, note = Exact, "off, as here"
		case key == "chrooteveryone" && value == "no":
			v, note = Approximated, "everybody is kept in the home: no account sees the rest of the machine"
		}
		p.note(p.file, l.n, name, value, v, note)
	}
	if len(p.problems) == 0 {
		p.server(at)
	}
}

func digits(s string) bool { _, err := strconv.ParseUint(s, 10, 32); return err == nil }

func (p *pure) on(k string) bool { return p.set_[k] == "yes" }

func (p *pure) server(at map[string]int) {
	host, port := "", "21"
	if b, ok := p.set_["bind"]; ok {
		h, pt, ok := strings.Cut(b, ",")
		if !ok || !digits(pt) {
			p.problem(p.file, at["bind"], "Bind must be ADDRESS,PORT, not %q", b)
		} else {
			host, port = h, pt
		}
	}
	switch {
	case host == "" && p.on("ipv4only"):
		host = "0.0.0.0"
	case host == "" && p.on("ipv6only"):
		host = "::"
	}
	l := p.set.add("ftp", host, port)
	l.put("tls", "off")
	switch p.set_["tls"] {
	case "1":
		l.put("tls", "offered")
		l.put("data_tls", "offered")
	case "2":
		l.put("tls", "required")
		l.put("data_tls", "offered")
	case "3":
		l.put("tls", "required")
		l.put("data_tls", "required")
	}
	for k, to := range map[string]string{"maxclientsnumber": "limits.max_connections", "maxclientsperip": "limits.per_address"} {
		if n, err := strconv.Atoi(p.set_[k]); err == nil {
			p.set.number(to, n)
		}
	}
	if n, err := strconv.Atoi(p.set_["maxidletime"]); err == nil {
		p.set.seconds("ftp.idle_timeout", n*60)
	}
	if f := strings.FieldsFunc(p.set_["passiveportrange"], func(r rune) bool { return r == ' ' || r == ':' }); len(f) == 2 {
		p.set.put("ftp.passive.ports", f[0]+"-"+f[1])
	}
	if f := strings.FieldsFunc(p.set_["limitrecursion"], func(r rune) bool { return r == ' ' || r == ':' }); len(f) == 2 {
		p.set.raw("ftp.list_entries", f[0])
		p.set.raw("ftp.list_depth", f[1])
	}
	if v := p.set_["forcepassiveip"]; v != "" {
		p.set.put("ftp.passive.address", v)
	}
	if v := p.set_["certfile"]; v != "" {
		p.set.put("tls.cert", v)
		p.set.put("tls.key", v)
	}
	if v := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(p.set_["certfileandkey"], `"`, ""), ",", " ")); len(v) == 2 {
		p.set.put("tls.cert", v[0])
		p.set.put("tls.key", v[1])
	}
	if !p.on("noanonymous") {
		p.set.yes("anonymous.enabled", true)
		p.set.put("anonymous.home", "/srv/ftp")
		p.set.yes("anonymous.upload", !p.on("anonymouscantupload"))
	}
	p.shared(at)
}

// shared are settings of the server that belong to the accounts here.
func (p *pure) shared(at map[string]int) {
	for k, r := range map[string]account.Rights{"nochmod": account.Chmod, "norename": account.Rename, "notruncate": account.Overwrite, "keepallfiles": account.Delete | account.Overwrite | account.Rename} {
		if p.on(k) {
			p.gone |= r
		}
	}
	if p.on("prohibitdotfileswrite") || p.on("prohibitdotfilesread") {
		p.deny = []string{".*"}
	}
	if p.set_["displaydotfiles"] == "no" {
		p.hide = []string{".*"}
	}
	if f := strings.Split(p.set_["quota"], ":"); p.set_["quota"] != "" {
		if len(f) != 2 || !digits(f[0]) || !digits(f[1]) {
			p.problem(p.file, at["quota"], "Quota must be FILES:MEGABYTES, not %q", p.set_["quota"])
		} else {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			m, _ := strconv.ParseInt(f[1], 10, 64)
			p.quota = account.Quota{Files: n, Bytes: m << 20}
		}
	}
	if v := p.set_["userbandwidth"]; v != "" {
		f := strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ':' })
		var n [2]int64
		for i := range n {
			x, err := strconv.ParseInt(f[min(i, len(f)-1)], 10, 64)
			if err != nil {
				p.problem(p.file, at["userbandwidth"], "UserBandwidth must be kilobytes a second, not %q", v)
				break
			}
			n[i] = x << 10
		}
		p.band = account.Bandwidth{Up: n[0], Down: n[1]}
	}
	if u, _, _ := strings.Cut(p.set_["peruserlimits"], ":"); u != "" {
		n, err := strconv.Atoi(u)
		if err != nil {
			p.problem(p.file, at["peruserlimits"], "PerUserLimits must be USERS:ANONYMOUS, not %q", p.set_["peruserlimits"])
		}
		p.per = n
	}
	if v := p.set_["trustedip"]; v != "" {
		a, err := netip.ParseAddr(v)
		if err != nil {
			p.problem(p.file, at["trustedip"], "TrustedIP must be an address, not %q", v)
		} else {
			p.from = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		}
	}
}

// accounts reads the 18 fields of pureftpd.passwd.
func (p *pure) accounts(file string) {
	for _, l := range p.lines(file, true) {
		f := strings.Split(l.text, ":")
		if len(f) != 18 {
			p.problem(file, l.n, "an account needs 18 fields divided by colons; there are %d", len(f))
			continue
		}
		home, chroot := strings.CutSuffix(f[5], "/./")
		home = strings.TrimSuffix(home, "/")
		u := User{User: account.User{Name: f[0], Home: home, Comment: f[4], Quota: p.quota, Bandwidth: p.band, MaxSessions: p.per, Networks: p.from}}
		number := func(i int, what string) int64 {
			if f[i] == "" {
				return 0
			}
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil || n < 0 {
				p.problem(file, l.n, "the %s of %s is not a number: %q", what, f[0], f[i])
			}
			return n
		}
		first := func(v, def int64) int64 {
			if v > 0 {
				return v
			}
			return def
		}
		u.Bandwidth.Up = first(number(6, "upload bandwidth"), u.Bandwidth.Up)
		u.Bandwidth.Down = first(number(7, "download bandwidth"), u.Bandwidth.Down)
		if n := number(10, "number of connections"); n > 0 {
			u.MaxSessions = int(n)
		}
		u.Quota.Files = first(number(11, "files quota"), u.Quota.Files)
		u.Quota.Bytes = first(number(12, "size quota"), u.Quota.Bytes)
		if up, down := number(8, "upload ratio"), number(9, "download ratio"); up+down > 0 {
			p.note(file, l.n, "ratio of "+f[0], f[8]+":"+f[9], Dropped, "no ratios")
		}
		p.filters(file, l.n, &u, f)
		if r := account.ReadWrite &^ p.gone; r != account.ReadWrite || len(p.deny)+len(p.hide) > 0 {
			u.Rules = []account.Rule{{Path: "/", Rights: r, Deny: p.deny, Hide: p.hide}}
		}
		if !chroot && p.file != file && !p.on("chrooteveryone") {
			p.note(file, l.n, "home of "+f[0], f[5], Approximated, "the user is kept in the home")
		}
		p.user(file, l.n, u, f[1])
	}
}

// filters reads the address lists and the hours.
func (p *pure) filters(file string, n int, u *User, f []string) {
	if f[13] != "" || f[14] != "" {
		p.note(file, n, "local addresses of "+u.Name, join2(f[13], f[14]), Dropped, "accounts are not tied to an address of the server")
	}
	if f[15] != "" {
		u.Networks = nil
		for a := range strings.SplitSeq(f[15], ",") {
			net, err := parseNetwork(a)
			if err != nil {
				p.problem(file, n, "an allowed address of %s: %v", u.Name, err)
				continue
			}
			u.Networks = append(u.Networks, net)
		}
	}
	if f[16] != "" {
		p.note(file, n, "refused addresses of "+u.Name, f[16], Dropped, "an account has allowed networks; refuse the others in limits.deny")
	}
	if f[17] != "" {
		from, until, ok := strings.Cut(f[17], "-")
		if !ok || len(from) != 4 || len(until) != 4 || !digits(from) || !digits(until) {
			p.problem(file, n, "the hours of %s must be HHMM-HHMM, not %q", u.Name, f[17])
			return
		}
		h, err := account.ParseHours(fmt.Sprintf("%s:%s-%s:%s", from[:2], from[2:], until[:2], until[2:]))
		if err != nil {
			p.problem(file, n, "the hours of %s: %v", u.Name, err)
			return
		}
		u.Hours = []account.Hours{h}
	}
}

// parseNetwork reads an address, or a network with bits or a mask.
func parseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	addr, mask, has := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or network", s)
	}
	bits := a.BitLen()
	if has {
		if m, err := netip.ParseAddr(mask); err == nil {
			bits = 0
			for _, b := range m.AsSlice() {
				for ; b&0x80 != 0; b <<= 1 {
					bits++
				}
			}
		} else if bits, err = strconv.Atoi(mask); err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an address or network", s)
		}
	}
	n := netip.PrefixFrom(a, bits)
	if !n.IsValid() {
		return n, fmt.Errorf("%q is not an address or network", s)
	}
	return n.Masked(), nil
}
