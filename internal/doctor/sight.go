package doctor

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/firewall"
)

// Sight is what a Portreeve server saw of this client (SITE DIAG).
type Sight struct {
	From      netip.AddrPort    `json:"from"`              // this client, as the server sees it
	Reached   netip.AddrPort    `json:"reached"`           // the server's end
	Ports     string            `json:"ports"`             // passive range
	Outside   string            `json:"outside,omitempty"` // their numbers outside, where a router gives them others
	Announced string            `json:"announced"`
	Active    bool              `json:"active"`
	Firewall  map[string]string `json:"firewall"` // of the server's machine, by purpose: open, closed, unknown, ...
	OthersOK  string            `json:"others_reached"`
	OthersBad string            `json:"others_unreached"`
	Data      []Seen            `json:"data"`
	Lines     []string          `json:"lines"`
}

// Seen is one data connection as the server recorded it.
type Seen struct {
	Mode      string         `json:"mode"`
	TLS       bool           `json:"tls"`
	Code      string         `json:"code"`
	Announced netip.AddrPort `json:"announced,omitzero"`
	Peer      netip.AddrPort `json:"peer,omitzero"`
	Target    netip.AddrPort `json:"target,omitzero"`
	Stranger  netip.AddrPort `json:"stranger,omitzero"`
	At        time.Time      `json:"at"`
}

// ask lets the server tell what it saw. Servers other than Portreeve refuse
// the command, which does no harm.
func (c *Client) ask(ctx context.Context, w way) {
	c.say("asking the server what it saw")
	time.Sleep(50 * time.Millisecond) // it notes the end of our connections after saying goodbye
	cl, _, _ := c.connect(ctx, w, ftp.DataEPSV, false)
	if cl == nil {
		return
	}
	defer cl.Close()
	if f, err := cl.Features(ctx); err == nil {
		for name, args := range f {
			c.feat += name + " " + args + "\n"
		}
	}
	r, err := cl.Cmd(ctx, "SITE DIAG")
	if err != nil || r.Code != 200 {
		return
	}
	c.rep.Server = parseSight(r.Lines)
	cl.Quit(ctx)
}

// parseSight reads the lines; what it does not know it leaves alone. It
// returns nil when they are not from a Portreeve server.
func parseSight(lines []string) *Sight {
	s := &Sight{Firewall: map[string]string{}}
	known := false
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) < 2 {
			continue
		}
		v := map[string]string{}
		for _, w := range f[1:] {
			key, value, ok := strings.Cut(w, "=")
			if ok {
				v[key] = value
			}
		}
		switch f[0] {
		case "you":
			s.From, s.Reached = parseAP(v["from"]), parseAP(v["reached"])
			known = s.From.IsValid()
		case "passive":
			s.Ports, s.Announced, s.Outside = v["ports"], v["announced"], v["outside"]
		case "active":
			s.Active = v["allowed"] == "true"
		case "firewall":
			s.Firewall[v["of"]] = v["state"]
			if v["code"] != "" {
				s.Firewall[v["of"]+" code"] = v["code"]
			}
		case "others":
			s.OthersOK, s.OthersBad = v["reached"], v["unreached"]
		case "data":
			at, _ := time.Parse(time.RFC3339Nano, v["at"]) // zero when unreadable
			s.Data = append(s.Data, Seen{Mode: v["mode"], TLS: v["tls"] == "true", Code: v["code"], At: at,
				Announced: parseAP(v["announced"]), Peer: parseAP(v["peer"]), Target: parseAP(v["target"]), Stranger: parseAP(v["stranger"])})
		default:
			continue
		}
		s.Lines = append(s.Lines, strings.TrimSpace(l))
	}
	if !known {
		return nil
	}
	return s
}

func parseAP(s string) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(s) // invalid when it is none
	return ap
}

// localRules are the rules of the machine the doctor runs on.
type localRules struct{ sets []firewall.RuleSet }

func readRules(ctx context.Context, read func(context.Context) []firewall.RuleSet) *localRules {
	rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return &localRules{read(rctx)}
}

// blocks reports a rule that certainly stops a connection; reason names it.
// Rules that cannot be read, as without root, block nothing.
func (l *localRules) blocks(out, v6 bool, port uint16) (reason string, yes bool) {
	if l == nil {
		return "", false
	}
	for _, s := range l.sets {
		if s.Err != nil {
			continue
		}
		if status, why, err := firewall.Passes(s.Format, s.Text, out, v6, port); err == nil && status == firewall.Closed {
			return why, true
		}
	}
	return "", false
}
