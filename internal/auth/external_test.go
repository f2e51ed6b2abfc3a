package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// program writes a shell script that judges what it is asked.
func program(t *testing.T, text string) []string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(f, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{f, "an argument; with 'shell' $signs"}
}

func external(t *testing.T, v *ExternalVerifier) *ExternalVerifier {
	t.Helper()
	v.Home = "/srv/%u"
	if v.Users == nil {
		v.Users = fakeRows{"own": {Name: "own", PasswordHash: "$x"}, "row": {Name: "row", Home: "/row", Groups: []string{"a"}}, "off": {Name: "off", Home: "/off", Disabled: true}, "key": {Name: "key", KeyOnly: true}}
	}
	if err := v.Ready(); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestExternalVerdicts(t *testing.T) {
	script := program(t, `read -r q
[ "$1" = "an argument; with 'shell' \$signs" ] && [ "$#" = 1 ] || exit 9
case "$q" in
*'"password":"right"'*'"protocol":"ftp"'*'"remote":"192.0.2.7"'*) echo '{"groups": ["a", "b"]}' ;;
*'"password":"broken"'*) echo '{"groups": ' ;;
*'"password":"denied"'*) echo '{"success": false}' ;;
*'"password":"null"'*) echo null ;;
*'"password":"two"'*) echo '{} {"groups": []}' ;;
*'"password":"hostile"'*) echo '{"groups": ["../x"]}' ;;
*'"password":"crash"'*) echo oh dear >&2; exit 3 ;;
*'"password":"long"'*) head -c 100000 /dev/zero ;;
*) exit 1 ;;
esac
`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q Question
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Header.Get("Authorization") != "Bearer s3cret" || r.Method != "POST" {
			w.WriteHeader(500)
			return
		}
		switch q.Password {
		case "right":
			fmt.Fprint(w, `{"groups": ["a", "b"]}`)
		case "broken":
			fmt.Fprint(w, `{"groups": `)
		case "denied":
			fmt.Fprint(w, `{"success": false}`)
		case "null":
			fmt.Fprint(w, "null")
		case "two":
			fmt.Fprint(w, `{} {"groups": []}`)
		case "hostile":
			fmt.Fprint(w, `{"groups": ["../x"]}`)
		case "crash":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "long":
			w.Write(make([]byte, 100000))
		default:
			w.WriteHeader(403)
		}
	}))
	defer srv.Close()
	secret := func() (string, error) { return "s3cret", nil }
	for kind, v := range map[string]*ExternalVerifier{"program": {Program: script}, "hook": {URL: srv.URL, Secret: secret}} {
		external(t, v)
		for _, tt := range []struct {
			user, password string
			kind           fault.Kind // of the error; None: let in
		}{
			{"new", "right", fault.None}, {"row", "right", fault.None}, {"new", "wrong", fault.Login}, {"new", "", fault.Login},
			{"own", "right", fault.Login}, {"key", "right", fault.Login}, {"off", "right", fault.Login}, {"../new", "right", fault.Login},
			{"new", "broken", fault.Unavailable}, {"new", "denied", fault.Unavailable}, {"new", "null", fault.Unavailable}, {"new", "two", fault.Unavailable}, {"new", "hostile", fault.Unavailable}, {"new", "crash", fault.Unavailable}, {"new", "long", fault.Unavailable},
		} {
			id, err := v.Verify(t.Context(), here, Password{User: tt.user, Secret: tt.password})
			if fault.KindOf(err) != tt.kind || errors.Is(err, ErrBad) != (tt.kind == fault.Login) {
				t.Errorf("%s: %s with %q: %v, want %v", kind, tt.user, tt.password, err, tt.kind)
			}
			if err == nil && (!slices.Equal(id.User.Groups, []string{"a", "b"}) || id.User.Home != map[string]string{"new": "/srv/new", "row": "/row"}[tt.user]) {
				t.Errorf("%s: %s: %+v", kind, tt.user, id.User)
			}
		}
	}
	if err := (&ExternalVerifier{}).Ready(); err == nil {
		t.Error("neither program nor URL")
	}
}

func TestExternalDown(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	slow := program(t, "sleep 600 & sleep 600\n")
	for kind, v := range map[string]*ExternalVerifier{"program": {Program: slow}, "hook": {URL: srv.URL}, "missing": {Program: []string{"/nowhere/check"}}, "refused": {URL: "http://127.0.0.1:1/"}} {
		v.Timeout, v.Slots = 300*time.Millisecond, 1
		external(t, v)
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 { // three of them wait for a place, and no longer than the deadline
			wg.Go(func() {
				_, err := v.Verify(t.Context(), here, Password{User: "new", Secret: "right"})
				if fault.KindOf(err) != fault.Unavailable || errors.Is(err, ErrBad) {
					t.Errorf("%s: %v", kind, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: it took %v", kind, took)
		}
	}
}

// TestExternalSecrets: the password is neither an argument nor in the environment.
func TestExternalSecrets(t *testing.T) {
	out := filepath.Join(t.TempDir(), "seen")
	v := external(t, &ExternalVerifier{Program: program(t, "cat >/dev/null; tr '\\0' '\\n' </proc/self/environ >"+out+"; tr '\\0' ' ' </proc/$$/cmdline >>"+out+"\n")})
	t.Setenv("PORTREEVE_CONFIG", "hidden")
	if _, err := v.Verify(t.Context(), here, Password{User: "new", Secret: "do-not-show"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil || strings.Contains(string(b), "do-not-show") || strings.Contains(string(b), "PORTREEVE") || !strings.Contains(string(b), "PATH=") {
		t.Errorf("%q, %v", b, err)
	}
}
