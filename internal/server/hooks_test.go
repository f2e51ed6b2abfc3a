package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// inbox is a receiver of webhooks.
type inbox struct {
	*httptest.Server
	mu    sync.Mutex
	down  bool // replies 503
	paths []string
	ids   []string
}

func newInbox(t *testing.T) *inbox {
	b := &inbox{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p struct {
			ID    string
			Event struct{ Path string }
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b.paths, b.ids = append(b.paths, p.Event.Path), append(b.ids, p.ID)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *inbox) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.paths)
}

func (b *inbox) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func hookTOML(name, on, more string) string {
	return fmt.Sprintf("[[hook]]\nname = %q\non = [%q]\nbackoff = \"5ms\"\nbackoff_max = \"50ms\"\nattempts = 1000\nnetworks = [\"127.0.0.1\"]\n%s\n", name, on, more)
}

// script makes a program outside every home.
func script(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestHookOverRestart: what a receiver did not take before a restart it gets
// after, and what happened before the hook was there it never gets.
func TestHookOverRestart(t *testing.T) {
	b := newInbox(t)
	plain := listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)
	r := start(t, plain)
	put(t, r.dial(0, inClear), "/before.txt", []byte("1"))
	eventually(t, "the first upload in the trail", func() bool {
		es, err := r.s.Store().ListEvents(t.Context(), storeFilter(events.Upload))
		return err == nil && len(es) == 1
	})
	r.write(r.toml + hookTOML("orders", "upload", "deliver = \"webhook\"\nurl = \""+b.URL+"\"\npaths = [\"*.csv\", \"/before*\"]"))
	if _, err := r.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := r.dial(0, inClear)
	eventually(t, "the hook to follow the trail", func() bool {
		_, ok, err := r.s.Store().Cursor(t.Context(), "hooks")
		return ok && err == nil
	})
	put(t, c, "/a.csv", []byte("12345"))
	put(t, c, "/a.txt", []byte("12345"))
	eventually(t, "the first delivery", func() bool { return len(b.got()) == 1 })
	b.set(true)
	put(t, c, "/b.csv", []byte("12345"))
	eventually(t, "a failed try", func() bool {
		st, err := r.s.Hooks().States(t.Context())
		return err == nil && len(st) == 1 && st[0].Waiting == 1 && st[0].Failed > 0 && strings.Contains(st[0].Problem, "503")
	})
	r.halt()
	b.set(false)
	r.run()
	eventually(t, "the delivery after the restart", func() bool { return len(b.got()) == 2 })
	if got := b.got(); got[0] != "/a.csv" || got[1] != "/b.csv" {
		t.Errorf("delivered %q", got)
	}
}

// TestAskHooksEndToEnd: a program that refuses keeps the upload, the delete
// and the log-in from happening, and the client is told.
func TestAskHooksEndToEnd(t *testing.T) {
	program := script(t, `
case "$PORTREEVE_EVENT $PORTREEVE_PATH" in
"upload /no"*) echo "no such files, please"; exit 77 ;;
"upload /broken"*) exit 3 ;;
"delete "*|"rename "*|"download /secret") exit 77 ;;
"login "*) [ "$PORTREEVE_USER" != carol ] || { echo "carol is away"; exit 77; } ;;
esac
`)
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+"[[hook]]\nname = \"guard\"\non = [\"upload\", \"delete\", \"rename\", \"download\", \"login\"]\nmode = \"ask\"\ndeliver = \"program\"\nprogram = [\""+program+"\"]\n")
	r.addUser(account.User{Name: "carol", Home: r.home})
	r.run()
	ctx := context.Background()
	c := r.dial(0, inClear)
	put(t, c, "/yes", []byte("1"))
	store := func(name string) error {
		_, err := c.Store(ctx, name, strings.NewReader("1"), 0)
		return err
	}
	for _, tt := range []struct {
		name, want string
		err        error
	}{
		{"upload", "550 Refused by the check guard: no such files, please.", store("/no.txt")},
		{"upload without an answer", "450 This must be checked first, and the check guard gave no answer; try again later.", store("/broken")},
		{"delete", "550 Refused by the check guard.", c.Remove(ctx, "/yes")},
		{"rename", "550 Refused by the check guard.", c.Rename(ctx, "/yes", "/other")},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.name, tt.err, tt.want)
		}
	}
	entries, err := os.ReadDir(r.home)
	if err != nil || len(entries) != 1 || entries[0].Name() != "yes" {
		t.Errorf("the home holds %v, %v", entries, err)
	}
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("USER carol")
	l.expect("331")
	l.send("PASS " + testPassword)
	if line := l.expect("530"); strings.Contains(line, "away") {
		t.Errorf("the reply tells that the password was right: %q", line)
	}
	eventually(t, "the refusal in the trail", func() bool {
		es, err := r.s.Store().ListEvents(ctx, storeFilter(events.LoginFailed))
		return err == nil && len(es) == 1 && strings.Contains(es[0].Detail, "carol is away")
	})
}

// A program that users could replace is refused at the start and at a reload,
// and blocked when an account is given its directory later.
func TestProgramInHomeIsRefused(t *testing.T) {
	plain := listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)
	r := prepare(t, plain)
	base := r.toml
	hook := func(p string) string {
		return base + "[[hook]]\nname = \"run\"\non = [\"upload\"]\ndeliver = \"program\"\nprogram = [\"" + p + "\"]\n"
	}
	inside := filepath.Join(r.home, "tool")
	if err := os.MkdirAll(r.home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inside, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.write(hook(inside))
	if _, err := r.s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "which users see") {
		t.Errorf("reload with a program in a home: %v", err)
	}
	outside := script(t, "exit 0\n")
	r.write(hook(outside))
	if _, err := r.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := r.s.Hooks().Test(t.Context(), "run"); err != nil || !got.Good {
		t.Errorf("a program outside: %+v, %v", got, err)
	}
	if _, err := r.s.Store().CreateUser(t.Context(), account.User{Name: "late", Home: filepath.Dir(outside)}); err != nil {
		t.Fatal(err)
	}
	r.s.watchPrograms(t.Context())
	if got, err := r.s.Hooks().Test(t.Context(), "run"); err != nil || got.Good || !strings.Contains(got.Problem, "which users see") {
		t.Errorf("a program that users see since: %+v, %v", got, err)
	}
	r.halt()
	if s, err := New(r.config(), r.options()); err == nil {
		s.Close()
		t.Error("the server starts with a program in a home")
	}
}

// TestRetention: old files go, young, excepted and linked ones stay; the
// archive keeps the directories; links lead nowhere; the quota is given back.
func TestRetention(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+`
[[task]]
name = "clean"
do = "retention"
schedule = "@yearly"
users = ["a?n"]
path = "/in"
older = "30d"
match = ["*.csv"]
except = ["keep*"]
empty_dirs = "remove"

[[task]]
name = "archive"
do = "retention"
schedule = "@yearly"
users = ["*"]
path = "/in"
older = "30d"
archive = "/old"
`)
	outside := t.TempDir()
	old := time.Now().AddDate(0, 0, -31)
	make := func(name string, at time.Time) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("12345"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	in := filepath.Join(r.home, "in")
	make(filepath.Join(in, "a.csv"), old)
	make(filepath.Join(in, "deep", "er", "b.csv"), old)
	make(filepath.Join(in, "young.csv"), time.Now())
	make(filepath.Join(in, "keep.csv"), old)
	make(filepath.Join(in, "c.txt"), old)
	make(filepath.Join(r.home, "beside.csv"), old)
	make(filepath.Join(outside, "d.csv"), old)
	for link, to := range map[string]string{"out": outside, "out.csv": filepath.Join(outside, "d.csv"), "up": ".."} {
		if err := os.Symlink(to, filepath.Join(in, link)); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	exists := func(names ...string) {
		t.Helper()
		for _, n := range names {
			name, gone := strings.CutPrefix(n, "!")
			if _, err := os.Lstat(name); (err == nil) == gone {
				t.Errorf("%s: %v", n, err)
			}
		}
	}
	dry, err := r.s.Tasks().Run(t.Context(), "clean", true)
	if err != nil || !dry.Dry || dry.Files != 2 || dry.Bytes != 10 || dry.Failures != 0 || len(dry.Changes) != 2 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	exists(filepath.Join(in, "a.csv"), filepath.Join(in, "deep", "er", "b.csv"))
	did, err := r.s.Tasks().Run(t.Context(), "clean", false)
	if err != nil || did.Files != 2 || did.Dirs != 2 || did.Failures != 0 {
		t.Errorf("run: %+v, %v", did, err)
	}
	exists("!"+filepath.Join(in, "a.csv"), "!"+filepath.Join(in, "deep"), filepath.Join(in, "young.csv"), filepath.Join(in, "keep.csv"), filepath.Join(in, "c.txt"),
		filepath.Join(r.home, "beside.csv"), filepath.Join(outside, "d.csv"), filepath.Join(in, "out.csv"))
	var es []events.Event
	eventually(t, "the runs in the trail", func() bool { // the bus stores a moment later
		es, err = r.s.Store().ListEvents(t.Context(), storeFilter(events.Delete, events.TaskRun))
		return err != nil || len(es) >= 4
	})
	if err != nil || len(es) != 4 || es[0].Kind != events.TaskRun || es[0].Target != "clean" || es[1].Kind != events.Delete || es[1].User != testUser || es[1].Protocol != "task" || es[1].Remote != "" {
		t.Errorf("trail: %+v, %v", es, err)
	}

	make(filepath.Join(r.home, "old", "c.txt"), old) // the name is taken in the archive
	if did, err = r.s.Tasks().Run(t.Context(), "archive", false); err != nil || did.Files != 2 || did.Failures != 0 {
		t.Errorf("archive: %+v, %v", did, err)
	}
	exists("!"+filepath.Join(in, "keep.csv"), filepath.Join(r.home, "old", "keep.csv"), "!"+filepath.Join(in, "c.txt"), filepath.Join(in, "young.csv"))
	if two, err := filepath.Glob(filepath.Join(r.home, "old", "c.txt*")); err != nil || len(two) != 2 {
		t.Errorf("both files of one name: %v, %v", two, err)
	}
	st, err := r.s.Tasks().States(t.Context())
	if err != nil || len(st) != 2 || st[1].Last == nil || st[1].Last.Files != 2 || st[0].Next.IsZero() {
		t.Errorf("states: %+v, %v", st, err)
	}
}

func storeFilter(kinds ...events.Kind) store.EventFilter { return store.EventFilter{Kinds: kinds} }

// Kinds of events in the configuration are those of the trail.
func TestHookKindsAreThoseOfTheTrail(t *testing.T) {
	for _, k := range []events.Kind{events.Login, events.LoginFailed, events.Logout, events.Refused, events.Upload, events.Download, events.Delete, events.Rename, events.Mkdir,
		events.Rmdir, events.Attr, events.Copy, events.Link, events.QuotaFull, events.DataFailed, events.Kick, events.Ban, events.Unban, events.UserChanged, events.ConfigLoad,
		events.Start, events.Stop, events.AddressChanged, events.PortMapped, events.HookDead, events.TaskRun} {
		if !slices.Contains(config.EventKinds, string(k)) {
			t.Errorf("no hook can be on %q", k)
		}
	}
	for _, k := range config.EventKinds {
		if k == string(events.Listing) {
			t.Errorf("%q is not kept in the trail", k)
		}
	}
}

// TestHooksOfBothProtocols: an upload, a rename and a delete are told alike
// over FTP and SFTP, and a hook that is asked refuses over both.
func TestHooksOfBothProtocols(t *testing.T) {
	b := newInbox(t)
	program := script(t, "case \"$PORTREEVE_PATH\" in /no*) echo \"no such files, please\"; exit 77 ;; esac\n")
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", "")+
		strings.Replace(hookTOML("told", "upload", "parallel = 1\ndeliver = \"webhook\"\nurl = \""+b.URL+"\""), `["upload"]`, `["upload", "rename", "delete"]`, 1)+
		"[[hook]]\nname = \"guard\"\non = [\"upload\"]\nmode = \"ask\"\ndeliver = \"program\"\nprogram = [\""+program+"\"]\n")
	c, x := r.dial(0, inClear), r.sftpClient(1, testUser)
	var want []string
	act := func(dir string, store func(name string) error, rename func(from, to string) error, remove func(name string) error) {
		t.Helper()
		if err := store(dir + "a"); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if err := rename(dir+"a", dir+"b"); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		if err := remove(dir + "b"); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		want = append(want, dir+"a", dir+"a", dir+"b")
		if err := store("/no" + dir[1:]); !errors.Is(err, fs.ErrPermission) && (err == nil || !strings.Contains(strings.ToLower(err.Error()), "no such files, please")) { // the SFTP client keeps the code alone
			t.Errorf("%s: the hook that is asked gives %v", dir, err)
		}
	}
	act("/ftp-", func(name string) error {
		_, err := c.Store(t.Context(), name, strings.NewReader("x"), 0)
		return err
	}, func(from, to string) error { return c.Rename(t.Context(), from, to) }, func(name string) error { return c.Remove(t.Context(), name) })
	act("/sftp-", func(name string) error {
		f, err := x.Create(name)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, "x")
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	}, x.Rename, x.Remove)
	eventually(t, "all to be told", func() bool { return len(b.got()) >= len(want) })
	if got := b.got(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
