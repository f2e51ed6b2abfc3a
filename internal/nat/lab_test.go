//go:build lab

package nat_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The lab is a home: server - router with miniupnpd - client on the Internet,
// in network namespaces of its own. Run it with
//
//	go test -count=1 -tags lab -run Lab ./internal/nat

const inside = "PORTREEVE_NATLAB"

// TestMain builds the program and runs the tests again in private namespaces.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "nat lab:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

func outside() int {
	dir, err := os.MkdirTemp("", "portreeve-natlab")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "portreeve"), "github.com/portreeve/portreeve/cmd/portreeve")
	build.Stderr = os.Stderr
	if build.Run() != nil {
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	err = cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintf(os.Stderr, "nat lab: this system does not let us make namespaces: %v; run as root, or permit unprivileged user namespaces\n", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func furnish() error {
	for _, m := range []struct {
		src, dst, kind string
		flags          uintptr
	}{{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE}, {"proc", "/proc", "proc", 0}, {"tmpfs", "/run", "tmpfs", 0}} {
		if err := syscall.Mount(m.src, m.dst, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dst, err)
		}
	}
	for _, tool := range []string{"ip", "nft", "curl", "sysctl", "miniupnpd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is needed; \"make tools\" installs what the tests use", tool)
		}
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

type lab struct {
	t  *testing.T
	id string
}

func (l *lab) ns(node string) string { return l.id + node }

func (l *lab) command(node string, argv ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.ns(node)}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (l *lab) must(node, stdin string, argv ...string) string {
	l.t.Helper()
	cmd := l.command(node, argv...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %v\n%s", node, argv, err, out)
	}
	return string(out)
}

func (l *lab) ip(args string) {
	l.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// home builds the networks and starts miniupnpd with more lines of configuration.
func home(t *testing.T, id, wan, more string) *lab {
	t.Helper()
	l := &lab{t, id}
	for _, n := range []string{"srv", "rtr", "cli"} {
		l.ip("netns add " + l.ns(n))
		l.must(n, "", "ip", "link", "set", "lo", "up")
	}
	link := func(a, aName, aAddr, b, bName, bAddr string) {
		l.ip(fmt.Sprintf("link add %s netns %s type veth peer name %s netns %s", aName, l.ns(a), bName, l.ns(b)))
		l.must(a, "", "ip", "addr", "add", aAddr, "dev", aName)
		l.must(b, "", "ip", "addr", "add", bAddr, "dev", bName)
		l.must(a, "", "ip", "link", "set", aName, "up")
		l.must(b, "", "ip", "link", "set", bName, "up")
	}
	network := wan[:strings.LastIndex(wan, ".")]
	link("srv", "eth0", "192.168.50.10/24", "rtr", "lan", "192.168.50.1/24")
	link("cli", "eth0", network+".9/24", "rtr", "wan", wan+"/24")
	l.must("srv", "", "ip", "route", "add", "default", "via", "192.168.50.1")
	l.must("rtr", "", "sysctl", "-qw", "net.ipv4.ip_forward=1")
	l.must("rtr", `table inet filter {
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump up; }
	chain up { }
	chain prerouting { type nat hook prerouting priority -100; jump pre; }
	chain postrouting { type nat hook postrouting priority 100; jump post; oifname "wan" masquerade; }
	chain pre { }
	chain post { }
}
`, "nft", "-f", "-")
	conf := filepath.Join(t.TempDir(), "miniupnpd.conf")
	text := "ext_ifname=wan\nlistening_ip=lan\nhttp_port=5000\nsecure_mode=no\nuuid=00000000-0000-0000-0000-000000000001\nupnp_forward_chain=up\nupnp_nat_chain=pre\nupnp_nat_postrouting_chain=post\nlease_file=" + conf + ".leases\n" + more
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var logs lockedBuffer
	d := l.command("rtr", "miniupnpd", "-d", "-f", conf, "-P", conf+".pid")
	d.Stdout, d.Stderr = &logs, &logs
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Process.Kill()
		d.Wait()
		if t.Failed() {
			t.Logf("miniupnpd said:\n%s", logs.String())
		}
	})
	l.eventually("miniupnpd", func() bool {
		return strings.Contains(logs.String(), "HTTP listening on port") || strings.Contains(l.must("rtr", "", "cat", "/proc/net/udp"), ":14E7 ")
	})
	return l
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Fatalf("waited in vain for %s", what)
}

func (l *lab) rules() string {
	return l.must("rtr", "", "nft", "list", "chain", "inet", "filter", "pre")
}

// program starts portreeve on the server; stop sends SIGTERM and returns what it said.
func (l *lab) program(dir string, args ...string) (out *lockedBuffer, stop func() int) {
	l.t.Helper()
	out = &lockedBuffer{}
	cmd := l.command("srv", append([]string{filepath.Join(os.Getenv(inside), "portreeve"), "--config", filepath.Join(dir, "portreeve.toml")}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	l.t.Cleanup(func() { cmd.Process.Kill(); <-done })
	return out, func() int {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			l.t.Errorf("portreeve %v does not stop", args)
		}
		return cmd.ProcessState.ExitCode()
	}
}

func config(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	text := "data_dir = \"data\"\n[anonymous]\nenabled = true\nhome = \"pub\"\n[ftp.passive]\nports = \"50000-50004\"\n" + more + "[[listen]]\nprotocol = \"ftp\"\naddress = \"0.0.0.0:21\"\ntls = \"offered\"\n"
	for name, body := range map[string]string{"portreeve.toml": text, "pub/hello": "hello from inside\n"} {
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "data"), 0o700)
	return dir
}

// protocols are what the router speaks, and the source that is then found.
var protocols = map[string]struct{ conf, source string }{
	"pcp":  {"enable_natpmp=yes\nenable_upnp=no\n", "pcp"},
	"upnp": {"enable_natpmp=no\nenable_upnp=yes\n", "upnp"},
}

// TestLabMap: "ports map" opens the ports on a real router and closes them at its end.
func TestLabMap(t *testing.T) {
	for name, p := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := home(t, "m"+name, "5.6.7.1", p.conf)
			dir := config(t, "")
			out, stop := l.program(dir, "ports", "map", "--json")
			l.eventually("six mappings", func() bool { return strings.Count(out.String(), `"event":"mapped"`) == 6 })
			if r := l.rules(); strings.Count(r, "192.168.50.10") != 6 || !strings.Contains(r, ":21") {
				t.Errorf("the router's rules are\n%s", r)
			}
			for line := range strings.Lines(out.String()) {
				var e struct{ Event, Source, Address string }
				if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == "mapped" && (e.Source != p.source || e.Address != "5.6.7.1") {
					t.Errorf("%s (%v), want source %s", line, err, p.source)
				}
			}
			if code := stop(); code != 0 {
				t.Errorf("exit code %d\n%s", code, out.String())
			}
			if r := l.rules(); strings.Contains(r, "192.168.50.10") {
				t.Errorf("still there after the end:\n%s\n%s", r, out.String())
			}
		})
	}
}

// TestLabServe: a server that keeps the mapping itself works for a client on
// the Internet, which hears the public address, and for itself, at once.
func TestLabServe(t *testing.T) {
	for name, p := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := home(t, "s"+name, "5.6.7.1", p.conf)
			dir := config(t, "[nat]\nrouter = true\n")
			out, stop := l.program(dir, "serve")
			l.eventually("the mappings", func() bool { return strings.Count(out.String(), "the router forwards 5.6.7.1:") == 6 })
			for node, host := range map[string]string{"cli": "5.6.7.1", "srv": "192.168.50.10"} {
				text := l.must(node, "", "curl", "-sv", "--max-time", "10", "--disable-epsv", "--no-ftp-skip-pasv-ip", "ftp://"+host+"/hello")
				if !strings.Contains(text, "hello from inside") || !strings.Contains(text, "("+strings.ReplaceAll(host, ".", ",")+",") {
					t.Errorf("%s:\n%s", node, text)
				}
			}
			stop()
			if r := l.rules(); strings.Contains(r, "192.168.50.10") {
				t.Errorf("still there after the end:\n%s\n%s", r, out.String())
			}
		})
	}
}

// TestLabCGNAT: a router that sits behind the provider's NAT is recognised.
func TestLabCGNAT(t *testing.T) {
	for name, p := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := home(t, "c"+name, "100.72.3.1", p.conf)
			out, stop := l.program(config(t, ""), "ports", "map", "--check")
			l.eventually("a verdict", func() bool { return strings.Contains(out.String(), "cure:") })
			if code := stop(); code != 3 || !strings.Contains(out.String(), "CGNAT") && !strings.Contains(out.String(), "DOUBLE_NAT") {
				t.Errorf("exit code %d\n%s", code, out.String())
			}
		})
	}
}
