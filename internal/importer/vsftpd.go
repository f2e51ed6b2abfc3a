package importer

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
)

// vsftpd is the state of reading vsftpd.conf. Its settings interact, so they
// are collected first and judged together.
type vsftpd struct {
	*state
	file string
	set_ map[string]string
	line map[string]int
}

// vsftpdDefaults are the defaults of vsftpd.conf(5) that decide something here.
var vsftpdDefaults = map[string]string{
	"anonymous_enable": "YES", "local_enable": "NO", "write_enable": "NO", "anon_upload_enable": "NO", "anon_mkdir_write_enable": "NO",
	"anon_other_write_enable": "NO", "download_enable": "YES", "dirlist_enable": "YES", "chmod_enable": "YES", "ssl_enable": "NO", "implicit_ssl": "NO",
	"force_local_logins_ssl": "YES", "force_local_data_ssl": "YES", "guest_enable": "NO", "virtual_use_local_privs": "NO", "userlist_enable": "NO",
	"userlist_deny": "YES", "userlist_file": "/etc/vsftpd.user_list", "chroot_local_user": "NO", "listen_port": "21", "pasv_enable": "YES",
	"require_ssl_reuse": "YES", "connect_from_port_20": "NO", "ascii_upload_enable": "NO", "ascii_download_enable": "NO", "mdtm_write": "YES",
	"allow_anon_ssl": "NO", "port_enable": "YES", "strict_ssl_read_eof": "NO", "idle_session_timeout": "300", "data_connection_timeout": "300",
	"pasv_min_port": "0", "pasv_max_port": "0", "max_clients": "2000", "max_per_ip": "50", "chroot_list_enable": "NO", "anon_world_readable_only": "YES",
}

// vsftpdWord tells the fate of directives that stand for themselves; the
// others are judged by vsftpd.judge.
var vsftpdWord = map[string]struct {
	v    Verdict
	note string
}{
	"listen": {Exact, "the server always runs by itself"}, "listen_ipv6": {Exact, "all addresses are listened on, IPv4 and IPv6"}, "background": {Exact, "the service manager runs it"},
	"dirmessage_enable": {Dropped, "no message files for directories"}, "message_file": {Dropped, "no message files for directories"},
	"xferlog_enable": {Approximated, "every transfer is in the trail: portreeve event list"}, "xferlog_std_format": {Dropped, "the trail has its own format; portreeve event list --json"},
	"xferlog_file": {Approximated, "the trail is in the database"}, "log_ftp_protocol": {Approximated, "set log.level to debug to see the protocol"},
	"vsftpd_log_file": {Approximated, "set log.file, or leave it to the service manager"}, "dual_log_enable": {Dropped, "there is one trail"}, "syslog_enable": {Dropped, "the service manager takes the log"},
	"use_localtime": {Dropped, "times are in UTC, as RFC 3659 demands"}, "nopriv_user": {Exact, "the whole server runs without privileges"}, "secure_chroot_dir": {Exact, "not needed: files are opened confined"},
	"pam_service_name": {Approximated, "accounts are in the database; passwords are verified there"}, "tcp_wrappers": {Dropped, "use limits.allow and limits.deny"},
	"allow_writeable_chroot": {Exact, "a home may be writable"}, "passwd_chroot_enable": {Dropped, "the home itself is the root"}, "async_abor_enable": {Exact, "always on"},
	"ls_recurse_enable": {Approximated, "LIST -R is bounded by ftp.list_depth and ftp.list_entries"}, "hide_ids": {Exact, "numbers of owners are never shown"},
	"text_userdb_names": {Dropped, "owners are not shown"}, "force_dot_files": {Exact, "names with a dot are shown"}, "utf8_filesystem": {Exact, "names are UTF-8"},
	"ssl_sslv2": {Exact, "never offered"}, "ssl_sslv3": {Exact, "never offered"}, "ssl_tlsv1": {Approximated, "TLS 1.2 is the least; legacy_tls of a listener accepts 1.0"},
	"ssl_tlsv1_1": {Approximated, "TLS 1.2 is the least; legacy_tls of a listener accepts 1.1"}, "ssl_tlsv1_2": {Exact, "always on"}, "ssl_tlsv1_3": {Exact, "always on"},
	"ssl_ciphers": {Approximated, "the ciphers are those of TLS 1.2 and 1.3 that are held to be safe"}, "dsa_cert_file": {Dropped, "DSA is broken"}, "dsa_private_key_file": {Dropped, "DSA is broken"},
	"debug_ssl": {Dropped, "log.level debug shows the handshakes"}, "pasv_addr_resolve": {Exact, "a name in ftp.passive.address is resolved"},
	"pasv_promiscuous": {Dropped, "a data connection must come from the client"}, "port_promiscuous": {Dropped, "a data connection must go to the client; see ftp.fxp"},
	"trans_chunk_size": {Dropped, "chosen by the server"}, "use_sendfile": {Exact, "used where it helps"}, "setproctitle_enable": {Dropped, "portreeve session list shows it"},
	"session_support": {Dropped, "no PAM sessions"}, "run_as_launching_user": {Exact, "always so"}, "one_process_model": {Dropped, "there is one process"},
	"isolate": {Dropped, "the service manager isolates it"}, "isolate_network": {Dropped, "the service manager isolates it"}, "reverse_lookup_enable": {Exact, "addresses are never looked up"},
	"tilde_user_enable": {Dropped, "no home directories of other users"}, "no_anon_password": {Exact, "anonymous needs no password"}, "deny_email_enable": {Dropped, "passwords of anonymous users are not looked at"},
	"banned_email_file": {Dropped, "passwords of anonymous users are not looked at"}, "secure_email_list_enable": {Dropped, "use an account instead"}, "email_password_file": {Dropped, "use an account instead"},
	"delay_failed_login": {Approximated, "failed log-ins are slowed down more and more"}, "delay_successful_login": {Dropped, "a good log-in is not delayed"},
	"chown_uploads": {Dropped, "files belong to the server's user"}, "chown_username": {Dropped, "files belong to the server's user"}, "chown_upload_mode": {Dropped, "files belong to the server's user"},
	"local_umask": {Approximated, "files get mode 0644, directories 0755; the service's umask takes away from it"}, "anon_umask": {Approximated, "files get mode 0644; the service's umask takes away from it"},
	"file_open_mode": {Approximated, "files get mode 0644; the service's umask takes away from it"}, "lock_upload_files": {Exact, "two uploads of a file do not mix"},
	"delete_failed_uploads": {Exact, "a failed upload leaves nothing behind"}, "banner_file": {Dropped, "the greeting has one line; set ftp.banner"}, "ftp_username": {Dropped, "anonymous is no system user"},
	"guest_username": {Approximated, "files belong to the server's user"}, "require_cert": {Exact, "client_cert"}, "validate_cert": {Exact, "certificates are validated against tls.client_ca"},
	"ssl_request_cert": {Exact, "client_cert"}, "force_anon_logins_ssl": {Approximated, "the listener's tls holds for everybody"}, "force_anon_data_ssl": {Approximated, "the listener's data_tls holds for everybody"},
	"allow_anon_ssl": {Approximated, "the listener's tls holds for everybody"}, "strict_ssl_write_shutdown": {Exact, "TLS is closed properly"}, "accept_timeout": {Approximated, "ftp.data_timeout"},
	"connect_timeout": {Approximated, "ftp.data_timeout"}, "ftp_data_port": {Approximated, "the source port of active connections is the control port minus 1"},
	"cmds_allowed": {Dropped, "rights of accounts say what may be done"}, "cmds_denied": {Dropped, "rights of accounts say what may be done"}, "no_log_lock": {Dropped, "no log file to lock"},
	"anon_world_readable_only": {Dropped, "the modes of files are not looked at; rights say what may be read"}, "listen_address6": {Approximated, "add a [[listen]] entry for the IPv6 address"},
	"mdtm_write": {Exact, "the right times"}, "chroot_list_enable": {Approximated, "everybody is kept in the home"}, "chroot_list_file": {Approximated, "everybody is kept in the home"},
	"dirlist_enable": {Exact, "the right list"}, "download_enable": {Exact, "the right download"}, "chmod_enable": {Exact, "the right chmod"}, "write_enable": {Exact, "the rights of the accounts"},
	"anon_upload_enable": {Exact, "the right upload of anonymous and guest users"}, "anon_mkdir_write_enable": {Exact, "the right mkdir of guest users"},
	"anon_other_write_enable": {Exact, "the rights delete, rename and overwrite of guest users"}, "virtual_use_local_privs": {Exact, "guest users have the rights of local ones"},
	"guest_enable": {Exact, "accounts are virtual anyway"}, "chroot_local_user": {Exact, "everybody is kept in the home"}, "anon_max_rate": {Dropped, "anonymous shares limits.bandwidth_down and limits.bandwidth_up"},
	"local_max_rate": {Exact, "the bandwidth of the accounts"}, "local_root": {Exact, "the home of the accounts"}, "user_sub_token": {Exact, "taken into the homes"},
	"user_config_dir": {Exact, "taken into the accounts"}, "userlist_file": {Exact, "taken into the accounts"}, "userlist_deny": {Exact, "taken into the accounts"}, "userlist_enable": {Exact, "taken into the accounts"},
	"local_enable": {Exact, "accounts of the system become accounts here"}, "hide_file": {Approximated, "{ } lists become several patterns"}, "deny_file": {Approximated, "{ } lists become several patterns"},
	"ssl_enable": {Exact, "tls of the listener"}, "implicit_ssl": {Exact, "a listener of protocol ftps"}, "force_local_logins_ssl": {Exact, "tls of the listener"}, "force_local_data_ssl": {Exact, "data_tls of the listener"},
	"anon_root": {Exact, "anonymous.home"}, "anonymous_enable": {Exact, "anonymous.enabled"}, "ascii_upload_enable": {Exact, "ftp.ascii"}, "ascii_download_enable": {Exact, "ftp.ascii"},
	"connect_from_port_20": {Exact, "ftp.active_source"}, "port_enable": {Exact, "ftp.active"}, "listen_port": {Exact, "the address of the listener"}, "listen_address": {Exact, "the address of the listener"},
	"pasv_min_port": {Exact, "ftp.passive.ports"}, "pasv_max_port": {Exact, "ftp.passive.ports"}, "pasv_address": {Exact, "ftp.passive.address"}, "max_clients": {Exact, "limits.max_connections"},
	"max_per_ip": {Exact, "limits.per_address"}, "idle_session_timeout": {Exact, "ftp.idle_timeout"}, "data_connection_timeout": {Exact, "ftp.stall_timeout"}, "ftpd_banner": {Exact, "ftp.banner"},
	"rsa_cert_file": {Exact, "tls.cert"}, "rsa_private_key_file": {Exact, "tls.key"}, "ca_certs_file": {Exact, "tls.client_ca"}, "require_ssl_reuse": {Exact, "data_session of the listener"},
	"strict_ssl_read_eof": {Exact, "strict_close of the listener"}, "max_login_fails": {Approximated, "limits.login_failures, which counts by address and not by session"},
	"pasv_enable": {Exact, "passive mode is always on"},
}

// readVsftpd reads vsftpd.conf, the lists it names, a file of virtual users
// beside it, and for local users copies of passwd and shadow beside it.
func readVsftpd(s *state) {
	v := &vsftpd{state: s, file: s.main("vsftpd.conf"), set_: map[string]string{}, line: map[string]int{}}
	if v.file == "" {
		return
	}
	v.parse(v.file, v.set_, v.line)
	for _, k := range sortedByLine(v.line) {
		value := v.set_[k]
		if k == "pasv_enable" && value == "NO" {
			v.note(v.file, v.line[k], k, value, Dropped, "passive mode cannot be switched off; clients behind NAT need it")
			continue
		}
		if k == "chroot_local_user" && value == "NO" {
			v.note(v.file, v.line[k], k, value, Approximated, "everybody is kept in the home, as with YES: no account sees the rest of the machine")
			continue
		}
		w := vsftpdWord[k]
		v.note(v.file, v.line[k], k, value, w.v, w.note)
	}
	if len(v.problems) > 0 {
		return
	}
	v.server()
	v.accounts()
}

func sortedByLine(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return m[a] - m[b] })
	return keys
}

// parse reads key=value lines. vsftpd itself refuses blanks around the sign.
func (v *vsftpd) parse(file string, set map[string]string, at map[string]int) {
	for _, l := range v.lines(file, true) {
		k, val, ok := strings.Cut(l.text, "=")
		switch _, known := vsftpdWord[k]; {
		case !ok:
			v.problem(file, l.n, "%q is not KEY=VALUE", l.text)
		case strings.TrimSpace(k) != k || strings.TrimLeft(val, " \t") != val:
			v.problem(file, l.n, "there are blanks around the =, which vsftpd does not accept")
		case !known:
			v.problem(file, l.n, "the directive %q is unknown", k)
		default:
			def := vsftpdDefaults[k]
			if def == "YES" || def == "NO" {
				switch strings.ToUpper(val) {
				case "YES", "TRUE", "1":
					val = "YES"
				case "NO", "FALSE", "0":
					val = "NO"
				default:
					v.problem(file, l.n, "%s must be YES or NO, not %q", k, val)
				}
			} else if def != "" && !strings.HasPrefix(def, "/") {
				if _, err := strconv.Atoi(val); err != nil {
					v.problem(file, l.n, "%s must be a number, not %q", k, val)
				}
			}
			set[k], at[k] = val, l.n
		}
	}
}

func (v *vsftpd) get(k string) string {
	if s, ok := v.set_[k]; ok {
		return s
	}
	return vsftpdDefaults[k]
}
func (v *vsftpd) on(k string) bool { return v.get(k) == "YES" }
func (v *vsftpd) num(k string) int { n, _ := strconv.Atoi(v.get(k)); return n }
func (v *vsftpd) set1(k string) bool {
	_, ok := v.set_[k]
	return ok
}

func (v *vsftpd) server() {
	protocol := "ftp"
	if v.on("implicit_ssl") && v.on("ssl_enable") {
		protocol = "ftps"
	}
	port := v.get("listen_port")
	l := v.set.add(protocol, v.set_["listen_address"], port)
	switch {
	case protocol == "ftps":
	case !v.on("ssl_enable"):
		l.put("tls", "off")
	case v.on("force_local_logins_ssl"):
		l.put("tls", "required")
	default:
		l.put("tls", "offered")
	}
	if v.on("ssl_enable") {
		if v.on("force_local_data_ssl") {
			l.put("data_tls", "required")
		} else {
			l.put("data_tls", "offered")
		}
		if v.on("require_ssl_reuse") {
			l.put("data_session", "require")
		} else {
			l.put("data_session", "off")
		}
		if v.set1("strict_ssl_read_eof") {
			l.keys["strict_close"] = strconv.FormatBool(v.on("strict_ssl_read_eof"))
		}
		switch {
		case v.set_["require_cert"] == "YES":
			l.put("client_cert", "required")
		case v.set_["ssl_request_cert"] == "YES":
			l.put("client_cert", "optional")
		}
	}
	if first, last := v.num("pasv_min_port"), v.num("pasv_max_port"); first > 0 && last >= first {
		v.set.put("ftp.passive.ports", strconv.Itoa(first)+"-"+strconv.Itoa(last))
	}
	for key, to := range map[string]string{"pasv_address": "ftp.passive.address", "ftpd_banner": "ftp.banner", "rsa_cert_file": "tls.cert", "rsa_private_key_file": "tls.key", "ca_certs_file": "tls.client_ca"} {
		if v.set_[key] != "" {
			v.set.put(to, v.set_[key])
		}
	}
	if v.set1("rsa_cert_file") && !v.set1("rsa_private_key_file") {
		v.set.put("tls.key", v.set_["rsa_cert_file"]) // vsftpd looks for the key in the certificate's file
	}
	for key, to := range map[string]string{"idle_session_timeout": "ftp.idle_timeout", "data_connection_timeout": "ftp.stall_timeout"} {
		if v.num(key) > 0 {
			v.set.seconds(to, v.num(key))
		}
	}
	for key, to := range map[string]string{"max_clients": "limits.max_connections", "max_per_ip": "limits.per_address", "max_login_fails": "limits.login_failures"} {
		if v.set1(key) {
			n, _ := strconv.Atoi(v.set_[key])
			v.set.number(to, n)
		}
	}
	v.set.yes("ftp.active", v.on("port_enable"))
	if !v.on("connect_from_port_20") {
		v.set.put("ftp.active_source", "any")
	}
	v.set.yes("ftp.ascii", v.on("ascii_upload_enable") || v.on("ascii_download_enable"))
	if v.on("anonymous_enable") {
		home := v.set_["anon_root"]
		if home == "" {
			home = "/srv/ftp"
		}
		v.set.yes("anonymous.enabled", true)
		v.set.put("anonymous.home", home)
		v.set.yes("anonymous.upload", v.on("write_enable") && v.on("anon_upload_enable"))
	}
}

// rights are those of local users, or of guests.
func (v *vsftpd) rights(get func(string) bool, guest bool) account.Rights {
	r := account.ReadWrite
	if !get("write_enable") {
		r = account.ReadOnly
	} else if guest && !get("virtual_use_local_privs") {
		r = account.ReadOnly
		if get("anon_upload_enable") {
			r |= account.Upload
		}
		if get("anon_mkdir_write_enable") {
			r |= account.Mkdir
		}
		if get("anon_other_write_enable") {
			r |= account.Overwrite | account.Append | account.Delete | account.Rename | account.Rmdir | account.Times
		}
	}
	for k, gone := range map[string]account.Rights{"download_enable": account.Download, "dirlist_enable": account.List, "chmod_enable": account.Chmod, "mdtm_write": account.Times} {
		if !get(k) {
			r &^= gone
		}
	}
	return r
}

// virtualFiles are names under which the list of virtual users is kept: the
// text that db_load reads, or the file of pam_pwdfile.
var virtualFiles = []string{"virtual_users.txt", "virtual-users.txt", "vusers.txt", "logins.txt", "users.txt", "ftpd.passwd", "vsftpd.passwd", "passwd.vsftpd", "htpasswd"}

func (v *vsftpd) accounts() {
	if v.on("guest_enable") {
		found := false
		for _, n := range virtualFiles {
			if f := filepath.Join(v.dir, n); exists(f) {
				v.virtual(f)
				found = true
			}
		}
		if !found {
			v.note(v.file, v.line["guest_enable"], "virtual users", "", Dropped, "a Berkeley DB cannot be read; put the text it was made of beside vsftpd.conf, as virtual_users.txt")
		}
	} else if v.on("local_enable") {
		v.local()
	}
	v.userList()
}

func exists(p string) bool { _, err := os.Stat(p); return err == nil }

// virtual reads NAME:HASH lines, or pairs of lines NAME and PASSWORD.
func (v *vsftpd) virtual(file string) {
	ls := v.lines(file, false)
	hashed := len(ls) > 0 && strings.Contains(ls[0].text, ":")
	if !hashed && len(ls)%2 == 1 {
		v.problem(file, ls[len(ls)-1].n, "the user %q has no password line below; names and passwords alternate", ls[len(ls)-1].text)
		return
	}
	for i := 0; i < len(ls); i++ {
		l := ls[i]
		if hashed {
			name, rest, ok := strings.Cut(l.text, ":")
			if !ok {
				v.problem(file, l.n, "%q is not NAME:HASH", l.text)
				continue
			}
			hash, _, _ := strings.Cut(rest, ":")
			v.add(file, l.n, name, hash, "", true, "")
			continue
		}
		i++
		v.add(file, l.n, l.text, "", ls[i].text, true, "")
	}
}

func (v *vsftpd) local() {
	pw := v.find("passwd")
	if pw == "" || filepath.Dir(pw) != filepath.Clean(v.dir) {
		v.note(v.file, v.line["local_enable"], "local users", "", Dropped, "put copies of /etc/passwd and /etc/shadow beside vsftpd.conf, and the accounts come along with their passwords")
		return
	}
	users := v.passwd(pw)
	if sh := filepath.Join(v.dir, "shadow"); exists(sh) {
		v.shadow(sh, users)
	}
	for _, u := range people(users) {
		v.add(pw, u.line, u.name, u.hash, "", false, u.home)
	}
}

// add makes one account, with its own file of user_config_dir.
func (v *vsftpd) add(file string, n int, name, hash, secret string, guest bool, home string) {
	own, at := map[string]string{}, map[string]int{}
	if d := v.set_["user_config_dir"]; d != "" {
		if f := v.find(filepath.Join(filepath.Base(d), name)); f != "" || exists(filepath.Join(v.dir, filepath.Base(d), name)) {
			f = filepath.Join(v.dir, filepath.Base(d), name)
			v.parse(f, own, at)
			for _, k := range sortedByLine(at) {
				w := vsftpdWord[k]
				v.note(f, at[k], k, own[k], w.v, w.note)
			}
		}
	}
	get := func(k string) string {
		if s, ok := own[k]; ok {
			return s
		}
		return v.get(k)
	}
	root := get("local_root")
	if root != "" {
		if t := v.set_["user_sub_token"]; t != "" {
			root = strings.ReplaceAll(root, t, name)
		}
		home = root
	}
	u := User{User: account.User{Name: name, Home: home}, Secret: secret}
	r := v.rights(func(k string) bool { return get(k) == "YES" }, guest)
	u.Rules = limitRights(r)
	if n, err := strconv.ParseInt(get("local_max_rate"), 10, 64); err == nil {
		u.Bandwidth = account.Bandwidth{Down: n, Up: n}
	}
	hide, deny := vsftpdPatterns(get("hide_file")), vsftpdPatterns(get("deny_file"))
	if len(hide)+len(deny) > 0 {
		u.Rules = []account.Rule{{Path: "/", Rights: r, Hide: hide, Deny: deny}}
	}
	v.user(file, n, u, hash)
}

// vsftpdPatterns turns {*.mp3,.hidden} into two patterns.
func vsftpdPatterns(s string) (out []string) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" && !strings.Contains(p, "/") {
			out = append(out, p)
		}
	}
	return out
}

// userList applies userlist_file: those on it are refused, or only they let in.
func (v *vsftpd) userList() {
	if !v.on("userlist_enable") {
		return
	}
	f := v.find(v.get("userlist_file"))
	if f == "" {
		v.problem(v.file, v.line["userlist_enable"], "the list %s is not here; put it beside vsftpd.conf", v.get("userlist_file"))
		return
	}
	listed := map[string]int{}
	for _, l := range v.lines(f, true) {
		listed[l.text] = l.n
	}
	deny := v.on("userlist_deny")
	for i := range v.res.Users {
		u := &v.res.Users[i]
		n, on := listed[u.Name]
		if on == deny {
			u.Disabled = true
			v.note(f, n, "user list", u.Name, Exact, "the account is disabled")
		}
		delete(listed, u.Name)
	}
	for _, name := range sortedByLine(listed) {
		v.note(f, listed[name], "user list", name, Exact, "there is no such account here, so it cannot log in")
	}
}
