package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
)

// TestExternalLogin: a program judges passwords over FTPS and SFTP; when it
// fails nobody is let in, and whoever has a password here does not notice.
func TestExternalLogin(t *testing.T) {
	r := prepare(t, listenTOML("ftps", "127.0.0.1:0", "")+listenTOML("sftp", "127.0.0.1:0", ""))
	check := filepath.Join(r.dir, "check")
	text := "#!/bin/sh\nread -r q\ncase \"$q\" in *'\"password\":\"right-word\"'*) exit 0 ;; *'\"password\":\"crash\"'*) exit 7 ;; esac\nexit 1\n"
	if err := os.WriteFile(check, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write(r.toml + fmt.Sprintf("[external]\nprogram = [%q]\nhome = %q\n[limits]\nnever_ban = [\"127.0.0.0/8\"]\n", check, filepath.Join(r.dir, "%u")))
	r.run()
	for _, tt := range []struct {
		user, password string
		code           int // of the reply to PASS
	}{
		{"new", "right-word", 230}, {"new", "wrong-word", 530}, {"new", "crash", 421}, {"new", "", 530},
		{testUser, testPassword, 230}, {testUser, "right-word", 530}, {testUser, "crash", 530},
	} {
		c, err := ftp.Dial(t.Context(), r.address(0), ftp.ClientOptions{TLS: ftp.ImplicitTLS, TLSConfig: r.trust(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Cmd(t.Context(), "USER "+tt.user); err != nil {
			t.Fatal(err)
		}
		if rep, err := c.Cmd(t.Context(), "PASS "+tt.password); err != nil || rep.Code != tt.code {
			t.Errorf("FTPS %s %q: %d %s, %v, want %d", tt.user, tt.password, rep.Code, rep.Text, err, tt.code)
		}
		c.Close()
		s, err := ssh.Dial("tcp", r.address(1), &ssh.ClientConfig{User: tt.user, Auth: []ssh.AuthMethod{ssh.Password(tt.password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second})
		if (err == nil) != (tt.code == 230) {
			t.Errorf("SFTP %s %q: %v, want success %v", tt.user, tt.password, err, tt.code == 230)
		}
		if err == nil {
			s.Close()
		}
	}
	if !strings.Contains(r.logs.String(), "external check of passwords does not answer as it should") {
		t.Error("the log does not tell that the program failed")
	}
}
