package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

func TestMetrics(t *testing.T) {
	port := freePort(t)
	r := start(t, fmt.Sprintf("[metrics]\naddress = \"127.0.0.1:%d\"\n", port)+listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	c := r.dial(0, ftp.ClientOptions{TLS: ftp.ExplicitTLS})
	put(t, c, "/a.txt", make([]byte, 1000))
	get(t, c, "/a.txt")
	if _, err := c.Retrieve(t.Context(), "/missing", 0); err == nil {
		t.Error("a missing file came")
	}
	wrong, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if wrong.Login(t.Context(), testUser, "wrong") == nil {
		t.Error("a wrong password logs in")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(path, host string) (int, string) {
		req, _ := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	code, text := ask("/metrics", "localhost:1234")
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	contains(t, text,
		`portreeve_sessions{state="logged-in"} 1`, `portreeve_bytes_total{direction="up"} 1000`, `portreeve_bytes_total{direction="down"} 1000`,
		`portreeve_logins_total{protocol="ftps",result="ok"} 1`, `portreeve_transfers_total{direction="up",protocol="ftps",result="ok"} 1`,
		`portreeve_data_connections_total{mode="EPSV",network="loopback-ipv4",outcome="ok",tls="on"} 2`, `portreeve_transfer_seconds_count{direction="down"} 1`,
		`portreeve_data_wait_seconds_count{mode="EPSV"} 2`, `portreeve_config_stale 0`, `portreeve_logins_total{protocol="ftp",result="login"} 1`, "portreeve_certificate_expiry_seconds 1", "portreeve_bans 0")
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+)$`)
	for l := range strings.Lines(text) {
		if !line.MatchString(strings.TrimRight(l, "\n")) {
			t.Errorf("not the text format: %q", l)
		}
	}
	// Every series of the Grafana dashboard exists.
	dashboard, err := os.ReadFile("../../packaging/grafana/portreeve.json")
	if err != nil || !json.Valid(dashboard) {
		t.Fatal("the dashboard is not JSON", err)
	}
	names := regexp.MustCompile(`\b(portreeve|process)_[a-z_]+`).FindAllString(string(dashboard), -1)
	if len(names) < 20 {
		t.Errorf("only %d series in the dashboard", len(names))
	}
	for _, n := range names {
		if !strings.Contains(text, "\n"+n) {
			t.Errorf("the dashboard asks for %s, which does not exist", n)
		}
	}
	if code, _ := ask("/", "127.0.0.1"); code != 404 {
		t.Errorf("/ gives %d", code)
	}
	if code, _ := ask("/metrics", "evil.example.org"); code != 403 {
		t.Errorf("a foreign host name gives %d", code)
	}
	// A reload that fails shows.
	r.write("nonsense")
	if _, err := r.s.Reload(t.Context()); err == nil {
		t.Error("nonsense was loaded")
	}
	if _, text := ask("/metrics", "127.0.0.1"); !strings.Contains(text, "portreeve_config_stale 1") {
		t.Error("a failed reload does not show")
	}
}

// TestMetricsHandedOver: the page that an upgrade takes to the new process is
// no fault, and clients that keep their connection are sent there, too.
func TestMetricsHandedOver(t *testing.T) {
	r := start(t, fmt.Sprintf("[metrics]\naddress = \"127.0.0.1:%d\"\n", freePort(t))+listenTOML("ftp", "127.0.0.1:0", "")+
		"[[hook]]\nname = \"far\"\non = [\"upload\"]\ndeliver = \"program\"\nprogram = [\"/bin/true\"]\n")
	c, err := net.Dial("tcp", r.s.MetricsAddress().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := bufio.NewReader(c)
	resp, err := http.ReadResponse(b, nil)
	if err != nil || resp.Close {
		t.Fatal(resp, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	// Alarms on a first increase need the series from the beginning.
	contains(t, string(text), `portreeve_hook_dropped_total{hook="far",which="waiting"} 0`, `portreeve_hook_dropped_total{hook="far",which="dead"} 0`)
	r.s.metricsLn.Close()                              // as an upgrade does, see leave
	c.SetReadDeadline(time.Now().Add(5 * time.Second)) // before the idle time is over
	if _, err := b.ReadByte(); err != io.EOF {
		t.Errorf("the kept connection: %v, not its end", err)
	}
	r.halt()
	if log := r.logs.String(); strings.Contains(log, "metrics page") {
		t.Error(log)
	}
}

func TestMetricsPortTaken(t *testing.T) {
	r := prepare(t, "")
	taken := start(t, fmt.Sprintf("[metrics]\naddress = \"127.0.0.1:%d\"\n", freePort(t))+listenTOML("ftp", "127.0.0.1:0", ""))
	r.write(r.toml + "[metrics]\naddress = \"" + taken.s.MetricsAddress().String() + "\"\n" + listenTOML("ftp", "127.0.0.1:0", ""))
	if s, err := New(r.config(), r.options()); err == nil {
		s.Close()
		t.Error("two servers share a port")
	} else if !strings.Contains(err.Error(), "metrics.address: cannot listen on") {
		t.Error(err)
	}
}
