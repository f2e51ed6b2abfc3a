package server

import (
	"log/slog"

	"github.com/portreeve/portreeve/internal/config"
)

// QuickOptions say where a server without a configuration file lives.
type QuickOptions struct {
	Dir     string // data directory; default "portreeve-data" in the working directory
	Address string // IP address to listen on; default 127.0.0.1. Any other than a loopback one requires TLS.
	Log     *slog.Logger
}

// Quick is what there is to tell about a quick start.
type Quick struct {
	Config   *config.Config // for New
	Dir      string         // data directory, absolute
	Home     string         // where the account's files are, absolute
	User     string         // the first account
	Password string         // only when the account was made just now
	Ports    []QuickPort
	Passive  string   // "50000-50099"
	CA       string   // certificate file for clients, absolute
	Curl     string   // one line to copy; it names the password, or "YOUR-PASSWORD" when it is not known
	Notes    []string // sentences: ports that were taken, how to reset the password
}

// QuickPort is one port of a quick start.
type QuickPort struct {
	Address string // "127.0.0.1:2121"
	What    string // "FTP, with TLS on request (AUTH TLS)"
}

// QuickStart prepares a data directory with a first account and returns the
// configuration to run. It starts nothing.
func QuickStart(o QuickOptions) (*Quick, error) { panic("coming") }
