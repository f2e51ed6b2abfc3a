// Package auth owns the verification of who somebody is. It does not own what
// they may do (account) nor whether they may connect (session, limits).
package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"

	"github.com/portreeve/portreeve/internal/account"
)

// Origin says where a connection comes from and how it reached us.
type Origin struct {
	Protocol string         // "ftp", "ftps", "sftp", ...
	Listener string         // name of the [[listen]] entry
	Remote   netip.AddrPort // the client, after a trusted PROXY header
	Local    netip.AddrPort
	TLS      bool   // the control connection is protected now
	Host     string // HOST command or SNI, "" when none
	// Proved are the factors that the connection has proved already for the
	// user who logs in now, in order; the session manager keeps them.
	Proved []string
	// Stamp and Granted are those of the identity that proved the last of them.
	Stamp   string
	Granted []string
}

// Credential is what a client offers. It is sealed: the types below are all there are.
type Credential interface {
	Username() string
	credential()
}

// Password is a name and a clear-text password.
type Password struct {
	User, Secret string
	// Joined: the protocol has no way to ask for a code, so where the account
	// needs one it is at the end of Secret.
	Joined bool
}

// ClientCert is a TLS client certificate that the handshake has verified
// (chain) or at least proved possession of (Chains empty).
type ClientCert struct {
	User   string
	Leaf   *x509.Certificate
	Chains [][]*x509.Certificate
}

// PublicKey is an SSH key whose signature has been verified by the transport.
type PublicKey struct {
	User string
	Key  []byte // wire form (ssh.PublicKey.Marshal)
}

// Username returns the name the client gave.
func (p Password) Username() string   { return p.User }
func (c ClientCert) Username() string { return c.User }
func (k PublicKey) Username() string  { return k.User }
func (Password) credential()          {}
func (ClientCert) credential()        {}
func (PublicKey) credential()         {}

// String hides the secret from every formatted print.
func (p Password) String() string { return p.User + ":***" }

// GoString does the same for %#v.
func (p Password) GoString() string { return p.String() }

// MarshalText does the same for JSON and structured logs.
func (p Password) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Identity is a verified person.
type Identity struct {
	User   account.User
	Method string   // "password", "certificate", "key", "anonymous", ...; several are joined by "+"
	Proved []string // the factors this credential has proved; set by Factors
	// Granted are groups of User that are not in its row: a directory or an
	// external check vouches for them, for this log-in and its session.
	Granted []string
	// Stamp changes with everything in the row that proves who User is; set by
	// Factors. With another stamp the factors proved before are worth nothing.
	Stamp string
}

// ErrMore means the credential was right and another factor is needed.
var ErrMore = errors.New("another factor is needed")

// ErrBad is the only answer for unknown user, wrong password and closed account alike.
var ErrBad = errors.New("user name or password is wrong")

// Verifier checks a credential. It returns ErrBad, ErrMore, or a fault of kind
// Limit, Unavailable, Canceled. Safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, from Origin, c Credential) (Identity, error)
}

// Users is where accounts are looked up; *store.DB satisfies it.
// fault.NotExist when there is none of that name.
type Users interface {
	UserByName(ctx context.Context, name string) (account.User, error)
}
