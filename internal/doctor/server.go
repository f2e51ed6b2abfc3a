package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/firewall"
	"github.com/portreeve/portreeve/internal/nat"
	"github.com/portreeve/portreeve/internal/ports"
)

// Env is what the checks of the server's machine look at. Nil functions mean
// the real thing; tests put facts in their place.
type Env struct {
	Config  *config.Config
	Host    ports.HostFacts
	Running int           // process of the server, 0 when none runs
	Matrix  *ports.Matrix // what the running server has recorded; nil when not known
	Routes  Routes
	Now     time.Time

	Rules  func(context.Context) []firewall.RuleSet
	Bind   func(network, address string) error
	Router func(ctx context.Context, gateway netip.Addr) nat.Uplink // asks the router for its outer address
	Cert   func(path string) ([]byte, error)

	plan *ports.Plan
}

// Plan is the port plan of the configuration on this machine.
func (e *Env) Plan() *ports.Plan {
	if e.plan == nil {
		host := e.Host
		if e.Running != 0 {
			host.Listening = nil // its own ports are not taken
		}
		p := ports.Compile(e.Config, host)
		e.plan = &p
	}
	return e.plan
}

func (e *Env) fill() fill {
	f := fill{}
	var all []ports.PortRange
	for _, o := range e.Plan().Inbound() {
		all = append(all, o.Ports...)
	}
	f.ports = ports.JoinRanges(ports.MergeRanges(all), "-", ", ")
	f.rng = e.Config.FTP.Passive.Ports.String()
	f.server = e.Plan().OutsideAddr()
	if len(e.Config.Listen) > 0 {
		f.port = fmt.Sprint(e.Config.Listen[0].Port())
	}
	return f
}

// ServerChecks are the checks of the server's machine.
func ServerChecks() []Check {
	return []Check{
		{Name: "port plan", Run: checkPlan},
		{Name: "listeners", Needs: []string{"port plan"}, Run: checkListeners},
		{Name: "this machine's firewall", Run: checkFirewall},
		{Name: "routes", Run: checkRoutes},
		{Name: "router", Needs: []string{"routes"}, Run: checkRouter},
		{Name: "certificates", Run: checkCerts},
		{Name: "crypto policy", Run: checkCrypto},
		{Name: "recorded data connections", Run: checkRecorder},
	}
}

// checkCrypto looks at the age of the set of algorithms.
func checkCrypto(_ context.Context, e *Env) []Finding {
	if w := e.Config.CryptoWarning(); w != "" {
		return []Finding{finding("CRYPTO_POLICY", Warning, e.fill(), "crypto_policy: %s", w)}
	}
	return nil
}

// fromCheck turns a finding of the plan or the recorder into one of ours.
func fromCheck(c ports.Check) Finding {
	k := causes[c.Code]
	f := Finding{Code: c.Code, Title: k.Title, Box: k.Box, Fix: c.Cure, Severity: Severity(c.Severity), Cause: c.Subject + ": " + c.Cause}
	if f.Title == "" {
		f.Title = strings.ToLower(strings.ReplaceAll(c.Code, "_", " "))
	}
	return f
}

func checkPlan(_ context.Context, e *Env) []Finding {
	var out []Finding
	for _, c := range e.Plan().Checks {
		if c.Code == "BIND_ADDR" && c.Severity == ports.Warning && e.Config.File() == "" {
			continue // a quick start is on the loopback on purpose
		}
		f := fromCheck(c)
		if c.Code == "PASV_ADDR_PRIVATE" || c.Code == "CONTAINER_ADDRESS" {
			f.Because = []string{"SERVER_ROUTE"}
		}
		out = append(out, f)
	}
	return out
}

// checkListeners tells whether the server runs, and if not, whether it could.
func checkListeners(_ context.Context, e *Env) []Finding {
	if e.Running != 0 {
		return e.listening()
	}
	roots := []string{"PORT_IN_USE", "PORT_PERMISSION", "PORT_CLASH", "BIND_ADDR", "NO_LISTENER", "CONFIG"}
	f := finding("NOT_RUNNING", Warning, e.fill(), "no server runs with the data directory %s", e.Config.DataDir)
	f.Because = roots
	out := []Finding{f}
	bind := e.Bind
	if bind == nil {
		bind = tryBind
	}
	for i := range e.Config.Listen {
		l := &e.Config.Listen[i]
		err := bind(l.Network(), l.Address)
		known := slices.ContainsFunc(e.Plan().Checks, func(c ports.Check) bool {
			return c.Subject == l.Name && c.Severity == ports.Error
		})
		if err == nil || known {
			continue
		}
		code := "BIND_ADDR"
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			code = "PORT_IN_USE"
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			code = "PORT_PERMISSION"
		}
		out = append(out, finding(code, Error, e.fill(), "%s: %v", l.Name, err))
	}
	return out
}

func tryBind(network, address string) error {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), network, address)
	if err == nil {
		ln.Close()
	}
	return err
}

// listening compares the configuration with the sockets of the machine.
func (e *Env) listening() []Finding {
	if len(e.Host.Listening) == 0 {
		return nil // not known on this system
	}
	var out []Finding
	for i := range e.Config.Listen {
		l := &e.Config.Listen[i]
		if l.Port() == 0 || slices.ContainsFunc(e.Host.Listening, func(x ports.Listener) bool { return x.Addr.Port() == l.Port() }) {
			continue
		}
		out = append(out, finding("BIND_ADDR", Error, e.fill(), "%s: nothing listens on port %d although the server runs (process %d); portreeve reload applies a changed configuration", l.Name, l.Port(), e.Running))
	}
	return out
}

// checkFirewall follows new connections through this machine's own rules.
func checkFirewall(ctx context.Context, e *Env) []Finding {
	read := e.Rules
	if read == nil {
		read = firewall.ReadLocal
	}
	var out []Finding
	var unread []string // each of the tools says the same to whoever is not root
	for _, set := range read(ctx) {
		if set.Err != nil {
			unread = append(unread, strings.Join(strings.Fields(set.Err.Error()), " "))
			continue
		}
		r, err := firewall.Verify(set.Format, set.Text, *e.Plan())
		if err != nil {
			out = append(out, finding("FW_UNREAD", Note, e.fill(), "%s rules: %v", set.Format, err))
			continue
		}
		for _, d := range r.Drift {
			out = append(out, e.drift(d))
		}
	}
	if len(unread) > 0 {
		f := finding("FW_UNREAD", Note, e.fill(), "%s", unread[0])
		f.Evidence = unread[1:]
		out = append(out, f)
	}
	return out
}

func (e *Env) drift(d firewall.Drift) Finding {
	sev := Error
	switch {
	case d.Status == firewall.Unclear, d.Status == firewall.Limited, d.Purpose == ports.ActiveData, d.Purpose == ports.NameLookup:
		sev = Warning
	case d.Code == "FW_EXTRA":
		sev = Note
	}
	k := causes[d.Code]
	f := Finding{Code: d.Code, Title: k.Title, Box: "server", Severity: sev, Fix: d.Cure, Cause: fmt.Sprintf("%s, TCP %s (%s): %s", d.Family, d.Ports, d.Purpose, d.Reason)}
	if fix := e.fill().in(k.Fix); fix != "" && d.Code != "FW_EXTRA" && !strings.Contains(f.Fix, fix) {
		f.Fix = fix + "\n" + f.Fix
	}
	return f
}

// Routes are the default routes of the machine.
type Routes struct {
	Known    bool
	Gateways []netip.Addr // of IPv4 default routes; invalid for one without a gateway
	// Leaves names the interface by which replies from a local address leave
	// towards the Internet; nil when the system cannot be asked.
	Leaves func(ctx context.Context, from netip.Addr) (dev string, ok bool)
}

func checkRoutes(ctx context.Context, e *Env) []Finding {
	if !e.Routes.Known {
		return nil
	}
	outside := slices.ContainsFunc(e.Plan().Flows, func(f ports.Flow) bool { return f.Direction == ports.In && !f.Local() })
	if len(e.Routes.Gateways) == 0 {
		if !outside {
			return nil
		}
		return []Finding{finding("SERVER_ROUTE", Warning, e.fill(), "this machine has no IPv4 default route: clients of other networks never get an answer")}
	}
	var out []Finding
	for _, i := range e.Host.Interfaces {
		for _, p := range i.Addrs {
			a := p.Addr().Unmap()
			if e.Routes.Leaves == nil || !a.Is4() || a.IsLoopback() || isPrivate(a) && len(e.Routes.Gateways) < 2 {
				continue
			}
			if dev, ok := e.Routes.Leaves(ctx, a); ok && dev != i.Name {
				out = append(out, finding("ASYM_ROUTE", Warning, e.fill(), "replies from %s, an address of %s, leave by %s", a, i.Name, dev))
			}
		}
	}
	return out
}

// checkRouter asks the router for its outer address, where the machine has only
// private ones.
func checkRouter(ctx context.Context, e *Env) []Finding {
	var inside netip.Addr
	for _, a := range e.Plan().Host.Addresses {
		if a.Is4() && !isPrivate(a) {
			return nil
		}
		if a.Is4() && !inside.IsValid() {
			inside = a
		}
	}
	if e.Router == nil || !inside.IsValid() || len(e.Routes.Gateways) == 0 || !e.Routes.Gateways[0].IsValid() {
		return nil
	}
	u := e.Router(ctx, e.Routes.Gateways[0])
	u.Local = inside
	var out []Finding
	if v := u.Judge(); v.Code != "" {
		k := causes[v.Code]
		sev := Warning
		if !u.WAN.IsValid() {
			sev = Note // a refusal alone proves nothing
		}
		out = append(out, Finding{Code: v.Code, Title: k.Title, Box: k.Box, Severity: sev, Cause: v.Text, Fix: v.Cure})
	}
	if told, err := netip.ParseAddr(e.Plan().OutsideAddr()); err == nil && u.WAN.IsValid() && !isPrivate(u.WAN) && told != u.WAN && !isPrivate(told) {
		out = append(out, finding("PASV_ADDR_STALE", Error, e.fill(), "clients are told %s; the router's outer address is %s", told, u.WAN))
	}
	return out
}

// checkCerts looks at the certificate files of listeners that offer TLS.
func checkCerts(_ context.Context, e *Env) []Finding {
	offered := slices.ContainsFunc(e.Config.Listen, func(l config.Listen) bool { return l.Implicit() || l.TLS != config.Off })
	if !offered {
		return nil
	}
	read := e.Cert
	if read == nil {
		read = os.ReadFile
	}
	files := []string{e.Config.TLS.Cert}
	for _, c := range e.Config.TLS.Certificates {
		files = append(files, c.Cert)
	}
	var out []Finding
	for _, file := range files {
		own := file == ""
		if own {
			if len(files) > 1 {
				continue
			}
			file = filepath.Join(e.Config.DataDir, "tls", "selfsigned-cert.pem")
		}
		b, err := read(file)
		if own && errors.Is(err, os.ErrNotExist) {
			continue // made at the first start
		}
		if err != nil {
			out = append(out, finding("CERT_PROBLEM", Error, e.fill(), "%v", err))
			continue
		}
		out = append(out, e.cert(file, b, own)...)
	}
	return out
}

func (e *Env) cert(file string, b []byte, own bool) []Finding {
	block, _ := pem.Decode(b)
	if block == nil {
		return []Finding{finding("CERT_PROBLEM", Error, e.fill(), "%s holds no PEM certificate", file)}
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return []Finding{finding("CERT_PROBLEM", Error, e.fill(), "%s: %v", file, err)}
	}
	var out []Finding
	switch left := leaf.NotAfter.Sub(e.Now); {
	case left < 0 || e.Now.Before(leaf.NotBefore):
		out = append(out, finding("CERT_EXPIRED", Error, e.fill(), "%s is valid from %s to %s", file, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly)))
	case left < 21*24*time.Hour:
		out = append(out, finding("CERT_EXPIRED", Warning, e.fill(), "%s ends on %s, in %d days", file, leaf.NotAfter.Format(time.DateOnly), int(left.Hours()/24)))
	}
	if own || leaf.CheckSignatureFrom(leaf) == nil {
		out = append(out, finding("CERT_UNTRUSTED", Note, e.fill(), "%s is signed by itself: clients show a warning, and programs need the file", file))
	}
	if told := e.Plan().OutsideAddr(); told != "" && !own && leaf.VerifyHostname(told) != nil && netipInvalid(told) {
		out = append(out, finding("CERT_NAME", Warning, e.fill(), "%s is for %s, clients are told %s", file, strings.Join(leaf.DNSNames, ", "), told))
	}
	return out
}

func netipInvalid(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil
}

// checkRecorder reports what the running server has seen. A cause on this
// machine explains what clients did not reach.
func checkRecorder(_ context.Context, e *Env) []Finding {
	if e.Matrix == nil {
		return nil
	}
	var out []Finding
	for _, c := range e.Matrix.Findings {
		f := fromCheck(c)
		switch c.Code {
		case "RANGE_UNREACHED", "RANGE_PARTIAL", "CLIENT_FW_OUT_HIGH":
			f.Because = []string{"SERVER_FW_RANGE", "SERVER_ALG_BLIND_TLS", "DOUBLE_NAT", "CGNAT", "PASV_ADDR_PRIVATE", "CONTAINER_ADDRESS", "SERVER_ROUTE"}
		case "PASV_ADDR_STALE":
			f.Because = []string{"PASV_ADDR_PRIVATE", "CONTAINER_ADDRESS", "PASV_ADDR_ZERO"}
		case "ACTIVE_BLOCKED":
			f.Because = []string{"SERVER_FW_OUT"}
		}
		out = append(out, f)
	}
	return out
}
