package telemetry

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLongReasonOfCollector: a collector cannot fill the log with its reasons.
func TestLongReasonOfCollector(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"partialSuccess":{"rejectedSpans":"1","errorMessage":"`+strings.Repeat("é", 20_000)+`"}}`)
	}))
	defer srv.Close()
	var log bytes.Buffer
	tr := NewTracer(TracerOptions{Endpoint: srv.URL, Every: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
	tr.Record(span(1))
	tr.Close(t.Context())
	if got := log.String(); !strings.Contains(got, "refused some spans") || len(got) > 1000 {
		t.Errorf("%d octets: %.300s", len(got), got)
	}
}
