package security

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// sshListener is the first of the rigs below, since its table stands first.
const (
	sshListener = 0
	sshTable    = "[[listen]]\nname = \"ssh\"\nprotocol = \"sftp\"\naddress = \"127.0.0.1:0\"\n"
)

func (r *rig) sshDial(change func(*ssh.ClientConfig)) (*ssh.Client, error) {
	c := &ssh.ClientConfig{User: "ann", Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second}
	if change != nil {
		change(c)
	}
	return ssh.Dial("tcp", r.address(sshListener), c)
}

func (r *rig) ssh() *ssh.Client {
	r.t.Helper()
	c, err := r.sshDial(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) sftp(c *ssh.Client) *sftp.Client {
	r.t.Helper()
	s, err := sftp.NewClient(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	return s
}

// plainSSH exchanges versions and returns the server's KEXINIT packet.
func (r *rig) plainSSH() (net.Conn, []byte) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address(sshListener))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "SSH-2.0-test\r\n")
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
		if _, err := io.ReadFull(c, b); err != nil {
			r.t.Fatal(err)
		}
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		r.t.Fatal(err)
	}
	packet := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, packet); err != nil {
		r.t.Fatal(err)
	}
	return c, packet[1:]
}

// plainPacket frames a payload as before the key exchange.
func plainPacket(payload []byte) []byte {
	pad := 8 - (5+len(payload))%8
	if pad < 4 {
		pad += 8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+pad))
	return append(append(append(b, byte(pad)), payload...), make([]byte, pad)...)
}

// TestPrefixTruncation is Terrapin: strict key exchange must be on offer.
func TestPrefixTruncation(t *testing.T) {
	r := start(t, sshTable)
	if _, kex := r.plainSSH(); !bytes.Contains(kex, []byte("kex-strict-s-v00@openssh.com")) {
		t.Errorf("strict key exchange is not offered: %q", kex)
	}
}

// TestPreAuthState sends messages of later states first: the log-in's success
// (CVE-2018-10933), a channel, and a request in it (CVE-2025-32433).
func TestPreAuthState(t *testing.T) {
	r := start(t, sshTable)
	open := append([]byte{90, 0, 0, 0, 7}, "session\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x80\x00"...)
	exec := append([]byte{98, 0, 0, 0, 0, 0, 0, 0, 4}, "exec\x01\x00\x00\x00\x02id"...)
	for name, payloads := range map[string][][]byte{"success": {{52}}, "channel": {open}, "exec": {open, exec}} {
		c, _ := r.plainSSH()
		for _, p := range payloads {
			c.Write(plainPacket(p))
		}
		got, err := io.ReadAll(c)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%s: the connection stays open", name)
		}
		// A disconnect message (1) may come, a confirmation (91) or success (52, 99) never.
		if len(got) > 5 && got[5] != 1 && got[5] != 3 {
			t.Errorf("%s: got a message %d", name, got[5])
		}
	}
	r.ssh() // the server lives
}

// TestForwardingShellExec: there are files here and nothing else.
func TestForwardingShellExec(t *testing.T) {
	r := start(t, sshTable)
	c := r.ssh()
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "tun@openssh.com"} {
		if ch, _, err := c.OpenChannel(kind, nil); err == nil {
			ch.Close()
			t.Errorf("a channel %s was opened", kind)
		}
	}
	for _, kind := range []string{"tcpip-forward", "streamlocal-forward@openssh.com"} {
		if ok, _, err := c.SendRequest(kind, true, ssh.Marshal(struct {
			Host string
			Port uint32
		}{"127.0.0.1", 4000})); err == nil && ok {
			t.Errorf("%s was granted", kind)
		}
	}
	for _, kind := range []string{"pty-req", "auth-agent-req@openssh.com", "x11-req"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := s.SendRequest(kind, true, nil); err == nil && ok {
			t.Errorf("%s was granted", kind)
		}
		s.Close()
	}
	// A shell is answered with a sentence, which a terminal shows, and an end.
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Stdout, s.Stdin = &out, strings.NewReader("id\n")
	if err := s.Shell(); err == nil && s.Wait() == nil || bytes.Contains(out.Bytes(), []byte("uid=")) {
		t.Errorf("a shell: %q", out.String())
	}
	s.Close()
	for _, command := range []string{"id", "scp -t / ; id", "sh -c id", "sha256sum /$(id)", "rsync --server . /"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := s.CombinedOutput(command); err == nil || bytes.Contains(out, []byte("uid=")) {
			t.Errorf("%q: %v %q", command, err, out)
		}
		s.Close()
	}
}

// TestSCPSink sends names that lead elsewhere (CVE-2018-20685 and its kin).
func TestSCPSink(t *testing.T) {
	r := start(t, sshTable)
	c := r.ssh()
	for _, line := range []string{"C0644 4 ../evil\n", "C0644 4 /evil\n", "D0755 0 ..\n", "C0644 4 .\n", "C0644 4 a\x1bb\n", "C0644 -4 evil\n", "C0644 99999999999999999999 evil\n"} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		s.Stdin = strings.NewReader(line + "evil\x00E\n")
		if out, err := s.Output("scp -r -t /"); err == nil && !bytes.ContainsAny(out, "\x01\x02") {
			t.Errorf("%q was taken: %q", line, out)
		}
		s.Close()
	}
	for _, dir := range []string{r.home, filepath.Dir(r.home), r.dir} {
		if names, _ := filepath.Glob(filepath.Join(dir, "*evil*")); len(names) > 0 {
			t.Errorf("found %q", names)
		}
	}
}

// TestSFTPNames: what the extensions and links of SFTP tell and reach.
func TestSFTPNames(t *testing.T) {
	r := start(t, sshTable)
	r.file(filepath.Join(r.home, "own"), "own")
	if err := os.Symlink(r.outside, filepath.Join(r.home, "way")); err != nil {
		t.Fatal(err)
	}
	s := r.sftp(r.ssh())
	if p, err := s.RealPath("/../../../etc/./passwd"); err != nil || p != "/etc/passwd" {
		t.Errorf("realpath: %q %v", p, err)
	}
	if p, err := s.ReadLink("/way"); err == nil && strings.Contains(p, r.dir) {
		t.Errorf("the link tells the path on the host: %q", p)
	}
	if _, err := s.Open("/way/secret.txt"); err == nil {
		t.Error("read through the link")
	}
	if err := s.Link("/way/secret.txt", "/stolen"); err == nil {
		t.Error("a hard link to the outside")
	}
	if err := s.PosixRename("/own", "/way/own"); err == nil {
		t.Error("renamed to the outside")
	}
	if err := s.Symlink("../ann-secret/secret.txt", "/way2"); err == nil {
		if _, err := s.Open("/way2"); err == nil {
			t.Error("read through a link of one's own")
		}
	}
	if _, err := os.Stat(filepath.Join(r.outside, "own")); err == nil {
		t.Error("there is a file outside")
	}
}

// TestHandlesAndChannels: both have an end, and reaching it ends nothing else.
func TestHandlesAndChannels(t *testing.T) {
	r := start(t, sshTable)
	r.file(filepath.Join(r.home, "f"), "x")
	c := r.ssh()
	s := r.sftp(c)
	opened := 0
	for range 400 {
		if _, err := s.Open("/f"); err != nil {
			break
		}
		opened++
	}
	if opened < 100 || opened >= 400 {
		t.Errorf("%d handles were opened, some hundreds are the limit", opened)
	}
	if _, err := s.Stat("/f"); err != nil {
		t.Errorf("the session did not outlive it: %v", err)
	}
	channels := 0
	for range 40 {
		if _, err := c.NewSession(); err != nil {
			break
		}
		channels++
	}
	if channels < 4 || channels >= 40 {
		t.Errorf("%d channels were opened, about ten are the limit", channels)
	}
}

// TestGiantPacket: a length is no reason to allocate.
func TestGiantPacket(t *testing.T) {
	r := start(t, sshTable)
	c := r.ssh()
	for _, head := range [][]byte{{0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff, 1}, {0, 0, 0, 0}, {0, 0, 0, 5, 3, 0, 0, 0, 1}} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		in, _ := s.StdinPipe()
		out, _ := s.StdoutPipe()
		if err := s.RequestSubsystem("sftp"); err != nil {
			t.Fatal(err)
		}
		in.Write(head)
		in.Close()
		done := make(chan struct{})
		go func() { io.Copy(io.Discard, out); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Errorf("% x: the channel stays open", head)
		}
		s.Close()
	}
	if _, err := r.sftp(c).Getwd(); err != nil {
		t.Errorf("the connection did not outlive it: %v", err)
	}
}

// TestWeakAlgorithms: a client that knows nothing better is refused.
func TestWeakAlgorithms(t *testing.T) {
	r := start(t, sshTable)
	for name, change := range map[string]func(*ssh.ClientConfig){
		"sha1 exchange": func(c *ssh.ClientConfig) {
			c.KeyExchanges = []string{"diffie-hellman-group1-sha1", "diffie-hellman-group14-sha1"}
		},
		"cbc": func(c *ssh.ClientConfig) { c.Ciphers = []string{"aes128-cbc", "3des-cbc"} },
		"rc4": func(c *ssh.ClientConfig) { c.Ciphers = []string{"arcfour256", "arcfour128"} },
		"sha1 mac": func(c *ssh.ClientConfig) {
			c.Ciphers, c.MACs = []string{"aes128-ctr"}, []string{"hmac-sha1", "hmac-sha1-96"}
		},
		"sha1 hosts": func(c *ssh.ClientConfig) { c.HostKeyAlgorithms = []string{"ssh-rsa", "ssh-dss"} },
	} {
		if c, err := r.sshDial(change); err == nil {
			c.Close()
			t.Errorf("%s: a connection was made", name)
		}
	}
}
