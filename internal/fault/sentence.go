package fault

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OwnText returns the sentence of a fault made by Text, "" for any other:
// only such texts are written for clients.
func OwnText(err error, allowed bool) string {
	var fe *Error
	for e := err; allowed && errors.As(e, &fe); e = fe.Err {
		if fe.Op == "" && fe.Path == "" && fe.Err != nil {
			return fe.Err.Error()
		}
	}
	return ""
}

// Sentence gives text a capital at the start and a full stop.
func Sentence(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	if n == 0 {
		return text
	}
	text = string(unicode.ToUpper(r)) + text[n:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
