package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/store"
)

// TestLeftoversAreSweptAtTheStart leaves what a crash leaves: nobody has to
// log in for it to go. What may be continued stays.
func TestLeftoversAreSweptAtTheStart(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	deep := filepath.Join(r.home, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Minute)
	files := map[string]bool{ // name -> stays
		".0123456789abcdef.ptmp":                 false,
		".0123456789abcdef0123456789abcdef.ptmp": true,
		"report.ptmp":                            true,
	}
	for name := range files {
		p := filepath.Join(deep, name)
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	eventually(t, "the sweep", func() bool {
		_, err := os.Stat(filepath.Join(deep, ".0123456789abcdef.ptmp"))
		return os.IsNotExist(err)
	})
	for name, stays := range files {
		if _, err := os.Stat(filepath.Join(deep, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRequiredAuditEndToEnd looks at the database at the moment of each reply,
// as it would be found after a crash there.
func TestRequiredAuditEndToEnd(t *testing.T) {
	r := start(t, "[audit]\nrequired = true\n"+listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	other, err := store.Open(t.Context(), filepath.Join(r.dir, "data", store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	last := func() events.Event {
		es, err := other.ListEvents(t.Context(), store.EventFilter{Limit: 1})
		if err != nil || len(es) == 0 {
			t.Fatalf("%v, %v", es, err)
		}
		return es[0]
	}
	c := r.dial(0, inClear)
	if e := last(); e.Kind != events.Login || e.User != testUser {
		t.Errorf("after 230 the trail ends with %+v", e)
	}
	put(t, c, "/a.txt", []byte("12345"))
	if e := last(); e.Kind != events.Upload || e.Path != "/a.txt" || e.Bytes != 5 {
		t.Errorf("after 226 the trail ends with %+v", e)
	}
	if err := c.Remove(context.Background(), "/a.txt"); err != nil {
		t.Fatal(err)
	}
	if e := last(); e.Kind != events.Delete {
		t.Errorf("after 250 the trail ends with %+v", e)
	}
	if v, err := other.VerifyEvents(t.Context()); err != nil || v.Err() != nil || v.Checked < 4 {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestAuditFilesOverRestart checks that the files of [audit] hold each event
// of two runs, the last ones included.
func TestAuditFilesOverRestart(t *testing.T) {
	r := prepare(t, "[[audit.file]]\npath = \"trail.json\"\n"+listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	for range 2 {
		r.run()
		c := r.dial(0, inClear)
		put(t, c, "/a.txt", []byte("12345"))
		c.Quit(context.Background())
		r.halt()
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "trail.json"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range map[string]int{"server.start": 2, "login": 2, "upload": 2, "logout": 2, "server.stop": 2} {
		if got := strings.Count(string(b), `"kind":"`+kind+`"`); got != n {
			t.Errorf("%d lines of %s, want %d:\n%s", got, kind, n, b)
		}
	}
	contains(t, r.logs.String(), "audit trail", "mark=")
}

// TestDoors checks that denied and banned addresses are reset at accept, that
// others are not, and that a reload changes it.
func TestDoors(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	if _, err := r.tryDial(r.address(0), inClear); err != nil {
		t.Fatal(err)
	}
	r.write(strings.Replace(r.toml, "[ftp.passive]", "[limits]\ndeny = [\"127.0.0.0/8\"]\n[ftp.passive]", 1))
	if _, err := r.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, r.address(0)); got != "" {
		t.Errorf("a denied address is greeted: %q", got)
	}
	r.write(strings.Replace(r.toml, "deny = [\"127.0.0.0/8\"]", "allow = [\"127.0.0.0/8\"]", 1))
	if _, err := r.s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, r.address(0)); !strings.HasPrefix(got, "220") {
		t.Errorf("an allowed address gets %q", got)
	}
	p, _ := limits.Key(addrOf(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}).Addr()).Addr().Prefix(32)
	if err := r.s.Limits().Ban(t.Context(), limits.Ban{Network: p, Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, r.address(0)); got != "" {
		t.Errorf("a banned address is greeted: %q", got)
	}
	if _, err := r.s.Limits().Unban(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := r.tryDial(r.address(0), ftp.ClientOptions{}); err != nil {
		t.Errorf("after the ban was lifted: %v", err)
	}
}

// greeting is what a new connection is told, nothing when it is reset.
func greeting(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 512)
	n, err := c.Read(b)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("neither greeted nor reset")
	}
	return string(b[:n])
}

func TestLimitFromProc(t *testing.T) {
	if got, want := limitFromProc("/proc/self/limits"), maxFiles(); got != want {
		t.Errorf("%d from /proc, %d from the system", got, want)
	}
	if got := limitFromProc("/nonexistent"); got != 1<<30 {
		t.Errorf("unknown is %d", got)
	}
}
