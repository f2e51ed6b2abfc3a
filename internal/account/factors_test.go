package account

import (
	"slices"
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	key, pw, code, change := FactorKey, FactorPassword, FactorCode, FactorChange
	for _, c := range []struct {
		name   string
		u      User
		proved []string
		next   []string
		done   bool
	}{
		{"anything", User{}, nil, []string{key, pw}, false},
		{"key will do", User{}, []string{key}, nil, true},
		{"password will do", User{}, []string{pw}, nil, true},
		{"key only", User{KeyOnly: true}, nil, []string{key}, false},
		{"key only, password", User{KeyOnly: true}, []string{pw}, nil, false},
		{"code after password", User{TOTP: true}, []string{pw}, []string{code}, false},
		{"password and code", User{TOTP: true}, []string{pw, code}, nil, true},
		{"key with TOTP", User{TOTP: true}, []string{key}, nil, true},
		{"order", User{Auth: []string{key, pw}}, nil, []string{key}, false},
		{"order, second", User{Auth: []string{key, pw}}, []string{key}, []string{pw}, false},
		{"order, done", User{Auth: []string{key, pw}}, []string{key, pw}, nil, true},
		{"wrong order", User{Auth: []string{key, pw}}, []string{pw}, nil, false},
		{"list without code", User{TOTP: true, Auth: []string{key, pw}}, []string{key, pw}, nil, true},
		{"too many", User{Auth: []string{key}}, []string{key, pw}, nil, false},
		{"must change", User{MustChange: true}, []string{pw}, []string{change}, false},
		{"changed", User{MustChange: true}, []string{pw, change}, nil, true},
		{"must change after code", User{MustChange: true, TOTP: true}, []string{pw}, []string{code}, false},
		{"must change, key", User{MustChange: true}, []string{key}, nil, true},
		{"change is no factor", User{Auth: []string{key, pw}}, []string{key, change}, []string{pw}, false},
	} {
		if next, done := c.u.Next(c.proved); !slices.Equal(next, c.next) || done != c.done {
			t.Errorf("%s: %v %v, want %v %v", c.name, next, done, c.next, c.done)
		}
	}
}

func TestAuthList(t *testing.T) {
	for _, c := range []struct {
		list    []string
		keyOnly bool
		want    string
	}{
		{[]string{FactorKey, FactorPassword, FactorCode}, false, ""},
		{[]string{FactorKey, FactorCode}, true, ""},
		{[]string{"retina"}, false, "unknown"},
		{[]string{FactorKey, FactorKey}, false, "twice"},
		{[]string{FactorCode, FactorKey}, false, "second factor"},
		{[]string{FactorKey, FactorPassword}, true, "key-only"},
	} {
		err := User{Name: "u", Home: "/h", Auth: c.list, KeyOnly: c.keyOnly}.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.list, err, c.want)
		}
	}
	u := User{Name: "u", Groups: []string{"g"}}.Inherit([]Group{{Name: "g", Auth: []string{FactorKey, FactorCode}}})
	if !slices.Equal(u.Auth, []string{FactorKey, FactorCode}) {
		t.Errorf("the group's list did not come down: %v", u.Auth)
	}
}
