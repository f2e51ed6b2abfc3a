package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) quotaCommand() *cobra.Command {
	c := &cobra.Command{Use: "quota", Short: "See what is stored and count it anew", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.quotaShow(), a.quotaRescan())
	return c
}

func (a *app) quotaShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show [USER]", Short: "Show the quotas and what is used of them", Args: args("[USER]"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				qs, err := o.Quotas(ctx, optional(names))
				if err != nil {
					return err
				}
				return a.printQuotas(qs, asJSON, false)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) quotaRescan() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "rescan [USER]", Short: "Count the files of a user, or of all, and correct the books", Args: args("[USER]"),
		Long: `Count the files of a user, or of everybody with a quota, and put the result in
the books. Do so after files were changed behind the server's back. After a crash
the server does it by itself for the accounts that were in use.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				qs, err := o.Recount(ctx, optional(names))
				if err != nil {
					return err
				}
				return a.printQuotas(qs, asJSON, true)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func optional(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (a *app) printQuotas(qs []admin.Quota, asJSON, counted bool) error {
	if asJSON {
		return writeJSON(a.out, qs)
	}
	if len(qs) == 0 {
		fmt.Fprintln(a.err, "nobody has a quota")
		return nil
	}
	head := []string{"ACCOUNT", "USED", "OF", "FILES", "OF"}
	if counted {
		head = append(head, "USED BEFORE", "FILES BEFORE")
	}
	rows := [][]string{head}
	for _, q := range qs {
		files := "-"
		if q.MaxFiles > 0 {
			files = strconv.FormatInt(q.MaxFiles, 10)
		}
		row := []string{q.Name, size(q.UsedBytes), limit(q.MaxBytes), strconv.FormatInt(q.UsedFiles, 10), files}
		if counted && q.WasBytes != nil && q.WasFiles != nil {
			row = append(row, size(*q.WasBytes), strconv.FormatInt(*q.WasFiles, 10))
		}
		rows = append(rows, row)
	}
	return table(a.out, rows)
}
