package api

import (
	"context"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
)

// Status is what a running server says about itself.
type Status struct {
	Version      string          `json:"version"`
	PID          int             `json:"pid"`
	Started      time.Time       `json:"started"`
	ConfigFile   string          `json:"config_file,omitempty"` // empty: quick start
	DataDir      string          `json:"data_dir"`
	Stopping     bool            `json:"stopping,omitempty"` // no new sessions; transfers are being drained
	Listeners    []Listener      `json:"listeners"`
	Certificates []Certificate   `json:"certificates,omitempty"`
	PassiveInUse int             `json:"passive_in_use"`
	BytesDown    int64           `json:"bytes_down"` // sent to clients since the start
	BytesUp      int64           `json:"bytes_up"`   // received from clients since the start
	Warnings     []string        `json:"warnings,omitempty"`
	Sessions     []admin.Session `json:"sessions"`
}

// Listener is one bound control socket.
type Listener struct {
	Name         string `json:"name"`
	Protocol     string `json:"protocol"`                // ftp, ftps
	Address      string `json:"address"`                 // the bound address:port
	TLS          string `json:"tls"`                     // off, offered, required, implicit
	Passive      string `json:"passive,omitempty"`       // "50000-50999"
	Announce     string `json:"announce,omitempty"`      // what PASV names
	ActiveSource string `json:"active_source,omitempty"` // "port 20", or why not
	Proxy        bool   `json:"proxy,omitempty"`         // a PROXY header is expected
	Sessions     int    `json:"sessions"`
}

// Certificate describes a certificate in use.
type Certificate struct {
	Names       []string  `json:"names"`
	Fingerprint string    `json:"fingerprint"` // SHA-256, hex
	NotAfter    time.Time `json:"not_after"`
	SelfSigned  bool      `json:"self_signed"`
	Source      string    `json:"source"` // the file, or "made by portreeve"
}

// Reloaded is the outcome of a reload that took effect.
type Reloaded struct {
	Changed []string `json:"changed,omitempty"` // keys now in force
	Restart []string `json:"restart,omitempty"` // keys that differ but need a restart
	Opened  []string `json:"opened,omitempty"`  // listeners bound
	Closed  []string `json:"closed,omitempty"`  // listeners closed; their sessions live on
}

// Server is what the API needs from the running server besides the admin
// service. All methods may be called concurrently.
type Server interface {
	Status(ctx context.Context) (Status, error)
	// Reload applies the config file again. On error nothing has changed; the
	// error text has one problem on each line, each with file:line.
	Reload(ctx context.Context) (Reloaded, error)
	// Stop starts an orderly stop and returns at once.
	Stop(reason string)
}

// UserList is the answer of GET /v1/users.
type UserList struct {
	Users []account.User `json:"users"`
	Next  string         `json:"next,omitempty"` // value of "after" for the next page
}

// SessionList is the answer of GET /v1/sessions.
type SessionList struct {
	Sessions []admin.Session `json:"sessions"`
}

// GroupList is the answer of GET /v1/groups.
type GroupList struct {
	Groups []account.Group `json:"groups"`
	Next   string          `json:"next,omitempty"`
}

// MemberList is the answer of GET /v1/groups/{name}/members.
type MemberList struct {
	Members []string `json:"members"`
	Next    string   `json:"next,omitempty"`
}

// AdministratorList is the answer of GET /v1/administrators.
type AdministratorList struct {
	Administrators []account.Administrator `json:"administrators"`
	Next           string                  `json:"next,omitempty"`
}

// TokenList is the answer of GET /v1/tokens.
type TokenList struct {
	Tokens []account.Token `json:"tokens"`
}

// Provider is an identity provider and what a client needs to log in there.
type Provider = admin.SignIn

// Me is the answer of GET /v1/me.
type Me struct {
	Name       string   `json:"name"` // "" on the control socket
	Scopes     []string `json:"scopes"`
	Groups     []string `json:"groups,omitempty"`     // limited to members of these
	Unverified bool     `json:"unverified,omitempty"` // a code must be given first: POST /v1/verification
}

// SignIn is the answer of GET /v1/sign-in.
type SignIn struct {
	OIDC *Provider `json:"oidc,omitempty"` // the identity provider whose tokens are taken; absent: none
}
