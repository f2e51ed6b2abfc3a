package sshd

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/account"
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
	first := c.callbacks([]string{account.FactorKey, account.FactorPassword})
	conf.PasswordCallback, conf.KeyboardInteractiveCallback = first.PasswordCallback, first.KeyboardInteractiveCallback
	// This callback is asked about keys that the client may not even hold; it
	// grants nothing. The next runs after the signature was verified.
	conf.PublicKeyCallback = first.PublicKeyCallback
	conf.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
		return c.step(c.login(auth.PublicKey{User: m.User(), Key: key.Marshal()}))
	}
}

// callbacks are those with which the factors in next can be proved.
func (c *conn) callbacks(next []string) (b ssh.ServerAuthCallbacks) {
	for _, f := range next {
		switch f {
		case account.FactorKey:
			b.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
				return nil, c.g.Probe(c.ctx, auth.PublicKey{User: m.User(), Key: key.Marshal()})
			}
			continue
		case account.FactorPassword:
			b.PasswordCallback = func(m ssh.ConnMetadata, secret []byte) (*ssh.Permissions, error) {
				return c.step(c.login(auth.Password{User: m.User(), Secret: string(secret)}))
			}
		}
		b.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return c.step(c.interview(m.User(), ask, next))
		}
	}
	return b
}

// step turns what is missing after a credential into partial success (RFC 4252
// section 5.1): the client is told with which methods to go on.
func (c *conn) step(p *ssh.Permissions, err error) (*ssh.Permissions, error) {
	var more *auth.More
	if errors.As(err, &more) {
		return nil, &ssh.PartialSuccessError{Next: c.callbacks(more.Next)}
	}
	return p, err
}

// newPasswordTries is how often a new password may be chosen in one exchange.
const newPasswordTries = 3

// interview asks for one factor after the other, each with a prompt of its own
// (RFC 4256), until all are proved or one is missing that is no answer.
func (c *conn) interview(user string, ask ssh.KeyboardInteractiveChallenge, next []string) (*ssh.Permissions, error) {
	for {
		var p *ssh.Permissions
		var err error
		switch {
		case slices.Contains(next, account.FactorPassword):
			var secret string
			if secret, err = prompted(ask, "Password: "); err == nil {
				p, err = c.login(auth.Password{User: user, Secret: secret})
			}
		case slices.Contains(next, account.FactorCode):
			var code string
			if code, err = prompted(ask, "Verification code: "); err == nil {
				p, err = c.login(auth.Code{User: user, Secret: code})
			}
		case slices.Contains(next, account.FactorChange):
			p, err = c.newPassword(user, ask)
		default:
			return nil, &auth.More{Next: next}
		}
		var more *auth.More
		if !errors.As(err, &more) {
			return p, err
		}
		next = more.Next
	}
}

func prompted(ask ssh.KeyboardInteractiveChallenge, prompt string) (string, error) {
	answers, err := ask("", "", []string{prompt}, []bool{false})
	if err == nil && len(answers) != 1 {
		err = errors.New("one answer was expected")
	}
	if err != nil {
		return "", err
	}
	return answers[0], nil
}

// newPassword lets the user choose a password, which is typed twice.
func (c *conn) newPassword(user string, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	why := "Your password must be changed before you can go on."
	var err error
	for range newPasswordTries {
		var answers []string
		answers, err = ask("", why, []string{"New password: ", "New password again: "}, []bool{false, false})
		switch {
		case err != nil:
			return nil, err
		case len(answers) != 2:
			return nil, errors.New("two answers were expected")
		case answers[0] != answers[1]:
			err = fault.Text(fault.Invalid, "the two passwords differ")
			why = "The two passwords differ. Try again."
			continue
		}
		var p *ssh.Permissions
		if p, err = c.login(auth.NewPassword{User: user, New: answers[0]}); fault.KindOf(err) != fault.Invalid || errors.Is(err, auth.ErrBad) {
			return p, err
		}
		why = fault.Sentence(plain(causeText(err))) + " Try again."
	}
	return nil, err
}

// causeText is what a fault made for people says, without the operation.
func causeText(err error) string {
	var fe *fault.Error
	if errors.As(err, &fe) && fe.Err != nil {
		return fe.Err.Error()
	}
	return err.Error()
}

// login asks the session manager. A refusal that further tries cannot change
// ends the connection, after the client was told.
func (c *conn) login(cred auth.Credential) (*ssh.Permissions, error) {
	s, err := c.g.Login(c.ctx, cred)
	if err == nil {
		return &ssh.Permissions{ExtraData: map[any]any{sessionKey{}: s}}, nil
	}
	if errors.Is(err, auth.ErrMore) {
		return nil, err
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
		return nil, &ssh.BannerError{Err: err, Message: fault.Sentence(a.text) + "\n"}
	}
	return nil, err
}
