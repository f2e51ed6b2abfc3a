package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/config"
)

func (a *app) applyCommand() *cobra.Command {
	var file string
	var o admin.ApplyOptions
	var asJSON, yes bool
	c := &cobra.Command{Use: "apply -f FILE", Short: "Make accounts, groups and administrators what a file says", Args: args(),
		Long: `Make accounts, groups, mounts and administrators what a TOML file says. The
difference is shown first; then all of it is stored in one go, or nothing. A
second run has nothing to do. What the file leaves out of an object has its
default; keys and certificates of a user that are not mentioned stay, and
must_change counts for new accounts only. Secrets are not in the file: passwords,
tokens and second factors have commands of their own. What the file does not
name stays, unless --prune, which looks at the kinds the file has.

  [[groups]]
  name = "staff"
  home = "/srv/staff/%u"
  hours = ["mon-fri 08:00-18:00"]

  [[users]]
  name   = "ann"
  groups = ["staff"]
  keys   = ["ssh-ed25519 AAAA... ann@laptop"]
  quota  = { bytes = "10GiB" }
  mounts = [{ path = "/pub", source = "/srv/pub", read_only = true }]
  rules  = [{ path = "/", rights = "rw", deny = ["*.exe"] }]

  [[administrators]]
  name   = "ops"
  scopes = ["all"]

"portreeve user show NAME --json" shows the names of all settings.`,
		Example: `  portreeve apply -f state.toml --dry-run
  portreeve apply -f state.toml --prune`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef(cmd, "name the file with -f; - is standard input")
			}
			want, err := a.readState(file)
			if err != nil {
				return err
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				return a.applyState(ctx, acc, want, o, asJSON, yes)
			})
		}}
	f := c.Flags()
	f.StringVarP(&file, "file", "f", "", "the `FILE`; - is standard input")
	f.BoolVar(&o.DryRun, "dry-run", false, "only show the difference")
	f.BoolVar(&o.Prune, "prune", false, "remove what the file does not name, of the kinds it has")
	f.BoolVar(&asJSON, "json", false, "print the difference as JSON")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before something is removed")
	return c
}

func (a *app) applyState(ctx context.Context, acc accounts, want admin.State, o admin.ApplyOptions, asJSON, yes bool) error {
	dry := o
	dry.DryRun = true
	p, err := acc.Apply(ctx, want, dry)
	if err != nil {
		return fmt.Errorf("nothing was stored:\n%w", err)
	}
	if !asJSON {
		a.printPlan(p)
	}
	if !o.DryRun && len(p.Changes) > 0 {
		if err := a.confirmRemovals(p, yes); err != nil {
			return err
		}
		o.Plan = p.Digest
		notes := p.Notes
		if p, err = acc.Apply(ctx, want, o); err != nil {
			return fmt.Errorf("nothing was stored:\n%w", err)
		}
		if !asJSON {
			for _, n := range p.Notes[min(len(notes), len(p.Notes)):] { // of directories; the others were shown
				fmt.Fprintln(a.err, plain(n))
			}
			fmt.Fprintf(a.out, "%s stored\n", count(len(p.Changes), "change"))
		}
	}
	if asJSON {
		return writeJSON(a.out, p)
	}
	return nil
}

func (a *app) confirmRemovals(p admin.Plan, yes bool) error {
	n := 0
	for _, c := range p.Changes {
		if c.Action == "delete" {
			n++
		}
	}
	if _, ok := terminal(a.in); n == 0 || yes || !ok {
		return nil // without a terminal --prune has said enough
	}
	return a.confirm(fmt.Sprintf("Remove %s?", count(n, "object")))
}

// printPlan shows a plan for people: + made, ~ changed, - removed.
func (a *app) printPlan(p admin.Plan) {
	signs := map[string]string{"create": "+", "update": "~", "delete": "-"}
	for _, c := range p.Changes {
		fmt.Fprintf(a.out, "%s %s %s\n", signs[c.Action], c.Kind, c.Name)
		for _, f := range c.Fields {
			switch {
			case c.Action == "create" || f.Before == "":
				fmt.Fprintf(a.out, "    %s: %s\n", f.Name, plain(f.After))
			default:
				fmt.Fprintf(a.out, "    %s: %s -> %s\n", f.Name, plain(f.Before), orNothing(f.After))
			}
		}
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(a.out, "nothing to change")
	}
	if len(p.Extra) > 0 {
		var names []string
		for _, c := range p.Extra {
			names = append(names, c.Kind+" "+c.Name)
		}
		fmt.Fprintf(a.err, "not in the file and kept: %s; --prune removes them\n", strings.Join(names, ", "))
	}
	for _, n := range p.Notes {
		fmt.Fprintln(a.err, plain(n))
	}
}

func orNothing(s string) string {
	if s == "" {
		return "none"
	}
	return plain(s)
}

// maxState bounds the file, in octets.
const maxState = 256 << 20

// readState reads a state file. Words stand for numbers where the command line
// has them too: sizes, rates and hours.
func (a *app) readState(file string) (admin.State, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(a.in, maxState))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return admin.State{}, fmt.Errorf("cannot read the state: %w", err)
	}
	doc, err := config.Document(file, text)
	if err != nil {
		return admin.State{}, err
	}
	for _, section := range []string{"users", "groups"} {
		list, _ := doc[section].([]any)
		for i, v := range list {
			o, ok := v.(map[string]any)
			if !ok {
				continue // the decoder below says so
			}
			if err := numbers(o); err != nil {
				return admin.State{}, fmt.Errorf("%s: %s %d (%v): %w", file, section, i+1, o["name"], err)
			}
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return admin.State{}, err
	}
	var s admin.State
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return admin.State{}, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "json: "))
	}
	return s, nil
}

// numbers replaces words in one user or group by what is stored.
func numbers(o map[string]any) error {
	size := func(m any, keys ...string) error {
		table, _ := m.(map[string]any)
		for _, k := range keys {
			word, ok := table[k].(string)
			if !ok {
				continue
			}
			n, err := octets(new(config.Size), word)
			if k != "bytes" {
				n, err = octets(new(config.Rate), word)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
			table[k] = *n
		}
		return nil
	}
	if err := size(o["quota"], "bytes"); err != nil {
		return err
	}
	if err := size(o["bandwidth"], "down", "up"); err != nil {
		return err
	}
	mounts, _ := o["mounts"].([]any)
	for _, m := range mounts {
		if t, ok := m.(map[string]any); ok {
			if err := size(t["quota"], "bytes"); err != nil {
				return err
			}
		}
	}
	list, _ := o["hours"].([]any)
	var windows []string
	for _, h := range list {
		if w, ok := h.(string); ok {
			windows = append(windows, w)
		}
	}
	if len(windows) > 0 && len(windows) == len(list) {
		parsed, err := hours(windows)
		if err != nil {
			return err
		}
		o["hours"] = *parsed
	}
	return nil
}
