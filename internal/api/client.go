package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// ErrNotRunning means that no server answers at the socket.
var ErrNotRunning = errors.New("no portreeve server is running here")

// maxAnswer bounds what the client reads of one answer, in bytes.
const maxAnswer = 256 << 20

// Client speaks to a running server. Its methods return the faults that the
// server's own admin service returned, and ErrNotRunning. Safe for concurrent use.
type Client struct {
	path  string // of the socket; "" when the server is elsewhere
	base  string // https://host:port of a server elsewhere
	token string
	http  *http.Client
}

// NewClient returns a client of the server whose socket is at path. It does
// not connect yet.
func NewClient(path string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, path)
		},
		MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second,
	}
	return &Client{path: path, http: &http.Client{Transport: t}}
}

// NewRemoteClient returns a client of the HTTPS interface at base, such as
// https://host:8443, with this token; "" where none is needed. c says which
// certificates are trusted; nil: the system's. It does not connect yet.
func NewRemoteClient(base, token string, c *tls.Config) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fault.Text(fault.Invalid, fmt.Sprintf("%q is not the address of a server, such as https://ftp.example.org:8443", base))
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	return &Client{base: "https://" + u.Host, token: token, http: &http.Client{Transport: t, Timeout: 2 * time.Minute,
		// A token must not follow to where an answer points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// SignIn asks where administrators log in; no token is needed.
func (c *Client) SignIn(ctx context.Context) (s SignIn, err error) {
	err = c.call(ctx, "GET", "/v1/sign-in", nil, nil, &s)
	return s, err
}

// Me asks who the token stands for.
func (c *Client) Me(ctx context.Context) (m Me, err error) {
	err = c.call(ctx, "GET", "/v1/me", nil, nil, &m)
	return m, err
}

// Path returns the socket, "" for a server elsewhere.
func (c *Client) Path() string { return c.path }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// reach explains a failure to connect to the socket.
func reach(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return fault.Text(fault.Denied, fmt.Sprintf("this user may not use the server's control socket %s; run the command as the server's user or as root, for example with sudo", path))
	}
	return fmt.Errorf("the control socket %s does not answer: %w", path, cause(err))
}

// call sends one request and decodes the answer into out, which may be nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.send(ctx, method, path, "", query, in, out)
}

// change sends a PATCH for the version of an object, "" for any.
func (c *Client) change(ctx context.Context, path, version string, in, out any) error {
	return c.send(ctx, "PATCH", path, version, nil, in, out)
}

func (c *Client) send(ctx context.Context, method, path, version string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	u := "http://portreeve" + path
	if c.base != "" {
		u = c.base + path
	}
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if version != "" {
		req.Header.Set("If-Match", strconv.Quote(version))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		var untrusted *tls.CertificateVerificationError
		if c.base != "" && errors.As(err, &untrusted) {
			return fault.Text(fault.Unavailable, fmt.Sprintf("the certificate of the server at %s cannot be verified: %v; give its own one, or that of its authority: portreeve login --ca FILE", c.base, untrusted.Err))
		}
		if c.base != "" {
			return fault.Text(fault.Unavailable, fmt.Sprintf("the server at %s cannot be reached: %v", c.base, err))
		}
		return reach(c.path, err)
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 300 {
		var p problem
		json.NewDecoder(answer).Decode(&p) // a body that is no problem leaves the status to speak
		if resp.StatusCode == http.StatusPreconditionFailed {
			return admin.ErrConflict
		}
		return problemError(resp.StatusCode, p)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("the server's answer to %s %s cannot be read: %w; are the server and this command of the same version?", method, path, err)
	}
	return nil
}

func userPath(name string) string { return "/v1/users/" + url.PathEscape(name) }

// CreateUser is admin.Service.CreateUser on the server.
func (c *Client) CreateUser(ctx context.Context, n admin.NewUser) (u account.User, err error) {
	err = c.call(ctx, "POST", "/v1/users", nil, n, &u)
	return u, err
}

// UpdateUser is admin.Service.UpdateUser on the server.
func (c *Client) UpdateUser(ctx context.Context, name string, s admin.Settings) (u account.User, err error) {
	err = c.change(ctx, userPath(name), s.IfMatch, s, &u)
	return u, err
}

// SetPassword is admin.Service.SetPassword on the server.
func (c *Client) SetPassword(ctx context.Context, name, secret string) error {
	return c.call(ctx, "PUT", userPath(name)+"/password", nil, password{secret}, nil)
}

// DeleteUser is admin.Service.DeleteUser on the server.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", userPath(name), nil, nil, nil)
}

// User is admin.Service.User on the server.
func (c *Client) User(ctx context.Context, name string) (u account.User, err error) {
	err = c.call(ctx, "GET", userPath(name), nil, nil, &u)
	return u, err
}

// Users is admin.Service.Users on the server.
func (c *Client) Users(ctx context.Context, o admin.ListOptions) ([]account.User, string, error) {
	var l UserList
	err := c.call(ctx, "GET", "/v1/users", listQuery(o).values(), nil, &l)
	return l.Users, l.Next, err
}

func groupPath(name string) string { return "/v1/groups/" + url.PathEscape(name) }

func adminPath(name string) string { return "/v1/administrators/" + url.PathEscape(name) }

func (o listQuery) values() url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"after": o.After, "match": o.Match, "group": o.Group} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return q
}

type listQuery admin.ListOptions

// Access is admin.Service.Access on the server.
func (c *Client) Access(ctx context.Context, name string, q account.Question) (x account.Explanation, err error) {
	v := url.Values{"path": {q.Path}, "protocol": {q.Protocol}}
	if q.From.IsValid() {
		v.Set("from", q.From.String())
	}
	if !q.At.IsZero() {
		v.Set("at", q.At.Format(time.RFC3339))
	}
	err = c.call(ctx, "GET", userPath(name)+"/access", v, nil, &x)
	return x, err
}

// CreateAll is admin.Service.CreateAll on the server.
func (c *Client) CreateAll(ctx context.Context, b admin.Batch) (m admin.Made, err error) {
	err = c.call(ctx, "POST", "/v1/accounts", nil, b, &m)
	return m, err
}

// CreateGroup is admin.Service.CreateGroup on the server.
func (c *Client) CreateGroup(ctx context.Context, n admin.NewGroup) (g account.Group, err error) {
	err = c.call(ctx, "POST", "/v1/groups", nil, n, &g)
	return g, err
}

// UpdateGroup is admin.Service.UpdateGroup on the server.
func (c *Client) UpdateGroup(ctx context.Context, name string, s admin.GroupSettings) (g account.Group, err error) {
	err = c.change(ctx, groupPath(name), s.IfMatch, s, &g)
	return g, err
}

// DeleteGroup is admin.Service.DeleteGroup on the server.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", groupPath(name), nil, nil, nil)
}

// Group is admin.Service.Group on the server.
func (c *Client) Group(ctx context.Context, name string) (g account.Group, err error) {
	err = c.call(ctx, "GET", groupPath(name), nil, nil, &g)
	return g, err
}

// Groups is admin.Service.Groups on the server.
func (c *Client) Groups(ctx context.Context, o admin.ListOptions) ([]account.Group, string, error) {
	var l GroupList
	err := c.call(ctx, "GET", "/v1/groups", listQuery(o).values(), nil, &l)
	return l.Groups, l.Next, err
}

// Members is admin.Service.Members on the server.
func (c *Client) Members(ctx context.Context, group string, o admin.ListOptions) ([]string, string, error) {
	var l MemberList
	err := c.call(ctx, "GET", groupPath(group)+"/members", listQuery(o).values(), nil, &l)
	return l.Members, l.Next, err
}

// CreateAdministrator is admin.Service.CreateAdministrator on the server.
func (c *Client) CreateAdministrator(ctx context.Context, n admin.NewAdministrator) (a account.Administrator, err error) {
	err = c.call(ctx, "POST", "/v1/administrators", nil, n, &a)
	return a, err
}

// UpdateAdministrator is admin.Service.UpdateAdministrator on the server.
func (c *Client) UpdateAdministrator(ctx context.Context, name string, s admin.AdministratorSettings) (a account.Administrator, err error) {
	err = c.change(ctx, adminPath(name), s.IfMatch, s, &a)
	return a, err
}

// DeleteAdministrator is admin.Service.DeleteAdministrator on the server.
func (c *Client) DeleteAdministrator(ctx context.Context, name string) error {
	return c.call(ctx, "DELETE", adminPath(name), nil, nil, nil)
}

// Administrator is admin.Service.Administrator on the server.
func (c *Client) Administrator(ctx context.Context, name string) (a account.Administrator, err error) {
	err = c.call(ctx, "GET", adminPath(name), nil, nil, &a)
	return a, err
}

// Administrators is admin.Service.Administrators on the server.
func (c *Client) Administrators(ctx context.Context, o admin.ListOptions) ([]account.Administrator, string, error) {
	var l AdministratorList
	err := c.call(ctx, "GET", "/v1/administrators", listQuery(o).values(), nil, &l)
	return l.Administrators, l.Next, err
}

// CreateToken is admin.Service.CreateToken on the server.
func (c *Client) CreateToken(ctx context.Context, n admin.NewToken) (t admin.MadeToken, err error) {
	err = c.call(ctx, "POST", "/v1/tokens", nil, n, &t)
	return t, err
}

// Tokens is admin.Service.Tokens on the server.
func (c *Client) Tokens(ctx context.Context, name string) ([]account.Token, error) {
	var l TokenList
	err := c.call(ctx, "GET", "/v1/tokens", url.Values{"administrator": {name}}, nil, &l)
	return l.Tokens, err
}

// DeleteToken is admin.Service.DeleteToken on the server.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// Sessions returns the live sessions.
func (c *Client) Sessions(ctx context.Context) ([]admin.Session, error) {
	var l SessionList
	err := c.call(ctx, "GET", "/v1/sessions", nil, nil, &l)
	return l.Sessions, err
}

// Kick ends one session; fault.NotExist when there is none of that id.
func (c *Client) Kick(ctx context.Context, id, reason string) error {
	return c.call(ctx, "DELETE", "/v1/sessions/"+url.PathEscape(id), url.Values{"reason": {reason}}, nil, nil)
}

// KickUser ends all sessions of a user and says how many there were.
func (c *Client) KickUser(ctx context.Context, name, reason string) (int, error) {
	var k kicked
	err := c.call(ctx, "DELETE", "/v1/sessions", url.Values{"user": {name}, "reason": {reason}}, nil, &k)
	return k.Kicked, err
}

// Status asks the server about itself.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.call(ctx, "GET", "/v1/status", nil, nil, &s)
	return s, err
}

// Reload makes the server read its config file again.
func (c *Client) Reload(ctx context.Context) (r Reloaded, err error) {
	err = c.call(ctx, "POST", "/v1/reload", nil, nil, &r)
	return r, err
}

// Stop asks the server to stop; it returns when the server has understood.
func (c *Client) Stop(ctx context.Context, reason string) error {
	return c.call(ctx, "POST", "/v1/stop", url.Values{"reason": {reason}}, nil, nil)
}
