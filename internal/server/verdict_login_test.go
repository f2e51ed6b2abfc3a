package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
)

// TestSameLogin: who may log in, from where and when, is decided alike too.
func TestSameLogin(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	// Three days from now, so that no midnight comes between.
	otherDay := []account.Hours{{Days: []time.Weekday{(time.Now().Weekday() + 3) % 7}, From: "00:00", Until: "24:00"}}
	always := []account.Hours{{From: "00:00", Until: "24:00"}}
	groups := []account.Group{{Name: "elsewhere", Networks: elsewhere}, {Name: "otherday", Hours: otherDay}, {Name: "here", Networks: here, Hours: always},
		{Name: "keys", Auth: []string{account.FactorKey}}, {Name: "onlyftps", Protocols: []string{"ftps"}}}
	tests := []struct {
		name string
		user account.User
		ok   string // protocols that let in
	}{
		{"anybody", account.User{}, "ftp ftps sftp scp"},
		{"disabled", account.User{Disabled: true}, ""},
		{"expired", account.User{Expires: time.Now().Add(-time.Hour)}, ""},
		{"expires later", account.User{Expires: time.Now().Add(time.Hour)}, "ftp ftps sftp scp"},
		{"network", account.User{Networks: elsewhere}, ""},
		{"network that fits", account.User{Networks: here}, "ftp ftps sftp scp"},
		{"hours", account.User{Hours: otherDay}, ""},
		{"hours that fit", account.User{Hours: always}, "ftp ftps sftp scp"},
		{"network of a group", account.User{Groups: []string{"elsewhere"}}, ""},
		{"hours of a group", account.User{Groups: []string{"otherday"}}, ""},
		{"the user's network wins", account.User{Networks: here, Groups: []string{"elsewhere"}}, "ftp ftps sftp scp"},
		{"the user's hours win", account.User{Hours: always, Groups: []string{"otherday"}}, "ftp ftps sftp scp"},
		{"the first group wins", account.User{Groups: []string{"here", "elsewhere", "otherday"}}, "ftp ftps sftp scp"},
		{"the other order", account.User{Groups: []string{"elsewhere", "here"}}, ""},
		{"key-only", account.User{KeyOnly: true}, ""},
		{"factors", account.User{Auth: []string{account.FactorKey, account.FactorPassword}}, ""},
		{"factors of a group", account.User{Groups: []string{"keys"}}, ""},
		{"one protocol", account.User{Protocols: []string{"sftp"}}, "sftp scp"},
		{"protocol of a group", account.User{Groups: []string{"onlyftps"}}, "ftps"},
	}
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`)+listenTOML("ftps", "127.0.0.1:0", "")+listenTOML("sftp", "127.0.0.1:0", "")+
		"[limits]\nnever_ban = [\"127.0.0.0/8\"]\n[passwords]\nrehash = false\n")
	r.addGroups(groups...)
	for i, tt := range tests {
		u := tt.user
		u.Name, u.Home = fmt.Sprintf("u%d", i), r.home
		r.addUser(u)
	}
	r.run()
	trust := r.trust()
	logins := map[string]func(user string) error{
		"ftp": func(user string) error {
			return ftpLogin(r.address(0), user, ftp.ClientOptions{Timeout: 20 * time.Second})
		},
		"ftps": func(user string) error {
			return ftpLogin(r.address(1), user, ftp.ClientOptions{TLS: ftp.ImplicitTLS, TLSConfig: trust, Timeout: 20 * time.Second})
		},
		"sftp": func(user string) error { return r.sshRun(user, "") },
		"scp":  func(user string) error { return r.sshRun(user, "scp -t /") },
	}
	// Refusals take their time on purpose, so several are waited for at once.
	var wg sync.WaitGroup
	places := make(chan struct{}, 16)
	for i, tt := range tests {
		for _, p := range protocols {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				if err, want := logins[p.name](fmt.Sprintf("u%d", i)), slices.Contains(strings.Fields(tt.ok), p.name); (err == nil) != want {
					t.Errorf("%s: %s: %v, want success %v", tt.name, p.name, err, want)
				}
			})
		}
	}
	wg.Wait()
}

func ftpLogin(addr, user string, o ftp.ClientOptions) error {
	c, err := ftp.Dial(context.Background(), addr, o)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Login(context.Background(), user, testPassword)
}

// sshRun logs in and starts the sftp subsystem, or a command that gets no input.
func (r *rig) sshRun(user, command string) error {
	c, err := ssh.Dial("tcp", r.address(2), &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	if command == "" {
		f, err := sftp.NewClient(c)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Run(command)
}
