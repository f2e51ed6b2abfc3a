package auth

import (
	"context"
	"slices"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// What verifiers of passwords that are kept elsewhere (directory, program,
// hook) have in common: whom they may judge, and who that is then.

// outsider looks up the row of somebody whose password is kept elsewhere.
// Whoever has a password here, or may not use one, is refused.
func outsider(ctx context.Context, users Users, p Password, where string) (row account.User, known bool, err error) {
	if err := CheckPassword(p.Secret); err != nil {
		return row, false, bad(err.Error())
	}
	if account.ValidName(p.User) != nil {
		return row, false, bad("no account can have such a name")
	}
	row, err = users.UserByName(ctx, p.User)
	known = err == nil
	switch {
	case err != nil && fault.KindOf(err) != fault.NotExist:
		return row, false, fault.Wrap("look up account "+p.User, "", err)
	case known && row.PasswordHash != "":
		return row, true, bad("the account has a password of its own, which counts and not " + where + "'s")
	case known && row.KeyOnly:
		return row, true, bad("the account may log in with a key only")
	}
	return row, known, nil
}

// admit is the identity of an outsider who was verified: its row, or an
// account with the home of the template, and the groups that came along.
func admit(ctx context.Context, users Users, from Origin, row account.User, known bool, name, home, comment string, groups []string, now time.Time) (account.User, error) {
	u := row
	if !known {
		u = account.User{Name: name, Comment: comment}
		var err error
		if u.Home, err = account.ExpandHome(home, name, ""); err != nil {
			return u, fault.Wrap("home of "+name, "", err)
		}
	}
	for _, g := range groups {
		if !slices.Contains(u.Groups, g) {
			u.Groups = append(slices.Clip(u.Groups), g)
		}
	}
	reason, err := usable(ctx, users, from, u, now)
	if err == nil && reason != "" {
		err = bad(reason)
	}
	return u, err
}
