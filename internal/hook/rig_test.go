package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// rig is a runner on a real store and a real bus.
type rig struct {
	t   testing.TB
	db  *store.DB
	bus *events.Bus
	r   *Runner

	dropped, droppedDead atomic.Int64 // beyond the ceilings
}

func newRig(t testing.TB, path string, hooks ...config.Hook) *rig {
	t.Helper()
	return newRigMail(t, path, config.Mail{}, hooks...)
}

func newRigMail(t testing.TB, path string, mail config.Mail, hooks ...config.Hook) *rig {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), store.FileName)
	}
	db, err := store.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, db: db, bus: events.NewBus(events.Options{Sink: db, Every: time.Millisecond, AskTime: time.Minute})}
	g.r = NewRunner(Options{Outbox: db, Trail: db, Bus: g.bus, Log: slog.New(slog.DiscardHandler),
		Dropped: func(_, which string, n int64) {
			if which == "dead" {
				g.droppedDead.Add(n)
			} else {
				g.dropped.Add(n)
			}
		},
		Groups: func(_ context.Context, user string) []string { return map[string][]string{"ann": {"partners"}}[user] }})
	set, err := Compile(&config.Config{Hooks: hooks, Mail: mail})
	if err != nil {
		t.Fatal(err)
	}
	g.r.Use(set)
	g.r.Resume()
	t.Cleanup(func() {
		g.r.Close()
		g.bus.Close(context.Background())
		db.Close()
	})
	return g
}

func (g *rig) publish(e events.Event) {
	g.t.Helper()
	if err := g.bus.Publish(context.Background(), e); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) backlog(name string) events.Backlog {
	g.t.Helper()
	b, err := g.db.Backlogs(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	return b[name]
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// hookFor is an entry as the configuration would give it, with short pauses.
func hookFor(name string, how config.Delivery, on ...config.EventKind) config.Hook {
	return config.Hook{Name: name, On: on, Mode: config.HookNotify, Deliver: how, Outcome: "ok", Timeout: config.Duration(5 * time.Second), OnError: config.ErrorRefuse,
		Attempts: 15, Backoff: config.Duration(2 * time.Millisecond), BackoffMax: config.Duration(10 * time.Millisecond), Parallel: 4,
		Networks: []config.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}

// receiver is an HTTP server that notes what it gets and replies with what handle writes.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	reqs []request
}

type request struct {
	header http.Header
	body   []byte
}

func newReceiver(t testing.TB, handle func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	v := &receiver{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		v.mu.Lock()
		v.reqs = append(v.reqs, request{r.Header.Clone(), b})
		n := len(v.reqs)
		v.mu.Unlock()
		if handle != nil {
			handle(n, w, r)
		}
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *receiver) got() []request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]request(nil), v.reqs...)
}

func payloadOf(t testing.TB, b []byte) payload {
	t.Helper()
	var p payload
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return p
}

var discard = slog.New(slog.DiscardHandler)

// hostile is a name as an attacker would choose it.
var hostile = "/in/a\r\nBcc: evil@example.org\r\n\r\nX\x1b[2J\u202e\u2028\xff\x00$(id)`id`;.csv"

func upload(path string, n int) events.Event {
	return events.Event{Kind: events.Upload, User: "ann", Protocol: "sftp", Remote: "192.0.2.7:4000", Session: fmt.Sprintf("s%d", n), Path: path, Bytes: int64(n)}
}
