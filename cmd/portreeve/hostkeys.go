package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/server"
)

// hostKey is a host key for people and programs.
type hostKey struct {
	Type        string   `json:"type"`
	Fingerprint string   `json:"fingerprint"`
	Offered     bool     `json:"offered"` // to clients, under the crypto policy
	Line        string   `json:"line"`    // for known_hosts, behind the host's name
	SSHFP       []string `json:"sshfp"`   // resource records, behind the host's name
}

func (a *app) certHostKeys() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "hostkeys", Short: "Show the SSH host keys: fingerprints, lines for known_hosts and DNS", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			keys, err := hostKeysOf(cfg)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, keys)
			}
			return showHostKeys(a.out, keys, true)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// hostKeysOf returns the host keys of the first sftp listener, or those that
// it would have. Missing ones are made.
func hostKeysOf(cfg *config.Config) ([]hostKey, error) {
	var files []string
	for i := range cfg.Listen {
		if cfg.Listen[i].Protocol == config.ProtocolSFTP {
			files = cfg.Listen[i].HostKeys
			break
		}
	}
	keys, err := server.HostKeys(cfg.DataDir, files, cfg.Crypto().HostKeys)
	if err != nil {
		return nil, err
	}
	out := []hostKey{}
	for _, k := range keys {
		out = append(out, hostKey{Type: k.Type(), Fingerprint: k.Fingerprint(), Offered: k.Offered(cfg.Crypto().HostKeys), Line: k.Line(), SSHFP: k.SSHFP()})
	}
	return out, nil
}

func showHostKeys(w io.Writer, keys []hostKey, lines bool) error {
	rows := [][]string{{"TYPE", "FINGERPRINT", "CLIENTS"}}
	for _, k := range keys {
		offered := "see it"
		if !k.Offered {
			offered = "see it with sftp.compatible only"
		}
		rows = append(rows, []string{k.Type, k.Fingerprint, offered})
	}
	if err := table(w, rows); err != nil || !lines {
		return err
	}
	fmt.Fprintln(w, "\nFor ~/.ssh/known_hosts (put the server's name, or [name]:port, before each line):")
	for _, k := range keys {
		fmt.Fprintln(w, "  "+k.Line)
	}
	fmt.Fprintln(w, "\nFor the DNS zone, if it is signed (put the server's name before each line):")
	for _, k := range keys {
		for _, r := range k.SSHFP {
			fmt.Fprintln(w, "  IN "+r)
		}
	}
	return nil
}
