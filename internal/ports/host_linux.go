package ports

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Linux reads facts from /proc and the interface list. Root and Links may be
// replaced in tests.
type Linux struct {
	Root  fs.FS                       // nil: the real root directory
	Links func() ([]Interface, error) // nil: the real interfaces
}

// Host returns the reader for the machine this runs on.
func Host() HostReader { return Linux{} }

// Facts reads the facts.
func (l Linux) Facts() HostFacts {
	h := HostFacts{OS: runtime.GOOS, UnprivilegedStart: 1024}
	real := l.Root == nil
	if real {
		l.Root = os.DirFS("/")
	}
	if l.Links == nil {
		l.Links = interfaces
	}
	miss := func(what string, err error) { h.Unknown = append(h.Unknown, fmt.Sprintf("%s: %v", what, err)) }
	var err error
	if h.Interfaces, err = l.Links(); err != nil {
		miss("network interfaces", err)
	}
	if s, err := l.text("proc/sys/net/ipv4/ip_local_port_range"); err != nil {
		miss("ephemeral ports", err)
	} else if f := strings.Fields(s); len(f) == 2 {
		h.Ephemeral = PortRange{First: port16(f[0]), Last: port16(f[1])}
	}
	if s, err := l.text("proc/sys/net/ipv4/ip_local_reserved_ports"); err == nil {
		h.Reserved = parsePortList(s)
	}
	if s, err := l.text("proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		h.UnprivilegedStart = port16(s)
	}
	if status, err := l.text("proc/self/status"); err != nil {
		miss("privileges", err)
	} else {
		h.CanBindLow = canBindLow(status)
	}
	h.Container = l.container()
	for _, name := range []string{"proc/net/tcp", "proc/net/tcp6"} {
		s, err := l.text(name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) || name == "proc/net/tcp" { // no tcp6 without IPv6
				miss("listening sockets", err)
			}
			continue
		}
		h.Listening = append(h.Listening, l.listening(s)...)
	}
	if real {
		var lim syscall.Rlimit
		if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
			h.FileLimit = lim.Cur
		}
		l.owners(h.Listening)
	}
	for i := range h.Listening {
		if h.Listening[i].PID < 0 { // the inode, if no owner was found
			h.Listening[i].PID = 0
		}
	}
	return h
}

func (l Linux) text(name string) (string, error) {
	b, err := fs.ReadFile(l.Root, name)
	return strings.TrimSpace(string(b)), err
}

// parsePortList reads "8080,50000-50999".
func parsePortList(s string) []PortRange {
	var out []PortRange
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		a, b, two := strings.Cut(part, "-")
		if !two {
			b = a
		}
		if r := (PortRange{First: port16(a), Last: port16(b)}); r.First != 0 && r.Last >= r.First {
			out = append(out, r)
		}
	}
	return out
}

// canBindLow looks for CAP_NET_BIND_SERVICE (bit 10) in the effective set.
func canBindLow(status string) bool {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return err == nil && n>>10&1 == 1
		}
	}
	return false
}

// container guesses what kind of container this is from the marks they leave.
func (l Linux) container() string {
	exists := func(name string) bool { _, err := fs.Stat(l.Root, name); return err == nil }
	switch {
	case exists("var/run/secrets/kubernetes.io"), exists("run/secrets/kubernetes.io"):
		return "kubernetes"
	case exists(".dockerenv"):
		return "docker"
	case exists("run/.containerenv"):
		return "podman"
	}
	env, _ := fs.ReadFile(l.Root, "proc/1/environ")
	for v := range strings.SplitSeq(string(env), "\x00") {
		if kind, ok := strings.CutPrefix(v, "container="); ok {
			return kind
		}
	}
	cg, _ := l.text("proc/1/cgroup")
	for _, mark := range [][2]string{{"kubepods", "kubernetes"}, {"docker", "docker"}, {"libpod", "podman"}, {"lxc", "lxc"}} {
		if strings.Contains(cg, mark[0]) {
			return mark[1]
		}
	}
	return ""
}

// listening reads /proc/net/tcp. PID holds the negative inode until owners ran.
func (l Linux) listening(table string) []Listener {
	var out []Listener
	sc := bufio.NewScanner(strings.NewReader(table))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[3] != "0A" {
			continue
		}
		if ap, ok := hexAddrPort(f[1]); ok {
			inode, _ := strconv.Atoi(f[9])
			out = append(out, Listener{Addr: ap, PID: -inode})
		}
	}
	return out
}

// hexAddrPort reads "0100007F:0015": words in host byte order, then the port.
func hexAddrPort(s string) (netip.AddrPort, bool) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// owners names the processes of the listeners, as far as they may be seen.
func (l Linux) owners(ls []Listener) {
	byInode := map[string][]*Listener{}
	for i := range ls {
		if ls[i].PID < 0 {
			k := fmt.Sprintf("socket:[%d]", -ls[i].PID)
			byInode[k] = append(byInode[k], &ls[i])
		}
	}
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		fds, _ := os.ReadDir("/proc/" + p.Name() + "/fd") // of others: only as root
		for _, fd := range fds {
			link, err := os.Readlink("/proc/" + p.Name() + "/fd/" + fd.Name())
			if err != nil {
				continue
			}
			for _, x := range byInode[link] {
				comm, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
				x.PID, x.Owner = pid, strings.TrimSpace(string(comm))
			}
		}
	}
}

func interfaces() ([]Interface, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Interface
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		x := Interface{Name: i.Name}
		addrs, err := i.Addrs()
		if err != nil {
			return out, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				x.Addrs = append(x.Addrs, p)
			}
		}
		out = append(out, x)
	}
	return out, nil
}
