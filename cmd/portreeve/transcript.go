package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
)

func (a *app) transcriptCommand() *cobra.Command {
	c := &cobra.Command{Use: "transcript", Short: "Record what single sessions say, without secrets", Args: cobra.ArbitraryArgs, RunE: group,
		Long: `Record what single sessions say: commands, replies, data connections and SFTP
requests with their times, never a secret or the contents of a file. Nothing is
recorded unless it is asked for here, and every request ends by itself. Who asks
for what, and who reads it, is in the audit trail.`}
	c.AddCommand(a.transcriptStart(), a.transcriptList(), a.transcriptShow(), a.transcriptStop(), a.transcriptRemove())
	return c
}

func (a *app) transcriptStart() *cobra.Command {
	var n admin.NewTranscript
	var span string
	c := &cobra.Command{Use: "start [ID]", Short: "Record a live session, or the next ones of an account or address", Args: args("[ID]"),
		Example: `  portreeve session transcript start d853d316dae64d645828fc18
  portreeve session transcript start --user ann --for 1h
  portreeve session transcript start --address 192.0.2.0/24`,
		ValidArgsFunction: a.completeSessions,
		RunE: func(cmd *cobra.Command, ids []string) error {
			given := len(ids)
			if given == 1 {
				n.Session = ids[0]
			}
			for _, v := range []string{n.User, n.Network} {
				if v != "" {
					given++
				}
			}
			if given != 1 {
				return usagef(cmd, "give the ID of a session (see \"portreeve session list\"), --user NAME or --address NETWORK")
			}
			if span != "" {
				d, err := parseSpan(span)
				if err != nil || d <= 0 {
					return usagef(cmd, "--for: %q is not a span such as 15m or 2h", span)
				}
				n.For = d
			}
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			q, err := cl.AskTranscript(cmd.Context(), n)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s will be recorded until %s (request %s)\n", transcribed(q), q.Until.Local().Format(time.DateTime), q.ID)
			return nil
		}}
	c.Flags().StringVar(&n.User, "user", "", "the next sessions of this account (`NAME`), also log-ins that fail")
	c.Flags().StringVar(&n.Network, "address", "", "the next connections from this address or `NETWORK`")
	c.Flags().StringVar(&span, "for", "", "end by itself after this `SPAN`, 24h at most (default 15m)")
	return c
}

// transcribed words what a request is for.
func transcribed(q admin.TranscriptRequest) string {
	switch {
	case q.Session != "":
		return "session " + q.Session
	case q.User != "":
		return "account " + q.User
	}
	return "address " + q.Network
}

func (a *app) transcriptList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List what is asked for and what was recorded", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			l, err := cl.Transcripts(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, l)
			}
			if len(l.Requests)+len(l.Transcripts) == 0 {
				fmt.Fprintln(a.err, "no transcripts, and none asked for")
				return nil
			}
			if len(l.Requests) > 0 {
				rows := [][]string{{"REQUEST", "OF", "UNTIL", "BY", "BEGUN"}}
				for _, q := range l.Requests {
					rows = append(rows, []string{q.ID, transcribed(q), when(q.Until), orDash(q.By), fmt.Sprint(q.Begun)})
				}
				if err := table(a.out, rows); err != nil || len(l.Transcripts) == 0 {
					return err
				}
				fmt.Fprintln(a.out)
			}
			rows := [][]string{{"SESSION", "USER", "PROTOCOL", "REMOTE", "BEGUN", "SIZE", "STATE", "REQUEST"}}
			for _, t := range l.Transcripts {
				state := "ended"
				if t.Running {
					state = "running"
				}
				rows = append(rows, []string{t.Session, orDash(t.User), t.Protocol, t.Remote, when(t.Begun), size(t.Bytes), state, t.Request})
			}
			return table(a.out, rows)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) transcriptShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Print the transcript of a session", Args: args("ID"), ValidArgsFunction: a.completeTranscripts,
		RunE: func(cmd *cobra.Command, ids []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			t, err := cl.Transcript(cmd.Context(), ids[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, t.Text)
			return err
		}}
}

func (a *app) transcriptStop() *cobra.Command {
	return &cobra.Command{Use: "stop REQUEST", Short: "End a request; what was recorded stays", Args: args("REQUEST"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := cl.StopTranscript(cmd.Context(), ids[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "request %s ended\n", ids[0])
			return nil
		}}
}

func (a *app) transcriptRemove() *cobra.Command {
	return &cobra.Command{Use: "rm ID", Short: "Remove the transcript of a session", Args: args("ID"), ValidArgsFunction: a.completeTranscripts,
		RunE: func(cmd *cobra.Command, ids []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := cl.RemoveTranscript(cmd.Context(), ids[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "transcript of session %s removed\n", ids[0])
			return nil
		}}
}

func (a *app) completeTranscripts(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if cl, err := a.client(cmd.Context()); err == nil && len(given) == 0 {
		defer cl.Close()
		l, _ := cl.Transcripts(cmd.Context()) // a completion that fails offers nothing
		for _, t := range l.Transcripts {
			ids = append(ids, t.Session+"\t"+t.User+" "+t.Remote)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
