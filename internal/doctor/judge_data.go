package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// judgeConnected explains passive connections that come about and are of no use.
func (c *Client) judgeConnected(s *passive) []Finding {
	best := 0
	for _, p := range s.fine {
		best = max(best, p.Bytes)
	}
	for _, p := range s.probes {
		if p.Outcome == OK && (p.Bytes > 0 || best == 0) || p.dataLost() || p.Outcome == Untrusted {
			continue
		}
		text := strings.ToLower(p.Text)
		stranger := c.stranger()
		switch {
		case stranger.IsValid() && p.Outcome == Rejected:
			return []Finding{c.otherSource(p, stranger)}
		case p.Outcome == Rejected && p.Reply == 425 && (strings.Contains(text, "bad ip") || strings.Contains(text, "another address") || strings.Contains(text, "ip address mismatch")):
			return []Finding{c.otherSource(p, netip.Addr{})}
		case p.Outcome == Rejected && p.Reply == 522, p.Outcome == Rejected && strings.Contains(text, "session reuse"):
			return []Finding{finding("TLS_REUSE_REQUIRED", Error, c.fill(), "%d %s", p.Reply, p.Text)}
		case p.Outcome == Rejected && p.Reply == 425, p.Outcome == NoReply, p.Outcome == Empty, p.Outcome == OK:
			f := finding("LB_WRONG_NODE", Error, c.fillRange(), "the data connection to %s is accepted, but the server does not have it (%s %s)", p.Announced, strings.TrimPrefix(strconv.Itoa(p.Reply), "0"), p.Text)
			f.Could = []string{"LB_WRONG_NODE", "DOCKER_PUBLISH", "LB_SOURCE_CHECK"}
			if c.rep.Server != nil && c.serverSaw("PR-D01") {
				f.Could = []string{"LB_WRONG_NODE", "DOCKER_PUBLISH"}
			}
			return []Finding{f}
		case p.Outcome == Stalled:
			return []Finding{finding("MTU_BLACKHOLE", Error, c.fill(), "the data connection is there, the bytes of the listing do not arrive")}
		case p.Outcome == BadTLS:
			f := finding("TLS_DATA", Error, c.fill(), "%s", p.Error)
			if strings.Contains(p.Error, "deadline") || strings.Contains(p.Error, "timeout") {
				f = finding("MTU_BLACKHOLE", Error, c.fill(), "the data connection is there, its TLS handshake gets no answer: %s", p.Error)
				f.Could = []string{"MTU_BLACKHOLE", "TLS_DATA"}
			}
			return []Finding{f}
		case p.Outcome == Rejected:
			return []Finding{finding("LIST_FAILED", Error, c.fill(), "%s %s: %d %s", p.Security, p.Mode, p.Reply, p.Text)}
		}
	}
	return nil
}

func (c *Client) serverSaw(code string) bool {
	return slices.ContainsFunc(c.rep.Server.Data, func(d Seen) bool { return d.Code == code })
}

// stranger is the address that the server turned away although it was ours.
func (c *Client) stranger() netip.Addr {
	if c.rep.Server != nil {
		for _, d := range c.rep.Server.Data {
			if d.Code == "PR-D02" && d.Stranger.IsValid() {
				return d.Stranger.Addr()
			}
		}
	}
	return netip.Addr{}
}

func (c *Client) otherSource(p *Probe, stranger netip.Addr) Finding {
	f := finding("SOURCE_MISMATCH", Error, c.fill(), "the server turns the data connection away, because it comes from another address than the control connection: %d %s", p.Reply, p.Text)
	if !stranger.IsValid() {
		f.Could = []string{"SOURCE_MISMATCH", "LB_SOURCE_CHECK"}
		return f
	}
	from := c.rep.Server.From.Addr()
	if isPrivate(from) && !isPrivate(stranger) && !isPrivate(p.Peer.Addr()) {
		return finding("LB_HIDES_CLIENT", Error, c.fill(), "the server sees the control connection from %s, an address of its own side, and the data connection from %s: what passes the control connection on hides this client's address", from, stranger)
	}
	if isPrivate(stranger) && !isPrivate(from) || isPrivate(stranger) && !isPrivate(p.Peer.Addr()) {
		f = finding("LB_SOURCE_CHECK", Error, c.fill(), "the server sees the control connection from %s and the data connection from %s, an address of its own side", from, stranger)
		return f
	}
	f.Evidence = append(f.Evidence, fmt.Sprintf("control from %s, data from %s", from, stranger))
	return f
}

// judgeReuse tells what the server thinks of TLS session reuse.
func (c *Client) judgeReuse(fam string) []Finding {
	if c.fresh != nil && c.fresh.Family == fam && c.fresh.Outcome == Rejected && (c.fresh.Stage == AtTransfer || c.fresh.Stage == AtData) {
		return []Finding{finding("TLS_REUSE_REQUIRED", Note, c.fill(), "without resuming the TLS session a data connection is refused: %d %s", c.fresh.Reply, c.fresh.Text)}
	}
	for _, p := range c.all(func(p *Probe) bool { return p.Family == fam && p.Security != Plain && p.Outcome == OK && p.Mode != "" }) {
		if p.Resumed {
			return nil
		}
	}
	if len(c.all(func(p *Probe) bool { return p.Family == fam && p.Security != Plain && p.Outcome == OK })) > 0 {
		return []Finding{finding("TLS_NO_RESUME", Note, c.fill(), "no data connection resumed the TLS session of its control connection: each costs a full handshake, and nothing proves that both come from the same client")}
	}
	return nil
}
