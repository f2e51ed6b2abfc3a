package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

// maxReply bounds what is read of a receiver's reply, in octets.
const maxReply = 64 << 10

// minSecret is the shortest secret, in octets.
const minSecret = 16

// webhook sends messages by HTTP POST, signed as www.standardwebhooks.com says:
// webhook-signature is "v1," and the Base64 of HMAC-SHA256 over
// "<webhook-id>.<webhook-timestamp>.<body>".
type webhook struct {
	url    string
	secret []byte // nil: not signed
	client *http.Client
	clock  func() time.Time
}

func newWebhook(h *config.Hook) (*webhook, error) {
	w := &webhook{url: h.URL, clock: time.Now}
	var err error
	if w.secret, err = secretOf(h); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.RootCAs, err = authorities(h.CA); err != nil {
		return nil, err
	}
	guard := &net.Dialer{Timeout: h.Timeout.Std(), Control: func(_, address string, _ syscall.RawConn) error { return inside(address, h.Networks) }}
	w.client = &http.Client{
		// No proxy of the environment: it would be the one that resolves names.
		Transport:     &http.Transport{DialContext: guard.DialContext, TLSClientConfig: t, MaxResponseHeaderBytes: maxReply, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// secretOf reads the secret, nil when there is none.
func secretOf(h *config.Hook) ([]byte, error) {
	var s, where string
	switch {
	case h.SecretFile != "":
		line, err := secretLine(h.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
		s, where = line, "secret_file"
	case h.SecretEnv != "":
		s, where = strings.TrimSpace(os.Getenv(h.SecretEnv)), "secret_env"
	default:
		return nil, nil
	}
	key := []byte(s)
	if b64, ok := strings.CutPrefix(s, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(b64); err != nil {
			return nil, fmt.Errorf("%s: what follows whsec_ is not Base64", where)
		}
	}
	if len(key) < minSecret {
		return nil, fmt.Errorf("%s: the secret has %d octets; use %d or more, for example the line of: echo \"whsec_$(openssl rand -base64 32)\"", where, len(key), minSecret)
	}
	return key, nil
}

// authorities reads a PEM file; nil, the system's, without one.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM form", file)
	}
	return p, nil
}

// errInside is the refusal of an inside address.
var errInside = errors.New("is an inside address, which a webhook may not reach")

// inside refuses a connection to an address of this machine or of a network
// that is not the public one. It is called with the address that is about to
// be dialled, so a name that resolves to another one each time gains nothing.
func inside(address string, allowed []config.Prefix) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s %w", address, errInside)
	}
	if a := ap.Addr().Unmap(); !config.Match(allowed, a) && reserved(a) {
		return fmt.Errorf("%s %w; if it is meant, list it in networks of the hook", a, errInside)
	}
	return nil
}

// notPublic are the networks without receivers, besides those netip knows.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("fec0::/10"),
}

// reserved reports whether a is not an address of the public network.
func reserved(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsPrivate() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsInterfaceLocalMulticast() {
		return true
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return true
		}
	}
	// IPv6 addresses that lead to an IPv4 one: NAT64 and 6to4.
	if b := a.As16(); a.Is6() {
		switch {
		case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
			return reserved(netip.AddrFrom4([4]byte(b[12:16])))
		case netip.MustParsePrefix("2002::/16").Contains(a):
			return reserved(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return false
}

// signature is the value of the header webhook-signature.
func signature(secret []byte, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// statusError is a reply that is not a success.
type statusError struct {
	code  int
	text  string
	after time.Duration // the receiver asked for this pause
}

func (e *statusError) Error() string { return e.text }

func (w *webhook) deliver(ctx context.Context, ms []message) error {
	for i := range ms {
		if _, err := w.post(ctx, &ms[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *webhook) ask(ctx context.Context, m message) (answer, error) {
	body, err := w.post(ctx, &m)
	var se *statusError
	switch {
	case err == nil:
		return answer{}, nil
	case errors.As(err, &se) && se.code == http.StatusForbidden:
		return answer{refused: true, reason: reason(body)}, nil
	}
	return answer{}, err
}

// reason is the text of a refusal: "reason" of a JSON object, else the first line.
func reason(body []byte) string {
	var r struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(body, &r) == nil {
		return firstLine([]byte(r.Reason))
	}
	return firstLine(body)
}

// post sends one message and returns the reply's body; with a statusError too.
func (w *webhook) post(ctx context.Context, m *message) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(m.body))
	if err != nil {
		return nil, err
	}
	stamp := strconv.FormatInt(w.clock().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "portreeve")
	req.Header.Set("Webhook-Id", m.id)
	req.Header.Set("Webhook-Timestamp", stamp)
	if w.secret != nil {
		req.Header.Set("Webhook-Signature", signature(w.secret, m.id, stamp, m.body))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL is known
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no reply within the timeout")
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode/100 == 2 {
		return body, nil // what the receiver took is taken, whatever became of its text
	}
	se := &statusError{code: resp.StatusCode, text: "the receiver replied " + plain(resp.Status)}
	if line := firstLine(body); line != "" && err == nil {
		se.text += ": " + line
	}
	if resp.StatusCode/100 == 3 {
		se.text = fmt.Sprintf("the receiver replied %s to %s; redirects are not followed, correct url", plain(resp.Status), clip(plain(resp.Header.Get("Location")), 200))
	}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 && n < 1e6 {
		se.after = time.Duration(n) * time.Second
	}
	return body, se
}

// target is the URL without its query, where receivers often hide a key.
func (w *webhook) target() string {
	u, err := url.Parse(w.url)
	if err != nil {
		return ""
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.Redacted()
}

func (w *webhook) close() { w.client.CloseIdleConnections() }
