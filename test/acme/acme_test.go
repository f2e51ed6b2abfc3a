package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
)

// domain leads to the loopback, by the test's own name server.
const domain = "ftp.portreeve.test"

var program, authority string // built once

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "acme")
	if err != nil {
		panic(err)
	}
	program, authority = filepath.Join(dir, "portreeve"), filepath.Join(dir, "pebble")
	for _, args := range [][]string{{"-C", "../..", "build", "-o", program, "./cmd/portreeve"}, {"build", "-o", authority, "github.com/letsencrypt/pebble/v2/cmd/pebble"}} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// output collects what a program says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program until the test ends.
func start(t *testing.T, env []string, name string, args ...string) *output {
	t.Helper()
	out := &output{}
	c := exec.Command(name, args...)
	c.Env, c.Stdout, c.Stderr = append(os.Environ(), env...), out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), out)
		}
	})
	return out
}

// eventually waits for what takes a moment.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// ca is a running pebble.
type ca struct {
	directory, file string // of ACME, and who vouches for that address
	roots           *x509.CertPool
	proofPort       int // where it asks for proofs, in the place of 80 and 443
}

// pebble starts an authority whose certificates live for life.
func pebble(t *testing.T, life time.Duration) *ca {
	t.Helper()
	dir := t.TempDir()
	names := freePort(t)
	srv, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{fmt.Sprintf("127.0.0.1:%d", names)}})
	if err != nil {
		t.Fatal(err)
	}
	srv.SetDefaultDNSIPv4("127.0.0.1")
	srv.SetDefaultDNSIPv6("")
	go srv.Run()
	t.Cleanup(srv.Shutdown)

	certFile, keyFile := selfSigned(t, dir)
	listen, manage, proofs := freePort(t), freePort(t), freePort(t)
	conf, _ := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", listen), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", manage),
		"certificate": certFile, "privateKey": keyFile, "httpPort": proofs, "tlsPort": proofs, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": int(life / time.Second)}},
	}})
	confFile := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(confFile, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20"}, authority, "-config", confFile, "-dnsserver", fmt.Sprintf("127.0.0.1:%d", names))
	c := &ca{directory: fmt.Sprintf("https://127.0.0.1:%d/dir", listen), file: certFile, roots: x509.NewCertPool(), proofPort: proofs}
	pemFile, _ := os.ReadFile(certFile)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pemFile)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	eventually(t, "the authority", func() bool {
		r, err := web.Get(fmt.Sprintf("https://127.0.0.1:%d/roots/0", manage))
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return c.roots.AppendCertsFromPEM(b)
	})
	return c
}

// selfSigned is the authority's own address, for the loopback.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// serve starts the program with [tls.acme] and returns the port of implicit FTPS.
func serve(t *testing.T, c *ca, challenge, dir string) (port int, log *output) {
	t.Helper()
	port = freePort(t)
	conf := fmt.Sprintf(`data_dir = %q
[[listen]]
protocol = "ftps"
address = "127.0.0.1:%d"
[ftp.passive]
ports = "42000-42049"
[tls.acme]
domains = [%q]
email = "ops@portreeve.test"
directory = %q
ca = %q
challenge = %q
address = "127.0.0.1:%d"
`, filepath.Join(dir, "data"), port, domain, c.directory, c.file, challenge, c.proofPort)
	name := filepath.Join(dir, "portreeve.toml")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return port, start(t, nil, program, "serve", "--config", name)
}

// leaf is what the server shows; trusted tells whether the authority vouches for it.
func (c *ca) leaf(port int) (leaf *x509.Certificate, trusted bool) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: domain}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	nc, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, false
	}
	defer nc.Close()
	chain := nc.(*tls.Conn).ConnectionState().PeerCertificates
	between := x509.NewCertPool()
	for _, x := range chain[1:] {
		between.AddCert(x)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: domain, Roots: c.roots, Intermediates: between})
	return chain[0], err == nil
}

func TestChallenges(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			c := pebble(t, time.Hour)
			dir := t.TempDir()
			port, _ := serve(t, c, challenge, dir)
			eventually(t, "a certificate of the authority", func() bool { _, ok := c.leaf(port); return ok })
			b, err := os.ReadFile(filepath.Join(dir, "data", "tls", "acme.pem"))
			if err != nil || !bytes.Contains(b, []byte("PRIVATE KEY")) {
				t.Errorf("the pair is not kept: %v", err)
			}
			if st, err := os.Stat(filepath.Join(dir, "data", "tls", "acme.pem")); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("the key may be read by others: %v, %v", st.Mode(), err)
			}
			if challenge == "http-01" { // the port serves proofs and nothing else
				r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/x", c.proofPort))
				if err != nil || r.StatusCode != http.StatusNotFound {
					t.Errorf("a request for nothing: %v", err)
				}
			}
		})
	}
}

// TestRenewalAndRestart: a certificate of a few seconds is replaced before it
// ends, by one with another key, and a restart serves the kept one at once.
func TestRenewalAndRestart(t *testing.T) {
	c := pebble(t, 12*time.Second)
	dir := t.TempDir()
	port, _ := serve(t, c, "http-01", dir)
	var one *x509.Certificate
	eventually(t, "the first certificate", func() (ok bool) { one, ok = c.leaf(port); return ok })
	eventually(t, "the renewed certificate", func() bool {
		two, ok := c.leaf(port)
		return ok && two.SerialNumber.Cmp(one.SerialNumber) != 0 && !two.PublicKey.(*ecdsa.PublicKey).Equal(one.PublicKey)
	})
}

// TestAuthorityDown: the server serves with its own certificate, says why, and
// nobody waits for the authority.
func TestAuthorityDown(t *testing.T) {
	dir := t.TempDir()
	certFile, _ := selfSigned(t, dir)
	c := &ca{directory: fmt.Sprintf("https://127.0.0.1:%d/dir", freePort(t)), file: certFile, roots: x509.NewCertPool(), proofPort: freePort(t)}
	port, log := serve(t, c, "http-01", dir)
	eventually(t, "the self-signed certificate", func() bool { l, _ := c.leaf(port); return l != nil })
	eventually(t, "the reason in the log", func() bool {
		s := log.String()
		return strings.Contains(s, "clients get the self-signed one meanwhile") && strings.Contains(s, "connection refused") && strings.Contains(s, "port 80")
	})
}
