package ports

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Topic is a question that Explain answers.
type Topic struct {
	Name     string
	Question string
	answer   func(*answerer)
}

var topics = []Topic{
	{"ftp", "Which ports does plain FTP use?", (*answerer).ftp},
	{"ftps", "Which ports does FTPS use?", (*answerer).ftps},
	{"sftp", "Which port does SFTP use?", (*answerer).sftp},
	{"21-or-990", "Port 21 or 990 for FTPS?", (*answerer).which},
	{"20-and-989", "What are ports 20 and 989 for?", (*answerer).sources},
	{"passive", "What is passive mode, and which ports does it need?", (*answerer).passive},
	{"active", "What is active mode, and what does it need?", (*answerer).active},
	{"server-firewall", "What must the server's firewall open?", (*answerer).serverSide},
	{"client-firewall", "What must the client's firewall open?", (*answerer).clientSide},
	{"nat", "What must the router forward?", (*answerer).router},
}

// Topics returns the questions that Explain knows, in a good order to read.
func Topics() []Topic { return slices.Clone(topics) }

// ErrTopic is returned by Explain for a name that is no topic.
var ErrTopic = errors.New("ports: unknown question")

// Explain answers a question for this very server, from its plan: what is not
// offered is said not to be offered.
func (p *Plan) Explain(topic string) (string, error) {
	i := slices.IndexFunc(topics, func(t Topic) bool { return t.Name == topic })
	if i < 0 {
		var names []string
		for _, t := range topics {
			names = append(names, t.Name)
		}
		return "", fmt.Errorf("%w %q; there are %s", ErrTopic, topic, strings.Join(names, ", "))
	}
	a := &answerer{p: p}
	a.say("%s", topics[i].Question)
	a.say("")
	topics[i].answer(a)
	return a.b.String(), nil
}

type answerer struct {
	p *Plan
	b strings.Builder
}

func (a *answerer) say(format string, args ...any) { fmt.Fprintf(&a.b, format+"\n", args...) }

// ports returns the ports of the flows of a purpose and service, "" for any service.
func (a *answerer) ports(purpose Purpose, service string) string {
	var rs []PortRange
	for i := range a.p.Flows {
		f := &a.p.Flows[i]
		if f.Purpose == purpose && (service == "" || slices.Contains(f.Services, service)) {
			rs = append(rs, f.Internal.Ports)
		}
	}
	return JoinRanges(MergeRanges(rs), "-", ", ")
}

// clearOnly reports whether every ftp listener refuses TLS.
func (a *answerer) clearOnly() bool {
	for i := range a.p.Flows {
		if f := &a.p.Flows[i]; f.Purpose == Control && slices.Contains(f.Services, "ftp") && !strings.Contains(f.Note, "without TLS") {
			return false
		}
	}
	return true
}

func (a *answerer) ftp() {
	c := a.ports(Control, "ftp")
	if c == "" {
		a.say("This server does not offer FTP on a port of its own: no listener has protocol = \"ftp\".")
		return
	}
	a.say("Commands: the client connects to TCP port %s.", c)
	a.data("ftp")
}

func (a *answerer) data(service string) {
	if r := a.ports(PassiveData, service); r != "" {
		a.say("Files and listings, passive mode (the usual one): the client connects to TCP ports %s.", r)
	}
	if s := a.ports(ActiveData, service); s != "" {
		a.say("Files and listings, active mode: the server connects to the client, from %s; nobody connects to it there.", sourceText(s))
	} else {
		a.say("Active mode is switched off here.")
	}
}

func sourceText(s string) string {
	if s == anyClientPort.String() {
		return "any source port"
	}
	if strings.ContainsAny(s, ",-") {
		return "source ports " + s
	}
	return "source port " + s
}

func (a *answerer) ftps() {
	explicit, implicit := a.ports(Control, "ftp"), a.ports(Control, "ftps")
	if a.clearOnly() {
		explicit = ""
	}
	if explicit == "" && implicit == "" {
		a.say("This server does not offer FTPS.")
		return
	}
	if explicit != "" {
		a.say("Explicit FTPS: the client connects to TCP port %s in the clear and starts TLS there with AUTH TLS.", explicit)
	}
	if implicit != "" {
		a.say("Implicit FTPS: the client connects to TCP port %s and TLS starts with the first byte.", implicit)
	}
	switch {
	case explicit == "":
		a.data("ftps")
	case implicit == "":
		a.data("ftp")
	default:
		a.data("")
	}
	a.say("Both kinds use the passive ports for data. A firewall cannot read the encrypted commands, so an FTP helper (ALG) does not open them: they need a rule.")
}

func (a *answerer) sftp() {
	if s := a.ports(Control, "sftp"); s != "" {
		a.say("The client connects to TCP port %s, for commands and data alike. SFTP is file transfer over SSH; it is not FTP and uses none of its ports.", s)
		return
	}
	a.say("This server does not offer SFTP. (SFTP is file transfer over SSH, usually on port 22; FTPS is FTP with TLS and does not use port 22.)")
}

func (a *answerer) which() {
	explicit, implicit := a.ports(Control, "ftp"), a.ports(Control, "ftps")
	switch {
	case explicit != "" && !a.clearOnly() && implicit != "":
		a.say("Either. Explicit FTPS on port %s is the standard (RFC 4217): choose it if the client offers both. Implicit FTPS on port %s is older and helps where something on the way breaks AUTH TLS.", explicit, implicit)
	case implicit != "":
		a.say("Here only implicit FTPS, on port %s: set the client to \"implicit TLS\".", implicit)
	case explicit != "" && !a.clearOnly():
		a.say("Here only explicit FTPS, on port %s: set the client to \"explicit TLS\" (AUTH TLS).", explicit)
	default:
		a.say("Neither: this server does not offer FTPS.")
		return
	}
	a.say("The port decides how TLS begins, not how strong it is. Data uses neither port: passive mode needs %s.", orNone(a.ports(PassiveData, "")))
}

func orNone(s string) string {
	if s == "" {
		return "no further port"
	}
	return "TCP " + s
}

func (a *answerer) sources() {
	a.say("They are the usual source ports of active data connections: 20 for FTP on 21, 989 for FTPS on 990 (the control port minus 1). The server connects from them to the client; nobody connects to them, so the server's firewall needs no inbound rule for them.")
	if s := a.ports(ActiveData, ""); s != "" {
		a.say("Here active mode uses %s, as far as the system permits it.", sourceText(s))
	} else {
		a.say("This server does not use them: active mode is switched off.")
	}
	a.say("Passive mode uses neither of them.")
}

func (a *answerer) passive() {
	r := a.ports(PassiveData, "")
	if r == "" {
		a.say("This server offers no FTP, so it has no passive ports.")
		return
	}
	a.say("In passive mode the client opens both connections: the one for commands, and for each file or listing one more to a port that the server names. This server names ports out of %s.", r)
	for _, row := range a.p.addressRows() {
		a.say("  %s connect to %s", row.clients, row.addr)
	}
	a.say("These ports must be open on every firewall between, and forwarded under the same numbers by every router in front.")
}

func (a *answerer) active() {
	s := a.ports(ActiveData, "")
	if s == "" {
		a.say("In active mode the server opens the data connection to the client. It is switched off here (ftp.active = false).")
		return
	}
	a.say("In active mode the client opens the connection for commands, and the server opens each data connection to a port that the client names, from %s.", sourceText(s))
	a.say("The server's firewall must let these connections out; the client's firewall must let them in, which is why most clients use passive mode. Behind a NAT the client's router would have to understand FTP, which it cannot with TLS.")
}

func (a *answerer) serverSide() {
	a.say("Inbound TCP:")
	for _, o := range a.p.Inbound() {
		on := "all addresses"
		if o.Addr.IsValid() {
			on = o.Addr.String()
		} else if o.Family != "any" {
			on = "all addresses, " + o.Family
		}
		a.say("  %s on %s", JoinRanges(o.Ports, "-", ", "), on)
	}
	if len(a.p.Inbound()) == 0 {
		a.say("  nothing: no listener can be reached from outside this machine")
	}
	if s := a.ports(ActiveData, ""); s != "" {
		a.say("Outbound TCP, only for active mode: from %s to ports %s of the clients.", sourceText(s), anyClientPort)
	}
	a.say("portreeve ports open --for TARGET writes the rules.")
}

func (a *answerer) clientSide() {
	to := a.p.OutsideAddr()
	if to == "" {
		to = "the server"
	}
	a.say("Outbound TCP from the clients, any source port, to %s:", to)
	for i := range a.p.Flows {
		if f := &a.p.Flows[i]; f.Direction == In && !f.Local() {
			a.say("  port %s: %s", externalPorts(f), clientUse(f))
		}
	}
	a.say("Inbound: nothing. (Only a client set to active mode needs connections from the server let in.)")
	a.say("portreeve ports plan --page client writes this as a page for the client's network team.")
}

func (a *answerer) router() {
	rows := a.p.forwardRows()
	if len(rows) == 0 {
		a.say("Nothing, as far as the plan knows: clients are told an address of this machine. Behind a router set ftp.passive.address to the public address or name.")
		return
	}
	for _, r := range rows {
		a.say("  TCP %s to %s", r[0], r[1])
	}
	if a.p.Shifted() {
		a.say("The passive ports have other numbers outside, as the configuration says (external_ports); clients from outside are told those.")
		return
	}
	a.say("The numbers stay the same on both sides: the port a client is told is the port it connects to.")
}
