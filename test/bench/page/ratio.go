package main

import (
	"math"
	"slices"
	"strings"
)

const ours = "portreeve"

// yardstick says that a server is a yardstick without users, limits or logs, not a peer.
func yardstick(server string) bool { return strings.HasPrefix(server, "floor") }

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// values are the figures of a server in a case, one a round.
func (x *runs) values(c, server, key string) (v []float64) {
	for _, o := range x.samples[c][server] {
		if f, ok := o[key]; ok {
			v = append(v, f)
		}
	}
	return v
}

// ratio is the median, lowest and highest of the ratios of the rounds that
// both servers finished; NaN when there is none.
func (x *runs) ratio(c, server, to, key string) (mid, low, high float64) {
	var v []float64
	for n, o := range x.samples[c][server] {
		if q := x.samples[c][to][n]; q[key] > 0 {
			if f, ok := o[key]; ok {
				v = append(v, f/q[key])
			}
		}
	}
	if len(v) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	return median(v), slices.Min(v), slices.Max(v)
}

// best is the peer with the lowest median, or the highest if more is better;
// "" when no peer finished.
func (x *runs) best(c, key string, more bool) string {
	best, at := "", math.NaN()
	for _, s := range x.servers(c) {
		if s == ours || yardstick(s) {
			continue
		}
		if m := median(x.values(c, s, key)); !math.IsNaN(m) && (best == "" || (m > at) == more && m != at) {
			best, at = s, m
		}
	}
	return best
}

// servers are those with figures in a case, ours first, then by name.
func (x *runs) servers(c string) []string {
	var s []string
	for n := range x.samples[c] {
		s = append(s, n)
	}
	slices.SortFunc(s, func(a, b string) int {
		if (a == ours) != (b == ours) {
			if a == ours {
				return -1
			}
			return 1
		}
		if yardstick(a) != yardstick(b) {
			if yardstick(a) {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	return s
}

// metric is the main figure of a case.
func metric(c string) (key, unit string) {
	switch {
	case strings.HasPrefix(c, "small-"):
		return "cpu_ms_per_file", "CPU ms/file"
	case strings.HasPrefix(c, "login-"):
		return "cpu_ms_per_login", "CPU ms/log-in"
	case strings.HasPrefix(c, "mlsd-"), strings.HasPrefix(c, "list-"):
		return "cpu_s", "CPU s"
	case strings.HasPrefix(c, "idle-"):
		return "pss_KiB_per_session", "KiB/session"
	}
	return "cpu_s_per_GiB", "CPU s/GiB"
}

// second is the figure beside it.
func second(c string) (key, unit string) {
	switch {
	case strings.HasPrefix(c, "small-"):
		return "files_per_s", "files/s"
	case strings.HasPrefix(c, "login-"):
		return "logins_per_s", "log-ins/s"
	case strings.HasPrefix(c, "mlsd-"), strings.HasPrefix(c, "list-"):
		return "rss_growth_MiB", "MiB growth"
	case strings.HasPrefix(c, "idle-"):
		return "open_s", "s to open"
	}
	return "MBps", "MB/s"
}
