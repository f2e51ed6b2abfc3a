package hook

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// TestAskWebhook: each kind of answer, with both settings for none.
func TestAskWebhook(t *testing.T) {
	tests := []struct {
		name    string
		onError config.OnError
		handle  func(w http.ResponseWriter, r *http.Request)
		want    fault.Kind
		text    string
	}{
		{"yes", "refuse", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, fault.None, ""},
		{"no", "allow", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			w.Write([]byte(`{"reason":"only CSV,\r\n226 done\u001b[2J"}`))
		}, fault.Denied, `refused by the check scan: only CSV,`},
		{"no, without a reason", "refuse", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, fault.Denied, "refused by the check scan"},
		{"a failure, closed", "refuse", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, fault.Busy, "the check scan gave no answer; try again later"},
		{"a failure, open", "allow", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, fault.None, ""},
		{"silence, closed", "refuse", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.Busy, "gave no answer"},
		{"silence, open", "allow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.None, ""},
		{"a redirect", "refuse", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/yes", http.StatusFound) }, fault.Busy, "gave no answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) { tt.handle(w, r) })
			h := hookFor("scan", config.DeliverWebhook, "upload")
			h.Mode, h.URL, h.OnError, h.Timeout = config.HookAsk, v.URL, tt.onError, config.Duration(100*time.Millisecond)
			g := newRig(t, "", h)
			err := g.bus.Ask(t.Context(), upload("/in/a", 0))
			if fault.KindOf(err) != tt.want {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.text) || strings.ContainsAny(err.Error(), "\r\n\x1b")) {
				t.Errorf("%q; want %q", err, tt.text)
			}
			if p := payloadOf(t, v.got()[0].body); p.Mode != "ask" || p.Event.Path != "/in/a" || p.Event.User != "ann" {
				t.Errorf("asked %+v", p)
			}
		})
	}
}

// Only what matches is asked about, and a client that leaves is not waited for.
func TestAskConditions(t *testing.T) {
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	h := hookFor("scan", config.DeliverWebhook, "upload")
	h.Mode, h.URL, h.Groups, h.Paths = config.HookAsk, v.URL, []string{"part*"}, []string{"/in/*"}
	g := newRig(t, "", h)
	other, elsewhere := upload("/in/a", 0), upload("/out/a", 0)
	other.User = "bob"
	deleted := upload("/in/a", 0)
	deleted.Kind = events.Delete
	for _, e := range []events.Event{other, elsewhere, deleted} {
		if err := g.bus.Ask(t.Context(), e); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if err := g.bus.Ask(t.Context(), upload("/in/deep/a", 0)); fault.KindOf(err) != fault.Denied {
		t.Errorf("what matches: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.bus.Ask(ctx, upload("/in/a", 0)); fault.KindOf(err) != fault.Canceled {
		t.Errorf("a client that left: %v", err)
	}
	none, err := Compile(&config.Config{})
	if err != nil {
		t.Fatal(err)
	}
	g.r.Use(none)
	if err := g.bus.Ask(t.Context(), upload("/in/a", 0)); err != nil || g.bus.Asks(events.Upload) {
		t.Errorf("a question is left after the hook was taken away: %v", err)
	}
}

func TestWants(t *testing.T) {
	h := hookFor("x", config.DeliverWebhook)
	base := upload("/in/a.csv", 10)
	tests := []struct {
		name   string
		change func(h *config.Hook, e *events.Event)
		want   bool
	}{
		{"as it is", func(*config.Hook, *events.Event) {}, true},
		{"other kind", func(_ *config.Hook, e *events.Event) { e.Kind = events.Delete }, false},
		{"failed", func(_ *config.Hook, e *events.Event) { e.Fault = fault.Quota }, false},
		{"failed, wanted", func(h *config.Hook, e *events.Event) { h.Outcome, e.Fault = "failed", fault.Quota }, true},
		{"good, failures wanted", func(h *config.Hook, _ *events.Event) { h.Outcome = "failed" }, false},
		{"a failure by nature", func(h *config.Hook, e *events.Event) {
			h.On, e.Kind, e.Fault = []config.EventKind{"login.failed"}, events.LoginFailed, fault.Login
		}, true},
		{"user", func(h *config.Hook, _ *events.Event) { h.Users = []string{"bob", "a?n"} }, true},
		{"other user", func(h *config.Hook, _ *events.Event) { h.Users = []string{"bob"} }, false},
		{"no user", func(h *config.Hook, e *events.Event) { h.Users, e.User = []string{"*"}, "" }, false},
		{"group", func(h *config.Hook, _ *events.Event) { h.Groups = []string{"partners"} }, true},
		{"other group", func(h *config.Hook, _ *events.Event) { h.Groups = []string{"staff"} }, false},
		{"path", func(h *config.Hook, _ *events.Event) { h.Paths = []string{"/out/*", "*.csv"} }, true},
		{"other path", func(h *config.Hook, _ *events.Event) { h.Paths = []string{"/out/*"} }, false},
		{"renamed to", func(h *config.Hook, e *events.Event) { h.Paths, e.Target = []string{"/out/*"}, "/out/b" }, true},
		{"protocol", func(h *config.Hook, _ *events.Event) { h.Protocols = []string{"ftp"} }, false},
		{"small", func(h *config.Hook, _ *events.Event) { h.MinSize = 11 }, false},
		{"just", func(h *config.Hook, _ *events.Event) { h.MinSize, h.MaxSize = 10, 10 }, true},
		{"large", func(h *config.Hook, _ *events.Event) { h.MaxSize = 9 }, false},
		{"no size", func(h *config.Hook, e *events.Event) {
			h.MinSize, h.On, e.Kind, e.Bytes = 11, []config.EventKind{"delete"}, events.Delete, 0
		}, true},
		{"its own end", func(h *config.Hook, e *events.Event) {
			h.On, h.Outcome, e.Kind, e.Target = []config.EventKind{"hook.dead"}, "any", events.HookDead, "x"
		}, false},
	}
	for _, tt := range tests {
		h, e := h, base
		h.On = []config.EventKind{"upload"}
		tt.change(&h, &e)
		r := &rule{Hook: h}
		for _, k := range h.On {
			r.kinds = append(r.kinds, events.Kind(k))
		}
		if got := r.wants(&e, func() []string { return []string{"partners"} }); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
