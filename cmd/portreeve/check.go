package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/certs"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/server"
)

// plan compiles the port plan of cfg on this machine. Ports that its own
// running server listens on are not taken.
func plan(cfg *config.Config) ports.Plan {
	facts := ports.Host().Facts()
	if server.HolderOf(cfg.DataDir) != 0 {
		facts.Listening = nil
	}
	return ports.Compile(cfg, facts)
}

// finding is one line of check in JSON.
type finding struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
}

func findings(es config.Errors) []finding {
	out := []finding{}
	for _, e := range es {
		out = append(out, finding{e.File, e.Line, e.Col, e.Key, e.Text})
	}
	return out
}

// checked is the answer of check --json.
type checked struct {
	File     string      `json:"file"`
	Good     bool        `json:"good"` // no mistake and no finding of severity error
	Errors   []finding   `json:"errors"`
	Warnings []finding   `json:"warnings"`
	Crypto   string      `json:"crypto_policy,omitempty"` // in force; absent with errors
	Plan     *ports.Plan `json:"plan,omitempty"`          // absent with errors
}

func (a *app) checkCommand() *cobra.Command {
	var asJSON, crypto bool
	c := &cobra.Command{Use: "check [FILE]", Short: "Check a configuration file and show the ports it opens", Args: args("[FILE]"),
		Long: `Check a configuration file without starting anything, and the certificates it
names. All mistakes are listed, each with file and line; then the exit code is 1. It is 3 when the file is
well-formed but cannot work on this machine.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			file := a.configFile()
			if len(files) == 1 {
				file = files[0]
			}
			if file == "" {
				return errNoConfig
			}
			cfg, err := config.Load(file, a.env, nil)
			var mistakes config.Errors
			if err != nil && !errors.As(err, &mistakes) {
				return err
			}
			if cfg != nil {
				mistakes = append(certificateMistakes(cfg, file), countryMistakes(cfg, file)...)
				if err = nil; len(mistakes) > 0 {
					cfg, err = nil, mistakes
				}
			}
			if asJSON {
				return a.checkJSON(file, cfg, mistakes)
			}
			if err != nil {
				fmt.Fprintln(a.out, err)
				fmt.Fprintf(a.err, "portreeve: %s has %s\n", plain(file), count(len(mistakes), "mistake"))
				return errQuiet
			}
			if crypto {
				return showCrypto(a.out, cfg)
			}
			return showPlan(a.out, file, cfg)
		}}
	c.Flags().BoolVar(&crypto, "crypto", false, "list the algorithms of the crypto policies instead")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// certificateMistakes reads the certificates that the file names, as a start
// does. Without any nothing is read, since that would make one; and a key that
// only the server's user may read is no mistake of the file.
func certificateMistakes(cfg *config.Config, file string) config.Errors {
	if cfg.TLS.Cert == "" && len(cfg.TLS.Certificates) == 0 && cfg.TLS.ClientCA == "" {
		return nil
	}
	own := *cfg
	own.Listen, own.Admin.Address = nil, "" // they ask for a self-signed one
	own.TLS.ACME = config.ACME{}
	_, err := certs.Open(&own, slog.New(slog.DiscardHandler))
	each := []error{err}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		each = all.Unwrap()
	}
	var out config.Errors
	for _, e := range each {
		if e != nil && !errors.Is(e, fs.ErrPermission) {
			out = append(out, config.Error{File: file, Key: "tls", Text: e.Error()})
		}
	}
	return out
}

// countryMistakes reads the database of countries as a start does.
func countryMistakes(cfg *config.Config, file string) config.Errors {
	if cfg.GeoIP.Database == "" {
		return nil
	}
	if _, err := limits.OpenAtlas(cfg.GeoIP.Database); err != nil && !errors.Is(err, fs.ErrPermission) {
		return config.Errors{{File: file, Key: "geoip.database", Text: err.Error()}}
	}
	return nil
}

func (a *app) checkJSON(file string, cfg *config.Config, mistakes config.Errors) error {
	v := checked{File: file, Errors: findings(mistakes), Warnings: []finding{}}
	result := errQuiet
	if cfg != nil {
		p := plan(cfg)
		v.Warnings, v.Plan = findings(cfg.Warnings()), &p
		v.Crypto = string(cfg.Crypto().Name)
		result = verdict(&p)
		v.Good = result == nil
	}
	if err := writeJSON(a.out, v); err != nil {
		return err
	}
	return result
}

// errFindings ends with exit code 3 after the findings have been printed.
var errFindings = errors.New("findings")

// verdict is errFindings when the plan cannot work on this machine.
func verdict(p *ports.Plan) error {
	if p.Worst() == ports.Error {
		return errFindings
	}
	return nil
}

func showPlan(w io.Writer, file string, cfg *config.Config) error {
	for _, m := range cfg.Warnings() {
		fmt.Fprintln(w, "warning:", m)
	}
	p := plan(cfg)
	fmt.Fprintf(w, "%s is well-formed. Crypto policy: %s. What it needs:\n\n%s", plain(file), cfg.Crypto().Name, p.Text())
	return verdict(&p)
}

// showCrypto lists every policy; the one in force comes first, with what other
// keys have changed in it.
func showCrypto(w io.Writer, cfg *config.Config) error {
	own := cfg.Crypto()
	fmt.Fprintf(w, "%s (in force)\n%s", own.Name, own.Text())
	for _, n := range config.CryptoNames() {
		if n != own.Name {
			other := config.Default()
			other.CryptoPolicy = n
			fmt.Fprintf(w, "\n%s\n%s", n, other.Crypto().Text())
		}
	}
	return nil
}
