package otlp

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// receiver decodes and answers as the collector's OTLP receiver does.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	traces []ptrace.Traces
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil || q.Method != http.MethodPost || q.URL.Path != "/v1/traces" || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s: %v", q.Method, q.URL, q.Header, err)
		}
		request := ptraceotlp.NewExportRequest()
		if err := request.UnmarshalJSON(body); err != nil {
			t.Errorf("the collector cannot read %s: %v", body, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		// The decoder passes over what it does not know: whatever is lost on the
		// way through it is not in the protocol.
		again, err := request.MarshalJSON()
		if err != nil || !reflect.DeepEqual(value(t, body), value(t, again)) {
			t.Errorf("sent\n%s\nread\n%s, %v", body, again, err)
		}
		r.mu.Lock()
		r.traces = append(r.traces, request.Traces())
		r.mu.Unlock()
		answer, err := ptraceotlp.NewExportResponse().MarshalJSON()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	}))
	t.Cleanup(r.Close)
	return r
}

// value is a JSON document without what is empty, which may be left out.
func value(t *testing.T, b []byte) any {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Errorf("%v in %s", err, b)
	}
	var full func(v any) any
	full = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				if e = full(e); e == nil {
					delete(v, k)
				} else {
					v[k] = e
				}
			}
			if len(v) == 0 {
				return nil
			}
		case []any:
			for i := range v {
				v[i] = full(v[i])
			}
			if len(v) == 0 {
				return nil
			}
		case string:
			if v == "" {
				return nil
			}
		}
		return v
	}
	return full(v)
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

// TestCollectorReadsTraces runs the program with real clients and reads what it
// sends with the collector's own code.
func TestCollectorReadsTraces(t *testing.T) {
	r := newReceiver(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "portreeve")
	build := exec.Command("go", "build", "-o", bin, "./cmd/portreeve")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr := freeAddress(t)
	conf := fmt.Sprintf("data_dir = %q\n[traces]\nendpoint = %q\n[[listen]]\nprotocol = \"ftp\"\naddress = %q\ntls = \"offered\"\n", filepath.Join(dir, "data"), r.URL, addr)
	if err := os.WriteFile(filepath.Join(dir, "portreeve.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(stdin string, fails bool, args ...string) {
		t.Helper()
		c := exec.Command(args[0], args[1:]...)
		c.Dir, c.Stdin = dir, strings.NewReader(stdin)
		if out, err := c.CombinedOutput(); (err != nil) != fails {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	run("open-sesame-77\n", false, bin, "user", "add", "ann", "--home", filepath.Join(dir, "home"), "--password-stdin")
	server := exec.Command(bin, "serve")
	server.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Process.Kill()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not answer:\n%s", b)
		}
	}
	run("12345", false, "curl", "-sS", "--user", "ann:open-sesame-77", "-T", "-", "ftp://"+addr+"/up.txt")
	run("", false, "curl", "-sS", "--ssl-reqd", "--insecure", "--user", "ann:open-sesame-77", "ftp://"+addr+"/")
	run("", true, "curl", "-sS", "--user", "ann:wrong", "ftp://"+addr+"/")
	server.Process.Signal(os.Interrupt)
	if err := server.Wait(); err != nil {
		b, _ := os.ReadFile(log.Name())
		t.Fatalf("the server ended with %v:\n%s", err, b)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]int{}
	for _, tr := range r.traces {
		for _, rs := range tr.ResourceSpans().All() {
			if v, _ := rs.Resource().Attributes().Get("service.name"); v.Str() != "portreeve" {
				t.Errorf("service %q", v.AsString())
			}
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					check(t, s)
					seen[s.Name()+" "+s.Status().Code().String()]++
				}
			}
		}
	}
	want := map[string]int{"login Unset": 2, "login Error": 1, "upload Unset": 1, "list Unset": 1, "session Unset": 2}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("spans %v, not %v", seen, want)
	}
}

func check(t *testing.T, s ptrace.Span) {
	t.Helper()
	as := s.Attributes()
	str := func(key string) string { v, _ := as.Get(key); return v.AsString() }
	if s.TraceID().IsEmpty() || s.SpanID().IsEmpty() || s.Kind() != ptrace.SpanKindServer || s.EndTimestamp() < s.StartTimestamp() || time.Since(s.EndTimestamp().AsTime()) > time.Hour {
		t.Errorf("span %s: %s %s %s %s %s", s.Name(), s.TraceID(), s.SpanID(), s.Kind(), s.StartTimestamp(), s.EndTimestamp())
	}
	if port, _ := as.Get("client.port"); str("user.name") != "ann" || str("client.address") != "127.0.0.1" || port.Type() != pcommon.ValueTypeInt || port.Int() == 0 {
		t.Errorf("span %s: %v", s.Name(), as.AsRaw())
	}
	switch octets, _ := as.Get("portreeve.octets"); s.Name() {
	case "upload":
		if octets.Type() != pcommon.ValueTypeInt || octets.Int() != 5 {
			t.Errorf("an upload of %s octets", octets.AsString())
		}
	case "session":
		if !s.ParentSpanID().IsEmpty() {
			t.Error("a session has a span above it")
		}
	}
}
