package auth

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/fault"
)

// commonText are passwords that every guessing program tries first, one a line,
// in small letters. It is short on purpose: the throttle makes long lists useless.
//
//go:embed common.txt
var commonText string

var common = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for p := range strings.FieldsSeq(commonText) {
		m[p] = true
	}
	return m
})

// Policy says which new passwords are good enough. What is stored already is
// not judged by it. The zero value allows everything.
type Policy struct {
	MinLength    int  // in characters
	RefuseCommon bool // refuse what is guessed first
}

// Check refuses a new password of an account with fault.Invalid and a text for
// whoever chose it.
func (p Policy) Check(user, password string) error {
	if n := utf8.RuneCountInString(password); n < p.MinLength {
		return fault.Text(fault.Invalid, fmt.Sprintf("the password is too short; it needs at least %d characters", p.MinLength))
	}
	if !p.RefuseCommon {
		return nil
	}
	small := strings.ToLower(password)
	bare := strings.TrimRight(small, "0123456789!.?*-_#$")
	switch {
	case common()[small], len(bare) > 3 && common()[bare]:
		return fault.Text(fault.Invalid, "the password is one of those that are guessed first; choose another")
	case user != "" && (small == strings.ToLower(user) || bare == strings.ToLower(user)):
		return fault.Text(fault.Invalid, "the password is the user's name; choose another")
	case oneStep(small):
		return fault.Text(fault.Invalid, "the password is one character over and over, or a plain sequence; choose another")
	}
	return nil
}

// oneStep reports whether each byte follows from the one before by the same step: aaaa, 1234, zyxw.
func oneStep(s string) bool {
	for i := 2; i < len(s); i++ {
		if d := int(s[i]) - int(s[i-1]); d != int(s[1])-int(s[0]) || d < -1 || d > 1 {
			return false
		}
	}
	return len(s) > 2
}
