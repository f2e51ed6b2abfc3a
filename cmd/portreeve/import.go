package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/importer"
)

func (a *app) importCommand() *cobra.Command {
	var dryRun, asJSON bool
	var configOut string
	c := &cobra.Command{Use: "import FORMAT PATH", Short: "Take over accounts and settings of another server", Args: args("FORMAT", "PATH"),
		Long: `Take over the accounts and settings of another server. FORMAT is one of
` + strings.Join(importer.Formats(), ", ") + `. PATH is its configuration file, or a directory that has
it; files it names are looked for beside it first, so copy them there:

  vsftpd      vsftpd.conf, user lists, virtual_users.txt or a passwd file; passwd and shadow for local users
  proftpd     proftpd.conf with its AuthUserFile and AuthGroupFile; else passwd and shadow
  pure-ftpd   pure-ftpd.conf and pureftpd.passwd
  filezilla   "FileZilla Server.xml" (0.9), or users.xml and settings.xml (1.x)
  sftpgo      the JSON of a dump or backup

Every directive is in the report: exact, approximated or dropped, with the
reason. Passwords are kept. When a file cannot be understood, or an account of a
name is there already, nothing is stored at all.`,
		Example: `  portreeve import vsftpd /etc/vsftpd --dry-run
  portreeve import filezilla users.xml --config-out portreeve.toml`,
		RunE: func(cmd *cobra.Command, given []string) error {
			hasher, err := auth.NewHasher(auth.HasherOptions{})
			if err != nil {
				return err
			}
			r, err := importer.Read(given[0], given[1], importer.Options{CheckHash: hasher.Check})
			var ps importer.Problems
			if errors.As(err, &ps) {
				fmt.Fprintln(a.err, plainLines(ps.Error()))
				return fmt.Errorf("%s cannot be understood; nothing was stored", count(len(ps), "place"))
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := writeJSON(a.out, r); err != nil {
					return err
				}
			} else {
				fmt.Fprint(a.out, plainLines(r.Text()))
			}
			if dryRun {
				fmt.Fprintln(a.err, "a dry run: nothing was stored")
				return nil
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error { return a.takeOver(ctx, acc, r, configOut) })
		}}
	f := c.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only report what would become of it")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	f.StringVar(&configOut, "config-out", "", "write the settings as a new configuration `FILE`")
	return c
}

// plainLines makes text from foreign files harmless to a terminal, line by line.
func plainLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}

func (a *app) takeOver(ctx context.Context, acc accounts, r *importer.Result, configOut string) error {
	b := admin.Batch{Groups: r.Groups}
	for _, u := range r.Users {
		b.Users = append(b.Users, admin.BatchUser{User: u.User, Hash: u.PasswordHash, Password: u.Secret})
	}
	m, err := acc.CreateAll(ctx, b)
	if err != nil {
		return fmt.Errorf("nothing was stored:\n%w", err)
	}
	if configOut != "" {
		if err := writeNew(configOut, r.Config); err != nil {
			return fmt.Errorf("the accounts are stored, but not the configuration: %w", err)
		}
		fmt.Fprintf(a.err, "wrote %s; look at it and try it with: portreeve check --config %s\n", plain(configOut), quoteArg(configOut))
	}
	for _, n := range m.Notes {
		fmt.Fprintln(a.err, plain(n))
	}
	fmt.Fprintf(a.err, "stored %s and %s\n", count(m.Users, "user"), count(m.Groups, "group"))
	return nil
}
