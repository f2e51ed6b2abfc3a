package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/config"
)

// userFlags are the settings that user add and user set share, as words.
type userFlags struct {
	home, comment, rights, expires         string
	rules, mounts, networks, protocols     []string
	certificates, groups, hours, auth      []string
	allow, deny, hide                      []string
	quotaBytes, bandwidthDown, bandwidthUp string
	quotaFiles                             int64
	maxSessions                            int
	disabled, mustChange, keyOnly          bool
}

func (u *userFlags) register(f *pflag.FlagSet) {
	u.registerShared(f)
	f.StringSliceVar(&u.groups, "group", nil, "member of this `GROUP`; repeated, the first decides most; none leaves all")
	f.StringVar(&u.expires, "expires", "", "last day, 2030-12-31, or a time span from now, 30d; never lifts it (`WHEN`)")
	f.StringSliceVar(&u.certificates, "certificate", nil, "TLS client certificate that logs in: a PEM `FILE` or its SHA-256 fingerprint; none removes all")
	f.BoolVar(&u.keyOnly, "key-only", false, "no password on any protocol: SSH keys and client certificates only")
	f.BoolVar(&u.disabled, "disabled", false, "keep the account but refuse its log-ins")
	f.BoolVar(&u.mustChange, "must-change", false, "the password must be changed at the next log-in that can do it")
}

// registerShared adds the flags that users and groups have in common.
func (u *userFlags) registerShared(f *pflag.FlagSet) {
	f.StringVar(&u.home, "home", "", "`DIR` of this machine that the user sees as /; %u in a group's is the user's name")
	f.StringVar(&u.comment, "comment", "", "`TEXT` for administrators")
	f.StringVar(&u.rights, "rights", "", "what the user may do: ro, rw, or a `LIST` of list,download,upload,overwrite,append,delete,rename,mkdir,rmdir,chmod,times,link")
	f.StringArrayVar(&u.rules, "rule", nil, "rights below a path, `PATH=RIGHTS`, such as /in=ro; PATH= removes the rule")
	f.StringArrayVar(&u.mounts, "mount", nil, "another directory in the user's tree, `PATH=DIR[:ro][:quota=SIZE][:files=N]`, such as /pub=/srv/pub:ro; PATH= removes it")
	f.StringVar(&u.quotaBytes, "quota-bytes", "", "most that may be stored, such as 10GiB; 0 is no limit (`SIZE`)")
	f.Int64Var(&u.quotaFiles, "quota-files", 0, "most files that may be stored; 0 is no limit (`N`)")
	f.StringVar(&u.bandwidthDown, "bandwidth-down", "", "speed of downloads, such as 5MB/s; 0 is no limit (`RATE`)")
	f.StringVar(&u.bandwidthUp, "bandwidth-up", "", "speed of uploads (`RATE`)")
	f.IntVar(&u.maxSessions, "max-sessions", 0, "sessions at the same time; 0 is the server's limit (`N`)")
	f.StringSliceVar(&u.networks, "network", nil, "log-in only from this network, `CIDR`, such as 192.0.2.0/24; any lifts it")
	f.StringSliceVar(&u.protocols, "protocol", nil, "log-in only by this `PROTOCOL`: ftp, ftps, sftp; any lifts it")
	f.StringArrayVar(&u.hours, "hours", nil, "log-in only in this `WINDOW`, such as \"mon-fri 08:00-18:00\"; repeated for more; any lifts it")
	f.StringSliceVar(&u.auth, "auth", nil, "what a log-in must prove, all of the `LIST` in this order: publickey (on FTPS the client certificate), password, totp; any lifts it")
	f.StringArrayVar(&u.allow, "allow", nil, "file names that may be used below a path, `PATH=PATTERNS`, such as /in=*.csv,*.txt; PATH= lifts it")
	f.StringArrayVar(&u.deny, "deny", nil, "names that cannot be used below a path, `PATH=PATTERNS`, such as /=*.exe")
	f.StringArrayVar(&u.hide, "hide", nil, "names that do not appear below a path, `PATH=PATTERNS`, such as /=.*")
}

// settings turns the flags that were given into settings; the others stay nil.
// All mistakes are reported, not the first.
func (u *userFlags) settings(cmd *cobra.Command) (admin.Settings, error) {
	var s admin.Settings
	var bad []error
	f := cmd.Flags()
	given := func(name string, read func() error) {
		if !f.Changed(name) {
			return
		}
		if err := read(); err != nil {
			bad = append(bad, fmt.Errorf("--%s: %w", name, err))
		}
	}
	given("home", func() (err error) { s.Home, err = directory(u.home); return })
	given("comment", func() error { s.Comment = &u.comment; return nil })
	given("disabled", func() error { s.Disabled = &u.disabled; return nil })
	given("key-only", func() error { s.KeyOnly = &u.keyOnly; return nil })
	given("must-change", func() error { s.MustChange = &u.mustChange; return nil })
	given("quota-files", func() error { s.QuotaFiles = &u.quotaFiles; return nil })
	given("max-sessions", func() error { s.MaxSessions = &u.maxSessions; return nil })
	given("quota-bytes", func() (err error) { s.QuotaBytes, err = octets(new(config.Size), u.quotaBytes); return })
	given("bandwidth-down", func() (err error) { s.BandwidthDown, err = octets(new(config.Rate), u.bandwidthDown); return })
	given("bandwidth-up", func() (err error) { s.BandwidthUp, err = octets(new(config.Rate), u.bandwidthUp); return })
	given("network", func() (err error) { s.Networks, err = networks(u.networks); return })
	given("protocol", func() error { s.Protocols = words(u.protocols, "any"); return nil })
	given("auth", func() error { s.Auth = words(u.auth, "any"); return nil })
	given("expires", func() (err error) { s.Expires, err = expiry(u.expires, time.Now()); return })
	given("certificate", func() (err error) { s.Certificates, err = fingerprints(u.certificates); return })
	given("rights", func() error {
		r, err := account.ParseRights(u.rights)
		s.ChangeRules = append(s.ChangeRules, admin.RuleChange{Path: "/", Rights: &r})
		return err
	})
	given("rule", func() error { return addRules(&s, u.rules) })
	given("allow", func() error {
		return addPatterns(&s, u.allow, func(c *admin.RuleChange, p *[]string) { c.Allow = p })
	})
	given("deny", func() error {
		return addPatterns(&s, u.deny, func(c *admin.RuleChange, p *[]string) { c.Deny = p })
	})
	given("hide", func() error {
		return addPatterns(&s, u.hide, func(c *admin.RuleChange, p *[]string) { c.Hide = p })
	})
	given("mount", func() error { return addMounts(&s, u.mounts) })
	given("group", func() error {
		s.Groups = &[]string{}
		for _, g := range u.groups {
			if g = strings.TrimSpace(g); g != "" && g != "none" {
				*s.Groups = append(*s.Groups, g)
			}
		}
		return nil
	})
	given("hours", func() (err error) { s.Hours, err = hours(u.hours); return })
	if len(bad) > 0 {
		return s, &usageError{err: errors.Join(bad...), cmd: cmd}
	}
	return s, nil
}

// directory makes a path from the command line absolute.
func directory(p string) (*string, error) {
	if p == "" {
		return nil, errors.New("the directory is empty")
	}
	abs, err := filepath.Abs(p)
	return &abs, err
}

// octets reads a size or a rate by the rules of the configuration file.
func octets[T interface {
	~*config.Size | ~*config.Rate
	UnmarshalText([]byte) error
}](v T, s string) (*int64, error) {
	if err := v.UnmarshalText([]byte(s)); err != nil {
		return nil, err
	}
	var n int64
	switch x := any(v).(type) {
	case *config.Size:
		n = int64(*x)
	case *config.Rate:
		n = int64(*x)
	}
	return &n, nil
}

// words drops empty entries; the single word that lifts a limit empties the list.
func words(in []string, lift string) *[]string {
	out := []string{}
	for _, w := range in {
		if w = strings.ToLower(strings.TrimSpace(w)); w != "" && w != lift {
			out = append(out, w)
		}
	}
	return &out
}

func networks(in []string) (*[]netip.Prefix, error) {
	out := []netip.Prefix{}
	for _, w := range *words(in, "any") {
		var p config.Prefix
		if err := p.UnmarshalText([]byte(w)); err != nil {
			return nil, err
		}
		out = append(out, p.Prefix)
	}
	return &out, nil
}

// expiry reads a day, which counts to its end, an RFC 3339 time, a time span, or "never".
func expiry(s string, now time.Time) (*time.Time, error) {
	s = strings.TrimSpace(s)
	if s == "never" || s == "" {
		return &time.Time{}, nil
	}
	if d, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		d = d.AddDate(0, 0, 1)
		return &d, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return &t, nil
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(s)); err == nil && d > 0 {
		t := now.Add(d.Std()).Truncate(time.Second)
		return &t, nil
	}
	return nil, fmt.Errorf("%q is not a day like 2030-12-31, a time like 2030-12-31T18:00:00Z, a time span like 30d, or never", s)
}

func addRules(s *admin.Settings, in []string) error {
	for _, w := range in {
		path, rights, ok := strings.Cut(w, "=")
		if !ok || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("%q is not PATH=RIGHTS, such as /in=ro", w)
		}
		if rights == "" {
			s.DropRules = append(s.DropRules, path)
			continue
		}
		r, err := account.ParseRights(rights)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		s.ChangeRules = append(s.ChangeRules, admin.RuleChange{Path: path, Rights: &r})
	}
	return nil
}

// addPatterns reads PATH=PATTERN[,PATTERN...]; no pattern clears the list.
func addPatterns(s *admin.Settings, in []string, put func(*admin.RuleChange, *[]string)) error {
	for _, w := range in {
		path, list, ok := strings.Cut(w, "=")
		if !ok || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("%q is not PATH=PATTERNS, such as /in=*.csv,*.txt", w)
		}
		patterns := []string{}
		for p := range strings.SplitSeq(list, ",") {
			if p = strings.TrimSpace(p); p != "" {
				patterns = append(patterns, p)
			}
		}
		c := admin.RuleChange{Path: path}
		put(&c, &patterns)
		s.ChangeRules = append(s.ChangeRules, c)
	}
	return nil
}

func hours(in []string) (*[]account.Hours, error) {
	out := []account.Hours{}
	for _, w := range in {
		if w = strings.TrimSpace(w); w == "" || w == "any" {
			continue
		}
		h, err := account.ParseHours(w)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return &out, nil
}

// forGroup keeps what groups have in common with users.
func forGroup(s admin.Settings) admin.GroupSettings {
	return admin.GroupSettings{Comment: s.Comment, Home: s.Home, Mounts: s.Mounts, DropMounts: s.DropMounts, Rules: s.Rules, ChangeRules: s.ChangeRules,
		DropRules: s.DropRules, QuotaBytes: s.QuotaBytes, QuotaFiles: s.QuotaFiles, BandwidthDown: s.BandwidthDown, BandwidthUp: s.BandwidthUp,
		MaxSessions: s.MaxSessions, Protocols: s.Protocols, Networks: s.Networks, Hours: s.Hours, Auth: s.Auth}
}

func addMounts(s *admin.Settings, in []string) error {
	for _, w := range in {
		path, source, ok := strings.Cut(w, "=")
		if !ok || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("%q is not PATH=DIR or PATH=DIR:ro, such as /pub=/srv/pub:ro", w)
		}
		if source == "" {
			s.DropMounts = append(s.DropMounts, path)
			continue
		}
		m, err := mount(path, source)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		s.Mounts = append(s.Mounts, m)
	}
	return nil
}

// mount reads DIR with its options, which stand behind colons.
func mount(path, source string) (account.Mount, error) {
	m := account.Mount{Path: path, Source: source}
	for {
		i := strings.LastIndexByte(m.Source, ':')
		if i < 0 {
			break
		}
		switch option, value, _ := strings.Cut(m.Source[i+1:], "="); option {
		case "ro":
			m.ReadOnly = true
		case "rw":
			m.ReadOnly = false
		case "quota":
			n, err := octets(new(config.Size), value)
			if err != nil {
				return m, err
			}
			m.Quota.Bytes = *n
		case "files":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return m, fmt.Errorf("%q is not a number of files", value)
			}
			m.Quota.Files = n
		default:
			i = -1
		}
		if i < 0 {
			break // a colon that belongs to the name
		}
		m.Source = m.Source[:i]
	}
	if !strings.HasPrefix(m.Source, "mem:") {
		abs, err := directory(m.Source)
		if err != nil {
			return m, err
		}
		m.Source = *abs
	}
	return m, nil
}

// fingerprints takes each entry as a file when there is one of that name, else
// as a SHA-256 fingerprint, with or without colons.
func fingerprints(in []string) (*[]string, error) {
	out := []string{}
	for _, w := range in {
		if w == "" || w == "none" {
			continue
		}
		b, err := os.ReadFile(w)
		if err == nil {
			block, _ := pem.Decode(b)
			if block == nil || block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("%s does not begin with a PEM certificate", w)
			}
			sum := sha256.Sum256(block.Bytes)
			out = append(out, hex.EncodeToString(sum[:]))
			continue
		}
		h := strings.ToLower(strings.ReplaceAll(w, ":", ""))
		if raw, herr := hex.DecodeString(h); herr != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("%q is neither a readable file (%v) nor a SHA-256 fingerprint of 64 hexadecimal digits", w, err)
		}
		out = append(out, h)
	}
	return &out, nil
}
