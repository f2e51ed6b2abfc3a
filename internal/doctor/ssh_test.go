package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/portreeve/portreeve/internal/firewall"
)

// sshServer is an SSH server with an sftp subsystem in memory, whose user ann
// has the password "secret".
type sshServer struct {
	addr  string
	keys  []ssh.Signer
	tries chan string // passwords that arrived
}

func startSSH(t *testing.T, change func(*ssh.ServerConfig), subsystem bool) *sshServer {
	t.Helper()
	s := &sshServer{tries: make(chan string, 100)}
	cfg := &ssh.ServerConfig{ServerVersion: "SSH-2.0-Test", PasswordCallback: func(c ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		s.tries <- string(p)
		if c.User() != "ann" || string(p) != "secret" {
			return nil, errors.New("no")
		}
		return nil, nil
	}}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []any{ed, weak} {
		signer, err := ssh.NewSignerFromKey(k)
		if err != nil {
			t.Fatal(err)
		}
		s.keys = append(s.keys, signer)
		cfg.AddHostKey(signer)
	}
	if change != nil {
		change(cfg)
	}
	ln := listenWith(t, func(c net.Conn) {
		sc, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		defer sc.Close()
		go ssh.DiscardRequests(reqs)
		h := sftp.InMemHandler()
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range reqs {
					r.Reply(subsystem && r.Type == "subsystem", nil)
					if subsystem && r.Type == "subsystem" {
						go func() {
							s := sftp.NewRequestServer(ch, h)
							s.Serve()
							s.Close()
						}()
					}
				}
			}()
		}
	})
	s.addr = ln
	return s
}

// listenWith serves each connection by f, on a port of 127.0.0.1.
func listenWith(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return ln.Addr().String()
}

func examineSSH(t *testing.T, addr string, o ClientOptions) *Report {
	t.Helper()
	o.Rules = func(context.Context) []firewall.RuleSet { return nil }
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	u, err := ParseTarget("sftp://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Examine(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func codesOf(r *Report) string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.Code)
	}
	return strings.Join(out, " ")
}

// TestSSHGood: a sound server gives no finding, all that identifies it, and a transfer.
func TestSSHGood(t *testing.T) {
	s := startSSH(t, func(c *ssh.ServerConfig) {
		c.MACs = []string{"hmac-sha2-256-etm@openssh.com"}
		c.KeyExchanges = []string{"curve25519-sha256"}
		c.Ciphers = []string{"aes128-gcm@openssh.com"}
	}, true)
	known := filepath.Join(t.TempDir(), "known_hosts")
	host, port, _ := net.SplitHostPort(s.addr)
	line := knownhosts.Line([]string{"[" + host + "]:" + port}, s.keys[0].PublicKey())
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := examineSSH(t, s.addr, ClientOptions{User: "ann", Password: "secret", Write: true, KnownHosts: known})
	if len(r.SSH) != 1 {
		t.Fatalf("%+v", r)
	}
	x := r.SSH[0]
	// x/crypto adds ssh-rsa to what it offers with an RSA key; that is for SSH_WEAK to say.
	for _, f := range r.Findings {
		if f.Code != "SSH_WEAK" || strings.Contains(strings.Join(f.Evidence, " "), "cipher") {
			t.Errorf("finding %s: %s %q", f.Code, f.Cause, f.Evidence)
		}
	}
	if x.Version != "SSH-2.0-Test" || len(x.Keys) != 2 || x.Login != "ok" || !strings.Contains(x.Transfer, "256 KiB stored") || !slices.Equal(x.Auth, []string{"password"}) {
		t.Errorf("%+v", x)
	}
	for _, k := range x.Keys {
		i := slices.IndexFunc(s.keys, func(s ssh.Signer) bool { return ssh.FingerprintSHA256(s.PublicKey()) == k.Fingerprint })
		if i < 0 || !strings.HasPrefix(k.SSHFP, "127.0.0.1. IN SSHFP ") || (k.Known == "yes") != (i == 0) {
			t.Errorf("key %+v", k)
		}
	}
}

// TestSSHPasswordStaysHere: without a verified host key nothing secret is sent.
func TestSSHPasswordStaysHere(t *testing.T) {
	s := startSSH(t, nil, true)
	other := startSSH(t, nil, true)
	dir := t.TempDir()
	host, port, _ := net.SplitHostPort(s.addr)
	for name, body := range map[string]string{"none": "", "changed": knownhosts.Line([]string{"[" + host + "]:" + port}, other.keys[0].PublicKey()) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for known, want := range map[string]string{"": "", filepath.Join(dir, "none"): "SSH_HOSTKEY_UNKNOWN", filepath.Join(dir, "changed"): "SSH_HOSTKEY_CHANGED"} {
		r := examineSSH(t, s.addr, ClientOptions{User: "ann", Password: "secret", KnownHosts: known})
		if !strings.Contains(codesOf(r), want) || !strings.Contains(strings.Join(r.Notes, " "), "not sent") {
			t.Errorf("%q: findings %s, notes %q", known, codesOf(r), r.Notes)
		}
	}
	select {
	case p := <-s.tries:
		t.Errorf("the server was sent %q", p)
	default:
	}
}

func TestSSHTrouble(t *testing.T) {
	o := ClientOptions{User: "ann", Password: "secret", Insecure: true}
	tests := []struct {
		name      string
		change    func(*ssh.ServerConfig)
		subsystem bool
		opt       ClientOptions
		want      string
	}{
		{"no sftp", nil, false, o, "SFTP_OFF"},
		{"wrong password", nil, true, ClientOptions{User: "ann", Password: "wrong", Insecure: true}, "LOGIN"},
		{"keys only", func(c *ssh.ServerConfig) {
			c.PasswordCallback = nil
			c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
		}, true, o, "SSH_AUTH"},
		{"weak algorithms", func(c *ssh.ServerConfig) {
			c.KeyExchanges = []string{"diffie-hellman-group1-sha1", "curve25519-sha256"}
			c.Ciphers = []string{"aes128-cbc", "aes128-ctr"}
			c.MACs = []string{"hmac-sha1-96", "hmac-sha2-256"}
		}, true, o, "SSH_WEAK"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := examineSSH(t, startSSH(t, tt.change, tt.subsystem).addr, tt.opt)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == tt.want })
			if i < 0 {
				t.Fatalf("findings %s", codesOf(r))
			}
			if text := r.Findings[i].Text(); tt.want == "SSH_WEAK" {
				for _, w := range []string{"Logjam", "CBC", "cut to 96 bits", "KexAlgorithms -diffie-hellman-group1-sha1", "Ciphers -aes128-cbc", "MACs -"} {
					if !strings.Contains(text, w) {
						t.Errorf("%q is missing in\n%s", w, text)
					}
				}
			}
		})
	}
}

// TestSSHWrongDoors: whatever else answers on the port is called by its name.
func TestSSHWrongDoors(t *testing.T) {
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	tests := []struct {
		name  string
		serve func(net.Conn)
		want  string
		say   string
	}{
		{"FTP", func(c net.Conn) { io.WriteString(c, "220 FTP server ready\r\n"); silent(c) }, "WRONG_DOOR", "use ftp://"},
		{"HTTP", func(c net.Conn) { c.Read(make([]byte, 1)); io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "NOT_SSH", "HTTP/1.1 400"},
		{"TLS", func(c net.Conn) { c.Read(make([]byte, 1)); c.Write([]byte{21, 3, 1, 0, 2, 2, 70}) }, "WRONG_DOOR", "ftps://"},
		{"mail", func(c net.Conn) { io.WriteString(c, "220 mx ESMTP\r\n"); silent(c) }, "NOT_SSH", "ESMTP"},
		{"closed at once", func(net.Conn) {}, "CONTROL_BLOCKED", "without a word"},
		{"silent", silent, "PROXY_MISSING", "before and after"},
		{"SSH 1", func(c net.Conn) { io.WriteString(c, "SSH-1.5-old\n"); silent(c) }, "SSH_OLD", "version 2"},
		{"identification and no more", func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") }, "SSH_HANDSHAKE", "and then"},
		{"nonsense after it", func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff"); silent(c) }, "SSH_HANDSHAKE", "octets where"},
		{"a list that lies about its length", func(c net.Conn) {
			c.Write(append([]byte("SSH-2.0-x\r\n\x00\x00\x00\x20\x00\x14"), append(make([]byte, 16), 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)...))
			silent(c)
		}, "SSH_HANDSHAKE", "cut short"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := examineSSH(t, listenWith(t, tt.serve), ClientOptions{Timeout: 1500 * time.Millisecond})
			if len(r.Findings) == 0 || r.Findings[0].Code != tt.want || !strings.Contains(r.Findings[0].Text(), tt.say) {
				t.Errorf("findings %s\n%+v", codesOf(r), r.Findings)
			}
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if r := examineSSH(t, ln.Addr().String(), ClientOptions{}); codesOf(r) != "CONTROL_BLOCKED" || !slices.Contains(r.Findings[0].Could, "NOT_RUNNING") {
		t.Errorf("refused: %+v", r.Findings)
	}
	if f := (&Client{rep: Report{}, addrs: nil}).sshDead(Door{Outcome: Timeout}); !slices.Contains(f[0].Could, "CLIENT_FW_OUT_21") {
		t.Errorf("filtered: %+v", f)
	}
}

// TestOpenSSH examines the system's sshd, with weak algorithms switched on.
func TestOpenSSH(t *testing.T) {
	const sshd = "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Fatal("OpenSSH's server is needed; \"make tools\" installs what the tests use")
	}
	dir := t.TempDir()
	for _, k := range [][]string{{"ed25519"}, {"rsa", "-b", "1024"}, {"ecdsa"}} {
		args := append([]string{"-q", "-N", "", "-f", filepath.Join(dir, "key_"+k[0]), "-t"}, k...)
		if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	ln.Close()
	conf := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nRequiredRSASize 1024\nKexAlgorithms +diffie-hellman-group14-sha1\nCiphers +aes256-cbc\nMACs +hmac-md5\nHostKeyAlgorithms +ssh-rsa\n", port)
	for _, k := range []string{"ed25519", "rsa", "ecdsa"} {
		conf += "HostKey " + filepath.Join(dir, "key_"+k) + "\n"
	}
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("/run/sshd", 0o755) // root's privilege separation wants it; others do without
	cmd := exec.Command(sshd, "-D", "-e", "-f", file)
	var logs strings.Builder
	cmd.Stderr = &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd said:\n%s", logs.String())
		}
	})
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	r := examineSSH(t, addr, ClientOptions{User: "nobody", Password: "x", Insecure: true})
	if len(r.SSH) != 1 {
		t.Fatalf("%+v", r)
	}
	x := r.SSH[0]
	var types []string
	for _, k := range x.Keys {
		types = append(types, k.Type)
		out, err := exec.Command("ssh-keygen", "-l", "-f", filepath.Join(dir, map[string]string{"ssh-rsa": "key_rsa", "ssh-ed25519": "key_ed25519", "ecdsa-sha2-nistp256": "key_ecdsa"}[k.Type])+".pub").CombinedOutput()
		if err != nil || !strings.Contains(string(out), k.Fingerprint) {
			t.Errorf("%s has fingerprint %s; ssh-keygen says %v %s", k.Type, k.Fingerprint, err, out)
		}
		dns, err := exec.Command("ssh-keygen", "-r", "127.0.0.1.", "-f", filepath.Join(dir, map[string]string{"ssh-rsa": "key_rsa", "ssh-ed25519": "key_ed25519", "ecdsa-sha2-nistp256": "key_ecdsa"}[k.Type])+".pub").CombinedOutput()
		if err != nil || !strings.Contains(string(dns), k.SSHFP) {
			t.Errorf("%s has %q; ssh-keygen says %v\n%s", k.Type, k.SSHFP, err, dns)
		}
	}
	slices.Sort(types)
	if !strings.HasPrefix(x.Version, "SSH-2.0-OpenSSH") || len(types) != 3 || !slices.Equal(x.Auth, []string{"publickey"}) {
		t.Errorf("%s, keys %v, log-in by %v", x.Version, types, x.Auth)
	}
	for _, want := range []string{"SSH_AUTH", "SSH_WEAK", "SSH_WEAK_KEY"} {
		if !strings.Contains(codesOf(r), want) {
			t.Errorf("%s is missing: %s", want, codesOf(r))
		}
	}
	for _, f := range r.Findings {
		if f.Code == "SSH_WEAK" {
			for _, w := range []string{"diffie-hellman-group14-sha1", "aes256-cbc", "hmac-md5", "ssh-rsa"} {
				if !strings.Contains(f.Text(), w) {
					t.Errorf("%s is missing in\n%s", w, f.Text())
				}
			}
		}
	}
}

func TestParseSFTPTarget(t *testing.T) {
	for s, want := range map[string]string{"sftp://h": "h", "sftp://ann@h:2222": "h:2222"} {
		u, err := ParseTarget(s)
		if err != nil || u.Host != want {
			t.Errorf("%s: %v %v", s, u, err)
		}
	}
	var u *url.URL
	if u, _ = ParseTarget("scp://h"); u != nil {
		t.Error("scp:// was taken")
	}
}
