package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/store"
)

// Enrolled is a new second factor. It is shown this once: neither the secret
// nor a recovery code can be read back.
type Enrolled struct {
	URI      string   `json:"uri"`    // otpauth://..., for a QR code
	Secret   string   `json:"secret"` // base32, to type in
	Recovery []string `json:"recovery_codes"`
}

// String keeps the secret out of every formatted print.
func (Enrolled) String() string { return "***" }

// issuer is what an authenticator shows above the codes.
const issuer = "Portreeve"

// EnableTOTP gives a user a second factor. One that is there is not replaced,
// so that nobody can take it over unnoticed: disable it first. Sessions that
// logged in without a code end. Faults: Invalid, NotExist, Exist, Denied.
func (s *Service) EnableTOTP(ctx context.Context, name string) (Enrolled, error) {
	u, err := s.codesOf(ctx, name)
	if err != nil {
		return Enrolled{}, err
	}
	if u.TOTP {
		return Enrolled{}, fault.Text(fault.Exist, fmt.Sprintf("%s has a second factor already; end it first with \"portreeve user totp disable %s\"", name, name))
	}
	e, err := s.enrol(ctx, store.UserCodes, name)
	if err == nil {
		s.changed(ctx, name, "second factor enabled: totp false -> true")
	}
	return e, err
}

// DisableTOTP ends a user's second factor and its recovery codes.
// Faults: Invalid, NotExist, Denied.
func (s *Service) DisableTOTP(ctx context.Context, name string) error {
	if _, err := s.codesOf(ctx, name); err != nil {
		return err
	}
	if err := s.store.SetTOTP(ctx, store.UserCodes, name, "", nil); err != nil {
		return missing(name, err)
	}
	s.changed(ctx, name, "second factor disabled: totp true -> false")
	return nil
}

// NewRecovery replaces a user's recovery codes. Faults: Invalid, NotExist, Denied.
func (s *Service) NewRecovery(ctx context.Context, name string) ([]string, error) {
	if _, err := s.codesOf(ctx, name); err != nil {
		return nil, err
	}
	codes, err := s.recovery(ctx, store.UserCodes, name)
	if err == nil {
		s.changed(ctx, name, "recovery codes replaced")
	}
	return codes, err
}

// codesOf is the account whose second factor is to be changed.
func (s *Service) codesOf(ctx context.Context, name string) (account.User, error) {
	if err := errors.Join(account.ValidName(name), s.may(ctx, ScopeUsers)); err != nil {
		return account.User{}, err
	}
	u, err := s.store.UserByName(ctx, name)
	if err == nil {
		err = reach(ctx, u)
	}
	return u, missing(name, err)
}

func (s *Service) enrol(ctx context.Context, h store.CodeHolder, name string) (Enrolled, error) {
	k, err := auth.NewTOTP(issuer, name)
	if err != nil {
		return Enrolled{}, err
	}
	codes, hashes := auth.NewRecovery()
	if err := s.store.SetTOTP(ctx, h, name, k.Secret, hashes); err != nil {
		return Enrolled{}, err
	}
	return Enrolled{URI: k.URI, Secret: k.Secret, Recovery: codes}, nil
}

func (s *Service) recovery(ctx context.Context, h store.CodeHolder, name string) ([]string, error) {
	codes, hashes := auth.NewRecovery()
	err := s.store.SetRecovery(ctx, h, name, hashes)
	if fault.KindOf(err) == fault.Invalid {
		return nil, fault.Text(fault.Invalid, fmt.Sprintf("%s has no second factor, so recovery codes would be of no use", name))
	}
	return codes, err
}

// EnableAdministratorTOTP gives an administrator a second factor: from now on
// its tokens do nothing but VerifyToken. Faults: Invalid, NotExist, Exist, Denied.
func (s *Service) EnableAdministratorTOTP(ctx context.Context, name string) (Enrolled, error) {
	a, err := s.administratorFor(ctx, name)
	if err != nil {
		return Enrolled{}, err
	}
	if a.TOTP {
		return Enrolled{}, fault.Text(fault.Exist, fmt.Sprintf("%s has a second factor already; end it first with \"portreeve admin totp disable %s\"", name, name))
	}
	e, err := s.enrol(ctx, store.AdministratorCodes, name)
	if err == nil {
		s.record(ctx, "", "administrator "+name+": second factor enabled: totp false -> true")
	}
	return e, err
}

// DisableAdministratorTOTP ends it. Faults: Invalid, NotExist, Denied.
func (s *Service) DisableAdministratorTOTP(ctx context.Context, name string) error {
	if _, err := s.administratorFor(ctx, name); err != nil {
		return err
	}
	if err := s.store.SetTOTP(ctx, store.AdministratorCodes, name, "", nil); err != nil {
		return noAdministrator(name, err)
	}
	s.record(ctx, "", "administrator "+name+": second factor disabled: totp true -> false")
	return nil
}

// NewAdministratorRecovery replaces the recovery codes. Faults: Invalid, NotExist, Denied.
func (s *Service) NewAdministratorRecovery(ctx context.Context, name string) ([]string, error) {
	if _, err := s.administratorFor(ctx, name); err != nil {
		return nil, err
	}
	codes, err := s.recovery(ctx, store.AdministratorCodes, name)
	if err == nil {
		s.record(ctx, "", "administrator "+name+": recovery codes replaced")
	}
	return codes, err
}

// administratorFor is an administrator the caller is strong enough to change.
func (s *Service) administratorFor(ctx context.Context, name string) (account.Administrator, error) {
	a, err := s.Administrator(ctx, name)
	if err == nil {
		err = grantable(ctx, a.Scopes)
	}
	return a, err
}

// verifiedFor is how long a token lives that was made with a code.
const verifiedFor = 12 * time.Hour

// VerifyToken takes the code of the administrator who calls and gives a token
// of the same scopes for 12 hours, which needs no further code.
// Faults: Invalid, Login, Unavailable.
func (s *Service) VerifyToken(ctx context.Context, code string) (MadeToken, error) {
	p := principal(ctx)
	if p == nil {
		return MadeToken{}, fault.Text(fault.Invalid, "there is nobody to verify on the control socket")
	}
	if len(p.Scopes) == 0 { // of a token it would mean all that the administrator may
		return MadeToken{}, fault.Text(fault.Denied, "this token has no scope that its administrator still has; make another one")
	}
	secret, err := s.store.AdministratorSecret(ctx, p.Name)
	if err != nil {
		return MadeToken{}, err
	}
	if secret == "" {
		return MadeToken{}, fault.Text(fault.Invalid, fmt.Sprintf("%s has no second factor; its tokens work as they are", p.Name))
	}
	ok, err := auth.CheckCode(secret, code, time.Now(),
		func(step int64) (bool, error) { return s.store.UseStep(ctx, store.AdministratorCodes, p.Name, step) },
		func(hash string) (bool, error) {
			return s.store.UseRecovery(ctx, store.AdministratorCodes, p.Name, hash)
		})
	switch {
	case err != nil:
		return MadeToken{}, err
	case !ok:
		s.record(ctx, "", "administrator "+p.Name+": a wrong or used code was given")
		return MadeToken{}, fault.Text(fault.Login, "the code is wrong, or was used before")
	}
	t := account.Token{Administrator: p.Name, Comment: "verified by a code", Verified: true, Expires: time.Now().Add(verifiedFor).UTC().Truncate(time.Second)}
	for _, sc := range p.Scopes {
		t.Scopes = append(t.Scopes, string(sc))
	}
	return s.keepToken(ctx, t)
}
