package ftp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var testPorts = &PortRange{First: 20000, Last: 29999}

// serve starts this package's server as the config section says.
func (p *player) serve() string {
	d, b := p.d, newMemBackend()
	p.b = b
	for _, f := range d.files {
		b.File(f.Name, f.Data)
	}
	for _, z := range d.config["zeros"] {
		name, n, _ := strings.Cut(z, ":")
		b.Zeros(name, p.number(n))
	}
	for _, n := range d.config["dir"] {
		b.Dir(n)
	}
	b.Anonymous, b.CertUser, b.Hosts = d.get("anonymous") == "yes", d.get("clientcert"), d.config["host"]
	b.Quota, b.Disk, b.Plain, b.Refuse = p.number(d.get("quota")), p.number(d.get("disk")), d.get("plain") == "yes", d.get("refuse")
	cfg := Config{Backend: b, Passive: testPorts, DataTimeout: p.duration("datatime", 5*time.Second), IdleTimeout: p.duration("idle", time.Minute),
		LoginTimeout: p.duration("logintime", time.Minute), StallTimeout: p.duration("stall", time.Minute),
		MaxLine: int(p.number(d.get("maxline"))), MaxFailures: int(p.number(d.get("maxfailures"))), NoActive: d.get("active") == "off", AllowCCC: d.get("ccc") == "yes"}
	switch v := d.get("passive"); v {
	case "":
	case "off":
		cfg.Passive = nil
	default:
		cfg.PassiveAddress = func(*Conn) netip.Addr { return netip.MustParseAddr(v) }
	}
	switch d.get("tls") {
	case "off":
		cfg.ControlTLS = TLSOff
	case "required":
		cfg.ControlTLS = TLSRequired
	case "implicit":
		cfg.Implicit = true
	}
	if d.get("tls") != "" && d.get("tls") != "off" {
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{testCert(p.t, "ftp.test")}, NextProtos: []string{"ftp"}, ClientAuth: tls.RequestClientCert}
	}
	if d.get("data") == "required" {
		cfg.DataTLS = TLSRequired
	}
	switch d.get("bind") {
	case "require":
		cfg.Binding = BindRequire
	case "off":
		cfg.Binding = BindOff
	}
	at := "127.0.0.1:0"
	if d.get("ip") == "6" {
		at = "[::1]:0"
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		p.t.Fatal(err)
	}
	srv := &Server{Config: cfg}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	p.t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			p.t.Errorf("Serve: %v", err)
		}
		if n := b.Open(); n != 0 {
			p.t.Errorf("%d sessions of the backend were not closed", n)
		}
	})
	return ln.Addr().String()
}

func (p *player) number(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.file, err)
	}
	return n
}

func (p *player) duration(key string, def time.Duration) time.Duration {
	v := p.d.get(key)
	if v == "" {
		return def
	}
	dur, err := time.ParseDuration(v)
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.file, err)
	}
	return dur
}

// upload brings a foreign server's home directory into the dialog's initial
// state; what was there before is removed.
func (p *player) upload(addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Dial(ctx, addr, ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	check := func(err error) {
		p.t.Helper()
		if err != nil {
			p.t.Fatalf("preparing %s: %v", addr, err)
		}
	}
	check(c.Login(ctx, *targetUser, *targetPass))
	home, err := c.WorkingDir(ctx)
	check(err)
	emptyDir(ctx, c, home)
	made := map[string]bool{}
	mkdirs := func(name string) {
		for i, r := range strings.TrimPrefix(name, "/") {
			if d := name[1 : i+1]; r == '/' && !made[d] {
				made[d] = true
				c.Mkdir(ctx, path.Join(home, d))
			}
		}
	}
	for _, f := range p.d.files {
		mkdirs(f.Name)
		_, err := c.Store(ctx, path.Join(home, f.Name), strings.NewReader(f.Data), 0)
		check(err)
	}
	for _, z := range p.d.config["zeros"] {
		name, n, _ := strings.Cut(z, ":")
		mkdirs(name)
		_, err := c.Store(ctx, path.Join(home, name), io.LimitReader(zeroReader{}, p.number(n)), 0)
		check(err)
	}
	for _, n := range p.d.config["dir"] {
		mkdirs(n + "/")
	}
	c.Quit(ctx)
}

func emptyDir(ctx context.Context, c *Client, dir string) {
	var all []Entry
	for e, err := range c.List(ctx, dir) {
		if err != nil {
			break
		}
		all = append(all, e)
	}
	for _, e := range all {
		name := path.Join(dir, path.Base(e.Name))
		if e.IsDir() {
			emptyDir(ctx, c, name)
			c.Rmdir(ctx, name)
		} else {
			c.Remove(ctx, name)
		}
	}
}

var (
	testCertsMu sync.Mutex
	testCerts   = map[string]tls.Certificate{}
)

// testCert makes a self-signed certificate, once for each name.
func testCert(t *testing.T, name string) tls.Certificate {
	t.Helper()
	testCertsMu.Lock()
	defer testCertsMu.Unlock()
	if c, ok := testCerts[name]; ok {
		return c
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c.Leaf, _ = x509.ParseCertificate(der)
	testCerts[name] = c
	return c
}
