package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/hook"
	"github.com/portreeve/portreeve/internal/telemetry"
)

// traces makes spans of events. The identifiers follow from the events, so
// nothing is kept for a session: its id gives the trace, its id and account the
// span of the session, below which the others are. nil: no traces.
type traces struct {
	tracer *telemetry.Tracer
	sample uint64 // of a hundred sessions
}

// newTraces reads what [traces] names; nil without an endpoint.
func newTraces(cfg *config.Config, version string, log *slog.Logger) (*traces, error) {
	c := &cfg.Traces
	if c.Endpoint == "" {
		return nil, nil
	}
	o := telemetry.TracerOptions{Endpoint: c.URL(), Version: first(version, "unknown"), Log: log, Resource: []telemetry.Attr{
		{Key: "service.name", Value: "portreeve"}, {Key: "service.version", Value: first(version, "unknown")}, {Key: "process.pid", Value: int64(os.Getpid())}}}
	if name, err := os.Hostname(); err == nil {
		o.Resource = append(o.Resource, telemetry.Attr{Key: "host.name", Value: name})
	}
	if c.HeadersFile != "" {
		b, err := os.ReadFile(c.HeadersFile)
		if err != nil {
			return nil, fmt.Errorf("traces.headers_file: %w", err)
		}
		if o.Headers, err = headers(b); err != nil {
			return nil, fmt.Errorf("traces.headers_file: %s: %w", c.HeadersFile, err)
		}
	}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("traces.ca: %w", err)
		}
		o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		if !o.TLS.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("traces.ca: there is no certificate in %s", c.CA)
		}
	}
	return &traces{tracer: telemetry.NewTracer(o), sample: uint64(c.Sample)}, nil
}

// headers reads lines such as "Authorization: Bearer abc". Errors name the
// line and never what is in it.
func headers(b []byte) (http.Header, error) {
	h := http.Header{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t\"(),/:;<=>?@[\\]{}") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
			return nil, fmt.Errorf("line %d is not a header such as Name: value", n)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, lines.Err()
}

// digest gives identifiers: the parts are kept apart.
func digest(parts ...string) (d [32]byte) {
	return sha256.Sum256([]byte(strings.Join(parts, "\x00")))
}

func traceID(e *events.Event) (id [16]byte) {
	key := e.Session
	if key == "" {
		key = fmt.Sprint("event ", e.Kind, e.Time.UnixMicro())
	}
	d := digest("trace", key)
	copy(id[:], d[:])
	return id
}

func sessionSpan(e *events.Event) (id [8]byte) {
	d := digest("session", e.Session, e.User)
	copy(id[:], d[:])
	return id
}

// eventSpan is the same before and after the event was stored, which keeps microseconds.
func eventSpan(e *events.Event) (id [8]byte) {
	if e.Kind == events.Logout {
		return sessionSpan(e)
	}
	d := digest("event", e.Session, string(e.Kind), fmt.Sprint(e.Time.UnixMicro()))
	copy(id[:], d[:])
	return id
}

// spanNames are the kinds of event that are spans.
var spanNames = map[events.Kind]string{events.Login: "login", events.LoginFailed: "login", events.Logout: "session",
	events.Upload: "upload", events.Download: "download", events.Listing: "list"}

// wants reports whether the session of e is one of those traced.
func (t *traces) wants(e *events.Event) bool {
	id := traceID(e)
	return binary.BigEndian.Uint64(id[:])%100 < t.sample
}

// event records the span of an event; the bus calls it.
func (t *traces) event(e events.Event) {
	name := spanNames[e.Kind]
	if name == "" || !t.wants(&e) {
		return
	}
	s := telemetry.Span{Trace: traceID(&e), ID: eventSpan(&e), Name: name, Start: e.Time.Add(-e.Took), End: e.Time, Attrs: attributes(&e)}
	switch e.Kind {
	case events.Logout:
	case events.LoginFailed: // there may never be a session
	default:
		s.Parent = sessionSpan(&e)
	}
	switch e.Kind {
	case events.Upload, events.Download, events.Logout:
		s.Attrs = append(s.Attrs, telemetry.Attr{Key: "portreeve.octets", Value: e.Bytes})
	}
	if e.Fault != fault.None {
		s.Failed = e.Fault.String()
	}
	t.tracer.Record(s)
}

// maxAttr bounds text of clients, such as the name in a log-in that failed.
const maxAttr = 256

// attributes follow the semantic conventions where they have a name. Paths stay
// out: they are what is confidential in a file transfer.
func attributes(e *events.Event) []telemetry.Attr {
	var as []telemetry.Attr
	text := func(key, v string) {
		if len(v) > maxAttr {
			v = v[:maxAttr]
		}
		if v != "" {
			as = append(as, telemetry.Attr{Key: key, Value: v})
		}
	}
	text("network.protocol.name", e.Protocol)
	text("session.id", e.Session)
	text("user.name", e.User)
	text("portreeve.listener", e.Listener)
	text("portreeve.result", events.ResultOf(e.Fault))
	if e.Fault != fault.None {
		text("error.type", e.Fault.String())
	}
	if a, err := netip.ParseAddrPort(e.Remote); err == nil {
		text("client.address", a.Addr().String())
		as = append(as, telemetry.Attr{Key: "client.port", Value: int64(a.Port())})
	}
	return as
}

// delivery records one try of a hook, in the trace of the session it is about.
func (t *traces) delivery(d hook.Sent) {
	if !t.wants(&d.Event) {
		return
	}
	now := time.Now()
	id := digest("delivery", d.Hook, fmt.Sprint(d.Event.ID, d.Try, d.Began.UnixNano()))
	s := telemetry.Span{Trace: traceID(&d.Event), Name: "hook", Client: true, Start: d.Began, End: now, Attrs: []telemetry.Attr{
		{Key: "portreeve.hook", Value: d.Hook}, {Key: "portreeve.hook.delivery", Value: d.By}, {Key: "portreeve.hook.asked", Value: d.Asked}, {Key: "portreeve.hook.try", Value: int64(d.Try)},
		{Key: "portreeve.event", Value: string(d.Event.Kind)}}}
	copy(s.ID[:], id[:])
	switch {
	case d.Event.Session == "":
	case spanNames[d.Event.Kind] != "" && !d.Asked:
		s.Parent = eventSpan(&d.Event)
	default:
		s.Parent = sessionSpan(&d.Event)
	}
	if d.Err != nil {
		s.Failed = "not delivered" // the reason may hold paths; the log has it
		s.Attrs = append(s.Attrs, telemetry.Attr{Key: "error.type", Value: "delivery"})
	}
	t.tracer.Record(s)
}

// register adds the counters.
func (t *traces) register(r *telemetry.Registry) {
	for i, result := range []string{"sent", "dropped", "refused"} {
		r.CounterFunc("portreeve_trace_spans_total", "Spans for the collector: taken, without room in the queue, and not taken.", func() float64 {
			sent, dropped, failed := t.tracer.Stats()
			return float64([]uint64{sent, dropped, failed}[i])
		}, label("result", result))
	}
}

// close sends what waits, for a moment.
func (t *traces) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	t.tracer.Close(ctx)
}
