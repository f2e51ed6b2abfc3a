package doctor

import (
	"net/netip"
	"slices"
	"testing"
)

// passiveProbe is a passive try that reached its port, or got no answer.
func passiveProbe(sec Security, mode, announced string, outcome Outcome) Probe {
	p := Probe{Family: "ipv4", Security: sec, Mode: mode, Stage: AtEnd, Outcome: outcome, Bytes: 9,
		Peer: netip.MustParseAddrPort("5.6.8.10:21"), Announced: netip.MustParseAddrPort(announced)}
	if outcome != OK {
		p.Stage, p.Bytes = AtData, 0
	}
	return p
}

// judged returns the first finding of the passive probes, "" for none but notes.
func judged(c *Client) string {
	c.local = &localRules{}
	c.addrs = []netip.Addr{netip.MustParseAddr("5.6.8.10")}
	fs := Settle(c.judgePassive("ipv4"))
	if len(fs) == 0 || fs[0].Severity == Note {
		return ""
	}
	return fs[0].Code
}

func TestJudgePassive(t *testing.T) {
	const a, b, one = "5.6.8.10:20001", "5.6.8.10:20002", "5.6.8.10:989"
	tests := []struct {
		name   string
		probes []Probe
		quick  []Probe
		sight  *Sight
		want   string
	}{
		{name: "all works", probes: []Probe{passiveProbe(Plain, "PASV", a, OK), passiveProbe(Explicit, "EPSV", b, OK)}},
		{name: "a helper reads the dialogue", want: "ALG_BLIND_TLS", probes: []Probe{passiveProbe(Plain, "PASV", a, OK), passiveProbe(Plain, "EPSV", b, OK),
			passiveProbe(Explicit, "PASV", a, Timeout), passiveProbe(Explicit, "EPSV", b, Timeout)}},
		{name: "the one port for TLS is closed", want: "PASSIVE_BLOCKED", probes: []Probe{passiveProbe(Plain, "PASV", a, OK), passiveProbe(Plain, "EPSV", b, OK),
			passiveProbe(Explicit, "PASV", one, Timeout), passiveProbe(Explicit, "EPSV", one, Timeout)}},
		{name: "only the one port for TLS is open", want: "PASSIVE_BLOCKED", probes: []Probe{passiveProbe(Plain, "PASV", a, Timeout), passiveProbe(Plain, "EPSV", b, Timeout),
			passiveProbe(Explicit, "PASV", one, OK), passiveProbe(Explicit, "EPSV", one, OK)}},
		{name: "something spoils the clear dialogue", want: "MBOX_PASV_REWRITE", probes: []Probe{passiveProbe(Plain, "PASV", a, Timeout), passiveProbe(Plain, "EPSV", b, Timeout),
			passiveProbe(Explicit, "PASV", a, OK), passiveProbe(Explicit, "EPSV", b, OK)}},
		{name: "the other listener has an open range of its own", want: "PASSIVE_BLOCKED", probes: []Probe{passiveProbe(Plain, "PASV", a, Timeout), passiveProbe(Plain, "EPSV", b, Timeout),
			passiveProbe(Explicit, "PASV", a, Timeout), passiveProbe(Explicit, "EPSV", b, Timeout), passiveProbe(Implicit, "EPSV", "5.6.8.10:30001", OK)}},
		{name: "implicit alone fails", want: "PASSIVE_BLOCKED", probes: []Probe{passiveProbe(Plain, "EPSV", a, OK), passiveProbe(Explicit, "EPSV", b, OK),
			passiveProbe(Implicit, "PASV", "5.6.8.10:30001", Timeout), passiveProbe(Implicit, "EPSV", "5.6.8.10:30002", Timeout)}},
		{name: "a part of the range", want: "RANGE_PARTIAL", probes: []Probe{passiveProbe(Explicit, "PASV", a, OK), passiveProbe(Explicit, "EPSV", b, Timeout)},
			quick: []Probe{passiveProbe(Explicit, "EPSV", b, Timeout), passiveProbe(Explicit, "EPSV", "5.6.8.10:20003", Timeout)}},
		{name: "a part of the range, by the server's own rules", want: "SERVER_FW_RANGE", probes: []Probe{passiveProbe(Explicit, "PASV", a, OK), passiveProbe(Explicit, "EPSV", b, Timeout)},
			quick: []Probe{passiveProbe(Explicit, "EPSV", b, Timeout)}, sight: &Sight{Firewall: map[string]string{"passive-data": "closed"}}},
		{name: "a helper that knows PASV alone", want: "ALG_BLIND_TLS", probes: []Probe{passiveProbe(Plain, "EPSV", b, Timeout), passiveProbe(Plain, "PASV", a, OK),
			passiveProbe(Explicit, "PASV", a, Timeout), passiveProbe(Explicit, "EPSV", b, Timeout)}, quick: []Probe{passiveProbe(Plain, "PASV", a, OK)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Client{rep: Report{Probes: tt.probes, Server: tt.sight}, rounds: rounds{quick: tt.quick}}
			if got := judged(c); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStrangeHeader(t *testing.T) {
	reply := func(stage Stage, sec Security, code int, text string) Probe {
		return Probe{Family: "ipv4", Security: sec, Stage: stage, Outcome: Rejected, Reply: code, Text: text}
	}
	tests := []struct {
		name  string
		probe Probe
		found bool
		could bool
	}{
		{"version 1, named", reply(AtLogin, Plain, 500, "PROXY not understood"), true, false},
		{"version 2 here", reply(AtAuth, Explicit, 500, `"" not understood`), true, false},
		{"version 2 at another server", reply(AtLogin, Plain, 500, "Unknown command."), true, true},
		{"a wrong password", reply(AtLogin, Plain, 530, "Login incorrect."), false, false},
		{"a server without TLS", reply(AtAuth, Explicit, 500, "AUTH not understood"), false, false},
	}
	for _, tt := range tests {
		c := &Client{rep: Report{Probes: []Probe{tt.probe}}}
		f, found := c.strangeHeader()
		if found != tt.found || len(f.Could) > 0 != tt.could {
			t.Errorf("%s: %t %v", tt.name, found, f.Could)
		}
	}
}

func TestOtherCertificateOnData(t *testing.T) {
	p := passiveProbe(Explicit, "EPSV", "5.6.8.10:20001", OK)
	p.Cert, p.DataCert = "aa (CN=inspection)", "bb (CN=server)"
	c := &Client{trust: &trust{}, rep: Report{Probes: []Probe{p}}}
	has := func() bool {
		return slices.ContainsFunc(c.judgeTLS(), func(f Finding) bool { return f.Code == "MBOX_TLS" })
	}
	if !has() {
		t.Error("a box that opens TLS was not found")
	}
	if c.rep.Probes[0].DataCert = p.Cert; has() {
		t.Error("one certificate on both connections is taken for a box")
	}
}
