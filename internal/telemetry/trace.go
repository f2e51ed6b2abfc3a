package telemetry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Span is one thing that took time, in the terms of OpenTelemetry.
type Span struct {
	Trace  [16]byte
	ID     [8]byte
	Parent [8]byte // zero: the span is a root
	Name   string  // from a small set
	Client bool    // we asked somebody else; otherwise we were asked
	Start  time.Time
	End    time.Time
	Attrs  []Attr
	Failed string // what went wrong, in a word; empty: nothing
}

// Attr is an attribute; Value is a string, an int64 or a bool.
type Attr struct {
	Key   string
	Value any
}

// TracerOptions say where spans go. Endpoint is the whole URL; zero numbers and
// times have defaults.
type TracerOptions struct {
	Endpoint string
	Headers  http.Header // of each request; may be nil
	TLS      *tls.Config // nil: the authorities of the system
	Resource []Attr      // who we are
	Version  string      // of the program
	Log      *slog.Logger

	Queue   int           // spans that wait at most; 2048
	Batch   int           // in one request; 512
	Every   time.Duration // between requests when there is less; 5 s
	Timeout time.Duration // of one request; 10 s
	Pause   time.Duration // before the second try, doubled for each further one; 1 s
}

// spanTries is how often a batch is sent before its spans are given up.
const spanTries = 4

// Tracer sends spans to a collector as OTLP over HTTP, encoded as JSON (the
// OpenTelemetry protocol, version 1). It never keeps anybody waiting: what does
// not fit into its queue is counted and forgotten. Methods may be called
// concurrently; those of a nil Tracer do nothing.
type Tracer struct {
	o      TracerOptions
	client *http.Client
	queue  chan Span
	full   chan struct{} // a batch is there
	ctx    context.Context
	cancel context.CancelFunc // of what Close does not wait for
	stop   chan struct{}
	once   sync.Once
	done   chan struct{}

	sent, dropped, failed atomic.Uint64
	troubled              bool // the log was told that the collector does not take spans
}

// NewTracer starts the goroutine that sends; Close ends it.
func NewTracer(o TracerOptions) *Tracer {
	o.Queue, o.Batch = cmp.Or(max(o.Queue, 0), 2048), cmp.Or(max(o.Batch, 0), 512)
	o.Every, o.Timeout, o.Pause = cmp.Or(max(o.Every, 0), 5*time.Second), cmp.Or(max(o.Timeout, 0), 10*time.Second), cmp.Or(max(o.Pause, 0), time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tracer{o: o, queue: make(chan Span, o.Queue), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		client: &http.Client{
			Transport:     &http.Transport{TLSClientConfig: o.TLS, MaxIdleConns: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // headers may hold a key
		}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.run()
	return t
}

// Record queues a span, or counts it as dropped.
func (t *Tracer) Record(s Span) {
	if t == nil {
		return
	}
	select {
	case <-t.stop:
		t.dropped.Add(1)
		return
	default:
	}
	select {
	case t.queue <- s:
		if len(t.queue) >= t.o.Batch {
			select {
			case t.full <- struct{}{}:
			default:
			}
		}
	default:
		t.dropped.Add(1)
	}
}

// Stats returns how many spans the collector took, how many had no room, and
// how many it did not take.
func (t *Tracer) Stats() (sent, dropped, failed uint64) {
	if t == nil {
		return 0, 0, 0
	}
	return t.sent.Load(), t.dropped.Load(), t.failed.Load()
}

// Close sends what waits, until ctx ends, and stops.
func (t *Tracer) Close(ctx context.Context) {
	if t == nil {
		return
	}
	t.once.Do(func() { close(t.stop) })
	select {
	case <-t.done:
	case <-ctx.Done():
		t.cancel()
		<-t.done
	}
	t.cancel()
	t.client.CloseIdleConnections()
}

func (t *Tracer) run() {
	defer close(t.done)
	tick := time.NewTicker(t.o.Every)
	defer tick.Stop()
	for {
		stopping := false
		select {
		case <-tick.C:
		case <-t.full:
		case <-t.stop:
			stopping = true
		}
		for {
			batch := t.take()
			if len(batch) == 0 {
				break
			}
			t.export(batch)
			if !stopping && len(t.queue) < t.o.Batch {
				break
			}
		}
		if stopping {
			return
		}
	}
}

// take empties the queue up to one batch.
func (t *Tracer) take() []Span {
	var out []Span
	for len(out) < t.o.Batch {
		select {
		case s := <-t.queue:
			out = append(out, s)
		default:
			return out
		}
	}
	return out
}

// export sends a batch, again after a pause where the protocol says so.
func (t *Tracer) export(batch []Span) {
	body, err := json.Marshal(t.request(batch))
	if err != nil { // an attribute of a kind that there is not: a mistake of the program
		t.lost(batch, err)
		return
	}
	pause := t.o.Pause
	for try := 1; ; try++ {
		refused, wait, err := t.post(body)
		if err == nil {
			t.sent.Add(uint64(len(batch)) - min(refused, uint64(len(batch))))
			t.failed.Add(min(refused, uint64(len(batch))))
			if t.troubled {
				t.troubled = false
				t.o.Log.Info("the collector takes traces again", "endpoint", t.o.Endpoint)
			}
			return
		}
		if wait < 0 || try == spanTries {
			t.lost(batch, err)
			return
		}
		timer := time.NewTimer(max(pause, wait))
		select {
		case <-timer.C:
		case <-t.stop: // one try more would keep the stop waiting
			timer.Stop()
			t.lost(batch, err)
			return
		}
		pause *= 2
	}
}

func (t *Tracer) lost(batch []Span, err error) {
	t.failed.Add(uint64(len(batch)))
	if !t.troubled {
		t.troubled = true
		t.o.Log.Warn("traces are lost: the collector does not take them; see traces.endpoint. Nothing else is touched by this", "endpoint", t.o.Endpoint, "err", err)
	}
}

// maxWait is how long a collector may ask us to wait.
const maxWait = 30 * time.Second

// post makes one try. wait is negative when another one makes no sense.
func (t *Tracer) post(body []byte) (refused uint64, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.o.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, -1, err
	}
	for k, v := range t.o.Headers {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Portreeve/"+t.o.Version)
	res, err := t.client.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	switch res.StatusCode {
	case http.StatusOK:
		var a struct {
			PartialSuccess struct {
				RejectedSpans json.Number `json:"rejectedSpans"` // a 64-bit number is a string in this encoding
				ErrorMessage  string      `json:"errorMessage"`
			} `json:"partialSuccess"`
		}
		if json.Unmarshal(answer, &a) == nil && a.PartialSuccess.RejectedSpans != "" {
			n, _ := strconv.ParseUint(a.PartialSuccess.RejectedSpans.String(), 10, 64)
			if n > 0 {
				t.o.Log.Warn("the collector refused some spans", "spans", n, "reason", fmt.Sprintf("%.200s", a.PartialSuccess.ErrorMessage))
			}
			return n, 0, nil
		}
		return 0, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return 0, min(time.Duration(max(seconds, 0))*time.Second, maxWait), errors.New("the collector answered " + res.Status)
	}
	return 0, -1, fmt.Errorf("the collector answered %s: %.200q", res.Status, answer)
}

// The shape of ExportTraceServiceRequest in JSON: names in lowerCamelCase,
// identifiers in hex, enumerations as numbers, 64-bit numbers as strings.
type (
	otlpRequest struct {
		ResourceSpans []otlpResourceSpans `json:"resourceSpans"`
	}
	otlpResourceSpans struct {
		Resource   otlpResource     `json:"resource"`
		ScopeSpans []otlpScopeSpans `json:"scopeSpans"`
	}
	otlpResource struct {
		Attributes []otlpAttr `json:"attributes"`
	}
	otlpScopeSpans struct {
		Scope otlpScope  `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpScope struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	otlpSpan struct {
		TraceID      string     `json:"traceId"`
		SpanID       string     `json:"spanId"`
		ParentSpanID string     `json:"parentSpanId,omitempty"`
		Name         string     `json:"name"`
		Kind         int        `json:"kind"`
		Start        string     `json:"startTimeUnixNano"`
		End          string     `json:"endTimeUnixNano"`
		Attributes   []otlpAttr `json:"attributes"`
		Status       otlpStatus `json:"status"`
	}
	otlpStatus struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
	otlpAttr struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

// The numbers of the protocol's enumerations.
const (
	otlpServer, otlpClient = 2, 3
	otlpError              = 2
)

func (t *Tracer) request(batch []Span) otlpRequest {
	spans := make([]otlpSpan, len(batch))
	for i, s := range batch {
		o := otlpSpan{TraceID: hex.EncodeToString(s.Trace[:]), SpanID: hex.EncodeToString(s.ID[:]), Name: s.Name, Kind: otlpServer,
			Start: strconv.FormatInt(s.Start.UnixNano(), 10), End: strconv.FormatInt(s.End.UnixNano(), 10), Attributes: otlpAttrs(s.Attrs)}
		if s.Parent != [8]byte{} {
			o.ParentSpanID = hex.EncodeToString(s.Parent[:])
		}
		if s.Client {
			o.Kind = otlpClient
		}
		if s.Failed != "" {
			o.Status = otlpStatus{otlpError, s.Failed}
		}
		spans[i] = o
	}
	return otlpRequest{[]otlpResourceSpans{{
		Resource:   otlpResource{otlpAttrs(t.o.Resource)},
		ScopeSpans: []otlpScopeSpans{{Scope: otlpScope{"portreeve", t.o.Version}, Spans: spans}},
	}}}
}

func otlpAttrs(as []Attr) []otlpAttr {
	out := make([]otlpAttr, 0, len(as))
	for _, a := range as {
		kind, v := "stringValue", a.Value
		switch n := v.(type) {
		case int64:
			kind, v = "intValue", strconv.FormatInt(n, 10)
		case bool:
			kind = "boolValue"
		}
		out = append(out, otlpAttr{a.Key, map[string]any{kind: v}})
	}
	return out
}
