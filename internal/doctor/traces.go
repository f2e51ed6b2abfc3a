package doctor

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// traces follows the way to the control port and to a passive port that failed.
func (c *Client) traces(ctx context.Context) {
	const wait = 700 * time.Millisecond
	for _, a := range c.addrs {
		fam := way{addr: a}.family()
		lost := slices.IndexFunc(c.rep.Probes, func(p Probe) bool { return p.Family == fam && p.dataLost() })
		dead := -1
		open := -1
		for i, d := range c.rep.Doors {
			if d.addr != a {
				continue
			}
			if d.Outcome == OK && open < 0 {
				open = i
			}
			if d.port == c.port && d.Outcome != OK {
				dead = i
			}
		}
		if lost < 0 && dead < 0 {
			continue
		}
		c.say("following the packets to %s", a)
		if open >= 0 {
			c.trace(ctx, netip.AddrPortFrom(a, c.rep.Doors[open].port), wait)
		}
		if dead >= 0 {
			c.trace(ctx, netip.AddrPortFrom(a, c.rep.Doors[dead].port), wait)
		}
		if lost >= 0 {
			p := &c.rep.Probes[lost]
			to := netip.AddrPortFrom(a, p.Announced.Port())
			w := way{a, p.Peer.Port(), p.Security}
			if cl, _, _ := c.connect(ctx, w, ftp.DataEPSV, false); cl != nil { // a port that is open meanwhile
				for _, cmd := range []string{"EPSV", "PASV"} {
					r, err := cl.Cmd(ctx, cmd)
					if err != nil {
						break
					}
					if port, err := ftp.ParseEPSVReply(r.Text); err == nil && r.Code == 229 {
						to = netip.AddrPortFrom(a, port)
						break
					}
					if ap, err := ftp.ParsePASVReply(r.Text); err == nil && r.Code == 227 {
						to = netip.AddrPortFrom(a, ap.Port())
						break
					}
				}
				c.trace(ctx, to, wait)
				cl.Close()
			} else {
				c.trace(ctx, to, wait)
			}
		}
	}
}

func (c *Client) trace(ctx context.Context, to netip.AddrPort, wait time.Duration) {
	if t, ok := traceTo(ctx, to, wait); ok && len(t.Hops) > 0 {
		c.rep.Traces = append(c.rep.Traces, t)
	}
}
