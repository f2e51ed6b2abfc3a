package auth

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// rowsAndGroups is a database with one account, kept in a directory, that has a
// second factor here, and a group that only the directory puts it in.
type rowsAndGroups struct {
	row   account.User
	group account.Group
}

func (r *rowsAndGroups) UserByName(_ context.Context, name string) (account.User, error) {
	if name != r.row.Name {
		return account.User{}, fault.New(fault.NotExist, "", "", nil)
	}
	return r.row, nil
}

func (r *rowsAndGroups) GroupsOf(_ context.Context, u account.User) (out []account.Group, err error) {
	if slices.Contains(u.Groups, r.group.Name) {
		out = append(out, r.group)
	}
	return out, nil
}

func (r *rowsAndGroups) TakeStep(context.Context, account.User, int64) (bool, error) {
	return true, nil
}
func (r *rowsAndGroups) TakeRecovery(context.Context, account.User, string) (bool, error) {
	return true, nil
}

type verifierFunc func(c Credential) (Identity, error)

func (f verifierFunc) Verify(_ context.Context, _ Origin, c Credential) (Identity, error) {
	return f(c)
}

// step gives one credential and returns the origin of the next one.
func step(t *testing.T, f *Factors, from Origin, c Credential) (Origin, Identity, error) {
	t.Helper()
	id, err := f.Verify(t.Context(), from, c)
	from.Proved = append(slices.Clone(from.Proved), id.Proved...)
	from.Stamp, from.Granted = id.Stamp, id.Granted
	return from, id, err
}

// TestGrantedGroups: groups that a directory vouched for with the password hold
// for the factors after it and in the session.
func TestGrantedGroups(t *testing.T) {
	key, err := NewTOTP("test", "dan")
	if err != nil {
		t.Fatal(err)
	}
	rows := &rowsAndGroups{row: account.User{ID: 7, Name: "dan", TOTP: true, TOTPSecret: key.Secret},
		group: account.Group{Name: "strict", Auth: []string{account.FactorPassword, account.FactorCode, account.FactorKey}}}
	directory := verifierFunc(func(c Credential) (Identity, error) {
		u := rows.row
		u.Groups = []string{"strict"}
		if _, ok := c.(Password); ok {
			return Identity{User: u, Method: "ldap", Granted: u.Groups}, nil
		}
		return Identity{User: rows.row, Method: "key"}, nil
	})
	f := &Factors{Verifier: directory, Users: rows, Codes: rows}
	from, _, err := step(t, f, Origin{}, Password{User: "dan", Secret: "x"})
	var more *More
	if !errors.As(err, &more) || !slices.Equal(more.Next, []string{account.FactorCode}) {
		t.Fatalf("password: %v", err)
	}
	code, err := TOTPCode(key.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if from, _, err = step(t, f, from, Code{User: "dan", Secret: code}); !errors.As(err, &more) || !slices.Equal(more.Next, []string{account.FactorKey}) {
		t.Fatalf("the group's third factor is not asked for after the code: %v", err)
	}
	_, id, err := step(t, f, from, PublicKey{User: "dan"})
	if err != nil || !slices.Equal(id.User.Groups, []string{"strict"}) {
		t.Errorf("the session has the groups %v, %v", id.User.Groups, err)
	}
}

// TestOutsiderChange: an account whose password is kept in a directory does
// not get one here by the way of the forced change.
func TestOutsiderChange(t *testing.T) {
	rows := &rowsAndGroups{row: account.User{ID: 7, Name: "dan", MustChange: true}}
	f := &Factors{Users: rows, Codes: rows, Change: func(context.Context, account.User, string) error {
		t.Error("the password was set")
		return nil
	}, Verifier: verifierFunc(func(Credential) (Identity, error) { return Identity{User: rows.row, Method: "ldap"}, nil })}
	from, _, err := step(t, f, Origin{}, Password{User: "dan", Secret: "x"})
	if !errors.Is(err, ErrMore) {
		t.Fatal(err)
	}
	if _, _, err := step(t, f, from, NewPassword{User: "dan", New: "a-new-secret"}); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}
