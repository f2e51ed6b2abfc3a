package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) mountCommand() *cobra.Command {
	c := &cobra.Command{Use: "mount", Short: "Show directories in the tree of a user or group", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Show further directories of this machine in the tree of a user, or of all
members of a group. Rights of a mount are a rule at its path; it may have a
quota of its own.`}
	c.AddCommand(a.mountList(), a.mountAdd(), a.mountRemove())
	return c
}

// mountTarget is whose tree is meant.
type mountTarget struct{ user, group string }

func (m *mountTarget) register(c *cobra.Command) {
	c.Flags().StringVar(&m.user, "user", "", "in the tree of this user (`NAME`)")
	c.Flags().StringVar(&m.group, "group", "", "in the trees of the members of this group (`NAME`)")
}

// change applies settings to the one target that is given.
func (m *mountTarget) change(a *app, cmd *cobra.Command, s admin.Settings, done string) error {
	if (m.user == "") == (m.group == "") {
		return usagef(cmd, "give either --user or --group")
	}
	return a.withAccounts(cmd, func(ctx context.Context, acc accounts) (err error) {
		who := "user " + m.user
		if m.user != "" {
			_, err = acc.UpdateUser(ctx, m.user, s)
		} else {
			who = "group " + m.group
			_, err = acc.UpdateGroup(ctx, m.group, forGroup(s))
		}
		if err == nil {
			fmt.Fprintf(a.out, "%s of %s\n", done, who)
		}
		return err
	})
}

func (a *app) mountAdd() *cobra.Command {
	var to mountTarget
	var readOnly bool
	var rights, quota string
	var files int64
	c := &cobra.Command{Use: "add PATH DIR", Short: "Show a directory at a path", Args: args("PATH", "DIR"),
		Example: `  portreeve mount add /pub /srv/pub --group staff --read-only
  portreeve mount add /in /srv/in --user ann --rights drop-box --quota-bytes 10GiB`,
		RunE: func(cmd *cobra.Command, given []string) error {
			m, err := mount(given[0], given[1])
			if err != nil {
				return usagef(cmd, "%v", err)
			}
			m.ReadOnly = m.ReadOnly || readOnly
			s := admin.Settings{Mounts: []account.Mount{m}}
			if rights != "" {
				if err := addRules(&s, []string{given[0] + "=" + rights}); err != nil {
					return usagef(cmd, "--rights: %v", err)
				}
			}
			if quota != "" {
				q, err := mount(given[0], given[1]+":quota="+quota)
				if err != nil {
					return usagef(cmd, "--quota-bytes: %v", err)
				}
				s.Mounts[0].Quota.Bytes = q.Quota.Bytes
			}
			if files > 0 {
				s.Mounts[0].Quota.Files = files
			}
			return to.change(a, cmd, s, "mount "+given[0]+" is in the tree")
		}}
	to.register(c)
	f := c.Flags()
	f.BoolVar(&readOnly, "read-only", false, "nothing can be changed through it, whatever rights say")
	f.StringVar(&rights, "rights", "", "a rule at the path: ro, rw, drop-box, or a `LIST`")
	f.StringVar(&quota, "quota-bytes", "", "most that may be stored in it, by all together (`SIZE`)")
	f.Int64Var(&files, "quota-files", 0, "most files in it (`N`)")
	return c
}

func (a *app) mountRemove() *cobra.Command {
	var to mountTarget
	c := &cobra.Command{Use: "rm PATH", Short: "Take a directory out of the tree; its files stay", Args: args("PATH"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return to.change(a, cmd, admin.Settings{DropMounts: given}, "mount "+given[0]+" is not in the tree")
		}}
	to.register(c)
	return c
}

func (a *app) mountList() *cobra.Command {
	var to mountTarget
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the mounts of a user or group", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (to.user == "") == (to.group == "") {
				return usagef(cmd, "give either --user or --group")
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				mounts := []account.Mount{}
				if to.user != "" {
					u, err := acc.User(ctx, to.user)
					if err != nil {
						return err
					}
					mounts = append(mounts, u.Mounts...)
				} else {
					g, err := acc.Group(ctx, to.group)
					if err != nil {
						return err
					}
					mounts = append(mounts, g.Mounts...)
				}
				if asJSON {
					return writeJSON(a.out, mounts)
				}
				rows := [][]string{{"PATH", "MODE", "QUOTA", "DIRECTORY"}}
				for _, m := range mounts {
					rows = append(rows, []string{m.Path, choose(m.ReadOnly, "read-only", "read-write"), limit(m.Quota.Bytes), m.Source})
				}
				return table(a.out, rows)
			})
		}}
	to.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
