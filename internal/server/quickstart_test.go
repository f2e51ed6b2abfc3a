package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
)

// quick prepares a quick start on the loopback address that is this test's
// own, since the ports are fixed.
func quick(t *testing.T, dir, address string) *Quick {
	t.Helper()
	q, err := QuickStart(QuickOptions{Dir: dir, Address: address, Env: []string{"PORTREEVE_FTP_PASSIVE_PORTS=" + passiveRange()}})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestQuickStart runs what the screen shows: the curl line works as it is.
func TestQuickStart(t *testing.T) {
	noLeaks(t)
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("this test needs curl: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "it's data")
	q := quick(t, dir, "")
	if q.Password == "" || q.User == "" || !filepath.IsAbs(q.Dir) || len(q.Ports) != 3 {
		t.Fatalf("quick start: %+v", q)
	}
	r := &rig{t: t, logs: &logBuffer{}}
	ready := make(chan struct{})
	opt := r.options()
	opt.Ready = func(*Server) { close(ready) }
	s, err := New(q.Config, opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-ready
	for _, l := range s.Status().Listeners {
		if !strings.HasPrefix(l.Address, "127.0.0.1:") {
			t.Errorf("a quick start listens on %s", l.Address)
		}
	}
	for _, line := range []string{q.Curl, strings.Replace(q.Curl, "ftp://"+q.Ports[0].Address, "ftps://"+q.Ports[1].Address, 1)} {
		sh := exec.Command("sh", "-c", line)
		sh.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := sh.CombinedOutput()
		if err != nil {
			t.Errorf("%s with %s: %v\n%s\n%s", line, curl, err, out, r.logs)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(q.Home, "hello.txt")); err != nil || string(got) != "hello\n" {
			t.Errorf("%s: uploaded %q, %v", line, got, err)
		}
		os.Remove(filepath.Join(q.Home, "hello.txt"))
	}
	if _, err := QuickStart(QuickOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another portreeve") {
		t.Errorf("a second quick start in the same directory: %v", err)
	}
	// A second one elsewhere finds the ports taken, says by whom, and takes others.
	other := quick(t, filepath.Join(t.TempDir(), "other"), "")
	if other.Ports[0].Address == q.Ports[0].Address || other.Ports[1].Address == q.Ports[1].Address {
		t.Errorf("ports of a server that runs: %+v", other.Ports)
	}
	contains(t, strings.Join(other.Notes, "\n"), "is taken by", "this time")
	contains(t, other.Curl, other.Ports[0].Address)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	// Later starts do not know the password and say how to set another.
	again := quick(t, dir, "")
	if again.Password != "" || again.User != q.User || again.Home != q.Home {
		t.Errorf("a later start: %+v", again)
	}
	contains(t, strings.Join(again.Notes, "\n"), "exists from an earlier start", "portreeve user passwd "+q.User)
	for _, n := range append(again.Notes, again.Curl) {
		if strings.Contains(n, q.Password) {
			t.Errorf("the password is shown again: %s", n)
		}
	}
	files, err := filepath.Glob(filepath.Join(q.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), q.Password) {
			t.Errorf("%s contains the password", f)
		}
	}
}

func TestQuickStartElsewhereRequiresTLS(t *testing.T) {
	q := quick(t, t.TempDir(), "0.0.0.0")
	for _, l := range q.Config.Listen {
		if l.Protocol != config.ProtocolSFTP && l.TLS != config.Required {
			t.Errorf("%s: tls is %s", l.Address, l.TLS)
		}
	}
	contains(t, q.Curl, "ftp://127.0.0.1:", "--ssl-reqd")
	contains(t, q.SFTP, "sftp -P ", " demo@127.0.0.1")
	if _, err := QuickStart(QuickOptions{Dir: t.TempDir(), Address: "not-an-address"}); err == nil {
		t.Error("a wrong address was accepted")
	}
}

func TestQuickStartForeignAddress(t *testing.T) {
	if _, err := QuickStart(QuickOptions{Dir: t.TempDir(), Address: "192.0.2.250"}); err == nil || !strings.Contains(err.Error(), "no interface") {
		t.Errorf("an address of another machine: %v", err)
	}
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "plain", "/a/b-c.pem", "it's", "a b", "$HOME", "`x`", "a\"b", "*", "~", "a\\b", "é"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	}
}
