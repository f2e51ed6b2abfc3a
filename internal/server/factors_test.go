package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// factorRig has an FTPS and an SFTP listener, and users who need more than one factor.
type factorRig struct {
	*rig
	key     ssh.Signer
	certs   map[string]tls.Certificate
	secrets map[string]string
	codes   map[string][]string // recovery codes
}

func newFactorRig(t *testing.T, users ...account.User) *factorRig {
	t.Helper()
	r := &factorRig{secrets: map[string]string{}, codes: map[string][]string{}, certs: map[string]tls.Certificate{},
		rig: prepare(t, listenTOML("ftps", "127.0.0.1:0", "client_cert = \"optional\"\ncert_login = true")+
			listenTOML("sftp", "127.0.0.1:0", "")+listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`)+"\n[limits]\nlogin_failures = 0\nnever_ban = [\"127.0.0.0/8\"]\n")}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if r.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		u.Home = r.home
		u.Keys = []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(r.key.PublicKey())))}
		if strings.HasPrefix(u.Name, "cert") {
			r.certs[u.Name] = clientCert(t, "anybody")
			u.Certificates = []string{auth.CertFingerprint(r.certs[u.Name].Leaf)}
		}
		r.addUser(u)
	}
	r.run()
	for _, u := range users {
		if slices.Contains(u.Auth, account.FactorCode) || u.TOTP {
			k, err := auth.NewTOTP("test", u.Name)
			if err != nil {
				t.Fatal(err)
			}
			codes, hashes := auth.NewRecovery()
			if err := r.s.Store().SetTOTP(t.Context(), store.UserCodes, u.Name, k.Secret, hashes); err != nil {
				t.Fatal(err)
			}
			r.secrets[u.Name], r.codes[u.Name] = k.Secret, codes
		}
	}
	return r
}

// code is the user's code some steps from now.
func (r *factorRig) code(t *testing.T, user string, steps int) string {
	t.Helper()
	c, err := auth.TOTPCode(r.secrets[user], time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ftps logs in and lists, without a certificate unless told.
func (r *factorRig) ftps(t *testing.T, user, password string, withCert bool) error {
	t.Helper()
	conf := r.trust()
	if withCert {
		conf.Certificates = []tls.Certificate{r.certs[user]}
	}
	c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{TLS: ftp.ImplicitTLS, TLSConfig: conf, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(t.Context(), user, password); err != nil {
		return err
	}
	for _, err := range c.MachineList(t.Context(), "/") {
		if err != nil {
			return err
		}
	}
	return nil
}

// sshAs logs in and reports the questions that were asked.
func (r *factorRig) sshAs(user string, answers []string, methods ...ssh.AuthMethod) (asked []string, err error) {
	if answers != nil {
		methods = append(methods, ssh.KeyboardInteractive(func(_, instruction string, questions []string, _ []bool) ([]string, error) {
			asked = append(asked, questions...)
			var out []string
			for range questions {
				if len(answers) == 0 {
					return nil, errors.New("no further answer: " + instruction)
				}
				out, answers = append(out, answers[0]), answers[1:]
			}
			return out, nil
		}))
	}
	c, err := ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second})
	if err == nil {
		c.Close()
	}
	return asked, err
}

func TestSecondFactor(t *testing.T) {
	r := newFactorRig(t, account.User{Name: "tom", TOTP: true}, account.User{Name: "tim", TOTP: true}, account.User{Name: "plain"})
	verdict := func(what string, err error, ok bool) {
		t.Helper()
		if (err == nil) != ok {
			t.Errorf("%s: %v, want success %v", what, err, ok)
		}
	}
	verdict("password alone", r.ftps(t, "tom", testPassword, false), false)
	verdict("wrong code", r.ftps(t, "tom", testPassword+"000000", false), r.code(t, "tom", 0) == "000000")
	verdict("wrong password, right code", r.ftps(t, "tom", "x"+testPassword+r.code(t, "tom", 0), false), false)
	verdict("two steps early", r.ftps(t, "tom", testPassword+r.code(t, "tom", 2), false), false)
	verdict("a step late", r.ftps(t, "tom", testPassword+r.code(t, "tom", -1), false), true)
	now := r.code(t, "tom", 0)
	verdict("now", r.ftps(t, "tom", testPassword+now, false), true)
	verdict("the same code again", r.ftps(t, "tom", testPassword+now, false), false)
	asked, err := r.sshAs("tom", []string{testPassword, now})
	verdict("the same code over SSH", err, false)
	if want := []string{"Password: ", "Verification code: "}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	asked, err = r.sshAs("tom", []string{testPassword, r.code(t, "tom", 1)})
	verdict("SSH, a step early", err, true)
	if len(asked) != 2 {
		t.Errorf("asked %q", asked)
	}
	if asked, _ = r.sshAs("tom", []string{"wrong", now}); len(asked) > 1 {
		t.Errorf("a code was asked for behind a wrong password: %q", asked)
	}
	verdict("recovery code over FTPS", r.ftps(t, "tom", testPassword+r.codes["tom"][0], false), true)
	verdict("recovery code again", r.ftps(t, "tom", testPassword+r.codes["tom"][0], false), false)
	_, err = r.sshAs("tom", []string{testPassword, strings.ToUpper(strings.ReplaceAll(r.codes["tom"][1], "-", ""))})
	verdict("recovery code over SSH", err, true)
	_, err = r.sshAs("tom", []string{testPassword, r.codes["tim"][0]})
	verdict("recovery code of another", err, false)
	_, err = r.sshAs("tom", nil, ssh.PublicKeys(r.key))
	verdict("key alone", err, true)
	// The method "password" has no second question: it goes on with the other one.
	asked, err = r.sshAs("tim", []string{r.code(t, "tim", 0)}, ssh.Password(testPassword))
	verdict("method password, then the code", err, true)
	if want := []string{"Verification code: "}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	verdict("no second factor", r.ftps(t, "plain", testPassword, false), true)
	verdict("no second factor, digits behind the password", r.ftps(t, "plain", testPassword+"123456", false), false)
}

func TestRequiredFactors(t *testing.T) {
	key, password, code := account.FactorKey, account.FactorPassword, account.FactorCode
	r := newFactorRig(t, account.User{Name: "cert-kp", Auth: []string{key, password}}, account.User{Name: "cert-pk", Auth: []string{password, key}},
		account.User{Name: "cert-kc", Auth: []string{key, code}}, account.User{Name: "cert-k", Auth: []string{key}}, account.User{Name: "keyonly", KeyOnly: true},
		account.User{Name: "kpc", Auth: []string{key, password, code}})
	byKey, byPassword := ssh.PublicKeys(r.key), ssh.Password(testPassword)
	for _, tt := range []struct {
		user    string
		methods []ssh.AuthMethod
		answers []string
		ok      bool
	}{
		{"cert-kp", []ssh.AuthMethod{byKey, byPassword}, nil, true},
		{"cert-kp", []ssh.AuthMethod{byKey}, []string{testPassword}, true},
		{"cert-kp", []ssh.AuthMethod{byKey}, []string{"wrong"}, false},
		{"cert-kp", []ssh.AuthMethod{byKey}, nil, false},
		{"cert-kp", []ssh.AuthMethod{byPassword}, nil, false},
		{"cert-pk", []ssh.AuthMethod{byPassword, byKey}, nil, true},
		{"cert-pk", []ssh.AuthMethod{byPassword}, nil, false},
		{"cert-k", []ssh.AuthMethod{byKey}, nil, true},
		{"cert-k", []ssh.AuthMethod{byPassword}, nil, false},
		{"keyonly", []ssh.AuthMethod{byPassword}, []string{testPassword}, false},
		{"kpc", []ssh.AuthMethod{byKey}, []string{testPassword, "CODE"}, true},
		{"kpc", []ssh.AuthMethod{byKey}, []string{testPassword, "000000"}, false},
		{"cert-kc", []ssh.AuthMethod{byKey}, []string{"CODE"}, true},
	} {
		answers := slices.Clone(tt.answers)
		if i := slices.Index(answers, "CODE"); i >= 0 {
			answers[i] = r.code(t, tt.user, 0)
		}
		if _, err := r.sshAs(tt.user, answers, tt.methods...); (err == nil) != tt.ok {
			t.Errorf("SSH %s, %d methods, answers %q: %v, want success %v", tt.user, len(tt.methods), tt.answers, err, tt.ok)
		}
	}
	for _, tt := range []struct {
		user, password string
		cert, ok       bool
	}{
		{"cert-kp", testPassword, true, true},
		{"cert-kp", testPassword, false, false},
		{"cert-kp", "wrong", true, false},
		{"cert-pk", testPassword, true, true},
		{"cert-pk", testPassword, false, false},
		{"cert-pk", "wrong", true, false},
		{"cert-k", testPassword, false, false},
		{"cert-k", "", true, true},
		{"keyonly", testPassword, false, false},
		{"cert-kc", "NEXT", true, true},
		{"cert-kc", testPassword + "NEXT", true, false},
		{"kpc", testPassword + "NEXT", false, false},
	} {
		secret := tt.password
		if strings.HasSuffix(secret, "NEXT") {
			secret = strings.TrimSuffix(secret, "NEXT") + r.code(t, tt.user, 1) // that of now is used up
		}
		if err := r.ftps(t, tt.user, secret, tt.cert); (err == nil) != tt.ok {
			t.Errorf("FTPS %s %q certificate %v: %v, want success %v", tt.user, tt.password, tt.cert, err, tt.ok)
		}
	}
	// Plain FTP is no way round it.
	c, err := ftp.Dial(t.Context(), r.address(2), ftp.ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Login(t.Context(), "keyonly", testPassword) == nil {
		t.Error("a key-only account logged in over FTP")
	}
}

func TestForcedPasswordChange(t *testing.T) {
	r := newFactorRig(t, account.User{Name: "fay", MustChange: true}, account.User{Name: "sue", MustChange: true}, account.User{Name: "pam", MustChange: true})
	ctx := t.Context()
	dial := func(n int, mode ftp.ClientTLS) *ftp.Client {
		c, err := ftp.Dial(ctx, r.address(n), ftp.ClientOptions{TLS: mode, TLSConfig: r.trust(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c *ftp.Client, line string, code int, text string) {
		t.Helper()
		rep, err := c.Cmd(ctx, line)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Code != code || !strings.Contains(rep.Text+strings.Join(rep.Lines, " "), text) {
			t.Errorf("%s: %v, want %d %q", strings.Fields(line)[0], rep, code, text)
		}
	}
	clear := dial(2, ftp.NoTLS)
	say(clear, "USER fay", 331, "")
	say(clear, "PASS "+testPassword, 230, "without TLS")
	say(clear, `SITE PSWD "`+testPassword+`" some-new-secret`, 534, "TLS")
	say(clear, "MLST /", 530, "")

	c := dial(0, ftp.ImplicitTLS)
	say(c, "USER fay", 331, "")
	say(c, "PASS "+testPassword, 230, "SITE PSWD old new")
	for _, line := range []string{"MLST /", "CWD /", "MKD d", "DELE f", "RNFR f", "SIZE f"} {
		say(c, line, 530, "SITE PSWD")
	}
	say(c, `SITE PSWD wrong some-new-secret`, 530, "")
	say(c, `SITE PSWD "`+testPassword+`" short`, 553, "at least 8")
	say(c, `SITE PSWD "`+testPassword+`" password123`, 553, "guessed")
	say(c, `SITE PSWD "`+testPassword+`" "`+testPassword+`"`, 553, "the old one")
	say(c, `SITE PSWD "`+testPassword+`" some-new-secret`, 200, "changed")
	say(c, "MLST /", 250, "")
	say(c, `SITE PSWD some-new-secret another-secret`, 502, "")
	if strings.Contains(r.logs.String(), "some-new-secret") {
		t.Error("the new password is in the log")
	}
	if err := r.ftps(t, "fay", testPassword, false); err == nil {
		t.Error("the old password still works")
	}
	if err := r.ftps(t, "fay", "some-new-secret", false); err != nil {
		t.Error("the new password:", err)
	}

	asked, err := r.sshAs("sue", []string{testPassword, "some-new-secret", "something-else", "short", "short", "some-new-secret", "some-new-secret"})
	if err != nil || len(asked) != 7 {
		t.Errorf("asked %q, %v", asked, err)
	}
	if _, err := r.sshAs("sue", nil, ssh.Password("some-new-secret")); err != nil {
		t.Error("the new password:", err)
	}
	asked, err = r.sshAs("pam", []string{"some-new-secret", "some-new-secret"}, ssh.Password(testPassword))
	if want := []string{"New password: ", "New password again: "}; err != nil || !slices.Equal(asked, want) {
		t.Errorf("method password, then the change: asked %q, %v", asked, err)
	}
	if u, err := r.s.Store().UserByName(ctx, "pam"); err != nil || u.MustChange {
		t.Errorf("must_change is still set: %v", err)
	}
	var es []events.Event
	for end := time.Now().Add(10 * time.Second); len(es) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		es, err = r.s.Store().ListEvents(t.Context(), store.EventFilter{User: "pam", Kinds: []events.Kind{events.UserChanged}})
	}
	if err != nil || len(es) != 1 || !strings.Contains(es[0].Detail, "by its owner") {
		t.Errorf("events %+v, %v", es, err)
	}
}

// TestSessionsFollowFactors: who logged in with less than is needed now is logged out.
func TestSessionsFollowFactors(t *testing.T) {
	r := newFactorRig(t, account.User{Name: "ida"})
	c, err := ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: "ida", Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := r.s.Store().UpdateUser(t.Context(), "ida", func(u *account.User) error { u.Auth = []string{account.FactorKey}; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.s.manager.Refresh(t.Context(), "ida"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the session goes on with a password alone")
	}
}
