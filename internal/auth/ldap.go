package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/portreeve/portreeve/internal/fault"
)

// LDAPVerifier checks passwords by binding to a directory (RFC 4511) as the
// user. The account is the row of that name, when there is one without a
// password of its own, else one made of Home and the mapped groups. A password
// of the own database always wins: a directory cannot take such an account over.
//
// It fails closed: when the directory does not answer, the answer is
// fault.Unavailable, and nobody is let in. Fields are set before first use.
type LDAPVerifier struct {
	URL      string      // ldap://host or ldaps://host, with a port if need be
	StartTLS bool        // upgrade ldap:// before anything is said
	TLS      *tls.Config // nil: the system's authorities
	BindDN   string      // who searches; "": anonymous
	BindPass func() (string, error)
	Base     string // where users are
	Filter   string // %u is the name, escaped; such as (&(objectClass=person)(uid=%u))
	Home     string // template for users without a row and a group's home; "": none
	Groups   map[string]string
	Users    Users         // rows; see above
	Timeout  time.Duration // for all of it; 0: 5 s
	Slots    int           // conversations at once; 0: 16
	Now      func() time.Time
	Logger   *slog.Logger

	slots chan struct{}
}

// Ready must be called once, before the first Verify. It checks what can be
// checked without the directory; fault.Invalid.
func (v *LDAPVerifier) Ready() error {
	u, err := url.Parse(v.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "ldap" && u.Scheme != "ldaps":
		return fault.Text(fault.Invalid, fmt.Sprintf("%q is not the URL of a directory, such as ldaps://dc.example.org", v.URL))
	case v.StartTLS && u.Scheme == "ldaps":
		return fault.Text(fault.Invalid, "StartTLS is for ldap://; ldaps:// is protected from the start")
	case strings.Count(v.Filter, "%u") != 1:
		return fault.Text(fault.Invalid, fmt.Sprintf("the filter %q must have %%u, the name of the user, once", v.Filter))
	}
	if _, err := ldap.CompileFilter(v.filter("someone")); err != nil {
		return fault.Text(fault.Invalid, fmt.Sprintf("the filter %q is not valid: %v", v.Filter, err))
	}
	if v.Timeout <= 0 {
		v.Timeout = 5 * time.Second
	}
	if v.Slots <= 0 {
		v.Slots = 16
	}
	v.slots = make(chan struct{}, v.Slots)
	return nil
}

// Accepts implements Accepter.
func (v *LDAPVerifier) Accepts(c Credential) bool { _, ok := c.(Password); return ok }

func (v *LDAPVerifier) filter(name string) string {
	return strings.Replace(v.Filter, "%u", ldap.EscapeFilter(name), 1)
}

// Verify implements Verifier.
func (v *LDAPVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	p, ok := c.(Password)
	if !ok {
		return Identity{}, bad("not a password")
	}
	// An empty password is an anonymous bind, which succeeds (RFC 4513 5.1.2);
	// outsider refuses it.
	row, known, err := outsider(ctx, v.Users, p, "the directory")
	if err != nil {
		return Identity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	groups, err := v.ask(ctx, p)
	if err != nil {
		return Identity{}, err
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	u, err := admit(ctx, v.Users, from, row, known, p.User, v.Home, "from the directory", groups, now)
	if err != nil {
		return Identity{}, err
	}
	return Identity{User: u, Method: "ldap", Granted: groups}, nil
}

// ask talks to the directory: find the one entry of the name, read its groups,
// and bind as it. It returns the mapped groups.
func (v *LDAPVerifier) ask(ctx context.Context, p Password) ([]string, error) {
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return nil, v.down(ctx, "wait for the directory", ctx.Err())
	}
	conn, err := v.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	entry, err := v.find(ctx, conn, p.User)
	if err != nil {
		return nil, err
	}
	member, err := v.memberOf(ctx, conn, entry, p.User)
	if err != nil {
		return nil, err
	}
	if err := conn.Bind(entry.DN, p.Secret); err != nil {
		switch {
		case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication):
			return nil, bad("the directory says the password is wrong")
		case ldap.IsErrorAnyOf(err, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation, ldap.LDAPResultInsufficientAccessRights):
			return nil, bad("the directory does not let the user in: " + err.Error())
		}
		return nil, v.down(ctx, "bind as the user", err)
	}
	return v.mapped(member), nil
}

func (v *LDAPVerifier) connect(ctx context.Context) (*ldap.Conn, error) {
	u, err := url.Parse(v.URL)
	if err != nil {
		return nil, v.down(ctx, "connect", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if v.TLS != nil {
		c = v.TLS.Clone()
	}
	if c.ServerName == "" {
		c.ServerName = u.Hostname()
	}
	conn, err := ldap.DialURL(v.URL, ldap.DialWithTLSConfig(c), ldap.DialWithDialer(&net.Dialer{Timeout: v.Timeout}))
	if err != nil {
		return nil, v.down(ctx, "connect", err)
	}
	conn.SetTimeout(v.Timeout)
	if v.StartTLS {
		if err := conn.StartTLS(c); err != nil {
			conn.Close()
			return nil, v.down(ctx, "StartTLS", err)
		}
	}
	if v.BindDN != "" {
		secret, err := v.BindPass()
		if err == nil && secret == "" {
			err = errors.New("the password of the searching account is empty")
		}
		if err == nil {
			err = conn.Bind(v.BindDN, secret)
		}
		if err != nil {
			conn.Close()
			return nil, v.down(ctx, "bind as "+v.BindDN, err)
		}
	}
	return conn, nil
}

func (v *LDAPVerifier) find(ctx context.Context, conn *ldap.Conn, name string) (*ldap.Entry, error) {
	// Two are asked for, to notice a filter that matches more than one.
	res, err := conn.Search(ldap.NewSearchRequest(v.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, max(1, int(v.Timeout.Seconds())), false,
		v.filter(name), []string{"memberOf"}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, bad("the directory has more than one entry for the name")
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return nil, v.down(ctx, "search below "+v.Base, err)
	case err != nil:
		return nil, v.down(ctx, "search", err)
	case len(res.Entries) == 0:
		return nil, bad("no such account, also not in the directory")
	case len(res.Entries) > 1:
		return nil, bad("the directory has more than one entry for the name")
	case res.Entries[0].DN == "":
		return nil, bad("the directory's entry has no name to bind as")
	}
	return res.Entries[0], nil
}

// memberOf returns the names of the groups the entry is in: its own attribute,
// or, where the directory keeps none, the groups that list it.
func (v *LDAPVerifier) memberOf(ctx context.Context, conn *ldap.Conn, e *ldap.Entry, name string) ([]string, error) {
	if got := e.GetAttributeValues("memberOf"); len(got) > 0 || len(v.Groups) == 0 {
		return got, nil
	}
	dn := ldap.EscapeFilter(e.DN)
	res, err := conn.Search(ldap.NewSearchRequest(v.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1000, max(1, int(v.Timeout.Seconds())), false,
		"(|(member="+dn+")(uniqueMember="+dn+")(memberUid="+ldap.EscapeFilter(name)+"))", []string{"1.1"}, nil))
	if err != nil {
		return nil, v.down(ctx, "search for groups", err)
	}
	var names []string
	for _, g := range res.Entries {
		names = append(names, g.DN)
	}
	return names, nil
}

// mapped translates names of the directory; the order is that of our names.
func (v *LDAPVerifier) mapped(member []string) (out []string) {
	for _, m := range member {
		dn, err := ldap.ParseDN(m)
		if err != nil {
			continue
		}
		for ours, theirs := range v.Groups {
			want, err := ldap.ParseDN(theirs)
			if err == nil && want.EqualFold(dn) && !slices.Contains(out, ours) {
				out = append(out, ours)
			}
		}
	}
	slices.Sort(out)
	return out
}

// down says that the directory failed; what it said goes to the log.
func (v *LDAPVerifier) down(ctx context.Context, op string, err error) error {
	if v.Logger != nil {
		v.Logger.Error("the directory does not answer as it should; accounts that are in it cannot log in", "url", v.URL, "op", op, "err", err)
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return fault.New(fault.Canceled, "ask the directory", "", context.Cause(ctx))
	}
	return fault.New(fault.Unavailable, "ask the directory: "+op, "", err)
}
