package sshd

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/fault"
)

// TestEveryKindHasItsStatus walks all kinds: none may be forgotten, and the
// codes are those of the table in architecture.md section 5.
func TestEveryKindHasItsStatus(t *testing.T) {
	want := map[fault.Kind]uint32{
		fault.Invalid: 4, fault.NameRefused: 3, fault.NotExist: 2, fault.Exist: 4, fault.WrongType: 4, fault.Denied: 3, fault.Login: 3,
		fault.Quota: 4, fault.TooLarge: 4, fault.NoSpace: 4, fault.Busy: 4, fault.Limit: 4, fault.Range: 4, fault.Unsupported: 8,
		fault.Canceled: 4, fault.Unavailable: 4, fault.Stopping: 4, fault.Internal: 4,
	}
	for _, k := range fault.Kinds() {
		code, ok := want[k]
		if !ok {
			t.Errorf("%s: this test names no code for it", k)
		}
		if _, ok := answers[k]; !ok {
			t.Errorf("%s has no answer", k)
		}
		for _, err := range []error{fault.New(k, "open", "/secret/host/path", errors.New("raw detail of Go")), fmt.Errorf("wrapped: %w", fault.New(k, "x", "/y", nil))} {
			a := answerTo(err)
			if a.code != code {
				t.Errorf("%s: code %d, want %d", k, a.code, code)
			}
			if a.text == "" || strings.Contains(a.text, "secret") || strings.Contains(a.text, "raw") {
				t.Errorf("%s: the client is told %q", k, a.text)
			}
		}
	}
	for err, code := range map[error]uint32{nil: 0, io.EOF: 1, errors.New("unforeseen"): 4} {
		if a := answerTo(err); a.code != code {
			t.Errorf("%v: code %d, want %d", err, a.code, code)
		}
	}
	if a := answerTo(fault.New(fault.Quota, "upload", "/x", fault.Text(fault.Quota, "10 MiB of 10 MiB are used"))); a.text != "10 MiB of 10 MiB are used" {
		t.Errorf("the fault's own sentence is lost: %q", a.text)
	}
}
