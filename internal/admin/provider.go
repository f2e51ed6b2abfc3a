package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// Provider is an identity provider whose tokens stand for administrators. Who
// its tokens name is the administrator of that name here, with the scopes,
// groups and second factor kept here; a disabled one stays out whatever the
// provider says. Who is none gets the first role that one of its groups has.
type Provider struct {
	// Tokens verifies one; *auth.OIDC does. Faults: Login, Unavailable.
	Tokens interface {
		Verify(ctx context.Context, token string) (auth.Claims, error)
	}
	Names  map[string]string // value of the claim -> administrator, where the two differ
	Roles  []Role            // in order: the first that fits counts
	SignIn SignIn            // what a command line needs to get a token
}

// Role is what members of a group at the provider may do.
type Role struct {
	Group  string
	Scopes []Scope
	Groups []string // limits it to members of these groups here; empty: everybody
}

// SignIn tells a client where to log in.
type SignIn struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
}

// SignIn returns it, nil when there is no provider.
func (s *Service) SignIn() *SignIn {
	if s.provider.Tokens == nil {
		return nil
	}
	in := s.provider.SignIn
	return &in
}

// ParseNames reads lines VALUE=ADMINISTRATOR. fault.Invalid.
func ParseNames(lines []string) (map[string]string, error) {
	m := map[string]string{}
	for _, l := range lines {
		i := strings.LastIndexByte(l, '=')
		if i < 1 || account.ValidName(l[i+1:]) != nil {
			return nil, fault.Text(fault.Invalid, fmt.Sprintf("%q is not VALUE=ADMINISTRATOR, such as auth0|1234=ops", l))
		}
		m[l[:i]] = l[i+1:]
	}
	return m, nil
}

// ParseRole reads GROUP=SCOPES or GROUP=SCOPES@GROUPS. fault.Invalid.
func ParseRole(line string) (Role, error) {
	i := strings.LastIndexByte(line, '=')
	if i < 1 {
		return Role{}, fault.Text(fault.Invalid, fmt.Sprintf("%q is not GROUP=SCOPES, such as ftp-admins=all or helpdesk=read,users@partners", line))
	}
	r := Role{Group: strings.TrimSpace(line[:i])}
	scopes, groups, limited := strings.Cut(line[i+1:], "@")
	set := AdministratorSettings{Scopes: new(strings.Split(scopes, ","))}
	if limited {
		set.Groups = new(strings.Split(groups, ","))
		for i, g := range *set.Groups {
			(*set.Groups)[i] = strings.TrimSpace(g)
		}
	}
	var a account.Administrator
	if err := set.apply(&a); err != nil {
		return r, fault.Text(fault.Invalid, fmt.Sprintf("role %q: %v", line, err))
	}
	if len(a.Scopes) == 0 {
		return r, fault.Text(fault.Invalid, fmt.Sprintf("role %q gives no scope", line))
	}
	for _, sc := range a.Scopes {
		r.Scopes = append(r.Scopes, Scope(sc))
	}
	r.Groups = a.Groups
	return r, nil
}

// provided finds out who a token of the provider stands for.
func (s *Service) provided(ctx context.Context, token string) (Principal, error) {
	c, err := s.provider.Tokens.Verify(ctx, token)
	if fault.KindOf(err) == fault.Login {
		s.log.Warn("a token of the identity provider was refused", "err", err)
		return Principal{}, errToken
	}
	if err != nil {
		return Principal{}, err
	}
	name, mapped := s.provider.Names[c.Name]
	if !mapped {
		name = c.Name
	}
	if account.ValidName(name) != nil {
		return Principal{}, s.stranger(c, "no administrator can have this name; write it into admin.oidc.administrators")
	}
	a, err := s.store.AdministratorByName(ctx, name)
	switch {
	case err == nil && a.Disabled:
		return Principal{}, s.stranger(c, "the administrator "+name+" is disabled")
	case err == nil:
		p := Principal{Name: a.Name, Groups: a.Groups, Unverified: a.TOTP}
		for _, sc := range a.Scopes {
			p.Scopes = append(p.Scopes, Scope(sc))
		}
		return p, nil
	case fault.KindOf(err) != fault.NotExist:
		return Principal{}, err
	}
	for _, r := range s.provider.Roles {
		if slices.Contains(c.Groups, r.Group) {
			return Principal{Name: name, Scopes: slices.Clone(r.Scopes), Groups: slices.Clone(r.Groups)}, nil
		}
	}
	return Principal{}, s.stranger(c, "there is no administrator of that name, and none of the groups has a role")
}

// stranger refuses a person whom the provider knows. Why is told: it is them.
func (s *Service) stranger(c auth.Claims, why string) error {
	s.log.Warn("a person of the identity provider is no administrator", "name", c.Name, "subject", c.Subject, "groups", c.Groups, "why", why)
	return fault.Text(fault.Denied, fmt.Sprintf("the identity provider knows you as %q, who is no administrator here: %s", c.Name, why))
}
