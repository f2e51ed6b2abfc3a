//go:build clients

package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/auth"
)

// sshAccount is an account with a client's settings for it.
type sshAccount struct {
	User
	s      *Server
	how    string // key, certificate, password or totp
	secret string // of the codes
	config string // for ssh -F
	env    []string
}

// sshServer starts a server with one SFTP listener.
func sshServer(t *testing.T, extra string) *Server {
	t.Helper()
	return Start(t, Config{Listen: []Listener{{Name: "sftp", Protocol: "sftp"}}, Extra: extra, ForgetLog: true})
}

// sshLogin makes an account that logs in by key, certificate, password, or
// password and code. The
// client checks the host key that "portreeve cert hostkeys" shows.
func sshLogin(t *testing.T, s *Server, name, how string) *sshAccount {
	t.Helper()
	a := &sshAccount{User: s.AddUser(t, name), s: s, how: how}
	dir := TempDir(t)
	a.config = filepath.Join(dir, "config")
	known := ""
	for _, line := range strings.Split(s.CLI(t, "cert", "hostkeys"), "\n") {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[1], "AAAA") {
			known += fmt.Sprintf("[127.0.0.1]:%d %s %s\n", s.Port("sftp"), f[0], f[1])
		}
	}
	if known == "" {
		t.Fatal("cert hostkeys shows no line for known_hosts")
	}
	key := filepath.Join(dir, "key")
	config := fmt.Sprintf("Port %d\nUser %s\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nLogLevel ERROR\nIdentitiesOnly yes\nUpdateHostKeys no\n",
		s.Port("sftp"), name, filepath.Join(dir, "known"))
	keygen := Tool(t, "ssh-keygen", "openssh-client")
	switch how {
	case "password":
		// ssh asks this program instead of a terminal.
		ask := filepath.Join(dir, "ask")
		write(t, ask, "#!/bin/sh\necho '"+Password+"'\n", 0o700)
		a.env = []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
		config += "PubkeyAuthentication no\nPreferredAuthentications password\n"
	case "totp":
		var e struct{ Secret string }
		if err := json.Unmarshal([]byte(s.CLI(t, "user", "totp", "enable", name, "--json")), &e); err != nil {
			t.Fatal(err)
		}
		a.secret = e.Secret
		config += "PubkeyAuthentication no\nPreferredAuthentications keyboard-interactive\n"
		a.next(t)
	case "key":
		Cmd{Args: []string{keygen, "-q", "-t", "ed25519", "-N", "", "-f", key}}.Must(t)
		s.CLI(t, "user", "key", "add", name, key+".pub")
		config += "IdentityFile " + key + "\nPreferredAuthentications publickey\n"
	case "certificate":
		Cmd{Args: []string{keygen, "-q", "-t", "ed25519", "-N", "", "-f", key}}.Must(t)
		Cmd{Args: []string{keygen, "-q", "-s", filepath.Join(s.Dir, "ca"), "-I", "test", "-n", name, "-V", "+1h", key + ".pub"}}.Must(t)
		config += "IdentityFile " + key + "\nCertificateFile " + key + "-cert.pub\nPreferredAuthentications publickey\n"
	}
	write(t, filepath.Join(dir, "known"), known, 0o600)
	write(t, a.config, config, 0o600)
	return a
}

// next gives ssh the answers to its prompts for one log-in: a code works once,
// and one step early or late.
func (a *sshAccount) next(t *testing.T) {
	t.Helper()
	if a.secret == "" {
		return
	}
	at := time.Now()
	if a.env != nil {
		at = at.Add(30 * time.Second)
	}
	code, err := auth.TOTPCode(a.secret, at)
	if err != nil {
		t.Fatal(err)
	}
	ask := filepath.Join(filepath.Dir(a.config), "ask")
	write(t, ask, "#!/bin/sh\ncase \"$1\" in\n*code*) echo '"+code+"' ;;\n*) echo '"+Password+"' ;;\nesac\n", 0o700)
	a.env = []string{"SSH_ASKPASS=" + ask, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (a *sshAccount) run(t *testing.T, stdin string, args ...string) Result {
	t.Helper()
	return Cmd{Args: args, Stdin: stdin, Env: a.env, Timeout: 10 * time.Minute}.Must(t)
}

// movers are the clients: up copies the directory local to /name, down /name to local.
var movers = []struct {
	name     string
	up, down func(t *testing.T, a *sshAccount, local, name string)
}{
	{"sftp", func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, fmt.Sprintf("mkdir /%s\nput -R %s/. /%s\n", name, local, name), Tool(t, "sftp", "openssh-client"), "-q", "-F", a.config, "-oBatchMode=no", "-b", "-", "127.0.0.1")
	}, func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, fmt.Sprintf("get -R /%s/. %s\n", name, local), Tool(t, "sftp", "openssh-client"), "-q", "-F", a.config, "-oBatchMode=no", "-b", "-", "127.0.0.1")
	}},
	{"scp", func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, "", Tool(t, "scp", "openssh-client"), "-q", "-r", "-F", a.config, local, "127.0.0.1:/"+name)
	}, func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, "", Tool(t, "scp", "openssh-client"), "-q", "-r", "-F", a.config, "127.0.0.1:/"+name+"/.", local)
	}},
	{"scp-O", func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, "", Tool(t, "scp", "openssh-client"), "-O", "-q", "-r", "-p", "-F", a.config, local, "127.0.0.1:/"+name)
	}, func(t *testing.T, a *sshAccount, local, name string) {
		os.Remove(local)
		a.run(t, "", Tool(t, "scp", "openssh-client"), "-O", "-q", "-r", "-p", "-F", a.config, "127.0.0.1:/"+name, local)
	}},
	{"rclone", func(t *testing.T, a *sshAccount, local, name string) {
		a.run(t, "", append(a.rclone(t), "copy", local, "s:/"+name)...)
	}, func(t *testing.T, a *sshAccount, local, name string) {
		// check compares checksums, which the server computes.
		a.run(t, "", append(a.rclone(t), "copy", "s:/"+name, local)...)
		a.run(t, "", append(a.rclone(t), "check", "s:/"+name, local)...)
	}},
	{"sshfs", func(t *testing.T, a *sshAccount, local, name string) {
		a.mounted(t, func(dir string) { a.run(t, "", "cp", "-r", local, filepath.Join(dir, name)) })
	}, func(t *testing.T, a *sshAccount, local, name string) {
		a.mounted(t, func(dir string) { a.run(t, "", "cp", "-r", filepath.Join(dir, name)+"/.", local) })
	}},
}

// rclone returns the beginning of a command line; it has an SSH client of its own.
func (a *sshAccount) rclone(t *testing.T) []string {
	t.Helper()
	bin := Tool(t, "rclone", "rclone")
	conf := "[s]\ntype = sftp\nhost = 127.0.0.1\nport = " + strconv.Itoa(a.s.Port("sftp")) + "\nuser = " + a.Name +
		"\nknown_hosts_file = " + filepath.Join(filepath.Dir(a.config), "known") + "\n"
	key := filepath.Join(filepath.Dir(a.config), "key")
	switch a.how {
	case "password":
		conf += "pass = " + Cmd{Args: []string{bin, "obscure", Password}}.Must(t).Stdout
	case "certificate":
		conf += "pubkey_file = " + key + "-cert.pub\n"
		fallthrough
	default:
		conf += "key_file = " + key + "\n"
	}
	write(t, a.config+".rclone", conf, 0o600)
	return []string{bin, "--config", a.config + ".rclone", "--transfers", "8", "--log-level", "NOTICE"}
}

// mounted runs f with the account's files mounted.
func (a *sshAccount) mounted(t *testing.T, f func(dir string)) {
	t.Helper()
	dir := TempDir(t)
	a.run(t, "", Tool(t, "sshfs", "sshfs"), "-F", a.config, "127.0.0.1:/", dir)
	defer Cmd{Args: []string{"fusermount3", "-u", dir}}.Must(t)
	f(dir)
}

// TestSSHTree moves the sources of the Go toolchain up and down with every
// client by key, and a part of it by certificate, by password, and by password
// and code; rclone answers every prompt with the password, so it has no codes.
func TestSSHTree(t *testing.T) {
	src := filepath.Join(runtime.GOROOT(), "src")
	ca := filepath.Join(TempDir(t), "ca")
	Cmd{Args: []string{Tool(t, "ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", ca}}.Must(t)
	s := sshServer(t, fmt.Sprintf("[sftp]\ntrusted_user_ca = %q\n", ca+".pub"))
	for _, f := range []string{"ca", "ca.pub"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(ca), f))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.Dir, f), string(b), 0o600)
	}
	all, whole := sources(t)
	part := ReadTree(t, filepath.Join(src, "net"))
	for _, how := range []string{"key", "certificate", "password", "totp"} {
		for _, m := range movers {
			if how == "totp" && m.name == "rclone" {
				continue
			}
			t.Run(how+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				dir, want := filepath.Join(src, "net"), part
				if how == "key" {
					dir, want = all, whole
				}
				a := sshLogin(t, s, strings.ToLower(how[:3]+"-"+m.name), how)
				m.up(t, a, dir, "tree")
				// sshfs closes its last files after the file system is unmounted.
				var d string
				for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
					if d = want.Diff(ReadTree(t, filepath.Join(a.Home, "tree"))); d == "" || m.name != "sshfs" || time.Now().After(end) {
						break
					}
				}
				if d != "" {
					t.Fatalf("on the server's disk: %s", d)
				}
				back := filepath.Join(TempDir(t), "back")
				if err := os.Mkdir(back, 0o755); err != nil {
					t.Fatal(err)
				}
				a.next(t)
				m.down(t, a, back, "tree")
				if d := want.Diff(ReadTree(t, back)); d != "" {
					t.Fatalf("what came back: %s", d)
				}
			})
		}
	}
}
