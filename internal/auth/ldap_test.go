package auth

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

func ldapVerifier(t *testing.T, url string, rows fakeRows) *LDAPVerifier {
	t.Helper()
	v := &LDAPVerifier{URL: url, Base: "dc=example,dc=org", Filter: "(uid=%u)", Home: "/srv/%u", Users: rows, Timeout: 2 * time.Second}
	if err := v.Ready(); err != nil {
		t.Fatal(err)
	}
	return v
}

// fakeRows is the database of these tests.
type fakeRows map[string]account.User

func (r fakeRows) UserByName(_ context.Context, name string) (account.User, error) {
	if u, ok := r[name]; ok {
		return u, nil
	}
	return account.User{}, fault.New(fault.NotExist, "load user", "", nil)
}

// TestLDAPDown: a directory that refuses, or takes the connection and says
// nothing, gives Unavailable in time; what needs no directory does not wait.
func TestLDAPDown(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	rows := fakeRows{"own": {Name: "own", PasswordHash: "$x"}}
	for name, addr := range map[string]string{"silent": silent.Addr().String(), "refused": refused.Addr().String()} {
		v := ldapVerifier(t, "ldap://"+addr, rows)
		began := time.Now()
		_, err := v.Verify(t.Context(), Origin{}, Password{User: "ann", Secret: "secret"})
		if fault.KindOf(err) != fault.Unavailable || errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		for _, p := range []Password{{User: "ann", Secret: ""}, {User: "own", Secret: "secret"}, {User: "a*)(uid=*", Secret: "x"}} {
			if _, err := v.Verify(t.Context(), Origin{}, p); !errors.Is(err, ErrBad) {
				t.Errorf("%s: %v reached the directory: %v", name, p, err)
			}
		}
	}
}

func TestLDAPReady(t *testing.T) {
	for _, v := range []LDAPVerifier{
		{URL: "http://x", Filter: "(uid=%u)"}, {URL: "ldap://x", Filter: "(uid=ann)"}, {URL: "ldap://x", Filter: "(uid=%u"}, {URL: "ldaps://x", Filter: "(uid=%u)", StartTLS: true},
	} {
		if err := v.Ready(); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s %s: %v", v.URL, v.Filter, err)
		}
	}
}
