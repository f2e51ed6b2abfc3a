//go:build directory

package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// slapd starts a real OpenLDAP server with TLS and the entries of this test.
func slapd(t *testing.T) (addr string, ca *x509.CertPool) {
	t.Helper()
	bin := "/usr/sbin/slapd"
	if _, err := os.Stat(bin); err != nil {
		t.Fatal("slapd is needed: test/tools/install")
	}
	dir := t.TempDir()
	ca = slapdCertificate(t, dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	ln.Close()
	db := filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
disallow bind_anon
pidfile %[1]s/slapd.pid
database mdb
suffix "dc=example,dc=org"
rootdn "cn=root,dc=example,dc=org"
rootpw root-secret
directory %[2]s
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth
`, dir, db)
	if err := os.WriteFile(filepath.Join(dir, "slapd.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-f", filepath.Join(dir, "slapd.conf"), "-h", "ldap://"+addr, "-d", "0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait() // it says how it was ended, which is what was asked for
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("slapd does not start:\n%s", b)
		}
	}
	fill(t, addr)
	return addr, ca
}

func slapdCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slapd"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

func fill(t *testing.T, addr string) {
	t.Helper()
	c, err := ldap.DialURL("ldap://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind("cn=root,dc=example,dc=org", "root-secret"); err != nil {
		t.Fatal(err)
	}
	add := func(dn string, attrs map[string][]string) {
		r := ldap.NewAddRequest(dn, nil)
		for k, v := range attrs {
			r.Attribute(k, v)
		}
		if err := c.Add(r); err != nil {
			t.Fatalf("%s: %v", dn, err)
		}
	}
	add("dc=example,dc=org", map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	for _, ou := range []string{"people", "old", "groups"} {
		add("ou="+ou+",dc=example,dc=org", map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	person := func(uid, ou, password string) {
		add("uid="+uid+",ou="+ou+",dc=example,dc=org", map[string][]string{"objectClass": {"inetOrgPerson"}, "uid": {uid}, "cn": {uid}, "sn": {uid}, "userPassword": {password}})
	}
	person("service", "people", "service-secret")
	person("ann", "people", "ann-secret")
	person("bob", "people", "bob-secret")
	person("twin", "people", "twin-secret")
	person("twin", "old", "twin-secret")
	add("cn=FTP Users,ou=groups,dc=example,dc=org", map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"FTP Users"}, "member": {"uid=ann,ou=people,dc=example,dc=org"}})
}

// TestDirectory logs in against a real directory, in the clear on the
// loopback and with StartTLS.
func TestDirectory(t *testing.T) {
	addr, ca := slapd(t)
	rows := fakeRows{
		"bob": {Name: "bob", Home: "/own/bob", Quota: account.Quota{Bytes: 7}},
		"own": {Name: "own", PasswordHash: "$x"},
	}
	for _, startTLS := range []bool{false, true} {
		v := &LDAPVerifier{URL: "ldap://" + addr, StartTLS: startTLS, TLS: &tls.Config{RootCAs: ca}, BindDN: "uid=service,ou=people,dc=example,dc=org",
			BindPass: func() (string, error) { return "service-secret", nil }, Base: "dc=example,dc=org", Filter: "(&(objectClass=inetOrgPerson)(uid=%u))", Home: "/srv/%u",
			Groups: map[string]string{"staff": "CN=ftp users,OU=groups,DC=example,DC=org", "none": "cn=none,dc=example,dc=org"}, Users: rows}
		if err := v.Ready(); err != nil {
			t.Fatal(err)
		}
		login := func(name, secret string) (Identity, error) {
			return v.Verify(context.Background(), Origin{Protocol: "ftps"}, Password{User: name, Secret: secret})
		}
		id, err := login("ann", "ann-secret")
		if err != nil || id.Method != "ldap" || id.User.Home != "/srv/ann" || !slices.Equal(id.User.Groups, []string{"staff"}) {
			t.Errorf("tls %v: %+v, %v", startTLS, id, err)
		}
		if id, err = login("bob", "bob-secret"); err != nil || id.User.Home != "/own/bob" || id.User.Quota.Bytes != 7 || len(id.User.Groups) != 0 {
			t.Errorf("tls %v: a user with a row: %+v, %v", startTLS, id, err)
		}
		for what, p := range map[string]Password{
			"a wrong password": {User: "ann", Secret: "bob-secret"}, "an empty password": {User: "ann", Secret: ""}, "an unknown user": {User: "zed", Secret: "x"}, "two entries of a name": {User: "twin", Secret: "twin-secret"},
			"an own password": {User: "own", Secret: "x"}, "a star": {User: "*", Secret: "ann-secret"}, "an injection": {User: "ann)(uid=*", Secret: "ann-secret"},
		} {
			if _, err := login(p.User, p.Secret); !errors.Is(err, ErrBad) {
				t.Errorf("tls %v: %s: %v", startTLS, what, err)
			}
		}
		v.BindPass = func() (string, error) { return "wrong", nil }
		if _, err := login("ann", "ann-secret"); fault.KindOf(err) != fault.Unavailable || errors.Is(err, ErrBad) {
			t.Errorf("tls %v: the searching account is refused: %v", startTLS, err)
		}
	}
	// A directory whose certificate is not trusted is not told any password.
	v := &LDAPVerifier{URL: "ldap://" + addr, StartTLS: true, BindDN: "uid=service,ou=people,dc=example,dc=org", BindPass: func() (string, error) { return "service-secret", nil },
		Base: "dc=example,dc=org", Filter: "(uid=%u)", Home: "/srv/%u", Users: rows}
	if err := v.Ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(context.Background(), Origin{}, Password{User: "ann", Secret: "ann-secret"}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("an unknown authority: %v", err)
	}
	// The names are escaped where they reach a filter.
	if got := v.filter("a*)(x=\x00\\"); got != `(uid=a\2a\29\28x=\00\5c)` {
		t.Errorf("the filter is %q", got)
	}
}
