package main

import (
	"fmt"
	"io"
	"math"
)

// target is a row of the targets in docs/design/performance.md: a figure of
// ours against one of a peer, of the best peer when peer is "", or against a
// plain number when peer is "-".
type target struct {
	name, c, key, peer string
	now, aim           float64
	atLeast            bool // the figure must be at least now, not at most
}

var targets = []target{
	{name: "plain download", c: "retr-plain", key: "cpu_s_per_GiB", peer: "vsftpd", now: 1.10, aim: 1.0},
	{name: "plain upload", c: "stor-plain", key: "cpu_s_per_GiB", peer: "vsftpd", now: 0.65, aim: 0.55},
	{name: "plain upload", c: "stor-plain", key: "cpu_s_per_GiB", peer: "pure-ftpd", now: 1.0, aim: 0.9},
	{name: "TLS download", c: "retr-tls", key: "cpu_s_per_GiB", peer: "vsftpd", now: 0.85, aim: 0.65},
	{name: "TLS download", c: "retr-tls", key: "cpu_s_per_GiB", peer: "proftpd", now: 0.60, aim: 0.60},
	{name: "TLS download, best peer", c: "retr-tls", key: "cpu_s_per_GiB", now: 1.0, aim: 0.65},
	{name: "TLS upload", c: "stor-tls", key: "cpu_s_per_GiB", peer: "vsftpd", now: 0.90, aim: 0.65},
	{name: "TLS upload, best peer", c: "stor-tls", key: "cpu_s_per_GiB", now: 1.0, aim: 0.65},
	{name: "small downloads", c: "small-retr-plain", key: "cpu_ms_per_file", peer: "vsftpd", now: 0.80, aim: 0.60},
	{name: "small downloads", c: "small-retr-plain", key: "cpu_ms_per_file", peer: "pure-ftpd", now: 1.0, aim: 1.0},
	{name: "small downloads a second", c: "small-retr-plain", key: "files_per_s", peer: "vsftpd", now: 2, aim: 3, atLeast: true},
	{name: "small TLS downloads", c: "small-retr-tls", key: "cpu_ms_per_file", peer: "vsftpd", now: 0.75, aim: 0.50},
	{name: "small TLS downloads", c: "small-retr-tls", key: "cpu_ms_per_file", peer: "proftpd", now: 0.75, aim: 0.50},
	{name: "small TLS downloads a second", c: "small-retr-tls", key: "files_per_s", peer: "vsftpd", now: 3, aim: 3, atLeast: true},
	{name: "small TLS downloads a second", c: "small-retr-tls", key: "files_per_s", peer: "proftpd", now: 1.2, aim: 2, atLeast: true},
	{name: "idle session, plain", c: "idle-plain-1k", key: "pss_KiB_per_session", peer: "-", now: 12, aim: 8},
	{name: "idle session, TLS", c: "idle-tls-1k", key: "pss_KiB_per_session", peer: "-", now: 24, aim: 18},
	{name: "listing of 100,000", c: "list-100k", key: "cpu_s", peer: "vsftpd", now: 0.70, aim: 0.50},
	{name: "MLSD of 100,000", c: "mlsd-100k", key: "cpu_s", peer: "proftpd", now: 0.20, aim: 0.10},
	{name: "MLSD of 100,000, memory (MiB)", c: "mlsd-100k", key: "rss_growth_MiB", peer: "-", now: 2, aim: 1},
	{name: "SFTP download", c: "sftp-get", key: "cpu_s_per_GiB", peer: "openssh", now: 0.65, aim: 0.40},
	{name: "SFTP upload", c: "sftp-put", key: "cpu_s_per_GiB", peer: "openssh", now: 0.55, aim: 0.40},
}

// reached is the figure of a target and the peer it is measured against.
func (x *runs) reached(t target) (peer string, mid, low, high float64) {
	switch t.peer {
	case "-":
		v := x.values(t.c, ours, t.key)
		if len(v) == 0 {
			return "", math.NaN(), math.NaN(), math.NaN()
		}
		low, high = math.Inf(1), math.Inf(-1)
		for _, f := range v {
			low, high = min(low, f), max(high, f)
		}
		return "", median(v), low, high
	case "":
		peer = x.best(t.c, t.key, t.atLeast)
	default:
		peer = t.peer
	}
	mid, low, high = x.ratio(t.c, ours, peer, t.key)
	return peer, mid, low, high
}

// verdict is "met", "missed" or "not measured", and says when the aim is met.
func (t target) verdict(f float64) string {
	within := func(limit float64) bool {
		if t.atLeast {
			return f >= limit
		}
		return f <= limit
	}
	switch {
	case math.IsNaN(f):
		return "not measured"
	case within(t.aim):
		return "met, aim too"
	case within(t.now):
		return "met"
	}
	return "**missed**"
}

func (x *runs) targets(w io.Writer) {
	fmt.Fprint(w, "| target | case | against | must be | aim | reached | range | |\n|---|---|---|---:|---:|---:|---:|---|\n")
	for _, t := range targets {
		peer, mid, low, high := x.reached(t)
		sign := "<="
		if t.atLeast {
			sign = ">="
		}
		if peer == "" {
			peer = "a fixed figure"
			if t.peer == "" {
				peer = "best peer"
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s %s | %s | %s | %s | %s |\n", t.name, t.c, peer, sign, num(t.now), num(t.aim), num(mid), span(low, high), t.verdict(mid))
	}
}
