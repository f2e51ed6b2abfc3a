package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/auth"
)

type loginFlags struct {
	oidc, device, tokenStdin bool
	ca, providerCA, secret   string
	code, onceOf             string
	port                     int
	wait                     time.Duration
}

func (a *app) loginCommand() *cobra.Command {
	var f loginFlags
	c := &cobra.Command{Use: "login", Short: "Log in to the administration of a server elsewhere", Args: args(),
		Long: `Log in to the HTTPS interface of a server ([admin] address) and keep the token
for other commands with --server or PORTREEVE_SERVER. With --oidc the identity
provider of the server asks who you are, in a browser; the token ends when the
provider says, mostly after an hour. With --token-stdin it is a token of
"portreeve token add".`,
		Example: `  portreeve login --server ftp.example.org:8443 --oidc
  portreeve login --server ftp.example.org:8443 --oidc --device
  portreeve login --server ftp.example.org:8443 --ca selfsigned-cert.pem --token-stdin --once-of ops <token.txt
  portreeve --server ftp.example.org:8443 user list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server := a.remoteServer()
			switch {
			case server == "":
				return usagef(cmd, "--server is missing; on this machine no log-in is needed")
			case f.oidc == f.tokenStdin:
				return usagef(cmd, "say how: --oidc or --token-stdin")
			case f.onceOf != "" && !f.tokenStdin:
				return usagef(cmd, "--once-of goes with --token-stdin")
			case f.device && !f.oidc:
				return usagef(cmd, "--device goes with --oidc")
			}
			return a.login(cmd.Context(), server, f)
		}}
	fl := c.Flags()
	fl.BoolVar(&f.oidc, "oidc", false, "by the identity provider of the server")
	fl.BoolVar(&f.device, "device", false, "with a code, for a browser on another machine")
	fl.BoolVar(&f.tokenStdin, "token-stdin", false, "read a token from standard input")
	fl.StringVar(&f.ca, "ca", "", "PEM `FILE` with the server's certificate or its authority; it is kept")
	fl.StringVar(&f.providerCA, "provider-ca", "", "PEM `FILE` with the provider's authority")
	fl.StringVar(&f.secret, "client-secret-file", "", "`FILE` with the client secret, for a provider that has no public clients")
	fl.StringVar(&f.onceOf, "once-of", "", "the token works for one call, as init prints one: trade it for one of 90 days of this `ADMINISTRATOR`")
	fl.StringVar(&f.code, "code", "", "`CODE` of the second factor, for an administrator who has one")
	fl.IntVar(&f.port, "port", 0, "`PORT` of 127.0.0.1 that the browser comes back to (default: any)")
	fl.DurationVar(&f.wait, "wait", 5*time.Minute, "how `LONG` to wait for the browser")
	return c
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "Forget the token of a server elsewhere", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			server := a.remoteServer()
			if server == "" {
				return usagef(cmd, "--server is missing")
			}
			if err := a.keepLogin(server, nil); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "logged out of %s\n", server)
			return nil
		}}
}

func (a *app) login(ctx context.Context, server string, f loginFlags) error {
	l := remoteLogin{}
	if f.ca != "" {
		b, err := os.ReadFile(f.ca)
		if err != nil {
			return err
		}
		l.CA = string(b)
	} else if all, err := a.remoteLogins(); err == nil {
		l.CA = all[server].CA
	}
	tlsConfig, err := trusting(l.CA)
	if err != nil {
		return fmt.Errorf("--ca %s: %w", plain(f.ca), err)
	}
	if f.tokenStdin {
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		if l.Token = strings.TrimSpace(line); l.Token == "" {
			return errors.New("there is no token on standard input")
		}
	} else {
		c, err := api.NewRemoteClient(server, "", tlsConfig)
		if err != nil {
			return err
		}
		defer c.Close()
		in, err := c.SignIn(ctx)
		if err != nil {
			return err
		}
		if in.OIDC == nil {
			return fmt.Errorf("%s has no identity provider ([admin.oidc]); use --token-stdin with a token of \"portreeve token add\"", server)
		}
		t, err := a.signIn(ctx, *in.OIDC, f)
		if err != nil {
			return err
		}
		l.Token, l.Expires = t.Token, t.Expires
	}
	if f.onceOf != "" {
		c, err := api.NewRemoteClient(server, l.Token, tlsConfig)
		if err != nil {
			return err
		}
		defer c.Close()
		made, err := c.CreateToken(ctx, admin.NewToken{Administrator: f.onceOf, Comment: "portreeve login", Expires: time.Now().AddDate(0, 0, 90)})
		if err != nil {
			return err
		}
		l.Token, l.Expires = made.Secret, made.Expires
	}
	// Asking for something tells now, and not later, that the token is no good.
	c, err := api.NewRemoteClient(server, l.Token, tlsConfig)
	if err != nil {
		return err
	}
	defer c.Close()
	me, err := c.Me(ctx)
	if err != nil {
		return err
	}
	if me.Unverified {
		if f.code == "" {
			return fmt.Errorf("%s has a second factor; run the command again with --code", me.Name)
		}
		made, err := c.VerifyToken(ctx, f.code)
		if err != nil {
			return err
		}
		l.Token, l.Expires = made.Secret, made.Expires
	}
	if err := a.keepLogin(server, &l); err != nil {
		return err
	}
	until := ""
	if !l.Expires.IsZero() {
		until = ", until " + l.Expires.Local().Format(time.DateTime)
	}
	fmt.Fprintf(a.out, "logged in to %s as %s (%s)%s\n", server, me.Name, strings.Join(me.Scopes, ", "), until)
	return nil
}

// signIn gets a token of the provider.
func (a *app) signIn(ctx context.Context, in api.Provider, f loginFlags) (auth.Assertion, error) {
	s := auth.SignIn{Issuer: in.Issuer, ClientID: in.ClientID, Scopes: in.Scopes}
	if f.providerCA != "" {
		b, err := os.ReadFile(f.providerCA)
		if err != nil {
			return auth.Assertion{}, err
		}
		if s.TLS, err = trusting(string(b)); err != nil {
			return auth.Assertion{}, fmt.Errorf("--provider-ca %s: %w", plain(f.providerCA), err)
		}
	}
	if f.secret != "" {
		b, err := os.ReadFile(f.secret)
		if err != nil {
			return auth.Assertion{}, err
		}
		s.Secret = strings.TrimSpace(string(b))
	}
	ctx, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	if f.device {
		return s.Device(ctx, func(url, code, direct string) {
			fmt.Fprintf(a.err, "Open %s in a browser and type the code %s\n", url, code)
			if direct != "" {
				fmt.Fprintf(a.err, "or open %s\n", direct)
			}
		})
	}
	return s.Code(ctx, f.port, func(url string) {
		fmt.Fprintf(a.err, "Open this address in a browser on this machine:\n%s\n", url)
	})
}
