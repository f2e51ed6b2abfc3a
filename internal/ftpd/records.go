package ftpd

import (
	"crypto/tls"
	"net"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/tlsrec"
)

// Records has internal/tlsrec make the records of data connections. wide asks
// for 512-bit registers, which must be there (tlsrec.Wide).
func Records(wide bool) ftp.Records {
	return func() ftp.Handover { return &handover{wide: wide} }
}

// handover is one handshake that tlsrec may take over.
type handover struct {
	secrets tlsrec.Secrets
	wide    bool
}

// Watch catches the secrets. A configuration that logs them elsewhere keeps its log.
func (h *handover) Watch(cfg *tls.Config) {
	if cfg.KeyLogWriter != nil {
		return
	}
	cfg.KeyLogWriter = &h.secrets
	wrap := cfg.WrapSession
	if wrap == nil {
		wrap = cfg.EncryptTicket
	}
	cfg.WrapSession = h.secrets.Count(wrap)
}

func (h *handover) Take(raw net.Conn, cs tls.ConnectionState, read []byte) ftp.RecordConn {
	if !h.secrets.Fits(cs) {
		return nil
	}
	return tlsrec.New(raw, cs, &h.secrets, read, h.wide)
}

func (h *handover) Drop() { h.secrets.Wipe() }
