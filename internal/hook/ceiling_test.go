package hook

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

// TestStrangersFillNoOutbox: failed log-ins, which anybody can cause, neither
// fill the database nor push out what accounts have done.
func TestStrangersFillNoOutbox(t *testing.T) {
	const uploads, most = 20, 50
	var up atomic.Bool
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	h := hookFor("all", config.DeliverWebhook, "upload", "login.failed")
	h.URL, h.Attempts, h.MaxWaiting, h.MaxDead = v.URL, 1_000_000, most, 5
	g := newRig(t, "", h)
	for i := range uploads {
		g.publish(upload("/f", i))
	}
	for range 1000 {
		g.publish(events.Event{Kind: events.LoginFailed, Remote: "192.0.2.1:1", User: "root"})
	}
	eventually(t, "all to be dropped that is too much", func() bool { return g.dropped.Load() >= 1000+uploads-most-int64(h.Parallel) })
	if b := g.backlog("all"); b.Waiting > most+int64(h.Parallel) || b.Dead != 0 {
		t.Errorf("%+v in the outbox, at most %d may wait", b, most)
	}
	up.Store(true)
	eventually(t, "the rest to arrive", func() bool { return g.backlog("all") == events.Backlog{} })
	arrived := map[int64]bool{}
	for _, q := range v.got() {
		if p := payloadOf(t, q.body); p.Event.Kind == events.Upload {
			arrived[p.Event.ID] = true
		}
	}
	if len(arrived) != uploads {
		t.Errorf("%d of %d uploads were told", len(arrived), uploads)
	}
}

// TestDeadOnesHaveACeiling: of deliveries that were given up the newest are
// kept, and those of strangers go first.
func TestDeadOnesHaveACeiling(t *testing.T) {
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	h := hookFor("all", config.DeliverWebhook, "upload", "login.failed")
	h.URL, h.MaxWaiting, h.MaxDead, h.Parallel = v.URL, 10_000, 8, 1
	g := newRig(t, "", h)
	for i := range 5 {
		g.publish(upload("/f", i))
	}
	for range 30 {
		g.publish(events.Event{Kind: events.LoginFailed, Remote: "192.0.2.1:1", User: "root"})
	}
	for i := range 2 {
		g.publish(upload("/g", i))
	}
	eventually(t, "all to be given up and the most of them dropped", func() bool { return g.droppedDead.Load() == 37-8 })
	dead, err := g.db.DeadDeliveries(t.Context(), 0, 0)
	if err != nil || len(dead) != 8 {
		t.Fatalf("%d are kept, %v", len(dead), err)
	}
	n := 0
	for _, d := range dead {
		if d.Kind == events.Upload {
			n++
		}
	}
	if n != 7 {
		t.Errorf("%d of 7 uploads are kept", n)
	}
}
