package doctor

import (
	"context"
	"slices"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// watchIdle opens the quiet control connection, once.
func (c *Client) watchIdle(ctx context.Context, w way) {
	if c.idle != nil || c.opt.Idle < 0 {
		return
	}
	if cl, _, _ := c.connect(ctx, w, ftp.DataEPSV, false); cl != nil {
		c.idle, c.idleSince, c.idleSec = cl, time.Now(), w.sec
	}
}

// finishIdle sees whether the quiet connection still lives.
func (c *Client) finishIdle(ctx context.Context) {
	if c.idle == nil {
		return
	}
	defer c.idle.Close()
	if left := c.opt.Idle - time.Since(c.idleSince); left > 0 {
		c.say("watching a quiet connection for %s", left.Round(time.Second))
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
	c.idleDied = time.Since(c.idleSince)
	nctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	if err := c.idle.Noop(nctx); err != nil {
		c.idleErr = err
		return
	}
	c.idle.Quit(nctx)
}

// best returns the first way whose log-in works, protected ones first.
func (c *Client) best() (way, bool) {
	var out []way
	for _, sec := range []Security{Explicit, Implicit, Plain} {
		for _, p := range c.rep.Probes {
			if p.Security == sec && p.Peer.IsValid() && !slices.Contains([]Stage{AtConnect, AtBanner, AtTLS, AtAuth, AtLogin}, p.Stage) {
				out = append(out, way{p.Peer.Addr(), p.Peer.Port(), sec})
			}
		}
	}
	if len(out) == 0 {
		return way{}, false
	}
	return out[0], true
}

// rounds are repeated passive data connections, to find what is intermittent.
type rounds struct {
	quick, slow []Probe
}

// again repeats EPSV, or PASV where only that works, if passive mode works at
// all or did so in part.
func (c *Client) again(ctx context.Context, w way) {
	var mode ftp.DataMode
	found := false
	for _, p := range c.rep.Probes {
		if p.passive() && p.Outcome == OK && p.Family == w.family() {
			if w.sec != p.Security && !found {
				w.sec, w.port = p.Security, p.Peer.Port()
			}
			if !found || p.Mode == "EPSV" {
				mode = map[string]ftp.DataMode{"EPSV": ftp.DataEPSV, "PASV": ftp.DataPASV}[p.Mode]
			}
			found = found || p.Security == w.sec
		}
	}
	if mode == ftp.DataAuto {
		return
	}
	c.confirm(ctx)
	c.say("repeating %s, %s", w.sec, modeNames[mode])
	c.rounds.quick = c.burst(ctx, w, mode, 8, 0)
	if slices.ContainsFunc(c.rounds.quick, func(p Probe) bool { return p.dataLost() }) {
		c.say("repeating slowly")
		c.rounds.slow = c.burst(ctx, w, mode, 5, 2*time.Second)
	}
}

// confirm repeats one lost passive probe of each way, so that a single bad port
// is not taken for a rule.
func (c *Client) confirm(ctx context.Context) {
	seen := map[string]bool{}
	for _, p := range c.all(func(p *Probe) bool { return p.dataLost() }) {
		key := p.Family + string(p.Security)
		if seen[key] || p.Announced.Addr() != p.Peer.Addr() {
			continue
		}
		seen[key] = true
		mode := map[string]ftp.DataMode{"EPSV": ftp.DataEPSV, "PASV": ftp.DataPASV}[p.Mode]
		c.say("%s, %s, %s once more", p.Family, p.Security, p.Mode)
		again := c.probe(ctx, way{p.Peer.Addr(), p.Peer.Port(), p.Security}, mode, false)
		c.flaky = c.flaky || again.Outcome == OK
	}
	for _, p := range c.rep.Probes {
		if p.Security == Explicit && p.Mode == "EPSV" && p.Outcome == OK && c.fresh == nil {
			f := c.probe(ctx, way{p.Peer.Addr(), p.Peer.Port(), p.Security}, ftp.DataEPSV, true)
			c.fresh = &f
		}
	}
}

// burst runs n listings on one control connection, or on new ones after failures.
func (c *Client) burst(ctx context.Context, w way, mode ftp.DataMode, n int, pause time.Duration) []Probe {
	var out []Probe
	var cl *ftp.Client
	var rec *recording
	var base Probe
	lost := 0
	for range n {
		if ctx.Err() != nil || lost == 3 {
			break
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
		if cl == nil {
			if cl, rec, base = c.connect(ctx, w, mode, false); cl == nil {
				break
			}
		}
		rec.mu.Lock()
		rec.dials = rec.dials[:1]
		rec.mu.Unlock()
		p := base
		p.Mode = modeNames[mode]
		bytes, err := list(ctx, cl)
		p.transfer(bytes, err, cl, rec)
		out = append(out, p)
		if err != nil {
			lost++
			if p.Outcome != Timeout && p.Outcome != Refused && p.Outcome != Unreachable {
				cl.Close()
				cl = nil
			}
		}
	}
	if cl != nil {
		qctx, cancel := context.WithTimeout(ctx, time.Second)
		cl.Quit(qctx)
		cancel()
		cl.Close()
	}
	return out
}
