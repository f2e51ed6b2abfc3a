package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// The ports of a server without a file; they can be bound by anybody.
const (
	quickFTP  = "2121"
	quickFTPS = "2990"
	quickSFTP = "2022"
)

// QuickStart returns the configuration of a server without a file: FTP with
// TLS on port 2121, implicit FTPS on 2990 and SFTP on 2022, data under dir. Address is an IP
// address, optionally with the port for FTP; empty is the loopback. TLS is
// offered on loopback and required everywhere else. Env, as of os.Environ,
// overrides scalar keys as it does with a file.
func QuickStart(dir, address string, env ...string) (*Config, error) {
	host, port := address, quickFTP
	if h, p, err := net.SplitHostPort(address); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch host {
	case "", "localhost":
		host = "127.0.0.1"
	case "*":
		host = ""
	}
	policy := Required
	if host != "" {
		a, err := netip.ParseAddr(host)
		if err != nil {
			return nil, Errors{{File: "--address", Text: fmt.Sprintf("%q is not an IP address; write one of this machine's, 0.0.0.0 for all of IPv4, or * for all", clip(address))}}
		}
		if a.IsLoopback() {
			policy = Offered
		}
	}
	c := Default()
	c.src = source{at: map[string]position{}, origin: map[string]string{}}
	c.DataDir = dir
	c.Listen = []Listen{
		{Protocol: ProtocolFTP, Address: net.JoinHostPort(host, port), TLS: policy},
		{Protocol: ProtocolFTPS, Address: net.JoinHostPort(host, quickFTPS)},
		{Protocol: ProtocolSFTP, Address: net.JoinHostPort(host, quickSFTP)},
	}
	errs := c.applyEnv(env)
	errs = append(errs, c.finish(errs)...)
	if err := errs.err(); err != nil {
		return nil, err
	}
	return c, nil
}
