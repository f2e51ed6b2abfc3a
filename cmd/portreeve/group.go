package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) groupCommand() *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "Manage groups, which hand settings down to their members", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Manage groups. What an account says itself wins; else the first of its groups,
in the order they are listed, that says something; else the default. Rights and
mounts are settled path by path.`}
	c.AddCommand(a.groupAdd(), a.groupList(), a.groupShow(), a.groupSet(),
		a.groupMember("join", "Make users members of a group", "is a member of", func(g string) admin.Settings { return admin.Settings{AddGroups: []string{g}} }),
		a.groupMember("leave", "Take users out of a group", "is no member of", func(g string) admin.Settings { return admin.Settings{DropGroups: []string{g}} }),
		a.groupRemove())
	return c
}

func (a *app) groupAdd() *cobra.Command {
	var flags userFlags
	c := &cobra.Command{Use: "add NAME", Short: "Make a group", Args: args("NAME"),
		Example: `  portreeve group add staff --home /srv/staff/%u --rights rw --deny '/=*.exe'
  portreeve group add partners --home '/srv/%g/%u' --protocol ftps,sftp --hours 'mon-fri 08:00-18:00'`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := flags.settings(cmd)
			if err != nil {
				return err
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				g, err := acc.CreateGroup(ctx, admin.NewGroup{Name: names[0], GroupSettings: forGroup(s)})
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "group %s made\n", g.Name)
				return nil
			})
		}}
	flags.registerShared(c.Flags())
	return c
}

func (a *app) groupList() *cobra.Command {
	var asJSON bool
	var match string
	c := &cobra.Command{Use: "list", Short: "List the groups", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				all, err := everyPage(admin.ListOptions{Match: match}, func(o admin.ListOptions) ([]account.Group, string, error) { return acc.Groups(ctx, o) })
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, all)
				}
				if len(all) == 0 {
					fmt.Fprintln(a.err, "no groups; make one with: portreeve group add NAME --home '/srv/%u'")
					return nil
				}
				rows := [][]string{{"NAME", "RIGHTS", "QUOTA", "HOME", "COMMENT"}}
				for _, g := range all {
					rights := "-"
					if len(g.Rules) > 0 {
						rights = rightsText(account.User{Rules: g.Rules})
					}
					rows = append(rows, []string{g.Name, rights, limit(g.Quota.Bytes), orDash(g.Home), orDash(g.Comment)})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&match, "match", "", "only names and comments that contain `TEXT`")
	return c
}

// everyPage collects all pages of a list.
func everyPage[T any](o admin.ListOptions, load func(admin.ListOptions) ([]T, string, error)) ([]T, error) {
	all := []T{}
	for o.Limit = admin.MaxPage; ; {
		page, next, err := load(o)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if o.After = next; next == "" {
			return all, nil
		}
	}
}

func (a *app) groupShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show NAME", Short: "Show a group and its members", Args: args("NAME"), ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				g, err := acc.Group(ctx, names[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, g)
				}
				members, more, err := acc.Members(ctx, g.Name, admin.ListOptions{Limit: 20})
				if err != nil {
					return err
				}
				rows := [][]string{{"name:", g.Name}}
				for _, r := range [][]string{{"comment:", g.Comment}, {"home:", g.Home}} {
					if r[1] != "" {
						rows = append(rows, r)
					}
				}
				rows = append(rows, settingRows(g, false)...)
				list := strings.Join(members, ", ")
				if more != "" {
					list += ", ..."
				}
				return table(a.out, append(rows, []string{"members:", orDash(list)}, []string{"made:", when(g.CreatedAt)}, []string{"changed:", when(g.UpdatedAt)}))
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) groupSet() *cobra.Command {
	var flags userFlags
	c := &cobra.Command{Use: "set NAME", Short: "Change a group: only what is given", Args: args("NAME"), ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := flags.settings(cmd)
			if err != nil {
				return err
			}
			set := forGroup(s)
			if set.Empty() {
				return usagef(cmd, "nothing to change is given")
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if _, err := acc.UpdateGroup(ctx, names[0], set); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "group %s changed\n", names[0])
				return nil
			})
		}}
	flags.registerShared(c.Flags())
	return c
}

func (a *app) groupMember(verb, short, now string, set func(group string) admin.Settings) *cobra.Command {
	return &cobra.Command{Use: verb + " GROUP USER...", Short: short, ValidArgsFunction: a.completeGroups,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) < 2 {
				return usagef(cmd, "GROUP and at least one USER are needed")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if _, err := acc.Group(ctx, names[0]); err != nil {
					return err
				}
				for _, u := range names[1:] {
					if _, err := acc.UpdateUser(ctx, u, set(names[0])); err != nil {
						return err
					}
					fmt.Fprintf(a.out, "%s %s %s\n", u, now, names[0])
				}
				return nil
			})
		}}
}

func (a *app) groupRemove() *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Remove a group that has no members", Args: args("NAME"), ValidArgsFunction: a.completeGroups,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if err := acc.DeleteGroup(ctx, names[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "group %s removed\n", names[0])
				return nil
			})
		}}
}

// completeGroups offers group names to the shell.
func (a *app) completeGroups(cmd *cobra.Command, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return a.completeUsers(cmd, nil, prefix)
	}
	var names []string
	a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
		page, _, err := acc.Groups(ctx, admin.ListOptions{Match: prefix})
		for _, g := range page {
			if strings.HasPrefix(g.Name, prefix) {
				names = append(names, g.Name)
			}
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
