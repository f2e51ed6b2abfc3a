package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) upgradeCommand() *cobra.Command {
	return &cobra.Command{Use: "upgrade", Short: "Start the program anew without closing a port or cutting a transfer", Args: args(),
		Long: `Start the program anew, for example after a new version was installed in the place
of the old one. The new process takes the ports over when it is ready; the old one
stays until its sessions have ended, at most the time of the "drain" setting. If
the new process does not come up, the old one serves on and nothing has changed.

SIGUSR2 does the same. Under systemd the unit follows to the new process.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			u, err := cl.Upgrade(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "process %d serves now; the old one ends with its last session\n", u.PID)
			return nil
		}}
}
