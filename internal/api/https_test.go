package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
)

// network is the HTTPS listener of a rig, and a client that any test may
// misuse: what it sends is not made by our own client.
type network struct {
	*rig
	t      *testing.T
	base   string
	client *http.Client
	token  string
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{rig: newRig(t), t: t}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := NewTLSServer(n.svc, n.server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}})
	srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(ln, "", "") }()
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	n.base = "https://" + ln.Addr().String()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	n.client = &http.Client{Transport: tr, Timeout: 30 * time.Second}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close(); <-done })
	n.token = n.administrator("ops")
	return n
}

// administrator makes one who may do everything and returns a token.
func (n *network) administrator(name string) string {
	n.t.Helper()
	if _, err := n.svc.CreateAdministrator(n.t.Context(), admin.NewAdministrator{Name: name, AdministratorSettings: admin.AdministratorSettings{Scopes: &[]string{"all"}}}); err != nil {
		n.t.Fatal(err)
	}
	made, err := n.svc.CreateToken(n.t.Context(), admin.NewToken{Administrator: name})
	if err != nil {
		n.t.Fatal(err)
	}
	return made.Secret
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request. Every answer of 400 and above must be a problem.
func (n *network) do(method, path, token, body string, header ...string) answer {
	n.t.Helper()
	req, err := http.NewRequest(method, n.base+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.client.Do(req)
	if err != nil {
		n.t.Fatalf("%s %.80s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatalf("%s %.80s: %v", method, path, err)
	}
	if resp.StatusCode >= 400 {
		var p problem
		if err := json.Unmarshal(b, &p); err != nil || p.Status != resp.StatusCode || p.Type == "" || p.Title == "" || p.Detail == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
			n.t.Errorf("%s %.80s: %d is no problem: %q %.200s", method, path, resp.StatusCode, resp.Header.Get("Content-Type"), b)
		}
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (n *network) want(status int, method, path, body string, header ...string) answer {
	n.t.Helper()
	a := n.do(method, path, n.token, body, header...)
	if a.status != status {
		n.t.Errorf("%s %.80s %.80s: %d, want %d: %.300s", method, path, body, a.status, status, a.body)
	}
	return a
}

// TestMalformed sends what is no request at all; nothing comes of any of it.
func TestMalformed(t *testing.T) {
	n := newNetwork(t)
	for _, body := range []string{`{`, `{"name":"bob"`, `{"name":"bob",}`, `{'name':'bob'}`, `null`, `[]`, `"bob"`, `7`, `{"name":null}`, `{"name":["bob"]}`, `{"name":{"a":1}}`,
		"{\"name\":\"bob\x00\"}", "{\"name\":\"b\xff\xfeb\"}", `{"name":"bob"}{"name":"eve"}`, `{"name":"bob"}]`, `{"name":"bob","admin":true}`, `{"name":"bob","id":1}`, `{"name":"bob","PasswordHash":"x"}`,
		`{"name":"bob","quota_bytes":1e400}`, `{"name":"bob","quota_bytes":1.5}`, `{"name":"bob","quota_bytes":-1}`, `{"name":"bob","max_sessions":99999999999999999999}`, `{"name":"bob","expires":"tomorrow"}`,
		`{"name":"bob","networks":["10.0.0.0/99"]}`, `{"name":"bob","hours":[{"from":"25:00","until":"x"}]}`, `{"name":"bob","rules":[{"path":"/","rights":"fly"}]}`, "\ufeff" + `{"name":"bob"}`,
		`{"name":"bob","mounts":` + strings.Repeat("[", 20_000) + `}`, strings.Repeat(`{"name":`, 20_000)} {
		n.want(400, "POST", "/v1/users", body)
	}
	n.want(400, "POST", "/v1/users", "")
	n.want(400, "POST", "/v1/users", `{"name":"bob"}`, "Content-Type", "text/xml")
	n.want(400, "POST", "/v1/users", `{"name":"bob"}`, "Content-Type", "application/json; charset=\"")
	n.want(413, "POST", "/v1/users", `{"name":"bob","comment":"`+strings.Repeat("x", maxBody)+`"}`)
	n.want(400, "POST", "/v1/users", `{"name":"bob"}`, "Idempotency-Key", strings.Repeat("k", 256))
	n.want(405, "TRACE", "/v1/users", "")
	n.want(404, "GET", "/v1/users/"+url.PathEscape("nobody"), "")
	for _, q := range []string{"limit=0", "limit=-1", "limit=501", "limit=1e2", "limit=%00"} {
		n.want(400, "GET", "/v1/users?"+q, "")
	}

	// A body that does not say how long it is has the same limit.
	req, _ := http.NewRequest("POST", n.base+"/v1/users", io.MultiReader(strings.NewReader(`{"comment":"`), io.LimitReader(zeros{}, 8<<20)))
	req.Header.Set("Authorization", "Bearer "+n.token)
	if resp, err := n.client.Do(req); err == nil { // the server may also close while the body is under way
		resp.Body.Close()
		if resp.StatusCode != 413 && resp.StatusCode != 400 {
			t.Errorf("a body without end: %s", resp.Status)
		}
	}
	req, _ = http.NewRequest("GET", n.base+"/v1/users", nil)
	req.Header.Set("Authorization", "Bearer "+n.token)
	req.Header.Set("X-Large", strings.Repeat("x", 1<<20))
	if resp, err := n.client.Do(req); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("an enormous header: %s", resp.Status)
		}
	}
	if us, _, err := n.svc.Users(t.Context(), admin.ListOptions{}); err != nil || len(us) != 0 {
		t.Errorf("a bad request made a user: %v, %v", us, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// hostile is what nobody means well.
var hostile = []string{"", "../../etc/passwd", "a/b", "a\x00b", "a\r\nX-Injected: y", "\u202e\u0007\ufeff", strings.Repeat("x", 70_000), "*)(uid=*))(|(uid=*", "'; DROP TABLE users; --", "%s%n%u%g", "-rf", "."}

// leaves lists the JSON paths of all texts in a body of this type.
func leaves(t reflect.Type, depth int) (out [][]any) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case depth > 6:
	case t.Kind() == reflect.String || t.Kind() == reflect.Struct && t.Implements(textType):
		return [][]any{{}}
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		for _, l := range leaves(t.Elem(), depth+1) {
			out = append(out, append([]any{0}, l...))
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" || !f.IsExported() {
				continue
			}
			for _, l := range leaves(f.Type, depth+1) {
				if f.Anonymous && name == "" {
					out = append(out, l)
				} else {
					out = append(out, append([]any{name}, l...))
				}
			}
		}
	default: // rights and such, which are texts in JSON
		if t.Implements(textType) || reflect.PointerTo(t).Implements(textType) {
			return [][]any{{}}
		}
	}
	return out
}

// put makes a value with v at the path.
func put(path []any, v any) any {
	if len(path) == 0 {
		return v
	}
	if _, list := path[0].(int); list {
		return []any{put(path[1:], v)}
	}
	return map[string]any{path[0].(string): put(path[1:], v)}
}

// TestHostileTexts puts every hostile text into every field, path and query of
// every call. No call may fail inside, and no name that is none comes to be.
func TestHostileTexts(t *testing.T) {
	n := newNetwork(t)
	if _, err := n.svc.CreateUser(t.Context(), admin.NewUser{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.svc.CreateGroup(t.Context(), admin.NewGroup{Name: "staff"}); err != nil {
		t.Fatal(err)
	}
	calls, administrators := 0, 0
	token := n.token
	send := func(method, path, body string) {
		if calls++; calls%150 == 0 { // stay below the rate of one administrator
			administrators++
			token = n.administrator(fmt.Sprint("ops", administrators))
		}
		a := n.do(method, path, token, body)
		if a.status >= 500 && a.status != http.StatusNotImplemented && a.status != http.StatusServiceUnavailable {
			t.Errorf("%s %.100s %.200q: %d %.300s", method, path, body, a.status, a.body)
		}
		if a.header.Get("X-Injected") != "" {
			t.Errorf("%s %.100s: a header was injected", method, path)
		}
	}
	for _, rt := range (&handler{}).routes() {
		if slices.Contains([]string{"stop", "upgrade", "reload"}, rt.id) {
			continue
		}
		path := strings.NewReplacer("{name}", "ann", "{id}", "s1").Replace(rt.path)
		if strings.HasPrefix(rt.path, "/v1/groups/") {
			path = strings.Replace(rt.path, "{name}", "staff", 1)
		}
		for _, h := range hostile {
			if long := len(h) > 1000; !long { // a URL of this length ends in the header limit
				if strings.Contains(rt.path, "{") && h != "" {
					send(rt.method, strings.NewReplacer("{name}", url.PathEscape(h), "{id}", url.PathEscape(h)).Replace(rt.path), "{}")
				}
				for _, q := range rt.query {
					send(rt.method, path+"?"+url.Values{q.name: {h}}.Encode(), "")
				}
			}
			if rt.in == nil || rt.method == "DELETE" {
				continue
			}
			for i, leaf := range leaves(reflect.TypeOf(rt.in), 0) {
				body, _ := put(leaf, h).(map[string]any)
				if _, ok := body["name"]; !ok && strings.HasPrefix(rt.id, "create") {
					body["name"] = fmt.Sprint("n", i)
				}
				if _, ok := body["administrator"]; !ok && rt.id == "createToken" {
					body["administrator"] = "ops"
					delete(body, "name")
				}
				b, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				send(rt.method, path, string(b))
			}
		}
	}
	if calls < 500 {
		t.Errorf("only %d calls were made", calls)
	}
	n.token = n.administrator("last")
	n.namesAreNames(calls)
}

// namesAreNames: after all that, whatever exists is called as it may be.
func (n *network) namesAreNames(calls int) {
	n.t.Helper()
	var users UserList
	if err := json.Unmarshal([]byte(n.want(200, "GET", "/v1/users?limit=500", "").body), &users); err != nil {
		n.t.Fatal(err)
	}
	for _, u := range users.Users {
		if account.ValidName(u.Name) != nil || strings.ContainsFunc(u.Comment+u.Home, func(r rune) bool { return r < ' ' }) {
			n.t.Errorf("there is a user %q, comment %q, home %q", u.Name, u.Comment, u.Home)
		}
	}
	var groups GroupList
	if err := json.Unmarshal([]byte(n.want(200, "GET", "/v1/groups?limit=500", "").body), &groups); err != nil {
		n.t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if account.ValidName(g.Name) != nil || strings.ContainsFunc(g.Comment+g.Home, func(r rune) bool { return r < ' ' }) {
			n.t.Errorf("there is a group %q, comment %q, home %q", g.Name, g.Comment, g.Home)
		}
	}
	n.t.Logf("%d calls; %d users and %d groups are there", calls, len(users.Users), len(groups.Groups))
}

// TestConflictingEdits: of many edits for one version one wins.
func TestConflictingEdits(t *testing.T) {
	n := newNetwork(t)
	for _, what := range []struct{ at, make string }{
		{"/v1/users/ann", `{"name":"ann"}`}, {"/v1/groups/staff", `{"name":"staff"}`}, {"/v1/administrators/desk", `{"name":"desk"}`},
	} {
		made := n.want(201, "POST", what.at[:strings.LastIndexByte(what.at, '/')], what.make)
		tag := made.header.Get("ETag")
		if tag == "" || made.header.Get("Location") != what.at {
			t.Errorf("%s: ETag %q, Location %q", what.at, tag, made.header.Get("Location"))
		}
		n.want(304, "GET", what.at, "", "If-None-Match", tag)
		var wg sync.WaitGroup
		got := make(chan int, 8)
		for i := range cap(got) {
			wg.Go(func() {
				got <- n.do("PATCH", what.at, n.token, fmt.Sprintf(`{"comment":"edit %d"}`, i), "If-Match", tag).status
			})
		}
		wg.Wait()
		close(got)
		won := 0
		for status := range got {
			if status == 200 {
				won++
			} else if status != http.StatusPreconditionFailed {
				t.Errorf("%s: %d", what.at, status)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d edits for one version were taken", what.at, won)
		}
		for _, bad := range []string{"x", `W/"x"`, `"a", "b"`, `"`, `""`} {
			n.want(400, "PATCH", what.at, `{"comment":"x"}`, "If-Match", bad)
		}
		n.want(200, "PATCH", what.at, `{"comment":"x"}`, "If-Match", "*")
	}
}

// TestIdempotentCreates sends one create many times at once.
func TestIdempotentCreates(t *testing.T) {
	n := newNetwork(t)
	var wg sync.WaitGroup
	got := make(chan answer, 8)
	for range cap(got) {
		wg.Go(func() {
			got <- n.do("POST", "/v1/tokens", n.token, `{"administrator":"ops"}`, "Idempotency-Key", "one")
		})
	}
	wg.Wait()
	close(got)
	bodies, replayed := map[string]int{}, 0
	for a := range got {
		if a.status != 201 {
			t.Errorf("%d %s", a.status, a.body)
		}
		bodies[a.body]++
		if a.header.Get("Idempotent-Replayed") == "true" {
			replayed++
		}
	}
	if len(bodies) != 1 || replayed != 7 {
		t.Errorf("%d tokens were made, %d answers were replayed", len(bodies), replayed)
	}
	n.want(422, "POST", "/v1/users", `{"name":"ann"}`, "Idempotency-Key", "one")
	other := n.administrator("other")
	if a := n.do("POST", "/v1/users", other, `{"name":"ann"}`, "Idempotency-Key", "one"); a.status != 201 {
		t.Errorf("the key of another administrator: %d %s", a.status, a.body)
	}
}

// TestReplayNeedsTheRights: an answer with a secret is not given again to a
// token of the same administrator that may do less, nor does its refusal stand
// in the way of one that may do it.
func TestReplayNeedsTheRights(t *testing.T) {
	n := newNetwork(t)
	less, err := n.svc.CreateToken(t.Context(), admin.NewToken{Administrator: "ops", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"administrator":"ops"}`
	a := n.do("POST", "/v1/tokens", n.token, body, "Idempotency-Key", "1")
	if a.status != 201 {
		t.Fatal(a.status, a.body)
	}
	if b := n.do("POST", "/v1/tokens", less.Secret, body, "Idempotency-Key", "1"); b.status != 403 {
		t.Errorf("a token for reading got %d %s", b.status, b.body)
	}
	if b := n.do("POST", "/v1/users", less.Secret, `{"name":"ann"}`, "Idempotency-Key", "2"); b.status != 403 {
		t.Errorf("%d %s", b.status, b.body)
	}
	if b := n.do("POST", "/v1/users", n.token, `{"name":"ann"}`, "Idempotency-Key", "2"); b.status != 201 {
		t.Errorf("the refusal of another token was replayed: %d %s", b.status, b.body)
	}
	if _, err := n.svc.EnableAdministratorTOTP(t.Context(), "ops"); err != nil {
		t.Fatal(err)
	}
	if b := n.do("POST", "/v1/tokens", n.token, body, "Idempotency-Key", "1"); b.status != 403 {
		t.Errorf("without the second factor: %d %s", b.status, b.body)
	}
}

// TestPagesUnderInserts: who is there all the time is listed once, whatever
// comes and goes meanwhile.
func TestPagesUnderInserts(t *testing.T) {
	n := newNetwork(t)
	for i := range 20 {
		if _, err := n.svc.CreateUser(t.Context(), admin.NewUser{Name: fmt.Sprintf("m%02d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	seen, next := map[string]int{}, ""
	for page := 0; ; page++ {
		var l UserList
		if err := json.Unmarshal([]byte(n.want(200, "GET", "/v1/users?limit=3&after="+url.QueryEscape(next), "").body), &l); err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Users {
			seen[u.Name]++
		}
		if next = l.Next; next == "" {
			break
		}
		// Before and behind the place, and the very name that the next page goes on from.
		n.want(201, "POST", "/v1/users", fmt.Sprintf(`{"name":"a%02d"}`, page))
		n.want(201, "POST", "/v1/users", fmt.Sprintf(`{"name":"z%02d"}`, page))
		if page == 2 {
			n.want(204, "DELETE", "/v1/users/"+next, "")
		}
		if page > 30 {
			t.Fatal("the list has no end")
		}
	}
	for i := range 20 {
		if name := fmt.Sprintf("m%02d", i); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
	for name, times := range seen {
		if times != 1 {
			t.Errorf("%s was listed %d times", name, times)
		}
	}
}

// TestRates: guesses of tokens end, and so does a storm of one administrator;
// others at other addresses and with other names go on.
func TestRates(t *testing.T) {
	n := newNetwork(t)
	busy, limited := n.administrator("busy"), 0
	for range callBurst + 100 {
		if a := n.do("GET", "/v1/me", busy, ""); a.status == http.StatusTooManyRequests {
			limited++
			if a.header.Get("Retry-After") == "" {
				t.Fatal("no Retry-After")
			}
			break
		}
	}
	// On a slow machine the calls may be slower than the rate: then nothing is to be limited.
	start := time.Now()
	for range 100 {
		n.do("GET", "/v1/me", busy, "")
	}
	if limited == 0 && time.Since(start) < time.Second {
		t.Error("one administrator called without end")
	}
	n.want(200, "GET", "/v1/me", "")

	var last answer
	for i := range guessBurst + 5 {
		last = n.do("GET", "/v1/me", fmt.Sprintf("portreeve_%016x_guess", i), "")
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Errorf("guesses go on: %d", last.status)
	}
	if a := n.do("GET", "/v1/openapi.yaml", "", ""); a.status != 200 || !strings.Contains(a.body, `openapi: "3.1.0"`) {
		t.Errorf("the contract: %d", a.status)
	}
}
