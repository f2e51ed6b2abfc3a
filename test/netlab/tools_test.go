//go:build lab

package netlab

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// toolVar makes the test binary a program that a node of the lab runs: a box
// that the kernel has no rules for, or a crowd of clients.
const toolVar = "PORTREEVE_LAB_TOOL"

// tool runs one and returns its exit code. Boxes print a line once they listen.
func tool(args []string) int {
	run := map[string]func([]string) error{"nat64": nat64, "accept": accept, "forward": forwardTCP, "ftpproxy": ftpProxy, "inspect": inspect, "swarm": swarm, "thief": thief}[args[0]]
	if run == nil {
		fmt.Fprintln(os.Stderr, "no tool", args[0])
		return 2
	}
	if err := run(args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, args[0]+":", err)
		return 1
	}
	return 0
}

// serve handles connections to some ports ("21,990,20000-20019") of an address.
func serve(addr, ports string, handle func(net.Conn)) error {
	for part := range strings.SplitSeq(ports, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		lo, err := strconv.Atoi(first)
		if err != nil {
			return err
		}
		hi, err := strconv.Atoi(last)
		if err != nil {
			return err
		}
		for p := lo; p <= hi; p++ {
			lc := net.ListenConfig{}
			lc.SetMultipathTCP(false)
			ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(addr, strconv.Itoa(p)))
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						handle(c)
					}()
				}
			}()
		}
	}
	fmt.Println("listening")
	select {}
}

// pipe copies both ways until both ends are done.
func pipe(a, b net.Conn) {
	done := make(chan struct{}, 2)
	half := func(to, from net.Conn) {
		io.Copy(to, from)
		if w, ok := to.(interface{ CloseWrite() error }); ok {
			w.CloseWrite()
		}
		done <- struct{}{}
	}
	go half(a, b)
	go half(b, a)
	<-done
	<-done
}

// nat64 takes connections to addresses of 64:ff9b::/96, routed to it as local,
// on over IPv4 to the address and port that they mean.
func nat64(args []string) error {
	return serve("::", args[0], func(c net.Conn) {
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		b := local.Addr().As16()
		out, err := net.DialTimeout("tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), local.Port()).String(), 3*time.Second)
		if err != nil {
			c.(*net.TCPConn).SetLinger(0)
			return
		}
		defer out.Close()
		pipe(c, out)
	})
}

// accept takes connections and says nothing: another node's server, or a
// balancer whose node is dead when "close" is asked for.
func accept(args []string) error {
	return serve(args[0], args[1], func(c net.Conn) {
		if len(args) < 3 {
			io.Copy(io.Discard, c)
		}
	})
}

// forwardTCP is a userland proxy, as Docker has: connections go on to the same
// port of another address, and come from this machine then.
func forwardTCP(args []string) error {
	return serve(args[0], args[1], func(c net.Conn) {
		to := net.JoinHostPort(args[2], strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port))
		out, err := net.DialTimeout("tcp4", to, 3*time.Second)
		if err != nil {
			return
		}
		defer out.Close()
		pipe(c, out)
	})
}

// asClient connects from the address of the client, which takes policy routes
// on the node: transparent says which.
func asClient(c net.Conn, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: c.RemoteAddr().(*net.TCPAddr).IP}}
	d.Control = func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_IP, syscall.IP_TRANSPARENT, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}
	return d.Dial("tcp4", to)
}

// ftpProxy is an old transparent FTP proxy: it knows no EPSV and no AUTH, and
// puts an address of its own into the reply to PASV, behind which it forwards,
// or nothing is when "dead" is asked for.
//
//	ftpproxy PORT SERVER:PORT OWN-ADDRESS [dead]
func ftpProxy(args []string) error {
	return serve("0.0.0.0", args[0], func(c net.Conn) {
		out, err := asClient(c, args[1])
		if err != nil {
			return
		}
		defer out.Close()
		go func() {
			defer c.Close()
			for s := bufio.NewScanner(out); s.Scan(); {
				line := s.Text()
				if strings.HasPrefix(line, "227 ") {
					line = proxied(line, c, args[2], len(args) > 3)
				}
				if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
					return
				}
			}
		}()
		for s := bufio.NewScanner(c); s.Scan(); {
			switch verb, _, _ := strings.Cut(strings.ToUpper(s.Text()), " "); verb {
			case "EPSV", "EPRT", "AUTH":
				fmt.Fprintf(c, "500 '%s': command not understood.\r\n", verb)
			default:
				fmt.Fprintf(out, "%s\r\n", s.Text())
			}
		}
	})
}

// proxied announces a listener of the proxy for the server's passive port.
func proxied(line string, c net.Conn, own string, dead bool) string {
	_, nums, _ := strings.Cut(line, "(")
	n := strings.Split(strings.TrimRight(nums, ")."), ",")
	if len(n) != 6 {
		return line
	}
	host := strings.ReplaceAll(own, ".", ",")
	if dead {
		return fmt.Sprintf("227 Entering Passive Mode (%s,%s,%s)", host, n[4], n[5])
	}
	ln, err := net.Listen("tcp4", own+":0")
	if err != nil {
		return line
	}
	hi, _ := strconv.Atoi(n[4])
	lo, _ := strconv.Atoi(n[5])
	to := net.JoinHostPort(strings.Join(n[:4], "."), strconv.Itoa(hi<<8|lo))
	go func() {
		defer ln.Close()
		ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
		data, err := ln.Accept()
		if err != nil {
			return
		}
		defer data.Close()
		if out, err := asClient(c, to); err == nil {
			defer out.Close()
			pipe(data, out)
		}
	}()
	p := ln.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("227 Entering Passive Mode (%s,%d,%d)", host, p>>8, p&255)
}

// inspect opens TLS on the control connection after AUTH TLS, with a
// certificate of its own, as a box does that reads what passes.
//
//	inspect PORT SERVER:PORT
func inspect(args []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "inspection"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	own := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return serve("0.0.0.0", args[0], func(c net.Conn) {
		out, err := asClient(c, args[1])
		if err != nil {
			return
		}
		defer out.Close()
		cr, sr := bufio.NewReader(c), bufio.NewReader(out)
		answer := func() bool {
			line, err := sr.ReadString('\n')
			if err != nil {
				return false
			}
			io.WriteString(c, line)
			return true
		}
		if !answer() {
			return
		}
		line, err := cr.ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(out, line)
		if !strings.HasPrefix(strings.ToUpper(line), "AUTH") {
			pipe(c, out) // in the clear it only watches
			return
		}
		if answer() {
			pipe(tls.Server(c, own), tls.Client(out, &tls.Config{InsecureSkipVerify: true}))
		}
	})
}
