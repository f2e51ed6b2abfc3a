package server

import (
	"errors"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/config"
)

// openShared binds the one port for protected data connections, if one is configured.
func (s *Server) openShared(cfg *config.Config) error {
	p := &cfg.FTP.Passive
	if p.Shared == "" {
		return nil
	}
	entry := config.Listen{Name: "ftp.passive.shared", Protocol: config.ProtocolFTPS, Address: p.Shared}
	lns, err := bindAll([]config.Listen{entry}, nil)
	if err != nil {
		return err
	}
	s.shared = &ftp.SharedPort{Port: addrOf(lns[0].Addr()).Port(), Logger: s.log}
	switch p.SharedFallback {
	case config.SharedRange:
		s.shared.Fallback = ftp.FallbackRange
	case config.SharedRefuse:
		s.shared.Fallback = ftp.FallbackRefuse
	}
	s.bg.Go(func() {
		if err := s.shared.Serve(lns[0]); !errors.Is(err, ftp.ErrServerClosed) {
			s.log.Error("the shared data port stopped serving", "address", p.Shared, "err", err)
		}
	})
	return nil
}
