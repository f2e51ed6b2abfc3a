//go:build oidc

package oidc

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/auth"
)

const audience = "https://ftp.example.org/api"

// rig is a Portreeve server that trusts the provider, and its command line.
type rig struct {
	*provider
	dir, bin   string
	admin, ftp string // host:port
	server     *exec.Cmd
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{provider: &provider{t: t, module: module(t), port: freePort(t)}, dir: t.TempDir()}
	r.bin = filepath.Join(r.dir, "portreeve")
	if out, err := exec.Command("go", "build", "-o", r.bin, "../../cmd/portreeve").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.admin, r.ftp = fmt.Sprintf("localhost:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	_, port, _ := net.SplitHostPort(r.admin)
	conf := fmt.Sprintf(`data_dir = %q
[admin]
address = "127.0.0.1:%s"
[admin.oidc]
issuer = %q
client_id = "portreeve"
audiences = [%q]
roles = ["chiefs=all", "desk=read,users@partners"]
[[listen]]
protocol = "ftp"
address = %q
tls = "off"
`, filepath.Join(r.dir, "data"), port, r.issuer(), audience, r.ftp)
	if err := os.WriteFile(filepath.Join(r.dir, "portreeve.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	r.provider.start("first")
	r.serve()
	t.Cleanup(r.end)
	return r
}

func (r *rig) serve() {
	r.t.Helper()
	r.server = r.command("serve")
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.server.Stdout, r.server.Stderr = log, log
	if err := r.server.Start(); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", r.admin); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			r.t.Fatalf("the server does not answer:\n%s", b)
		}
	}
}

func (r *rig) end() {
	r.server.Process.Signal(os.Interrupt)
	if err := r.server.Wait(); err != nil {
		b, _ := os.ReadFile(filepath.Join(r.dir, "log"))
		r.t.Errorf("the server ended with %v:\n%s", err, b)
	}
}

func (r *rig) command(args ...string) *exec.Cmd {
	c := exec.Command(r.bin, args...)
	c.Dir = r.dir
	c.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(r.dir, "home"))
	return c
}

// run runs a command and returns all it says, and whether it went well.
func (r *rig) run(args ...string) (string, bool) {
	out, err := r.command(args...).CombinedOutput()
	return string(out), err == nil
}

// want runs a command that must end well or badly, and say this.
func (r *rig) want(ok bool, text string, args ...string) {
	r.t.Helper()
	if out, fine := r.run(args...); fine != ok || !strings.Contains(out, text) {
		r.t.Errorf("portreeve %s: ok %v, want %v and %q:\n%s", strings.Join(args, " "), fine, ok, text, out)
	}
}

// there are the arguments for the server as from another machine.
func (r *rig) there(args ...string) []string {
	return append([]string{"--server", r.admin}, args...)
}

// login runs "portreeve login --oidc" with a person at the browser, and
// returns all it says.
func (r *rig) login(who string, args ...string) (string, bool) {
	r.t.Helper()
	cert, _ := filepath.Glob(filepath.Join(r.dir, "data", "tls", "*.crt"))
	if len(cert) == 0 {
		cert, _ = filepath.Glob(filepath.Join(r.dir, "data", "*", "*.pem"))
	}
	if len(cert) > 0 {
		args = append(args, "--ca", cert[0])
	}
	c := r.command(r.there(append([]string{"login", "--oidc", "--wait", "30s"}, args...)...)...)
	said, err := c.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	var out strings.Builder
	c.Stdout = &out
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "or open ")
		if strings.HasPrefix(line, "http") {
			browse(r.t, line, who)
			continue
		}
		out.WriteString(line + "\n")
	}
	err = c.Wait()
	return out.String(), err == nil
}

// call is one raw call of the API; it returns the status and the body.
func (r *rig) call(token, path string) (int, string) {
	r.t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the certificate is made by the server itself
	defer c.CloseIdleConnections()
	req, err := http.NewRequest("GET", "https://"+r.admin+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// token is what the last login kept.
func (r *rig) token() string {
	r.t.Helper()
	file := filepath.Join(r.dir, "home", "portreeve", "logins.json")
	b, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		r.t.Errorf("the log-in is kept with mode %v, %v", st.Mode(), err)
	}
	var all map[string]struct{ Token string }
	if err := json.Unmarshal(b, &all); err != nil {
		r.t.Fatal(err)
	}
	return all["https://"+r.admin].Token
}

func (r *rig) wantStatus(what, token string, status int) {
	r.t.Helper()
	if got, body := r.call(token, "/v1/users"); got != status {
		r.t.Errorf("%s: %d, want %d: %s", what, got, status, body)
	}
}

func TestAdministratorsOfAProvider(t *testing.T) {
	r := newRig(t)
	r.want(true, "", "admin", "add", "ops@example.org", "--scope", "read")
	r.want(true, "", "group", "add", "partners", "--home", filepath.Join(r.dir, "srv", "%u"))
	out, ok := r.run("token", "add", "ops@example.org")
	if !ok {
		t.Fatal(out)
	}
	lines := strings.Fields(out)
	local := lines[len(lines)-1]
	r.want(false, "you are not logged in", r.there("user", "list")...)

	t.Run("who is who", func(t *testing.T) { r.people(t) })
	t.Run("other tokens", func(t *testing.T) { r.others(t) })
	t.Run("keys and a provider that is down", func(t *testing.T) { r.down(t, local) })
}

// people logs in as each kind of person.
func (r *rig) people(t *testing.T) {
	for _, c := range []struct {
		who  string
		args []string
		ok   bool
		want string
	}{
		{"ops+chiefs", nil, true, "as ops@example.org (read), until "}, // what is kept here counts
		{"eve+chiefs", nil, true, "as eve@example.org (read, users, groups, sessions, server, admins)"},
		{"dan+desk", []string{"--device"}, true, "as dan@example.org (read, users)"},
		{"mallory", nil, false, `knows you as "mallory@example.org", who is no administrator here`},
		{"unverified+chiefs", nil, false, "the token is not valid"},
	} {
		if out, ok := r.login(c.who, c.args...); ok != c.ok || !strings.Contains(out, c.want) {
			t.Errorf("%s: ok %v\n%s", c.who, ok, out)
		}
	}
	// The last one who came in is dan, who may manage partners and nobody else.
	r.want(true, "made", r.there("user", "add", "pam", "--group", "partners", "--generate")...)
	r.want(false, "limited to members of partners", r.there("user", "add", "joe", "--home", filepath.Join(r.dir, "srv", "joe"), "--generate")...)
	r.want(true, "pam", r.there("user", "list")...)
	r.want(false, "works on this machine alone", r.there("backup", "x")...)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the trail is written in the background
		out, _ := r.run("event", "list", "--kind", "user.changed")
		if strings.Contains(out, "by administrator dan@example.org") {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the trail does not say who made pam:\n%s", out)
			break
		}
	}
	r.want(true, "logged out", r.there("logout")...)
	r.want(false, "you are not logged in", r.there("user", "list")...)
}

// others tries tokens that were not made by a log-in to Portreeve.
func (r *rig) others(t *testing.T) {
	r.wantStatus("a program nobody knows", r.robot(audience), http.StatusForbidden)
	r.want(true, "", "admin", "add", "robot@example.org", "--scope", "read")
	r.wantStatus("a program", r.robot(audience), http.StatusOK)
	r.wantStatus("a token for another service", r.robot("https://wiki.example.org"), http.StatusUnauthorized)
	r.want(true, "", "admin", "set", "robot@example.org", "--disabled")
	r.wantStatus("a program that is disabled", r.robot(audience), http.StatusForbidden)

	s := auth.SignIn{Issuer: r.issuer(), ClientID: "another", Scopes: []string{"email", "profile"}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := s.Code(ctx, 0, func(url string) { go browse(t, url, "eve+chiefs") })
	if err != nil {
		t.Fatal(err)
	}
	r.wantStatus("a log-in to another program", a.Token, http.StatusUnauthorized)
}

// down changes the provider's key and takes it away.
func (r *rig) down(t *testing.T, local string) {
	if out, ok := r.login("eve+chiefs"); !ok {
		t.Fatal(out)
	}
	before := r.token()
	r.provider.stop()
	r.wantStatus("the provider is down, its key is known", before, http.StatusOK)
	r.provider.start("second")
	if out, ok := r.login("eve+chiefs"); !ok {
		t.Fatal(out)
	}
	after := r.token()
	r.wantStatus("a key that was withdrawn", before, http.StatusUnauthorized)
	r.wantStatus("the new key", after, http.StatusOK)

	r.provider.stop()
	r.end()
	r.serve()
	status, body := r.call(after, "/v1/users")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "cannot be asked") {
		t.Errorf("the provider is down and its keys are not known: %d %s", status, body)
	}
	if out, ok := r.login("eve"); ok || !strings.Contains(out, "cannot be asked") {
		t.Errorf("a log-in while it is down: %v\n%s", ok, out)
	}
	r.wantStatus("a token of the server's own meanwhile", local, http.StatusOK)
	out, ok := r.run("user", "add", "ann", "--home", filepath.Join(r.dir, "srv", "ann"), "--generate")
	if !ok {
		t.Fatal(out)
	}
	words := strings.Fields(out)
	c, err := ftp.Dial(t.Context(), r.ftp, ftp.ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(t.Context(), "ann", words[len(words)-1]); err != nil {
		t.Errorf("a user meanwhile: %v\n%s", err, out)
	}
}
