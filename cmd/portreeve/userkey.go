package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) userKeyCommand() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Manage the SSH keys of an account", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Manage the SSH public keys with which an account logs in over SFTP and SCP.
Lines are those of an authorized_keys file. The options from= (addresses),
expiry-time=, cert-authority and principals= hold; others that forbid what this
server never does, such as no-pty or restrict, are accepted and mean nothing.
With "portreeve user set NAME --key-only" no password works on any protocol.`}
	c.AddCommand(a.userKeyAdd(), a.userKeyList(), a.userKeyRemove())
	return c
}

// maxKeyFile bounds what is read of a key file, in octets.
const maxKeyFile = 1 << 20

func (a *app) userKeyAdd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "add NAME [FILE|KEY|-]", Short: "Add keys from a file, from standard input, or as they are",
		Args: keyArgs(1), ValidArgsFunction: a.completeUsers,
		Example: `  portreeve user key add ann ~/.ssh/id_ed25519.pub
  portreeve user key add ann 'from="192.0.2.0/24" ssh-ed25519 AAAAC3... ann@laptop'
  ssh-add -L | portreeve user key add ann -`,
		RunE: func(cmd *cobra.Command, given []string) error {
			lines, err := a.keyLines(given[1:])
			if err != nil {
				return err
			}
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				keys, err := acc.AddKeys(ctx, given[0], lines)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, keys)
				}
				if len(keys) == 0 {
					fmt.Fprintf(a.out, "%s has %s already\n", given[0], count(len(lines), "key"))
				}
				for _, k := range keys {
					fmt.Fprintf(a.out, "key of %s added: %s %s %s\n", given[0], k.Type, k.Fingerprint, plain(k.Comment))
				}
				return nil
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print the added keys as JSON")
	return c
}

// keyArgs takes the account and one argument that may be left out when must is 1.
func keyArgs(must int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) < must || len(given) > 2 {
			return usagef(cmd, "give the name of an account and which key")
		}
		return nil
	}
}

// keyLines reads the lines that the argument stands for: none or "-" is
// standard input, a name that exists a file, anything else the key itself.
func (a *app) keyLines(given []string) ([]string, error) {
	var text []byte
	var err error
	switch {
	case len(given) == 0 || given[0] == "-":
		if text, err = io.ReadAll(io.LimitReader(a.in, maxKeyFile)); err != nil {
			return nil, fmt.Errorf("cannot read the key from standard input: %w", err)
		}
	case strings.ContainsAny(given[0], " \t"):
		text = []byte(given[0])
	default:
		if text, err = os.ReadFile(given[0]); err != nil {
			return nil, fmt.Errorf("cannot read the key file: %w; give the file whose name ends in .pub", err)
		}
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		return nil, errors.New("this is a private key, which must stay where it is; give the public one, in the file whose name ends in .pub")
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("there is no key in it; a key is one line that begins like \"ssh-ed25519 AAAA\"")
	}
	return lines, nil
}

func (a *app) userKeyList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list NAME", Short: "List the keys of an account", Args: args("NAME"), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				keys, err := acc.Keys(ctx, names[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, keys)
				}
				if len(keys) == 0 {
					fmt.Fprintf(a.err, "%s has no keys; add one with: portreeve user key add %s ~/.ssh/id_ed25519.pub\n", names[0], names[0])
					return nil
				}
				rows := [][]string{{"TYPE", "FINGERPRINT", "COMMENT", "RESTRICTIONS"}}
				for _, k := range keys {
					rows = append(rows, []string{k.Type, k.Fingerprint, k.Comment, orDash(restrictions(k))})
				}
				return table(a.out, rows)
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func restrictions(k admin.Key) string {
	var r []string
	if k.Fault != "" {
		r = append(r, "cannot be used: "+k.Fault)
	}
	if k.Authority {
		r = append(r, "authority")
	}
	if len(k.Principals) > 0 {
		r = append(r, "for "+strings.Join(k.Principals, ","))
	}
	if k.From != "" {
		r = append(r, "from "+k.From)
	}
	if !k.Expires.IsZero() {
		r = append(r, "until "+when(k.Expires))
	}
	return strings.Join(r, ", ")
}

func (a *app) userKeyRemove() *cobra.Command {
	return &cobra.Command{Use: "rm NAME KEY", Short: "Remove a key, named by its fingerprint (or the beginning of it) or comment",
		Args: keyArgs(2), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				k, err := acc.RemoveKey(ctx, given[0], given[1])
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "key of %s removed: %s %s\n", given[0], k.Fingerprint, plain(k.Comment))
				return nil
			})
		}}
}
