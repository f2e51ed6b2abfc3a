package main

import "github.com/spf13/cobra"

func (a *app) explainCommand() *cobra.Command {
	c := &cobra.Command{Use: "explain", Short: "Tell why something is as it is", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.explainAccess())
	return c
}
