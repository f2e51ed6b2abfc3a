package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

var sample = Event{ID: 7, Time: time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC), Kind: Upload, Session: "s1", Protocol: "ftps", Listener: "office", User: "ann",
	Remote: "[2001:db8::1]:4242", Path: "/in/a b\r\n230 forged\x1b[2J\u009b.txt", Bytes: 1234, Took: 2 * time.Second, Result: "ok"}

// TestFormatsKeepHostileNamesInside checks that a name can neither begin a
// line nor reach a terminal, in any format.
func TestFormatsKeepHostileNamesInside(t *testing.T) {
	tests := []struct {
		f    Format
		want string
	}{
		{JSON, `"path":"/in/a b\r\n230 forged\u001b[2J\u009b.txt"`},
		{Text, `path=/in/a b\r\n230 forged\x1b[2J\u009b.txt`},
		{Xferlog, `2 2001:db8::1 1234 /in/a_b\r\n230_forged\x1b[2J\u009b.txt b _ i r ann ftps 0 * c`},
		{W3C, `2026-11-02 03:04:05 2001:db8::1 4242 office ftps s1 ann upload /in/a+b%0D%0A230+forged%1B[2J%C2%9B.txt - ok 1234 2000 7 -`},
	}
	for _, tt := range tests {
		line := string(tt.f.Append(nil, sample))
		if !strings.Contains(line, tt.want) {
			t.Errorf("%s:\n got %s\nwant %s", tt.f, line, tt.want)
		}
		body := strings.TrimRight(line, "\r\n")
		for _, c := range []string{"\r", "\n", "\x1b", "\x7f", "\u009b"} {
			if strings.Contains(body, c) {
				t.Errorf("%s: %q is in the line raw", tt.f, c)
			}
		}
		if tt.f == JSON {
			var back Event
			if err := json.Unmarshal([]byte(line), &back); err != nil || back.Path != sample.Path {
				t.Errorf("the name does not come back: %q, %v", back.Path, err)
			}
		}
	}
	if got := Xferlog.Append(nil, Event{Kind: Login}); len(got) != 0 {
		t.Errorf("xferlog has a line for a log-in: %s", got)
	}
	failed := sample
	failed.Kind, failed.Result, failed.User = Download, "canceled", "anonymous"
	if got := string(Xferlog.Append(nil, failed)); !strings.Contains(got, " b _ o a anonymous ftps 0 * i\n") {
		t.Errorf("xferlog of a failed download: %s", got)
	}
	fields := len(strings.Fields(strings.Split(W3C.Header(time.Now()), "#Fields:")[1]))
	if n := len(strings.Fields(string(W3C.Append(nil, sample)))); n != fields {
		t.Errorf("a w3c line has %d fields, the header %d", n, fields)
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	f := NewFile(FileOptions{Path: path, Format: W3C, MaxSize: 1500, Keep: 2})
	defer f.Close()
	for i := range 40 {
		if err := f.Write(t.Context(), []Event{{ID: int64(i), Kind: Upload, Path: strings.Repeat("p", 50)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{path, path + ".1", path + ".2"} {
		b, err := os.ReadFile(name)
		if err != nil || len(b) > 1500 || !strings.HasPrefix(string(b), "#Software") {
			t.Errorf("%s: %d octets, %v", name, len(b), err)
		}
	}
	if _, err := os.Stat(path + ".3"); err == nil {
		t.Error("an old file too many is kept")
	}
	// As logrotate does it.
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), []Event{{ID: 99, Kind: Login}}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), " login ") || strings.Count(string(b), "\n") != 5 {
		t.Errorf("after another program moved the file: %q", b)
	}
}

func TestFileAfterCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte(`{"id":1}`+"\n"+`{"id":2,"ti`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFile(FileOptions{Path: path, Format: JSON})
	defer f.Close()
	if err := f.Write(t.Context(), []Event{{ID: 2}}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[2], `{"id":2,"time"`) {
		t.Errorf("%q", lines)
	}
}

// trail is a Trail in memory.
type trail struct {
	mu      sync.Mutex
	es      []Event
	cursors map[string]int64
}

func (t *trail) EventsAfter(_ context.Context, id int64, limit int) (r []Event, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.es {
		if e.ID > id && len(r) < limit {
			r = append(r, e)
		}
	}
	return r, nil
}

func (t *trail) Cursor(_ context.Context, name string) (int64, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.cursors[name]
	return id, ok, nil
}

func (t *trail) SetCursor(_ context.Context, name string, id int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cursors[name] = id
	return nil
}

// TestFollowerDeliversAtLeastOnce has the receiver fail, and the follower end
// and begin again.
func TestFollowerDeliversAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &trail{cursors: map[string]int64{}}
		for i := range 1200 {
			tr.es = append(tr.es, Event{ID: int64(i + 1)})
		}
		var got []int64
		fails := 3
		deliver := func(_ context.Context, es []Event) error {
			if fails > 0 {
				fails--
				return errors.New("receiver is down")
			}
			for _, e := range es {
				got = append(got, e.ID)
			}
			return nil
		}
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			f := &Follower{Name: "x", Trail: tr, Deliver: deliver, Log: slog.New(slog.DiscardHandler), New: 200}
			done := make(chan struct{})
			go func() { defer close(done); f.Run(ctx) }()
			time.Sleep(time.Minute)
			tr.mu.Lock()
			tr.es = append(tr.es, Event{ID: int64(len(tr.es) + 1)})
			tr.mu.Unlock()
			time.Sleep(time.Minute)
			cancel()
			<-done
		}
		if len(got) != 1002 || got[0] != 201 || got[1001] != 1202 {
			t.Errorf("%d delivered, from %d to %d", len(got), got[0], got[len(got)-1])
		}
	})
}

func TestStoredWakes(t *testing.T) {
	b := NewBus(Options{Sink: &sink{}, Every: time.Millisecond})
	woken := b.Stored()
	select {
	case <-woken:
		t.Fatal("woken by nothing")
	default:
	}
	publish(t, b, Event{Kind: Login, Fault: fault.None, Path: fmt.Sprint(1)})
	select {
	case <-woken:
	case <-time.After(10 * time.Second):
		t.Error("not woken by a stored event")
	}
	_ = b.Close(t.Context())
}
