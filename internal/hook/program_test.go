package hook

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

func script(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProgram: a real program gets the event as JSON and in its environment,
// and nothing else of the server: no variable, no descriptor, no shell.
func TestProgram(t *testing.T) {
	out := t.TempDir()
	t.Setenv("SECRET_OF_THE_SERVER", "x")
	p := script(t, `cat >"$1/json"; env >"$1/env"; ls -l /proc/self/fd >"$1/fds"; pwd >"$1/pwd"; printf '%s\n' "$2" >"$1/arg"; mv "$1/json" "$1/done"`)
	h := hookFor("run", config.DeliverProgram, "upload")
	h.Program = []string{p, out, "$(id) `id` ; rm -rf /"}
	g := newRig(t, "", h)
	g.publish(upload(hostile, 5))
	eventually(t, "the program", func() bool { return g.backlog("run") == events.Backlog{} && exists(filepath.Join(out, "done")) })
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	got := payloadOf(t, []byte(read("done")))
	if !strings.HasPrefix(got.Event.Path, "/in/a\r\nBcc: evil") || got.Event.User != "ann" {
		t.Errorf("JSON %+v", got)
	}
	env := read("env")
	for _, want := range []string{"PORTREEVE_EVENT=upload\n", "PORTREEVE_USER=ann\n", "PORTREEVE_BYTES=5\n", `PORTREEVE_PATH=/in/a\x0d\x0aBcc: evil@example.org`, "PORTREEVE_MESSAGE=" + got.ID + "\n"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %q in the environment\n%s", want, env)
		}
	}
	if strings.Contains(env, "SECRET_OF_THE_SERVER") || strings.Contains(env, "\nBcc:") || strings.Contains(env, "\x1b") {
		t.Errorf("environment\n%s", env)
	}
	for _, of := range []string{"socket:", ".db", "eventpoll"} {
		if fds := read("fds"); strings.Contains(fds, of) {
			t.Errorf("a descriptor of the server is open in the program:\n%s", fds)
		}
	}
	if read("pwd") != "/\n" || read("arg") != "$(id) `id` ; rm -rf /\n" {
		t.Errorf("directory %q, argument %q", read("pwd"), read("arg"))
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestProgramIsKilled: with all it started, when it hangs and when it ends
// and leaves something behind.
func TestProgramIsKilled(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"hangs":         {`sleep 300 & echo $! >"$1/pid"; echo $$ >>"$1/pid"; wait`, "within the timeout"},
		"leaves behind": {`sleep 300 & echo $! >"$1/pid"; exit 0`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h := hookFor("run", config.DeliverProgram, "upload")
			h.Program = []string{script(t, tt.text), dir}
			p, err := newProgram(&h)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err = p.deliver(ctx, []message{{id: "msg_1", body: []byte("{}")}})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v; want %q", err, tt.want)
			}
			b, err := os.ReadFile(filepath.Join(dir, "pid"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, "the end of what it started", func() bool {
					stat, err := os.ReadFile("/proc/" + f + "/stat")
					return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(stat), ") Z ")
				})
			}
		})
	}
}

// TestProgramFailures: what it says is bounded and fit for people.
func TestProgramFailures(t *testing.T) {
	for text, want := range map[string]string{
		`echo "no disk" >&2; exit 4`:                     "the program failed (exit status 4): no disk",
		`printf '\033[2Jx\n' ; exit 1`:                   `\x1b[2Jx`,
		`head -c 10000000 /dev/zero | tr '\0' x; exit 1`: "xxx",
		`kill -9 $$`: "signal: killed",
		`exit 77`:    "exit status 77",
		`cat >/dev/null; printf 'first\r\nsecond\n' >&2; exit 1`: "): first",
		`exec 0<&-; exit 5`:                                         "exit status 5",
		`printf '%s' "$PORTREEVE_PATH" >&2; exit 1`:                 `\x0d\x0aBcc`,
		`printf '%s' "$PORTREEVE_HOOK:$PORTREEVE_MODE" >&2; exit 1`: "run:notify",
	} {
		h := hookFor("run", config.DeliverProgram, "upload")
		h.Program = []string{script(t, text)}
		p, err := newProgram(&h)
		if err != nil {
			t.Fatal(err)
		}
		e := upload(hostile, 1)
		m, err := newMessage(&rule{Hook: h}, &e, false)
		if err != nil {
			t.Fatal(err)
		}
		err = p.deliver(t.Context(), []message{m})
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\r\n\x1b") {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// A program that somebody else could replace is not run.
func TestProgramTrust(t *testing.T) {
	good := script(t, "exit 0")
	loose := script(t, "exit 0")
	open := script(t, "exit 0")
	for name, mode := range map[string]os.FileMode{loose: 0o777, filepath.Dir(open): 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{good: "", loose: "others may write to the program", open: "everybody may write to the directory", "/etc/passwd": "is not a program", "/": "is not a program"} {
		if err := trusted(name); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
}

// Any octets in a name make a message that is JSON, lines and variables of one line each.
func FuzzMessage(f *testing.F) {
	f.Add(hostile, "ann")
	f.Add("/a\x7f\u0085\u00ad", "\xff\xfe")
	f.Fuzz(func(t *testing.T, path, user string) {
		e := events.Event{Kind: events.Upload, Path: path, User: user, Target: path, Detail: path}
		m, err := newMessage(&rule{Hook: config.Hook{Name: "x"}}, &e, false)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(m.body) {
			t.Errorf("not JSON: %q", m.body)
		}
		for _, l := range append(environment(&m), lines(&m.p.Event)...) {
			if strings.ContainsAny(l, "\r\n\x00\x1b\u0085\u2028\u2029\u202e") {
				t.Errorf("not one harmless line: %q", l)
			}
		}
	})
}

// TestProgramBehindLink: what lies behind a link is held to the same rules, and
// so is who owns the directories on the way.
func TestProgramBehindLink(t *testing.T) {
	open := t.TempDir()
	prog, link := filepath.Join(open, "hook"), filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(prog, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(prog, link); err != nil {
		t.Fatal(err)
	}
	if err := trusted(link); err != nil {
		t.Errorf("a link to a good program: %v", err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := trusted(link); err == nil || !strings.Contains(err.Error(), "everybody may write to the directory "+open) {
		t.Errorf("a link into a directory of everybody: %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root can give a directory away
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(open, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := trusted(link); err == nil || !strings.Contains(err.Error(), "belongs to uid 12345") {
		t.Errorf("a program in somebody's directory: %v", err)
	}
}
