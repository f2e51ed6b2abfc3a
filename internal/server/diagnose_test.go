package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/firewall"
)

// TestDiagnoseTellsOnesOwn checks what SITE DIAG shows, and that it is about
// the client's own address alone.
func TestDiagnoseTellsOnesOwn(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	ctx := context.Background()
	from := func(addr string) ftp.ClientOptions {
		return ftp.ClientOptions{Dialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}}
	}
	one, err := r.tryDial(r.address(0), from("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range one.Lines(ctx, "LIST") {
		if err != nil {
			t.Fatal(err)
		}
	}
	// What most clients do behind a blocked range: announce, and nothing more.
	if _, err := one.Cmd(ctx, "EPSV"); err != nil {
		t.Fatal(err)
	}
	if rep, err := one.Cmd(ctx, "PORT 10,1,2,3,100,100"); err != nil || rep.Code != 504 {
		t.Fatalf("PORT elsewhere: %v %v", rep, err)
	}
	if _, err := one.Cmd(ctx, "EPSV"); err != nil { // gives the first up
		t.Fatal(err)
	}
	rep, err := one.Cmd(ctx, "SITE DIAG")
	if err != nil || rep.Code != 200 {
		t.Fatalf("SITE DIAG: %v %v", rep, err)
	}
	text := strings.Join(rep.Lines, "\n")
	contains(t, text, "you from=127.0.0.1:", "reached="+r.address(0), "mode=EPSV tls=false code=ok", "code=PR-D10", "mode=PORT tls=false code=PR-D11 target=10.1.2.3:25700", "firewall of=passive-data state=")

	two, err := r.tryDial(r.address(0), from("127.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	rep, err = two.Cmd(ctx, "SITE DIAG")
	if err != nil || rep.Code != 200 {
		t.Fatalf("SITE DIAG: %v %v", rep, err)
	}
	if text := strings.Join(rep.Lines, "\n"); strings.Contains(text, "from=127.0.0.1") || strings.Contains(text, "data at=") {
		t.Errorf("one client is told about another:\n%s", text)
	}
	one.Quit(ctx)
	if got := r.s.Recorder().Recent(10); len(got) < 3 || got[0].User == "" || got[0].Session == "" {
		t.Errorf("recorded %+v", got)
	}
	if live, stats := r.s.LivePorts(); live == nil || len(stats) != 1 || stats[0].Leases < 3 {
		t.Errorf("live %v, stats %+v", live, stats)
	}
}

// TestOwnWall checks what clients are told about the server's own firewall, and
// that their questions do not start programs at their pace.
func TestOwnWall(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", "")+listenTOML("ftp", ":2121", ""))
	const drop = "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 2121 -j ACCEPT\nCOMMIT\n"
	tests := []struct {
		name string
		sets []firewall.RuleSet
		want string
	}{
		{"closed", []firewall.RuleSet{{Format: firewall.FormatIptables, Text: drop}}, "firewall of=passive-data state=closed code=SERVER_FW_RANGE"},
		{"open", []firewall.RuleSet{{Format: firewall.FormatIptables, Text: strings.Replace(drop, "INPUT DROP", "INPUT ACCEPT", 1)}}, "firewall of=passive-data state=open"},
		{"no permission", []firewall.RuleSet{{Format: firewall.FormatNftables, Err: errors.New("no")}}, "firewall of=passive-data state=unknown"},
		{"nonsense", []firewall.RuleSet{{Format: firewall.FormatNftables, Text: "%"}}, "firewall of=passive-data state=unknown"},
		{"nothing", nil, "firewall of=passive-data state=unknown"},
	}
	for _, tt := range tests {
		reads := 0
		w := &ownWall{load: func(context.Context) []firewall.RuleSet { reads++; return tt.sets }}
		for range 5 {
			if got := w.lines(t.Context(), r.config()); got[0] != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got[0], tt.want)
			}
		}
		if reads != 1 {
			t.Errorf("%s: read %d times in a moment", tt.name, reads)
		}
		w.read = time.Now().Add(-wallAge)
		if w.lines(t.Context(), r.config()); reads != 2 {
			t.Errorf("%s: an old answer was kept", tt.name)
		}
	}
}
