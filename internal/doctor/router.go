package doctor

import (
	"context"
	"net/netip"
	"time"

	"github.com/portreeve/portreeve/internal/nat"
)

// AskRouter asks the router by NAT-PMP for its outer address. It maps nothing.
func AskRouter(ctx context.Context, gateway netip.Addr) nat.Uplink {
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	var u nat.Uplink
	a, err := (&nat.PortControl{Gateway: gateway}).External(ctx)
	if err == nil {
		u.WAN = a
	}
	u.Refused = nat.Refused(err)
	return u
}
