package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) hookCommand() *cobra.Command {
	c := &cobra.Command{Use: "hook", Short: "See, test and repair the hooks of the configuration", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `See, test and repair the hooks of the configuration ([[hook]]), which tell
receivers of events or ask them first. A delivery that failed is tried again by
itself; one that was given up after all its attempts is dead and stays until it
is retried or dropped.`}
	c.AddCommand(a.hookList(), a.hookTest(), a.hookDead())
	return c
}

func (a *app) hookList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the hooks and what waits for them", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				hooks, err := o.Hooks(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, hooks)
				}
				if len(hooks) == 0 {
					fmt.Fprintln(a.err, "no hooks; [[hook]] in the configuration makes one")
					return nil
				}
				rows := [][]string{{"HOOK", "MODE", "BY", "TO", "ON", "WAITING", "DEAD", "DONE", "FAILED", "PROBLEM"}}
				for _, h := range hooks {
					on := make([]string, len(h.On))
					for i, k := range h.On {
						on[i] = string(k)
					}
					rows = append(rows, []string{h.Name, orDash(h.Mode), orDash(h.Deliver), orDash(h.Target), orDash(strings.Join(on, ",")), strconv.FormatInt(h.Waiting, 10),
						strconv.FormatInt(h.Dead, 10), strconv.FormatInt(h.Delivered, 10), strconv.FormatInt(h.Failed, 10), orDash(h.Problem)})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) hookTest() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "test NAME", Short: "Send a made-up event to a hook", Args: args("NAME"),
		Long: `Send a made-up event to a hook, once and at once, and say what came of it. In
the message "test" is true. The exit code is 1 when it did not arrive.`,
		ValidArgsFunction: a.completeHooks,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				t, err := o.TestHook(ctx, names[0])
				if err != nil {
					return err
				}
				switch {
				case asJSON:
					err = writeJSON(a.out, t)
				case !t.Good:
					return fmt.Errorf("the hook %s failed after %s: %s", t.Hook, t.Took.Round(time.Millisecond), plain(t.Problem))
				case t.Answer != "":
					fmt.Fprintf(a.out, "%s answered after %s: %s\n", t.Hook, t.Took.Round(time.Millisecond), plain(t.Answer))
				default:
					fmt.Fprintf(a.out, "%s took it after %s\n", t.Hook, t.Took.Round(time.Millisecond))
				}
				if err == nil && !t.Good {
					err = errQuiet
				}
				return err
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) completeHooks(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	_ = a.withOperations(cmd, func(ctx context.Context, o operations) error { // a completion that fails offers nothing
		hooks, err := o.Hooks(ctx)
		for _, h := range hooks {
			out = append(out, h.Name+"\t"+h.Deliver)
		}
		return err
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) hookDead() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "dead", Short: "List deliveries that were given up; retry or drop them", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				ds, err := o.DeadDeliveries(ctx, 0, 1000)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, ds)
				}
				if len(ds) == 0 {
					fmt.Fprintln(a.err, "no dead deliveries")
					return nil
				}
				rows := [][]string{{"ID", "HOOK", "EVENT", "NUMBER", "SINCE", "GIVEN UP", "TRIES", "PROBLEM"}}
				for _, d := range ds {
					rows = append(rows, []string{strconv.FormatInt(d.ID, 10), d.Hook, string(d.Kind), strconv.FormatInt(d.Event, 10), when(d.Created), when(d.Dead), strconv.Itoa(d.Tries), d.Problem})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(
		a.moveDead("retry", "Try a dead delivery again, or all of them", "will be tried again", operations.RetryDeliveries),
		a.moveDead("drop", "Remove a dead delivery, or all of them", "removed", operations.DropDeliveries))
	return c
}

func (a *app) moveDead(verb, short, done string, do func(operations, context.Context, int64) (admin.Moved, error)) *cobra.Command {
	var all, asJSON bool
	c := &cobra.Command{Use: verb + " [ID]", Short: short, Args: args("[ID]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			id := int64(0)
			switch {
			case all == (len(given) == 1):
				return usagef(cmd, "give the number of a delivery, as \"portreeve hook dead\" shows it, or --all")
			case !all:
				var err error
				if id, err = strconv.ParseInt(given[0], 10, 64); err != nil || id < 1 {
					return usagef(cmd, "%q is not the number of a delivery", given[0])
				}
			}
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				m, err := do(o, ctx, id)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, m)
				}
				fmt.Fprintf(a.out, "%d %s\n", m.Deliveries, done)
				return nil
			})
		}}
	c.Flags().BoolVar(&all, "all", false, "all dead deliveries")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
