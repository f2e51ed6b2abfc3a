//go:build fips

package fips

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moduleVersion is the one with a validation certificate; see docs/guides/operations.md.
const moduleVersion = "v1.0.0"

func build(t *testing.T) string {
	t.Helper()
	name, err := filepath.Abs("../../bin/portreeve-fips")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-o", name, "../../cmd/portreeve")
	c.Env = append(os.Environ(), "GOFIPS140="+moduleVersion, "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return name
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// TestFIPS: the flavour says what it is, serves approved algorithms only, and transfers over FTPS.
func TestFIPS(t *testing.T) {
	program := build(t)
	out, err := exec.Command(program, "version", "--json").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"fips140": "`+moduleVersion) {
		t.Fatalf("version: %v\n%s", err, out)
	}
	dir, port, ssh := t.TempDir(), freePort(t), freePort(t)
	conf := filepath.Join(dir, "p.toml")
	text := fmt.Sprintf("data_dir = 'data'\n[[listen]]\nprotocol = 'ftps'\naddress = '127.0.0.1:%d'\n[[listen]]\nprotocol = 'sftp'\naddress = '127.0.0.1:%d'\n[ftp.passive]\nports = '43000-43049'\n", port, ssh)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	add := exec.Command(program, "--config", conf, "user", "add", "ann", "--home", home, "--password-stdin")
	add.Stdin = strings.NewReader("correct-horse-battery\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("user add: %v\n%s", err, out)
	}
	var log bytes.Buffer
	server := exec.Command(program, "serve", "--config", conf)
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			server.Process.Signal(syscall.SIGTERM)
			server.Wait()
		}
	}
	defer stop()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	shake := func(c *tls.Config) error {
		c.InsecureSkipVerify = true
		nc, err := tls.Dial("tcp", address, c)
		if err == nil {
			nc.Close()
		}
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); shake(&tls.Config{}) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			stop()
			t.Fatalf("it does not serve\n%s", log.String())
		}
	}
	for what, c := range map[string]*tls.Config{
		"ChaCha20": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}},
		"X25519":   {CurvePreferences: []tls.CurveID{tls.X25519}},
	} {
		if shake(c) == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	if err := shake(&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}); err != nil {
		t.Errorf("P-256: %v", err)
	}
	sent, got := filepath.Join(dir, "sent"), filepath.Join(dir, "got")
	content := bytes.Repeat([]byte("FIPS 140-3\n"), 100_000)
	if err := os.WriteFile(sent, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-T", sent, "ftps://" + address + "/f"}, {"-o", got, "ftps://" + address + "/f"}} {
		if out, err := exec.Command("curl", append([]string{"-sS", "-k", "--max-time", "60", "-u", "ann:correct-horse-battery"}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("curl %v: %v\n%s", args, err, out)
		}
	}
	if b, err := os.ReadFile(got); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes came back of %d (%v)", len(b), len(content), err)
	}
	keys, err := exec.Command("ssh-keyscan", "-p", fmt.Sprint(ssh), "127.0.0.1").Output()
	if err != nil || !strings.Contains(string(keys), "ecdsa-sha2-nistp256") || strings.Contains(string(keys), "ssh-ed25519") {
		t.Errorf("host keys: %v\n%s", err, keys)
	}
	stop()
	if s := log.String(); !strings.Contains(s, "2026-11-fips") || !strings.Contains(s, "fips140=true") {
		t.Errorf("the log does not name the policy:\n%s", s)
	}
}
