package auth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Groups is an optional ability of Users: the groups of a user, so that
// networks, hours and protocols that come from a group are enforced at log-in.
type Groups interface {
	GroupsOf(ctx context.Context, u account.User) ([]account.Group, error)
}

// refusal is ErrBad with a reason for the log. Its text is always that of
// ErrBad, so that printing it to a client gives nothing away.
type refusal struct{ reason string }

func (r *refusal) Error() string { return ErrBad.Error() }

// Unwrap makes it both ErrBad and a fault of kind Login.
func (r *refusal) Unwrap() []error {
	return []error{ErrBad, &fault.Error{Kind: fault.Login, Op: "log in", Err: errors.New(r.reason)}}
}

func bad(reason string) error { return &refusal{reason} }

// Reason returns why a log-in was refused, for logs and events, never for the
// client; "" when err is no refusal.
func Reason(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason
	}
	return ""
}

// PasswordVerifier checks Password credentials against stored hashes. Unknown,
// disabled, expired, key-only and password-less accounts and ones that may not
// log in from there or then cost one argon2id computation like a wrong
// password and get the same answer. Fields are set before first use.
type PasswordVerifier struct {
	Users  Users
	Hasher *Hasher
	// Rehash is called after a success when the stored hash is of another
	// format or cheaper than new ones: it should store newHash if the user's
	// hash is still oldHash. Its error is logged and does not hurt the log-in. May be nil.
	Rehash func(ctx context.Context, user account.User, oldHash, newHash string) error
	// Floor makes every refusal take a multiple of it, which hides how an old
	// hash format differs from argon2id in time; 0 is off.
	Floor  time.Duration
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// Verify implements Verifier. Other credentials than Password are refused with ErrBad.
func (v *PasswordVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	p, ok := c.(Password)
	if !ok {
		return Identity{}, bad("not a password")
	}
	began := time.Now()
	id, err := v.verify(ctx, from, p)
	if v.Floor > 0 && errors.Is(err, ErrBad) {
		t := time.NewTimer(v.Floor - time.Since(began)%v.Floor)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return Identity{}, fault.New(fault.Canceled, "log in", "", context.Cause(ctx))
		}
	}
	return id, err
}

func (v *PasswordVerifier) verify(ctx context.Context, from Origin, p Password) (Identity, error) {
	user, reason, err := lookUp(ctx, v.Users, from, p.User, v.now())
	if err != nil {
		return Identity{}, err
	}
	switch {
	case CheckPassword(p.Secret) != nil:
		// Before anything that depends on the account, so equal for all.
		return Identity{}, bad(CheckPassword(p.Secret).Error())
	case reason != "":
	case user.KeyOnly:
		reason = "the account may log in with a key only"
	case user.PasswordHash == "":
		reason = "the account has no password"
	}
	if reason != "" {
		if err := v.Hasher.Waste(ctx, p.Secret); err != nil {
			return Identity{}, err
		}
		return Identity{}, bad(reason)
	}
	match, err := v.Hasher.Verify(ctx, user.PasswordHash, p.Secret)
	switch {
	case fault.KindOf(err) == fault.Unsupported:
		// A row we cannot read must look like a wrong password outside and be loud inside.
		v.log().Error("stored password cannot be checked; set a new one with: portreeve user passwd "+user.Name, "user", user.Name, "err", err)
		if err := v.Hasher.Waste(ctx, p.Secret); err != nil {
			return Identity{}, err
		}
		return Identity{}, bad("the stored password hash cannot be read")
	case err != nil:
		return Identity{}, err
	case !match:
		return Identity{}, bad("wrong password")
	}
	user.PasswordHash = v.rehash(ctx, user, p.Secret)
	return Identity{User: user, Method: "password"}, nil
}

// rehash returns the hash that is stored from now on.
func (v *PasswordVerifier) rehash(ctx context.Context, user account.User, secret string) string {
	if v.Rehash == nil || !v.Hasher.Outdated(user.PasswordHash) {
		return user.PasswordHash
	}
	hash, err := v.Hasher.Hash(ctx, secret)
	if err == nil {
		err = v.Rehash(ctx, user, user.PasswordHash, hash)
	}
	if err != nil {
		v.log().Warn("password hash could not be renewed; it will be tried at the next log-in", "user", user.Name, "err", err)
		return user.PasswordHash
	}
	return hash
}

func (v *PasswordVerifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v *PasswordVerifier) log() *slog.Logger {
	if v.Logger != nil {
		return v.Logger
	}
	return slog.New(slog.DiscardHandler)
}

// lookUp finds the account and decides whether it may be used from there at
// all. reason is "" when it may. err is for what is nobody's fault: the store
// is down. Names that could not be an account's do not reach the store.
func lookUp(ctx context.Context, users Users, from Origin, name string, now time.Time) (user account.User, reason string, err error) {
	if account.ValidName(name) != nil {
		return user, "no account can have such a name", nil
	}
	user, err = users.UserByName(ctx, name)
	switch {
	case fault.KindOf(err) == fault.NotExist:
		return account.User{}, "no such account", nil
	case err != nil:
		return account.User{}, "", fault.Wrap("look up account "+name, "", err)
	}
	reason, err = usable(ctx, users, from, user, now)
	return user, reason, err
}

func usable(ctx context.Context, users Users, from Origin, user account.User, now time.Time) (reason string, err error) {
	effective := user
	if g, ok := users.(Groups); ok && len(user.Groups) > 0 {
		groups, err := g.GroupsOf(ctx, user)
		if err != nil {
			return "", fault.Wrap("look up groups of "+user.Name, "", err)
		}
		effective = user.Inherit(groups)
	}
	protocol := from.Protocol
	if protocol == "ftp" && from.TLS && !effective.AllowsProtocol("ftp") {
		// Explicit TLS on an ftp listener is FTPS too; "ftps" alone means: encrypted, either way.
		protocol = "ftps"
	}
	if err := effective.Usable(now, from.Remote.Addr(), protocol); err != nil {
		return err.Error(), nil
	}
	return "", nil
}
