package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/portreeve/portreeve/internal/config"
)

// Certificates by ACME (RFC 8555). One certificate covers all names. It is kept
// with its key in data_dir/tls/acme.pem, as a pair that names itself, and takes
// the place of the self-signed one, which serves while there is none.
const (
	acmeFile    = "acme.pem"
	acmeAccount = "acme-account.pem"

	orderTime = 5 * time.Minute // one try, from the order to the certificate
	retryMin  = time.Minute
	retryMax  = time.Hour // Let's Encrypt allows 5 failures an hour for a name
)

// ObtainACME gets the certificate of tls.acme when it is missing or due and
// renews it when two thirds of its life are over; it answers the authority's
// challenges on ln, which it closes. It returns when ctx ends. A failure is logged
// with what to look at and tried again, at most an hour later.
func (s *Store) ObtainACME(ctx context.Context, ln net.Listener) {
	cfg := s.state.Load().cfg
	a := &acmeClient{cfg: cfg.TLS.ACME, dir: filepath.Join(cfg.DataDir, "tls"), answers: map[string][]byte{}, proofs: map[string]*tls.Certificate{}}
	srv := a.responder(ln, s.log)
	defer srv.Close()
	pause := retryMin
	for {
		var wait time.Duration
		if due := s.acmeDue(&a.cfg); time.Until(due) > 0 {
			wait = min(time.Until(due), time.Hour) // the clock may jump
		} else if err := s.obtain(ctx, a); err == nil {
			pause = retryMin
			continue
		} else if ctx.Err() == nil {
			s.log.Error("no certificate from the authority; "+s.meanwhile(), "directory", a.cfg.Directory, "domains", strings.Join(a.cfg.Domains, " "),
				"challenge", a.cfg.Challenge, "answered_on", ln.Addr().String(), "again_in", pause.String(), "err", err,
				"hint", "every name must lead to this machine, and the authority must reach "+map[config.Challenge]string{config.ChallengeHTTP: "port 80", config.ChallengeTLS: "port 443"}[a.cfg.Challenge]+" of it")
			wait, pause = pause, min(2*pause, retryMax)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// meanwhile says what clients get until there is a new certificate.
func (s *Store) meanwhile() string {
	if st := s.state.Load(); len(st.certs) > 0 && !st.certs[0].selfSigned {
		return "the one in use serves until " + st.certs[0].Leaf.NotAfter.Format(time.DateTime)
	}
	return "clients get the self-signed one meanwhile"
}

// acmeDue is when the certificate must be renewed; the zero time without one.
func (s *Store) acmeDue(cfg *config.ACME) time.Time {
	for _, c := range s.state.Load().certs {
		if filepath.Base(c.certFile) == acmeFile && covers(c.Leaf, cfg.Domains) {
			life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
			return c.Leaf.NotBefore.Add(life * 2 / 3)
		}
	}
	return time.Time{}
}

func covers(leaf *x509.Certificate, domains []string) bool {
	return !slices.ContainsFunc(domains, func(d string) bool { return !slices.Contains(leaf.DNSNames, d) })
}

// obtain runs one order, keeps the result and puts it in force.
func (s *Store) obtain(ctx context.Context, a *acmeClient) error {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	s.log.Info("asking for a certificate; "+s.meanwhile(), "directory", a.cfg.Directory, "domains", strings.Join(a.cfg.Domains, " "))
	pair, err := a.order(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(a.dir, acmeFile), pair, 0o600); err != nil {
		return fmt.Errorf("the certificate cannot be kept: %w", err)
	}
	return s.Reload(nil)
}

// loadACME reads the certificate that an earlier order brought; nil when there
// is none or it has expired, so that another one serves.
func (s *Store) loadACME(st *state, cfg *config.Config) *certificate {
	name := filepath.Join(cfg.DataDir, "tls", acmeFile)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := st.loadPair(name, name)
	switch {
	case err != nil:
		s.log.Error("the certificate of the authority cannot be used; another is asked for", "err", err)
	case time.Now().After(c.Leaf.NotAfter):
		s.log.Warn("the certificate of the authority has expired", "path", name, "until", c.Leaf.NotAfter.Format(time.DateTime))
	default:
		return c
	}
	return nil
}

// acmeClient orders certificates and answers challenges.
type acmeClient struct {
	cfg config.ACME
	dir string

	mu      sync.Mutex
	answers map[string][]byte           // of http-01, by path
	proofs  map[string]*tls.Certificate // of tls-alpn-01, by name
	client  *acme.Client
}

// connect makes the account on first use; its key is kept.
func (a *acmeClient) connect(ctx context.Context) (*acme.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	key, err := a.accountKey()
	if err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	c := &acme.Client{Key: key, DirectoryURL: a.cfg.Directory, UserAgent: "portreeve"}
	if a.cfg.CA != "" {
		b, err := os.ReadFile(a.cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.acme.ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("tls.acme.ca %s contains no certificate in PEM form", a.cfg.CA)
		}
		c.HTTPClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	}
	account := &acme.Account{}
	if a.cfg.Email != "" {
		account.Contact = []string{"mailto:" + a.cfg.Email}
	}
	if _, err := c.Register(ctx, account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("account at the authority: %w", err)
	}
	a.client = c
	return c, nil
}

func (a *acmeClient) accountKey() (crypto.Signer, error) {
	name := filepath.Join(a.dir, acmeAccount)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if b, err = keyPEM(key); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(a.dir, 0o700); err != nil {
			return nil, err
		}
		return key, writeFile(name, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM form; delete it to make a new account", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s holds no usable key (%v); delete it to make a new account", name, err)
	}
	return signer, nil
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// order returns key and chain as one PEM file.
func (a *acmeClient) order(ctx context.Context) ([]byte, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	o, err := c.AuthorizeOrder(ctx, acme.DomainIDs(a.cfg.Domains...))
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	for _, u := range o.AuthzURLs {
		if err := a.authorize(ctx, c, u); err != nil {
			return nil, err
		}
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: a.cfg.Domains}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := c.CreateCertFromOrder(ctx, o, csr, true)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	out, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(out)
	for _, der := range chain {
		pem.Encode(b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.Bytes(), nil
}

// authorize proves the right to one name.
func (a *acmeClient) authorize(ctx context.Context, c *acme.Client, url string) error {
	z, err := c.GetAuthorization(ctx, url)
	if err != nil || z.Status == acme.StatusValid {
		return err
	}
	name := z.Identifier.Value
	i := slices.IndexFunc(z.Challenges, func(ch *acme.Challenge) bool { return ch.Type == string(a.cfg.Challenge) })
	if i < 0 {
		return fmt.Errorf("the authority does not offer %s for %s; set tls.acme.challenge to the other one", a.cfg.Challenge, name)
	}
	ch := z.Challenges[i]
	forget, err := a.prepare(c, ch, name)
	if err != nil {
		return err
	}
	defer forget()
	if _, err := c.Accept(ctx, ch); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := c.WaitAuthorization(ctx, url); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// prepare makes the answer ready that the authority will ask for.
func (a *acmeClient) prepare(c *acme.Client, ch *acme.Challenge, name string) (forget func(), err error) {
	if a.cfg.Challenge == config.ChallengeTLS {
		proof, err := c.TLSALPN01ChallengeCert(ch.Token, name)
		if err != nil {
			return nil, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.proofs[name] = &proof
		return func() { a.mu.Lock(); delete(a.proofs, name); a.mu.Unlock() }, nil
	}
	text, err := c.HTTP01ChallengeResponse(ch.Token)
	if err != nil {
		return nil, err
	}
	path := c.HTTP01ChallengePath(ch.Token)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[path] = []byte(text)
	return func() { a.mu.Lock(); delete(a.answers, path); a.mu.Unlock() }, nil
}

// ServeHTTP answers http-01 and nothing else.
func (a *acmeClient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	text, ok := a.answers[r.URL.Path]
	a.mu.Unlock()
	if !ok || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Write(text)
}

// proof is the certificate that answers tls-alpn-01 (RFC 8737).
func (a *acmeClient) proof(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.proofs[strings.ToLower(hello.ServerName)]; c != nil && slices.Contains(hello.SupportedProtos, acme.ALPNProto) {
		return c, nil
	}
	return nil, errors.New("nothing is served here but proofs for the certificate authority")
}

// responder serves the answers until it is closed.
func (a *acmeClient) responder(ln net.Listener, log *slog.Logger) *http.Server {
	srv := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	if a.cfg.Challenge == config.ChallengeTLS {
		// Not HTTP: the handshake is all there is to it.
		srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){acme.ALPNProto: func(_ *http.Server, c *tls.Conn, _ http.Handler) { c.Close() }}
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.proof, NextProtos: []string{acme.ALPNProto}})
	}
	go srv.Serve(ln)
	return srv
}
