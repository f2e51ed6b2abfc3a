package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/api"
)

// remoteCommands work on a server elsewhere; the others are about this machine.
var remoteCommands = []string{"user", "group", "mount", "admin", "token", "session", "event", "ban", "quota", "hook", "task", "status", "reload", "stop", "login", "logout", "import", "apply", "explain access", "ports list", "ports show", "ports matrix"}

// remoteServer is the server that --server or PORTREEVE_SERVER names, "" for
// the one of this machine.
func (a *app) remoteServer() string {
	s := a.serverFlag
	if s == "" {
		s = a.getenv("PORTREEVE_SERVER")
	}
	return serverName(s)
}

// serverName completes what people type: ftp.example.org:8443 is enough.
func serverName(s string) string {
	if s != "" && !strings.Contains(s, "://") {
		s = "https://" + s
	}
	return strings.TrimRight(s, "/")
}

// onlyHere refuses --server for a command that would quietly do its work on
// this machine.
func (a *app) onlyHere(cmd *cobra.Command, _ []string) error {
	if a.serverFlag == "" {
		return nil
	}
	_, path, _ := strings.Cut(cmd.CommandPath()+" ", " ")
	if slices.ContainsFunc(remoteCommands, func(c string) bool { return strings.HasPrefix(path, c+" ") }) {
		return nil
	}
	return usagef(cmd, "\"%s\" works on this machine alone; leave out --server", cmd.CommandPath())
}

// remoteLogin is what "portreeve login" keeps of one server.
type remoteLogin struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires,omitzero"`
	CA      string    `json:"ca,omitempty"` // PEM
}

// loginFile is where log-ins are kept, readable by their owner alone.
func (a *app) loginFile() (string, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			return "", errors.New("there is no place to keep the log-in: neither XDG_CONFIG_HOME nor HOME is set; use PORTREEVE_TOKEN")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "portreeve", "logins.json"), nil
}

func (a *app) remoteLogins() (map[string]remoteLogin, error) {
	all := map[string]remoteLogin{}
	file, err := a.loginFile()
	if err != nil {
		return all, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; remove it and log in again", plain(file), err)
	}
	return all, nil
}

// keepLogin changes the log-in of one server; nil forgets it.
func (a *app) keepLogin(server string, l *remoteLogin) error {
	all, err := a.remoteLogins()
	if err != nil {
		return err
	}
	if delete(all, server); l != nil {
		all[server] = *l
	}
	file, err := a.loginFile()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// A new file each time: nobody can have opened it, and its mode is ours.
	tmp, err := os.CreateTemp(filepath.Dir(file), ".logins-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// trusting makes the TLS configuration for a server; pem is its own authority
// or certificate, "" for those of the system.
func trusting(pem string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if pem != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			return nil, errors.New("it holds no certificate")
		}
	}
	return c, nil
}

// remoteClient returns a client of a server elsewhere, with PORTREEVE_TOKEN or
// the token of "portreeve login".
func (a *app) remoteClient(server string) (*api.Client, error) {
	l, token := remoteLogin{}, a.getenv("PORTREEVE_TOKEN")
	all, err := a.remoteLogins()
	if err == nil {
		l = all[server]
	} else if token == "" {
		return nil, err
	}
	again := fmt.Sprintf("portreeve login --server %s", server)
	switch {
	case token != "":
	case l.Token == "":
		return nil, fmt.Errorf("you are not logged in to %s; run \"%s\", or set PORTREEVE_TOKEN", server, again)
	case !l.Expires.IsZero() && !time.Now().Before(l.Expires):
		return nil, fmt.Errorf("your log-in to %s ended on %s; run \"%s\"", server, l.Expires.Local().Format(time.DateTime), again)
	default:
		token = l.Token
	}
	c, err := trusting(l.CA)
	if err != nil {
		return nil, fmt.Errorf("the certificate kept for %s: %w; run \"%s --ca FILE\"", server, err, again)
	}
	if u, err := url.Parse(server); err == nil && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: a token is only sent over https", server)
	}
	return api.NewRemoteClient(server, token, c)
}

// remotely runs f on the server elsewhere, if one is named.
func (a *app) remotely(ctx context.Context, f func(context.Context, *api.Client) error) (done bool, err error) {
	server := a.remoteServer()
	if server == "" {
		return false, nil
	}
	c, err := a.remoteClient(server)
	if err != nil {
		return true, err
	}
	defer c.Close()
	return true, f(ctx, c)
}
