package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCountries: connections of a denied country are reset at accept on every
// listener, also behind a balancer; a reload picks up a new database and
// another list, and one that fails changes nothing.
func TestCountries(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("..", "limits", "testdata", "countries.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "countries.mmdb")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	proxied := "proxy = [\"127.0.0.1\"]\n"
	r := start(t, "[geoip]\ndatabase = \""+file+"\"\ndeny = [\"DE\"]\n"+listenTOML("ftp", "127.0.0.1:0", proxied+"tls = \"off\"")+listenTOML("sftp", "127.0.0.1:0", proxied))
	greets := func(listener int, from string) bool {
		t.Helper()
		nc, err := net.Dial("tcp", r.address(listener))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(nc, "PROXY TCP4 "+from+" 198.51.100.1 12345 21\r\nSSH-2.0-test\r\n")
		b := make([]byte, 3)
		if _, err := io.ReadFull(nc, b); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("neither a greeting nor a reset")
		}
		return string(b) == "220" || string(b) == "SSH"
	}
	check := func(when, from string, want bool) {
		t.Helper()
		for listener := range 2 {
			if got := greets(listener, from); got != want {
				t.Errorf("%s: %s is greeted on listener %d: %v, not %v", when, from, listener, got, want)
			}
		}
	}
	const german, french, inside = "203.0.113.9", "198.51.100.1", "10.1.2.3"
	check("DE is denied", german, false)
	check("DE is denied", french, true)
	check("DE is denied", inside, true)
	var page bytes.Buffer
	if err := r.s.metrics.reg.WritePrometheus(&page); err != nil {
		t.Fatal(err)
	}
	contains(t, page.String(), `portreeve_connections_dropped_total{why="country"} 2`, `portreeve_connections_dropped_total{why="banned or denied"} 0`)

	reload := func() error { _, err := r.s.Reload(context.Background()); return err }
	for name, b := range map[string][]byte{"cut short": good[:len(good)/2], "a web page": []byte("<html>")} {
		write(b)
		if err := reload(); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "geoip.database") {
			t.Errorf("a reload with a database that is %s: %v", name, err)
		}
	}
	os.Remove(file)
	if err := reload(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a reload without the database: %v", err)
	}
	check("the reloads failed", german, false)

	// A new database under the same name, without any change of the configuration.
	write(bytes.ReplaceAll(good, []byte("DE"), []byte("FR")))
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	check("the database calls it FR", german, true)
	r.write(strings.Replace(r.toml, `deny = ["DE"]`, `allow = ["JP"]`, 1))
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	check("only JP is allowed", french, false)
	check("only JP is allowed", inside, true)
	contains(t, r.logs.String(), "database of countries loaded", "Portreeve-Test-Country")

	r.halt()
	write(good[:100])
	if s, err := New(r.config(), r.options()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a start with a broken database: %v, %v", s, err)
	}
}
