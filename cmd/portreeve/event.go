package main

import (
	"context"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

func (a *app) eventCommand() *cobra.Command {
	c := &cobra.Command{Use: "event", Short: "Read and check the audit trail", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.eventList(), a.eventTail(), a.eventVerify())
	return c
}

// eventFlags are the conditions of list and tail.
type eventFlags struct {
	q            admin.EventQuery
	since, until string
	format       string
	asJSON       bool
}

func (f *eventFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.q.Kinds, "kind", nil, "only these `KINDS`, such as login,upload,ban")
	fl.StringVar(&f.q.User, "user", "", "only of this user (`NAME`)")
	fl.StringVar(&f.q.Session, "session", "", "only of this session (`ID`)")
	fl.StringVar(&f.q.Address, "from", "", "only of clients at this `ADDRESS`")
	fl.StringVar(&f.q.Path, "path", "", "only this file or directory and what is below it, `PATH` as clients see it")
	fl.BoolVar(&f.q.Failed, "failed", false, "only what did not succeed")
	fl.StringVar(&f.format, "format", "", "write lines in this `FORMAT`: text, json, xferlog, w3c")
	fl.BoolVar(&f.asJSON, "json", false, "the same as --format json")
	c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(config.EventKinds, cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json", "xferlog", "w3c"}, cobra.ShellCompDirectiveNoFileComp))
}

// lines returns the chosen format, "" for the table.
func (f *eventFlags) lines(cmd *cobra.Command) (events.Format, error) {
	for _, k := range f.q.Kinds { // a misspelt one would look like silence
		if !slices.Contains(config.EventKinds, k) {
			return "", usagef(cmd, "--kind %q is not one of %s", k, strings.Join(config.EventKinds, ", "))
		}
	}
	if f.asJSON {
		return events.JSON, nil
	}
	switch v := events.Format(f.format); v {
	case "", events.Text, events.JSON, events.Xferlog, events.W3C:
		return v, nil
	}
	return "", usagef(cmd, "--format %q is not one of text, json, xferlog, w3c", f.format)
}

// moment reads a time: "2026-11-02", "2026-11-02 15:04", RFC 3339, or a span
// such as 2h or 7d, which is that long ago.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := parseSpan(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write 2026-11-02, \"2026-11-02 15:04\", or a span such as 2h or 7d for that long ago", s)
}

// parseSpan is time.ParseDuration with days.
func parseSpan(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	return d, err
}

func (a *app) eventList() *cobra.Command {
	var f eventFlags
	c := &cobra.Command{Use: "list", Short: "List events, the newest last", Args: args(),
		Example: `  portreeve event list --kind login.failed --since 1h
  portreeve event list --path /in/report.csv
  portreeve event list --format xferlog --since 2026-11-01 --limit 0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := f.lines(cmd)
			if err != nil {
				return err
			}
			now := time.Now()
			if f.q.Since, err = moment(f.since, now); err != nil {
				return usagef(cmd, "--since: %v", err)
			}
			if f.q.Until, err = moment(f.until, now); err != nil {
				return usagef(cmd, "--until: %v", err)
			}
			return a.withOperations(cmd, func(ctx context.Context, o operations) error { return a.listEvents(ctx, o, f.q, format) })
		}}
	f.add(c)
	c.Flags().StringVar(&f.since, "since", "", "only at or after this `TIME`, or a span such as 2h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "only before this `TIME`")
	c.Flags().IntVarP(&f.q.Limit, "limit", "n", 50, "the newest `N` of them; 0 is all")
	return c
}

// eventPage is how many events one question asks for.
const eventPage = 1000

// listEvents prints the newest events the query chooses, oldest first. All of
// them go by in pages from the oldest on; a number of them is read backwards.
func (a *app) listEvents(ctx context.Context, o operations, q admin.EventQuery, format events.Format) error {
	if format == events.W3C {
		fmt.Fprint(a.out, format.Header(time.Now()))
	}
	if q.Limit == 0 {
		q.Oldest, q.Limit = true, eventPage
		for {
			es, err := o.Events(ctx, q)
			if err != nil || len(es) == 0 {
				return err
			}
			if err := a.printEvents(es, format); err != nil {
				return err
			}
			q.After = es[len(es)-1].ID
		}
	}
	var all []events.Event
	for want := q.Limit; want > 0; want = q.Limit - len(all) {
		p := q
		p.Limit = min(want, eventPage)
		es, err := o.Events(ctx, p)
		if err != nil {
			return err
		}
		all = append(all, es...)
		if len(es) < p.Limit {
			break
		}
		q.Before = es[len(es)-1].ID
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	if len(all) == 0 && format == "" {
		fmt.Fprintln(a.err, "no events")
		return nil
	}
	return a.printEvents(all, format)
}

func (a *app) printEvents(es []events.Event, format events.Format) error {
	if format == "" {
		rows := [][]string{{"ID", "TIME", "EVENT", "RESULT", "USER", "FROM", "PATH", "SIZE", "DETAIL"}}
		for _, e := range es {
			path := e.Path
			if e.Target != "" {
				path = strings.TrimSpace(path + " -> " + e.Target)
			}
			moved := ""
			if e.Bytes > 0 {
				moved = size(e.Bytes)
			}
			rows = append(rows, []string{strconv.FormatInt(e.ID, 10), e.Time.Local().Format("2006-01-02 15:04:05"), string(e.Kind), e.Result,
				orDash(e.User), orDash(e.Remote), orDash(path), orDash(moved), e.Detail})
		}
		return table(a.out, rows)
	}
	var b []byte
	for _, e := range es {
		b = format.Append(b, e)
	}
	_, err := a.out.Write(b)
	return err
}

// tailEvery is how often tail looks for new events.
const tailEvery = 300 * time.Millisecond

func (a *app) eventTail() *cobra.Command {
	var f eventFlags
	n := 10
	c := &cobra.Command{Use: "tail", Short: "Show events as they happen, until Ctrl-C", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := f.lines(cmd)
			if err != nil {
				return err
			}
			if format == "" {
				format = events.Text
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			cmd.SetContext(ctx)
			return a.withOperations(cmd, func(ctx context.Context, o operations) error { return a.tailEvents(ctx, o, f.q, n, format) })
		}}
	f.add(c)
	c.Flags().IntVarP(&n, "lines", "n", n, "begin with the last `N` events")
	return c
}

func (a *app) tailEvents(ctx context.Context, o operations, q admin.EventQuery, n int, format events.Format) error {
	newest, err := o.Events(ctx, admin.EventQuery{Limit: 1})
	if err != nil {
		return err
	}
	if len(newest) > 0 {
		q.After = newest[0].ID
	}
	if n > 0 {
		first := q
		first.After, first.Before, first.Limit = 0, q.After+1, n
		if err := a.listEvents(ctx, o, first, format); err != nil {
			return err
		}
	}
	q.Oldest, q.Limit = true, eventPage
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		es, err := o.Events(ctx, q)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(es) == 0 {
			continue
		}
		if err := a.printEvents(es, format); err != nil {
			return err
		}
		q.After = es[len(es)-1].ID
	}
}

func (a *app) eventVerify() *cobra.Command {
	var marks []string
	var asJSON bool
	c := &cobra.Command{Use: "verify", Short: "Check that no event was changed or removed", Args: args(),
		Long: `Check that no event of the audit trail was changed, removed or put in between
after it was written. Every event holds the SHA-256 of the one before it; this
command makes the whole chain again. The exit code is 3 when it does not hold.

Who can write to the database could make a whole new chain. The server therefore
writes a mark of the newest event to its log each hour and at its end ("audit
trail mark=..."). Keep the log elsewhere and compare: --mark finds a chain that
was made anew.`,
		Example: `  portreeve event verify
  portreeve event verify --mark 1234:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withOperations(cmd, func(ctx context.Context, o operations) error {
				t, err := o.VerifyEvents(ctx, marks)
				if err != nil {
					return err
				}
				if asJSON {
					err = writeJSON(a.out, t)
				} else {
					a.printTrail(t)
				}
				if err == nil && !t.Whole {
					return errFindings
				}
				return err
			})
		}}
	c.Flags().StringArrayVar(&marks, "mark", nil, "compare with this `MARK` from the log; may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) printTrail(t admin.Trail) {
	for _, b := range t.Broken {
		fmt.Fprintf(a.out, "event %d: %s\n", b.ID, b.What)
	}
	switch {
	case !t.Whole:
		fmt.Fprintf(a.out, "The trail does NOT hold: %s in %s checked.\n", count(len(t.Broken), "break"), count(int(t.Checked), "event"))
	case t.Checked == 0:
		fmt.Fprintln(a.out, "The trail is empty.")
	default:
		fmt.Fprintf(a.out, "The trail holds: %s, %d to %d.\nmark %s\n", count(int(t.Checked), "event"), t.First, t.Last, t.Head)
	}
	if t.Before > 0 {
		fmt.Fprintf(a.out, "%s are older than the chain; nothing protects them.\n", count(int(t.Before), "event"))
	}
}
