package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) adminCommand() *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "Manage the administrators who use the API from elsewhere", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Manage the administrators who use the HTTPS interface ([admin] address). On
this machine whoever may use the control socket is one already. Scopes: read,
users, groups, sessions, server, admins, or all.`}
	c.AddCommand(a.adminAdd(), a.adminList(), a.adminShow(), a.adminSet(), a.adminRemove(), a.adminTOTP())
	return c
}

type adminFlags struct {
	comment        string
	scopes, groups []string
	disabled       bool
}

func (f *adminFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.comment, "comment", "", "`TEXT`")
	c.Flags().StringSliceVar(&f.scopes, "scope", nil, "what it may do: a `LIST` of read, users, groups, sessions, server, admins; or all")
	c.Flags().StringSliceVar(&f.groups, "group", nil, "only members of this `GROUP`; none lifts it")
	c.Flags().BoolVar(&f.disabled, "disabled", false, "refuse its tokens")
}

func (f *adminFlags) settings(cmd *cobra.Command) (s admin.AdministratorSettings) {
	fl := cmd.Flags()
	if fl.Changed("comment") {
		s.Comment = &f.comment
	}
	if fl.Changed("scope") {
		s.Scopes = &f.scopes
	}
	if fl.Changed("disabled") {
		s.Disabled = &f.disabled
	}
	if fl.Changed("group") {
		s.Groups = &[]string{}
		for _, g := range f.groups {
			if g != "" && g != "none" {
				*s.Groups = append(*s.Groups, g)
			}
		}
	}
	return s
}

func (a *app) adminAdd() *cobra.Command {
	var f adminFlags
	c := &cobra.Command{Use: "add NAME", Short: "Make an administrator", Args: args("NAME"),
		Example: `  portreeve admin add ops --scope all
  portreeve admin add partner-desk --scope read,users --group partners`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				ad, err := acc.CreateAdministrator(ctx, admin.NewAdministrator{Name: names[0], AdministratorSettings: f.settings(cmd)})
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "administrator %s made; give it a token with: portreeve token add %s\n", ad.Name, ad.Name)
				return nil
			})
		}}
	f.register(c)
	return c
}

func (a *app) adminSet() *cobra.Command {
	var f adminFlags
	c := &cobra.Command{Use: "set NAME", Short: "Change an administrator: only what is given", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			s := f.settings(cmd)
			if s == (admin.AdministratorSettings{}) {
				return usagef(cmd, "nothing to change is given")
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if _, err := acc.UpdateAdministrator(ctx, names[0], s); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "administrator %s changed\n", names[0])
				return nil
			})
		}}
	f.register(c)
	return c
}

func (a *app) adminList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the administrators", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				all, err := everyPage(admin.ListOptions{}, func(o admin.ListOptions) ([]account.Administrator, string, error) { return acc.Administrators(ctx, o) })
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, all)
				}
				rows := [][]string{{"NAME", "STATE", "SCOPES", "GROUPS", "COMMENT"}}
				for _, ad := range all {
					rows = append(rows, []string{ad.Name, choose(ad.Disabled, "disabled", "active"), orDash(strings.Join(ad.Scopes, ",")), orDash(strings.Join(ad.Groups, ",")), orDash(ad.Comment)})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) adminShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show NAME", Short: "Show an administrator and its tokens", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				ad, err := acc.Administrator(ctx, names[0])
				if err != nil {
					return err
				}
				ts, err := acc.Tokens(ctx, names[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, struct {
						account.Administrator
						Tokens []account.Token `json:"tokens"`
					}{ad, ts})
				}
				fmt.Fprintf(a.out, "%s: %s\n", ad.Name, choose(ad.Disabled, "disabled", "active"))
				fmt.Fprintf(a.out, "  scopes         %s\n", orDash(strings.Join(ad.Scopes, ", ")))
				if len(ad.Groups) > 0 {
					fmt.Fprintf(a.out, "  limited to     %s\n", strings.Join(ad.Groups, ", "))
				}
				fmt.Fprintf(a.out, "  second factor  %s\n", choose(ad.TOTP, "yes", "no"))
				if ad.Comment != "" {
					fmt.Fprintf(a.out, "  comment        %s\n", plain(ad.Comment))
				}
				for _, t := range ts {
					fmt.Fprintf(a.out, "  token          %s, expires %s, last used %s %s\n", t.ID, when(t.Expires), when(t.LastUsed), plain(t.Comment))
				}
				return nil
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) adminRemove() *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Remove an administrator and its tokens", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if err := acc.DeleteAdministrator(ctx, names[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "administrator %s removed\n", names[0])
				return nil
			})
		}}
}

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Manage the tokens of administrators", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.tokenAdd(), a.tokenList(), a.tokenRemove())
	return c
}

func (a *app) tokenAdd() *cobra.Command {
	var comment, expires string
	var scopes []string
	var once, asJSON bool
	c := &cobra.Command{Use: "add ADMINISTRATOR", Short: "Make a token and print it; it cannot be shown again", Args: args("ADMINISTRATOR"),
		Example: `  portreeve token add ops --scope read --expires 90d --comment monitoring`,
		RunE: func(cmd *cobra.Command, names []string) error {
			until, err := expiry(expires, time.Now())
			if err != nil {
				return usagef(cmd, "--expires: %v", err)
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				t, err := acc.CreateToken(ctx, admin.NewToken{Administrator: names[0], Comment: comment, Scopes: scopes, Expires: *until, Once: once})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, t)
				}
				fmt.Fprintf(a.err, "token %s of %s, expires %s; it is shown this once:\n", t.ID, t.Administrator, when(t.Expires))
				fmt.Fprintln(a.out, t.Secret)
				return nil
			})
		}}
	f := c.Flags()
	f.StringVar(&comment, "comment", "", "`TEXT`: what the token is for")
	f.StringVar(&expires, "expires", "90d", "last day, or a time span from now; never (`WHEN`)")
	f.StringSliceVar(&scopes, "scope", nil, "less than the administrator may do (`LIST`)")
	f.BoolVar(&once, "once", false, "the token ends with its first use")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) tokenList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list [ADMINISTRATOR]", Short: "List the tokens", Args: args("[ADMINISTRATOR]"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				ts, err := acc.Tokens(ctx, strings.Join(names, ""))
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, ts)
				}
				rows := [][]string{{"ID", "ADMINISTRATOR", "SCOPES", "EXPIRES", "LAST USED", "COMMENT"}}
				for _, t := range ts {
					scopes := strings.Join(t.Scopes, ",")
					if scopes == "" {
						scopes = "all it has"
					}
					rows = append(rows, []string{t.ID, t.Administrator, scopes, when(t.Expires), when(t.LastUsed), orDash(t.Comment)})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) tokenRemove() *cobra.Command {
	return &cobra.Command{Use: "rm ID", Short: "End a token", Args: args("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if err := acc.DeleteToken(ctx, ids[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "token %s removed\n", ids[0])
				return nil
			})
		}}
}
