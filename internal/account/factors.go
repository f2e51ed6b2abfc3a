package account

import (
	"fmt"
	"slices"
	"strings"
)

// The factors an account may have to prove, as User.Auth lists them.
const (
	FactorKey      = "publickey" // an SSH key or certificate; on FTPS the TLS client certificate
	FactorPassword = "password"
	FactorCode     = "totp" // a time-based code (RFC 6238) or a recovery code
	// FactorChange is no proof but a duty: a new password, where MustChange is
	// set and the old one was used. It cannot be listed.
	FactorChange = "new-password"
)

// Factors are those that can be listed.
var Factors = []string{FactorKey, FactorPassword, FactorCode}

// Next tells which factors may come next after those that were proved, any of
// them, and whether nothing more is needed. Where Auth lists factors each of
// them is needed, in that order. Otherwise a key alone or a password alone
// will do, but a password of an account with TOTP is followed by a code. None
// and not done means that the account cannot be reached on this way. Settings
// of groups count only after Inherit.
func (u User) Next(proved []string) (next []string, done bool) {
	changed := slices.Contains(proved, FactorChange)
	proved = slices.DeleteFunc(slices.Clone(proved), func(f string) bool { return f == FactorChange })
	next, done = u.factors(proved)
	if done && u.MustChange && !changed && slices.Contains(proved, FactorPassword) {
		return []string{FactorChange}, false
	}
	return next, done
}

func (u User) factors(proved []string) (next []string, done bool) {
	list := u.Auth
	if len(list) == 0 {
		switch {
		case len(proved) == 0 && u.KeyOnly:
			return []string{FactorKey}, false
		case len(proved) == 0:
			return []string{FactorKey, FactorPassword}, false
		case proved[0] == FactorKey:
			list = []string{FactorKey}
		case u.KeyOnly:
			return nil, false
		case u.TOTP:
			list = []string{FactorPassword, FactorCode}
		default:
			list = []string{FactorPassword}
		}
	}
	switch {
	case len(proved) > len(list) || !slices.Equal(list[:len(proved)], proved):
		return nil, false
	case len(proved) == len(list):
		return nil, true
	}
	return list[len(proved) : len(proved)+1], false
}

// checkAuth refuses lists that nobody could or should log in with.
func (p *problems) checkAuth(list []string, keyOnly bool) {
	for i, f := range list {
		switch {
		case !slices.Contains(Factors, f):
			p.add(fmt.Sprintf("auth: %q is unknown; known are %s", f, strings.Join(Factors, ", ")))
		case slices.Contains(list[:i], f):
			p.add(fmt.Sprintf("auth: %s is listed twice", f))
		case f == FactorPassword && keyOnly:
			p.add("auth: a password is asked for, but the account is key-only; lift one of them: --auth any, or --key-only=false")
		case f == FactorCode && i == 0:
			p.add("auth: totp is a second factor; put publickey or password before it")
		}
	}
}
