package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/fault"
)

// The exit codes, in the words of the manual.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitFound  = 3
)

// app is one run of the program. Its streams and environment are fields so
// that nothing in a command reaches for a global.
type app struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	env []string

	configFlag string // --config
	serverFlag string // --server
}

func newApp(in io.Reader, out, err io.Writer, env []string) *app {
	return &app{in: in, out: out, err: err, env: env}
}

// usageError is a mistake in the command line; it ends with exit code 2.
type usageError struct {
	err error
	cmd *cobra.Command
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), cmd: cmd}
}

// errQuiet ends with exit code 1 after the command has said everything itself.
var errQuiet = errors.New("failed")

// run executes one command line and returns the exit code.
func (a *app) run(args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(context.Background())
	return a.report(cmd, err)
}

// report prints what went wrong, as sentences, and chooses the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	var ue *usageError
	var ce config.Errors
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errQuiet):
		return exitFailed
	case errors.Is(err, errFindings):
		return exitFound
	case errors.As(err, &ue):
		if ue.cmd != nil {
			cmd = ue.cmd
		}
		fmt.Fprintf(a.err, "portreeve: %s\nSee \"%s --help\".\n", ue.err, cmd.CommandPath())
		return exitUsage
	case strings.HasPrefix(err.Error(), "unknown command "):
		// cobra has no type for this one.
		text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n\n", "\n")
		fmt.Fprintf(a.err, "portreeve: %s\nSee \"%s --help\".\n", text, cmd.CommandPath())
		return exitUsage
	case errors.As(err, &ce):
		fmt.Fprintln(a.err, ce.Error())
		fmt.Fprintf(a.err, "portreeve: the configuration has %s; nothing was done\n", count(len(ce), "mistake"))
		return exitFailed
	}
	fmt.Fprintf(a.err, "portreeve: %s\n", sentence(err))
	return exitFailed
}

// sentence is an error's text for people: a list of joined causes becomes
// indented lines below the first.
func sentence(err error) string {
	text := err.Error()
	var fe *fault.Error
	if errors.As(err, &fe) && fe == err && fe.Op == "" && fe.Path == "" && fe.Err != nil {
		text = fe.Err.Error()
	}
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "portreeve",
		Short: "File transfer server: FTP, explicit and implicit FTPS",
		Long: `Portreeve is a file-transfer server for FTP, FTPS (explicit and implicit), SFTP and SCP.

Try it:    portreeve serve      without a configuration it starts on this machine alone
Set it up: portreeve init       writes portreeve.toml and a certificate

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 findings.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,

		PersistentPreRunE: a.onlyHere,
	}
	root.PersistentFlags().StringVar(&a.serverFlag, "server", "", "administer the server at this `HOST:PORT` ([admin] address) instead of the one here; see \"portreeve login\" (default: $PORTREEVE_SERVER)")
	root.PersistentFlags().StringVarP(&a.configFlag, "config", "c", "",
		"configuration `FILE` (default: $PORTREEVE_CONFIG, ./portreeve.toml, /etc/portreeve/portreeve.toml)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{err: err, cmd: cmd} })
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "right" { // both are natural
			name = "rights"
		}
		return pflag.NormalizedName(name)
	})
	root.AddCommand(
		a.serveCommand(), a.initCommand(), a.checkCommand(), a.statusCommand(), a.reloadCommand(), a.upgradeCommand(), a.stopCommand(),
		a.userCommand(), a.groupCommand(), a.mountCommand(), a.adminCommand(), a.tokenCommand(), a.sessionCommand(), a.eventCommand(), a.banCommand(), a.quotaCommand(), a.hookCommand(), a.taskCommand(), a.configCommand(), a.certCommand(), a.manCommand(), a.versionCommand(),
		a.portsCommand(), a.doctorCommand(), a.explainCommand(), a.importCommand(), a.applyCommand(), a.backupCommand(), a.restoreCommand(),
	)
	root.AddCommand(a.loginCommand(), a.logoutCommand())
	return root
}

// group is the RunE of a command that only has sub-commands.
func group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		text := fmt.Sprintf("%q is not a command of %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += fmt.Sprintf("; did you mean %q?", near[0])
		}
		return usagef(cmd, "%s", text)
	}
	if !cmd.HasParent() {
		return cmd.Help()
	}
	cmd.SetOut(cmd.ErrOrStderr())
	cmd.Help()
	return usagef(cmd, "%q needs one of the commands above", cmd.CommandPath())
}

// args checks the number of arguments and names them in the message.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		least := len(names)
		for least > 0 && strings.HasPrefix(names[least-1], "[") {
			least--
		}
		switch {
		case len(given) < least:
			return usagef(cmd, "%s is missing", names[len(given)])
		case len(given) > len(names):
			return usagef(cmd, "%q is one argument too many", given[len(names)])
		}
		return nil
	}
}

// getenv looks a variable up in the run's environment.
func (a *app) getenv(name string) string {
	for i := len(a.env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(a.env[i], name+"="); ok {
			return v
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
