package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) sessionCommand() *cobra.Command {
	c := &cobra.Command{Use: "session", Short: "See, record and end the live sessions", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.sessionList(), a.sessionShow(), a.sessionKick(), a.transcriptCommand())
	return c
}

func (a *app) sessionList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the sessions and what they do", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			ss, err := cl.Sessions(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, ss)
			}
			if len(ss) == 0 {
				fmt.Fprintln(a.err, "no sessions")
				return nil
			}
			return table(a.out, sessionRows(ss, time.Now()))
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func sessionRows(ss []admin.Session, now time.Time) [][]string {
	rows := [][]string{{"ID", "USER", "PROTOCOL", "REMOTE", "SINCE", "COMMAND", "DONE", "SPEED", "FILE"}}
	for _, s := range ss {
		done := "-"
		if p := s.Percent(); p >= 0 {
			done = strconv.Itoa(p) + "%"
		} else if s.Bytes > 0 {
			done = size(s.Bytes)
		}
		proto := s.Protocol
		if s.TLS != "" && proto == "ftp" {
			proto = "ftp+tls"
		}
		command := s.Command
		if command == "" {
			command = "idle"
		}
		rows = append(rows, []string{s.ID, orDash(s.User), proto, s.Remote, span(now.Sub(s.Since)), command, done, rate(s.Rate), orDash(s.Path)})
	}
	return rows
}

func (a *app) sessionKick() *cobra.Command {
	var user, reason string
	c := &cobra.Command{Use: "kick [ID]", Short: "End a session, or all of a user", Args: args("[ID]"),
		Example: `  portreeve session kick d853d316dae64d645828fc18
  portreeve session kick --user ann --reason "maintenance"`,
		ValidArgsFunction: a.completeSessions,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if (len(ids) == 1) == (user != "") {
				return usagef(cmd, "give the ID of a session (see \"portreeve session list\") or --user NAME")
			}
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if user != "" {
				n, err := cl.KickUser(cmd.Context(), user, reason)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s of %s ended\n", count(n, "session"), user)
				return nil
			}
			if err := cl.Kick(cmd.Context(), ids[0], reason); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "session %s ended\n", ids[0])
			return nil
		}}
	c.Flags().StringVar(&user, "user", "", "end all sessions of this user (`NAME`)")
	c.Flags().StringVar(&reason, "reason", "", "`TEXT` for the client and the log")
	return c
}

func (a *app) completeSessions(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if cl, err := a.client(cmd.Context()); err == nil && len(given) == 0 {
		defer cl.Close()
		ss, _ := cl.Sessions(cmd.Context()) // a completion that fails offers nothing
		for _, s := range ss {
			ids = append(ids, s.ID+"\t"+s.User+" "+s.Remote)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
