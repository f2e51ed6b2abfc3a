package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// sftpgo reads a dump (dumpdata, or the files of a backup). Objects are read
// one by one so that each has its line.
type sftpgo struct {
	*state
	file    string
	data    []byte
	folders map[string]sftpgoFolder
	groups  map[string]bool
}

type sftpgoFolder struct {
	Name       string `json:"name"`
	MappedPath string `json:"mapped_path"`
	Filesystem struct {
		Provider int `json:"provider"`
	} `json:"filesystem"`
}

type sftpgoMount struct {
	Name        string `json:"name"`
	VirtualPath string `json:"virtual_path"`
	MappedPath  string `json:"mapped_path"`
	QuotaSize   int64  `json:"quota_size"`
	QuotaFiles  int64  `json:"quota_files"`
}

type sftpgoFilters struct {
	AllowedIP       []string `json:"allowed_ip"`
	DeniedIP        []string `json:"denied_ip"`
	DeniedProtocols []string `json:"denied_protocols"`
	DeniedMethods   []string `json:"denied_login_methods"`
	FilePatterns    []struct {
		Path    string   `json:"path"`
		Allowed []string `json:"allowed_patterns"`
		Denied  []string `json:"denied_patterns"`
		Policy  int      `json:"deny_policy"` // 0: refuse, 1: hide
	} `json:"file_patterns"`
	AccessTime []struct {
		Day  int    `json:"day_of_week"`
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"access_time"`
	MaxUploadSize  int64    `json:"max_upload_file_size"`
	WebClient      []string `json:"web_client"`
	RequireChange  bool     `json:"require_password_change"`
	StartDirectory string   `json:"start_directory"`
	TLSCerts       []string `json:"tls_certs"`
	Bandwidth      []any    `json:"bandwidth_limits"`
	TOTP           struct {
		Enabled bool `json:"enabled"`
	} `json:"totp_config"`
}

type sftpgoUser struct {
	Username    string              `json:"username"`
	Status      int                 `json:"status"`
	Expires     int64               `json:"expiration_date"`
	Password    string              `json:"password"`
	Keys        []string            `json:"public_keys"`
	Home        string              `json:"home_dir"`
	Description string              `json:"description"`
	Folders     []sftpgoMount       `json:"virtual_folders"`
	MaxSessions int                 `json:"max_sessions"`
	QuotaSize   int64               `json:"quota_size"`
	QuotaFiles  int64               `json:"quota_files"`
	Permissions map[string][]string `json:"permissions"`
	Up          int64               `json:"upload_bandwidth"`
	Down        int64               `json:"download_bandwidth"`
	UpTotal     int64               `json:"upload_data_transfer"`
	DownTotal   int64               `json:"download_data_transfer"`
	AllTotal    int64               `json:"total_data_transfer"`
	Filters     sftpgoFilters       `json:"filters"`
	Filesystem  struct {
		Provider int `json:"provider"`
	} `json:"filesystem"`
	Groups []struct {
		Name string `json:"name"`
		Type int    `json:"type"`
	} `json:"groups"`
}

type sftpgoGroup struct {
	Name        string        `json:"name"`
	Description string        `json:"description"`
	Folders     []sftpgoMount `json:"virtual_folders"`
	Settings    struct {
		Home        string              `json:"home_dir"`
		MaxSessions int                 `json:"max_sessions"`
		QuotaSize   int64               `json:"quota_size"`
		QuotaFiles  int64               `json:"quota_files"`
		Permissions map[string][]string `json:"permissions"`
		Up          int64               `json:"upload_bandwidth"`
		Down        int64               `json:"download_bandwidth"`
		Filters     sftpgoFilters       `json:"filters"`
		Filesystem  struct {
			Provider int `json:"provider"`
		} `json:"filesystem"`
	} `json:"user_settings"`
}

func readSftpgo(s *state) {
	g := &sftpgo{state: s, file: s.main("dump.json", "backup.json", "sftpgo.json"), folders: map[string]sftpgoFolder{}, groups: map[string]bool{}}
	if g.file == "" {
		return
	}
	g.data = s.read(g.file)
	parts := map[string][]object{}
	var order []string
	if !g.sections(parts, &order) {
		return
	}
	for _, o := range parts["folders"] {
		var f sftpgoFolder
		if g.decode(o, "folder", &f) {
			g.folders[f.Name] = f
			v, note := Exact, "used by mounts"
			if f.Filesystem.Provider != 0 {
				v, note = Dropped, "its storage is not a local directory"
			}
			g.note(g.file, o.line, "folder", f.Name, v, note)
		}
	}
	for _, o := range parts["groups"] {
		var gr sftpgoGroup
		if g.decode(o, "group", &gr) {
			g.group(o.line, gr)
		}
	}
	for _, o := range parts["users"] {
		var u sftpgoUser
		if g.decode(o, "user", &u) {
			g.account(o.line, u)
		}
	}
	for _, k := range order {
		if k == "users" || k == "groups" || k == "folders" {
			continue
		}
		for _, o := range parts[k] {
			note := map[string]string{"admins": "make administrators with: portreeve admin add", "api_keys": "make tokens with: portreeve token add"}[k]
			if note == "" {
				note = "it has no counterpart here"
			}
			g.note(g.file, o.line, k, o.name(), Dropped, note)
		}
	}
}

// object is one element of a list of the dump.
type object struct {
	raw  json.RawMessage
	line int
}

func (o object) name() string {
	var n struct {
		Name     string `json:"name"`
		Username string `json:"username"`
		ID       any    `json:"id"`
	}
	if json.Unmarshal(o.raw, &n) != nil {
		return ""
	}
	return strings.TrimSpace(n.Name + n.Username)
}

func (g *sftpgo) lineAt(offset int64) int {
	return 1 + bytes.Count(g.data[:min(offset, int64(len(g.data)))], []byte("\n"))
}

// sections splits the document into the lists of its top level.
func (g *sftpgo) sections(parts map[string][]object, order *[]string) bool {
	d := json.NewDecoder(bytes.NewReader(g.data))
	fail := func(err error) bool {
		at := d.InputOffset()
		var se *json.SyntaxError
		if errors.As(err, &se) {
			at = max(0, se.Offset-1)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err, at = errors.New("it ends too early"), int64(len(g.data))
		}
		g.problem(g.file, g.lineAt(at), "the JSON is broken: %v", err)
		return false
	}
	if t, err := d.Token(); err != nil {
		return fail(err)
	} else if t != json.Delim('{') {
		g.problem(g.file, 1, "the dump is not a JSON object")
		return false
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return fail(err)
		}
		key, _ := k.(string)
		*order = append(*order, key)
		var raw json.RawMessage
		start := d.InputOffset()
		if err := d.Decode(&raw); err != nil {
			return fail(err)
		}
		base := start + int64(bytes.Index(g.data[start:], raw))
		line := g.lineAt(base)
		if len(raw) == 0 || raw[0] != '[' {
			if key != "version" {
				parts[key] = append(parts[key], object{raw, line})
			}
			continue
		}
		in := json.NewDecoder(bytes.NewReader(raw))
		in.Token() // the bracket
		for in.More() {
			at := in.InputOffset()
			var one json.RawMessage
			if err := in.Decode(&one); err != nil {
				g.problem(g.file, line, "the list %s is broken: %v", key, err)
				return false
			}
			at += int64(bytes.Index(raw[at:], one))
			parts[key] = append(parts[key], object{one, g.lineAt(base + at)})
		}
	}
	if _, err := d.Token(); err != nil {
		return fail(err)
	}
	return true
}

func (g *sftpgo) decode(o object, what string, v any) bool {
	err := json.Unmarshal(o.raw, v)
	if err == nil {
		return true
	}
	line, text := o.line, err.Error()
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		line += bytes.Count(o.raw[:min(te.Offset, int64(len(o.raw)))], []byte("\n"))
		text = fmt.Sprintf("%s must not be a %s", te.Field, te.Value)
	}
	g.problem(g.file, line, "the %s %s: %s", what, o.name(), text)
	return false
}

var sftpgoRights = map[string]account.Rights{
	"*": account.All, "list": account.List, "download": account.Download, "upload": account.Upload, "overwrite": account.Overwrite | account.Append, "create_dirs": account.Mkdir,
	"rename": account.Rename, "rename_files": account.Rename, "rename_dirs": account.Rename, "delete": account.Delete | account.Rmdir, "delete_files": account.Delete, "delete_dirs": account.Rmdir,
	"create_symlinks": account.Link, "chmod": account.Chmod, "chtimes": account.Times, "chown": 0, "copy": 0,
}

// rules turns permissions by directory and name patterns into rules.
func (g *sftpgo) rules(line int, who string, perms map[string][]string, f sftpgoFilters) (rules []account.Rule) {
	for _, dir := range sortedKeys(perms) {
		var r account.Rights
		for _, p := range perms[dir] {
			bits, ok := sftpgoRights[p]
			switch {
			case !ok:
				g.problem(g.file, line, "%s has the unknown permission %q at %s", who, p, dir)
			case p == "chown" || p == "copy":
				g.note(g.file, line, "permission of "+who, p, Dropped, "files belong to the server's user")
			case strings.HasPrefix(p, "rename_"):
				g.note(g.file, line, "permission of "+who, p, Approximated, "the right rename is for files and directories")
			}
			r |= bits
		}
		rules = append(rules, account.Rule{Path: dir, Rights: r})
		g.note(g.file, line, "permissions of "+who, dir+": "+strings.Join(perms[dir], ","), Exact, r.String())
	}
	for _, p := range f.FilePatterns {
		if p.Path != path.Clean(p.Path) || !strings.HasPrefix(p.Path, "/") {
			g.problem(g.file, line, "%s has name patterns at %q, which is not a clean path", who, p.Path)
			continue
		}
		i := slices.IndexFunc(rules, func(r account.Rule) bool { return r.Path == p.Path })
		if i < 0 {
			above, _ := account.Fold(account.User{Rules: rules}, nil).Decide(p.Path)
			above.Path = p.Path
			i, rules = len(rules), append(rules, above)
		}
		v, note := Exact, ""
		if slices.ContainsFunc(slices.Concat(p.Allowed, p.Denied), func(s string) bool { return strings.ContainsAny(s, "[]\\") }) {
			v, note = Approximated, "classes in brackets are taken as they are written"
		}
		rules[i].Allow = slices.Clone(p.Allowed)
		if p.Policy == 1 {
			rules[i].Hide = slices.Clone(p.Denied)
		} else {
			rules[i].Deny = slices.Clone(p.Denied)
		}
		g.note(g.file, line, "name patterns of "+who, p.Path, v, note)
	}
	return rules
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (g *sftpgo) mounts(line int, who string, list []sftpgoMount) (out []account.Mount) {
	for _, m := range list {
		f, ok := g.folders[m.Name]
		source := m.MappedPath
		if ok {
			source = f.MappedPath
		}
		switch {
		case source == "":
			g.problem(g.file, line, "%s has the folder %q, which is not there", who, m.Name)
			continue
		case ok && f.Filesystem.Provider != 0:
			g.note(g.file, line, "folder of "+who, m.VirtualPath, Dropped, "its storage is not a local directory")
			continue
		}
		out = append(out, account.Mount{Path: m.VirtualPath, Source: template(source), Quota: account.Quota{Bytes: max(0, m.QuotaSize), Files: max(0, m.QuotaFiles)}})
		v, note := Exact, source
		if m.QuotaSize < 0 || m.QuotaFiles < 0 {
			v, note = Approximated, "counted in the user's quota and not in one of its own"
		}
		g.note(g.file, line, "folder of "+who, m.VirtualPath, v, note)
	}
	return out
}

func template(s string) string {
	return strings.NewReplacer("%username%", "%u", "%", "%%").Replace(s)
}

// filters are the settings that users and groups share.
func (g *sftpgo) filters(line int, who string, f sftpgoFilters, q *account.Group) {
	for _, n := range f.AllowedIP {
		p, err := parseNetwork(n)
		if err != nil {
			g.problem(g.file, line, "%s: %v", who, err)
			continue
		}
		q.Networks = append(q.Networks, p)
	}
	if len(f.DeniedIP) > 0 {
		g.note(g.file, line, "denied_ip of "+who, strings.Join(f.DeniedIP, ","), Dropped, "an account has allowed networks; refuse the others in limits.deny")
	}
	if len(f.DeniedProtocols) > 0 {
		names := map[string][]string{"SSH": {"sftp", "scp"}, "FTP": {"ftp", "ftps"}, "DAV": {"webdav"}, "HTTP": {"web"}}
		for _, p := range []string{"SSH", "FTP", "DAV", "HTTP"} {
			if !slices.Contains(f.DeniedProtocols, p) {
				q.Protocols = append(q.Protocols, names[p]...)
			}
		}
		g.note(g.file, line, "denied_protocols of "+who, strings.Join(f.DeniedProtocols, ","), Exact, "the protocols that are left")
	}
	for _, a := range f.AccessTime {
		from, to := a.From, a.To
		if to == "23:59" {
			to = "24:00"
		}
		h, err := account.ParseHours(from + "-" + to)
		if err != nil || a.Day < 0 || a.Day > 6 {
			g.problem(g.file, line, "%s has an access time that cannot be read: day %d, %s-%s", who, a.Day, a.From, a.To)
			continue
		}
		h.Days = []time.Weekday{time.Weekday(a.Day)}
		q.Hours = append(q.Hours, h)
	}
	if len(f.AccessTime) > 0 {
		g.note(g.file, line, "access_time of "+who, strconv.Itoa(len(f.AccessTime)), Approximated, "hours are in the zone of the server, not in UTC")
	}
	if f.MaxUploadSize > 0 {
		g.note(g.file, line, "max_upload_file_size of "+who, strconv.FormatInt(f.MaxUploadSize, 10), Dropped, "limits.upload_size holds for everybody")
	}
	if len(f.Bandwidth) > 0 {
		g.note(g.file, line, "bandwidth_limits of "+who, strconv.Itoa(len(f.Bandwidth)), Dropped, "speeds do not differ by address")
	}
	if f.StartDirectory != "" && f.StartDirectory != "/" {
		g.note(g.file, line, "start_directory of "+who, f.StartDirectory, Dropped, "sessions begin at /")
	}
	if f.TOTP.Enabled {
		g.note(g.file, line, "totp_config of "+who, "", Dropped, "the secret is encrypted in the dump; there is no second factor here")
	}
}

func (g *sftpgo) group(line int, gr sftpgoGroup) {
	s := gr.Settings
	a := account.Group{Name: gr.Name, Comment: gr.Description, Home: template(s.Home), MaxSessions: s.MaxSessions, Quota: account.Quota{Bytes: s.QuotaSize, Files: s.QuotaFiles},
		Bandwidth: account.Bandwidth{Up: s.Up << 10, Down: s.Down << 10}}
	a.Rules = g.rules(line, "group "+gr.Name, s.Permissions, s.Filters)
	a.Mounts = g.mounts(line, "group "+gr.Name, gr.Folders)
	g.filters(line, "group "+gr.Name, s.Filters, &a)
	if err := account.ValidName(gr.Name); err != nil {
		g.note(g.file, line, "group", gr.Name, Dropped, causeOf(err))
		return
	}
	if err := a.Validate(); err != nil {
		g.problem(g.file, line, "group %s: %s", gr.Name, causeOf(err))
		return
	}
	g.groups[gr.Name] = true
	g.res.Groups = append(g.res.Groups, a)
	g.note(g.file, line, "group", gr.Name, Exact, "")
}

func (g *sftpgo) account(line int, v sftpgoUser) {
	u := User{User: account.User{Name: v.Username, Comment: v.Description, Home: v.Home, Disabled: v.Status == 0, MaxSessions: v.MaxSessions,
		Quota: account.Quota{Bytes: v.QuotaSize, Files: v.QuotaFiles}, Bandwidth: account.Bandwidth{Up: v.Up << 10, Down: v.Down << 10}, MustChange: v.Filters.RequireChange}}
	if v.Expires > 0 {
		u.Expires = time.UnixMilli(v.Expires).UTC()
	}
	if v.Filesystem.Provider != 0 {
		g.note(g.file, line, "storage of "+v.Username, strconv.Itoa(v.Filesystem.Provider), Dropped, "it is not a local directory; the home_dir is used")
	}
	u.Rules = g.rules(line, v.Username, v.Permissions, v.Filters)
	u.Mounts = g.mounts(line, v.Username, v.Folders)
	for i := range u.Mounts {
		u.Mounts[i].Source = strings.NewReplacer("%u", v.Username, "%%", "%").Replace(u.Mounts[i].Source)
	}
	for _, k := range v.Keys {
		u.Keys = append(u.Keys, strings.TrimSpace(k))
	}
	var shared account.Group
	g.filters(line, v.Username, v.Filters, &shared)
	u.Networks, u.Protocols, u.Hours = shared.Networks, shared.Protocols, shared.Hours
	if slices.Contains(v.Filters.DeniedMethods, "password") {
		u.KeyOnly = true
	}
	// The primary group decides before the secondary ones; membership groups hand nothing down.
	slices.SortStableFunc(v.Groups, func(a, b struct {
		Name string `json:"name"`
		Type int    `json:"type"`
	}) int {
		return a.Type - b.Type
	})
	for _, m := range v.Groups {
		switch {
		case !g.groups[m.Name]:
			g.problem(g.file, line, "user %s is in the group %q, which is not there", v.Username, m.Name)
		case m.Type == 3:
			g.note(g.file, line, "group of "+v.Username, m.Name, Dropped, "a membership that hands nothing down")
		default:
			u.Groups = append(u.Groups, m.Name)
		}
	}
	if v.UpTotal+v.DownTotal+v.AllTotal > 0 {
		g.note(g.file, line, "data transfer of "+v.Username, "", Dropped, "transfers are not limited in total")
	}
	hash, err := sftpgoHash(v.Password)
	if err != nil {
		g.problem(g.file, line, "the password of %s: %v", v.Username, err)
		return
	}
	if hash == "" && v.Password != "" {
		u.Secret = v.Password
	}
	g.user(g.file, line, u, hash)
}

// sftpgoHash turns SFTPGo's own writing of PBKDF2 into ours; the other
// formats are the same. "" is a password in clear.
func sftpgoHash(p string) (string, error) {
	if p == "" || p[0] != '$' && p[0] != '{' {
		return "", nil
	}
	parts := strings.Split(p, "$")
	if len(parts) != 5 || !strings.HasPrefix(parts[1], "pbkdf2-") {
		return p, nil
	}
	digest, salt := strings.TrimPrefix(parts[1], "pbkdf2-"), []byte(parts[3])
	rounds, err := strconv.Atoi(parts[2])
	if err != nil {
		return "", fmt.Errorf("the number of rounds %q is not one", parts[2])
	}
	if d, ok := strings.CutPrefix(digest, "b64salt-"); ok {
		digest = d
		if salt, err = unbase64(parts[3]); err != nil {
			return "", errors.New("the salt is not base64")
		}
	}
	key, err := unbase64(parts[4])
	if err != nil {
		return "", errors.New("the hash is not base64")
	}
	if digest == "sha1" {
		return fmt.Sprintf("$pbkdf2$%d$%s$%s", rounds, ab64(salt), ab64(key)), nil
	}
	return pbkdf2(digest, rounds, salt, key), nil
}
