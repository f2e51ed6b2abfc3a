package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
)

func (a *app) explainAccess() *cobra.Command {
	var asJSON bool
	var from, protocol, at string
	c := &cobra.Command{Use: "access USER PATH", Short: "Tell what a user may do at a path, and which rule decides", Args: args("USER", "PATH"), ValidArgsFunction: a.completeUsers,
		Example: `  portreeve explain access ann /in/report.csv
  portreeve explain access ann / --from 198.51.100.7 --protocol sftp --at 2030-01-05T22:00:00+01:00`,
		RunE: func(cmd *cobra.Command, given []string) error {
			q := account.Question{Path: given[1], Protocol: protocol, At: time.Now()}
			var err error
			if from != "" {
				if q.From, err = netip.ParseAddr(from); err != nil {
					return usagef(cmd, "--from: %q is not an IP address", from)
				}
			}
			if at != "" {
				if q.At, err = time.Parse(time.RFC3339, at); err != nil {
					return usagef(cmd, "--at: %q is not a time like 2030-12-31T18:00:00Z", at)
				}
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				x, err := acc.Access(ctx, given[0], q)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, x)
				}
				if err := a.showAccess(x); err != nil {
					return err
				}
				if why := missing(x.Storage); why != "" && a.remoteServer() == "" {
					fmt.Fprintf(a.out, "\nwarning: log-ins fail: %s\n", why)
				}
				return nil
			})
		}}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&from, "from", "", "judge a log-in from this IP `ADDRESS`")
	f.StringVar(&protocol, "protocol", "", "judge a log-in by this `PROTOCOL`")
	f.StringVar(&at, "at", "", "judge a log-in at this `TIME` (default: now)")
	return c
}

// missing says what keeps a session from opening a directory of this machine, as
// far as another process can tell; "" when nothing does. The last component is
// made at the log-in.
func missing(dir string) string {
	if !filepath.IsAbs(dir) {
		return ""
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Sprintf("%s is not a directory", plain(dir))
	case errors.Is(err, fs.ErrNotExist) && !exists(filepath.Dir(dir)):
		return fmt.Sprintf("the directory %s does not exist, nor the one it is in; make it, or correct the account's home", plain(dir))
	}
	return ""
}

func (a *app) showAccess(x account.Explanation) error {
	fmt.Fprintf(a.out, "%s at %s", x.User, plain(x.Path))
	if x.Storage != "" {
		fmt.Fprintf(a.out, ", in the mount %s of %s", plain(x.Mount), plain(x.Storage))
	}
	fmt.Fprintln(a.out)
	rows := [][]string{{"LOG-IN", "", "BECAUSE"}}
	yes := func(v account.Verdict) string { return choose(v.Allowed, "yes", "no") }
	for _, v := range x.Login {
		rows = append(rows, []string{v.What, yes(v), v.Why})
	}
	rows = append(rows, []string{"RIGHT", "", "BECAUSE"})
	for _, v := range x.Rights {
		rows = append(rows, []string{v.What, yes(v), v.Why})
	}
	return table(a.out, rows)
}
