package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Batch is a set of accounts to make together, as an import has them.
type Batch struct {
	Groups []account.Group `json:"groups,omitempty"`
	Users  []BatchUser     `json:"users,omitempty"`
}

// BatchUser is an account with its password, as a hash of any format that can
// be verified, or in clear.
type BatchUser struct {
	account.User
	Hash     string `json:"password_hash,omitempty"`
	Password string `json:"password,omitempty"`
}

// String keeps the password out of every formatted print.
func (b BatchUser) String() string { return b.Name }

// Made is what became of a batch.
type Made struct {
	Users  int      `json:"users"`
	Groups int      `json:"groups"`
	Notes  []string `json:"notes,omitempty"` // homes that could not be made
}

// CreateAll makes all accounts of a batch or, when one cannot be made, none;
// the error names every one. A home that cannot be made is a note: the files
// may be moved here later. Faults: Invalid, Exist, Denied, Unavailable.
func (s *Service) CreateAll(ctx context.Context, b Batch) (Made, error) {
	if err := errors.Join(s.may(ctx, ScopeUsers), s.mayGroups(ctx)); err != nil {
		return Made{}, err
	}
	var bad []error
	fail := func(what, name string, err error) {
		if err != nil {
			bad = append(bad, fmt.Errorf("%s %s: %s", what, name, strings.ReplaceAll(causeOf(err).Error(), "\n", "; ")))
		}
	}
	for _, g := range b.Groups {
		fail("group", g.Name, s.checkGroup(g))
	}
	users := make([]account.User, len(b.Users))
	for i, n := range b.Users {
		u := n.User
		u.ID, u.PasswordHash, u.TOTP = 0, n.Hash, false
		if u.Home == "" && len(u.Groups) == 0 {
			u.Home = s.defaultHome(u.Name)
		}
		fail("user", u.Name, errors.Join(account.ValidName(u.Name), s.check(u), s.checkDirs(u)))
		if n.Password != "" && n.Hash == "" && len(bad) == 0 {
			fail("user", u.Name, s.setHash(ctx, &u, n.Password))
		}
		users[i] = u
	}
	if err := invalid(bad); err != nil {
		return Made{}, err
	}
	if err := s.store.CreateAll(ctx, b.Groups, users); err != nil {
		if k := fault.KindOf(err); k == fault.Exist || k == fault.Invalid {
			return Made{}, &fault.Error{Kind: k, Err: causeOf(err)}
		}
		return Made{}, err
	}
	m := Made{Users: len(users), Groups: len(b.Groups)}
	for _, u := range users {
		if _, err := s.makeDirs(u); err != nil {
			m.Notes = append(m.Notes, fmt.Sprintf("user %s: %v", u.Name, causeOf(err)))
		}
		s.changed(ctx, u.Name, whole("imported", nil, u))
	}
	for _, g := range b.Groups {
		s.record(ctx, "", "group "+g.Name+" "+whole("imported", nil, g))
	}
	return m, nil
}
