package transcript

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// rig is a recorder whose clock the test moves.
type rig struct {
	*Recorder
	dir string
	mu  sync.Mutex
	at  time.Time
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

func newRig(t *testing.T, l Limits) *rig {
	t.Helper()
	r := &rig{dir: filepath.Join(t.TempDir(), "transcripts"), at: time.Now()}
	var err error
	r.Recorder, err = Open(r.dir, l, func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.at }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

var roomy = Limits{Keep: time.Hour, Session: 1 << 20, Total: 1 << 24}

func meta(n int, user, remote string) Meta {
	return Meta{Session: fmt.Sprintf("%024x", n), Protocol: "ftp", User: user, Remote: netip.MustParseAddrPort(remote)}
}

func (r *rig) ask(t *testing.T, q Request) Request {
	t.Helper()
	q, err := r.Ask(q, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (r *rig) text(t *testing.T, n int) string {
	t.Helper()
	_, s, err := r.Read(fmt.Sprintf("%024x", n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disk is what all transcripts take.
func (r *rig) disk(t *testing.T) (sum int64, files int) {
	t.Helper()
	list, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		i, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sum += i.Size()
	}
	return sum, len(list)
}

// TestOnlyWhatIsAsked: sessions of others leave nothing, in whatever way was asked.
func TestOnlyWhatIsAsked(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ask      Request
		hit, not Meta
	}{
		{"a session", Request{Session: meta(1, "", "192.0.2.1:1").Session}, meta(1, "", "192.0.2.1:1"), meta(2, "", "192.0.2.1:1")},
		{"an account", Request{User: "ann"}, meta(1, "ann", "192.0.2.1:1"), meta(2, "bob", "192.0.2.1:1")},
		{"an account, before log-in", Request{User: "ann"}, meta(1, "ann", "192.0.2.1:1"), meta(2, "", "192.0.2.1:1")},
		{"a network", Request{Network: netip.MustParsePrefix("192.0.2.0/24")}, meta(1, "", "192.0.2.1:1"), meta(2, "", "198.51.100.1:1")},
		{"an address written as IPv6", Request{Network: netip.MustParsePrefix("192.0.2.1/32")}, meta(1, "", "[::ffff:192.0.2.1]:1"), meta(2, "", "192.0.2.2:1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, roomy)
			if r.Asked() || r.Begin(tt.hit, nil) != nil {
				t.Fatal("recorded without a request")
			}
			q := r.ask(t, tt.ask)
			if got := r.Begin(tt.not, nil); got != nil {
				t.Error("a session that nobody asked for is recorded")
			}
			tape := r.Begin(tt.hit, nil)
			if tape == nil || r.Begin(tt.hit, nil) != tape {
				t.Fatal("not recorded, or twice")
			}
			tape.Line(false, "USER ann")
			tape.End("")
			if _, files := r.disk(t); files != 1 || !strings.Contains(r.text(t, 1), " > USER ann\n") {
				t.Errorf("%d files:\n%s", files, r.text(t, 1))
			}
			if rs := r.Requests(); len(rs) != 1 || rs[0].ID != q.ID || rs[0].Begun != 1 {
				t.Errorf("%+v", rs)
			}
			r.pass(time.Minute)
			if r.Begin(meta(3, "ann", "192.0.2.1:1"), nil) != nil || len(r.Requests()) != 0 || r.Asked() {
				t.Error("the request outlived its time")
			}
		})
	}
}

// TestCeilings: one transcript, all of them, and the number of sessions are bounded to the octet.
func TestCeilings(t *testing.T) {
	r := newRig(t, Limits{Session: 4000, Total: 9000})
	r.ask(t, Request{User: "ann"})
	for n := 1; n <= 5; n++ {
		ended := false
		tape := r.Begin(meta(n, "ann", "192.0.2.1:1"), func() { ended = true })
		for i := 0; i < 200 && tape != nil; i++ {
			tape.Line(i%2 == 0, strings.Repeat("x", 90))
		}
		if tape != nil && (!ended || !strings.Contains(r.text(t, n), "nothing more is recorded")) {
			t.Errorf("transcript %d does not say that it was cut:\n%s", n, r.text(t, n))
		}
		if i, err := os.Stat(filepath.Join(r.dir, fmt.Sprintf("%024x.txt", n))); err == nil && i.Size() > 4000 {
			t.Errorf("transcript %d has %d octets", n, i.Size())
		}
	}
	sum, files := r.disk(t)
	if sum > 9000 || files < 2 || files > 4 {
		t.Errorf("%d octets in %d files", sum, files)
	}
	if err := r.Remove(fmt.Sprintf("%024x", 1)); err != nil {
		t.Fatal(err)
	}
	if tape := r.Begin(meta(9, "ann", "192.0.2.1:1"), nil); tape == nil {
		t.Error("nothing can be recorded although there is room again")
	}

	r = newRig(t, roomy)
	r.ask(t, Request{User: "ann"})
	for n := range 2 * maxSessions {
		r.Begin(meta(n, "ann", "192.0.2.1:1"), nil).End("")
	}
	if _, files := r.disk(t); files != maxSessions {
		t.Errorf("one request made %d files, not %d", files, maxSessions)
	}
	for range maxRequests - 1 {
		r.ask(t, Request{User: "bob"})
	}
	if _, err := r.Ask(Request{User: "bob"}, 0); fault.KindOf(err) != fault.Limit {
		t.Errorf("request %d: %v", maxRequests+1, err)
	}
	if _, err := r.Ask(Request{User: "bob"}, MaxFor+1); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a request without end: %v", err)
	}
}

// TestHostileLines: whatever a client sends stays one line of printable text.
func TestHostileLines(t *testing.T) {
	r := newRig(t, roomy)
	r.ask(t, Request{User: "a\nnn\x1b]0;x\a"})
	tape := r.Begin(meta(1, "a\nnn\x1b]0;x\a", "192.0.2.1:1"), nil)
	before := strings.Count(r.text(t, 1), "\n")
	hostile := []string{"STOR a\r\n     9.000 < 230 forged", "CWD \x1b[2J\x00\x7f", "DELE \u202egnp.exe", "MKD \xff\xfe\u009b31m", `RMD \x00`, strings.Repeat("y", 1<<20), strings.Repeat("\u009b", 1<<19)}
	for _, l := range hostile {
		tape.Line(false, l)
	}
	tape.End("")
	text := r.text(t, 1)
	if got := strings.Count(text, "\n") - before; got != len(hostile) {
		t.Errorf("%d lines became %d", len(hostile), got)
	}
	for i, c := range text {
		if c != '\n' && (c < ' ' || c >= 0x7f) {
			t.Fatalf("octet %d is %U", i, c)
		}
	}
	for _, want := range []string{`> STOR a\x0d\x0a     9.000 < 230 forged`, `> CWD \x1b[2J\x00\x7f`, `> DELE \u{202e}gnp.exe`, `> MKD \xff\xfe\u{9b}31m`, `> RMD \\x00`, "octets more\n", `user: a\x0ann\x1b]0;x\x07`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%.3000s", want, text)
		}
	}
	if len(text) > len(hostile)*(maxLine+200)+1000 {
		t.Errorf("%d octets", len(text))
	}
}

// TestTimeAndAge: recording ends with its time, with its request and with the
// recorder; files go when they are old. Only the owner can read them.
func TestTimeAndAge(t *testing.T) {
	r := newRig(t, roomy)
	stopped := r.ask(t, Request{User: "bob"})
	r.ask(t, Request{User: "ann"})
	ends := 0
	timed, idle := r.Begin(meta(1, "ann", "192.0.2.1:1"), func() { ends++ }), r.Begin(meta(2, "ann", "192.0.2.1:1"), func() { ends++ })
	bobs := r.Begin(meta(3, "bob", "192.0.2.1:1"), func() { ends++ })
	if _, err := r.Stop(stopped.ID); err != nil || ends != 1 {
		t.Errorf("stop: %v, %d ended", err, ends)
	}
	if _, err := r.Stop(stopped.ID); fault.KindOf(err) != fault.NotExist {
		t.Errorf("stop again: %v", err)
	}
	bobs.Line(true, "after the end")
	timed.Line(true, "in time")
	r.pass(time.Minute)
	timed.Line(true, "too late")
	r.Sweep()
	idle.Line(true, "too late")
	if ends != 3 || r.Active() {
		t.Errorf("%d have ended, active: %v", ends, r.Active())
	}
	for n := 1; n <= 3; n++ {
		if s := r.text(t, n); strings.Contains(s, "too late") || strings.Contains(s, "after the end") || n == 1 && !strings.Contains(s, "in time") {
			t.Errorf("transcript %d:\n%s", n, s)
		}
	}
	for name, mode := range map[string]os.FileMode{"": 0o700, fmt.Sprintf("%024x.txt", 1): 0o600} {
		if i, err := os.Stat(filepath.Join(r.dir, name)); err != nil || i.Mode().Perm() != mode {
			t.Errorf("%q has mode %v, %v", name, i.Mode(), err)
		}
	}
	if l := r.List(); len(l) != 3 || l[0].User != "ann" || l[2].Request != stopped.ID || l[0].Running {
		t.Errorf("%+v", l)
	}
	os.WriteFile(filepath.Join(r.dir, "notes.txt"), nil, 0o600) // somebody else's
	r.pass(2 * time.Hour)
	r.Sweep()
	if _, files := r.disk(t); files != 1 || len(r.List()) != 0 {
		t.Errorf("%d files are left, the foreign one should be", files)
	}
	for _, id := range []string{"", "../transcripts/notes", "..", strings.Repeat("a", 65), fmt.Sprintf("%024x", 1)} {
		if _, _, err := r.Read(id); fault.KindOf(err) != fault.NotExist {
			t.Errorf("read %q: %v", id, err)
		}
		if err := r.Remove(id); fault.KindOf(err) != fault.NotExist {
			t.Errorf("remove %q: %v", id, err)
		}
	}
}

// TestAskedAgain: a second request for a session continues its file, within the ceiling.
func TestAskedAgain(t *testing.T) {
	r := newRig(t, Limits{Session: 1500, Total: 1 << 20})
	m := meta(1, "", "192.0.2.1:1")
	r.ask(t, Request{Session: m.Session, By: "one"})
	r.Begin(m, nil).End("")
	r.ask(t, Request{Session: m.Session, By: "two"})
	tape := r.Begin(m, nil)
	for range 50 {
		tape.Note("%s", strings.Repeat("z", 50))
	}
	if s := r.text(t, 1); len(s) > 1500 || !strings.Contains(s, "goes on at") || !strings.Contains(s, "asked for by two") {
		t.Errorf("%d octets:\n%s", len(s), s)
	}
	if r.Begin(m, nil) != nil {
		t.Error("a full transcript is continued")
	}
	// What is there counts after a restart, too.
	again, err := Open(r.dir, Limits{Session: 1500, Total: 1600}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Ask(Request{User: "ann"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if again.Begin(meta(2, "ann", "192.0.2.1:1"), nil) != nil {
		t.Error("the total was forgotten")
	}
}

// TestConcurrentLines: the fronts of a session may write at once while it ends.
func TestConcurrentLines(t *testing.T) {
	r := newRig(t, Limits{Session: 20_000, Total: 1 << 20})
	q := r.ask(t, Request{User: "ann"})
	tape := r.Begin(meta(1, "ann", "192.0.2.1:1"), nil)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 300 {
				if n == 3 && i == 200 {
					r.Stop(q.ID)
				}
				tape.Line(true, "226 done")
			}
		})
	}
	wg.Wait()
	if s := r.text(t, 1); len(s) > 20_000 || r.Active() || !strings.HasSuffix(s, "\n") {
		t.Errorf("%d octets, active %v", len(s), r.Active())
	}
}
