//go:build lab

package netlab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

const (
	crowd    = 64
	fileSize = 200_000
)

// TestOnePort is the claim that FTPS needs two inbound ports: 64 clients behind
// one NAT router transfer at once while the server's firewall lets in nothing
// but the control port and the shared data port. Strangers and thieves, behind
// the same address and elsewhere, get nothing meanwhile.
func TestOnePort(t *testing.T) {
	for _, version := range []string{"1.2", "1.3"} {
		t.Run("TLS "+version, func(t *testing.T) {
			l := build(t, &topology{name: "one-port", clientNAT: true,
				config: "[[listen]]\nprotocol = \"ftp\"\naddress = \":21\"\ntls = \"required\"\ndata_session = \"require\"\n[ftp.passive]\nports = \"" + passive + "\"\nshared = \":989\"\n",
				limits: "max_connections = 200\nper_address = 200\n",
				rules:  map[string]string{"s": "table inet two {\n chain input {\n type filter hook input priority filter\n policy drop\n ct state established accept\n iif lo accept\n tcp dport { 21, 989 } counter accept\n counter name refused drop\n }\n counter refused { }\n}\n"}})
			var wg sync.WaitGroup
			fail := func(who string, out string, err error) {
				if err != nil {
					t.Errorf("%s: %v\n%s", who, err, out)
				} else {
					t.Logf("%s: %s", who, strings.TrimSpace(out))
				}
			}
			wg.Go(func() {
				out, err := l.tool("c", "swarm", serverPublic, version)
				fail("64 clients", out, err)
			})
			for node, who := range map[string]string{"c": "thief behind the same address", "inet": "thief at another address"} {
				wg.Go(func() {
					out, err := l.tool(node, "thief", serverPublic, version)
					fail(who, out, err)
				})
			}
			wg.Go(func() { l.realClients(version) })
			wg.Wait()
			if t.Failed() {
				b, _ := os.ReadFile(filepath.Join(l.dir, "server.log"))
				t.Logf("the server said:\n%s", b[max(0, len(b)-6000):])
				return
			}
			l.sameOnDisk()
			if rules := l.must("s", "", "nft", "list", "counter", "inet", "two", "refused"); !strings.Contains(rules, "packets 0 ") {
				t.Errorf("somebody needed another port:\n%s", rules)
			}
		})
	}
}

// tool runs a tool of tools_test.go on a node to its end.
func (l *lab) tool(node string, args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	c := exec.Command("ip", append([]string{"netns", "exec", l.ns(node), exe}, args...)...)
	c.Env = append(os.Environ(), toolVar+"=1")
	c.Dir = l.dir
	out, err := c.CombinedOutput()
	return string(out), err
}

// realClients go up and down with curl and lftp beside the crowd.
func (l *lab) realClients(version string) {
	data := make([]byte, fileSize)
	rand.Read(data) // never fails
	file := l.write("real.bin", string(data))
	var wg sync.WaitGroup
	curls := 2
	if version == "1.2" { // curl switches tickets off there, so that it has nothing to show whose connection it is
		curls = 0
	}
	for i := range curls {
		wg.Go(func() {
			url := fmt.Sprintf("ftp://%s/curl%d", serverPublic, i)
			base := []string{"curl", "-sS", "--ssl-reqd", "-k", "--tlsv" + version, "--tls-max", version, "--max-time", "60", "--user", "lab:" + password}
			if _, err := l.run("c", "", append(slices.Clone(base), "-T", file, url)...); err != nil {
				l.t.Error(err)
				return
			}
			got, err := l.run("c", "", append(slices.Clone(base), url)...)
			if err != nil || got != string(data) {
				l.t.Errorf("curl got %d bytes back: %v", len(got), err)
			}
		})
	}
	wg.Go(func() {
		back := filepath.Join(l.dir, "back.bin")
		script := fmt.Sprintf("set ssl:verify-certificate no; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set net:max-retries 1; set net:timeout 20; open -u lab,%s ftp://%s; put %s -o lftp0; get lftp0 -o %s", password, serverPublic, file, back)
		if _, err := l.run("c", "", "lftp", "-c", script); err != nil {
			l.t.Error(err)
			return
		}
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, data) {
			l.t.Errorf("lftp got %d bytes back: %v", len(got), err)
		}
	})
	wg.Wait()
	if l.t.Failed() {
		return
	}
	l.t.Logf("%d curl and 1 lftp: %d bytes up and down each, equal", curls, fileSize)
}

// sameOnDisk compares what the crowd stored with what it was to store.
func (l *lab) sameOnDisk() {
	l.t.Helper()
	for i := range crowd {
		got, err := os.ReadFile(filepath.Join(l.dir, "home", "crowd"+strconv.Itoa(i)))
		if err != nil {
			l.t.Error(err)
			return
		}
		if sha256.Sum256(got) != sha256.Sum256(content(i)) {
			l.t.Errorf("the file of client %d is another one on the server's disk: %d bytes", i, len(got))
		}
	}
}

// content is the file of client i: no two are alike in any block.
func content(i int) []byte {
	b := make([]byte, 0, fileSize+32)
	for sum := sha256.Sum256([]byte{byte(i)}); len(b) < fileSize+i; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:fileSize+i]
}

// together lets nobody on before all have come.
type together struct{ wg sync.WaitGroup }

func (m *together) wait() { m.wg.Done(); m.wg.Wait() }

// held is an upload whose first byte waits for the first bytes of all others,
// so that all data connections are there at the same time.
type held struct {
	io.Reader
	meet *together
	once sync.Once
}

func (h *held) Read(p []byte) (int, error) {
	h.once.Do(h.meet.wait)
	return h.Reader.Read(p)
}

func tlsVersion(s string) uint16 {
	return map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[s]
}

// swarm is 64 clients: they upload together, each waiting for all the others'
// data connections, and then download and compare.
func swarm(args []string) error {
	version := tlsVersion(args[1])
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var meet together
	meet.wg.Add(crowd)
	doors := make(chan struct{}, 2) // checking a password takes a processor for a while, and the server limits how many wait
	errs := make([]error, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() { errs[i] = member(ctx, args[0], i, version, doors, &meet) })
	}
	go func() {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			fmt.Println("not all data connections came about at the same time")
			os.Exit(1)
		}
	}()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Printf("%d uploads at once, %d downloads, all through port 989, all equal\n", crowd, crowd)
	return nil
}

func member(ctx context.Context, host string, i int, version uint16, doors chan struct{}, meet *together) error {
	fail := func(what string, err error) error {
		fmt.Printf("client %d: %s: %v\n", i, what, err)
		os.Exit(1) // the others wait for it
		return nil
	}
	doors <- struct{}{}
	c, err := ftp.Dial(ctx, host+":21", ftp.ClientOptions{TLS: ftp.ExplicitTLS, StrictClose: true,
		TLSConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}})
	if err != nil {
		return fail("connect", err)
	}
	defer c.Close()
	if err := c.Login(ctx, "lab", password); err != nil {
		return fail("log-in", err)
	}
	<-doors
	want := content(i)
	name := "crowd" + strconv.Itoa(i)
	if _, err := c.Store(ctx, name, &held{Reader: bytes.NewReader(want), meet: meet}, 0); err != nil {
		return fail("upload", err)
	}
	d := c.LastData()
	if d.Remote.Port() != 989 || d.TLS == nil || d.TLS.Version != version || !d.TLS.DidResume {
		return fmt.Errorf("client %d: the data connection went to %s, TLS %+v", i, d.Remote, d.TLS)
	}
	r, err := c.Retrieve(ctx, name, 0)
	if err != nil {
		return fail("download", err)
	}
	got, err := io.ReadAll(r)
	if cerr := r.Close(); err != nil || cerr != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		return fmt.Errorf("client %d: %d bytes came back of %d: %v %v", i, len(got), len(want), err, cerr)
	}
	return c.Quit(ctx)
}

// tickets keeps the last one.
type tickets struct {
	mu   sync.Mutex
	last *tls.ClientSessionState
}

func (s *tickets) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.last != nil
}

func (s *tickets) Put(_ string, c *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil {
		s.last = c
	}
}

// session is a control connection by hand, so that its ticket can be had.
type session struct {
	net.Conn
	br    *bufio.Reader
	cache tickets
}

func (s *session) cmd(line string) (string, error) {
	if line != "" {
		if _, err := io.WriteString(s.Conn, line+"\r\n"); err != nil {
			return "", err
		}
	}
	for {
		got, err := s.br.ReadString('\n')
		if err != nil || len(got) > 3 && got[3] == ' ' {
			return strings.TrimSpace(got), err
		}
	}
}

func (s *session) config(cache tls.ClientSessionCache, version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "one.lab", MinVersion: version, MaxVersion: version, ClientSessionCache: cache}
}

func login(host string, version uint16) (*session, error) {
	nc, err := net.DialTimeout("tcp", host+":21", 20*time.Second)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	s := &session{Conn: nc, br: bufio.NewReader(nc)}
	for _, line := range []string{"", "AUTH TLS"} {
		if _, err := s.cmd(line); err != nil {
			return nil, err
		}
	}
	s.Conn = tls.Client(nc, s.config(&s.cache, version))
	s.br = bufio.NewReader(s.Conn)
	for _, line := range []string{"USER lab", "PASS " + password, "PBSZ 0", "PROT P", "TYPE I"} {
		if r, err := s.cmd(line); err != nil || r[0] > '3' {
			return nil, fmt.Errorf("%s: %s %v", line, r, err)
		}
	}
	return s, nil
}

// thief tries to get at a download that waits for its data connection: without
// a ticket, with the ticket of another session of the same account, and with
// the victim's ticket as a listener on the wire sees it, without its secret.
// In the end the victim gets its file unharmed.
func thief(args []string) error {
	version := tlsVersion(args[1])
	victim, err := login(args[0], version)
	if err != nil {
		return err
	}
	defer victim.Close()
	other, err := login(args[0], version)
	if err != nil {
		return err
	}
	defer other.Close()
	seen, err := onTheWire(&victim.cache, &other.cache)
	if err != nil {
		return err
	}
	if r, err := victim.cmd("EPSV"); err != nil || !strings.Contains(r, "|||989|") {
		return fmt.Errorf("EPSV: %s %v", r, err)
	}
	if _, err := io.WriteString(victim.Conn, "RETR hello.txt\r\n"); err != nil {
		return err
	}
	fetch := func(cache tls.ClientSessionCache) ([]byte, error) {
		nc, err := net.DialTimeout("tcp", args[0]+":989", 20*time.Second)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return io.ReadAll(tls.Client(nc, victim.config(cache, version)))
	}
	for _, try := range []struct {
		who   string
		cache tls.ClientSessionCache
	}{{"a stranger", nil}, {"another session's ticket", &other.cache}, {"a ticket off the wire", seen}} {
		got, err := fetch(try.cache)
		if len(got) > 0 {
			return fmt.Errorf("%s got %q", try.who, got)
		}
		fmt.Printf("%s gets nothing (%v); ", try.who, cmp.Or(err, io.EOF))
	}
	got, err := fetch(&victim.cache)
	if string(got) != "hello\n" {
		return fmt.Errorf("the victim got %q, %v", got, err)
	}
	fmt.Println("the victim gets its file")
	return nil
}

// onTheWire is the victim's ticket with the secret of another session.
func onTheWire(victim, own *tickets) (tls.ClientSessionCache, error) {
	ticket, _, err := victim.last.ResumptionState()
	if err != nil {
		return nil, err
	}
	_, state, err := own.last.ResumptionState()
	if err != nil {
		return nil, err
	}
	forged, err := tls.NewResumptionState(ticket, state)
	if err != nil {
		return nil, err
	}
	return &tickets{last: forged}, nil
}
