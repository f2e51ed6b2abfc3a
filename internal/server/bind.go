package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/portreeve/portreeve/internal/config"
)

// socketKey tells whether two entries are served by the same socket. Port 0 is
// a new socket for each name.
func socketKey(l *config.Listen) string {
	key := l.Network() + " " + l.Address
	if l.Port() == 0 {
		key += " " + l.Name
	}
	return key
}

// bindAll binds the entries, all or none. Every failure is reported.
func bindAll(entries []config.Listen, inherited *inheritance) ([]*net.TCPListener, error) {
	var errs []error
	lns := make([]*net.TCPListener, len(entries))
	for i := range entries {
		ln, err := bind(&entries[i], inherited)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lns[i] = ln
	}
	if len(errs) == 0 {
		return lns, nil
	}
	for _, ln := range lns {
		if ln != nil {
			ln.Close()
		}
	}
	return nil, errors.Join(errs...)
}

func bind(l *config.Listen, inherited *inheritance) (*net.TCPListener, error) {
	if ln := inherited.take(l); ln != nil {
		return ln, nil
	}
	lc := net.ListenConfig{KeepAlive: -1} // the acceptor sets it, on inherited sockets too
	// Plain TCP: a multipath listener hides its owner from others' error
	// messages, and control connections gain nothing by it.
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), l.Network(), l.Address)
	if err != nil {
		return nil, &bindError{Protocol: string(l.Protocol), Name: l.Name, Address: l.Address, Port: l.Port(), cause: err, owner: ownerFor(err, l.Port())}
	}
	return ln.(*net.TCPListener), nil
}

// bindError says which port cannot be had, why, and what to do about it.
type bindError struct {
	Protocol, Name, Address string
	Port                    uint16
	cause                   error
	owner                   string
}

func (e *bindError) Unwrap() error { return e.cause }

func (e *bindError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listener %s (%s) cannot listen on %s: ", e.Name, e.Protocol, e.Address)
	switch {
	case errors.Is(e.cause, syscall.EADDRINUSE):
		owner := e.owner
		if owner == "" {
			owner = "another socket"
		}
		fmt.Fprintf(&b, "port %d is taken by %s; stop that, or choose another port in this listener's address", e.Port, owner)
		if strings.HasPrefix(owner, "process ") || strings.HasPrefix(owner, "this process") {
			break
		}
		fmt.Fprintf(&b, " (\"sudo ss -ltnp 'sport = :%d'\" shows who it is)", e.Port)
	case errors.Is(e.cause, syscall.EACCES), errors.Is(e.cause, syscall.EPERM):
		fmt.Fprintf(&b, "%s", privileged(e.Port))
	case errors.Is(e.cause, syscall.EADDRNOTAVAIL):
		b.WriteString("no interface of this machine has that address; use one that \"ip address\" shows, or leave the address out for all of them")
	case errors.Is(e.cause, syscall.EAFNOSUPPORT):
		b.WriteString("this machine has no addresses of that family (IPv4 or IPv6)")
	case errors.Is(e.cause, syscall.EMFILE), errors.Is(e.cause, syscall.ENFILE):
		b.WriteString("no file descriptor is left; raise the limit (ulimit -n, or LimitNOFILE in the unit)")
	default:
		b.WriteString(e.cause.Error())
	}
	return b.String()
}

// privileged explains a port that the system keeps for root.
func privileged(port uint16) string {
	exe, err := os.Executable()
	if err != nil {
		exe = "portreeve"
	}
	return fmt.Sprintf("the system keeps port %d for privileged programs. Do one of these: "+
		"\"sudo setcap cap_net_bind_service=+ep %s\"; "+
		"\"sudo sysctl net.ipv4.ip_unprivileged_port_start=%d\"; "+
		"let systemd open the port (a socket unit, or AmbientCapabilities=CAP_NET_BIND_SERVICE); "+
		"or use port %d instead", port, exe, port, fallbackPort(port))
}

// fallbackPort is the customary unprivileged stand-in for a port.
func fallbackPort(port uint16) uint16 {
	switch port {
	case 21:
		return 2121
	case 22:
		return 2222
	}
	return port + 2000
}

func ownerFor(err error, port uint16) string {
	if !errors.Is(err, syscall.EADDRINUSE) || port == 0 {
		return ""
	}
	return portOwner(port)
}

// inheritance is the sockets that systemd opened for us (sd_listen_fds(3)).
type inheritance struct{ lns []*net.TCPListener }

// inherit takes over the sockets passed by the service manager. The variables
// are cleared, so that programs started later do not mistake them for theirs.
func inherit(h *handover) (*inheritance, error) {
	defer os.Unsetenv("LISTEN_PID")
	defer os.Unsetenv("LISTEN_FDS")
	defer os.Unsetenv("LISTEN_FDNAMES")
	in := &inheritance{}
	if h != nil {
		in.adopt(h.sockets)
		return in, nil
	}
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return in, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1024 {
		return nil, fmt.Errorf("the service manager passed sockets in a way that cannot be read (LISTEN_FDS=%q)", os.Getenv("LISTEN_FDS"))
	}
	in.adopt(n)
	return in, nil
}

// adopt takes over n descriptors from 3 on.
func (in *inheritance) adopt(n int) {
	for fd := 3; fd < 3+n; fd++ {
		f := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		ln, err := net.FileListener(f)
		f.Close() // FileListener has made a copy
		if err != nil {
			continue // not a listening socket; not ours to judge
		}
		if t, ok := ln.(*net.TCPListener); ok {
			in.lns = append(in.lns, t)
			continue
		}
		ln.Close()
	}
}

// take returns the inherited socket that l asks for, or nil.
func (in *inheritance) take(l *config.Listen) *net.TCPListener {
	if in == nil {
		return nil
	}
	for i, ln := range in.lns {
		a := addrOf(ln.Addr())
		if a.Port() != l.Port() || !sameHost(a.Addr(), l.Host()) {
			continue
		}
		in.lns = append(in.lns[:i:i], in.lns[i+1:]...)
		return ln
	}
	return nil
}

// takeAddress returns the inherited socket of exactly that address, or nil.
func (in *inheritance) takeAddress(want netip.AddrPort) *net.TCPListener {
	for i, ln := range in.lns {
		if addrOf(ln.Addr()) == want {
			in.lns = append(in.lns[:i:i], in.lns[i+1:]...)
			return ln
		}
	}
	return nil
}

// sameHost compares a bound address with a configured one; all addresses of
// one family and of both count as the same, since [::] may mean either.
func sameHost(bound, want netip.Addr) bool {
	if !want.IsValid() || want.IsUnspecified() {
		return bound.IsUnspecified()
	}
	return bound == want.Unmap()
}

// leftOver names and closes the inherited sockets that no entry asked for.
func (in *inheritance) leftOver() []string {
	var out []string
	for _, ln := range in.lns {
		out = append(out, fmt.Sprintf("the service manager passed a socket for %s, but no [[listen]] entry has that address; it was closed", ln.Addr()))
		ln.Close()
	}
	in.lns = nil
	return out
}

// activeSource finds out whether active data connections of l can start from
// the control port minus 1 (RFC 959 section 3.2: 20 for 21; 989 for 990) by
// binding it once. It returns the port, 0 for any, and the fact as a phrase.
func activeSource(want config.ActiveSource, bound netip.AddrPort) (int, string) {
	if want == config.SourceAny {
		return 0, "any port"
	}
	port := int(bound.Port()) - 1
	if port < 1 {
		return 0, "any port, because there is no port below the control port"
	}
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	// Listening is a stricter test than an outgoing connection needs, but one
	// that cannot disturb anybody: SO_REUSEADDR is set, TIME_WAIT does not count.
	ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(bound.Addr().String(), strconv.Itoa(port)))
	switch {
	case err == nil:
		ln.Close()
		return port, fmt.Sprintf("port %d", port)
	case errors.Is(err, syscall.EADDRINUSE):
		owner := portOwner(uint16(port))
		if owner == "" {
			owner = "another socket"
		}
		return 0, fmt.Sprintf("any port, because port %d is taken by %s", port, owner)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return 0, fmt.Sprintf("any port, because the system keeps port %d for privileged programs (give the program cap_net_bind_service)", port)
	}
	return 0, fmt.Sprintf("any port, because port %d cannot be bound: %v", port, err)
}
