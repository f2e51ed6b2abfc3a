package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// AnonymousVerifier lets the names "anonymous" and "ftp" in with any password,
// as Account. It is not part of a Chain unless the configuration asks for it.
// A password is by custom an e-mail address; it is not checked. Fields are set
// before first use.
type AnonymousVerifier struct {
	Account account.User     // see account.Anonymous
	Now     func() time.Time // nil: time.Now
}

// Verify implements Verifier. Other names and credentials are refused with ErrBad.
func (v *AnonymousVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	p, ok := c.(Password)
	if !ok || !slices.Contains(account.AnonymousNames[:], p.User) {
		return Identity{}, bad("not anonymous")
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	reason, err := usable(ctx, nil, from, v.Account, now)
	if err != nil {
		return Identity{}, err
	}
	if reason != "" {
		return Identity{}, bad(reason)
	}
	return Identity{User: v.Account, Method: "anonymous"}, nil
}

// Chain asks verifiers in order, each only for what it Accepts. The first
// answer other than ErrBad is final: success, ErrMore, or a fault, because a
// verifier that is down must not be passed over. It refuses when nobody accepts.
type Chain []Verifier

// Accepter is an optional ability of a Verifier: what it cannot judge is not put to it.
type Accepter interface {
	Accepts(c Credential) bool
}

// Accepts implements Accepter.
func (v *PasswordVerifier) Accepts(c Credential) bool { _, ok := c.(Password); return ok }

// Accepts implements Accepter.
func (v *CertVerifier) Accepts(c Credential) bool { _, ok := c.(ClientCert); return ok }

// Accepts implements Accepter.
func (v *AnonymousVerifier) Accepts(c Credential) bool {
	p, ok := c.(Password)
	return ok && slices.Contains(account.AnonymousNames[:], p.User)
}

// Verify implements Verifier. Put AnonymousVerifier before PasswordVerifier, or
// every anonymous log-in pays for a password hash.
func (ch Chain) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	err := bad("no way to log in with this")
	for _, v := range ch {
		if a, ok := v.(Accepter); ok && !a.Accepts(c) {
			continue
		}
		var id Identity
		if id, err = v.Verify(ctx, from, c); err == nil || !errors.Is(err, ErrBad) {
			return id, err
		}
	}
	return Identity{}, err
}
