package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// Scope is a part of the administration that a token or administrator may be given.
type Scope string

// The scopes. A write scope does not include ScopeRead.
const (
	ScopeRead     Scope = "read"     // see accounts, groups, sessions, status
	ScopeUsers    Scope = "users"    // make, change and remove accounts
	ScopeGroups   Scope = "groups"   // make, change and remove groups
	ScopeSessions Scope = "sessions" // end sessions, record and read their transcripts
	ScopeServer   Scope = "server"   // reload, stop
	ScopeAdmins   Scope = "admins"   // administrators and their tokens
)

// Scopes are all of them.
var Scopes = []Scope{ScopeRead, ScopeUsers, ScopeGroups, ScopeSessions, ScopeServer, ScopeAdmins}

// ParseScopes reads words; "all" is every scope. fault.Invalid.
func ParseScopes(words []string) ([]Scope, error) {
	var out []Scope
	for _, w := range words {
		w = strings.ToLower(strings.TrimSpace(w))
		switch {
		case w == "":
		case w == "all":
			return slices.Clone(Scopes), nil
		case !slices.Contains(Scopes, Scope(w)):
			return nil, fault.Text(fault.Invalid, fmt.Sprintf("scope %q is unknown; known are %s, and all", w, scopeWords(Scopes)))
		case !slices.Contains(out, Scope(w)):
			out = append(out, Scope(w))
		}
	}
	return out, nil
}

func scopeWords(s []Scope) string {
	words := make([]string, len(s))
	for i := range s {
		words[i] = string(s[i])
	}
	return strings.Join(words, ", ")
}

// Principal is who asks. A context without one is the owner of the machine:
// whoever reaches the control socket or the database file.
type Principal struct {
	Name   string
	Scopes []Scope
	// Groups limits an administrator to accounts that are members of these and
	// of no other groups; empty is no limit.
	Groups []string
	// Unverified: the administrator has a second factor and the token was not
	// made with it, so nothing but VerifyToken is possible.
	Unverified bool
}

type principalKey struct{}

// WithPrincipal limits what the calls with ctx may do, and names the actor.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return WithActor(context.WithValue(ctx, principalKey{}, &p), "administrator "+p.Name)
}

// Caller is the name of the administrator who asks, "" for the owner of the machine.
func Caller(ctx context.Context) string {
	if p := principal(ctx); p != nil {
		return p.Name
	}
	return ""
}

// Self is the administrator who asks; the owner of the machine may do all.
func Self(ctx context.Context) Principal {
	if p := principal(ctx); p != nil {
		return *p
	}
	return Principal{Scopes: slices.Clone(Scopes)}
}

func principal(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// May refuses a caller without the scope; fault.Denied.
func (s *Service) May(ctx context.Context, scope Scope) error { return s.may(ctx, scope) }

func (s *Service) may(ctx context.Context, scope Scope) error {
	p := principal(ctx)
	if p != nil && p.Unverified {
		return fault.Text(fault.Denied, fmt.Sprintf("%s has a second factor: send a code to POST /v1/verification, and use the token that it gives", p.Name))
	}
	if p == nil || slices.Contains(p.Scopes, scope) {
		return nil
	}
	return fault.Text(fault.Denied, fmt.Sprintf("this needs the scope %q, which %s does not have; it has %s", scope, p.Name, scopeWords(p.Scopes)))
}

// Unlimited refuses an administrator who is limited to groups; fault.Denied.
func Unlimited(ctx context.Context, what string) error { return unlimited(ctx, what) }

func unlimited(ctx context.Context, what string) error {
	if p := principal(ctx); p != nil && len(p.Groups) > 0 {
		return fault.Text(fault.Denied, fmt.Sprintf("%s is limited to members of %s and may not %s", p.Name, strings.Join(p.Groups, ", "), what))
	}
	return nil
}

func (s *Service) mayGroups(ctx context.Context) error {
	return errors.Join(s.may(ctx, ScopeGroups), unlimited(ctx, "change groups"))
}

// reach refuses an account outside the administrator's groups. What exists
// there is not told: the answer is that of a missing account.
func reach(ctx context.Context, u account.User) error {
	if !inGroups(ctx, u) {
		return missing(u.Name, fault.New(fault.NotExist, "", "", nil))
	}
	return nil
}

func inGroups(ctx context.Context, u account.User) bool {
	p := principal(ctx)
	if p == nil || len(p.Groups) == 0 {
		return true
	}
	return len(u.Groups) > 0 && !slices.ContainsFunc(u.Groups, func(g string) bool { return !slices.Contains(p.Groups, g) })
}

// delegable refuses settings that would let a limited administrator out of
// the groups: directories of the host, and membership elsewhere.
func delegable(ctx context.Context, set Settings, after account.User) error {
	p := principal(ctx)
	if p == nil || len(p.Groups) == 0 {
		return nil
	}
	if set.Home != nil || len(set.Mounts) > 0 {
		return fault.Text(fault.Denied, fmt.Sprintf("%s is limited to members of %s and may not choose directories of the server; the group gives the home", p.Name, strings.Join(p.Groups, ", ")))
	}
	if !inGroups(ctx, after) {
		return fault.Text(fault.Denied, fmt.Sprintf("%s may manage members of %s only; give the account one of these groups and no other", p.Name, strings.Join(p.Groups, ", ")))
	}
	return nil
}
