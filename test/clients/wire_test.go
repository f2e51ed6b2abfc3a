//go:build clients

package clients

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// wireMark stands many times in the file that crosses the wire.
const wireMark = "the-secret-content-of-this-file;"

// TestWire captures the loopback interface during sessions and looks for the
// password and the content of a file. Without TLS both are there, which shows
// that the capture sees them; under required TLS neither is, with any client.
func TestWire(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("PORTREEVE_WIRE") == "" {
		wireAsRoot(t)
		return
	}
	c := Config{Listen: []Listener{
		{Name: "plain", Protocol: "ftp", Keys: `tls = "off"`},
		{Name: "explicit", Protocol: "ftp", Keys: `tls = "required"`},
		{Name: "implicit", Protocol: "ftps"},
	}}
	for _, tool := range []string{"curl", "lftp"} {
		Tool(t, tool, tool)
	}
	for _, l := range c.Listen {
		for _, tool := range []client{{name: "curl", run: runCurl}, {name: "lftp", run: runLftp}} {
			t.Run(tool.name+"/"+l.Name, func(t *testing.T) {
				// A server of its own has ports of its own, which bound the capture.
				s := Start(t, c)
				wire(t, s, tool, l.Name)
			})
		}
	}
}

func wire(t *testing.T, s *Server, tool client, listener string) {
	e := env{t: t, s: s, tls: listener, on: listener, addr: s.Addr(listener), port: portText(s, listener), u: s.AddUser(t, "ann"), dir: TempDir(t)}
	writeFile(t, filepath.Join(e.dir, "in"), bytes.Repeat([]byte(wireMark), 2000))
	capture := startCapture(t, s.owns)
	r := tool.run(e, []op{{"put", "in", "/file"}, {"get", "/file", "out"}, {"list", "/", ""}})
	if r.Err != nil {
		t.Fatalf("%v\n%s\n%s", r.Err, r.Text(), s.Log.Dialog(e.u.Name))
	}
	SameFile(t, filepath.Join(e.dir, "in"), filepath.Join(e.dir, "out"))
	seen := capture.stop(t)
	for what, secret := range map[string]string{"password": Password, "content": wireMark} {
		clear := bytes.Contains(seen, []byte(secret))
		if listener == "plain" && !clear {
			t.Errorf("the capture of %d bytes does not hold the %s, although nothing protects it", len(seen), what)
		}
		if listener != "plain" && clear {
			t.Errorf("the %s crossed the wire in clear text", what)
		}
	}
	if listener == "plain" && !bytes.Contains(seen, []byte("USER ann")) {
		t.Error("the capture does not hold the commands")
	}
	if listener != "plain" && bytes.Contains(seen, []byte("USER ann")) {
		t.Error("the name of the account crossed the wire in clear text")
	}
}

// wireAsRoot runs this test again as root of a new user and network name
// space, whose loopback interface a raw socket may read.
func wireAsRoot(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestWire$", "-test.v")
	cmd.Env = append(os.Environ(), "PORTREEVE_WIRE=1", "PORTREEVE_BINARY="+program(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a name space of its own, as this user is not root: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: TestWire/"); n != 6 {
		t.Fatalf("%d of 6 captures ran:\n%s", n, out)
	}
}

// capture collects the payload of TCP packets on the loopback interface, each
// connection and direction by itself so that words stay together.
type capture struct {
	fd      int
	owns    func(port int) bool // the ports of interest
	mu      sync.Mutex
	streams map[string]*bytes.Buffer // nil at the end
	done    chan struct{}
}

func startCapture(t *testing.T, owns func(port int) bool) *capture {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if lo.Flags&net.FlagUp == 0 {
		Cmd{Args: []string{Tool(t, "ip", "iproute2"), "link", "set", "lo", "up"}, Dir: root}.Must(t)
	}
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatalf("a packet socket: %v; the test needs CAP_NET_RAW", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	const soRcvbufForce = 33
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soRcvbufForce, 64<<20)
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000})
	c := &capture{fd: fd, owns: owns, streams: map[string]*bytes.Buffer{}, done: make(chan struct{})}
	go c.read()
	t.Cleanup(func() {
		c.end()
		syscall.Close(fd)
	})
	return c
}

func (c *capture) read() {
	defer close(c.done)
	buf := make([]byte, 1<<17)
	for {
		n, from, err := syscall.Recvfrom(c.fd, buf, 0)
		c.mu.Lock()
		over := c.streams == nil
		c.mu.Unlock()
		if over {
			return
		}
		if err == syscall.EAGAIN || err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		// Each packet on loopback comes twice, going out and coming in.
		if ll, ok := from.(*syscall.SockaddrLinklayer); ok && ll.Pkttype == syscall.PACKET_OUTGOING {
			continue
		}
		c.packet(buf[:n])
	}
}

// packet takes an IPv4 or IPv6 packet with TCP apart.
func (c *capture) packet(p []byte) {
	if len(p) < 40 {
		return
	}
	var head int
	switch p[0] >> 4 {
	case 4:
		head = int(p[0]&15) * 4
		if p[9] != syscall.IPPROTO_TCP {
			return
		}
	case 6:
		head = 40
		if p[6] != syscall.IPPROTO_TCP {
			return
		}
	default:
		return
	}
	tcp := p[head:]
	if len(tcp) < 20 || len(tcp) < int(tcp[12]>>4)*4 {
		return
	}
	from, to := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	if !c.owns(int(from)) && !c.owns(int(to)) {
		return
	}
	key := fmt.Sprintf("%d-%d", from, to)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams == nil {
		return
	}
	if c.streams[key] == nil {
		c.streams[key] = &bytes.Buffer{}
	}
	c.streams[key].Write(tcp[int(tcp[12]>>4)*4:])
}

// end stops the reading goroutine.
func (c *capture) end() map[string]*bytes.Buffer {
	c.mu.Lock()
	streams := c.streams
	c.streams = nil
	c.mu.Unlock()
	<-c.done
	return streams
}

// stop returns everything seen. A capture with gaps proves nothing, so it fails.
func (c *capture) stop(t *testing.T) []byte {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // for what lies in the socket
	var st [2]uint32                   // struct tpacket_stats: packets, drops
	size := uint32(unsafe.Sizeof(st))
	const solPacket, packetStatistics = 263, 6
	if _, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(c.fd), solPacket, packetStatistics, uintptr(unsafe.Pointer(&st)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		t.Fatal(errno)
	}
	var all []byte
	for _, b := range c.end() {
		all = append(append(all, b.Bytes()...), 0)
	}
	if st[1] > 0 {
		t.Fatalf("%d of %d packets were lost to the capture", st[1], st[0])
	}
	return all
}
