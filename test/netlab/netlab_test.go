//go:build lab

package netlab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// row is a line of the table that the lab prints.
type row struct{ name, matrix, curl, code, box, cured string }

var (
	tableMu sync.Mutex
	rows    = map[string]row{}
)

// TestTopologies builds each network, runs the doctor in it, and checks what
// works, the diagnosis, and that the cure cures.
func TestTopologies(t *testing.T) {
	all := everything()
	t.Cleanup(func() { printTable(all) })
	for i := range all {
		top := &all[i]
		t.Run(top.name, func(t *testing.T) {
			t.Parallel()
			check(t, top)
		})
	}
}

func everything() []topology {
	return slices.Concat(topologies(), containerTopologies(), balancerTopologies(), portTopologies(), wayTopologies(), peerTopologies())
}

func check(t *testing.T, top *topology) {
	l := build(t, top)
	r, text := l.doctor()
	out := row{name: top.name, matrix: r.matrix(), code: "-", box: "-", cured: "-", curl: "-"}
	if len(r.Findings) > 0 && r.Findings[0].Severity != "note" {
		f := r.Findings[0]
		out.code, out.box = f.Code, f.Box
		if len(f.Could) > 0 {
			out.code += " (" + strings.Join(f.Could, "|") + ")"
		}
	}
	if !top.here {
		judgeMatrix(t, top, out.matrix)
		got := l.curl()
		out.curl = map[bool]string{true: "works", false: "fails"}[got]
		if got != top.curl && top.want != "~" {
			t.Errorf("curl works: %t, want %t", got, top.curl)
		}
	}
	judgeFindings(t, top, &r)
	if t.Failed() {
		t.Logf("the doctor said:\n%s", text)
	}
	if top.cure != nil && !t.Failed() {
		out.cured = "yes"
		l.apply(top.cure)
		again, text := l.doctor()
		for _, f := range again.Findings {
			if f.Severity == "error" {
				out.cured = "no"
				t.Errorf("after the cure there is still %s: %s\n%s", f.Code, f.Cause, text)
			}
		}
		if !top.here && strings.Trim(again.matrix(), ".- ") != "" {
			out.cured = "no"
			t.Errorf("after the cure: %s", again.matrix())
		}
	}
	tableMu.Lock()
	rows[top.name] = out
	tableMu.Unlock()
}

func judgeMatrix(t *testing.T, top *topology, got string) {
	t.Helper()
	switch top.want {
	case "~": // by chance
		if !strings.Contains(got, ".") {
			t.Errorf("matrix %s: nothing works", got)
		}
	case "?":
	default:
		if got != top.want {
			t.Errorf("matrix %s, want %s", got, top.want)
		}
	}
}

func judgeFindings(t *testing.T, top *topology, r *report) {
	t.Helper()
	if len(r.Findings) == 0 || r.Findings[0].Severity == "note" {
		if top.code != "" || top.could != "" {
			t.Errorf("no finding, want %s%s", top.code, top.could)
		}
		return
	}
	f := r.Findings[0]
	switch {
	case top.code == "" && top.could == "":
		t.Errorf("finding %s where nothing is wrong", f.Code)
	case top.code != "" && f.Code != top.code:
		t.Errorf("first finding %s, want %s", f.Code, top.code)
	case top.could != "" && f.Code != top.could && !slices.Contains(f.Could, top.could):
		t.Errorf("first finding %s of %v, want one that could be %s", f.Code, f.Could, top.could)
	}
	if top.box != "" && f.Box != top.box {
		t.Errorf("box %q, want %q", f.Box, top.box)
	}
	if !strings.Contains(f.Fix, top.fix) {
		t.Errorf("the cure says nothing of %q: %s", top.fix, f.Fix)
	}
	if f.Fix == "" || f.Cause == "" {
		t.Errorf("%s has no cause or no cure", f.Code)
	}
}

// apply cures as the doctor says.
func (l *lab) apply(c *cure) {
	l.t.Helper()
	for node, rules := range c.rules {
		l.nft(node, rules)
	}
	l.shell(c.shell)
	if c.open != "" {
		text := l.must(l.host(), "", binary(), "-c", l.dir+"/portreeve.toml", "ports", "open", "--for", c.open)
		l.must(l.host(), text, "nft", "-f", "-")
	}
	if c.config != "" {
		l.stop()
		l.start(c.config)
	}
}

func printTable(all []topology) {
	tableMu.Lock()
	defer tableMu.Unlock()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPOLOGY\tplain pasv epsv port eprt, explicit, implicit, ipv6\tCURL\tDIAGNOSIS\tBOX\tCURED")
	for i := range all {
		if r, ok := rows[all[i].name]; ok {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.name, r.matrix, r.curl, r.code, r.box, r.cured)
		}
	}
	w.Flush()
}
