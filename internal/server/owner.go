package server

import (
	"fmt"
	"os"

	"github.com/portreeve/portreeve/internal/ports"
)

// portOwner describes who listens on a TCP port, as far as this process may
// see: "process nginx (pid 812)", or "" when nothing seems to listen there. It
// looks at every process and is meant for error messages only.
func portOwner(port uint16) string {
	return ownerAmong(ports.Host().Facts().Listening, port, os.Getpid())
}

func ownerAmong(listening []ports.Listener, port uint16, self int) string {
	text := ""
	for _, l := range listening {
		switch {
		case l.Addr.Port() != port:
		case l.PID == self:
			return fmt.Sprintf("this process itself (pid %d)", self)
		case l.PID > 0:
			return fmt.Sprintf("process %s (pid %d)", l.Owner, l.PID)
		default:
			text = "a process that only root may see"
		}
	}
	return text
}
