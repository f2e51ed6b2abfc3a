package server

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	insideVar    = "PORTREEVE_TEST_INSIDE"
	notPermitted = 77
)

// inNamespaces reports whether this process has a mount and a network
// namespace of its own; otherwise it runs the test in a process that has, as
// root, in a user namespace, or by sudo where it asks nothing.
func inNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVar) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Logf("no right to change mounts: %v", err)
			os.Exit(notPermitted)
		}
		ipCommand(t, "link", "set", "lo", "up")
		return true
	}
	t.Parallel() // here it only waits
	var said strings.Builder
	for _, how := range [][]string{{"unshare", "-mn"}, {"unshare", "-rmn"}, {"sudo", "-n", "unshare", "-mn"}} {
		args := append(how, "env", insideVar+"="+t.Name(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=90s")
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err == nil {
			return false
		}
		var ee *exec.ExitError
		if errors.As(err, &ee) && (ee.ExitCode() == notPermitted || strings.Contains(string(out), how[len(how)-2]+": ")) {
			said.Write(out)
			continue // unshare or sudo themselves, or the first mount
		}
		t.Fatalf("%v: %v\n%s", how, err, out)
	}
	t.Fatalf("root, user namespaces or sudo without a question are needed:\n%s", &said)
	return false
}

// mountSmall mounts a file system of the size in memory.
func mountSmall(t *testing.T, dir, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func ipCommand(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// TestVanishedClientsAreAskedFor: the options by which the kernel notices a
// client that vanished, on an accepted connection (RFC 1122 section 4.2.3.6, RFC 5482).
func TestVanishedClientsAreAskedFor(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAcceptor(ln.(*net.TCPListener), r.s.log)
	defer a.Close()
	go func() {
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			defer c.Close()
		}
	}()
	c, err := a.next()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	rc.Control(func(fd uintptr) {
		for name, o := range map[string][2]int{"keep-alive": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE}, "idle": {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE},
			"interval": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL}, "count": {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT}, "user timeout": {syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}} {
			got[name], _ = syscall.GetsockoptInt(int(fd), o[0], o[1])
		}
	})
	for name, want := range map[string]int{"keep-alive": 1, "idle": 60, "interval": 15, "count": 4, "user timeout": 120_000} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
}
