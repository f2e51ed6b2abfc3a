//go:build lab

package netlab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The addresses of the lab. Those of its Internet are from ranges that no code
// takes for private or for documentation.
//
//	c --- cr --- inet --- sr --- s
//	                       \---- l   another machine in the server's network
const (
	clientPublic  = "5.6.7.10"
	clientPrivate = "192.168.77.10"
	serverPublic  = "5.6.8.10"
	serverPrivate = "192.168.88.10"
	routerOuter   = "5.6.2.2" // of sr
	server6       = "2a0a:e5c1:8::10"
	client6       = "2a0a:e5c1:7::10"
	passive       = "20000-20019"
)

// topology is one network with one fault.
type topology struct {
	name      string
	clientNAT bool
	serverNAT bool
	config    string            // further lines of the server's configuration
	rules     map[string]string // nft rules for a node
	setup     []string          // shell lines "node: command"
	from      string            // node the doctor runs on; "c" when empty
	target    string            // default: ftp:// and the server's address
	flags     []string          // for the doctor
	want      string            // modes and outcomes, see letters
	code      string            // of the first finding, "" for none
	could     string            // a code that the first finding must name as possible
	box       string            // where it is cured
	fix       string            // words of the cure
	curl      bool              // curl gets the listing
	cure      *cure
	peer      string   // another server instead of Portreeve; config is in its language
	here      bool     // the doctor runs on the server, without an address
	nodes     []string // further nodes
	links     []string // between them: "name a addresses b addresses"
	on        string   // node of the server; "s" when empty
	tools     []string // programs of tools_test.go that run meanwhile: "node: tool argument..."
	limits    string   // lines of [limits]; a few connections when empty
}

// cure is applied after the diagnosis; the transfer must work then.
type cure struct {
	rules  map[string]string
	config string
	shell  []string
	open   string // apply what "ports open --for" prints on the server
}

var labs atomic.Int32

// lab is a built topology.
type lab struct {
	t      *testing.T
	top    *topology
	id     string
	dir    string
	server *exec.Cmd
	behind []*exec.Cmd // tools
}

func (l *lab) ns(node string) string { return l.id + node }

// run executes a program on a node.
func (l *lab) run(node, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.ns(node)}, argv...)...)
	c.Dir = l.dir
	c.Stdin = strings.NewReader(stdin)
	var out, bad bytes.Buffer
	c.Stdout, c.Stderr = &out, &bad
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%s: %v: %w: %s", node, argv, err, strings.TrimSpace(bad.String()))
	}
	return out.String(), err
}

func (l *lab) must(node, stdin string, argv ...string) string {
	l.t.Helper()
	out, err := l.run(node, stdin, argv...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lab) ip(args string) {
	l.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// link joins two nodes; each end is "node address[,address]".
func (l *lab) link(name, a, aAddrs, b, bAddrs string) {
	l.t.Helper()
	tmpA, tmpB := l.id+name+"a", l.id+name+"b"
	l.ip(fmt.Sprintf("link add %s type veth peer name %s", tmpA, tmpB))
	for _, end := range [][3]string{{tmpA, a, aAddrs}, {tmpB, b, bAddrs}} {
		l.ip(fmt.Sprintf("link set %s netns %s name %s", end[0], l.ns(end[1]), name))
		for _, addr := range strings.Split(end[2], ",") {
			nodad := ""
			if strings.Contains(addr, ":") {
				nodad = " nodad"
			}
			l.ip(fmt.Sprintf("-n %s addr add %s dev %s%s", l.ns(end[1]), addr, name, nodad))
		}
		l.ip(fmt.Sprintf("-n %s link set %s up", l.ns(end[1]), name))
	}
}

// build makes the network and starts the server.
func build(t *testing.T, top *topology) *lab {
	l := &lab{t: t, top: top, id: fmt.Sprintf("p%d", labs.Add(1)), dir: t.TempDir()}
	nodes := append([]string{"c", "cr", "inet", "sr", "s", "l"}, top.nodes...)
	t.Cleanup(func() {
		l.stop()
		for _, c := range l.behind {
			c.Process.Kill()
			c.Wait()
		}
		for _, n := range nodes {
			exec.Command("ip", "netns", "del", l.ns(n)).Run() // a node that was never made is gone already
		}
	})
	for _, n := range nodes {
		l.ip("netns add " + l.ns(n))
		l.ip("-n " + l.ns(n) + " link set lo up")
		l.must(n, "", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	}
	cNet, sNet := "5.6.7", "5.6.8"
	if top.clientNAT {
		cNet = "192.168.77"
	}
	if top.serverNAT {
		sNet = "192.168.88"
	}
	l.link("lan", "c", cNet+".10/24,"+client6+"/64", "cr", cNet+".1/24,2a0a:e5c1:7::1/64")
	l.link("wan1", "cr", "5.6.1.2/24,2a0a:e5c1:1::2/64", "inet", "5.6.1.1/24,2a0a:e5c1:1::1/64")
	l.link("wan2", "inet", "5.6.2.1/24,2a0a:e5c1:2::1/64", "sr", routerOuter+"/24,2a0a:e5c1:2::2/64")
	// The server's network is a bridge on sr.
	l.ip("-n " + l.ns("sr") + " link add lan type bridge")
	l.ip("-n " + l.ns("sr") + " addr add " + sNet + ".1/24 dev lan")
	l.ip("-n " + l.ns("sr") + " addr add 2a0a:e5c1:8::1/64 dev lan nodad")
	l.ip("-n " + l.ns("sr") + " link set lan up")
	for i, n := range []string{"s", "l"} {
		l.link("eth"+n, n, fmt.Sprintf("%s.%d/24,2a0a:e5c1:8::%d/64", sNet, 10*(i+1), 10*(i+1)), "sr", fmt.Sprintf("169.254.%d.1/30", i+1))
		l.ip("-n " + l.ns("sr") + " link set eth" + n + " master lan")
		l.ip("-n " + l.ns(n) + " route add default via " + sNet + ".1")
		l.ip("-n " + l.ns(n) + " -6 route add default via 2a0a:e5c1:8::1")
	}
	for _, r := range []string{
		"c route add default via " + cNet + ".1", "c -6 route add default via 2a0a:e5c1:7::1",
		"cr route add default via 5.6.1.1", "cr -6 route add default via 2a0a:e5c1:1::1",
		"sr route add default via 5.6.2.1", "sr -6 route add default via 2a0a:e5c1:2::1",
		"inet route add 5.6.7.0/24 via 5.6.1.2", "inet -6 route add 2a0a:e5c1:7::/64 via 2a0a:e5c1:1::2",
		"inet route add 5.6.8.0/24 via 5.6.2.2", "inet -6 route add 2a0a:e5c1:8::/64 via 2a0a:e5c1:2::2",
		"inet route add blackhole 192.168.0.0/16", "inet route add blackhole 7.0.0.0/8", // the Internet says nothing about these
	} {
		node, args, _ := strings.Cut(r, " ")
		l.ip("-n " + l.ns(node) + " " + args)
	}
	if top.clientNAT {
		l.nft("cr", "table ip nat {\n chain post {\n type nat hook postrouting priority srcnat\n oifname wan1 masquerade\n }\n}\n")
	}
	if top.serverNAT {
		l.nft("sr", "table ip nat {\n chain post {\n type nat hook postrouting priority srcnat\n oifname wan2 masquerade\n }\n}\n")
	}
	for _, link := range top.links {
		f := strings.Fields(link)
		l.link(f[0], f[1], f[2], f[3], f[4])
	}
	for node, rules := range top.rules {
		l.nft(node, rules)
	}
	l.shell(top.setup)
	for _, line := range top.tools {
		l.behindTool(line)
	}
	if top.peer != "" {
		l.startPeer(top.peer, top.config)
	} else {
		l.start(top.config)
	}
	return l
}

func (l *lab) nft(node, rules string) {
	l.t.Helper()
	l.must(node, rules, "nft", "-f", "-")
}

func (l *lab) shell(lines []string) {
	l.t.Helper()
	for _, line := range lines {
		node, cmd, _ := strings.Cut(line, ": ")
		l.must(node, "", "sh", "-c", cmd)
	}
}

// host is the node that the server runs on.
func (l *lab) host() string { return cmp.Or(l.top.on, "s") }

// behindTool starts a tool that runs until the lab is taken down.
func (l *lab) behindTool(line string) {
	l.t.Helper()
	node, args, _ := strings.Cut(line, ": ")
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns(node), ""}, strings.Fields(args)...)...)
	exe, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	c.Args[4] = exe
	c.Env = append(os.Environ(), toolVar+"=1")
	c.Dir = l.dir
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.behind = append(l.behind, c)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		l.t.Fatalf("%s did not start: %v", line, err)
	}
}

// binary is the built program.
func binary() string { return filepath.Join(os.Getenv(insideVar), "portreeve") }

const password = "Rook-7-Takes-Pawn"

// start writes the configuration, makes the account at the first time, and
// runs the server on s.
func (l *lab) start(extra string) {
	l.t.Helper()
	if !strings.Contains(extra, "[[listen]]") {
		extra = "[[listen]]\nprotocol = \"ftp\"\naddress = \":21\"\ntls = \"offered\"\n[[listen]]\nprotocol = \"ftps\"\naddress = \":990\"\n" + extra
	}
	head := fmt.Sprintf("data_dir = %q\ndrain = \"1s\"\n", filepath.Join(l.dir, "data"))
	limits := "[limits]\n" + cmp.Or(l.top.limits, "max_connections = 20\n")
	if !strings.Contains(extra, "[ftp]") {
		extra += "[ftp]\ndata_timeout = \"3s\"\n"
	}
	if !strings.Contains(extra, "[ftp.passive]") {
		extra += "[ftp.passive]\nports = \"" + passive + "\"\n"
	}
	conf := filepath.Join(l.dir, "portreeve.toml")
	if err := os.WriteFile(conf, []byte(head+extra+limits), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "home")); err != nil {
		home := filepath.Join(l.dir, "home")
		if err := os.Mkdir(home, 0o700); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, "hello.txt"), []byte("hello\n"), 0o600); err != nil {
			l.t.Fatal(err)
		}
		l.must(l.host(), password+"\n", binary(), "-c", conf, "user", "add", "lab", "--home", home, "--password-stdin")
	}
	log, err := os.Create(filepath.Join(l.dir, "server.log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	l.server = exec.Command("ip", "netns", "exec", l.ns(l.host()), binary(), "-c", conf, "serve")
	l.server.Stderr, l.server.Stdout = log, log
	if err := l.server.Start(); err != nil {
		l.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		b, _ := os.ReadFile(log.Name()) // empty while it starts
		if bytes.Contains(b, []byte("server.start")) {
			return
		}
		if time.Now().After(end) || l.top.here && bytes.Contains(b, []byte("cannot listen")) {
			if l.top.here {
				return // the doctor is to say why
			}
			l.t.Fatalf("the server did not start:\n%s", b)
		}
	}
}

func (l *lab) stop() {
	if l.server == nil || l.server.Process == nil {
		return
	}
	l.server.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { l.server.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		l.server.Process.Kill()
		<-done
	}
	l.server = nil
}

// probe, finding and report are what is read of the doctor's JSON.
type probe struct {
	Family, Security, Mode, Stage, Outcome string
	Reply                                  int
}

type finding struct {
	Code, Box, Cause, Fix, Severity string
	Could                           []string
}

type report struct {
	Probes   []probe
	Findings []finding
}

func (l *lab) address() string {
	if l.top.serverNAT {
		return routerOuter
	}
	return serverPublic
}

// doctor runs the doctor and returns what it says.
func (l *lab) doctor() (report, string) {
	l.t.Helper()
	var r report
	argv := []string{binary(), "doctor", "--json", "--no-router"}
	if l.top.here {
		argv = []string{binary(), "-c", filepath.Join(l.dir, "portreeve.toml"), "doctor", "--json", "--no-router"}
	} else {
		target := l.top.target
		if target == "" {
			target = "ftp://" + l.address()
		}
		argv = append(argv[:3], target, "--timeout", "4s")
		if l.top.peer != "vsftpd" { // that one has no accounts here
			argv = append(argv, "--user", "lab", "--password-stdin")
		}
		quick := true
		for _, f := range l.top.flags {
			quick = quick && f != "--idle"
		}
		if quick {
			argv = append(argv, "--quick")
		}
		argv = append(argv, l.top.flags...)
	}
	from := l.top.from
	if from == "" {
		from = "c"
	}
	if l.top.here {
		from = l.host()
	}
	out, err := l.run(from, password+"\n", argv...)
	var ee *exec.ExitError
	if err != nil && !(errors.As(err, &ee) && ee.ExitCode() == 3) {
		l.t.Fatal(err)
	}
	if e := json.Unmarshal([]byte(out), &r); e != nil {
		l.t.Fatalf("%v in:\n%s", e, out)
	}
	found := false
	for _, f := range r.Findings {
		found = found || f.Severity != "note"
	}
	if found != (err != nil) {
		l.t.Errorf("exit code says findings: %t, the list says %t", err != nil, found)
	}
	return r, out
}

// curl fetches a listing with a real client, PASV taken at its word.
func (l *lab) curl() bool {
	from := l.top.from
	if from == "" {
		from = "c"
	}
	account := "lab:" + password
	if l.top.peer == "vsftpd" {
		account = "anonymous:x"
	}
	_, err := l.run(from, "", "curl", "-sSk", "--max-time", "12", "--connect-timeout", "4", "--disable-epsv", "--no-ftp-skip-pasv-ip", "--user", account, l.curlURL()+"/")
	return err == nil
}

// curlURL is the target, by address: the hosts of the lab have two families.
func (l *lab) curlURL() string {
	if l.top.target == "" || strings.Contains(l.top.target, "both.lab") {
		return "ftp://" + l.address()
	}
	return l.top.target
}
