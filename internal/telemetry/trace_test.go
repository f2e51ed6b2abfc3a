package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector is a receiver that takes nothing but what the protocol allows.
type collector struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	answers  []func(w http.ResponseWriter) // of the next requests; then 200
	requests int
	spans    []otlpSpan
	header   http.Header
	came     chan struct{} // a request was answered
}

func newCollector(t *testing.T, answers ...func(http.ResponseWriter)) *collector {
	c := &collector{t: t, answers: answers, came: make(chan struct{}, 1000)}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

var hexID = regexp.MustCompile(`^([0-9a-f]{16}|[0-9a-f]{32})$`)

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { c.came <- struct{}{} }()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != "POST" || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		c.t.Errorf("%s %s %s: %v", r.Method, r.URL, r.Header, err)
	}
	var q otlpRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		c.t.Errorf("%v in %s", err, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	c.header = r.Header
	if len(c.answers) > 0 {
		answer := c.answers[0]
		c.answers = c.answers[1:]
		if answer != nil {
			answer(w)
			return
		}
	}
	for _, rs := range q.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				if len(s.TraceID) != 32 || len(s.SpanID) != 16 || !hexID.MatchString(s.TraceID) || !hexID.MatchString(s.SpanID) || s.Name == "" || s.Kind < 2 || s.Kind > 3 {
					c.t.Errorf("no span: %+v", s)
				}
				c.spans = append(c.spans, s)
			}
		}
	}
	io.WriteString(w, "{}")
}

func (c *collector) seen() (requests, spans int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, len(c.spans)
}

func span(n byte) Span {
	end := time.Unix(1_900_000_000, 5)
	return Span{Trace: [16]byte{n, 1}, ID: [8]byte{n, 2}, Parent: [8]byte{n, 3}, Name: "upload", Start: end.Add(-time.Second), End: end,
		Attrs: []Attr{{"user.name", "ann\xff\n"}, {"portreeve.octets", int64(1) << 60}, {"asked", true}}, Failed: "quota"}
}

func stats(t *Tracer) [3]uint64 {
	a, b, c := t.Stats()
	return [3]uint64{a, b, c}
}

func (c *collector) tracer(o TracerOptions) *Tracer {
	o.Endpoint, o.Version = c.URL+"/v1/traces", "test"
	o.Pause = time.Millisecond
	tr := NewTracer(o)
	c.t.Cleanup(func() { tr.Close(context.Background()) })
	return tr
}

func TestTracerSends(t *testing.T) {
	c := newCollector(t)
	tr := c.tracer(TracerOptions{Every: time.Hour, Headers: http.Header{"X-Key": {"k"}}, Resource: []Attr{{"service.name", "portreeve"}}})
	tr.Record(span(1))
	root := span(2)
	root.Parent, root.Client, root.Failed = [8]byte{}, true, ""
	tr.Record(root)
	tr.Close(t.Context()) // sends what waits
	tr.Record(span(3))
	if got := stats(tr); got != [3]uint64{2, 1, 0} || len(c.spans) != 2 || c.requests != 1 || c.header.Get("X-Key") != "k" || c.header.Get("User-Agent") != "Portreeve/test" {
		t.Fatalf("sent, dropped, failed: %v; %d requests with %+v, %v", got, c.requests, c.spans, c.header)
	}
	got, _ := json.Marshal(c.spans)
	want := `[{"traceId":"01010000000000000000000000000000","spanId":"0102000000000000","parentSpanId":"0103000000000000","name":"upload","kind":2,` +
		`"startTimeUnixNano":"1899999999000000005","endTimeUnixNano":"1900000000000000005","attributes":[{"key":"user.name","value":{"stringValue":"ann` + "\ufffd" + `\n"}},` +
		`{"key":"portreeve.octets","value":{"intValue":"1152921504606846976"}},{"key":"asked","value":{"boolValue":true}}],"status":{"code":2,"message":"quota"}},` +
		`{"traceId":"02010000000000000000000000000000","spanId":"0202000000000000","name":"upload","kind":3,`
	if !strings.HasPrefix(string(got), want) || !strings.HasSuffix(string(got), `"status":{}}]`) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestTracerTroubles: what the collector answers decides whether a batch is
// sent again; nothing of it keeps Record waiting.
func TestTracerTroubles(t *testing.T) {
	status := func(code int, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	answer := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { io.WriteString(w, text) }
	}
	for _, tt := range []struct {
		name     string
		answers  []func(http.ResponseWriter)
		requests int
		stats    [3]uint64 // sent, dropped, failed
	}{
		{"busy, then ready", []func(http.ResponseWriter){status(503), status(429, "Retry-After", "0"), status(502)}, 4, [3]uint64{1, 0, 0}},
		{"busy for ever", []func(http.ResponseWriter){status(503), status(503), status(504), status(503)}, 4, [3]uint64{0, 0, 1}},
		{"refused", []func(http.ResponseWriter){status(400)}, 1, [3]uint64{0, 0, 1}},
		{"not allowed", []func(http.ResponseWriter){status(401)}, 1, [3]uint64{0, 0, 1}},
		{"elsewhere", []func(http.ResponseWriter){status(307, "Location", "/other")}, 1, [3]uint64{0, 0, 1}},
		{"taken in part", []func(http.ResponseWriter){answer(`{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}`)}, 1, [3]uint64{0, 0, 1}},
		{"more refused than sent", []func(http.ResponseWriter){answer(`{"partialSuccess":{"rejectedSpans":"99"}}`)}, 1, [3]uint64{0, 0, 1}},
		{"taken, in other words", []func(http.ResponseWriter){answer(`not JSON`)}, 1, [3]uint64{1, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector(t, tt.answers...)
			tr := c.tracer(TracerOptions{Batch: 1})
			tr.Record(span(1))
			for range tt.requests {
				<-c.came
			}
			for end := time.Now().Add(10 * time.Second); stats(tr) != tt.stats; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%v, not %v", stats(tr), tt.stats)
				}
			}
			if n, _ := c.seen(); n != tt.requests {
				t.Errorf("%d requests, not %d", n, tt.requests)
			}
		})
	}
}

// TestTracerHangs: a collector that answers nothing costs a full queue, counted,
// one line in the log, and no time of whoever records or stops.
func TestTracerHangs(t *testing.T) {
	free, seen := make(chan struct{}), make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		seen <- struct{}{}
		<-free
	}))
	defer s.Close()
	defer close(free)
	var log bytes.Buffer
	tr := NewTracer(TracerOptions{Endpoint: s.URL, Queue: 10, Batch: 5, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 5 {
		tr.Record(span(1))
	}
	<-seen
	began := time.Now()
	for range 1000 {
		tr.Record(span(1))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1000 spans took %v", took)
	}
	if _, dropped, _ := tr.Stats(); dropped != 990 {
		t.Errorf("%d dropped, not 990", dropped)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tr.Close(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if got := stats(tr); got != [3]uint64{0, 990, 15} || strings.Count(log.String(), "traces are lost") != 1 {
		t.Errorf("%v, log:\n%s", got, log.String())
	}
	var none *Tracer
	none.Record(span(1))
	none.Close(t.Context())
}

// TestTracerBatches: many spans from many goroutines arrive once each, in requests of bounded size.
func TestTracerBatches(t *testing.T) {
	c := newCollector(t)
	tr := c.tracer(TracerOptions{Queue: 5000, Batch: 100, Every: time.Hour})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 500 {
				tr.Record(span(byte(n)))
			}
		})
	}
	wg.Wait()
	tr.Close(t.Context())
	requests, spans := c.seen()
	if got := stats(tr); got != [3]uint64{4000, 0, 0} || spans != 4000 || requests < 40 {
		t.Errorf("%v; %d spans in %d requests", got, spans, requests)
	}
}
