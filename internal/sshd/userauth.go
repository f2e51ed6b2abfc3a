package sshd

import (
	"context"
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// sessionKey finds the session in ssh.Permissions. The library hands out the
// permissions of the callback that succeeded last and of no other, which is
// why the session travels there and not in a variable (CVE-2024-45337).
type sessionKey struct{}

// authenticate sets the callbacks of one connection.
func (c *conn) authenticate(conf *ssh.ServerConfig) {
	if b := c.s.opt.Banner; b != "" {
		conf.BannerCallback = func(ssh.ConnMetadata) string { return b + "\n" }
	}
	conf.PasswordCallback = func(m ssh.ConnMetadata, secret []byte) (*ssh.Permissions, error) {
		return c.login(auth.Password{User: m.User(), Secret: string(secret)})
	}
	conf.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil {
			return nil, err
		}
		if len(answers) != 1 {
			return nil, errors.New("one answer was expected")
		}
		return c.login(auth.Password{User: m.User(), Secret: answers[0]})
	}
	// The first callback is asked about keys that the client may not even hold;
	// it grants nothing. The second runs after the signature was verified.
	conf.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, c.g.Probe(c.ctx, auth.PublicKey{User: m.User(), Key: key.Marshal()})
	}
	conf.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
		return c.login(auth.PublicKey{User: m.User(), Key: key.Marshal()})
	}
}

// login asks the session manager. A refusal that further tries cannot change
// ends the connection, after the client was told.
func (c *conn) login(cred auth.Credential) (*ssh.Permissions, error) {
	s, err := c.g.Login(c.ctx, cred)
	if err == nil {
		return &ssh.Permissions{ExtraData: map[any]any{sessionKey{}: s}}, nil
	}
	switch fault.KindOf(err) {
	case fault.Limit, fault.Stopping, fault.Unavailable, fault.Internal, fault.Canceled:
		if errors.Is(err, context.Canceled) {
			break
		}
		a := answerTo(err)
		if a.level >= levelError {
			c.log.Error("a log-in failed on our side", "remote", c.nc.RemoteAddr().String(), "user", cred.Username(), "err", err)
		}
		return nil, &ssh.BannerError{Err: err, Message: sentence(a.text) + "\n"}
	}
	return nil, err
}
