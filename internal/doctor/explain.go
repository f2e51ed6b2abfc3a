package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/ports"
)

// topic is a question people ask, in several wordings.
type topic struct {
	question string
	words    [][]string // each list: one of its words must be in the question
	answer   func(*answerer) string
}

// topics are in the order in which they are tried: the special before the general.
var topics = []topic{
	{"What are ports 20 and 989 for?", [][]string{{"20", "989"}}, (*answerer).sourcePorts},
	{"What must my client's firewall open?", [][]string{{"client", "clients", "customer", "partner", "outgoing", "outbound"}, {"firewall", "open", "allow", "network"}}, (*answerer).clientFirewall},
	{"What must the server's firewall and router open?", [][]string{{"server", "router", "forward", "inbound", "incoming", "my"}, {"firewall", "open", "forward", "router", "nat"}}, (*answerer).serverFirewall},
	{"21 or 990?", [][]string{{"21", "explicit"}, {"990", "implicit"}}, (*answerer).explicitImplicit},
	{"Active or passive?", [][]string{{"active"}, {"passive"}}, (*answerer).activePassive},
	{"What is active mode?", [][]string{{"active", "port"}, {"mode", "command", "eprt"}}, (*answerer).activePassive},
	{"Why does the log-in work and the listing hang?", [][]string{{"hang", "hangs", "listing", "timeout", "list"}}, (*answerer).hangs},
	{"Is it FTPS or SFTP?", [][]string{{"sftp", "ssh", "22"}}, (*answerer).sftp},
	{"Which ports does passive mode use?", [][]string{{"passive", "pasv", "epsv", "data", "range"}}, (*answerer).passive},
	{"What is port 21 for?", [][]string{{"21"}}, (*answerer).explicitImplicit},
	{"What is port 990 for?", [][]string{{"990", "implicit"}}, (*answerer).explicitImplicit},
	{"Which ports does FTPS use?", [][]string{{"ftps", "tls", "ssl", "secure"}}, (*answerer).ftps},
	{"Which ports does this server use?", [][]string{{"port", "ports", "ftp", "open"}}, (*answerer).ports},
}

// Questions returns the questions Answer is sure to understand.
func Questions() []string {
	var out []string
	for _, t := range topics {
		if !slices.Contains(out, t.question) {
			out = append(out, t.question)
		}
	}
	return out
}

// Answer answers a question about ports for this very server, from its plan.
// understood is the question as it was taken; "" when it was not understood.
func Answer(question string, cfg *config.Config, plan *ports.Plan) (understood, text string) {
	words := strings.FieldsFunc(strings.ToLower(question), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	})
	for _, t := range topics {
		if strings.EqualFold(t.question, strings.TrimSpace(question)) {
			return t.question, t.answer(&answerer{cfg, plan})
		}
	}
	for _, t := range topics {
		if !slices.ContainsFunc(t.words, func(any []string) bool {
			return !slices.ContainsFunc(any, func(w string) bool { return slices.Contains(words, w) })
		}) {
			return t.question, t.answer(&answerer{cfg, plan})
		}
	}
	return "", ""
}

type answerer struct {
	cfg  *config.Config
	plan *ports.Plan
}

// control lists the control ports of a service.
func (a *answerer) control(service config.Protocol) []string {
	var out []string
	for i := range a.cfg.Listen {
		l := &a.cfg.Listen[i]
		if l.Protocol == service && l.Port() != 0 {
			if p := fmt.Sprint(l.Port()); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (a *answerer) explicit() []string {
	var out []string
	for i := range a.cfg.Listen {
		if l := &a.cfg.Listen[i]; l.Protocol == config.ProtocolFTP && l.TLS != config.Off && l.Port() != 0 {
			out = append(out, fmt.Sprint(l.Port()))
		}
	}
	return out
}

// data names the passive ports of clear or protected data connections, as
// those outside know them: "port 989", "ports 50000-50999".
func (a *answerer) data(tls bool) string {
	var all, outside []ports.PortRange
	shared := slices.ContainsFunc(a.plan.Flows, func(f ports.Flow) bool { return f.Shared })
	for i := range a.plan.Flows {
		f := &a.plan.Flows[i]
		if f.Purpose != ports.PassiveData || f.Shared && !tls {
			continue
		}
		if tls && shared && !f.Shared && a.cfg.FTP.Passive.SharedFallback != config.SharedRange {
			continue // only clear data takes the range
		}
		all = append(all, f.Internal.Ports)
		ext := f.Internal.Ports
		if n := len(f.External); n > 0 {
			ext = f.External[n-1].Ports
		}
		outside = append(outside, ext)
	}
	if len(all) == 0 {
		return "no port at all"
	}
	name := func(rs []ports.PortRange) string {
		rs = ports.MergeRanges(rs)
		if len(rs) == 1 && rs[0].Len() == 1 {
			return "port " + rs[0].String()
		}
		return "ports " + ports.JoinRanges(rs, "-", ", ")
	}
	s := name(all)
	if o := name(outside); o != s {
		s += " (" + o + " outside)"
	}
	return s
}

// clear and protected report whether data connections without and with TLS are possible.
func (a *answerer) clear() bool {
	return slices.ContainsFunc(a.cfg.Listen, func(l config.Listen) bool { return l.Protocol != config.ProtocolSFTP && l.DataTLS != config.Required })
}

func (a *answerer) protected() bool {
	return slices.ContainsFunc(a.cfg.Listen, func(l config.Listen) bool { return l.Protocol != config.ProtocolSFTP && l.DataTLS != config.Off })
}

// dataSentence says which ports data takes in passive mode, protected and not.
func (a *answerer) dataSentence() string {
	switch c, p := a.data(false), a.data(true); {
	case !a.protected():
		return c
	case !a.clear() || c == p:
		return p
	default:
		return p + " with TLS, " + c + " without"
	}
}

func or(list []string) string { return strings.Join(list, " or ") }

func (a *answerer) ports() string {
	return "This server uses:\n" + a.plan.Text()
}

func (a *answerer) ftps() string {
	var b strings.Builder
	if e := a.explicit(); len(e) > 0 {
		fmt.Fprintf(&b, "Explicit FTPS: commands on port %s (the client starts in the clear and sends AUTH TLS).\n", or(e))
	}
	if i := a.control(config.ProtocolFTPS); len(i) > 0 {
		fmt.Fprintf(&b, "Implicit FTPS: commands on port %s (TLS from the first byte).\n", or(i))
	}
	if b.Len() == 0 {
		return "None: no listener of this server offers TLS. Set tls = \"required\" on an ftp listener, or add one with protocol = \"ftps\".\n"
	}
	fmt.Fprintf(&b, "And one more connection for each listing and file. In passive mode, the usual one, the client opens it to %s on the server.\n", a.data(true))
	if s := a.sharedNote(); s != "" {
		b.WriteString(s)
	}
	b.WriteString(a.activeSentence())
	b.WriteString("So a firewall must permit control port " + strings.Join(append(a.explicit(), a.control(config.ProtocolFTPS)...), " or ") + " and data " + a.data(true) + ", all TCP. An FTP helper in the firewall cannot open the data ports by itself, because it cannot read the commands.\n")
	return b.String()
}

// sharedNote explains the one port of protected data, where there is one.
func (a *answerer) sharedNote() string {
	for i := range a.plan.Flows {
		if f := &a.plan.Flows[i]; f.Shared {
			return fmt.Sprintf("The protected data of all sessions arrives on port %s (ftp.passive.shared): clients do connect to it, and it must be open inbound. FTPS needs no range of ports for it.\n", f.Internal.Ports)
		}
	}
	return ""
}

func (a *answerer) activeSentence() string {
	if !a.cfg.FTP.Active {
		return "Active mode is switched off here.\n"
	}
	var src []string
	for i := range a.plan.Flows {
		f := &a.plan.Flows[i]
		if f.Purpose != ports.ActiveData {
			continue
		}
		name := "any port"
		if f.Internal.Ports.Len() == 1 {
			name = f.Internal.Ports.String()
			if len(src) == 0 {
				name = "its port " + name
			}
		}
		if !slices.Contains(src, name) {
			src = append(src, name)
		}
	}
	return "In active mode the server opens it instead, from " + or(src) + " to a port of the client's choice.\n"
}

func (a *answerer) explicitImplicit() string {
	var b strings.Builder
	e, i := a.explicit(), a.control(config.ProtocolFTPS)
	switch {
	case len(e) > 0 && len(i) > 0:
		fmt.Fprintf(&b, "Either. Port %s is explicit FTPS: the client begins in the clear and asks for TLS (AUTH TLS). Port %s is implicit FTPS: TLS from the first byte. They protect alike once TLS runs; a client must be set to the one whose port it uses.\n", or(e), or(i))
		fmt.Fprintf(&b, "Take port %s where clients support it: it is the standard (RFC 4217). Take port %s where a firewall with FTP inspection disturbs AUTH TLS.\n", or(e), or(i))
	case len(e) > 0:
		fmt.Fprintf(&b, "Port %s: this server offers explicit FTPS (AUTH TLS) there. It has no implicit listener; the customary port of one is 990.\n", or(e))
	case len(i) > 0:
		fmt.Fprintf(&b, "Port %s: this server offers implicit FTPS there. It has no listener with explicit TLS; the customary port of one is 21.\n", or(i))
	default:
		fmt.Fprintf(&b, "Port %s, and without TLS: no listener of this server offers it.\n", or(a.control(config.ProtocolFTP)))
	}
	fmt.Fprintf(&b, "The port tells how TLS begins, not how strong it is. Data takes other ports in any case: %s in passive mode.\n", a.dataSentence())
	return b.String()
}

func (a *answerer) sourcePorts() string {
	var b strings.Builder
	b.WriteString("They are source ports: the server uses them when it opens a data connection to the client, in active mode (20 belongs to control port 21, 989 to 990; in general control port minus 1). As source ports nobody connects to them, so they need no inbound rule anywhere on the server's side.\n")
	b.WriteString(a.activeSentence())
	fmt.Fprintf(&b, "In passive mode the client connects to %s.\n", a.dataSentence())
	b.WriteString(a.sharedNote())
	return b.String()
}

func (a *answerer) clientFirewall() string {
	return a.plan.ClientPage("")
}

func (a *answerer) serverFirewall() string {
	return a.plan.ServerPage()
}

func (a *answerer) passive() string {
	s := fmt.Sprintf("TCP %s on the server. For each listing and file the server names a port in its reply to PASV or EPSV, and the client connects to it. Every one of them must be open, and forwarded by a router in front.\n", a.dataSentence())
	return s + a.sharedNote()
}

func (a *answerer) activePassive() string {
	s := "Passive, in nearly all cases: the client opens both connections, so it works from behind firewalls and routers. Only the control connection is the client's in active mode; the data connection comes from the server, which clients behind a router cannot receive.\n"
	return s + fmt.Sprintf("Passive here: %s.\n", a.dataSentence()) + a.activeSentence()
}

func (a *answerer) hangs() string {
	return fmt.Sprintf("Because the listing needs a second connection, to %s in passive mode, and something stops it: a firewall on either side, a router that does not forward these ports, or an address in the reply to PASV that the client cannot reach.\n", a.dataSentence()) +
		"\"portreeve doctor\" on the server and \"portreeve doctor ftp://HOST\" on the client find out which.\n"
}

func (a *answerer) sftp() string {
	s := "FTPS is FTP with TLS, SFTP is file transfer over SSH: two protocols that do not understand each other.\n"
	if p := a.control(config.ProtocolSFTP); len(p) > 0 {
		return s + fmt.Sprintf("This server speaks SFTP on port %s, commands and data on that one port. FTPS does not use it.\n", or(p))
	}
	return s + "This server has no SFTP listener; FTPS does not use port 22.\n"
}
