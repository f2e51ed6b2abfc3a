// Package ports owns which ports the server uses: the port plan compiled from
// the configuration and the pool that leases passive ports to FTP sessions.
//
// It does not decide which address a client is told (package nat), does not
// write firewall rules (package firewall), and does not check who connects to
// a leased port: that is the engine's, which knows the control connection.
package ports
