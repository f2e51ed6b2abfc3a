package openapi

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestContractIsValid reads the document with a validator of others.
func TestContractIsValid(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile("../../internal/api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || doc.Paths.Len() < 20 {
		t.Errorf("version %s with %d paths", doc.OpenAPI, doc.Paths.Len())
	}
}

// program builds portreeve and starts it with an administrative address.
type program struct {
	t         *testing.T
	dir, addr string
	bin       string
}

func start(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, dir: t.TempDir()}
	p.bin = filepath.Join(p.dir, "portreeve")
	build := exec.Command("go", "build", "-o", p.bin, "./cmd/portreeve")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.addr = freeAddress(t)
	conf := fmt.Sprintf("data_dir = %q\n[admin]\naddress = %q\n[[listen]]\nprotocol = \"ftp\"\naddress = %q\ntls = \"off\"\n", filepath.Join(p.dir, "data"), p.addr, freeAddress(t))
	if err := os.WriteFile(filepath.Join(p.dir, "portreeve.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	server := p.command("serve")
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(os.Interrupt)
		if err := server.Wait(); err != nil {
			b, _ := os.ReadFile(log.Name())
			t.Errorf("the server ended with %v:\n%s", err, b)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", p.addr); err == nil {
			c.Close()
			return p
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not answer:\n%s", b)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (p *program) command(args ...string) *exec.Cmd {
	c := exec.Command(p.bin, args...)
	c.Dir = p.dir
	return c
}

func (p *program) run(args ...string) string {
	p.t.Helper()
	c := p.command(args...)
	var text strings.Builder
	c.Stderr = &text
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("portreeve %s: %v\n%s%s", strings.Join(args, " "), err, out, text.String())
	}
	return strings.TrimSpace(string(out))
}

func (p *program) client(token string) *ClientWithResponses {
	p.t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true} // the certificate is made by the server itself
	c, err := NewClientWithResponses("https://"+p.addr, WithHTTPClient(&http.Client{Transport: tr, Timeout: 30 * time.Second}),
		WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return nil
		}))
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func ptr[T any](v T) *T { return &v }

// TestGeneratedClient drives accounts, groups, versions, repeated calls, pages
// and limits of tokens through the generated client.
func TestGeneratedClient(t *testing.T) {
	p := start(t)
	ctx := context.Background()
	p.run("admin", "add", "ops", "--scope", "all")
	c := p.client(p.run("token", "add", "ops"))

	st, err := c.GetStatusWithResponse(ctx)
	if err != nil || st.JSON200 == nil || len(st.JSON200.Listeners) != 1 || st.HTTPResponse.ProtoMajor != 2 {
		t.Fatalf("status %v, %v", st, err)
	}
	g, err := c.CreateGroupWithResponse(ctx, nil, NewGroup{Name: "staff", Home: ptr(filepath.Join(p.dir, "srv", "%u")), QuotaBytes: ptr(int64(1 << 20))})
	if err != nil || g.JSON201 == nil {
		t.Fatalf("group %v, %v", g, err)
	}
	made := func(key, name string) *CreateUserResponse {
		u, err := c.CreateUserWithResponse(ctx, &CreateUserParams{IdempotencyKey: ptr(key)}, NewUser{Name: name, Password: ptr("open-sesame-77"), Groups: &[]string{"staff"}})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	first, again := made("key-1", "ann"), made("key-1", "ann")
	if first.JSON201 == nil || again.JSON201 == nil || again.HTTPResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeated call: %s, then %s %s", first.Status(), again.Status(), again.Body)
	}
	if r := made("key-1", "bob"); r.StatusCode() != http.StatusUnprocessableEntity {
		t.Errorf("a key used for another call gives %s", r.Status())
	}
	if r := made("key-2", "ann"); r.StatusCode() != http.StatusConflict || r.ApplicationproblemJSONDefault == nil {
		t.Errorf("a name that is taken gives %s", r.Status())
	}

	etag := first.HTTPResponse.Header.Get("ETag")
	up, err := c.UpdateUserWithResponse(ctx, "ann", &UpdateUserParams{IfMatch: &etag}, Settings{Comment: ptr("first edit")})
	if err != nil || up.JSON200 == nil || *up.JSON200.Comment != "first edit" {
		t.Fatalf("edit %s %s, %v", up.Status(), up.Body, err)
	}
	if up, _ = c.UpdateUserWithResponse(ctx, "ann", &UpdateUserParams{IfMatch: &etag}, Settings{Comment: ptr("second edit")}); up.StatusCode() != http.StatusPreconditionFailed {
		t.Errorf("a conflicting edit gives %s", up.Status())
	}
	for i := range 5 {
		made(fmt.Sprint("page-", i), fmt.Sprintf("user%d", i))
	}
	var names []string
	for after := ptr(""); ; {
		l, err := c.ListUsersWithResponse(ctx, &ListUsersParams{Limit: ptr(int(2)), After: after})
		if err != nil || l.JSON200 == nil {
			t.Fatalf("list %v, %v", l, err)
		}
		for _, u := range l.JSON200.Users {
			names = append(names, u.Name)
		}
		if after = l.JSON200.Next; after == nil {
			break
		}
	}
	if strings.Join(names, " ") != "ann user0 user1 user2 user3 user4" {
		t.Errorf("pages give %v", names)
	}
	x, err := c.ExplainAccessWithResponse(ctx, "ann", &ExplainAccessParams{Path: "/in/report.csv"})
	if err != nil || x.JSON200 == nil || len(x.JSON200.Rights) != 12 {
		t.Errorf("explain %v, %v", x, err)
	}
	ev, err := c.QueryEventsWithResponse(ctx, nil, EventQuery{})
	if err != nil || ev.JSON200 == nil || !strings.Contains(string(ev.Body), "changed: comment none -\\u003e \\\"first edit\\\" by administrator ops") {
		t.Errorf("the trail: %s, %v", ev.Body, err)
	}
	t.Run("transcripts", func(t *testing.T) { transcripts(t, p, c) })
	t.Run("limits", func(t *testing.T) { limits(t, p, c) })
}

// transcripts asks for one, which the trail must hold with who asked, and takes
// the request back. A token without the scope gets none of it.
func transcripts(t *testing.T, p *program, c *ClientWithResponses) {
	ctx := context.Background()
	q, err := c.CreateTranscriptWithResponse(ctx, nil, NewTranscript{User: ptr("ann"), ForNs: ptr(int64(time.Minute))})
	if err != nil || q.JSON201 == nil || q.JSON201.Until.Sub(q.JSON201.Since) != time.Minute {
		t.Fatalf("asked: %s %s, %v", q.Status(), q.Body, err)
	}
	l, err := c.ListTranscriptsWithResponse(ctx)
	if err != nil || l.JSON200 == nil || len(l.JSON200.Requests) != 1 || *l.JSON200.Requests[0].By != "administrator ops" || len(l.JSON200.Transcripts) != 0 {
		t.Errorf("listed: %s %s, %v", l.Status(), l.Body, err)
	}
	if r, _ := c.CreateTranscriptWithResponse(ctx, nil, NewTranscript{User: ptr("ann"), Network: ptr("192.0.2.1")}); r.StatusCode() != 400 {
		t.Errorf("two subjects at once: %s", r.Status())
	}
	if r, _ := c.GetTranscriptWithResponse(ctx, "d853d316dae64d645828fc18"); r.StatusCode() != 404 {
		t.Errorf("a transcript that is not there: %s", r.Status())
	}
	if r, _ := c.StopTranscriptWithResponse(ctx, q.JSON201.Id); r.StatusCode() != 204 {
		t.Errorf("stopped: %s", r.Status())
	}
	read := p.client(p.run("token", "add", "ops", "--scope", "read"))
	if r, _ := read.ListTranscriptsWithResponse(ctx); r.StatusCode() != 403 {
		t.Errorf("a reader lists transcripts: %s", r.Status())
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // events are stored a moment later
		ev, err := c.QueryEventsWithResponse(ctx, nil, EventQuery{Kinds: &[]string{"session.transcript"}})
		if err == nil && ev.JSON200 != nil && strings.Contains(string(ev.Body), "asked for until") && strings.Contains(string(ev.Body), "by administrator ops") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the trail: %s, %v", ev.Body, err)
		}
	}
}

// limits tries tokens that are less than everything.
func limits(t *testing.T, p *program, all *ClientWithResponses) {
	ctx := context.Background()
	if r, _ := p.client("").ListUsersWithResponse(ctx, nil); r.StatusCode() != 401 || r.HTTPResponse.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("no token gives %s", r.Status())
	}
	if r, _ := p.client("portreeve_0011223344556677_wrong").ListUsersWithResponse(ctx, nil); r.StatusCode() != 401 {
		t.Errorf("a wrong token gives %s", r.Status())
	}
	read := p.client(p.run("token", "add", "ops", "--scope", "read"))
	if r, _ := read.DeleteUserWithResponse(ctx, "user0"); r.StatusCode() != 403 {
		t.Errorf("a reader deletes: %s", r.Status())
	}
	once := p.client(p.run("token", "add", "ops", "--once"))
	if r, _ := once.ListUsersWithResponse(ctx, nil); r.StatusCode() != 200 {
		t.Errorf("a token for one call: %s", r.Status())
	}
	if r, _ := once.ListUsersWithResponse(ctx, nil); r.StatusCode() != 401 {
		t.Errorf("its second call: %s", r.Status())
	}
	p.run("group", "add", "guests", "--home", filepath.Join(p.dir, "guests", "%u"))
	p.run("admin", "add", "desk", "--scope", "read,users,sessions", "--group", "guests")
	desk := p.client(p.run("token", "add", "desk"))
	if r, _ := desk.GetUserWithResponse(ctx, "ann", nil); r.StatusCode() != 404 {
		t.Errorf("an account of others: %s", r.Status())
	}
	if r, _ := desk.ListUsersWithResponse(ctx, nil); r.JSON200 == nil || len(r.JSON200.Users) != 0 {
		t.Errorf("accounts of others: %s", r.Body)
	}
	guest := NewUser{Name: "gus", Groups: &[]string{"guests"}}
	if r, _ := desk.CreateUserWithResponse(ctx, nil, guest); r.StatusCode() != 201 {
		t.Errorf("a guest: %s %s", r.Status(), r.Body)
	}
	for what, set := range map[string]Settings{"a home of its choice": {Home: ptr("/etc")}, "a mount of its choice": {Mounts: &[]Mount{{Path: "/x", Source: "/etc"}}}, "another group": {Groups: &[]string{"staff"}}, "no group": {Groups: &[]string{}}} {
		if r, _ := desk.UpdateUserWithResponse(ctx, "gus", nil, set); r.StatusCode() != 403 {
			t.Errorf("a limited administrator gives %s: %s %s", what, r.Status(), r.Body)
		}
	}
	if r, _ := desk.CreateAdministratorWithResponse(ctx, nil, NewAdministrator{Name: "friend"}); r.StatusCode() != 403 {
		t.Errorf("a limited administrator makes others: %s", r.Status())
	}
	if r, _ := desk.QueryEventsWithResponse(ctx, nil, EventQuery{}); r.StatusCode() != 403 {
		t.Errorf("a limited administrator reads the whole trail: %s", r.Status())
	}
	if r, _ := all.DeleteAdministratorWithResponse(ctx, "desk"); r.StatusCode() != 204 {
		t.Errorf("removal: %s", r.Status())
	}
	if r, _ := desk.ListUsersWithResponse(ctx, nil); r.StatusCode() != 401 {
		t.Errorf("a removed administrator: %s", r.Status())
	}
}
