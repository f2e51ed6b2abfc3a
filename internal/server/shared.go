package server

import (
	"errors"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/config"
)

// bindShared binds the one port for protected data connections, if one is
// configured, or takes it over from the process before this one.
func (s *Server) bindShared(cfg *config.Config, in *inheritance) error {
	p := &cfg.FTP.Passive
	if p.Shared == "" {
		return nil
	}
	entry := config.Listen{Name: "ftp.passive.shared", Protocol: config.ProtocolFTPS, Address: p.Shared}
	lns, err := bindAll([]config.Listen{entry}, in)
	if err != nil {
		return err
	}
	s.sharedLn = lns[0]
	return nil
}

// openShared begins to serve the shared port.
func (s *Server) openShared(cfg *config.Config) {
	if s.sharedLn == nil {
		return
	}
	p := &cfg.FTP.Passive
	s.shared = &ftp.SharedPort{Port: addrOf(s.sharedLn.Addr()).Port(), Logger: s.log}
	switch p.SharedFallback {
	case config.SharedRange:
		s.shared.Fallback = ftp.FallbackRange
	case config.SharedRefuse:
		s.shared.Fallback = ftp.FallbackRefuse
	}
	if s.came != nil {
		return // Run, when the way to the old process is open: its connections come here, too
	}
	s.serveShared()
}

func (s *Server) serveShared() {
	s.bg.Go(func() {
		if err := s.shared.Serve(s.sharedLn); !errors.Is(err, ftp.ErrServerClosed) {
			s.log.Error("the shared data port stopped serving", "address", s.sharedLn.Addr(), "err", err)
		}
	})
}
