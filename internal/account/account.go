// Package account owns who may do what: users, groups, mounts, rights and the
// pure rules that fold them into one effective policy. It does no I/O; rows
// live in store, verification of credentials in auth.
package account

import (
	"net/netip"
	"time"
)

// Rights is a set of things a user may do at a path.
type Rights uint32

// The rights, one bit each.
const (
	List Rights = 1 << iota
	Download
	Upload    // create a new file
	Overwrite // replace an existing file
	Append    // continue an existing file (APPE, REST+STOR)
	Delete    // files
	Rename
	Mkdir
	Rmdir
	Chmod
	Times
	Link // make symbolic links; off by default
	rightsEnd

	// All is every right.
	All = rightsEnd - 1
	// ReadWrite is what a new user gets: all but making links.
	ReadWrite = All &^ Link
	// ReadOnly lists and downloads.
	ReadOnly = List | Download
)

// Rule gives rights below a path. The rule with the longest matching path decides.
type Rule struct {
	Path   string   `json:"path"`            // clean absolute client-visible path
	Rights Rights   `json:"rights"`          // exactly these
	Allow  []string `json:"allow,omitempty"` // name patterns (*, ?); empty: all
	Deny   []string `json:"deny,omitempty"`  // name patterns that cannot be used
	Hide   []string `json:"hide,omitempty"`  // name patterns that do not appear at all
}

// Quota limits what an account may store; 0 is no limit.
type Quota struct {
	Bytes int64 `json:"bytes,omitempty"`
	Files int64 `json:"files,omitempty"`
}

// Bandwidth limits transfers of one account over all its sessions, in octets per second; 0 is no limit.
type Bandwidth struct {
	Down int64 `json:"down,omitempty"`
	Up   int64 `json:"up,omitempty"`
}

// Mount shows a storage at a path of the user's tree.
type Mount struct {
	Path     string `json:"path"`   // where the user sees it
	Source   string `json:"source"` // host directory, or "mem:" for memory
	ReadOnly bool   `json:"read_only,omitempty"`
	Quota    Quota  `json:"quota,omitzero"` // its own, besides the user's
}

// Hours is a weekly window of allowed log-in times in the server's zone.
type Hours struct {
	Days  []time.Weekday `json:"days,omitempty"` // empty: every day
	From  string         `json:"from"`           // "08:00"
	Until string         `json:"until"`          // "18:00"; before From: past midnight
}

// User is one account as stored.
type User struct {
	ID           int64          `json:"id"`
	Name         string         `json:"name"`
	Comment      string         `json:"comment,omitempty"`
	Disabled     bool           `json:"disabled,omitempty"`
	PasswordHash string         `json:"-"` // PHC or crypt string; empty: no password log-in
	MustChange   bool           `json:"must_change,omitempty"`
	Home         string         `json:"home"` // host directory shown as "/"
	Groups       []string       `json:"groups,omitempty"`
	Mounts       []Mount        `json:"mounts,omitempty"`
	Rules        []Rule         `json:"rules,omitempty"` // empty: ReadWrite at "/"
	Quota        Quota          `json:"quota,omitzero"`
	Bandwidth    Bandwidth      `json:"bandwidth,omitzero"`
	MaxSessions  int            `json:"max_sessions,omitempty"` // 0: the server's default
	Protocols    []string       `json:"protocols,omitempty"`    // ftp, ftps, sftp, ...; empty: all
	Networks     []netip.Prefix `json:"networks,omitempty"`     // log-in allowed from; empty: anywhere
	Hours        []Hours        `json:"hours,omitempty"`
	Expires      time.Time      `json:"expires,omitzero"`
	Keys         []string       `json:"keys,omitempty"`         // SSH public keys, authorized_keys form
	Certificates []string       `json:"certificates,omitempty"` // SHA-256 fingerprints (hex) of TLS client certificates
	KeyOnly      bool           `json:"key_only,omitempty"`     // no password on any protocol
	Auth         []string       `json:"auth,omitempty"`         // factors needed, in this order; empty: see Next
	TOTP         bool           `json:"totp,omitempty"`         // a secret for codes is kept
	TOTPSecret   string         `json:"-"`                      // base32; never shown again once it was made
	CreatedAt    time.Time      `json:"created_at,omitzero"`
	UpdatedAt    time.Time      `json:"updated_at,omitzero"`
	LastLogin    time.Time      `json:"last_login,omitzero"`
}

// Group hands settings down to its members. A zero field says nothing.
type Group struct {
	ID          int64          `json:"id"`
	Name        string         `json:"name"`
	Comment     string         `json:"comment,omitempty"`
	Home        string         `json:"home,omitempty"` // template: %u user, %g group
	Mounts      []Mount        `json:"mounts,omitempty"`
	Rules       []Rule         `json:"rules,omitempty"`
	Quota       Quota          `json:"quota,omitzero"`
	Bandwidth   Bandwidth      `json:"bandwidth,omitzero"`
	MaxSessions int            `json:"max_sessions,omitempty"`
	Protocols   []string       `json:"protocols,omitempty"`
	Networks    []netip.Prefix `json:"networks,omitempty"`
	Hours       []Hours        `json:"hours,omitempty"`
	Auth        []string       `json:"auth,omitempty"` // factors needed to log in, in this order
	CreatedAt   time.Time      `json:"created_at,omitzero"`
	UpdatedAt   time.Time      `json:"updated_at,omitzero"`
}

// Policy is what holds for a session: a user with its groups folded in.
type Policy struct {
	User        string
	UserID      int64
	Groups      []string // names
	Mounts      []Mount  // the home first, as Path "/"
	Rules       []Rule   // sorted by descending length of Path
	Quota       Quota
	Bandwidth   Bandwidth
	MaxSessions int
}
