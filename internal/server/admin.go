package server

import (
	"crypto/tls"
	"net"

	"github.com/portreeve/portreeve/internal/config"
)

// AdminListener returns the socket of [admin] address and the TLS it is to
// speak, with the certificates of the server, which follow a reload. nil when
// no address is configured. Whoever serves it closes it; so does the server.
func (s *Server) AdminListener() (net.Listener, *tls.Config) {
	if s.adminLn == nil {
		return nil, nil
	}
	c := s.certs.TLS(config.Listen{Name: "admin", Protocol: config.ProtocolFTPS, TLS: config.Required}).Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.SessionTicketsDisabled = true // the keys of a clone would never be changed
	return s.adminLn, c
}
