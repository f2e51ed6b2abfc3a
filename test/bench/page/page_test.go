package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `{"type":"run","rounds":2,"size":1073741824,"cpus":2,"kernel":"6.1","go":"go1.26","loadavg":"0.10 0.20 0.30 1/99 7","time":"2026-01-01T00:00:00Z","versions":{"portreeve":"1","vsftpd":"3.0.3"}}
{"type":"sample","case":"retr-plain","server":"portreeve","round":1,"values":{"cpu_s_per_GiB":9,"MBps":1}}
{"type":"run","rounds":2,"size":1073741824,"cpus":2,"kernel":"6.1","go":"go1.26","loadavg":"","time":"2026-01-01T01:00:00Z","versions":{}}
{"type":"sample","case":"retr-plain","server":"portreeve","round":1,"values":{"cpu_s_per_GiB":0.3,"MBps":900}}
{"type":"sample","case":"retr-plain","server":"portreeve","round":2,"values":{"cpu_s_per_GiB":0.4,"MBps":800}}
{"type":"sample","case":"retr-plain","server":"vsftpd","round":1,"values":{"cpu_s_per_GiB":0.3,"MBps":900}}
{"type":"sample","case":"retr-plain","server":"vsftpd","round":2,"values":{"cpu_s_per_GiB":0.2,"MBps":900}}
{"type":"sample","case":"retr-plain","server":"proftpd","round":1,"values":{"cpu_s_per_GiB":0.6,"MBps":900}}
{"type":"sample","case":"retr-plain","server":"floor","round":1,"values":{"cpu_s_per_GiB":0.1,"MBps":900}}
{"type":"sample","case":"small-retr-plain","server":"portreeve","round":1,"values":{"cpu_ms_per_file":0.2,"files_per_s":3000}}
{"type":"sample","case":"small-retr-plain","server":"vsftpd","round":1,"values":{"cpu_ms_per_file":0.4,"files_per_s":1000}}
{"type":"error","case":"retr-plain","server":"pyftpdlib","round":1,"error":"did not\nstart"}
`

func parsed(t *testing.T) *runs {
	t.Helper()
	x, err := read(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A later run of a case replaces the earlier one, ratios are of rounds, and
// the yardstick is no peer.
func TestRatios(t *testing.T) {
	x := parsed(t)
	if got := x.best("retr-plain", "cpu_s_per_GiB", false); got != "vsftpd" {
		t.Errorf("best peer %q, want vsftpd", got)
	}
	mid, low, high := x.ratio("retr-plain", ours, "vsftpd", "cpu_s_per_GiB")
	if mid != 1.5 || low != 1 || high != 2 {
		t.Errorf("ratio %v, %v to %v; want 1.5, 1 to 2", mid, low, high)
	}
	want := map[string]string{"retr-plain vsftpd": "**missed**", "small-retr-plain vsftpd": "met, aim too", "stor-tls vsftpd": "not measured"}
	for _, g := range targets {
		_, f, _, _ := x.reached(g)
		if w, ok := want[g.c+" "+g.peer]; ok && g.verdict(f) != w {
			t.Errorf("%s against %s: %s, want %s", g.c, g.peer, g.verdict(f), w)
		}
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	in, md, svg, extra := filepath.Join(dir, "in"), filepath.Join(dir, "md"), filepath.Join(dir, "svg"), filepath.Join(dir, "extra")
	for name, text := range map[string]string{in: sample, extra: "## More\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(in, extra, "make bench", md, svg); err != nil {
		t.Fatal(err)
	}
	page, _ := os.ReadFile(md)
	for _, want := range []string{"| plain download | retr-plain | vsftpd | <= 1.10 | 1.00 | 1.50 | 1.00 to 2.00 | **missed** |",
		"| small-retr-plain | CPU ms/file | 0.200 | vsftpd | 0.400 | 0.500 | 0.500 to 0.500 |", "pyftpdlib, round 1: did not start", "## More"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	f, err := os.Open(svg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := xml.NewDecoder(f)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
	}
}

func TestNothingMeasured(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	os.WriteFile(in, []byte(`{"type":"run"}`), 0o600)
	if err := write(in, "", "", filepath.Join(dir, "md"), filepath.Join(dir, "svg")); err == nil || !strings.Contains(err.Error(), "no sample") {
		t.Errorf("got %v, want an error that names what is missing", err)
	}
}
