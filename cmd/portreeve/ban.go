package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) banCommand() *cobra.Command {
	c := &cobra.Command{Use: "ban", Short: "Keep addresses out", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Keep addresses out. The server bans an address by itself when its offences add up
to limits.login_failures points within limits.login_window: a wrong password is 1
point, an unknown user 2, hostile use of a protocol or of the data ports of others
3. Points fade. Connections from a banned address are reset at once.`}
	c.AddCommand(a.banList(), a.banAdd(), a.banRemove())
	return c
}

func (a *app) banList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the bans in force", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				bans, err := o.Bans(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, bans)
				}
				if len(bans) == 0 {
					fmt.Fprintln(a.err, "no bans")
					return nil
				}
				rows := [][]string{{"NETWORK", "SINCE", "UNTIL", "REASON"}}
				for _, b := range bans {
					until := when(b.Until)
					if b.Until.IsZero() {
						until = "for ever"
					}
					rows = append(rows, []string{b.Network, when(b.Created), until, orDash(b.Reason)})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) banAdd() *cobra.Command {
	var span, reason string
	c := &cobra.Command{Use: "add NETWORK", Short: "Ban an address or a network and end its connections", Args: args("NETWORK"),
		Example: `  portreeve ban add 192.0.2.7 --for 24h --reason "scans"
  portreeve ban add 2001:db8::/32`,
		RunE: func(cmd *cobra.Command, names []string) error {
			n := admin.NewBan{Network: names[0], Reason: reason}
			if span != "" {
				d, err := parseSpan(span)
				if err != nil || d <= 0 {
					return usagef(cmd, "--for: %q is not a span such as 30m, 24h or 7d", span)
				}
				n.For = d
			}
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				b, err := o.AddBan(ctx, n)
				if err != nil {
					return err
				}
				until := "until it is lifted with \"portreeve ban rm " + b.Network + "\""
				if !b.Until.IsZero() {
					until = "until " + b.Until.Local().Format(time.DateTime)
				}
				fmt.Fprintf(a.out, "%s is banned %s\n", b.Network, until)
				return nil
			})
		}}
	c.Flags().StringVar(&span, "for", "", "end by itself after this `SPAN`, such as 30m, 24h or 7d (default: for ever)")
	c.Flags().StringVar(&reason, "reason", "", "`TEXT` for the list and the trail")
	return c
}

func (a *app) banRemove() *cobra.Command {
	return &cobra.Command{Use: "rm NETWORK", Short: "Lift a ban", Args: args("NETWORK"),
		ValidArgsFunction: func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			var out []string
			_ = a.withOperations(cmd, func(ctx context.Context, o operations) error { // a completion that fails offers nothing
				bans, err := o.Bans(ctx)
				for _, b := range bans {
					out = append(out, b.Network+"\t"+b.Reason)
				}
				return err
			})
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				if err := o.RemoveBan(ctx, names[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s may connect again\n", names[0])
				return nil
			})
		}}
}
