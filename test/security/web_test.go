package security

import (
	"bufio"
	"compress/zlib"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/auth"
)

// web is a server that administrators reach over HTTPS, and a token.
type web struct {
	*rig
	svc    *admin.Service
	base   string
	addr   string
	token  string
	client *http.Client
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func startWeb(t *testing.T, more string) *web {
	t.Helper()
	addr := freeAddress(t)
	r := start(t, more+fmt.Sprintf("\n[admin]\naddress = %q\n", addr))
	h, err := auth.NewHasher(auth.HasherOptions{Params: auth.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := admin.New(admin.Config{Store: r.s.Store(), Events: r.s.Bus(), Live: r.s.Manager(), Hash: h.Hash, CheckHash: h.Check, DataDir: r.data, Log: r.s.Log(), Limits: r.s.Limits(), Measure: r.s.Measure})
	if err != nil {
		t.Fatal(err)
	}
	ln, c := r.s.AdminListener()
	srv := api.NewTLSServer(svc, nil, c)
	srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(ln, "", "") }()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close(); <-done })
	w := &web{rig: r, svc: svc, base: "https://" + addr, addr: addr, client: &http.Client{Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if _, err := svc.CreateAdministrator(t.Context(), admin.NewAdministrator{Name: "ops", AdministratorSettings: admin.AdministratorSettings{Scopes: &[]string{"all"}}}); err != nil {
		t.Fatal(err)
	}
	w.token = w.newToken(admin.NewToken{Administrator: "ops"})
	return w
}

func (w *web) newToken(n admin.NewToken) string {
	w.t.Helper()
	made, err := w.svc.CreateToken(w.t.Context(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Secret
}

// call sends one request; the header comes in pairs.
func (w *web) call(method, path string, body io.Reader, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

func (w *web) bearer() string { return "Bearer " + w.token }

// raw sends bytes over TLS and returns what comes back until the end.
func (w *web) raw(text string) string {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, text) // a refusal may come before all of it is out
	b, _ := io.ReadAll(bufio.NewReader(c))
	return string(b)
}

// users counts the accounts.
func (w *web) users() int {
	w.t.Helper()
	us, err := w.s.Store().ListUsers(w.t.Context(), "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(us)
}

// TestOldTLSVersions: nothing below TLS 1.2 and no suite without forward
// secrecy, on FTP and on the administrative interface.
func TestOldTLSVersions(t *testing.T) {
	w := startWeb(t, "")
	for _, c := range []*tls.Config{{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}} {
		c.InsecureSkipVerify = true
		if tc, err := tls.Dial("tcp", w.addr, c); err == nil {
			t.Errorf("HTTPS takes %s", tls.VersionName(tc.ConnectionState().Version))
			tc.Close()
		}
		l := w.connect(secure)
		l.want("220")
		l.do("AUTH TLS", "234")
		if err := tls.Client(l.raw, c).Handshake(); err == nil {
			t.Error("FTPS takes what HTTPS refuses")
		}
	}
}

// TestRequestSmuggling: a request whose length can be read in two ways is
// refused, and so is a header without end.
func TestRequestSmuggling(t *testing.T) {
	w := startWeb(t, "")
	before := w.users()
	inner := "POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n" + `{"name":"smuggled","home":"/srv"}`
	for _, head := range []string{"Content-Length: 5\r\nTransfer-Encoding: chunked, identity", "Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: xchunked", "Transfer-Encoding : chunked", "Content-Length: +5", "Content-Length: -1", "X: a\rContent-Length: 0", "X: a\x00b"} {
		if got := w.raw("POST /v1/sign-in HTTP/1.1\r\nHost: x\r\n" + head + "\r\n\r\n0\r\n\r\n" + inner); !strings.HasPrefix(got, "HTTP/1.1 400") && !strings.HasPrefix(got, "HTTP/1.1 501") {
			t.Errorf("%q: %.100q", head, got)
		}
	}
	for _, bomb := range []string{"X: " + strings.Repeat("x", 1<<20), strings.Repeat("X-Y: z\r\n", 100_000) + "Z: z"} {
		if got := w.raw("GET /v1/users HTTP/1.1\r\nHost: x\r\n" + bomb + "\r\n\r\n"); got != "" && !strings.HasPrefix(got, "HTTP/1.1 431") { // it may have closed before we had sent all
			t.Errorf("a header of %d octets: %.100q", len(bomb), got)
		}
	}
	if n := w.users(); n != before {
		t.Errorf("%d accounts, %d before", n, before)
	}
	w.alive()
}

// TestCompressedRequestBody: one small request that unpacks to a large one.
func TestCompressedRequestBody(t *testing.T) {
	w := startWeb(t, "")
	var bomb strings.Builder
	z := zlib.NewWriter(&bomb)
	z.Write(make([]byte, 32<<20))
	z.Close()
	for _, encoding := range []string{"deflate", "gzip", "br", "zstd", "gzip, deflate", "x-unknown"} {
		for _, token := range []string{"", w.bearer()} {
			want := http.StatusUnsupportedMediaType
			if token == "" {
				want = http.StatusUnauthorized
			}
			if resp, _ := w.call("POST", "/v1/users", strings.NewReader(bomb.String()), "Authorization", token, "Content-Encoding", encoding); resp.StatusCode != want {
				t.Errorf("%s: %s", encoding, resp.Status)
			}
		}
	}
}

// TestJSONBomb: depth, size and number of what a request holds.
func TestJSONBomb(t *testing.T) {
	w := startWeb(t, "")
	before := w.users()
	for name, body := range map[string]string{"depth": strings.Repeat(`{"a":`, 200_000), "arrays": `{"rules":` + strings.Repeat("[", 500_000), "size": `{"name":"` + strings.Repeat("x", 8<<20) + `"}`, "keys": `{` + strings.Repeat(`"name":"a",`, 60_000) + `"home":7}`} {
		began := time.Now()
		resp, _ := w.call("POST", "/v1/users", strings.NewReader(body), "Authorization", w.bearer(), "Content-Type", "application/json")
		if resp.StatusCode != 400 && resp.StatusCode != 413 || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %s after %s", name, resp.Status, time.Since(began))
		}
	}
	if n := w.users(); n != before {
		t.Errorf("%d accounts, %d before", n, before)
	}
}

// TestCSRF: a page of somebody else makes a browser send requests. There is
// nothing a browser adds by itself that counts, and nothing lets the page read.
func TestCSRF(t *testing.T) {
	w := startWeb(t, "")
	before := w.users()
	body := `{"name":"forged","home":"/srv/forged"}`
	for _, header := range [][]string{{"Cookie", "token=" + w.token + "; session=" + w.token}, {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ops:"+w.token))}, {"Referer", w.base}} {
		resp, _ := w.call("POST", "/v1/users", strings.NewReader(body), append(header, "Origin", "https://evil.example", "Content-Type", "text/plain", "Sec-Fetch-Site", "cross-site")...)
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("with %s: %s", header[0], resp.Status)
		}
	}
	for _, method := range []string{"OPTIONS", "GET"} {
		resp, _ := w.call(method, "/v1/users", nil, "Authorization", w.bearer(), "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
		for k := range resp.Header {
			if strings.HasPrefix(k, "Access-Control-") || k == "Set-Cookie" {
				t.Errorf("%s answers %s: %s", method, k, resp.Header.Get(k))
			}
		}
	}
	if n := w.users(); n != before {
		t.Errorf("%d accounts, %d before", n, before)
	}
}

// TestScriptInNames: what users and strangers choose is never a page.
func TestScriptInNames(t *testing.T) {
	w := startWeb(t, "")
	const script = `<script>alert(1)</script>`
	c := w.connect(clear)
	c.want("220")
	c.do("USER "+script, "331")
	c.do("PASS x", "530")
	for _, path := range []string{"/v1/" + script, "/v1/users/" + script, "/v1/users?after=" + script, "/v1/events"} {
		resp, body := w.call("GET", strings.ReplaceAll(path, "<", "%3C"), nil, "Authorization", w.bearer(), "Accept", "text/html")
		kind := resp.Header.Get("Content-Type")
		if !strings.HasPrefix(kind, "application/json") && !strings.HasPrefix(kind, "application/problem+json") || resp.Header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(body, script) {
			t.Errorf("%s: %s %v: %.200s", path, resp.Status, resp.Header, body)
		}
	}
}

// TestOpenRedirect: no answer leads to another host.
func TestOpenRedirect(t *testing.T) {
	w := startWeb(t, "")
	for _, path := range []string{"//evil.example/v1/users", "/%2f%2fevil.example", "/\\evil.example", "/v1/..//evil.example", "/v1//users", "/v1/users/../../evil.example", "/?next=https://evil.example", "/v1/sign-in?return=https://evil.example"} {
		got := w.raw("GET " + path + " HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nAuthorization: " + w.bearer() + "\r\n\r\n")
		for line := range strings.Lines(got) {
			k, v, _ := strings.Cut(line, ":")
			if v = strings.TrimSpace(v); strings.EqualFold(k, "Location") && (!strings.HasPrefix(v, "/") || strings.HasPrefix(v, "//") || strings.HasPrefix(v, "/\\")) {
				t.Errorf("%s leads to %s", path, v)
			}
		}
	}
}

// TestHostHeader: a name that an attacker makes lead here (DNS rebinding)
// opens neither the counters nor the interface, and comes back in no answer.
func TestHostHeader(t *testing.T) {
	metrics := freeAddress(t)
	w := startWeb(t, fmt.Sprintf("[metrics]\naddress = %q\n", metrics))
	req, _ := http.NewRequest("GET", "http://"+metrics+"/metrics", nil)
	req.Host = "rebound.evil.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("metrics for another host: %s", resp.Status)
	}
	for _, header := range [][]string{{"Host", "rebound.evil.example"}, {"X-Forwarded-Host", "rebound.evil.example"}, {"X-Forwarded-For", "127.0.0.1"}, {"Forwarded", "for=127.0.0.1;host=rebound.evil.example"}} {
		resp, body := w.call("GET", "/v1/users", nil, header...)
		if resp.StatusCode != http.StatusUnauthorized || strings.Contains(body+fmt.Sprint(resp.Header), "evil.example") {
			t.Errorf("%v: %s %s", header, resp.Status, body)
		}
	}
}

// TestForgedTokens: only what was made here, is whole, not over and not taken
// back opens the interface; guesses are slowed down.
func TestForgedTokens(t *testing.T) {
	w := startWeb(t, "")
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	last := w.token[:len(w.token)-1] + string(w.token[len(w.token)-1]^1)
	over := w.newToken(admin.NewToken{Administrator: "ops", Expires: time.Now().Add(time.Second)})
	bad := map[string]string{"none": "", "empty": " ", "another end": last, "shorter": w.token[:len(w.token)-4], "longer": w.token + "x",
		"unsigned JWT": b64(`{"alg":"none"}`) + "." + b64(`{"sub":"ops","scope":"all"}`) + ".", "a name": "ops", "no ASCII": w.token[:4] + "\xff" + w.token[5:]}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(2100 * time.Millisecond)))
	bad["expired"] = over
	for name, token := range bad {
		if resp, body := w.call("GET", "/v1/users", nil, "Authorization", "Bearer "+token); resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "ann") {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	if resp, _ := w.call("GET", "/v1/users?access_token="+w.token+"&token="+w.token, nil); resp.StatusCode == http.StatusOK {
		t.Error("a token in the URL, which logs and proxies keep, is taken")
	}
	slowed := false
	for range 20 {
		resp, _ := w.call("GET", "/v1/users", nil, "Authorization", "Bearer guess")
		slowed = slowed || resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != ""
	}
	if !slowed {
		t.Error("guesses are not slowed down")
	}
	if strings.Contains(w.logs.String(), w.token) {
		t.Error("a token is in the log")
	}
}

// TestSSRFByWebhook: a webhook does not reach into the inner network, neither
// by its address, nor by a name that leads there, nor by a redirect.
func TestSSRFByWebhook(t *testing.T) {
	var inner, outer atomic.Int32
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inner.Add(1) }))
	defer secret.Close()
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outer.Add(1)
		http.Redirect(w, r, secret.URL, http.StatusTemporaryRedirect)
	}))
	defer redirect.Close()
	_, port, _ := net.SplitHostPort(secret.Listener.Addr().String())
	hook := func(name, url, networks string) string {
		return fmt.Sprintf("[[hook]]\nname = %q\non = [\"upload\"]\ndeliver = \"webhook\"\nurl = %q\nattempts = 1\ntimeout = \"5s\"\nnetworks = [%s]\n", name, url, networks)
	}
	r := start(t, hook("plain", secret.URL, "")+hook("name", "http://localhost:"+port, "")+hook("mapped", "http://[::ffff:127.0.0.1]:"+port, "")+hook("decimal", "http://2130706433:"+port, "")+
		hook("metadata", "http://169.254.169.254/latest", "")+hook("redirect", redirect.URL, `"`+redirect.Listener.Addr().(*net.TCPAddr).IP.String()+`"`))
	c := r.login("ann")
	if reply := c.store("STOR f", "x"); !strings.HasPrefix(reply, "226") {
		t.Fatal(reply)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := r.s.Store().Backlogs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dead := int64(0)
		for _, n := range b {
			dead += n.Dead
		}
		if dead == 6 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not all were given up: %v", b)
		}
	}
	if inner.Load() != 0 || outer.Load() != 1 {
		t.Errorf("the inner service was asked %d times, the redirecting one %d times", inner.Load(), outer.Load())
	}
}

// TestMetricsAndDebugClosed: counters are on no port unless asked for, and
// there is no debugging interface on any.
func TestMetricsAndDebugClosed(t *testing.T) {
	r := start(t, "")
	if a := r.s.MetricsAddress(); a != nil {
		t.Errorf("metrics are at %s although nobody asked for them", a)
	}
	metrics := freeAddress(t)
	w := startWeb(t, fmt.Sprintf("[metrics]\naddress = %q\n", metrics))
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/debug/pprof/heap", "/metrics/../debug/pprof/", "/"} {
		resp, err := http.Get("http://" + metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the metrics port: %s", path, resp.Status)
		}
		if resp, _ := w.call("GET", path, nil, "Authorization", w.bearer()); resp.StatusCode == http.StatusOK {
			t.Errorf("%s on the administrative port: %s", path, resp.Status)
		}
	}
}

// TestDropFolderExecutesNothing: what is uploaded is never run: not by its
// name, not as an argument, not as the program of a hook.
func TestDropFolderExecutesNothing(t *testing.T) {
	dir := t.TempDir()
	tool, proof, seen := filepath.Join(dir, "tool"), filepath.Join(dir, "proof"), filepath.Join(dir, "seen")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\nprintf '%s\\n' \"$PORTREEVE_PATH\" >>"+seen+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := start(t, fmt.Sprintf("[[hook]]\nname = \"h\"\non = [\"upload\"]\ndeliver = \"program\"\nprogram = [%q]\nparallel = 1\n", tool))
	c := r.login("ann")
	names := []string{"autorun.sh", "$(touch proof)", "`touch proof`", "; touch proof;", "| touch proof", "-rf", "&& touch proof", "a'b\"c"}
	for _, n := range names {
		if reply := c.store("STOR "+n, "#!/bin/sh\ntouch "+proof+"\n"); !strings.HasPrefix(reply, "226") {
			t.Fatalf("%s: %s", n, reply)
		}
	}
	c.do("SITE CHMOD 755 autorun.sh", "200")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(seen)
		if strings.Count(string(b), "\n") == len(names) {
			for _, n := range names {
				if !strings.Contains(string(b), "/"+n+"\n") {
					t.Errorf("the program was not told of %q as it is", n)
				}
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the program was told of\n%s", b)
		}
	}
	for _, p := range []string{proof, "proof", filepath.Join(r.home, "proof")} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s was made: something of an upload was run", p)
		}
	}
}

// TestRegexpDenialOfService: patterns that explode in a backtracking matcher.
func TestRegexpDenialOfService(t *testing.T) {
	bomb := strings.Repeat("*a", 40) + "b"
	r := start(t, "", account.User{Name: "bob", Home: filepath.Join(t.TempDir(), "bob"), Rules: []account.Rule{{Path: "/", Rights: account.All, Deny: []string{bomb, strings.Repeat("?*", 40) + "!"}}}})
	c := r.login("bob")
	began := time.Now()
	for range 20 {
		if reply := c.store("STOR "+strings.Repeat("a", 250), "x"); !strings.HasPrefix(reply, "226") {
			t.Fatal(reply)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("20 names took %s", d)
	}
}
