package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) reloadCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "reload", Short: "Make the running server read its configuration again", Args: args(),
		Long: `Make the running server read its configuration again. Sessions live on, and
listeners that did not change keep their sockets. A file with mistakes changes nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			r, err := cl.Reload(cmd.Context())
			if err != nil {
				fmt.Fprintln(a.err, err)
				fmt.Fprintln(a.err, "portreeve: not reloaded; the old configuration stays in force")
				return errQuiet
			}
			if asJSON {
				return writeJSON(a.out, r)
			}
			for _, l := range r.Opened {
				fmt.Fprintln(a.out, "opened", l)
			}
			for _, l := range r.Closed {
				fmt.Fprintln(a.out, "closed", l)
			}
			if len(r.Changed) == 0 && len(r.Restart) == 0 {
				fmt.Fprintln(a.out, "reloaded; nothing differs")
				return nil
			}
			if len(r.Changed) > 0 {
				fmt.Fprintln(a.out, "reloaded; now in force:", strings.Join(r.Changed, ", "))
			}
			if len(r.Restart) > 0 {
				fmt.Fprintln(a.out, "need a restart:", strings.Join(r.Restart, ", "))
			}
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
