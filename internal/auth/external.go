package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// ExternalVerifier asks a program or an HTTP service about passwords. It is
// asked about accounts without a password of their own and about names that
// are no account; those get the home of the template and the groups that the
// answer names. The question is JSON (see Question), on standard input or as
// the body of a POST; the answer may be JSON, too (see Answer).
//
// A program says yes with exit status 0 and no with 1; a service with 200 or
// 204 and with 401, 403 or 404. Everything else, an answer that cannot be read
// or one that takes too long is fault.Unavailable: nobody is let in, and the
// client is told to try again. Fields are set before Ready.
type ExternalVerifier struct {
	Program []string               // argv of an absolute program; no shell
	URL     string                 // of the service; used when Program is empty
	Secret  func() (string, error) // sent to the service as a bearer token; nil: none
	Home    string                 // template of users without an account
	Users   Users
	Timeout time.Duration // for all of it; 0: 5 s
	Slots   int           // questions at a time; further ones wait; 0: 16
	Client  *http.Client  // nil: one that follows no redirects
	Logger  *slog.Logger  // nil: silent
	Now     func() time.Time

	slots chan struct{}
}

// Question is what is asked.
type Question struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Protocol string `json:"protocol"`
	Listener string `json:"listener,omitempty"`
	Remote   string `json:"remote"` // IP address of the client
	TLS      bool   `json:"tls,omitempty"`
}

// Answer is what a yes may say besides.
type Answer struct {
	Groups []string `json:"groups,omitempty"` // of this server, besides those of the account
}

// maxExternal bounds an answer, in octets.
const maxExternal = 64 << 10

// Ready checks the settings and fills in defaults.
func (v *ExternalVerifier) Ready() error {
	if (len(v.Program) == 0) == (v.URL == "") {
		return fault.Text(fault.Invalid, "an external check of passwords is either a program or a URL")
	}
	if v.Timeout <= 0 {
		v.Timeout = 5 * time.Second
	}
	if v.Slots <= 0 {
		v.Slots = 16
	}
	if v.Client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil // passwords go where the configuration says, not where the environment does
		v.Client = &http.Client{Transport: t}
	}
	c := *v.Client
	// A redirect would carry the password to a place nobody has named.
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	v.Client = &c
	v.slots = make(chan struct{}, v.Slots)
	return nil
}

// Accepts implements Accepter.
func (v *ExternalVerifier) Accepts(c Credential) bool { _, ok := c.(Password); return ok }

// Verify implements Verifier. Other credentials than Password are refused with ErrBad.
func (v *ExternalVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	p, ok := c.(Password)
	if !ok {
		return Identity{}, bad("not a password")
	}
	row, known, err := outsider(ctx, v.Users, p, "the external check")
	if err != nil {
		return Identity{}, err
	}
	ask, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	answer, err := v.ask(ask, Question{User: p.User, Password: p.Secret, Protocol: from.Protocol, Listener: from.Listener, Remote: from.Remote.Addr().Unmap().String(), TLS: from.TLS})
	if err != nil {
		return Identity{}, err
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	u, err := admit(ctx, v.Users, from, row, known, p.User, v.Home, "from the external check", answer.Groups, now)
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: u, Method: "external", Granted: answer.Groups}, nil
}

func (v *ExternalVerifier) ask(ctx context.Context, q Question) (Answer, error) {
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return Answer{}, v.down(ctx, "wait for a free place", context.Cause(ctx))
	}
	in, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	var out []byte
	if len(v.Program) > 0 {
		out, err = v.run(ctx, in)
	} else {
		out, err = v.post(ctx, in)
	}
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if out = bytes.TrimSpace(out); len(out) > 0 {
		// What we do not know may be the no of a service that says it another
		// way, such as {"success": false}: it is no yes.
		d := json.NewDecoder(bytes.NewReader(out))
		d.DisallowUnknownFields()
		err := d.Decode(&a)
		if err == nil && (out[0] != '{' || d.InputOffset() != int64(len(out))) {
			err = errors.New("it is not one JSON object")
		}
		if err != nil {
			return a, v.down(ctx, "read the answer", err)
		}
	}
	for _, g := range a.Groups {
		if err := account.ValidName(g); err != nil {
			return a, v.down(ctx, "read the answer", fmt.Errorf("group: %w", err))
		}
	}
	return a, nil
}

// capped keeps the first octets that are written and takes the rest.
type capped struct {
	bytes.Buffer
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxExternal {
		c.over = true
		return len(p), nil
	}
	return c.Buffer.Write(p)
}

func (v *ExternalVerifier) run(ctx context.Context, in []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, v.Program[0], v.Program[1:]...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8"} // nothing of ours
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(in)
	var out, complaint capped
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.WaitDelay = time.Second // a child may keep the pipes
	ownGroup(cmd)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, v.down(ctx, "run "+v.Program[0], context.Cause(ctx))
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return nil, bad("the external check says no")
	case err != nil:
		return nil, v.down(ctx, "run "+v.Program[0], fmt.Errorf("%w: %s", err, clipped(complaint.String())))
	case out.over:
		return nil, v.down(ctx, "run "+v.Program[0], errors.New("its answer is too long"))
	}
	return out.Bytes(), nil
}

func clipped(s string) string {
	s = strings.TrimSpace(s)
	return s[:min(len(s), 200)]
}

func (v *ExternalVerifier) post(ctx context.Context, in []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.URL, bytes.NewReader(in))
	if err != nil {
		return nil, v.down(ctx, "ask", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if v.Secret != nil {
		secret, err := v.Secret()
		if err != nil {
			return nil, v.down(ctx, "read its secret", err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := v.Client.Do(req)
	if err != nil {
		return nil, v.down(ctx, "ask", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return nil, bad("the external check says no")
	default:
		return nil, v.down(ctx, "ask", fmt.Errorf("it answers %s", resp.Status))
	}
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxExternal+1))
	if err == nil && len(out) > maxExternal {
		err = errors.New("its answer is too long")
	}
	if err != nil {
		return nil, v.down(ctx, "read the answer", err)
	}
	return out, nil
}

// down says that the check failed; what it said goes to the log.
func (v *ExternalVerifier) down(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return fault.New(fault.Canceled, "ask the external check", "", context.Cause(ctx))
	}
	if v.Logger != nil {
		v.Logger.Error("the external check of passwords does not answer as it should; accounts that need it cannot log in", "op", op, "err", err)
	}
	return fault.New(fault.Unavailable, "ask the external check: "+op, "", err)
}
