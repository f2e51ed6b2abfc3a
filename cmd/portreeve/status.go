package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON, watch bool
	c := &cobra.Command{Use: "status", Short: "Show the running server: ports, sessions, transfers", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			if _, tty := terminal(a.out); watch && tty && !asJSON {
				return a.watch(cmd.Context(), cl)
			}
			st, err := cl.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, st)
			}
			return showStatus(a.out, st, time.Now())
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "on a terminal: refresh each second, with progress bars, until q")
	return c
}

// heading is the first line of both views.
func heading(st api.Status, now time.Time) string {
	text := fmt.Sprintf("portreeve %s, pid %d, up %s", st.Version, st.PID, span(now.Sub(st.Started)))
	if st.Stopping {
		text += ", stopping"
	}
	return text
}

func showStatus(w io.Writer, st api.Status, now time.Time) error {
	fmt.Fprintln(w, heading(st, now))
	file := st.ConfigFile
	if file == "" {
		file = "none (quick start)"
	}
	fmt.Fprintf(w, "config %s\ndata   %s\n", plain(file), plain(st.DataDir))
	fmt.Fprintf(w, "moved  %s down, %s up since the start; %s in use\n\n", size(st.BytesDown), size(st.BytesUp), count(st.PassiveInUse, "passive port"))
	rows := [][]string{{"LISTENER", "PROTOCOL", "ADDRESS", "TLS", "PASSIVE", "SESSIONS"}}
	for _, l := range st.Listeners {
		rows = append(rows, []string{l.Name, l.Protocol, l.Address, l.TLS, orDash(l.Passive), strconv.Itoa(l.Sessions)})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if len(st.Sessions) == 0 {
		fmt.Fprintln(w, "no sessions")
	} else if err := table(w, sessionRows(st.Sessions, now)); err != nil {
		return err
	}
	showWarnings(w, st, now)
	return nil
}

// warnDays is how long before a certificate's end the status says so.
const warnDays = 14

func showWarnings(w io.Writer, st api.Status, now time.Time) {
	var lines []string
	for _, c := range st.Certificates {
		if c.NotAfter.Sub(now) < warnDays*24*time.Hour {
			lines = append(lines, fmt.Sprintf("the certificate %s ends %s", c.Source, ends(c.NotAfter, now)))
		}
	}
	lines = append(lines, st.Warnings...)
	if len(lines) > 0 {
		fmt.Fprintln(w)
	}
	for _, l := range lines {
		fmt.Fprintln(w, "warning:", plain(l))
	}
}

// watch redraws the screen each second until q, Ctrl-C or the server's end.
func (a *app) watch(ctx context.Context, cl *api.Client) error {
	sc, err := openScreen(a.in, a.out)
	if err != nil {
		return err
	}
	defer sc.close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		st, err := cl.Status(ctx)
		if err != nil {
			return err
		}
		width, height := sc.size()
		sc.draw(watchLines(st, time.Now(), width, height))
		select {
		case <-sc.quit:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watchLines is the progress view: transfers first, each with a bar, then the
// other sessions as far as there is room.
func watchLines(st api.Status, now time.Time, width, height int) []string {
	var down, up int64
	var moving, idle []admin.Session
	for _, s := range st.Sessions {
		switch s.Transfer {
		case "download":
			down += s.Rate
		case "upload":
			up += s.Rate
		}
		if s.Transfer != "" {
			moving = append(moving, s)
		} else {
			idle = append(idle, s)
		}
	}
	lines := []string{
		heading(st, now),
		fmt.Sprintf("%s, %s; down %s, up %s", count(len(st.Sessions), "session"), count(len(moving), "transfer"), rate(down), rate(up)),
		"",
	}
	for _, s := range moving {
		lines = append(lines, transferLine(s, width))
	}
	if len(idle) > 0 {
		lines = append(lines, "")
	}
	for _, s := range idle {
		lines = append(lines, fmt.Sprintf("%-12s %-21s %s", clip(orDash(s.User), 12), s.Remote, plain(orDash(s.Command))))
	}
	if len(lines) > height-1 && height > 4 {
		more := len(lines) - (height - 2)
		lines = append(lines[:height-2], fmt.Sprintf("... and %d more", more))
	}
	for i := range lines {
		lines[i] = clip(lines[i], width)
	}
	return append(lines, clip("q quits", width))
}

// transferLine is "ann  <- [#####.....]  52%  10.0 MiB/s  1m20s  /path".
func transferLine(s admin.Session, width int) string {
	const barWidth = 20
	arrow := "->"
	if s.Transfer == "upload" {
		arrow = "<-"
	}
	bar, done, left := "", size(s.Bytes), ""
	for i := range barWidth {
		switch p := s.Percent(); {
		case p < 0:
			bar += "-"
		case i*100 < p*barWidth:
			bar += "#"
		default:
			bar += "."
		}
	}
	if p := s.Percent(); p >= 0 {
		done = strconv.Itoa(p) + "%"
		if s.Rate > 0 {
			left = span(time.Duration(float64(s.Size-s.Bytes) / float64(s.Rate) * float64(time.Second)))
		}
	}
	head := fmt.Sprintf("%-12s %s [%s] %9s %12s %7s  ", clip(orDash(s.User), 12), arrow, bar, done, rate(s.Rate), left)
	return head + clipLeft(s.Path, max(width-len(head), 8))
}
