package admin

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// Settings is what an administrator may say about a user. What is nil or
// empty stays as it is, so that the same value serves to create and to change.
// Lists behind a pointer replace the present list; an empty one clears it.
type Settings struct {
	Comment    *string   `json:"comment,omitempty"`
	Disabled   *bool     `json:"disabled,omitempty"`
	MustChange *bool     `json:"must_change,omitempty"`
	Home       *string   `json:"home,omitempty"` // absolute host directory
	Groups     *[]string `json:"groups,omitempty"`
	AddGroups  []string  `json:"add_groups,omitempty"`  // at the end, where they decide least
	DropGroups []string  `json:"drop_groups,omitempty"` // names

	Mounts     []account.Mount `json:"mounts,omitempty"`      // each replaces the mount at its path, or is added
	DropMounts []string        `json:"drop_mounts,omitempty"` // paths
	Rules      []account.Rule  `json:"rules,omitempty"`       // each replaces the rule at its path, or is added
	DropRules  []string        `json:"drop_rules,omitempty"`  // paths
	// ChangeRules alters parts of the rule at a path and leaves the others; one
	// that is not there begins as a copy of the rule that governs the path.
	ChangeRules []RuleChange `json:"change_rules,omitempty"`

	QuotaBytes    *int64 `json:"quota_bytes,omitempty"`    // 0: no limit
	QuotaFiles    *int64 `json:"quota_files,omitempty"`    // 0: no limit
	BandwidthDown *int64 `json:"bandwidth_down,omitempty"` // octets per second; 0: no limit
	BandwidthUp   *int64 `json:"bandwidth_up,omitempty"`
	MaxSessions   *int   `json:"max_sessions,omitempty"` // 0: the server's default

	Protocols    *[]string        `json:"protocols,omitempty"`
	Networks     *[]netip.Prefix  `json:"networks,omitempty"`
	Hours        *[]account.Hours `json:"hours,omitempty"`
	Expires      *time.Time       `json:"expires,omitempty"` // the zero time: never
	Keys         *[]string        `json:"keys,omitempty"`
	Certificates *[]string        `json:"certificates,omitempty"` // SHA-256 fingerprints, hex
	KeyOnly      *bool            `json:"key_only,omitempty"`
	Auth         *[]string        `json:"auth,omitempty"` // factors needed, in this order: publickey, password, totp

	IfMatch string `json:"-"` // the version the change is meant for, see Version; empty: any
}

// RuleChange alters a rule; what is nil stays.
type RuleChange struct {
	Path   string          `json:"path"`
	Rights *account.Rights `json:"rights,omitempty"`
	Allow  *[]string       `json:"allow,omitempty"`
	Deny   *[]string       `json:"deny,omitempty"`
	Hide   *[]string       `json:"hide,omitempty"`
}

// changeRules applies changes in order. A new rule starts with the rights of
// the rule above it, so that naming a pattern does not give rights away; the
// patterns above go on by themselves only where no rule is set, so they are
// copied too.
func changeRules(rules []account.Rule, changes []RuleChange) []account.Rule {
	rules = slices.Clone(rules)
	for _, c := range changes {
		i := slices.IndexFunc(rules, func(r account.Rule) bool { return r.Path == c.Path })
		if i < 0 {
			above, _ := account.Fold(account.User{Rules: rules}, nil).Decide(c.Path)
			above.Path = c.Path
			i, rules = len(rules), append(rules, above)
		}
		r := &rules[i]
		set(&r.Rights, c.Rights)
		set(&r.Allow, c.Allow)
		set(&r.Deny, c.Deny)
		set(&r.Hide, c.Hide)
	}
	return rules
}

// NewUser is a user to create.
type NewUser struct {
	Name     string `json:"name"`
	Password string `json:"password,omitempty"` // empty: no password log-in
	// PasswordHash is a hash in crypt or PHC form from another server, instead of Password.
	PasswordHash string `json:"password_hash,omitempty"`
	Settings
}

// String keeps the password out of every formatted print.
func (n NewUser) String() string { return n.Name }

// ListOptions choose a page of users, in the order of their names.
type ListOptions struct {
	After string // names after this one
	Limit int    // 0: 1000
	Match string // part of the name or comment; empty: all
	Group string // only members of it; empty: all
}

// apply changes u as s says.
func (s Settings) apply(u *account.User) {
	set(&u.Comment, s.Comment)
	set(&u.Disabled, s.Disabled)
	set(&u.MustChange, s.MustChange)
	set(&u.Home, s.Home)
	set(&u.Groups, s.Groups)
	u.Groups = merge(u.Groups, s.AddGroups, s.DropGroups, func(g string) string { return g })
	set(&u.Quota.Bytes, s.QuotaBytes)
	set(&u.Quota.Files, s.QuotaFiles)
	set(&u.Bandwidth.Down, s.BandwidthDown)
	set(&u.Bandwidth.Up, s.BandwidthUp)
	set(&u.MaxSessions, s.MaxSessions)
	set(&u.Protocols, s.Protocols)
	set(&u.Networks, s.Networks)
	set(&u.Hours, s.Hours)
	set(&u.Expires, s.Expires)
	set(&u.Keys, s.Keys)
	set(&u.Certificates, s.Certificates)
	set(&u.KeyOnly, s.KeyOnly)
	set(&u.Auth, s.Auth)
	u.Mounts = merge(u.Mounts, s.Mounts, s.DropMounts, func(m account.Mount) string { return m.Path })
	u.Rules = merge(u.Rules, s.Rules, s.DropRules, func(r account.Rule) string { return r.Path })
	u.Rules = changeRules(u.Rules, s.ChangeRules)
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// merge returns old without the dropped keys, with each of add in the place of
// the entry that has its key, or at the end. old is not changed.
func merge[T any](old, add []T, drop []string, key func(T) string) []T {
	out := slices.DeleteFunc(slices.Clone(old), func(v T) bool { return slices.Contains(drop, key(v)) })
	for _, a := range add {
		if i := slices.IndexFunc(out, func(v T) bool { return key(v) == key(a) }); i >= 0 {
			out[i] = a
		} else {
			out = append(out, a)
		}
	}
	return out
}

// Empty reports whether s changes nothing.
func (s Settings) Empty() bool {
	s.IfMatch = ""
	return reflect.ValueOf(s).IsZero()
}
