//go:build !linux

package doctor

import (
	"context"
	"net/netip"
	"time"
)

// traceTo needs Linux's error queue of sockets; elsewhere there is no trace.
func traceTo(context.Context, netip.AddrPort, time.Duration) (Trace, bool) { return Trace{}, false }
