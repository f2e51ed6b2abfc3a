package hook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

// TestWebhookFailsNineTimesFirst: the tenth try arrives, each try has the same
// number and a signature that holds, and nothing is left.
func TestWebhookFailsNineTimesFirst(t *testing.T) {
	v := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n <= 9 {
			http.Error(w, "not yet", http.StatusInternalServerError)
		}
	})
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hookFor("orders", config.DeliverWebhook, "upload")
	h.URL, h.SecretFile = v.URL+"/in?key=s3cret", secret
	g := newRig(t, "", h)
	g.publish(upload(hostile, 5))
	eventually(t, "ten tries and an empty outbox", func() bool { return len(v.got()) >= 10 && g.backlog("orders") == events.Backlog{} })
	reqs := v.got()
	if len(reqs) != 10 {
		t.Fatalf("%d tries", len(reqs))
	}
	for _, q := range reqs {
		id, stamp := q.header.Get("Webhook-Id"), q.header.Get("Webhook-Timestamp")
		if id == "" || id != reqs[0].header.Get("Webhook-Id") {
			t.Errorf("message %q, the first try had %q", id, reqs[0].header.Get("Webhook-Id"))
		}
		if want := signature([]byte("0123456789abcdef0123456789abcdef"), id, stamp, q.body); q.header.Get("Webhook-Signature") != want {
			t.Errorf("signature %q, want %q", q.header.Get("Webhook-Signature"), want)
		}
		if sec, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(sec, 0)) > time.Minute {
			t.Errorf("timestamp %q", stamp)
		}
	}
	p := payloadOf(t, reqs[9].body)
	if p.ID != reqs[9].header.Get("Webhook-Id") || p.Hook != "orders" || p.Event.Kind != events.Upload || p.Event.Bytes != 5 || p.Event.Result != "ok" || p.Event.ID == 0 {
		t.Errorf("payload %+v", p)
	}
	if want := strings.NewReplacer("\xff", `\xff`, "\x00", `\x00`).Replace(hostile); p.Event.Path != want {
		t.Errorf("path %q, want %q", p.Event.Path, want)
	}
	st, err := g.r.States(t.Context())
	if err != nil || len(st) != 1 || st[0].Delivered != 1 || st[0].Failed != 9 || st[0].Problem != "" || strings.Contains(st[0].Target, "s3cret") {
		t.Errorf("states %+v, %v", st, err)
	}
}

// The example of www.standardwebhooks.com, so that ready-made verifiers work.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	t.Setenv("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	key, err := secretOf(&config.Hook{SecretEnv: "HOOK_SECRET"})
	if err != nil {
		t.Fatal(err)
	}
	got := signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, bad := range []string{"short", "whsec_%%%", "whsec_c2hvcnQ="} {
		t.Setenv("HOOK_SECRET", bad)
		if _, err := secretOf(&config.Hook{SecretEnv: "HOOK_SECRET"}); err == nil {
			t.Errorf("the secret %q was taken", bad)
		}
	}
}

// TestWebhookDeadLetter: a receiver that never takes it; the delivery is kept,
// the trail tells of it, a second hook is told, and a retry delivers.
func TestWebhookDeadLetter(t *testing.T) {
	good := make(chan struct{})
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		select {
		case <-good:
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	alerts := newReceiver(t, nil)
	h := hookFor("orders", config.DeliverWebhook, "upload", "hook.dead")
	h.URL, h.Attempts = v.URL, 3
	a := hookFor("alerts", config.DeliverWebhook, "hook.dead")
	a.URL, a.Outcome = alerts.URL, "any"
	h.Outcome = "any"
	g := newRig(t, "", h, a)
	g.publish(upload("/in/a", 1))
	eventually(t, "the alert", func() bool { return len(alerts.got()) == 1 })
	p := payloadOf(t, alerts.got()[0].body)
	if p.Event.Kind != events.HookDead || p.Event.Target != "orders" || !strings.Contains(p.Event.Detail, "502") {
		t.Errorf("alert %+v", p.Event)
	}
	if n := len(v.got()); n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
	dead, err := g.db.DeadDeliveries(t.Context(), 0, 0)
	if err != nil || len(dead) != 1 || dead[0].Tries != 3 {
		t.Fatalf("dead %+v, %v", dead, err)
	}
	close(good)
	if _, err := g.db.RetryDelivery(t.Context(), dead[0].ID); err != nil {
		t.Fatal(err)
	}
	g.r.Wake("orders")
	eventually(t, "the retry", func() bool { return len(v.got()) == 4 && g.backlog("orders") == events.Backlog{} })
	if reqs := v.got(); reqs[3].header.Get("Webhook-Id") != reqs[0].header.Get("Webhook-Id") {
		t.Error("the retry has another number")
	}
}

// TestWebhookTargets: receivers that do not behave, and places a webhook must not get to.
func TestWebhookTargets(t *testing.T) {
	secretPlace := newReceiver(t, nil)
	tests := []struct {
		name, want string
		handle     func(n int, w http.ResponseWriter, r *http.Request)
		url        string
		change     func(h *config.Hook)
	}{
		{name: "hangs before the reply", want: "within the timeout", handle: func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{name: "redirects inward", want: "redirects are not followed", handle: func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, secretPlace.URL, http.StatusTemporaryRedirect)
		}},
		{name: "gone", want: "410 Gone", handle: func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
		{name: "speaks nonsense to the terminal", want: `500 Internal Server Error: \x1b[2Jhello`, handle: func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			w.Write([]byte("\x1b[2Jhello\nworld"))
		}},
		{name: "loopback that is not allowed", want: "inside address", change: func(h *config.Hook) { h.Networks = nil }},
		{name: "a name that leads inside", want: "inside address", change: func(h *config.Hook) {
			h.URL = strings.Replace(h.URL, "127.0.0.1", "localhost", 1)
			h.Networks = []config.Prefix{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
		}},
		{name: "IPv4 in IPv6 form", want: "inside address", change: func(h *config.Hook) {
			h.URL = strings.Replace(h.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)
			h.Networks = nil
		}},
		{name: "the metadata service", want: "inside address", change: func(h *config.Hook) { h.URL = "http://169.254.169.254/latest/meta-data/" }},
		{name: "nobody listens", want: "refused", change: func(h *config.Hook) { h.URL = "http://" + closedPort(t) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newReceiver(t, tt.handle)
			h := hookFor("x", config.DeliverWebhook, "upload")
			h.URL, h.Timeout = v.URL, config.Duration(100*time.Millisecond)
			if tt.change != nil {
				tt.change(&h)
			}
			w, err := newWebhook(&h)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			ctx, cancel := context.WithTimeout(t.Context(), h.Timeout.Std())
			defer cancel()
			err = w.deliver(ctx, []message{{id: "msg_1", body: []byte("{}")}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			if tt.change != nil && len(v.got()) > 0 {
				t.Error("the receiver was reached")
			}
		})
	}
	if len(secretPlace.got()) > 0 {
		t.Error("a redirect was followed")
	}
}

func closedPort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A reply without end must not fill the memory or hold the delivery up.
func TestWebhookEndlessReply(t *testing.T) {
	v := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	h := hookFor("x", config.DeliverWebhook, "upload")
	h.URL = v.URL
	w, err := newWebhook(&h)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.deliver(t.Context(), []message{{id: "msg_1", body: []byte("{}")}}); err != nil {
		t.Errorf("a reply of 200 with too much text: %v", err)
	}
}

func TestReserved(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "0.0.0.0": true, "0.1.2.3": true, "10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true,
		"169.254.169.254": true, "100.64.0.1": true, "198.18.0.1": true, "224.0.0.1": true, "255.255.255.255": true, "240.0.0.1": true, "192.0.0.8": true,
		"::1": true, "::": true, "::127.0.0.1": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd12::1": true, "ff02::1": true, "fec0::1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "64:ff9b::7f00:1": true, "64:ff9b::a9fe:a9fe": true, "2002:7f00:1::": true, "2002:a00:1::1": true, "2001:0:1::1": true,
		"8.8.8.8": false, "172.32.0.1": false, "100.128.0.1": false, "2606:4700::1": false, "64:ff9b::808:808": false, "2002:808:808::1": false, "::ffff:8.8.8.8": false,
	} {
		if got := reserved(netip.MustParseAddr(addr)); got != want {
			t.Errorf("reserved(%s) = %v", addr, got)
		}
	}
	if err := inside("nonsense", nil); !errors.Is(err, errInside) {
		t.Errorf("an address that cannot be read: %v", err)
	}
	if err := inside("[::ffff:10.1.2.3]:80", []config.Prefix{{Prefix: netip.MustParsePrefix("10.1.2.3/32")}}); err != nil {
		t.Errorf("a listed address: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		n      int
		chance float64
		want   time.Duration
	}{{1, 0, 10 * s}, {2, 0, 20 * s}, {3, 0, 40 * s}, {3, 1, 20 * s}, {3, 0.5, 30 * s}, {10, 0, 1000 * s}, {1000, 0, 1000 * s}} {
		if got := backoff(10*s, 1000*s, tt.n, tt.chance); got != tt.want {
			t.Errorf("pause after try %d with chance %v: %v, want %v", tt.n, tt.chance, got, tt.want)
		}
	}
}

// A receiver that asks for a longer pause gets it, within the longest one.
func TestRetryAfter(t *testing.T) {
	r := NewRunner(Options{Log: discard})
	h := &rule{Hook: hookFor("x", config.DeliverWebhook)}
	h.BackoffMax = config.Duration(time.Hour)
	for after, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 5 * time.Hour: time.Hour} {
		d := events.Delivery{}
		r.failed(h, &d, &statusError{code: 429, text: "x", after: after}, "x")
		if p := time.Until(d.Next); p > want || p < want-10*time.Second {
			t.Errorf("asked for %v, pause %v", after, p)
		}
	}
}
