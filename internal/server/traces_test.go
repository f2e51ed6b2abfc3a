package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/events"
)

// span is one as it comes over the wire.
type span struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	Start                               string `json:"startTimeUnixNano"`
	End                                 string `json:"endTimeUnixNano"`
	Attributes                          []struct {
		Key   string
		Value struct {
			StringValue, IntValue string
			BoolValue             bool
		}
	}
	Status struct {
		Code    int
		Message string
	}
}

func (s *span) attr(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// collector keeps the spans it is sent.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
	text  strings.Builder
	key   string // of the last request
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []span } }
		}
		if err := json.Unmarshal(body, &q); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v in %s", r.URL, err, body)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.key = r.Header.Get("X-Key")
		c.text.Write(body)
		for _, rs := range q.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// named returns the spans of a name, of a session.
func (c *collector) named(name, protocol string) (out []span) {
	for _, s := range c.spans {
		if s.Name == name && s.attr("network.protocol.name") == protocol {
			out = append(out, s)
		}
	}
	return out
}

// TestTraces: log-ins, transfers, listings and deliveries of hooks of a session
// are one trace below the span of the session, for FTP and SFTP alike.
func TestTraces(t *testing.T) {
	c, hooked := newCollector(t), newInbox(t)
	keys := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(keys, []byte("# of the collector\nX-Key: abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("k", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "[traces]\nendpoint = \""+c.URL+"\"\nheaders_file = \""+keys+"\"\n"+
		hookTOML("orders", "upload", "deliver = \"webhook\"\nurl = \""+hooked.URL+"\"\nsecret_file = \""+secret+"\"")+
		listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`)+listenTOML("sftp", "127.0.0.1:0", ""))
	f := r.dial(0, ftp.ClientOptions{TLS: ftp.ExplicitTLS})
	put(t, f, "/confidential.txt", []byte("12345"))
	get(t, f, "/confidential.txt")
	for _, err := range f.List(t.Context(), "/") {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Quit(t.Context())
	if bad, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{}); err == nil {
		if err := bad.Login(t.Context(), "eve", "wrong-horse"); err == nil {
			t.Error("eve is in")
		}
		bad.Close()
	}
	sc, err := ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: testUser, Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	x, err := sftp.NewClient(sc)
	if err != nil {
		t.Fatal(err)
	}
	up, err := x.Create("/other.txt")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(up, "1234567")
	up.Close()
	x.ReadDir("/")
	sc.Close()
	for end := time.Now().Add(20 * time.Second); len(hooked.got()) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the hook got %v", hooked.got())
		}
	}
	r.halt() // sends what waits

	c.mu.Lock()
	defer c.mu.Unlock()
	for protocol, octets := range map[string]map[string]string{
		"ftps": {"login": "", "upload": "5", "download": "5", "list": ""},
		"sftp": {"login": "", "upload": "7", "list": ""},
	} {
		roots := c.named("session", protocol)
		if len(roots) != 1 || roots[0].ParentSpanID != "" || roots[0].Kind != 2 || roots[0].attr("session.id") == "" || roots[0].attr("client.address") != "127.0.0.1" || roots[0].attr("client.port") == "" {
			t.Fatalf("%s: sessions %+v", protocol, roots)
		}
		for name, n := range octets {
			ss := c.named(name, protocol)
			if len(ss) != 1 || ss[0].TraceID != roots[0].TraceID || ss[0].ParentSpanID != roots[0].SpanID || ss[0].attr("portreeve.octets") != n ||
				ss[0].attr("user.name") != testUser || ss[0].attr("portreeve.result") != "ok" || ss[0].Status.Code != 0 || ss[0].Start > ss[0].End || ss[0].Start < roots[0].Start && name != "login" {
				t.Errorf("%s %s: %+v below %+v", protocol, name, ss, roots[0])
			}
			if name == "login" && len(ss) == 1 && ss[0].Start == ss[0].End {
				t.Errorf("%s: a log-in that took no time", protocol)
			}
		}
		found := false
		for _, s := range c.named("hook", "") {
			if s.TraceID == roots[0].TraceID {
				found = s.ParentSpanID == c.named("upload", protocol)[0].SpanID && s.Kind == 3 && s.attr("portreeve.hook") == "orders" && s.attr("portreeve.hook.try") == "1" && s.attr("portreeve.event") == "upload"
			}
		}
		if !found {
			t.Errorf("%s: no delivery below the upload among %+v", protocol, c.named("hook", ""))
		}
	}
	bad := c.named("login", "ftp")
	if len(bad) != 1 || bad[0].Status.Code != 2 || bad[0].Status.Message != "login" || bad[0].attr("error.type") != "login" || bad[0].attr("user.name") != "eve" || bad[0].ParentSpanID != "" {
		t.Errorf("the failed log-in: %+v", bad)
	}
	for _, s := range []string{"confidential", "other.txt", testPassword, "wrong-horse"} {
		if strings.Contains(c.text.String(), s) {
			t.Errorf("the spans hold %q", s)
		}
	}
	var page bytes.Buffer
	r.s.metrics.reg.WritePrometheus(&page)
	contains(t, page.String(), `portreeve_trace_spans_total{result="dropped"} 0`, `portreeve_trace_spans_total{result="refused"} 0`)
	if c.key != "abc" || !strings.Contains(c.text.String(), `{"key":"service.name","value":{"stringValue":"portreeve"}}`) {
		t.Errorf("header %q", c.key)
	}
}

// TestNoTraces: without an endpoint there is neither an observer of listings
// nor a metric; sessions that are not in the sample have no span.
func TestNoTraces(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	if r.s.traces != nil {
		t.Error("spans are made for nobody")
	}
	f := r.dial(0, ftp.ClientOptions{})
	for _, err := range f.List(context.Background(), "/") {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Quit(t.Context())
	var page bytes.Buffer
	r.s.metrics.reg.WritePrometheus(&page)
	if s := page.String(); strings.Contains(s, "portreeve_trace") || strings.Contains(s, `kind="list"`) {
		t.Errorf("%s", s)
	}
	kept := 0
	for n := range 1000 {
		e := events.Event{Kind: events.Login, Session: fmt.Sprintf("%024x", n)}
		tr := &traces{sample: 30}
		if tr.wants(&e) != tr.wants(&e) {
			t.Fatal("a session is traced in part")
		}
		if tr.wants(&e) {
			kept++
		}
	}
	if kept < 200 || kept > 400 {
		t.Errorf("%d of 1000 sessions are traced, not about 300", kept)
	}
}

// TestHeadersOfTraces: mistakes name the line and not the key in it.
func TestHeadersOfTraces(t *testing.T) {
	h, err := headers([]byte("# comment\n\n X-Key:  abc \nAuthorization: Bearer a:b\n"))
	if err != nil || h.Get("X-Key") != "abc" || h.Get("Authorization") != "Bearer a:b" {
		t.Errorf("%v, %v", h, err)
	}
	for _, bad := range []string{"X-Key: a\nqwertz", "X-Key: a\n: qwertz", "X-Key: a\nX Key: qwertz", "X-Key: a\nX-Key: qwertz\x01"} {
		if _, err := headers([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "qwertz") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
