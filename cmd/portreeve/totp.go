package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/auth"
)

// secondFactors is the part of accounts that the totp commands of one kind of
// account need.
type secondFactors struct {
	kind    string // "user", "admin"
	enable  func(accounts, context.Context, string) (admin.Enrolled, error)
	disable func(accounts, context.Context, string) error
	renew   func(accounts, context.Context, string) ([]string, error)
}

func (a *app) userTOTP() *cobra.Command {
	return a.totpCommand(secondFactors{"user", accounts.EnableTOTP, accounts.DisableTOTP, accounts.NewRecovery},
		`Manage the second factor of an account: a code that an authenticator shows and
that changes every 30 seconds (TOTP, RFC 6238). A log-in by password needs it
from then on: SFTP asks for it, on FTP it is typed right behind the password.
A key still logs in alone, unless "portreeve user set NAME --auth publickey,totp".`)
}

func (a *app) adminTOTP() *cobra.Command {
	return a.totpCommand(secondFactors{"admin", accounts.EnableAdministratorTOTP, accounts.DisableAdministratorTOTP, accounts.NewAdministratorRecovery},
		`Manage the second factor of an administrator. From then on a token can do one
thing: POST /v1/verification with a code, which gives a token for 12 hours.`)
}

func (a *app) totpCommand(f secondFactors, long string) *cobra.Command {
	c := &cobra.Command{Use: "totp", Short: "Manage a second factor: codes of an authenticator", Long: long, Args: cobra.ArbitraryArgs, RunE: group}
	complete := a.completeUsers
	if f.kind != "user" {
		complete = cobra.NoFileCompletions
	}
	var asJSON, noQR bool
	enable := &cobra.Command{Use: "enable NAME", Short: "Make a secret and recovery codes and print them; they cannot be shown again", Args: args("NAME"), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				e, err := f.enable(acc, ctx, names[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, e)
				}
				return a.printEnrolled(f.kind, names[0], e, !noQR)
			})
		}}
	enable.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	enable.Flags().BoolVar(&noQR, "no-qr", false, "do not draw the code to scan")
	disable := &cobra.Command{Use: "disable NAME", Short: "End the second factor and its recovery codes", Args: args("NAME"), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				if err := f.disable(acc, ctx, names[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s has no second factor any more\n", names[0])
				return nil
			})
		}}
	recovery := &cobra.Command{Use: "recovery NAME", Short: "Make new recovery codes; the old ones end", Args: args("NAME"), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.withAccounts(cmd, func(ctx context.Context, acc accounts) error {
				codes, err := f.renew(acc, ctx, names[0])
				if err != nil {
					return err
				}
				a.printRecovery(codes)
				return nil
			})
		}}
	c.AddCommand(enable, disable, recovery)
	return c
}

func (a *app) printEnrolled(kind, name string, e admin.Enrolled, draw bool) error {
	if draw {
		qr, err := auth.QR(e.URI)
		if err != nil {
			return err
		}
		fmt.Fprint(a.out, qr)
	}
	fmt.Fprintf(a.out, "Scan this with an authenticator, or type the secret. It cannot be shown again.\n  %s\n  secret: %s\n", e.URI, e.Secret)
	a.printRecovery(e.Recovery)
	if kind == "user" {
		fmt.Fprintf(a.out, "%s logs in with the password and a code now: SFTP asks for it, on FTP it is typed right behind the password.\n", name)
	}
	return nil
}

func (a *app) printRecovery(codes []string) {
	fmt.Fprintln(a.out, "Recovery codes, each good once in the place of a code:")
	for _, c := range codes {
		fmt.Fprintln(a.out, "  "+c)
	}
}
