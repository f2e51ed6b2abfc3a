//go:build clients

package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/auth"
)

const newPassword = "a fresh and long one"

// person is an account with the files a client needs to be it.
type person struct {
	User
	dir, config, secret string
	t                   *testing.T
}

// factorPerson makes an account with a key and, where it has one, a second factor.
func factorPerson(t *testing.T, s *Server, name string, totp bool, args ...string) *person {
	t.Helper()
	p := &person{User: s.AddUser(t, name, args...), dir: TempDir(t), t: t}
	key := filepath.Join(p.dir, "key")
	Cmd{Args: []string{Tool(t, "ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", key}}.Must(t)
	s.CLI(t, "user", "key", "add", name, key+".pub")
	if totp {
		var e struct{ Secret string }
		if err := json.Unmarshal([]byte(s.CLI(t, "user", "totp", "enable", name, "--json")), &e); err != nil {
			t.Fatal(err)
		}
		p.secret = e.Secret
	}
	p.config = filepath.Join(p.dir, "config")
	write(t, p.config, fmt.Sprintf("Port %d\nUser %s\nUserKnownHostsFile /dev/null\nStrictHostKeyChecking no\nIdentitiesOnly yes\nIdentityFile %s\nUpdateHostKeys no\nNumberOfPasswordPrompts 3\n",
		s.Port("sftp"), name, key), 0o600)
	return p
}

// code is one that was not used yet: step 0 is that of now.
func (p *person) code(step int) string {
	p.t.Helper()
	if p.secret == "" {
		return ""
	}
	c, err := auth.TOTPCode(p.secret, time.Now().Add(time.Duration(step)*30*time.Second))
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// openssh stores a file with sftp; the answers to prompts come from a program
// that looks at the prompt, and every prompt is noted.
func (p *person) openssh(step int, options ...string) (Result, string) {
	p.t.Helper()
	ask, asked := filepath.Join(p.dir, "ask"), filepath.Join(p.dir, "asked")
	os.Remove(asked)
	write(p.t, ask, "#!/bin/sh\necho \"$1\" >>'"+asked+"'\ncase \"$1\" in\n*'New password'*) echo '"+newPassword+"' ;;\n*code*) echo '"+p.code(step)+"' ;;\n*) echo '"+Password+"' ;;\nesac\n", 0o700)
	write(p.t, filepath.Join(p.dir, "up"), "hello", 0o600)
	args := append([]string{Tool(p.t, "sftp", "openssh-client"), "-v", "-F", p.config}, options...)
	r := Cmd{Args: append(args, "-oBatchMode=no", "-b", "-", "127.0.0.1"), Dir: p.dir, Stdin: "put up up\n",
		Env: []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}}.Run(p.t)
	b, _ := os.ReadFile(asked)
	return r, string(b)
}

// stored says whether the upload of a client is there, and takes it away.
func (p *person) stored() bool {
	return os.Remove(filepath.Join(p.Home, "up")) == nil
}

// TestFactors: the real OpenSSH client and paramiko prove what accounts ask
// for, in the order they ask for it, and get no further with less.
func TestFactors(t *testing.T) {
	s := sshServer(t, "[limits]\nlogin_failures = 0\nnever_ban = [\"127.0.0.0/8\"]\n")
	keyPassword := factorPerson(t, s, "keypass", false, "--auth", "publickey,password")
	passwordKey := factorPerson(t, s, "passkey", false, "--auth", "password,publickey")
	codes := factorPerson(t, s, "tom", true)
	all := factorPerson(t, s, "all", true, "--auth", "publickey,password,totp")
	keyOnly := factorPerson(t, s, "keyonly", false, "--key-only")
	first := factorPerson(t, s, "first", false, "--must-change")
	second := factorPerson(t, s, "second", false, "--must-change")

	const noKey, noPassword = "-oPubkeyAuthentication=no", "-oPreferredAuthentications=publickey"
	for _, tt := range []struct {
		name    string
		p       *person
		options []string
		step    int
		ok      bool
		asked   string // parts of the prompts, in order
	}{
		{"key, then password", keyPassword, nil, 0, true, "Password"},
		{"key, then the method password", keyPassword, []string{"-oPreferredAuthentications=publickey,password"}, 0, true, "password"},
		{"key alone", keyPassword, []string{noPassword}, 0, false, ""},
		{"password alone", keyPassword, []string{noKey, "-oNumberOfPasswordPrompts=1"}, 0, false, "Password"},
		{"password, then key", passwordKey, []string{"-oPreferredAuthentications=keyboard-interactive,publickey"}, 0, true, "Password"},
		{"password and code", codes, []string{noKey}, 0, true, "Password,Verification code"},
		{"a code twice", codes, []string{noKey, "-oNumberOfPasswordPrompts=1"}, 0, false, "Password,Verification code"},
		{"key without a code", codes, nil, 0, true, ""},
		{"key, password and code", all, nil, 0, true, "Password,Verification code"},
		{"key-only with a password", keyOnly, []string{noKey, "-oNumberOfPasswordPrompts=1"}, 0, false, "Password"},
		{"password that must be changed", first, []string{noKey}, 0, true, "Password,New password,New password again"},
	} {
		t.Run("openssh/"+tt.name, func(t *testing.T) {
			tt.p.t = t
			r, asked := tt.p.openssh(tt.step, tt.options...)
			if got := tt.p.stored(); got != tt.ok || (r.Err == nil) != tt.ok {
				t.Fatalf("stored: %v, %v, want %v\n%s", got, r.Err, tt.ok, clip(r.Text(), 5000))
			}
			rest := asked
			for part := range strings.SplitSeq(tt.asked, ",") {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Errorf("prompts %q, want %s in order", asked, tt.asked)
				}
				rest = after
			}
			if tt.asked == "" && asked != "" {
				t.Errorf("there were prompts: %q", asked)
			}
		})
	}

	python := "/usr/bin/python3" // that of the system has the packages
	// A second method is out of reach for paramiko: it asks for the authentication
	// service anew, which golang.org/x/crypto/ssh takes for a broken protocol.
	for _, tt := range []struct {
		name    string
		p       *person
		answers []string
		step    int
		ok      bool
	}{
		{"password and code", codes, []string{Password, "CODE"}, 1, true},
		{"wrong code", codes, []string{Password, "000000"}, 0, false},
		{"password that must be changed", second, []string{Password, "short", "short", newPassword, newPassword}, 0, true},
		{"the new password", second, []string{newPassword}, 0, true},
	} {
		t.Run("paramiko/"+tt.name, func(t *testing.T) {
			tt.p.t = t
			args := []string{python, filepath.Join("testdata", "factors.py"), fmt.Sprint(s.Port("sftp")), tt.p.Name}
			for _, a := range tt.answers {
				if a == "CODE" {
					a = tt.p.code(tt.step)
				}
				args = append(args, a)
			}
			r := Cmd{Args: args}.Run(t)
			if got := tt.p.stored(); got != tt.ok || (r.Err == nil) != tt.ok {
				t.Fatalf("stored: %v, %v, want %v\n%s", got, r.Err, tt.ok, r.Text())
			}
		})
	}
}
