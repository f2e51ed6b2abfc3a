package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Code is a code by time or a recovery code, given after another factor.
type Code struct{ User, Secret string }

// NewPassword is the password that somebody who must change it has chosen.
// Old is checked again when it is given.
type NewPassword struct{ User, Old, New string }

// Username returns the name the client gave.
func (c Code) Username() string        { return c.User }
func (n NewPassword) Username() string { return n.User }
func (Code) credential()               {}
func (NewPassword) credential()        {}

// String hides the secrets from every formatted print.
func (c Code) String() string        { return c.User + ":***" }
func (n NewPassword) String() string { return n.User + ":***" }

// GoString does the same for %#v.
func (c Code) GoString() string        { return c.String() }
func (n NewPassword) GoString() string { return n.String() }

// MarshalText does the same for JSON and structured logs.
func (c Code) MarshalText() ([]byte, error)        { return []byte(c.String()), nil }
func (n NewPassword) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// More is ErrMore with the factors that may come next, as account.User.Next
// names them.
type More struct{ Next []string }

// Error implements error.
func (m *More) Error() string { return ErrMore.Error() + ": " + strings.Join(m.Next, " or ") }

// Unwrap makes it ErrMore.
func (m *More) Unwrap() error { return ErrMore }

// Codes keeps codes from being used twice; *store.DB satisfies it. Each tells
// whether this was the first use.
type Codes interface {
	TakeStep(ctx context.Context, u account.User, step int64) (bool, error)
	TakeRecovery(ctx context.Context, u account.User, hash string) (bool, error)
}

// Factors puts single credentials to Next and decides by account.User.Next
// whether what a connection has proved is enough: Verify then returns the
// identity, or with an *More what is missing; the identity's Proved says in
// either case what this credential has proved. A credential out of turn is
// refused before it is looked at. Fields are set before first use.
type Factors struct {
	Verifier Verifier
	Users    Users
	Codes    Codes
	// Change stores a new password that its owner has chosen; fault.Invalid
	// when it is not good enough, with a text for the owner.
	Change func(ctx context.Context, u account.User, password string) error
	Waste  func(ctx context.Context, secret string) error // of Hasher; nil: nothing is wasted
	Now    func() time.Time                               // nil: time.Now
}

// FactorOf names the factor that a method of Identity stands for.
func FactorOf(method string) string {
	switch method {
	case "key", "ssh-certificate", "certificate":
		return account.FactorKey
	}
	return account.FactorPassword
}

// Verify implements Verifier. Besides its errors it returns fault.Invalid, for
// a new password that is not good enough.
func (f *Factors) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	u, err := f.effective(ctx, c.Username(), from.Granted)
	if err != nil {
		return Identity{}, err
	}
	if len(from.Proved) > 0 && from.Stamp != stamp(&u) {
		return Identity{}, bad("the credentials of the account were changed during the log-in; what was proved before counts no more")
	}
	next, _ := u.Next(from.Proved)
	var id Identity
	switch c := c.(type) {
	case Code:
		if !slices.Contains(next, account.FactorCode) {
			return Identity{}, bad("a code is not what this account needs now")
		}
		err = f.code(ctx, u, c.Secret)
		id = Identity{User: u, Method: account.FactorCode, Proved: []string{account.FactorCode}}
	case NewPassword:
		id, err = f.change(ctx, from, u, c, next)
	case Password:
		id, err = f.password(ctx, from, u, c, next)
	default:
		if !slices.Contains(next, account.FactorKey) {
			if _, shown := c.(ClientCert); shown && len(next) > 0 {
				return Identity{}, &More{next} // it came with the handshake, nobody chose the moment
			}
			return Identity{}, bad(outOfTurn(u, account.FactorKey))
		}
		if id, err = f.Verifier.Verify(ctx, from, c); err == nil {
			id.Proved = []string{FactorOf(id.Method)}
		}
	}
	if err != nil {
		return Identity{}, err
	}
	return f.enough(ctx, from, id)
}

// enough decides whether id ends the log-in. The row may be new by now, or have
// groups of a directory, so its rules are read again.
func (f *Factors) enough(ctx context.Context, from Origin, id Identity) (Identity, error) {
	if id.Method == "anonymous" {
		return id, nil
	}
	// A later factor is judged by the row alone, which does not have the groups
	// that came with an earlier one; they hold all the same.
	id.Granted = join(from.Granted, id.Granted)
	id.User.Groups = join(id.User.Groups, id.Granted)
	id.Stamp = stamp(&id.User)
	u, err := f.fold(ctx, id.User)
	if err != nil {
		return Identity{}, err
	}
	next, done := u.Next(append(slices.Clone(from.Proved), id.Proved...))
	switch {
	case done:
		return id, nil
	case len(next) == 0:
		return Identity{}, bad(outOfTurn(u, strings.Join(id.Proved, " and ")))
	}
	return id, &More{next}
}

// stamp is a digest of what proves who u is. It is the same for the row with
// and without its groups' settings.
func stamp(u *account.User) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q %q %q %q", u.ID, u.PasswordHash, u.TOTPSecret, u.Keys, u.Certificates))
	return string(sum[:])
}

// join returns the elements of both, each once, without changing either.
func join(a, b []string) []string {
	out := slices.Clip(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func outOfTurn(u account.User, factor string) string {
	if len(u.Auth) == 0 {
		return "the account may not log in with a " + factor
	}
	return "the account needs " + strings.Join(u.Auth, ", then ") + "; a " + factor + " came out of turn"
}

func (f *Factors) password(ctx context.Context, from Origin, u account.User, p Password, next []string) (Identity, error) {
	code := ""
	switch {
	case slices.Contains(next, account.FactorPassword):
		after, _ := u.Next(append(slices.Clone(from.Proved), account.FactorPassword))
		if p.Joined && slices.Equal(after, []string{account.FactorCode}) {
			var ok bool
			if p.Secret, code, ok = splitCode(p.Secret); !ok {
				// Whoever knows the password alone learns nothing from this.
				return Identity{}, f.refuse(ctx, p.Secret, "the code is missing; it belongs right behind the password")
			}
		}
	case p.Joined && slices.Contains(next, account.FactorCode):
		return Identity{User: u, Method: account.FactorCode, Proved: []string{account.FactorCode}}, f.code(ctx, u, p.Secret)
	default:
		return Identity{}, f.refuse(ctx, p.Secret, outOfTurn(u, account.FactorPassword))
	}
	id, err := f.Verifier.Verify(ctx, from, p)
	if err != nil {
		return Identity{}, err
	}
	id.Proved = []string{account.FactorPassword}
	if code == "" {
		return id, nil
	}
	id.Method += "+" + account.FactorCode
	id.Proved = append(id.Proved, account.FactorCode)
	return id, f.code(ctx, u, code)
}

// refuse takes as long as a wrong password does.
func (f *Factors) refuse(ctx context.Context, secret, reason string) error {
	if f.Waste != nil {
		if err := f.Waste(ctx, secret); err != nil {
			return err
		}
	}
	return bad(reason)
}

func (f *Factors) code(ctx context.Context, u account.User, code string) error {
	if u.TOTPSecret == "" {
		return bad("the account has no second factor yet; make one with: portreeve user totp enable " + u.Name)
	}
	now := time.Now()
	if f.Now != nil {
		now = f.Now()
	}
	used := false
	once := func(fresh bool, err error) (bool, error) { used = !fresh; return fresh, err }
	ok, err := CheckCode(u.TOTPSecret, code, now,
		func(step int64) (bool, error) { return once(f.Codes.TakeStep(ctx, u, step)) },
		func(hash string) (bool, error) { return once(f.Codes.TakeRecovery(ctx, u, hash)) })
	switch {
	case err != nil:
		return fault.Wrap("check the code of "+u.Name, "", err)
	case ok:
		return nil
	case used:
		return bad("the code was used before, or is no recovery code")
	}
	return bad("wrong code")
}

func (f *Factors) change(ctx context.Context, from Origin, u account.User, n NewPassword, next []string) (Identity, error) {
	switch {
	case !slices.Contains(next, account.FactorChange):
		return Identity{}, bad("no new password is needed now")
	case f.Change == nil || u.PasswordHash == "":
		// One that is kept elsewhere proved itself there. A password made here
		// would take its place, and outlive the account's end in the directory.
		return Identity{}, fault.Text(fault.Unsupported, "the password of this account is not kept here and must be changed where it is; then ask the administrator to let you in again")
	}
	if n.Old != "" {
		// One try of the old password in its own right, apart from the factors.
		if _, err := f.Verifier.Verify(ctx, from, Password{User: n.User, Secret: n.Old}); err != nil {
			return Identity{}, err
		}
		if n.Old == n.New {
			return Identity{}, fault.Text(fault.Invalid, "the new password is the old one; choose another")
		}
	}
	if err := f.Change(ctx, u, n.New); err != nil {
		return Identity{}, err
	}
	id := Identity{Method: account.FactorChange, Proved: []string{account.FactorChange}}
	var err error
	id.User, err = f.Users.UserByName(ctx, u.Name)
	return id, err
}

// Probe implements Prober: a key is asked about only when its turn has come.
func (f *Factors) Probe(ctx context.Context, from Origin, k PublicKey) error {
	u, err := f.effective(ctx, k.User, from.Granted)
	if err != nil {
		return err
	}
	if len(from.Proved) > 0 && from.Stamp != stamp(&u) {
		return bad("the credentials of the account were changed during the log-in")
	}
	if next, _ := u.Next(from.Proved); !slices.Contains(next, account.FactorKey) {
		return bad(outOfTurn(u, account.FactorKey))
	}
	p, ok := f.Verifier.(Prober)
	if !ok {
		return bad("no way to log in with a key")
	}
	return p.Probe(ctx, from, k)
}

// effective is the account with its groups and the granted ones; one that is
// not there, or cannot be, has the rules of an empty one, which the verifiers
// will refuse.
func (f *Factors) effective(ctx context.Context, name string, granted []string) (account.User, error) {
	var u account.User
	if account.ValidName(name) == nil {
		var err error
		if u, err = f.Users.UserByName(ctx, name); err != nil {
			if fault.KindOf(err) != fault.NotExist && !errors.Is(err, ErrBad) {
				return account.User{}, fault.Wrap("look up account "+name, "", err)
			}
			u = account.User{}
		}
	}
	u.Groups = join(u.Groups, granted)
	return f.fold(ctx, u)
}

func (f *Factors) fold(ctx context.Context, u account.User) (account.User, error) {
	g, ok := f.Users.(Groups)
	if !ok || len(u.Groups) == 0 {
		return u, nil
	}
	groups, err := g.GroupsOf(ctx, u)
	if err != nil {
		return u, fault.Wrap("look up groups of "+u.Name, "", err)
	}
	return u.Inherit(groups), nil
}
