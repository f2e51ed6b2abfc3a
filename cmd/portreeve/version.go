package main

import (
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the release build (-ldflags "-X main.release=1.2.3").
var release string

// buildInfo is the answer of version --json.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	FIPS     string `json:"fips140,omitempty"` // the version of Go's module in FIPS 140-3 mode
}

func build() buildInfo {
	b := buildInfo{Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if fips140.Enabled() {
		b.FIPS = fips140.Version()
	}
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			b := build()
			if asJSON {
				return writeJSON(a.out, b)
			}
			text := fmt.Sprintf("portreeve %s (%s, %s", b.Version, b.Go, b.Platform)
			if b.Revision != "" {
				text += ", revision " + b.Revision
			}
			if b.FIPS != "" {
				text += ", FIPS 140-3 module " + b.FIPS
			}
			fmt.Fprintln(a.out, text+")")
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
