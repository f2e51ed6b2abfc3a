package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show settings and explain them", Args: cobra.ArbitraryArgs, RunE: group}
	var origin, asJSON bool
	show := &cobra.Command{Use: "show", Short: "Print the settings in force: file, environment and defaults together", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, cfg.Values())
			}
			fmt.Fprint(a.out, cfg.Show(origin))
			return nil
		}}
	show.Flags().BoolVar(&origin, "origin", false, "name the source of each value")
	show.Flags().BoolVar(&asJSON, "json", false, "print JSON, with sources")
	text := func(use, short string, text func() string) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: args(),
			RunE: func(*cobra.Command, []string) error { fmt.Fprint(a.out, text()); return nil }}
	}
	c.AddCommand(show,
		text("example", "Print a configuration file with every key and what it means", config.Example),
		text("reference", "Print the reference page of the configuration", config.Reference))
	return c
}
