package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// FindMapper finds out which protocol the router speaks: PCP or NAT-PMP, which
// cost one packet, and then UPnP. uplink is what is known of the way to the
// Internet from the answers; Local and Seen are the caller's. The error names
// what each protocol said. A router that refuses is found as well, since its
// refusal may pass; secret makes PCP mappings survive a restart (see
// PortControl.Secret).
func FindMapper(ctx context.Context, gateway netip.Addr, secret []byte) (Mapper, Uplink, error) {
	pc := &PortControl{Gateway: gateway, Secret: secret}
	return findMapper(ctx, pc, func(ctx context.Context) (Mapper, error) {
		u, err := FindUPnP(ctx, gateway)
		if err != nil {
			return nil, err
		}
		return u, nil
	})
}

func findMapper(ctx context.Context, pc *PortControl, upnp func(context.Context) (Mapper, error)) (Mapper, Uplink, error) {
	var up Uplink
	actx, cancel := context.WithTimeout(ctx, 3*time.Second)
	a, err := pc.External(actx)
	cancel()
	switch {
	case err == nil:
		up.WAN = a
		return pc, up, nil
	case Refused(err):
		up.Refused = true
	}
	uctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	u, uerr := upnp(uctx)
	if uerr == nil {
		if a, xerr := u.External(uctx); xerr == nil {
			up.WAN, up.Refused = a, false
		} else {
			up.Refused = up.Refused || Refused(xerr)
		}
		return u, up, nil
	}
	if up.Refused {
		return pc, up, nil
	}
	if ctx.Err() != nil {
		return nil, up, ctx.Err()
	}
	var r *RefusedError
	if errors.As(err, &r) { // a PCP router that knows no NAT-PMP
		return pc, up, nil
	}
	return nil, up, fmt.Errorf("nat: the router %s lets no program open ports; switch UPnP or NAT-PMP on in it, or forward the ports by hand: %w", pc.Gateway, errors.Join(err, uerr))
}
