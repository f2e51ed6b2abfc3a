// Package firewall owns rules for firewalls, routers, clouds and orchestrators
// made from the port plan, and the comparison of a machine's own rules with it.
//
// It does not decide which ports are needed (package ports does) and changes
// nothing unless Run is called with a change that was shown before.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// Target is something rules can be written for.
type Target struct {
	Name  string // as in --for
	Title string
	Where string // "this machine", "router", "cloud", "balancer" or "container"
	Check string // how to try the output without effect, "" when there is no way
	write func(*writer)
	sign  string // comment sign
}

var targets = []Target{
	{"nftables", "nftables on this machine", "this machine", "nft -c -f FILE", nftables, "#"},
	{"iptables", "iptables and ip6tables on this machine", "this machine", "iptables-restore --test --noflush FILE", iptables, "#"},
	{"ufw", "ufw on this machine", "this machine", "sh FILE with ufw --dry-run", ufw, "#"},
	{"firewalld", "firewalld on this machine", "this machine", "", firewalld, "#"},
	{"pf", "pf on this machine (BSD, macOS)", "this machine", "pfctl -nf FILE", pf, "#"},
	{"windows", "Windows Defender Firewall (PowerShell)", "this machine", "", windows, "#"},
	{"aws-cli", "an AWS security group (aws command)", "cloud", "add --dry-run to the command", awsCLI, "#"},
	{"aws-terraform", "an AWS security group (Terraform)", "cloud", "terraform validate", awsTerraform, "#"},
	{"gcp-cli", "Google Cloud firewall rules (gcloud command)", "cloud", "", gcpCLI, "#"},
	{"gcp-terraform", "Google Cloud firewall rules (Terraform)", "cloud", "terraform validate", gcpTerraform, "#"},
	{"azure-cli", "an Azure network security group (az command)", "cloud", "", azureCLI, "#"},
	{"azure-terraform", "an Azure network security group (Terraform)", "cloud", "terraform validate", azureTerraform, "#"},
	{"mikrotik", "a MikroTik router in front (RouterOS)", "router", "", mikrotik, "#"},
	{"openwrt", "an OpenWrt router in front", "router", "", openwrt, "#"},
	{"haproxy", "HAProxy in front (TCP with PROXY protocol)", "balancer", "haproxy -c -f FILE", haproxy, "#"},
	{"compose", "Docker Compose", "container", "docker compose -f FILE config", compose, "#"},
	{"kubernetes", "a Kubernetes Service", "container", "kubectl apply --dry-run=server -f FILE", kubernetes, "#"},
}

// Targets returns all targets, in the order in which they are documented.
func Targets() []Target { return slices.Clone(targets) }

// Errors of Generate, found with errors.Is.
var (
	ErrTarget  = errors.New("firewall: unknown target")
	ErrNothing = errors.New("firewall: nothing to open")
)

// Generate returns the rules of plan for a target, with a comment on top that
// says what they do and how to load them. The error wraps ErrTarget for an
// unknown name and ErrNothing when nobody outside can be let in: no listener,
// or all on the loopback.
func Generate(target string, plan ports.Plan) (string, error) {
	i := slices.IndexFunc(targets, func(t Target) bool { return t.Name == target })
	if i < 0 {
		var names []string
		for _, t := range targets {
			names = append(names, t.Name)
		}
		return "", fmt.Errorf("%w %q; there are %s", ErrTarget, target, strings.Join(names, ", "))
	}
	w := newWriter(plan, targets[i])
	if len(w.in) == 0 {
		return "", fmt.Errorf("%w: no listener can be reached from outside this machine", ErrNothing)
	}
	targets[i].write(w)
	return w.b.String(), nil
}

// placeholder stands for an inside address that the plan does not know.
const placeholder = "192.0.2.10"

// writer collects the output for one target.
type writer struct {
	b      strings.Builder
	t      Target
	plan   *ports.Plan
	in     []ports.Opening   // let in
	src    []ports.PortRange // fixed source ports of active data connections
	anySrc bool              // active data connections start from any port
	inside string            // this machine as its router sees it
	guess  bool              // inside is only a placeholder
	outer  string            // public address or name, "" when not known
}

func newWriter(plan ports.Plan, t Target) *writer {
	w := &writer{t: t, plan: &plan, in: plan.Inbound(), outer: plan.OutsideAddr()}
	for _, r := range plan.ActiveSources() {
		if r.First == 1024 && r.Last == 65535 {
			w.anySrc = true
		} else {
			w.src = append(w.src, r)
		}
	}
	w.inside = placeholder
	w.guess = true
	for _, o := range w.in {
		if o.Addr.Is4() {
			w.inside, w.guess = o.Addr.String(), false
		}
	}
	if a := plan.ForwardTarget(); w.guess && a.IsValid() {
		w.inside, w.guess = a.String(), false
	}
	return w
}

func (w *writer) f(format string, args ...any) { fmt.Fprintf(&w.b, format, args...) }

// ln writes one line; w.c writes a comment line.
func (w *writer) ln(format string, args ...any) { w.f(format+"\n", args...) }

func (w *writer) c(format string, args ...any) {
	w.ln("%s", strings.TrimRight(w.t.sign+" "+fmt.Sprintf(format, args...), " "))
}

// header writes the explaining comment. use are further lines on how to load it.
func (w *writer) header(use ...string) {
	w.c("Portreeve: rules for %s, made from the port plan.", w.t.Title)
	w.c("")
	for i := range w.plan.Flows {
		f := &w.plan.Flows[i]
		if f.Direction == ports.In && !f.Local() {
			w.c("in   tcp %-12s %s of %s", f.Internal.Ports, f.Purpose, strings.Join(f.Services, ", "))
		}
	}
	for _, r := range w.src {
		w.c("out  tcp %-12s %s; a source port of the server, nobody connects to it", r, ports.ActiveData)
	}
	w.c("")
	for _, u := range use {
		w.c("%s", u)
	}
}

// allPorts returns the inbound ports of all openings, merged.
func (w *writer) allPorts() []ports.PortRange {
	var out []ports.PortRange
	for _, o := range w.in {
		out = append(out, o.Ports...)
	}
	return ports.MergeRanges(out)
}

// families says which families have anything open.
func (w *writer) families() (v4, v6 bool) {
	for _, o := range w.in {
		v4 = v4 || o.Family != "ipv6"
		v6 = v6 || o.Family != "ipv4"
	}
	return v4, v6
}

// portsFor returns the ports open for a family, merged.
func (w *writer) portsFor(family string) []ports.PortRange {
	var out []ports.PortRange
	for _, o := range w.in {
		if o.Family == "any" || o.Family == family {
			out = append(out, o.Ports...)
		}
	}
	return ports.MergeRanges(out)
}

// chunks splits ranges so that no group counts more than max ports, a range
// counting twice: iptables, ufw and RouterOS allow 15.
func chunks(rs []ports.PortRange, max int) [][]ports.PortRange {
	var out [][]ports.PortRange
	n := max
	for _, r := range rs {
		cost := 1
		if r.First != r.Last {
			cost = 2
		}
		if n+cost > max {
			out, n = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], r)
		n += cost
	}
	return out
}

// ipv6Inside returns the machine's public IPv6 address, for pinholes.
func (w *writer) ipv6Inside() (netip.Addr, bool) {
	for _, o := range w.in {
		if o.Addr.Is6() {
			return o.Addr, true
		}
	}
	for _, a := range w.plan.Host.Addresses {
		if a.Is6() && !a.IsPrivate() && a.IsGlobalUnicast() {
			return a, true
		}
	}
	return netip.Addr{}, false
}
