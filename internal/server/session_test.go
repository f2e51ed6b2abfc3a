package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/ports"
	"github.com/portreeve/portreeve/internal/store"
)

// clientCert makes a self-signed client certificate.
func clientCert(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestCertificateLogin: USER is answered 232 when the client's certificate
// belongs to the account, and 331 in any other case.
func TestCertificateLogin(t *testing.T) {
	r := prepare(t, listenTOML("ftps", "127.0.0.1:0", "client_cert = \"optional\"\ncert_login = true")+
		listenTOML("ftps", "127.0.0.1:0", "client_cert = \"optional\""))
	hers, other := clientCert(t, "carol"), clientCert(t, "carol")
	r.addUser(account.User{Name: "carol", Home: r.home, Certificates: []string{auth.CertFingerprint(hers.Leaf)}})
	r.run()
	tests := []struct {
		name     string
		listener int
		cert     *tls.Certificate
		user     string
		code     string
	}{
		{"hers", 0, &hers, "carol", "232"},
		{"hers for somebody else", 0, &hers, testUser, "331"},
		{"a foreign one with her name", 0, &other, "carol", "331"},
		{"none", 0, nil, "carol", "331"},
		{"where it is not for log-in", 1, &hers, "carol", "331"},
	}
	for _, tt := range tests {
		conf := r.trust()
		if tt.cert != nil {
			conf.Certificates = []tls.Certificate{*tt.cert}
		}
		c, err := tls.Dial("tcp", r.address(tt.listener), conf)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		l := &rawClient{t: t, c: c, r: bufio.NewReader(c)}
		l.expect("220")
		l.send("USER " + tt.user)
		l.expect(tt.code)
		if tt.code == "331" {
			l.send("PASS " + testPassword)
			l.expect("230")
		}
		ss := r.s.Sessions()
		if len(ss) != 1 || ss[0].User != tt.user || !strings.HasPrefix(ss[0].TLS, "TLS 1.3 ") || ss[0].Protocol != "ftps" {
			t.Errorf("%s: sessions %+v", tt.name, ss)
		}
		l.send("QUIT")
		l.expect("221")
		c.Close()
		eventually(t, "the session to go", func() bool { return len(r.s.Sessions()) == 0 })
	}
}

// TestOriginFollowsTLS: the same listener is "ftp" in the clear and "ftps" behind AUTH TLS,
// which is what an account's list of protocols is about.
func TestOriginFollowsTLS(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	r.addUser(account.User{Name: "careful", Home: r.home, Protocols: []string{"ftps"}})
	r.run()
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("USER careful")
	l.expect("331")
	l.send("PASS " + testPassword)
	l.expect("530")
	l.send("AUTH TLS")
	l.expect("234")
	c := tls.Client(l.c, r.trust())
	l.r = bufio.NewReader(c)
	send := func(s string) { io.WriteString(c, s+"\r\n") }
	send("USER careful")
	l.expect("331")
	send("PASS " + testPassword)
	l.expect("230")
}

func TestHost(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", "tls = \"off\"\nhosts = [\"ftp.example.org\"]"))
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.send("HOST other.example.org")
	l.expect("504")
	l.send("HOST ftp.example.org")
	l.expect("220")
	l.login()
}

// TestFailedDataConnection: it is kept as an event that says who and why.
func TestFailedDataConnection(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	l := dialRaw(t, r.address(0))
	l.expect("220")
	l.login()
	p := freePort(t)
	l.send(fmt.Sprintf("PORT 127,0,0,1,%d,%d", p>>8, p&255))
	l.expect("200")
	l.send("LIST")
	l.expect("425")
	l.c.Close()
	r.halt()
	db, err := openStore(context.Background(), filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	es, err := db.ListEvents(context.Background(), store.EventFilter{Kinds: []events.Kind{events.DataFailed}})
	if err != nil || len(es) != 1 {
		t.Fatalf("%+v, %v", es, err)
	}
	e := es[0]
	if e.User != testUser || e.Session == "" || e.Result != "canceled" || !strings.Contains(e.Detail, "PORT") || !strings.Contains(e.Detail, "PR-") {
		t.Errorf("event: %+v", e)
	}
	if n := strings.Count(r.logs.String(), "data connection failed"); n != 1 {
		t.Errorf("%d lines in the log about one failure", n)
	}
}

// TestLogFileFollowsReload: [log] is used when no logger is handed in, and its
// level changes while the server runs; passwords stay out of it.
func TestLogFileFollowsReload(t *testing.T) {
	r := prepare(t, listenTOML("ftp", fmt.Sprintf("127.0.0.1:%d", freePort(t)), `tls = "off"`))
	file := filepath.Join(r.dir, "server.log")
	r.write(r.toml + fmt.Sprintf("[log]\nfile = %q\nlevel = \"info\"\nformat = \"json\"\n", file))
	s, err := New(r.config(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ready := make(chan struct{})
	s.opt.Ready = func(*Server) { close(ready) }
	go func() { done <- s.Run(context.Background()) }()
	<-ready
	session := func() {
		t.Helper()
		l := dialRaw(t, s.Status().Listeners[0].Address)
		l.expect("220")
		l.login()
		l.send("SYST")
		l.expect("215")
		l.send("QUIT")
		l.expect("221")
		l.c.Close()
	}
	session()
	if b, _ := os.ReadFile(file); bytes.Contains(b, []byte("SYST")) || !bytes.Contains(b, []byte(`"msg":"logged in"`)) {
		t.Errorf("log at level info:\n%s", b)
	}
	r.write(strings.Replace(r.toml, `level = "info"`, `level = "debug"`, 1))
	rep, err := s.Reload(context.Background()) // without Options.Load it is the file of the configuration
	if err != nil {
		t.Fatal(err)
	}
	contains(t, strings.Join(rep.Changed, " "), "log.level")
	session()
	s.Stop("test")
	if err := <-done; err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), `"line":"SYST"`, `"msg":"configuration loaded"`)
	if bytes.Contains(b, []byte(testPassword)) {
		t.Error("the password is in the log")
	}
}

func TestQuickLimits(t *testing.T) {
	tests := []struct {
		name string
		own  config.PortRange
		eph  config.PortRange
		want string
	}{
		{"usual Linux", config.PortRange{}, config.PortRange{First: 32768, Last: 60999}, "30000-30099"},
		{"IANA range", config.PortRange{}, config.PortRange{First: 51000, Last: 65535}, "50000-50099"},
		{"unknown", config.PortRange{}, config.PortRange{}, "50000-50099"},
		{"everything", config.PortRange{}, config.PortRange{First: 1024, Last: 65535}, "50000-50099"},
		{"from the environment", config.PortRange{First: 40000, Last: 40009}, config.PortRange{First: 32768, Last: 60999}, "40000-40009"},
	}
	for _, tt := range tests {
		cfg := config.Default()
		if tt.own.First != 0 {
			cfg.FTP.Passive.Ports = tt.own
		}
		quickLimits(cfg, ports.HostFacts{Ephemeral: ports.PortRange{First: tt.eph.First, Last: tt.eph.Last}})
		if got := cfg.FTP.Passive.Ports.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if cfg.Limits.MaxConnections != quickConns {
			t.Errorf("%s: %d connections", tt.name, cfg.Limits.MaxConnections)
		}
	}
}

// TestBansSurvive: a ban is in force again after a restart, one for ever too.
func TestBansSurvive(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "off"`))
	ctx := context.Background()
	db, err := openStore(ctx, filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	for net, until := range map[string]time.Time{"192.0.2.0/24": {}, "198.51.100.7/32": time.Now().Add(time.Hour), "203.0.113.0/24": time.Now().Add(-time.Hour)} {
		if err := db.SaveBan(ctx, prefix(net).Prefix, until, "test"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := newLimits(ctx, r.config(), db)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"192.0.2.9": true, "198.51.100.7": true, "203.0.113.9": false} {
		if _, got := l.Banned(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s banned: %v, want %v", addr, got, want)
		}
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
