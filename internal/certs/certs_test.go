package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/portreeve/portreeve/internal/config"
)

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

type request struct {
	cn         string
	names      []string
	key        crypto.Signer // ECDSA P-256 when nil
	from, to   time.Time     // an hour ago, in a year
	client, ca bool
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate signed by a, or by itself when a is nil.
func (a *authority) issue(t testing.TB, r request) *authority {
	t.Helper()
	if r.key == nil {
		r.key = newKey(t)
	}
	if r.from.IsZero() {
		r.from = time.Now().Add(-time.Hour)
	}
	if r.to.IsZero() {
		r.to = time.Now().Add(365 * 24 * time.Hour)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.cn}, NotBefore: r.from, NotAfter: r.to, DNSNames: r.names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if r.client {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if r.ca {
		tmpl.IsCA, tmpl.KeyUsage, tmpl.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	}
	parent, signer := tmpl, r.key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, r.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, r.key}
}

func newCA(t testing.TB) *authority {
	return (*authority)(nil).issue(t, request{cn: "Test CA", ca: true})
}

func (a *authority) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key, Leaf: a.cert}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// write stores certificate and key as dir/name.pem and dir/name.key.
func (a *authority) write(t testing.TB, dir, name string) config.Certificate {
	t.Helper()
	keyDER, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	c := config.Certificate{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	put(t, c.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	put(t, c.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return c
}

// put replaces a file by renaming, as careful tools do.
func put(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(name+".new", data, 0o600), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
}

func configFor(t testing.TB, pairs ...config.Certificate) *config.Config {
	t.Helper()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.Listen = []config.Listen{{Protocol: config.ProtocolFTP, Address: "127.0.0.1:0"}}
	if len(pairs) > 0 {
		c.TLS.Cert, c.TLS.Key = pairs[0].Cert, pairs[0].Key
		c.TLS.Certificates = pairs[1:]
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, cfg *config.Config) *Store {
	t.Helper()
	s, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shake does a handshake and moves a byte each way, so that tickets and late alerts arrive.
func shake(server, client *tls.Config) (cs, ss tls.ConnectionState, err error) {
	// Not net.Pipe: without a buffer both ends of a failed handshake wait to be read.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return cs, ss, err
	}
	defer ln.Close()
	b, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return cs, ss, err
	}
	a, err := ln.Accept()
	if err != nil {
		return cs, ss, err
	}
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(10 * time.Second)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	sc, cc := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		_, err := sc.Read(make([]byte, 1))
		if err == nil {
			_, err = sc.Write([]byte("x"))
		}
		a.Close()
		done <- err
	}()
	_, werr := cc.Write([]byte("x"))
	var rerr error
	if werr == nil {
		_, rerr = io.ReadFull(cc, make([]byte, 1))
	}
	b.Close()
	serr := <-done
	return cc.ConnectionState(), sc.ConnectionState(), errors.Join(werr, rerr, serr)
}

func TestChoiceByName(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, configFor(t,
		ca.issue(t, request{cn: "default", names: []string{"ftp.example.org"}}).write(t, dir, "default"),
		ca.issue(t, request{cn: "exact", names: []string{"Files.Example.net"}}).write(t, dir, "exact"),
		ca.issue(t, request{cn: "wild", names: []string{"*.example.net"}}).write(t, dir, "wild"),
		ca.issue(t, request{cn: "both-ecdsa", names: []string{"both.example.com"}}).write(t, dir, "ecdsa"),
		ca.issue(t, request{cn: "both-rsa", names: []string{"both.example.com"}, key: rsaKey}).write(t, dir, "rsa"),
	))
	cfg := s.TLS(s.state.Load().cfg.Listen[0])
	tests := []struct {
		name, want string
		suites     []uint16
	}{
		{"", "default", nil},
		{"ftp.example.org", "default", nil},
		{"files.example.net", "exact", nil},
		{"FILES.example.NET", "exact", nil},
		{"other.example.net", "wild", nil},
		{"a.b.example.net", "default", nil},
		{"example.net", "default", nil},
		{"unknown.test", "default", nil},
		{"both.example.com", "both-ecdsa", nil},
		{"both.example.com", "both-rsa", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
	}
	for _, tt := range tests {
		client := &tls.Config{ServerName: tt.name, InsecureSkipVerify: true}
		if tt.suites != nil {
			client.CipherSuites, client.MaxVersion = tt.suites, tls.VersionTLS12
		}
		cs, _, err := shake(cfg, client)
		if err != nil {
			t.Errorf("%q: %v", tt.name, err)
			continue
		}
		if got := cs.PeerCertificates[0].Subject.CommonName; got != tt.want {
			t.Errorf("%q gets %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestSelfSignedIsMadeAndKept(t *testing.T) {
	cfg := configFor(t)
	cfg.FTP.Passive.Address = "192.0.2.77"
	cfg.Listen[0].Hosts = []string{"ftp.example.org"}
	s := open(t, cfg)
	d := s.Describe()
	if len(d) != 1 || !d[0].SelfSigned || d[0].KeyType != "ECDSA P-256" || len(d[0].Warnings) != 0 {
		t.Fatalf("%+v", d)
	}
	for _, want := range []string{"localhost", "127.0.0.1", "::1", "192.0.2.77", "ftp.example.org"} {
		if !slices.Contains(d[0].Names, want) {
			t.Errorf("%s is not among %v", want, d[0].Names)
		}
	}
	if days := d[0].NotAfter.Sub(time.Now()).Hours() / 24; days < 396 || days > 397 {
		t.Errorf("valid for %v days", days)
	}
	dir := filepath.Join(cfg.DataDir, "tls")
	for name, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "selfsigned.pem"): 0o600, filepath.Join(dir, "selfsigned-cert.pem"): 0o644} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	// The second file is all a client needs, and has no key.
	out, err := os.ReadFile(filepath.Join(dir, "selfsigned-cert.pem"))
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(out) || bytes.Contains(out, []byte("PRIVATE")) {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"localhost", "127.0.0.1"} {
		if _, _, err := shake(s.TLS(cfg.Listen[0]), &tls.Config{ServerName: name, RootCAs: pool}); name == "127.0.0.1" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if name == "localhost" && err == nil {
			t.Error("a server name outside of hosts was accepted")
		}
	}
	if again := open(t, cfg).Describe(); again[0].Fingerprint != d[0].Fingerprint {
		t.Error("a restart made another certificate")
	}
	put(t, filepath.Join(dir, "selfsigned.pem"), []byte("rubbish"))
	if _, err := Open(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "delete the file to have a new one made") {
		t.Errorf("a broken file: %v", err)
	}
}

func TestNoCertificateWithoutTLS(t *testing.T) {
	cfg := configFor(t)
	cfg.Listen[0].TLS, cfg.Listen[0].DataTLS = config.Off, config.Off
	s := open(t, cfg)
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "tls")); !os.IsNotExist(err) {
		t.Errorf("a certificate was made for nobody: %v", err)
	}
	if c := s.TLS(cfg.Listen[0]); c != nil || len(s.Describe()) != 0 {
		t.Errorf("%v", c)
	}
	if c := s.TLS(config.Listen{Protocol: config.ProtocolSFTP}); c != nil {
		t.Error("sftp got TLS")
	}
	// Turned on by a reload, it is made then.
	on := configFor(t)
	on.DataDir = cfg.DataDir
	if err := s.Reload(on); err != nil || len(s.Describe()) != 1 {
		t.Errorf("%v, %v", err, s.Describe())
	}
}

func TestSelfSignedIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := configFor(t)
		s := open(t, cfg)
		first := s.Describe()[0]
		time.Sleep(first.NotAfter.Add(-renewBefore).Sub(time.Now()) - 2*time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		go s.Watch(ctx)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.Describe()[0].Fingerprint != first.Fingerprint {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if d := s.Describe()[0]; d.Fingerprint == first.Fingerprint || d.NotAfter.Before(first.NotAfter) {
			t.Errorf("not renewed: %+v", d)
		}
		cancel()
	})
}

func TestMistakesInFiles(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	a := ca.issue(t, request{cn: "a", names: []string{"a.test"}}).write(t, dir, "a")
	b := ca.issue(t, request{cn: "b", names: []string{"b.test"}}).write(t, dir, "b")
	locked := filepath.Join(dir, "locked.key")
	put(t, locked, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	old := filepath.Join(dir, "old.key")
	put(t, old, []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	empty := filepath.Join(dir, "empty")
	put(t, empty, nil)
	garbled := filepath.Join(dir, "garbled.pem")
	put(t, garbled, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	big := filepath.Join(dir, "big")
	put(t, big, bytes.Repeat([]byte("x"), maxPEM+1))
	tests := []struct {
		name, cert, key string
		want            []string
	}{
		{"key of another", a.Cert, b.Key, []string{a.Cert, b.Key, "does not belong"}},
		{"swapped", a.Key, a.Cert, []string{a.Key, "contains no certificate", "but private key"}},
		{"certificate as key", a.Cert, b.Cert, []string{b.Cert, "contains no private key", "but certificate"}},
		{"both missing", dir + "/x.pem", dir + "/y.key", []string{dir + "/x.pem does not exist", dir + "/y.key does not exist"}},
		{"encrypted", a.Cert, locked, []string{locked, "is encrypted", "openssl pkey"}},
		{"encrypted, old form", a.Cert, old, []string{old, "is encrypted"}},
		{"empty", empty, a.Key, []string{empty, "contains no certificate in PEM form; convert it"}},
		{"garbled", garbled, a.Key, []string{garbled, a.Key, "x509"}},
		{"directory", dir, a.Key, []string{dir + " is not a regular file"}},
		{"too big", big, a.Key, []string{big, "too many for a PEM file"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor(t)
			cfg.TLS.Cert, cfg.TLS.Key = tt.cert, tt.key
			_, err := Open(cfg, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in: %v", w, err)
				}
			}
		})
	}
	for file, want := range map[string]string{a.Key: "contains no certificate", garbled: "certificate 1", dir + "/none": "does not exist"} {
		cfg := configFor(t, a)
		cfg.TLS.ClientCA = file
		if _, err := Open(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("client_ca %s: %v", file, err)
		}
	}
}

func TestReloadKeepsTheLastGood(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	one := ca.issue(t, request{cn: "one", names: []string{"a.test"}})
	s := open(t, configFor(t, one.write(t, dir, "a")))
	cfg := s.TLS(s.state.Load().cfg.Listen[0])
	serves := func(want string) {
		t.Helper()
		cs, _, err := shake(cfg, &tls.Config{ServerName: "a.test", RootCAs: ca.pool()})
		if err != nil || cs.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("served %v, %v; want %s", cs.PeerCertificates, err, want)
		}
	}
	serves("one")
	if changed, err := s.Refresh(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	two := ca.issue(t, request{cn: "two", names: []string{"a.test"}})
	spare := two.write(t, t.TempDir(), "two")
	certPEM, _ := os.ReadFile(spare.Cert)
	keyPEM, _ := os.ReadFile(spare.Key)

	put(t, filepath.Join(dir, "a.pem"), certPEM) // half of the renewal
	if changed, err := s.Refresh(); changed || err == nil || !strings.Contains(err.Error(), "stay in force") || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("half a renewal: %v, %v", changed, err)
	}
	serves("one")
	put(t, filepath.Join(dir, "a.key"), keyPEM)
	if changed, err := s.Refresh(); !changed || err != nil {
		t.Errorf("whole renewal: %v, %v", changed, err)
	}
	serves("two")

	ca.issue(t, request{cn: "old", names: []string{"a.test"}, from: time.Now().Add(-48 * time.Hour), to: time.Now().Add(-24 * time.Hour)}).write(t, dir, "a")
	if _, err := s.Refresh(); err == nil || !strings.Contains(err.Error(), "expired on") {
		t.Errorf("an expired certificate in place of a valid one: %v", err)
	}
	serves("two")
	if err := os.Remove(filepath.Join(dir, "a.pem")); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a file that vanished: %v", err)
	}
	serves("two")
	other := configFor(t, spare)
	if err := s.Reload(other); err != nil {
		t.Error(err)
	}
	serves("two")
	if d := s.Describe(); d[0].Source != spare.Cert {
		t.Errorf("source %s", d[0].Source)
	}
}

func TestReloadUnderHandshakes(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	pairs := []*authority{ca.issue(t, request{cn: "0", names: []string{"a.test"}}), ca.issue(t, request{cn: "1", names: []string{"a.test"}})}
	s := open(t, configFor(t, pairs[0].write(t, dir, "a")))
	l := s.state.Load().cfg.Listen[0]
	stop := make(chan struct{})
	var wg sync.WaitGroup
	seen := make([]map[string]int, 4)
	for i := range seen {
		seen[i] = map[string]int{}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				cs, _, err := shake(s.TLS(l), &tls.Config{ServerName: "a.test", RootCAs: ca.pool()})
				if err != nil {
					t.Error(err)
					return
				}
				seen[i][cs.PeerCertificates[0].Subject.CommonName]++
			}
		})
	}
	for i := range 20 {
		pairs[(i+1)%2].write(t, dir, "a")
		if err := s.Reload(nil); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.rotate()
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	total := map[string]int{}
	for _, m := range seen {
		for k, n := range m {
			total[k] += n
		}
	}
	if total["0"] == 0 || total["1"] == 0 {
		t.Errorf("handshakes saw %v", total)
	}
}

func TestExpiredAtStartIsServedWithAWarning(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	var logs bytes.Buffer
	now := time.Now()
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // the weak key is what is tested
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	open := ca.issue(t, request{cn: "open", names: []string{"o.test"}}).write(t, dir, "open")
	if err := os.Chmod(open.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := configFor(t,
		ca.issue(t, request{cn: "expired", names: []string{"a.test"}, from: now.Add(-48 * time.Hour), to: now.Add(-24 * time.Hour)}).write(t, dir, "expired"),
		ca.issue(t, request{cn: "soon", names: []string{"b.test"}, to: now.Add(20*24*time.Hour + time.Hour)}).write(t, dir, "soon"),
		ca.issue(t, request{cn: "early", names: []string{"c.test"}, from: now.Add(24 * time.Hour)}).write(t, dir, "early"),
		ca.issue(t, request{cn: "short", names: []string{"d.test"}, key: short}).write(t, dir, "short"),
		ca.issue(t, request{cn: "rsa", names: []string{"e.test"}, key: good}).write(t, dir, "rsa"),
		ca.issue(t, request{cn: "nameless", key: ed}).write(t, dir, "nameless"),
		open,
	)
	s, err := Open(cfg, slog.New(slog.NewTextHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"expired on", "expires in 20 days", "is not valid before", "short key (RSA 1024)", "RSA key", "no subject alternative name", "everybody on this machine can read"}
	for i, d := range s.Describe() {
		if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], want[i]) {
			t.Errorf("%s: %q, want %q", d.Subject, d.Warnings, want[i])
		}
		if !strings.Contains(logs.String(), want[i]) {
			t.Errorf("%q is not in the log", want[i])
		}
	}
	if d := s.Describe()[5]; d.KeyType != "Ed25519" || d.SelfSigned {
		t.Errorf("%+v", d)
	}
	// A renewal replaces it without ado.
	ca.issue(t, request{cn: "fresh", names: []string{"a.test"}}).write(t, dir, "expired")
	if changed, err := s.Refresh(); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

func TestHostWithoutCertificateIsLogged(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	cfg := configFor(t, ca.issue(t, request{cn: "a", names: []string{"a.test"}}).write(t, dir, "a"))
	cfg.Listen[0].Hosts = []string{"a.test", "b.test"}
	var logs bytes.Buffer
	if _, err := Open(cfg, slog.New(slog.NewTextHandler(&logs, nil))); err != nil {
		t.Fatal(err)
	}
	if s := logs.String(); !strings.Contains(s, "host=b.test") || strings.Contains(s, "host=a.test") {
		t.Error(s)
	}
}

func TestFingerprint(t *testing.T) {
	want := "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55"
	if got := Fingerprint(nil); got != want {
		t.Error(got)
	}
}

func TestHandedConfigurationsAreForgotten(t *testing.T) {
	s := open(t, configFor(t))
	l := s.state.Load().cfg.Listen[0]
	kept := s.TLS(l)
	for range 100 {
		s.TLS(l)
	}
	runtime.GC()
	s.mu.Lock()
	s.rotate()
	n := len(s.handed)
	s.mu.Unlock()
	if n > 10 {
		t.Errorf("%d configurations are remembered", n)
	}
	if kept == nil {
		t.Error("lost")
	}
}
