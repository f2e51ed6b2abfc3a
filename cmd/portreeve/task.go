package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/task"
)

func (a *app) taskCommand() *cobra.Command {
	c := &cobra.Command{Use: "task", Short: "See and run the tasks of the configuration", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `See and run the tasks of the configuration ([[task]]): retention of files and
events, sweeping, counting. Each run is an event of kind "task" in the trail.`}
	c.AddCommand(a.taskList(), a.taskRun())
	return c
}

func (a *app) taskList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the tasks, their next and their last run", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				tasks, err := o.Tasks(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, tasks)
				}
				if len(tasks) == 0 {
					fmt.Fprintln(a.err, "no tasks; [[task]] in the configuration makes one")
					return nil
				}
				rows := [][]string{{"TASK", "SCHEDULE", "NEXT", "LAST", "RESULT"}}
				for _, t := range tasks {
					next, last, result := when(t.Next), "-", "-"
					if t.Running {
						next = "running"
					}
					if t.Last != nil {
						last, result = when(t.Last.Began), t.Last.Summary()
					}
					rows = append(rows, []string{t.Name, t.Schedule, next, last, result})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) taskRun() *cobra.Command {
	var asJSON, dry bool
	c := &cobra.Command{Use: "run NAME", Short: "Run a task now and wait for its end", Args: args("NAME"),
		Long: `Run a task now and wait for its end. With --dry-run nothing is changed, and the
files that would go are listed. A retention rule needs the running server. The
exit code is 3 when something failed.`,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var out []string
			_ = a.withOperations(cmd, func(ctx context.Context, o operations) error { // a completion that fails offers nothing
				tasks, err := o.Tasks(ctx)
				for _, t := range tasks {
					out = append(out, t.Name+"\t"+t.Do)
				}
				return err
			})
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				rep, err := o.RunTask(ctx, names[0], dry)
				if err != nil {
					return err
				}
				if asJSON {
					err = writeJSON(a.out, rep)
				} else {
					err = a.printReport(&rep)
				}
				if err == nil && rep.Failures > 0 {
					err = errFindings
				}
				return err
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what it would do")
	return c
}

func (a *app) printReport(rep *task.Report) error {
	if len(rep.Changes) > 0 {
		rows := [][]string{{"USER", "PATH", "SIZE", "TO"}}
		for _, c := range rep.Changes {
			bytes := size(c.Bytes)
			if c.Dir {
				bytes = "directory"
			}
			rows = append(rows, []string{c.User, c.Path, bytes, orDash(c.To)})
		}
		if err := table(a.out, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.out, "%s: %s, in %s\n", rep.Task, plain(rep.Summary()), rep.Took.Round(time.Millisecond))
	return err
}
