//go:build oidc

package oidc

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// release is the provider that the test installs from the npm registry once;
// the next major version does not run on the Node.js of Debian 12.
const release = "8.8.1"

// module returns its directory. It stays in the user's cache, so that later
// runs need no network.
func module(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	prefix := filepath.Join(cache, "portreeve-tests", "oidc-provider-"+release)
	path := filepath.Join(prefix, "node_modules", "oidc-provider")
	if _, err := os.Stat(filepath.Join(path, "package.json")); err == nil {
		return path
	}
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	// npm goes by the user's own settings: a proxy, a mirror, certificates.
	cmd := exec.Command("npm", "install", "--prefix", prefix, "--no-audit", "--no-fund", "--no-save", "oidc-provider@"+release)
	cmd.Dir = prefix
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm could not install oidc-provider@%s: %v\n%s", release, err, out)
	}
	return path
}

// provider is the running one.
type provider struct {
	t      *testing.T
	module string
	port   int
	cmd    *exec.Cmd
}

func (p *provider) issuer() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// start runs it with one signing key; another name is another key.
func (p *provider) start(key string) {
	p.t.Helper()
	p.cmd = exec.Command("node", filepath.Join("testdata", "provider.mjs"), p.module, fmt.Sprint(p.port), key)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var said strings.Builder
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("node is needed (test/tools/install): %v", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		p.t.Fatalf("the provider does not start, it needs Node.js 18 or later: %q %v\n%s", line, err, said.String())
	}
	p.t.Cleanup(p.stop)
}

func (p *provider) stop() {
	if p.cmd != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait() // its status is ours: killed
		p.cmd = nil
	}
}

// robot gets an access token that is a JWT, for this audience, as a program does.
func (p *provider) robot(audience string) string {
	p.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {audience}, "scope": {"api"}}
	req, _ := http.NewRequest("POST", p.issuer()+"/token", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("robot", "of-the-test")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`"access_token":"([^"]+)"`).FindSubmatch(b)
	if m == nil {
		p.t.Fatalf("no access token: %s", b)
	}
	return string(m[1])
}

var (
	action = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)
	hidden = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*>`)
	attr   = regexp.MustCompile(`\b(name|value)="([^"]*)"`)
)

// browse opens a page as a browser with a person in front of it, who logs in
// under this name and agrees to everything. It returns the last page, and may run on any goroutine.
func browse(t *testing.T, address, who string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	c := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	resp, err := c.Get(address)
	for range 8 {
		if err != nil {
			t.Error(err)
			return ""
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		page := string(b)
		m := action.FindStringSubmatch(page)
		if m == nil {
			return page
		}
		form := url.Values{}
		for _, in := range hidden.FindAllString(page, -1) {
			var name, value string
			for _, a := range attr.FindAllStringSubmatch(in, -1) {
				if a[1] == "name" {
					name = a[2]
				} else {
					value = html.UnescapeString(a[2])
				}
			}
			form.Set(name, value)
		}
		if strings.Contains(page, `name="login"`) {
			form.Set("login", who)
			form.Set("password", "any")
		}
		at, err1 := resp.Request.URL.Parse(html.UnescapeString(m[1]))
		if err1 != nil {
			t.Error(err1)
			return ""
		}
		resp, err = c.PostForm(at.String(), form)
	}
	t.Error("the provider asks without end")
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
