package server

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
)

// TestSFTPListener: status, reload, PROXY header, wrong door and host keys of a
// listener that speaks SSH.
func TestSFTPListener(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", "name = \"files\"\nproxy = [\"127.0.0.1\"]"))
	var seen ssh.PublicKey
	dial := func() (*ssh.Client, error) {
		nc, err := net.Dial("tcp", r.address(1))
		if err != nil {
			return nil, err
		}
		io.WriteString(nc, "PROXY TCP4 203.0.113.9 198.51.100.1 12345 22\r\n")
		conn, chans, reqs, err := ssh.NewClientConn(nc, "", &ssh.ClientConfig{User: testUser, Auth: []ssh.AuthMethod{ssh.Password(testPassword)},
			HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { seen = k; return nil }})
		if err != nil {
			return nil, err
		}
		return ssh.NewClient(conn, chans, reqs), nil
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := x.Create("/up.txt")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "before the reload, ")
	ss := r.s.Sessions()
	if len(ss) != 1 || ss[0].Remote.String() != "203.0.113.9:12345" || ss[0].Protocol != "sftp" || ss[0].Listener != "files" || ss[0].Op != "upload" {
		t.Errorf("live view: %+v", ss)
	}
	st := r.s.Status().Listeners[1]
	if st.Protocol != "sftp" || st.Sessions != 1 || st.Passive != "" || !st.Proxy {
		t.Errorf("status: %+v", st)
	}
	first := seen
	// A reload makes a new front; the upload lives on with the old one.
	r.write(strings.Replace(r.toml, `name = "files"`, "name = \"files\"\nbanner = \"hello\"", 1))
	if _, err := r.s.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "after it")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(r.home, "up.txt")); err != nil || string(b) != "before the reload, after it" {
		t.Errorf("%q, %v", b, err)
	}
	c2, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	c2.Close()
	if string(seen.Marshal()) != string(first.Marshal()) {
		t.Error("the host key changed with a reload")
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		st, err := os.Stat(filepath.Join(r.dir, "data", "ssh", "ssh_host_"+kind+"_key"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("host key %s: %v %v", kind, st, err)
		}
	}
	// FTP and SSH clients at each other's door learn where to go.
	nc, err := net.Dial("tcp", r.address(1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "PROXY TCP4 203.0.113.9 198.51.100.1 12345 22\r\nUSER "+testUser+"\r\n")
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, _ := io.ReadAll(nc)
	if !strings.HasPrefix(string(answer), "421 ") || !strings.Contains(string(answer), "speaks FTP") {
		t.Errorf("USER was answered with %q", answer)
	}
	if n := len(r.s.Sessions()); n > 1 {
		eventually(t, "sessions to end", func() bool { return len(r.s.Sessions()) <= 1 })
	}
	if !r.s.Kick(r.s.Sessions()[0].ID, "enough") {
		t.Error("nobody to kick")
	}
	eventually(t, "the kicked session to go", func() bool { return len(r.s.Sessions()) == 0 })
}

// TestHostKeysThatCannotBeUsed: a start that cannot serve says why.
func TestHostKeysThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "key")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := HostKeys(dir, []string{bad}, config.Default().Crypto().HostKeys); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "ssh-keygen") {
		t.Errorf("%v", err)
	}
	keys, err := HostKeys(dir, nil, config.Default().Crypto().HostKeys)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	again, err := HostKeys(dir, nil, config.Default().Crypto().HostKeys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if keys[i].Fingerprint() != again[i].Fingerprint() {
			t.Errorf("key %d is another at the second start", i)
		}
	}
}

// TestKeyLoginEverywhere: a key-only account has no password over any protocol.
func TestKeyLoginEverywhere(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("sftp", "127.0.0.1:0", ""))
	keys, err := HostKeys(t.TempDir(), nil, config.Default().Crypto().HostKeys)
	if err != nil {
		t.Fatal(err)
	}
	r.addUser(account.User{Name: "kim", Home: filepath.Join(r.dir, "kim"), KeyOnly: true, Keys: []string{keys[0].Line()}})
	r.run()
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("USER kim")
	l.expect("331")
	l.send("PASS " + testPassword)
	l.expect("530")
	_, err = ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: "kim", Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err == nil {
		t.Error("a password logged a key-only account in over SSH")
	}
}
