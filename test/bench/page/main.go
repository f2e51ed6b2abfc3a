// Page turns the JSON lines of the benchmark harness into docs/benchmarks.md
// and its chart. It owns the table of targets and says of each whether it was
// met; it measures nothing.
//
//	go run ./test/bench/page -in out.jsonl -md docs/benchmarks.md -svg docs/benchmarks.svg
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

// line is a line of the harness's output; see "Output" in its README.
type line struct {
	Type, Case, Server, Name, Unit, Note, Error string
	Round                                       int
	Values                                      map[string]float64
	Value                                       float64
	Rounds                                      int
	Size                                        int64
	CPUs                                        int
	Kernel, Loadavg, Go, Time                   string
	Versions                                    map[string]string
}

// runs is all that was measured. A case measured again replaces the earlier
// measurement of the same servers, so that a run can be mended case by case.
type runs struct {
	head    []line
	limits  []line
	samples map[string]map[string]map[int]map[string]float64 // case, server, round, key
	errors  []line
	order   []string // cases as first seen
}

func read(r io.Reader) (*runs, error) {
	x := &runs{samples: map[string]map[string]map[int]map[string]float64{}}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	run := map[string]int{} // case -> the run that measured it
	for n := 1; s.Scan(); n++ {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		switch l.Type {
		case "run":
			x.head = append(x.head, l)
		case "limit":
			x.limits = append(x.limits, l)
		case "error":
			x.errors = append(x.errors, l)
		case "sample":
			if x.samples[l.Case] == nil {
				x.order = append(x.order, l.Case)
			}
			if x.samples[l.Case] == nil || run[l.Case] != len(x.head) {
				x.samples[l.Case], run[l.Case] = map[string]map[int]map[string]float64{}, len(x.head)
			}
			if x.samples[l.Case][l.Server] == nil {
				x.samples[l.Case][l.Server] = map[int]map[string]float64{}
			}
			x.samples[l.Case][l.Server][l.Round] = l.Values
		}
	}
	return x, s.Err()
}

func main() {
	in := flag.String("in", "", "JSON lines of the harness")
	extra := flag.String("extra", "", "a Markdown file to put at the end")
	command := flag.String("command", "make bench", "the command that made the figures")
	md := flag.String("md", "docs/benchmarks.md", "page to write")
	svg := flag.String("svg", "docs/benchmarks.svg", "chart to write")
	flag.Parse()
	if err := write(*in, *extra, *command, *md, *svg); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func write(in, extra, command, md, svg string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	x, err := read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if len(x.order) == 0 {
		return fmt.Errorf("%s holds no sample; run the harness first", in)
	}
	var page, chart bytes.Buffer
	x.page(&page, command)
	x.chart(&chart)
	if extra != "" {
		b, err := os.ReadFile(extra)
		if err != nil {
			return err
		}
		page.WriteByte('\n')
		page.Write(b)
	}
	if err := os.WriteFile(md, page.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(svg, chart.Bytes(), 0o644)
}
