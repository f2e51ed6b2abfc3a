package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/doctor"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/server"
)

func (a *app) explainCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "explain \"QUESTION\"", Short: "Answer a question about ports for this very server", Args: cobra.ArbitraryArgs,
		Long: "Answer a question about ports, for this very server and from its configuration.\nIt understands, in these or similar words:\n\n  " +
			strings.Join(doctor.Questions(), "\n  "),
		Example: `  portreeve explain "which ports does FTPS use?"
  portreeve explain pasv --from 198.51.100.7`,
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) == 0 {
				return usagef(cmd, "QUESTION is missing; for example: portreeve explain \"which ports does FTPS use?\"")
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			p := plan(cfg)
			asked, text := doctor.Answer(strings.Join(words, " "), cfg, &p)
			if asked == "" {
				return usagef(cmd, "that question is not one this command knows; it understands:\n  %s", strings.Join(doctor.Questions(), "\n  "))
			}
			if asJSON {
				return writeJSON(a.out, map[string]string{"question": asked, "answer": text})
			}
			fmt.Fprintf(a.out, "%s\n\n%s", asked, text)
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(a.explainPASV())
	c.AddCommand(a.explainAccess())
	return c
}

// pasvAnswer is the answer of explain pasv --json, one for each listener.
type pasvAnswer struct {
	Listener string       `json:"listener"`
	Decision nat.Decision `json:"decision"`
}

func (a *app) explainPASV() *cobra.Command {
	var from, reached, host string
	var asJSON bool
	c := &cobra.Command{Use: "pasv --from ADDRESS", Short: "Say which address PASV announces to a client, and why", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := netip.ParseAddr(from)
			if err != nil {
				return usagef(cmd, "--from needs the client's address, such as 198.51.100.7")
			}
			var at netip.Addr
			if reached != "" {
				if at, err = netip.ParseAddr(reached); err != nil {
					return usagef(cmd, "--reached needs an address of the server, such as 192.168.1.5")
				}
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			return a.showPASV(cmd.Context(), cfg, client, at, host, asJSON)
		}}
	c.Flags().StringVar(&from, "from", "", "`ADDRESS` of the client as the server sees it")
	c.Flags().StringVar(&reached, "reached", "", "`ADDRESS` of the server the client connected to, as its socket has it (default: the one used towards the client)")
	c.Flags().StringVar(&host, "host", "", "`NAME` by which the client calls the server (HOST or TLS server name)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) showPASV(ctx context.Context, cfg *config.Config, client, at netip.Addr, name string, asJSON bool) error {
	var all []pasvAnswer
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		if l.Protocol == config.ProtocolSFTP {
			continue
		}
		all = append(all, pasvAnswer{l.Name, server.ExplainPASV(ctx, cfg, l, client, at, name)})
	}
	warned := false
	for i := range all {
		warned = warned || len(all[i].Decision.Warnings) > 0
	}
	if asJSON {
		if err := writeJSON(a.out, all); err != nil {
			return err
		}
	} else {
		for i := range all {
			if i > 0 && all[i].Decision.Text() == all[i-1].Decision.Text() {
				continue
			}
			fmt.Fprintf(a.out, "%s, client %s: %s", all[i].Listener, client, all[i].Decision.Text())
		}
	}
	if warned {
		return errFindings
	}
	return nil
}
