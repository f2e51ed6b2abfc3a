package admin

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
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

	Mounts     []account.Mount `json:"mounts,omitempty"`      // each replaces the mount at its path, or is added
	DropMounts []string        `json:"drop_mounts,omitempty"` // paths
	Rules      []account.Rule  `json:"rules,omitempty"`       // each replaces the rule at its path, or is added
	DropRules  []string        `json:"drop_rules,omitempty"`  // paths

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
}

// NewUser is a user to create.
type NewUser struct {
	Name     string `json:"name"`
	Password string `json:"password,omitempty"` // empty: no password log-in
	Settings
}

// String keeps the password out of every formatted print.
func (n NewUser) String() string { return n.Name }

// ListOptions choose a page of users, in the order of their names.
type ListOptions struct {
	After string // names after this one
	Limit int    // 0: 1000
	Match string // part of the name or comment; empty: all
}

// apply changes u as s says.
func (s Settings) apply(u *account.User) {
	set(&u.Comment, s.Comment)
	set(&u.Disabled, s.Disabled)
	set(&u.MustChange, s.MustChange)
	set(&u.Home, s.Home)
	set(&u.Groups, s.Groups)
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
	u.Mounts = merge(u.Mounts, s.Mounts, s.DropMounts, func(m account.Mount) string { return m.Path })
	u.Rules = merge(u.Rules, s.Rules, s.DropRules, func(r account.Rule) string { return r.Path })
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
func (s Settings) Empty() bool { return reflect.ValueOf(s).IsZero() }

// names lists the settings that are given, by their JSON names.
func (s Settings) names() []string {
	var out []string
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			out = append(out, name)
		}
	}
	return out
}
