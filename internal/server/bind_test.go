package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/ports"
)

func plainListen(t *testing.T, addr string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestBindErrorsTogether: all ports that cannot be had are told at once, with
// owner and cure, and nothing stays bound.
func TestBindErrorsTogether(t *testing.T) {
	one, two := plainListen(t, "127.0.0.1:0").Addr().(*net.TCPAddr).Port, plainListen(t, "127.0.0.1:0").Addr().(*net.TCPAddr).Port
	free := freePort(t)
	r := prepare(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", free), `tls = "off"`)+
		listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", one), `tls = "off"`)+
		listenTOML("ftps", fmt.Sprintf("127.0.0.1:%d", two), "")+
		listenTOML("ftp", "192.0.2.250:2121", `tls = "off"`))
	_, err := New(r.config(), r.options())
	if err == nil {
		t.Fatal("started on ports of others")
	}
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	contains(t, err.Error(), fmt.Sprintf("(ftp) cannot listen on 127.0.0.1:%d", one), fmt.Sprintf("(ftps) cannot listen on 127.0.0.1:%d", two),
		self, "192.0.2.250:2121: no interface of this machine has that address")
	if strings.Contains(err.Error(), fmt.Sprint("port ", free, " ")) {
		t.Errorf("the free port is among the problems: %v", err)
	}
	plainListen(t, fmt.Sprintf("127.0.0.1:%d", free)).Close()
	lock, err := lockDir(filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatalf("the data directory is still locked: %v", err)
	}
	lock.unlock()
}

// TestOwnerIsNamed: a port of another process is told with its name and number.
func TestOwnerIsNamed(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("this test needs python3: %v", err)
	}
	cmd := exec.Command(python, "-c", "import socket,sys\ns=socket.create_server(('127.0.0.1',0))\nprint(s.getsockname()[1],flush=True)\nsys.stdin.read()")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	var port int
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	_, err = bindAll([]config.Listen{{Name: "x", Protocol: config.ProtocolFTP, Address: fmt.Sprintf("127.0.0.1:%d", port)}}, nil)
	if err == nil {
		t.Fatal("bound a port of another process")
	}
	contains(t, err.Error(), "process python3", fmt.Sprintf("(pid %d)", cmd.Process.Pid), "choose another port")
}

func TestBindErrorTexts(t *testing.T) {
	tests := []struct {
		cause error
		owner string
		port  uint16
		want  []string
	}{
		{syscall.EACCES, "", 21, []string{"keeps port 21", "setcap cap_net_bind_service=+ep ", "ip_unprivileged_port_start=21", "systemd", "use port 2121 instead"}},
		{syscall.EACCES, "", 990, []string{"use port 2990 instead"}},
		{syscall.EADDRINUSE, "process vsftpd (pid 7)", 21, []string{"port 21 is taken by process vsftpd (pid 7); stop that, or choose another port"}},
		{syscall.EADDRINUSE, "", 21, []string{"taken by another socket", "sudo ss -ltnp 'sport = :21'"}},
		{syscall.EMFILE, "", 21, []string{"no file descriptor is left"}},
		{errors.New("odd"), "", 21, []string{"odd"}},
	}
	for _, tt := range tests {
		err := &bindError{Protocol: "ftp", Name: "ftp-21", Address: ":21", Port: tt.port, cause: &net.OpError{Op: "listen", Err: tt.cause}, owner: tt.owner}
		contains(t, err.Error(), append(tt.want, "listener ftp-21 (ftp) cannot listen on :21")...)
		if !errors.Is(err, tt.cause) {
			t.Errorf("%v: the cause is lost", tt.cause)
		}
	}
}

func TestOwnerAmong(t *testing.T) {
	ls := []ports.Listener{
		{Addr: netip.MustParseAddrPort("0.0.0.0:21"), PID: 5, Owner: "vsftpd"},
		{Addr: netip.MustParseAddrPort("[::]:990")},
		{Addr: netip.MustParseAddrPort("127.0.0.1:2121"), PID: 9, Owner: "portreeve"},
	}
	for port, want := range map[uint16]string{21: "process vsftpd (pid 5)", 990: "a process that only root may see", 2121: "this process itself (pid 9)", 22: ""} {
		if got := ownerAmong(ls, port, 9); got != want {
			t.Errorf("port %d: %q, want %q", port, got, want)
		}
	}
}

func TestTwoServersOneDirectory(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	_, err := New(r.config(), r.options())
	if err == nil {
		t.Fatal("two servers on one data directory")
	}
	contains(t, err.Error(), "another portreeve", fmt.Sprintf("(pid %d)", os.Getpid()), filepath.Join(r.dir, "data"), "name another data_dir")
	if pid := HolderOf(filepath.Join(r.dir, "data")); pid != os.Getpid() {
		t.Errorf("HolderOf says %d", pid)
	}
	put(t, r.dial(0, inClear), "/still-here", []byte("x"))
	r.halt()
	if pid := HolderOf(filepath.Join(r.dir, "data")); pid != 0 {
		t.Errorf("HolderOf says %d after the end", pid)
	}
	if pid := HolderOf(t.TempDir()); pid != 0 {
		t.Errorf("HolderOf says %d for an empty directory", pid)
	}
}

func TestActiveSource(t *testing.T) {
	p := freePort(t)
	bound := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(p+1))
	if port, text := activeSource(config.SourceControl, bound); port != p || text != fmt.Sprintf("port %d", p) {
		t.Errorf("free: %d, %q", port, text)
	}
	if port, text := activeSource(config.SourceAny, bound); port != 0 || text != "any port" {
		t.Errorf("any: %d, %q", port, text)
	}
	plainListen(t, fmt.Sprintf("127.0.0.1:%d", p))
	port, text := activeSource(config.SourceControl, bound)
	if port != 0 {
		t.Errorf("taken: port %d", port)
	}
	contains(t, text, "any port, because", fmt.Sprintf("port %d is taken by this process itself", p))
}

// TestInherit runs this test again in a process that gets its socket the way systemd passes it.
func TestInherit(t *testing.T) {
	if os.Getenv("PORTREEVE_TEST_INHERIT") != "" {
		os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
		in, err := inherit(nil)
		if err != nil || len(in.lns) != 2 {
			t.Fatalf("%v, %v", in, err)
		}
		l := config.Listen{Name: "x", Protocol: config.ProtocolFTP, Address: os.Getenv("PORTREEVE_TEST_INHERIT")}
		lns, err := bindAll([]config.Listen{l}, in)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := lns[0].Accept(); err != nil {
			t.Fatal(err)
		}
		if left := in.leftOver(); len(left) != 1 || !strings.Contains(left[0], "no [[listen]] entry has that address") {
			t.Errorf("left over: %v", left)
		}
		if os.Getenv("LISTEN_FDS") != "" {
			t.Error("LISTEN_FDS is left for child processes")
		}
		return
	}
	var files []*os.File
	var addr string
	for range 2 {
		ln := plainListen(t, "127.0.0.1:0")
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files, addr = append(files, f), ln.Addr().String()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInherit$", "-test.v")
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "PORTREEVE_TEST_INHERIT="+addr)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
