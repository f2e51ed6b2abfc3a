package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
)

func (a *app) userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "Manage the accounts", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Manage the accounts. With a running server the change holds at once, also for
sessions that are logged in; without one it is written to the database directly.`}
	c.AddCommand(a.userAdd(), a.userList(), a.userShow(), a.userSet(), a.userPasswd(),
		a.userSwitch("disable", "Refuse log-ins of a user and end the sessions", true),
		a.userSwitch("enable", "Allow log-ins of a user again", false), a.userRemove(), a.userKeyCommand(), a.userTOTP())
	return c
}

// passwordFlags are the ways to give a password. There is none in the
// arguments: every user of the machine can read those.
type passwordFlags struct{ stdin, generate, none bool }

func (p *passwordFlags) register(c *cobra.Command) {
	c.Flags().BoolVar(&p.stdin, "password-stdin", false, "take the password from the first line of standard input")
	c.Flags().BoolVar(&p.generate, "generate", false, "make a random password and print it")
}

// get returns the password and whether it must be shown.
func (p *passwordFlags) get(a *app, cmd *cobra.Command, name string) (secret string, show bool, err error) {
	switch {
	case p.stdin && p.generate, p.stdin && p.none, p.generate && p.none:
		return "", false, usagef(cmd, "give only one of --password-stdin, --generate and --no-password")
	case p.none:
		return "", false, nil
	case p.generate:
		return auth.RandomPassword(), true, nil
	case p.stdin:
		secret, err = a.readPassword()
	default:
		if _, ok := terminal(a.in); !ok {
			return "", false, usagef(cmd, "there is no terminal to ask for the password on; use --password-stdin or --generate")
		}
		secret, err = a.askPassword(name)
	}
	return secret, false, err
}

func (a *app) userAdd() *cobra.Command {
	var flags userFlags
	var pw passwordFlags
	var asJSON, hashed bool
	c := &cobra.Command{Use: "add NAME", Short: "Make an account", Args: args("NAME"),
		Example: `  portreeve user add ann --home /srv/ann --generate
  portreeve user add bob --home /srv/bob --rule /in=ro --password-stdin <password.txt
  portreeve user add feed --home /srv/feed --no-password --certificate feed.pem`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := flags.settings(cmd)
			if err != nil {
				return err
			}
			// A certificate is a way to log in; then no password is asked for.
			pw.none = pw.none || s.Certificates != nil && len(*s.Certificates) > 0 && !pw.stdin && !pw.generate
			pw.stdin = pw.stdin || hashed
			secret, show, err := pw.get(a, cmd, names[0])
			if err != nil {
				return err
			}
			n := admin.NewUser{Name: names[0], Password: secret, Settings: s}
			if hashed {
				n.Password, n.PasswordHash = "", secret
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				u, err := acc.CreateUser(ctx, n)
				if err != nil {
					return err
				}
				shown := ""
				if show {
					shown = secret
				}
				return a.madeUser(u, homeOf(ctx, acc, u), shown, asJSON)
			})
		}}
	flags.register(c.Flags())
	pw.register(c)
	c.Flags().BoolVar(&hashed, "password-hash-stdin", false, "take a password hash of another server, in crypt or PHC form, from the first line of standard input")
	c.Flags().BoolVar(&pw.none, "no-password", false, "no password log-in")
	c.Flags().BoolVar(&asJSON, "json", false, "print the account as JSON")
	return c
}

// newAccount is the JSON answer of user add; the password is there only when
// this program made it.
type newAccount struct {
	account.User
	Password string `json:"password,omitempty"`
}

// homeOf is the home of an account for people: its own, or the one that it has
// from a group.
func homeOf(ctx context.Context, acc accounts, u account.User) string {
	if u.Home != "" || len(u.Groups) == 0 {
		return orDash(u.Home)
	}
	x, err := acc.Access(ctx, u.Name, account.Question{Path: "/"})
	if err != nil || x.Storage == "" {
		return "none: neither the account nor a group has one"
	}
	return x.Storage + " (from a group)"
}

func (a *app) madeUser(u account.User, home, password string, asJSON bool) error {
	if asJSON {
		return writeJSON(a.out, newAccount{u, password})
	}
	fmt.Fprintf(a.out, "user %s made, home %s\n", u.Name, plain(home))
	if password != "" {
		fmt.Fprintf(a.out, "password: %s\n", password)
	}
	return nil
}

func (a *app) userList() *cobra.Command {
	var asJSON bool
	var match string
	c := &cobra.Command{Use: "list", Short: "List the accounts", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				all := []account.User{}
				for o := (admin.ListOptions{Match: match, Limit: admin.MaxPage}); ; {
					page, next, err := acc.Users(ctx, o)
					if err != nil {
						return err
					}
					all = append(all, page...)
					if o.After = next; next == "" {
						break
					}
				}
				if asJSON {
					return writeJSON(a.out, all)
				}
				return listUsers(a.out, a.err, all)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringVar(&match, "match", "", "only names and comments that contain `TEXT`")
	return c
}

func listUsers(out, note io.Writer, users []account.User) error {
	if len(users) == 0 {
		fmt.Fprintln(note, "no users; make one with: portreeve user add NAME --home DIR --generate")
		return nil
	}
	rows := [][]string{{"NAME", "STATE", "RIGHTS", "QUOTA", "LAST LOGIN", "HOME"}}
	for _, u := range users {
		home := u.Home
		if home == "" {
			home = choose(len(u.Groups) > 0, "(of a group)", "-")
		}
		rows = append(rows, []string{u.Name, userState(u), rightsText(u), limit(u.Quota.Bytes), when(u.LastLogin), home})
	}
	return table(out, rows)
}

func (a *app) userShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show NAME", Short: "Show an account", Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				u, err := acc.User(ctx, names[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, u)
				}
				return showUser(a.out, u, homeOf(ctx, acc, u))
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) userSet() *cobra.Command {
	var flags userFlags
	c := &cobra.Command{Use: "set NAME", Short: "Change an account: only what is given", Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		Example: `  portreeve user set ann --quota-bytes 10GiB --rule /in=ro
  portreeve user set ann --rule /in= --expires never`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := flags.settings(cmd)
			if err != nil {
				return err
			}
			if s.Empty() {
				return usagef(cmd, "nothing to change is given")
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if _, err := acc.UpdateUser(ctx, names[0], s); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "user %s changed\n", names[0])
				return nil
			})
		}}
	flags.register(c.Flags())
	return c
}

func (a *app) userPasswd() *cobra.Command {
	var pw passwordFlags
	c := &cobra.Command{Use: "passwd NAME", Short: "Set the password of an account", Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			secret, show, err := pw.get(a, cmd, names[0])
			if err != nil {
				return err
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if err := acc.SetPassword(ctx, names[0], secret); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "password of %s changed\n", names[0])
				if show {
					fmt.Fprintf(a.out, "password: %s\n", secret)
				}
				return nil
			})
		}}
	pw.register(c)
	return c
}

func (a *app) userSwitch(verb, short string, disabled bool) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if _, err := acc.UpdateUser(ctx, names[0], admin.Settings{Disabled: &disabled}); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "user %s %sd\n", names[0], verb)
				return nil
			})
		}}
}

func (a *app) userRemove() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "rm NAME", Short: "Remove an account; its files stay", Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				u, err := acc.User(ctx, names[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(a.err, "This removes the account %s and ends its sessions. The files in %s stay.\n", u.Name, plain(u.Home))
				if !yes {
					if err := a.confirm("Remove " + u.Name + "?"); err != nil {
						return err
					}
				}
				if err := acc.DeleteUser(ctx, u.Name); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "user %s removed\n", u.Name)
				return nil
			})
		}}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// completeUsers offers account names to the shell.
func (a *app) completeUsers(cmd *cobra.Command, given []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(given) == 0 {
		a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
			page, _, err := acc.Users(ctx, admin.ListOptions{Match: prefix})
			for _, u := range page {
				if strings.HasPrefix(u.Name, prefix) {
					names = append(names, u.Name)
				}
			}
			return err
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
