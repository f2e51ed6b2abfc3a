package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/firewall"
	"github.com/portreeve/portreeve/internal/ports"
)

func (a *app) portsCommand() *cobra.Command {
	c := &cobra.Command{Use: "ports", Short: "The ports the server needs: plan, firewall rules, live state", Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(a.portsPlan(), a.portsOpen(), a.portsVerify(), a.portsList(), a.portsMatrix(), a.portsMap())
	return c
}

func (a *app) portsPlan() *cobra.Command {
	var asJSON, serverPage, clientPage bool
	var name string
	c := &cobra.Command{Use: "plan", Short: "Show every port the configuration needs, and what is wrong with it", Args: args(),
		Long: `Show every port the configuration needs, in which direction, and who is told
which address. --server-side and --client-side print a page (Markdown) to hand to
the network team of either side. Exit code 3: the plan cannot work here.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && (serverPage || clientPage) || serverPage && clientPage {
				return usagef(cmd, "give one of --json, --server-side and --client-side")
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			p := plan(cfg)
			switch {
			case asJSON:
				b, err := p.JSON()
				if err != nil {
					return err
				}
				a.out.Write(b)
			case serverPage:
				io.WriteString(a.out, p.ServerPage())
			case clientPage:
				io.WriteString(a.out, p.ClientPage(name))
			default:
				io.WriteString(a.out, p.Text())
			}
			return verdict(&p)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&serverPage, "server-side", false, "print a page for the server's network team")
	c.Flags().BoolVar(&clientPage, "client-side", false, "print a page for the clients' network team")
	c.Flags().BoolVar(&clientPage, "client", false, "the same as --client-side")
	c.Flags().MarkHidden("client")
	c.Flags().StringVar(&name, "name", "", "with --client-side: the `NAME` clients use for the server")
	return c
}

func targetNames() []string {
	var out []string
	for _, t := range firewall.Targets() {
		out = append(out, t.Name)
	}
	return out
}

func (a *app) portsOpen() *cobra.Command {
	var target string
	var apply, yes bool
	long := "Print rules that open the ports of the plan. Nothing is changed without --apply,\nwhich shows the change and asks first. Targets:\n\n"
	for _, t := range firewall.Targets() {
		long += fmt.Sprintf("  %-16s %s\n", t.Name, t.Title)
	}
	c := &cobra.Command{Use: "open --for TARGET", Short: "Print the firewall rules of the plan, or apply them here", Args: args(), Long: long,
		Example: `  portreeve ports open --for nftables | nft -c -f -
  sudo portreeve ports open --for ufw --apply`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if target == "" {
				return usagef(cmd, "--for is missing; the targets are %s", strings.Join(targetNames(), ", "))
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			p := plan(cfg)
			if !apply {
				text, err := firewall.Generate(target, p)
				if errors.Is(err, firewall.ErrTarget) {
					return usagef(cmd, "%v", err)
				}
				if err != nil {
					return err
				}
				if target == "nftables" {
					text += otherChains(cmd.Context(), p)
				}
				_, err = io.WriteString(a.out, text)
				return err
			}
			current := ""
			if target == "nftables" {
				set := localNft(cmd.Context())
				if set.Err != nil {
					return set.Err
				}
				current = set.Text
			}
			change, err := firewall.Prepare(target, p, current)
			if err != nil {
				return err
			}
			if change.Empty() {
				fmt.Fprintln(a.out, "Nothing to do: the rules let everything through that the plan needs.")
				return nil
			}
			fmt.Fprintf(a.out, "This will be run:\n\n%s\n", change.Text)
			if !yes {
				if err := a.confirm("Change the firewall of this machine?"); err != nil {
					return err
				}
			}
			if err := change.Run(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "Done. \"portreeve ports verify\" compares again; keep the rules over a restart as the printed comment says.")
			return nil
		}}
	c.Flags().StringVar(&target, "for", "", "`TARGET` to write for")
	c.Flags().BoolVar(&apply, "apply", false, "change this machine's firewall (nftables, ufw, firewalld)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "with --apply: do not ask")
	c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(targetNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// verified is the answer of ports verify --json.
type verified struct {
	Format string           `json:"format"`
	Error  string           `json:"error,omitempty"`
	Report *firewall.Report `json:"report,omitempty"`
}

func (a *app) portsVerify() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "verify", Short: "Compare this machine's firewall with the plan", Args: args(),
		Long: `Follow new connections through the rules of this machine (nft, and the older
iptables where it is in use) and report what differs from the plan. Needs root.
Exit code 3: something is closed or unclear; 1: no rules could be read.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			p := plan(cfg)
			var all []verified
			clean, read := true, 0
			for _, set := range firewall.ReadLocal(cmd.Context()) {
				v := verified{Format: set.Format}
				var r firewall.Report
				err := set.Err
				if err == nil {
					r, err = firewall.Verify(set.Format, set.Text, p)
				}
				if err != nil {
					v.Error = err.Error()
				} else {
					read++
					v.Report = &r
					clean = clean && r.Clean()
				}
				all = append(all, v)
			}
			if asJSON {
				if err := writeJSON(a.out, all); err != nil {
					return err
				}
			} else {
				showVerified(a.out, all)
			}
			switch {
			case read < len(all):
				return errQuiet
			case !clean:
				return errFindings
			}
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showVerified(w io.Writer, all []verified) {
	for _, v := range all {
		if v.Report == nil {
			fmt.Fprintf(w, "%s: %s\n\"portreeve ports open --for TARGET\" prints the rules that are needed.\n", v.Format, plain(v.Error))
			continue
		}
		if v.Report.Clean() {
			fmt.Fprintf(w, "%s: %s read; they let everything through that the plan needs.\n", v.Format, count(v.Report.Rules, "rule"))
		}
		for _, d := range v.Report.Drift {
			fmt.Fprintf(w, "%s %s: TCP %s (%s, %s) is %s: %s\n    cure: %s\n", v.Format, d.Code, d.Ports, d.Family, d.Purpose, d.Status, plain(d.Reason), plain(d.Cure))
		}
		for _, n := range v.Report.Notes {
			fmt.Fprintln(w, "note:", plain(n))
		}
		for _, u := range v.Report.Unparsed {
			fmt.Fprintln(w, "not understood:", plain(u))
		}
	}
}

func (a *app) portsList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list", Short: "List the sockets that are open now, and what became of the passive ports", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			p, err := cl.Ports(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, p)
			}
			m, err := cl.Matrix(cmd.Context())
			if err != nil {
				return err
			}
			return showPorts(a.out, p, &m, time.Now())
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showPorts(w io.Writer, p api.Ports, m *ports.Matrix, now time.Time) error {
	for _, s := range p.Pools {
		fmt.Fprintf(w, "range %d-%d: %d leased, %d idle, %d taken by others, %d waiting; since the start %d leases, %d refused\n",
			s.First, s.Last, s.Leased, s.Kept, s.Taken, s.Waiting, s.Leases, s.NoPort)
	}
	if len(p.Sockets) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	missed := map[uint16]ports.PortRow{}
	for _, r := range m.Ports {
		missed[r.Port] = r
	}
	rows := [][]string{{"PORT", "STATE", "CLIENT", "SINCE", "NOT REACHED"}}
	for _, s := range p.Sockets {
		client, since, not := "-", "-", "-"
		state := s.State
		if s.Client.IsValid() {
			client = s.Client.String()
		}
		if !s.Since.IsZero() {
			since = span(now.Sub(s.Since))
		}
		if s.Use != "" {
			state += " " + plain(s.Use)
		}
		if s.State == "shared" {
			state += fmt.Sprintf(", %d waiting", s.Waiting)
		}
		if r, ok := missed[s.Addr.Port()]; ok && s.State != "control" {
			not = fmt.Sprintf("%d of %d", r.Unreached, r.OK+r.Unreached)
			delete(missed, s.Addr.Port())
		}
		rows = append(rows, []string{s.Addr.String(), state, client, since, not})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if len(missed) > 0 {
		fmt.Fprintf(w, "\n%s that nobody reached at times; portreeve ports matrix names them and what that means\n", count(len(missed), "further passive port"))
	}
	return nil
}

func (a *app) portsMatrix() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "matrix", Short: "Show how data connections fare by mode, TLS, client network and port", Args: args(),
		Long: `Show what the running server has counted: how many data connections came about
and how many failed, by mode, TLS and client network, the ports nobody reached,
and what that means. Exit code 3: there are findings.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			m, err := cl.Matrix(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(a.out, m)
			} else {
				err = showMatrix(a.out, &m)
			}
			if err == nil && len(m.Findings) > 0 {
				err = errFindings
			}
			return err
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showMatrix(w io.Writer, m *ports.Matrix) error {
	if m.Total == 0 {
		fmt.Fprintln(w, "No data connection yet.")
		return nil
	}
	rows := [][]string{{"CLIENTS", "MODE", "TLS", "OK", "FAILED", "OUTCOMES"}}
	for _, c := range m.Cells {
		var out []string
		for code, n := range c.Outcomes {
			if code != "ok" {
				out = append(out, fmt.Sprintf("%s %d", code, n))
			}
		}
		sort.Strings(out)
		tls := "no"
		if c.TLS {
			tls = "yes"
		}
		rows = append(rows, []string{c.Network.String(), c.Mode, tls, strconv.FormatUint(c.OK, 10), strconv.FormatUint(c.Failed, 10), orDash(strings.Join(out, ", "))})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if len(m.Ports) > 0 {
		fmt.Fprintln(w)
		rows = [][]string{{"PORT", "OK", "NOT REACHED"}}
		for i, p := range m.Ports {
			if i == 50 {
				fmt.Fprintf(w, "and %d more; --json has all\n", len(m.Ports)-50)
				break
			}
			rows = append(rows, []string{strconv.Itoa(int(p.Port)), strconv.Itoa(int(p.OK)), strconv.Itoa(int(p.Unreached))})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	for _, f := range m.Findings {
		fmt.Fprintf(w, "\n%s %s, %s: %s\n    cure: %s\n", f.Severity, f.Code, f.Subject, f.Cause, f.Cure)
	}
	return nil
}

func (a *app) sessionShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "show ID", Short: "Show the recorded data connections of a session", Args: args("ID"),
		Long:              "Show the recorded data connections of a session, also of one that has ended.\nID \"all\" shows the newest of all sessions.",
		ValidArgsFunction: a.completeSessions,
		RunE: func(cmd *cobra.Command, ids []string) error {
			cl, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			id := ids[0]
			if id == "all" {
				id = ""
			}
			as, err := cl.Data(cmd.Context(), id)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, as)
			}
			if len(as) == 0 {
				return fmt.Errorf("nothing is recorded of session %s; \"portreeve session list\" shows the live ones", ids[0])
			}
			if err := table(a.out, attemptRows(as)); err != nil || id == "" {
				return err
			}
			m, err := cl.Matrix(cmd.Context())
			if err != nil {
				return err
			}
			return showNetwork(a.out, &m, ports.NetworkOf(as[0].Control.Addr()))
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// showNetwork prints how the data connections of one client network fare.
func showNetwork(w io.Writer, m *ports.Matrix, n netip.Prefix) error {
	rest := *m
	rest.Cells = slices.DeleteFunc(slices.Clone(m.Cells), func(c ports.Cell) bool { return c.Network != n })
	rest.Ports, rest.Findings = nil, nil
	for _, f := range m.Findings {
		if strings.Contains(f.Subject, n.String()) {
			rest.Findings = append(rest.Findings, f)
		}
	}
	if len(rest.Cells) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nAll clients of %s since the start:\n", n)
	return showMatrix(w, &rest)
}

func attemptRows(as []ports.Attempt) [][]string {
	rows := [][]string{{"TIME", "SESSION", "USER", "CLIENT", "MODE", "TLS", "ANNOUNCED", "PEER", "REACTION", "WAITED", "RESULT"}}
	for _, x := range as {
		tls := "no"
		if x.TLS {
			tls = "yes"
			if x.Resumed {
				tls = "resumed"
			}
		}
		announced, peer := x.Local, x.Remote
		if !x.Passive() {
			announced, peer = x.Remote, x.Local
		}
		show := func(valid bool, s string) string {
			if !valid {
				return "-"
			}
			return s
		}
		rows = append(rows, []string{x.Time.Local().Format("15:04:05"), x.Session, orDash(x.User), x.Control.String(), x.Mode, tls,
			show(announced.IsValid(), announced.String()), show(peer.IsValid(), peer.String()), x.Reaction.Round(time.Millisecond).String(), x.Waited.Round(time.Millisecond).String(), strings.TrimSpace(x.Code + " " + x.Text)})
	}
	return rows
}

// localNft is the nftables rule set of this machine.
func localNft(ctx context.Context) firewall.RuleSet {
	for _, set := range firewall.ReadLocal(ctx) {
		if set.Format == firewall.FormatNftables {
			return set
		}
	}
	return firewall.RuleSet{Err: errors.New("the nftables rules of this machine were not read")}
}

// otherChains are lines for chains of this machine with other names, which
// refuse something as well. Where the rules cannot be read, as without root,
// the names of the usual table have to do.
func otherChains(ctx context.Context, p ports.Plan) string {
	set := localNft(ctx)
	if set.Err != nil {
		return ""
	}
	lines, err := firewall.Elsewhere(p, set.Text)
	switch {
	case err != nil:
		return "\n# " + plain(err.Error()) + "\n"
	case lines == "":
		return ""
	}
	return "\n# On this machine these chains refuse connections, too:\n" + lines
}
