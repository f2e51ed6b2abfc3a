package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

func (c *Client) resolve(ctx context.Context) bool {
	rctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	as, err := net.DefaultResolver.LookupNetIP(rctx, "ip", c.host)
	if err != nil {
		c.rep.Findings = append(c.rep.Findings, finding("NAME_UNKNOWN", Error, c.fill(), "%v", err))
		return false
	}
	for _, a := range as { // one of each family is enough to tell
		a = a.Unmap()
		if !slices.ContainsFunc(c.addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			c.addrs = append(c.addrs, a)
		}
	}
	slices.SortFunc(c.addrs, func(a, b netip.Addr) int { return a.Compare(b) }) // IPv4 first
	return true
}

// knock looks at the control ports of each address: the one that is asked for
// alone, since something may count connections, and then the others at once.
func (c *Client) knock(ctx context.Context) {
	type job struct {
		addr netip.Addr
		port uint16
	}
	var jobs []job
	for _, a := range c.addrs {
		seen := map[uint16]bool{}
		for _, p := range []uint16{c.opt.PlainPort, c.opt.ImplicitPort, 21, 990, 2121, 22} {
			if !seen[p] {
				seen[p] = true
				jobs = append(jobs, job{a, p})
			}
		}
	}
	c.say("looking at the control ports of %s", c.host)
	doors := make([]Door, len(jobs))
	for _, first := range []bool{true, false} {
		var wg sync.WaitGroup
		for i, j := range jobs {
			if (j.port == c.port) == first {
				wg.Go(func() { doors[i] = c.look(ctx, j.addr, j.port) })
			}
		}
		wg.Wait()
	}
	c.rep.Doors = doors
}

// look connects once and reads what is said first.
func (c *Client) look(ctx context.Context, a netip.Addr, port uint16) Door {
	d := Door{Family: way{addr: a}.family(), Addr: netip.AddrPortFrom(a, port).String(), Says: "silent", addr: a, port: port}
	begin := time.Now()
	nd := net.Dialer{Timeout: c.opt.Timeout, KeepAlive: -1}
	nc, err := nd.DialContext(ctx, "tcp", d.Addr)
	d.Took = time.Since(begin)
	if err != nil {
		var p Probe
		p.fail(err, &recording{})
		d.Outcome, d.Error, d.Says = p.Outcome, p.Error, ""
		return d
	}
	defer nc.Close()
	d.Outcome = OK
	wait := 3 * time.Second
	if port == c.opt.ImplicitPort || port == 990 {
		wait = 300 * time.Millisecond // such a port waits for us
	}
	nc.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 512)
	n, err := nc.Read(buf)
	first, _, _ := strings.Cut(string(buf[:n]), "\n")
	d.Banner = strings.ToValidUTF8(strings.TrimSpace(first), "?")
	switch {
	case strings.HasPrefix(d.Banner, "220"), strings.HasPrefix(d.Banner, "120"), strings.HasPrefix(d.Banner, "421"):
		d.Says = "ftp"
	case strings.HasPrefix(d.Banner, "SSH-"):
		d.Says = "ssh"
	case n > 0:
		d.Says = "other"
	case err != nil && !isTimeout(err):
		d.Says = "closed"
	}
	return d
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (c *Client) door(a netip.Addr, port uint16) Door {
	for _, d := range c.rep.Doors {
		if d.addr == a && d.port == port {
			return d
		}
	}
	return Door{}
}
