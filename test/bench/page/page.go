package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// num shows a figure with three digits, and a dash for none.
func num(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func span(low, high float64) string {
	if math.IsNaN(low) {
		return "-"
	}
	return num(low) + " to " + num(high)
}

const intro = `# Benchmarks

This page is written by %s from runs of the benchmark harness; do not edit
it. Ratios are medians of the ratios of interleaved rounds: servers run one after
another within each round, so that a noisy machine disturbs all alike. Server
CPU is the figure to read. Absolute figures differ from machine to machine.
Portreeve runs with accounts, rights, limits, live counters, the event trail and
metrics on; "floor" is a bare responder in Go without any of these, which shows
what is possible.

![CPU of Portreeve and its peers](benchmarks.svg)

`

func (x *runs) page(w io.Writer, command string) {
	fmt.Fprintf(w, intro, "`"+command+"`")
	for _, h := range x.head {
		fmt.Fprintf(w, "Run of %s: %d rounds, %d MiB a bulk sample, %d CPUs, Linux %s, %s, load before it %s.\n\n",
			h.Time, h.Rounds, h.Size>>20, h.CPUs, h.Kernel, h.Go, strings.Join(strings.Fields(h.Loadavg)[:min(3, len(strings.Fields(h.Loadavg)))], " "))
	}
	fmt.Fprint(w, "## Targets\n\nThe targets are those of [performance.md](design/performance.md).\n\n")
	x.targets(w)
	x.bestPeers(w)
	x.tables(w)
	if len(x.limits) > 0 {
		fmt.Fprint(w, "\n## Physical limits in the same run\n\n| limit | value | unit |\n|---|---:|---|\n")
		for _, l := range x.limits {
			fmt.Fprintf(w, "| %s | %s | %s |\n", l.Name, num(l.Value), l.Unit)
		}
	}
	x.versions(w)
}

// bestPeers sets us beside the best peer of each case.
func (x *runs) bestPeers(w io.Writer) {
	fmt.Fprint(w, "\n## Against the best peer of each case\n\nBelow 1 means less CPU (or memory) than the best peer.\n\n| case | unit | Portreeve | best peer | | ratio | range |\n|---|---|---:|---|---:|---:|---:|\n")
	for _, c := range x.order {
		key, unit := metric(c)
		peer := x.best(c, key, false)
		mid, low, high := x.ratio(c, ours, peer, key)
		if math.IsNaN(mid) {
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", c, unit, num(median(x.values(c, ours, key))), peer, num(median(x.values(c, peer, key))), num(mid), span(low, high))
	}
}

// tables has each case with all servers.
func (x *runs) tables(w io.Writer) {
	fmt.Fprint(w, "\n## Every case\n")
	for _, c := range x.order {
		key, unit := metric(c)
		key2, unit2 := second(c)
		fmt.Fprintf(w, "\n### %s\n\n| server | %s | range | %s | range | rounds |\n|---|---:|---:|---:|---:|---:|\n", c, unit, unit2)
		for _, s := range x.servers(c) {
			a, b := x.values(c, s, key), x.values(c, s, key2)
			if len(a) == 0 {
				continue
			}
			r2 := "-"
			if len(b) > 0 {
				r2 = span(slices.Min(b), slices.Max(b))
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %d |\n", s, num(median(a)), span(slices.Min(a), slices.Max(a)), num(median(b)), r2, len(a))
		}
		for _, e := range x.errors {
			if e.Case == c {
				fmt.Fprintf(w, "\n%s, round %d: %s\n", e.Server, e.Round, strings.ReplaceAll(e.Error, "\n", " "))
			}
		}
	}
}

func (x *runs) versions(w io.Writer) {
	all := map[string]string{}
	for _, h := range x.head {
		for s, v := range h.Versions {
			all[s] = v
		}
	}
	var names []string
	for s := range all {
		names = append(names, s)
	}
	slices.Sort(names)
	fmt.Fprint(w, "\n## Versions\n\n| server | version |\n|---|---|\n")
	for _, s := range names {
		fmt.Fprintf(w, "| %s | %s |\n", s, strings.TrimSpace(all[s]))
	}
}
