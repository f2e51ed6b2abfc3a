package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/certs"
	"github.com/portreeve/portreeve/internal/config"
)

func (a *app) certCommand() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "See the certificates", Args: cobra.ArbitraryArgs, RunE: group}
	var asJSON bool
	show := &cobra.Command{Use: "show", Short: "Show the certificates: names, fingerprint, end", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cs, err := a.certificates(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, cs)
			}
			return showCertificates(a.out, cs, time.Now())
		}}
	show.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(show, a.certHostKeys())
	return c
}

// certificates asks the running server what it serves; without one it reads
// what the next start would serve.
func (a *app) certificates(ctx context.Context) ([]api.Certificate, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	running, err := probe(ctx, cfg.DataDir, cfg.Admin.Socket)
	if err != nil {
		return nil, err
	}
	if running {
		cl := api.NewClient(cfg.Admin.Socket)
		defer cl.Close()
		st, err := cl.Status(ctx)
		return st.Certificates, err
	}
	if cfg.TLS.Cert == "" && len(cfg.TLS.Certificates) == 0 && !exists(filepath.Join(cfg.DataDir, "tls")) {
		return nil, errors.New("there is no certificate yet; the first start of the server makes a self-signed one")
	}
	return certificatesOf(cfg)
}

// certificatesOf opens the certificates of cfg, which makes the self-signed
// one where none is named.
func certificatesOf(cfg *config.Config) ([]api.Certificate, error) {
	cs, err := certs.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	out := []api.Certificate{}
	for _, d := range cs.Describe() {
		out = append(out, api.Certificate{Names: d.Names, Fingerprint: d.Fingerprint, NotAfter: d.NotAfter, SelfSigned: d.SelfSigned, Source: d.Source})
	}
	return out, nil
}

func showCertificates(w io.Writer, cs []api.Certificate, now time.Time) error {
	for i, c := range cs {
		if i > 0 {
			fmt.Fprintln(w)
		}
		kind := "issued by an authority"
		if c.SelfSigned {
			kind = "self-signed"
		}
		err := table(w, [][]string{
			{"names:", strings.Join(c.Names, ", ")}, {"source:", c.Source}, {"kind:", kind},
			{"ends:", ends(c.NotAfter, now)}, {"SHA-256:", c.Fingerprint},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ends(t, now time.Time) string {
	left := t.Sub(now)
	if left < 0 {
		return when(t) + " (it has expired)"
	}
	return fmt.Sprintf("%s (in %s)", when(t), count(int(left.Hours()/24), "day"))
}
