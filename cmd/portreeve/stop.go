package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/server"
)

func (a *app) stopCommand() *cobra.Command {
	var now, noWait bool
	var reason string
	c := &cobra.Command{Use: "stop", Short: "Stop the running server", Args: args(),
		Long: `Stop the running server. Idle sessions end at once, transfers may finish within
the time of the drain setting; the command waits for that.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cl, err := a.client(ctx)
			if err != nil {
				return err
			}
			defer cl.Close()
			st, err := cl.Status(ctx)
			if err != nil {
				return err
			}
			if err := cl.Stop(ctx, reason); err != nil {
				return err
			}
			if now {
				// The second request ends the drain. That the server has gone by then is fine.
				if err := cl.Stop(ctx, reason); err != nil && !errors.Is(err, api.ErrNotRunning) && cl.Path() != "" && api.Probe(ctx, cl.Path()) == nil {
					return err
				}
			}
			if noWait || cl.Path() == "" { // from elsewhere its end cannot be seen
				fmt.Fprintln(a.out, "the server is stopping")
				return nil
			}
			if err := a.waitStopped(ctx, cl, st.DataDir); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "the server has stopped")
			return nil
		}}
	c.Flags().BoolVar(&now, "now", false, "cut running transfers")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the end")
	c.Flags().StringVar(&reason, "reason", "", "`TEXT` for the log")
	return c
}

// waitStopped returns when nobody uses the data directory any more, so that the
// next server can start. On a terminal it says what is being waited for.
func (a *app) waitStopped(ctx context.Context, cl *api.Client, dataDir string) error {
	_, tty := terminal(a.err)
	shown := false
	for {
		err := api.Probe(ctx, cl.Path())
		if errors.Is(err, api.ErrNotRunning) && server.HolderOf(dataDir) == 0 {
			break
		}
		if err != nil && !errors.Is(err, api.ErrNotRunning) {
			return err
		}
		if err == nil && tty {
			if ss, err := cl.Sessions(ctx); err == nil && len(ss) > 0 {
				fmt.Fprintf(a.err, "\r\x1b[Kwaiting for %s", count(len(ss), "session"))
				shown = true
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	if shown {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	return nil
}
