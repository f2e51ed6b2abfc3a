package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/session"
	"github.com/portreeve/portreeve/internal/store"
)

type live struct{ kicked []string }

func (l *live) Sessions() []session.Status {
	return []session.Status{{ID: "s1", User: "ann", Op: "download", Path: "/a b", Bytes: 1, Size: 4}}
}
func (l *live) Kick(id, reason string) bool {
	l.kicked = append(l.kicked, id+" "+reason)
	return id == "s1"
}
func (l *live) KickUser(name, reason string) int {
	l.kicked = append(l.kicked, name+" "+reason)
	return 1
}
func (l *live) Refresh(context.Context, string) error { return nil }

type fakeServer struct {
	reloadErr error
	stopped   chan string
}

func (f *fakeServer) Status(context.Context) (Status, error) {
	return Status{Version: "test", PID: 7, Listeners: []Listener{{Name: "ftp-21"}}, Sessions: []admin.Session{}}, nil
}
func (f *fakeServer) Reload(context.Context) (Reloaded, error) {
	return Reloaded{Changed: []string{"ftp.banner"}}, f.reloadErr
}
func (f *fakeServer) Stop(reason string) { f.stopped <- reason }

type rig struct {
	svc    *admin.Service
	client *Client
	live   *live
	server *fakeServer
	db     *store.DB
	http   http.Handler
	data   string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{live: &live{}, server: &fakeServer{stopped: make(chan string, 1)}, db: db, data: t.TempDir()}
	svc, err := admin.New(admin.Config{Store: db, Live: r.live, DataDir: r.data,
		Hash: func(_ context.Context, p string) (string, error) { return "hash of " + p, nil }})
	if err != nil {
		t.Fatal(err)
	}
	r.svc = svc
	path := filepath.Join(r.data, "portreeve.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(svc, r.server)
	r.http = srv.Handler
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	r.client = NewClient(path)
	t.Cleanup(func() {
		r.client.Close()
		srv.Close()
		<-done
		db.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there after the server's end: %v", err)
		}
	})
	return r
}

func TestClientAndServer(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	c := r.client
	comment := "a comment"
	u, err := c.CreateUser(ctx, admin.NewUser{Name: "ann", Password: "pw", Settings: admin.Settings{
		Comment: &comment, Rules: []account.Rule{{Path: "/in", Rights: account.ReadOnly}}}})
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "ann" || u.Comment != comment || u.Rules[0].Rights != account.ReadOnly || u.Home == "" {
		t.Errorf("created %+v", u)
	}
	if u.PasswordHash != "" {
		t.Error("the password hash went over the wire")
	}
	off := true
	if u, err = c.UpdateUser(ctx, "ann", admin.Settings{Disabled: &off}); err != nil || !u.Disabled || u.Comment != comment {
		t.Errorf("updated %+v, %v", u, err)
	}
	if err := c.SetPassword(ctx, "ann", "other"); err != nil {
		t.Error(err)
	}
	if u, _ := r.db.UserByName(ctx, "ann"); u.PasswordHash != "hash of other" {
		t.Errorf("stored hash %q", u.PasswordHash)
	}
	if _, err := c.CreateUser(ctx, admin.NewUser{Name: "a.b@c"}); err != nil {
		t.Error(err)
	}
	us, next, err := c.Users(ctx, admin.ListOptions{Limit: 1})
	if err != nil || len(us) != 1 || us[0].Name != "a.b@c" || next != "a.b@c" {
		t.Errorf("page %v next %q, %v", us, next, err)
	}
	us, next, err = c.Users(ctx, admin.ListOptions{After: next, Match: "COMMENT"})
	if err != nil || len(us) != 1 || us[0].Name != "ann" || next != "" {
		t.Errorf("page %v next %q, %v", us, next, err)
	}
	if u, err := c.User(ctx, "a.b@c"); err != nil || u.Name != "a.b@c" {
		t.Errorf("%+v, %v", u, err)
	}
	if err := c.DeleteUser(ctx, "a.b@c"); err != nil {
		t.Error(err)
	}
	if _, err := c.User(ctx, "a.b@c"); fault.KindOf(err) != fault.NotExist || !strings.Contains(err.Error(), "there is no user") {
		t.Errorf("after delete: %v", err)
	}
	if _, err := c.CreateUser(ctx, admin.NewUser{Name: "ann"}); fault.KindOf(err) != fault.Exist {
		t.Errorf("second ann: %v", err)
	}
}

func TestClientLive(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	ss, err := r.client.Sessions(ctx)
	if err != nil || len(ss) != 1 || ss[0].Path != "/a b" || ss[0].Percent() != 25 {
		t.Errorf("sessions %+v, %v", ss, err)
	}
	if err := r.client.Kick(ctx, "s1", "time is up"); err != nil {
		t.Error(err)
	}
	if err := r.client.Kick(ctx, "s2", ""); fault.KindOf(err) != fault.NotExist {
		t.Errorf("kick of nobody: %v", err)
	}
	if n, err := r.client.KickUser(ctx, "ann", "x"); n != 1 || err != nil {
		t.Error(n, err)
	}
	if r.live.kicked[0] != "s1 time is up" || r.live.kicked[2] != "ann x" {
		t.Errorf("kicked %q", r.live.kicked)
	}
	st, err := r.client.Status(ctx)
	if err != nil || st.Version != "test" || st.PID != 7 || st.Listeners[0].Name != "ftp-21" || st.Sessions == nil {
		t.Errorf("status %+v, %v", st, err)
	}
	if v, err := r.client.Reload(ctx); err != nil || !slices.Equal(v.Changed, []string{"ftp.banner"}) {
		t.Errorf("reload %+v, %v", v, err)
	}
	r.server.reloadErr = fault.Text(fault.Invalid, "a.toml:1: x: wrong\na.toml:2: y: wrong")
	if _, err := r.client.Reload(ctx); fault.KindOf(err) != fault.Invalid || err.Error() != "a.toml:1: x: wrong\na.toml:2: y: wrong" {
		t.Errorf("bad reload: %v", err)
	}
	if err := r.client.Stop(ctx, "night"); err != nil {
		t.Error(err)
	}
	if reason := <-r.server.stopped; reason != "night" {
		t.Errorf("stop reason %q", reason)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t)
	if _, err := r.client.CreateUser(t.Context(), admin.NewUser{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	big := `{"name":"` + strings.Repeat("x", maxBody) + `"}`
	tests := []struct {
		name, method, path, ct, body string
		status                       int
		says                         string
	}{
		{"no body", "POST", "/v1/users", "", "", 400, "no body"},
		{"not JSON", "POST", "/v1/users", "", "name=ann", 400, "invalid character"},
		{"cut JSON", "POST", "/v1/users", "", `{"name":"bob`, 400, "unexpected EOF"},
		{"array", "POST", "/v1/users", "", `[]`, 400, "array"},
		{"unknown field", "POST", "/v1/users", "", `{"name":"bob","admin":true}`, 400, `unknown field \"admin\"`},
		{"hash field", "POST", "/v1/users", "", `{"name":"bob","PasswordHash":"x"}`, 400, "unknown field"},
		{"wrong type", "POST", "/v1/users", "", `{"name":7}`, 400, "number"},
		{"two values", "POST", "/v1/users", "", `{"name":"bob"} {"name":"eve"}`, 400, "goes on after"},
		{"form", "POST", "/v1/users", "application/x-www-form-urlencoded", `{"name":"bob"}`, 400, "must be application/json"},
		{"too big", "POST", "/v1/users", "application/json", big, 413, "over the limit"},
		{"bad right", "POST", "/v1/users", "application/json; charset=utf-8", `{"name":"bob","rules":[{"path":"/","rights":"fly"}]}`, 400, "fly"},
		{"hostile name", "POST", "/v1/users", "", `{"name":"../../etc"}`, 400, "not one of"},
		{"taken", "POST", "/v1/users", "", `{"name":"ann"}`, 409, "already"},
		{"limit", "GET", "/v1/users?limit=many", "", "", 400, "limit must be"},
		{"limit too high", "GET", "/v1/users?limit=100000", "", "", 400, "limit must be"},
		{"nobody", "GET", "/v1/users/bob", "", "", 404, "no user"},
		{"hostile path", "GET", "/v1/users/..%2F..%2Fetc", "", "", 400, "not one of"},
		{"patch unknown", "PATCH", "/v1/users/ann", "", `{"name":"eve"}`, 400, "unknown field"},
		{"empty password", "PUT", "/v1/users/ann/password", "", `{"password":"a\u0000"}`, 400, "control"},
		{"kick without user", "DELETE", "/v1/sessions", "", "", 400, "user=NAME"},
		{"method", "PATCH", "/v1/status", "", "", 405, "use GET"},
		{"method with two choices", "PUT", "/v1/users", "", "", 405, "use GET, POST"},
		{"path", "GET", "/v2/users", "", "", 404, "/v1/users"},
		{"root", "GET", "/", "", "", 404, "nothing at /"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.ct != "" {
				req.Header.Set("Content-Type", tt.ct)
			}
			w := httptest.NewRecorder()
			r.http.ServeHTTP(w, req)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			if !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("body does not say %q: %s", tt.says, w.Body)
			}
		})
	}
	us, _, err := r.client.Users(t.Context(), admin.ListOptions{})
	if err != nil || len(us) != 1 {
		t.Errorf("a bad request made a user: %v, %v", us, err)
	}
}

func TestFaultsSurviveTheWire(t *testing.T) {
	for _, k := range fault.Kinds() {
		w := httptest.NewRecorder()
		fail(w, fault.Text(k, "a sentence about "+k.String()))
		if w.Code < 400 || w.Code > 599 {
			t.Errorf("%v has status %d", k, w.Code)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(o http.ResponseWriter, _ *http.Request) {
			fail(o, fault.Text(k, "a sentence about "+k.String()))
		}))
		c := NewClient("unused")
		c.http = &http.Client{Transport: redirect{srv.Listener.Addr()}}
		_, err := c.Status(t.Context())
		srv.Close()
		if fault.KindOf(err) != k || err.Error() != "a sentence about "+k.String() {
			t.Errorf("%v came back as %v (%v)", k, fault.KindOf(err), err)
		}
	}
	if err := problemError(502, problem{}); fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), "502") {
		t.Errorf("an answer without a problem is %v", err)
	}
}

// redirect sends every request to one address.
type redirect struct{ to net.Addr }

func (d redirect) RoundTrip(r *http.Request) (*http.Response, error) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", d.to.String())
	}}
	return t.RoundTrip(r)
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "portreeve.sock")
	ctx := t.Context()
	if err := Probe(ctx, path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("probe of nothing: %v", err)
	}
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := Probe(ctx, path); err != nil {
		t.Errorf("probe: %v", err)
	}
	// A crash leaves the socket behind; nobody answers, and the next server replaces it.
	ln.(*socket).UnixListener.Close()
	if err := Probe(ctx, path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("probe of a dead socket: %v", err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // the late end of the first must not take the second's socket away
	if err := Probe(ctx, path); err != nil {
		t.Errorf("the second server's socket is gone: %v", err)
	}
	second.Close()
	second.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Listen(filepath.Join(dir, "none", "s")); err == nil || !strings.Contains(err.Error(), "control socket") {
		t.Errorf("missing directory: %v", err)
	}
}

func TestLongSocketPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "portreeve.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestReachNamesTheCure(t *testing.T) {
	err := reach("/data/portreeve.sock", &os.SyscallError{Syscall: "connect", Err: os.ErrPermission})
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "/data/portreeve.sock") || !strings.Contains(err.Error(), "sudo") {
		t.Errorf("denied: %v", err)
	}
}

func TestPeerIsTheActor(t *testing.T) {
	ln, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		got <- peer(c)
	}()
	c, err := net.Dial("unix", ln.(*socket).path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if who := <-got; who != admin.LocalActor(os.Geteuid()) {
		t.Errorf("peer is %q, want %q", who, admin.LocalActor(os.Geteuid()))
	}
}
