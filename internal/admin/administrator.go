package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// AdministratorSettings is what may be said about an administrator; nil stays.
type AdministratorSettings struct {
	Comment  *string   `json:"comment,omitempty"`
	Scopes   *[]string `json:"scopes,omitempty"`
	Groups   *[]string `json:"groups,omitempty"` // limits it to members of these; empty: everybody
	Disabled *bool     `json:"disabled,omitempty"`

	IfMatch string `json:"-"` // see Settings
}

// NewAdministrator is an administrator to create; without scopes it may read.
type NewAdministrator struct {
	Name string `json:"name"`
	AdministratorSettings
}

// NewToken is a token to create.
type NewToken struct {
	Administrator string    `json:"administrator"`
	Comment       string    `json:"comment,omitempty"`
	Scopes        []string  `json:"scopes,omitempty"` // empty: those of the administrator
	Expires       time.Time `json:"expires,omitzero"` // zero: never
	Once          bool      `json:"once,omitempty"`   // ends with its first use
}

// MadeToken is a new token with its secret, which is shown this once.
type MadeToken struct {
	account.Token
	Secret string `json:"secret"`
}

func (s *Service) mayAdmins(ctx context.Context) error {
	return errors.Join(s.may(ctx, ScopeAdmins), unlimited(ctx, "see or change administrators"))
}

// grantable refuses scopes and reach beyond those of the caller: who manages
// administrators must not make a stronger one.
func grantable(ctx context.Context, scopes []string) error {
	p := principal(ctx)
	if p == nil {
		return nil
	}
	for _, sc := range scopes {
		if !slices.Contains(p.Scopes, Scope(sc)) {
			return fault.Text(fault.Denied, fmt.Sprintf("%s cannot give the scope %q, which it does not have", p.Name, sc))
		}
	}
	return nil
}

func (set AdministratorSettings) apply(a *account.Administrator) error {
	if set.Scopes != nil {
		scopes, err := ParseScopes(*set.Scopes)
		if err != nil {
			return err
		}
		a.Scopes = []string{}
		for _, sc := range scopes {
			a.Scopes = append(a.Scopes, string(sc))
		}
	}
	if set.Comment != nil {
		a.Comment = *set.Comment
	}
	if set.Disabled != nil {
		a.Disabled = *set.Disabled
	}
	if set.Groups != nil {
		a.Groups = slices.Clone(*set.Groups)
	}
	var bad []error
	for _, g := range a.Groups {
		if err := account.ValidName(g); err != nil {
			bad = append(bad, fmt.Errorf("group: %w", err))
		}
	}
	if len(a.Groups) > 0 {
		for _, sc := range []Scope{ScopeGroups, ScopeServer, ScopeAdmins} {
			if slices.Contains(a.Scopes, string(sc)) {
				bad = append(bad, fmt.Errorf("an administrator who is limited to groups cannot have the scope %q, which has no such limit", sc))
			}
		}
	}
	if strings.ContainsFunc(a.Comment, func(r rune) bool { return r < ' ' }) {
		bad = append(bad, errors.New("the comment contains control characters"))
	}
	return invalid(bad)
}

// CreateAdministrator makes an administrator. Faults: Invalid, Exist, Denied, Unavailable.
func (s *Service) CreateAdministrator(ctx context.Context, n NewAdministrator) (account.Administrator, error) {
	a := account.Administrator{Name: n.Name, Scopes: []string{string(ScopeRead)}}
	if err := errors.Join(s.mayAdmins(ctx), account.ValidName(n.Name)); err != nil {
		return a, err
	}
	if err := n.apply(&a); err != nil {
		return a, err
	}
	if err := errors.Join(grantable(ctx, a.Scopes), s.groupsExist(ctx, a.Groups)); err != nil {
		return a, err
	}
	made, err := s.store.CreateAdministrator(ctx, a)
	if fault.KindOf(err) == fault.Exist {
		err = fault.Text(fault.Exist, fmt.Sprintf("there is an administrator %s already", a.Name))
	}
	if err != nil {
		return a, err
	}
	s.record(ctx, "", "administrator "+a.Name+" "+whole("made", nil, made))
	return made, nil
}

func (s *Service) groupsExist(ctx context.Context, names []string) error {
	_, err := s.inherit(ctx, account.User{Groups: names})
	return err
}

// UpdateAdministrator changes what set gives. Faults: Invalid, NotExist, Denied, and ErrConflict.
func (s *Service) UpdateAdministrator(ctx context.Context, name string, set AdministratorSettings) (account.Administrator, error) {
	if err := errors.Join(s.mayAdmins(ctx), account.ValidName(name)); err != nil {
		return account.Administrator{}, err
	}
	if set.Groups != nil {
		if err := s.groupsExist(ctx, *set.Groups); err != nil {
			return account.Administrator{}, err
		}
	}
	var before, after account.Administrator
	err := s.store.UpdateAdministrator(ctx, name, func(a *account.Administrator) error {
		before = *a
		if set.IfMatch != "" && set.IfMatch != Version(*a) {
			return ErrConflict
		}
		// Neither what it had nor what it gets may be beyond the caller.
		if err := grantable(ctx, a.Scopes); err != nil {
			return err
		}
		if err := set.apply(a); err != nil {
			return err
		}
		after = *a
		return grantable(ctx, a.Scopes)
	})
	if err != nil {
		return before, noAdministrator(name, err)
	}
	s.record(ctx, "", "administrator "+name+" changed: "+difference(before, after))
	return s.Administrator(ctx, name)
}

// DeleteAdministrator removes one and its tokens. Faults: Invalid, NotExist, Denied.
func (s *Service) DeleteAdministrator(ctx context.Context, name string) error {
	a, err := s.Administrator(ctx, name)
	if err != nil {
		return err
	}
	if err := grantable(ctx, a.Scopes); err != nil {
		return err
	}
	if err := s.store.DeleteAdministrator(ctx, name); err != nil {
		return noAdministrator(name, err)
	}
	s.record(ctx, "", "administrator "+name+" "+whole("removed", a, nil))
	return nil
}

// Administrator returns one. Faults: Invalid, NotExist, Denied.
func (s *Service) Administrator(ctx context.Context, name string) (account.Administrator, error) {
	if err := errors.Join(s.mayAdmins(ctx), account.ValidName(name)); err != nil {
		return account.Administrator{}, err
	}
	a, err := s.store.AdministratorByName(ctx, name)
	return a, noAdministrator(name, err)
}

// Administrators returns a page in the order of the names; as Users.
func (s *Service) Administrators(ctx context.Context, o ListOptions) ([]account.Administrator, string, error) {
	if err := s.mayAdmins(ctx); err != nil {
		return nil, "", err
	}
	match := strings.ToLower(o.Match)
	return page(o, func(after string, limit int) ([]account.Administrator, error) {
		return s.store.ListAdministrators(ctx, after, limit)
	}, func(a account.Administrator) string { return a.Name },
		func(a account.Administrator) bool { return strings.Contains(strings.ToLower(a.Name), match) })
}

func noAdministrator(name string, err error) error {
	if fault.KindOf(err) == fault.NotExist {
		return fault.Text(fault.NotExist, fmt.Sprintf("there is no administrator %q; \"portreeve admin list\" shows them all", name))
	}
	return err
}

// tokenPrefix lets scanners for leaked secrets find ours.
const tokenPrefix = "portreeve_"

// CreateToken makes a token. Faults: Invalid, NotExist, Denied.
func (s *Service) CreateToken(ctx context.Context, n NewToken) (MadeToken, error) {
	a, err := s.Administrator(ctx, n.Administrator)
	if err != nil {
		return MadeToken{}, err
	}
	scopes, err := ParseScopes(n.Scopes)
	if err != nil {
		return MadeToken{}, err
	}
	t := account.Token{Administrator: a.Name, Comment: n.Comment, Expires: n.Expires.UTC().Truncate(time.Second), Once: n.Once}
	for _, sc := range scopes {
		if !slices.Contains(a.Scopes, string(sc)) {
			return MadeToken{}, fault.Text(fault.Invalid, fmt.Sprintf("administrator %s does not have the scope %q, so a token of it cannot have it", a.Name, sc))
		}
		t.Scopes = append(t.Scopes, string(sc))
	}
	switch {
	case !t.Expires.IsZero() && !t.Expires.After(time.Now()):
		return MadeToken{}, fault.Text(fault.Invalid, "the token would be expired already")
	case strings.ContainsFunc(t.Comment, func(r rune) bool { return r < ' ' }):
		return MadeToken{}, fault.Text(fault.Invalid, "the comment contains control characters")
	}
	granted := t.Scopes
	if len(granted) == 0 {
		granted = a.Scopes
	}
	if err := grantable(ctx, granted); err != nil {
		return MadeToken{}, err
	}
	// Who has proved more than a token may not make one that proves it for ever.
	t.Verified = false
	return s.keepToken(ctx, t)
}

// keepToken gives a token its id and secret and stores it.
func (s *Service) keepToken(ctx context.Context, t account.Token) (MadeToken, error) {
	var b [40]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	t.ID = hex.EncodeToString(b[:8])
	secret := base64.RawURLEncoding.EncodeToString(b[8:])
	made, err := s.store.CreateToken(ctx, t, hashToken(secret))
	if err != nil {
		return MadeToken{}, noAdministrator(t.Administrator, err)
	}
	s.record(ctx, "", "token "+t.ID+" "+whole("made", nil, made))
	return MadeToken{Token: made, Secret: tokenPrefix + t.ID + "_" + secret}, nil
}

// hashToken needs no salt and no stretching: the secret is 256 random bits.
func hashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Tokens returns the tokens of an administrator, of all when name is empty.
func (s *Service) Tokens(ctx context.Context, name string) ([]account.Token, error) {
	if err := s.mayAdmins(ctx); err != nil {
		return nil, err
	}
	ts, err := s.store.ListTokens(ctx, name)
	if ts == nil {
		ts = []account.Token{}
	}
	return ts, err
}

// DeleteToken ends a token. Faults: NotExist, Denied.
func (s *Service) DeleteToken(ctx context.Context, id string) error {
	if err := s.mayAdmins(ctx); err != nil {
		return err
	}
	was, _, _, err := s.store.TokenByID(ctx, id)
	if err == nil {
		err = s.store.DeleteToken(ctx, id)
	}
	if fault.KindOf(err) == fault.NotExist {
		return fault.Text(fault.NotExist, fmt.Sprintf("there is no token %q; \"portreeve token list\" shows them all", id))
	} else if err != nil {
		return err
	}
	s.record(ctx, "", "token "+id+" "+whole("removed", was, nil))
	return nil
}

// errToken is the only answer to a token that is no good, whatever is wrong.
var errToken = fault.Text(fault.Login, "the token is not valid; it may have expired or been removed")

// Authenticate finds out who holds a token. A disabled administrator, an
// expired token and a wrong one get the same answer. Faults: Login, Unavailable.
//
// A token of the identity provider is one too; see Provider.
func (s *Service) Authenticate(ctx context.Context, token string) (Principal, error) {
	if s.provider.Tokens != nil && auth.LooksLikeJWT(token) {
		return s.provided(ctx, token)
	}
	id, secret, ok := strings.Cut(strings.TrimPrefix(token, tokenPrefix), "_")
	if !ok || !strings.HasPrefix(token, tokenPrefix) || len(token) > 200 {
		return Principal{}, errToken
	}
	t, hash, a, err := s.store.TokenByID(ctx, id)
	if fault.KindOf(err) == fault.NotExist {
		return Principal{}, errToken
	}
	if err != nil {
		return Principal{}, err
	}
	now := time.Now()
	if subtle.ConstantTimeCompare([]byte(hash), []byte(hashToken(secret))) != 1 || a.Disabled || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return Principal{}, errToken
	}
	if t.Once {
		if err := s.store.DeleteToken(ctx, id); err != nil { // somebody else was first
			return Principal{}, errToken
		}
	} else if now.Sub(t.LastUsed) > time.Minute {
		if err := s.store.TouchToken(ctx, id, now); err != nil && fault.KindOf(err) != fault.NotExist {
			s.log.Warn("the time of a token's use could not be kept", "token", id, "err", err)
		}
	}
	p := Principal{Name: a.Name, Groups: a.Groups, Unverified: a.TOTP && !t.Verified}
	for _, sc := range a.Scopes {
		if len(t.Scopes) == 0 || slices.Contains(t.Scopes, sc) {
			p.Scopes = append(p.Scopes, Scope(sc))
		}
	}
	return p, nil
}
