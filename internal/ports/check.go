package ports

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/config"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // will not work
	Warning Severity = "warning" // will fail for some clients or at some times
	Note    Severity = "note"    // worth knowing
)

// Check is something wrong with a plan. Code is stable and equal to the one
// the doctor uses for the same cause.
type Check struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"` // the setting or listener
	Cause    string   `json:"cause"`
	Cure     string   `json:"cure"`
}

type checker struct {
	cfg  *config.Config
	host HostFacts
	plan *Plan
	out  []Check
}

func (c *checker) add(code string, s Severity, subject, cause, cure string) {
	same := func(o Check) bool { return o.Code == code && o.Subject == subject && o.Cause == cause }
	if !slices.ContainsFunc(c.out, same) {
		c.out = append(c.out, Check{code, s, subject, cause, cure})
	}
}

// check finds what is wrong, the worst first.
func check(cfg *config.Config, host HostFacts, p *Plan) []Check {
	c := &checker{cfg: cfg, host: host, plan: p}
	c.listeners()
	c.ranges()
	c.capacity()
	c.privileges()
	c.addresses()
	rank := map[Severity]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(c.out, func(a, b Check) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
	return c.out
}

// overlapAddr reports whether two bind addresses exclude each other on one port.
func overlapAddr(a, b netip.Addr, fa, fb string) bool {
	if fa != "any" && fb != "any" && fa != fb {
		return false
	}
	return !a.IsValid() || !b.IsValid() || a == b
}

func (c *checker) listeners() {
	ls := c.cfg.Listen
	if len(ls) == 0 {
		c.add("NO_LISTENER", Error, "listen", "there is no [[listen]] entry, so nobody can connect", "add one, for example protocol = \"ftp\" with address = \":21\"")
	}
	for i := range ls {
		l := &ls[i]
		if l.Port() == 0 {
			c.add("PORT_UNKNOWN", Warning, listenName(l), "the system chooses the port at each start, so no firewall can be prepared for it", "give the listener a fixed port")
			continue
		}
		for j := range i {
			m := &ls[j]
			if l.Port() == m.Port() && overlapAddr(bindAddr(l), bindAddr(m), listenFamily(l), listenFamily(m)) {
				c.add("PORT_CLASH", Error, listenName(l), fmt.Sprintf("port %d is also the port of listener %s", l.Port(), listenName(m)), "give one of them another port or another address")
			}
		}
		for _, o := range c.foreign() {
			if o.Addr.Port() == l.Port() && overlapAddr(bindAddr(l), specific(o.Addr.Addr()), listenFamily(l), listenerFamily(o)) {
				c.add("PORT_IN_USE", Error, listenName(l), fmt.Sprintf("port %d is in use by %s", l.Port(), o.who()), "stop that program or choose another port; ss -ltnp shows it")
			}
		}
		a := bindAddr(l)
		switch {
		case a.IsLoopback():
			c.add("BIND_ADDR", Warning, listenName(l), "it listens on "+a.String()+", which only this machine can reach", "use \":"+fmt.Sprint(l.Port())+"\" as its address to listen on all addresses")
		case a.IsValid() && len(c.host.Interfaces) > 0 && !c.host.has(a):
			c.add("BIND_ADDR", Error, listenName(l), a.String()+" is not an address of this machine, so it cannot be bound",
				"use one of "+join(c.plan.Host.Addresses)+", or \":"+fmt.Sprint(l.Port())+"\" for all; a public address of a router belongs in ftp.passive.address")
		}
	}
}

// foreign returns the listeners of other programs.
func (c *checker) foreign() []Listener {
	return slices.DeleteFunc(slices.Clone(c.host.Listening), func(l Listener) bool { return l.Owner == "portreeve" })
}

func specific(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func listenerFamily(l Listener) string {
	if l.Addr.Addr() == netip.IPv6Unspecified() {
		return "any" // may be dual-stack; /proc does not tell
	}
	return family(l.Addr.Addr())
}

func (l *Listener) who() string {
	switch {
	case l.Owner != "":
		return fmt.Sprintf("%s (process %d) on %s", l.Owner, l.PID, l.Addr)
	default:
		return fmt.Sprintf("another program on %s (its name is visible to root)", l.Addr)
	}
}

// passiveRange is a range with the settings it comes from.
type passiveRange struct {
	r        PortRange
	subject  string
	listener *config.Listen
}

func (c *checker) passiveRanges() []passiveRange {
	var out []passiveRange
	for i := range c.cfg.Listen {
		l := &c.cfg.Listen[i]
		if l.Protocol == config.ProtocolSFTP {
			continue
		}
		p := passiveRange{PortRange(c.cfg.Ports(l)), "ftp.passive.ports", l}
		if l.PassivePorts != nil {
			p.subject = "passive_ports of " + listenName(l)
		}
		if !slices.ContainsFunc(out, func(o passiveRange) bool { return o.r == p.r }) {
			out = append(out, p)
		}
	}
	return out
}

func (c *checker) ranges() {
	rs := c.passiveRanges()
	for i, p := range rs {
		if p.r.Last < p.r.First {
			c.add("RANGE_INVALID", Error, p.subject, fmt.Sprintf("first port %d is above last %d", p.r.First, p.r.Last), "write the lower one first")
			continue
		}
		if p.r.First < 1024 {
			c.add("RANGE_INVALID", Error, p.subject, fmt.Sprintf("port %d is outside 1024-65535: clients and firewalls refuse data connections to well-known ports", p.r.First),
				"choose "+c.suggest(max(p.r.Len(), 100)))
			continue
		}
		for j := range c.cfg.Listen {
			if l := &c.cfg.Listen[j]; p.r.Contains(l.Port()) {
				c.add("RANGE_LISTENER", Error, p.subject, fmt.Sprintf("port %d of listener %s lies inside the passive range %s", l.Port(), listenName(l), p.r),
					"move the listener or choose "+c.suggest(p.r.Len()))
			}
		}
		for _, q := range rs[:i] {
			if o, ok := overlap(p.r, q.r); ok {
				c.add("RANGE_SHARED", Warning, p.subject, fmt.Sprintf("ports %s are also in %s: the two pools take them from each other", o, q.subject), "use equal ranges or ranges without common ports")
			}
		}
		if !c.host.reserved(p.r) {
			if o, ok := overlap(p.r, c.host.Ephemeral); ok {
				all := MergeRanges(append(slices.Clone(c.host.Reserved), p.r))
				c.add("RANGE_EPHEMERAL", Warning, p.subject,
					fmt.Sprintf("ports %s are also given to outgoing connections by the system (%s), so now and then a bind fails because one is taken", o, c.host.Ephemeral),
					"take them out: echo net.ipv4.ip_local_reserved_ports="+JoinRanges(all, "-", ",")+" > /etc/sysctl.d/60-portreeve.conf && sysctl --system; or choose "+c.suggest(p.r.Len()))
			}
		}
		var busy []string
		for _, o := range c.foreign() {
			if s := fmt.Sprintf("%d (%s)", o.Addr.Port(), o.who()); p.r.Contains(o.Addr.Port()) && !slices.Contains(busy, s) {
				busy = append(busy, s)
			}
		}
		if len(busy) > 0 {
			c.add("RANGE_BUSY", Warning, p.subject, "other programs listen inside the range: "+strings.Join(busy, ", "), "move them or the range; until then these ports are skipped")
		}
		var bad []string
		for n := int(p.r.First); n <= int(p.r.Last); n++ {
			if why, ok := Meddled[uint16(n)]; ok {
				bad = append(bad, fmt.Sprintf("%d (%s)", n, why))
			}
		}
		switch {
		case len(bad) == p.r.Len():
			c.add("RANGE_MEDDLED", Warning, p.subject, "the range has only ports that routers treat specially: "+strings.Join(bad, ", "), "choose "+c.suggest(100))
		case len(bad) > 0:
			c.add("RANGE_MEDDLED", Note, p.subject, "routers treat some ports specially: "+strings.Join(bad, ", "), "nothing to do: these are never used; their firewall rules do no harm")
		}
	}
}

// capacity compares the range with the sessions that may want a port at once.
func (c *checker) capacity() {
	for _, p := range c.passiveRanges() {
		if p.r.Last < p.r.First || p.r.First < 1024 {
			continue
		}
		n, limit := p.r.Len(), c.cfg.Limits.MaxConnections
		cure := "allow fewer sessions with limits.max_connections, or choose " + c.suggest(min(max(limit, 100), 5000))
		switch {
		case limit == 0 && n < 1000, limit > 10*n:
			c.add("RANGE_SMALL", Warning, p.subject, fmt.Sprintf("%d ports for %s sessions: each transfer that runs needs one, the others wait two seconds and then get 425", n, many(limit)), cure)
		case limit > n:
			c.add("RANGE_SMALL", Note, p.subject, fmt.Sprintf("%d ports serve %d transfers at the same time; limits.max_connections admits %d sessions", n, n, limit),
				"nothing to do unless more than "+fmt.Sprint(n)+" transfers run at once; then enlarge the range")
		}
		if c.host.Container != "" && n > 200 {
			c.add("RANGE_PUBLISHED", Warning, p.subject, fmt.Sprintf("publishing %d ports of a container starts up to %d proxy processes", n, 2*n), "use a range of at most 100-200 ports, or the host's network")
		}
	}
	if limit := c.cfg.Limits.MaxConnections; limit != 0 && c.host.FileLimit != 0 {
		// few sessions transfer at the same moment: two descriptors for each is ample
		if need := 2*limit + 200; c.host.FileLimit < uint64(need) {
			c.add("FILE_LIMIT", Warning, "limits.max_connections", fmt.Sprintf("%d sessions need about %d open files, the system allows %d", limit, need, c.host.FileLimit),
				fmt.Sprintf("set LimitNOFILE=%d in the service unit or ulimit -n %d, or lower limits.max_connections", need, need))
		}
	}
}

func many(n int) string {
	if n == 0 {
		return "any number of"
	}
	return fmt.Sprint(n)
}

const bindCures = "one of: setcap cap_net_bind_service=+ep on the program file; AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit; a systemd socket unit; " +
	"sysctl net.ipv4.ip_unprivileged_port_start=%d; or a port from 1024 on"

func (c *checker) privileges() {
	if c.host.CanBindLow || c.host.UnprivilegedStart == 0 {
		return
	}
	start := c.host.UnprivilegedStart
	for i := range c.cfg.Listen {
		l := &c.cfg.Listen[i]
		port := l.Port()
		if port != 0 && port < start {
			c.add("PORT_PERMISSION", Error, listenName(l), fmt.Sprintf("port %d needs a permission this process does not have (ports below %d)", port, start), fmt.Sprintf(bindCures, port))
		}
		if l.Protocol != config.ProtocolSFTP && c.cfg.FTP.Active && c.cfg.FTP.ActiveSource != config.SourceAny && port > 1 && port-1 < start {
			c.add("ACTIVE_SRC_PORT", Warning, listenName(l), fmt.Sprintf("active data connections cannot start from port %d, so another port is used; firewalls that expect %d refuse them", port-1, port-1),
				fmt.Sprintf("setcap cap_net_bind_service=+ep on the program file or sysctl net.ipv4.ip_unprivileged_port_start=%d; or ftp.active_source = \"any\" if no client needs it", port-1))
		}
	}
}

func (c *checker) addresses() {
	for i := range c.plan.Flows {
		f := &c.plan.Flows[i]
		if f.Purpose != PassiveData || f.Local() {
			continue
		}
		for _, e := range f.External {
			if a, err := netip.ParseAddr(e.Addr); err == nil {
				c.announced(e, a)
			}
		}
		c.reachedAddress(f)
	}
}

// announced checks one fixed address.
func (c *checker) announced(e External, a netip.Addr) {
	subject := cmp.Or(e.Source, "ftp.passive.address")
	switch {
	case a.IsUnspecified():
		c.add("PASV_ADDR_ZERO", Warning, subject, "clients are told "+a.String()+", which many cannot use", "announce the address clients connect to, or leave it empty")
	case a.IsLoopback():
		c.add("PASV_ADDR_PRIVATE", Error, subject, "clients are told "+a.String()+" and then connect to themselves", "announce the address clients connect to, or leave it empty")
	case a.Unmap().Is6():
		c.add("PASV_ADDR_FAMILY", Note, subject, "PASV cannot carry the IPv6 address "+a.String()+"; IPv6 clients use EPSV, which carries no address", "announce an IPv4 address or leave it empty")
	case len(e.Clients) == 0 && !isPublic(a) && e.Source != "address of the listener":
		c.add("PASV_ADDR_PRIVATE", Warning, subject, "all clients are told "+a.String()+", which only its own network can reach", "if clients come from the Internet, announce the public address and add an [[ftp.passive.rule]] for the inside")
	}
}

// reachedAddress checks what clients from outside hear when no address is set.
func (c *checker) reachedAddress(f *Flow) {
	var last External
	for _, e := range f.External {
		if slices.Contains(e.Clients, netip.PrefixFrom(netip.IPv4Unspecified(), 0)) {
			return // a rule speaks for everybody
		}
		if len(e.Clients) == 0 {
			last = e
		}
	}
	if last.Source != "address the client reached" && last.Source != "address of the listener" || f.Family == "ipv6" {
		return
	}
	var private []netip.Addr
	for _, a := range c.plan.Host.Addresses {
		if f.Internal.Addr.IsValid() && a != f.Internal.Addr || !a.Is4() {
			continue
		}
		if isPublic(a) {
			return // one uplink has a public address: clients may come through it
		}
		private = append(private, a)
	}
	if len(private) == 0 {
		return
	}
	if c.host.Container != "" {
		c.add("CONTAINER_ADDRESS", Warning, "ftp.passive.address",
			fmt.Sprintf("this runs in a container (%s): clients outside it would be told %s, which they cannot reach", c.host.Container, join(private)),
			"set ftp.passive.address (PORTREEVE_FTP_PASSIVE_ADDRESS) to the host's address and publish every port under its own number; portreeve ports open --for compose prints the lines")
		return
	}
	c.add("PASV_ADDR_PRIVATE", Warning, "ftp.passive.address",
		fmt.Sprintf("this machine has only private addresses (%s): clients from other networks would be told one of them, their login works and the first listing hangs", join(private)),
		"set ftp.passive.address to the public address or name and forward the ports; inside clients go on hearing the inside address")
}

func join(as []netip.Addr) string {
	var s []string
	for _, a := range as {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

// Suggest returns a range for n transfers at once that clashes with nothing
// known: no listener, no ephemeral or meddled port. ok is false when there is
// none so long.
func Suggest(cfg *config.Config, host HostFacts, n int) (r PortRange, ok bool) {
	blocked := make([]bool, 65537)
	mark := func(x PortRange) {
		for p := int(x.First); p <= int(x.Last); p++ {
			blocked[p] = true
		}
	}
	mark(host.Ephemeral)
	for _, x := range host.Reserved { // may serve another program
		mark(x)
	}
	for i := range cfg.Listen {
		blocked[cfg.Listen[i].Port()] = true
	}
	for _, l := range host.Listening {
		blocked[l.Addr.Port()] = true
	}
	for p := range Meddled {
		blocked[p] = true
	}
	fits := func(first int) bool {
		return first >= 1024 && first+n-1 <= 65535 && !slices.Contains(blocked[first:first+n], true)
	}
	for first := 50000; first >= 10000; first -= 1000 { // the customary place, then downwards
		if fits(first) {
			return PortRange{First: uint16(first), Last: uint16(first + n - 1)}, true
		}
	}
	for first := 1100; first+n-1 <= 65535; first += 100 {
		if fits(first) {
			return PortRange{First: uint16(first), Last: uint16(first + n - 1)}, true
		}
	}
	return PortRange{}, false
}

func (c *checker) suggest(n int) string {
	if r, ok := Suggest(c.cfg, c.host, n); ok {
		return r.String()
	}
	return "a shorter range within 1024-65535"
}
