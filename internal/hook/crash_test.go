package hook

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// crashEnv makes the test binary the process that is killed: database and URL.
const crashEnv = "PORTREEVE_HOOK_CRASH"

func TestMain(m *testing.M) {
	if v := os.Getenv(crashEnv); v != "" {
		crashChild(v)
	}
	os.Exit(m.Run())
}

// crashChild delivers until it is killed.
func crashChild(v string) {
	db, url, _ := strings.Cut(v, "|")
	t := &testing.T{}
	h := hookFor("orders", config.DeliverWebhook, "upload")
	h.URL = url
	g := newRig(t, db, h)
	for i := range 3 {
		g.publish(upload("/in/a", i))
	}
	select {}
}

// TestKilledInTheMiddle: a process is killed with SIGKILL while the receiver
// has the request and has not replied. The next process delivers every event,
// with the same numbers.
func TestKilledInTheMiddle(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var dead atomic.Bool
	v := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		if !dead.Load() {
			<-r.Context().Done() // until the sender is gone
		}
	})
	path := filepath.Join(t.TempDir(), store.FileName)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashEnv+"="+path+"|"+v.URL)
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three requests under way", func() bool { return len(v.got()) == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed, as it was told
	before := map[string]bool{}
	for _, q := range v.got() {
		before[q.header.Get("Webhook-Id")] = true
	}
	dead.Store(true)
	h := hookFor("orders", config.DeliverWebhook, "upload")
	h.URL = v.URL
	g := newRig(t, path, h)
	eventually(t, "the deliveries after the restart", func() bool { return len(v.got()) >= 6 && g.backlog("orders") == events.Backlog{} })
	after := map[string]bool{}
	for _, q := range v.got()[3:] {
		after[q.header.Get("Webhook-Id")] = true
	}
	if len(before) != 3 || len(after) != 3 {
		t.Errorf("%d messages before, %d after", len(before), len(after))
	}
	for id := range before {
		if !after[id] {
			t.Errorf("message %s was lost or got another number", id)
		}
	}
	if n, err := g.db.DeadDeliveries(context.Background(), 0, 0); err != nil || len(n) != 0 {
		t.Errorf("dead: %v, %v", n, err)
	}
}
