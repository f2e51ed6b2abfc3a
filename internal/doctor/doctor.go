// Package doctor owns diagnosis: checks on the server's machine, probes from a
// client against any FTP server, and the decision which cause explains what
// was seen. It opens no listener, changes nothing unless told to write a test
// file, and probes no host and no port but those of the server it was given.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // clients fail
	Warning Severity = "warning" // some clients or modes fail
	Note    Severity = "note"    // worth knowing; it does not count as a finding
)

func (s Severity) rank() int {
	return map[Severity]int{Error: 0, Warning: 1, Note: 2}[s]
}

// Finding is one thing that is wrong.
type Finding struct {
	Code     string   `json:"code"` // stable; see docs/reference/errors.md
	Title    string   `json:"title"`
	Cause    string   `json:"cause"`         // what was seen and what it means
	Box      string   `json:"box,omitempty"` // where the cure is applied: "server", "server-router", "client-router", ...
	Fix      string   `json:"fix"`
	Severity Severity `json:"severity"`
	// Could lists the codes among which this vantage point cannot tell, the
	// likeliest first. It is empty when Code is certain.
	Could    []string `json:"could,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	Because  []string `json:"because,omitempty"` // codes of root causes that explain this finding
	Hides    []string `json:"hides,omitempty"`   // codes of findings this one explains, filled by Settle
}

// Settle sorts findings, the worst first, removes repetitions, and takes out
// those that a finding in the list explains; the root cause names them in Hides.
func Settle(fs []Finding) []Finding {
	var out []Finding
	for _, f := range fs {
		if !slices.ContainsFunc(out, func(o Finding) bool { return o.Code == f.Code && o.Cause == f.Cause }) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	hidden := make([]bool, len(out))
	for i := range out {
		for j := range out {
			if i != j && out[i].Code != out[j].Code && slices.Contains(out[i].Because, out[j].Code) && !slices.Contains(out[j].Because, out[i].Code) {
				hidden[i] = true
				if !slices.Contains(out[j].Hides, out[i].Code) {
					out[j].Hides = append(out[j].Hides, out[i].Code)
				}
			}
		}
	}
	var roots []Finding
	for i := range out {
		if !hidden[i] {
			roots = append(roots, out[i])
		}
	}
	return roots
}

// Found reports whether a finding calls for action: notes do not.
func Found(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Severity != Note })
}

// Text is the finding for a terminal.
func (f *Finding) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n", f.Severity, f.Code, f.Title)
	fmt.Fprintf(&b, "  seen   %s\n", f.Cause)
	for _, e := range f.Evidence {
		fmt.Fprintf(&b, "         - %s\n", e)
	}
	if len(f.Could) > 0 {
		fmt.Fprintf(&b, "  could  this place cannot tell between:\n")
		for _, c := range f.Could {
			fmt.Fprintf(&b, "         - %s (%s): %s\n", c, causes[c].Box, causes[c].Title)
		}
	}
	if f.Box != "" {
		fmt.Fprintf(&b, "  where  %s\n", f.Box)
	}
	lead := "cure  "
	for line := range strings.Lines(f.Fix) {
		fmt.Fprintf(&b, "  %s %s\n", lead, strings.TrimRight(line, "\n"))
		lead = "      "
	}
	if len(f.Hides) > 0 {
		fmt.Fprintf(&b, "  hides  %s\n", strings.Join(f.Hides, ", "))
	}
	return b.String()
}

// Check is one examination of the server's machine.
type Check struct {
	Name  string
	Needs []string // names of checks that must have run before
	Run   func(context.Context, *Env) []Finding
}

// RunChecks runs the checks in the order their needs ask for and returns the
// settled findings. progress, which may be nil, hears each name.
func RunChecks(ctx context.Context, checks []Check, env *Env, progress func(string)) []Finding {
	done := map[string]bool{}
	var out []Finding
	for left := slices.Clone(checks); len(left) > 0; {
		i := slices.IndexFunc(left, func(c Check) bool {
			return !slices.ContainsFunc(c.Needs, func(n string) bool {
				return !done[n] && slices.ContainsFunc(left, func(o Check) bool { return o.Name == n })
			})
		})
		if i < 0 {
			i = 0 // needs in a circle: run them all the same
		}
		c := left[i]
		left = slices.Delete(left, i, i+1)
		if ctx.Err() != nil {
			break
		}
		if progress != nil {
			progress(c.Name)
		}
		out = append(out, c.Run(ctx, env)...)
		done[c.Name] = true
	}
	return Settle(out)
}
