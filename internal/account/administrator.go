package account

import "time"

// Administrator may use the administrative interface from elsewhere, by
// tokens. It is not a user: it has no home and no files.
type Administrator struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Comment   string    `json:"comment,omitempty"`
	Scopes    []string  `json:"scopes"`           // what it may do; see package admin
	Groups    []string  `json:"groups,omitempty"` // limits it to members of these; empty: everybody
	Disabled  bool      `json:"disabled,omitempty"`
	TOTP      bool      `json:"totp,omitempty"` // tokens need a code before they can be used; see Token.Verified
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// Token is one key of an administrator. The secret is not in it and not in
// the database: only its hash is kept.
type Token struct {
	ID            string    `json:"id"` // public part
	Administrator string    `json:"administrator"`
	Comment       string    `json:"comment,omitempty"`
	Scopes        []string  `json:"scopes,omitempty"`   // less than the administrator's; empty: all of those
	Expires       time.Time `json:"expires,omitzero"`   // zero: never
	Once          bool      `json:"once,omitempty"`     // ends with its first use
	Verified      bool      `json:"verified,omitempty"` // was given for another token and a code
	CreatedAt     time.Time `json:"created_at,omitzero"`
	LastUsed      time.Time `json:"last_used,omitzero"` // within a minute
}
