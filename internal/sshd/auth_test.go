package sshd

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

func TestLogin(t *testing.T) {
	r := newRig(t, nil)
	good, line := newKey(t)
	other, otherLine := newKey(t)
	stranger, _ := newKey(t)
	r.user(account.User{Name: "kim", Keys: []string{line, `from="203.0.113.0/24" ` + otherLine}})
	r.user(account.User{Name: "only", Keys: []string{line}, KeyOnly: true})
	r.user(account.User{Name: "off", Keys: []string{line}, Disabled: true})
	r.user(account.User{Name: "ftponly", Keys: []string{line}, Protocols: []string{"ftp"}})
	answer := func(text string) ssh.AuthMethod {
		return ssh.KeyboardInteractive(func(_, _ string, q []string, echo []bool) ([]string, error) {
			if len(q) != 1 || echo[0] {
				t.Errorf("questions %q, echo %v", q, echo)
			}
			return []string{text}, nil
		})
	}
	for _, tt := range []struct {
		name, user string
		how        []ssh.AuthMethod
		ok         bool
	}{
		{"password", "ann", []ssh.AuthMethod{ssh.Password("secret")}, true},
		{"wrong password", "ann", []ssh.AuthMethod{ssh.Password("guess")}, false},
		{"keyboard-interactive", "ann", []ssh.AuthMethod{answer("secret")}, true},
		{"wrong answer", "ann", []ssh.AuthMethod{answer("guess")}, false},
		{"key", "kim", []ssh.AuthMethod{ssh.PublicKeys(good)}, true},
		{"the right one of several keys", "kim", []ssh.AuthMethod{ssh.PublicKeys(stranger, other, good)}, true},
		{"key that is nobody's", "kim", []ssh.AuthMethod{ssh.PublicKeys(stranger)}, false},
		{"key from the wrong address", "kim", []ssh.AuthMethod{ssh.PublicKeys(other)}, false},
		{"key of another account", "ann", []ssh.AuthMethod{ssh.PublicKeys(good)}, false},
		{"unknown user", "nobody", []ssh.AuthMethod{ssh.PublicKeys(good), ssh.Password("secret")}, false},
		{"key-only with a key", "only", []ssh.AuthMethod{ssh.PublicKeys(good)}, true},
		{"key-only with a password", "only", []ssh.AuthMethod{ssh.Password("secret")}, false},
		{"key-only with an answer", "only", []ssh.AuthMethod{answer("secret")}, false},
		{"disabled", "off", []ssh.AuthMethod{ssh.PublicKeys(good)}, false},
		{"other protocol", "ftponly", []ssh.AuthMethod{ssh.PublicKeys(good)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := r.dial(tt.user, tt.how...)
			if err == nil {
				c.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("log-in: %v, want success %v", err, tt.ok)
			}
		})
	}
}

// TestKeyOfferedButNotUsed is CVE-2024-45337: the key that was asked about last
// must not stand for the one that signed, nor for a password.
func TestKeyOfferedButNotUsed(t *testing.T) {
	r := newRig(t, nil)
	good, line := newKey(t)
	weak, weakLine := newKey(t)
	r.user(account.User{Name: "kim", Keys: []string{line, weakLine}})
	// A client that asks about good, asks about weak, then signs with good.
	c, err := r.dial("kim", ssh.PublicKeys(liar{good}, weak))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	logins := r.events(events.Login, 1)
	if logins[0].User != "kim" || !strings.Contains(logins[0].Detail, "key") {
		t.Errorf("login event %+v", logins[0])
	}
	// A key that is known but whose owner cannot sign logs nobody in.
	if c, err := r.dial("kim", ssh.PublicKeys(cannotSign{good})); err == nil {
		c.Close()
		t.Error("a key without a signature logged in")
	}
	if n := len(r.events(events.Login, 1)); n != 1 {
		t.Errorf("%d log-ins, want 1", n)
	}
}

// liar offers its key as any other.
type liar struct{ ssh.Signer }

// cannotSign knows a public key only: it signs with another.
type cannotSign struct{ ssh.Signer }

func (c cannotSign) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	s, err := c.Signer.Sign(rand.Reader, append([]byte("x"), data...))
	return s, err
}

func TestUserCertificates(t *testing.T) {
	r := newRig(t, nil)
	caKey, caLine := newKey(t)
	otherCA, _ := newKey(t)
	userCA, userCALine := newKey(t)
	ca, err := auth.ParseUserCA([]byte("# the authority\n"+caLine+"\n"), []byte("serial: 7\nid: lost\n"))
	if err != nil {
		t.Fatal(err)
	}
	r.ca = ca
	r.user(account.User{Name: "kim"})
	r.user(account.User{Name: "own", Keys: []string{`cert-authority,principals="team" ` + userCALine}})
	now := uint64(time.Now().Unix())
	base := ssh.Certificate{CertType: ssh.UserCert, KeyId: "k", Serial: 1, ValidPrincipals: []string{"kim"}, ValidAfter: now - 60, ValidBefore: now + 600}
	for _, tt := range []struct {
		name, user string
		by         ssh.Signer
		change     func(*ssh.Certificate)
		ok         bool
	}{
		{"valid", "kim", caKey, func(*ssh.Certificate) {}, true},
		{"other principal", "ann", caKey, func(*ssh.Certificate) {}, false},
		{"no principal", "kim", caKey, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, false},
		{"expired", "kim", caKey, func(c *ssh.Certificate) { c.ValidBefore = now - 10 }, false},
		{"not yet valid", "kim", caKey, func(c *ssh.Certificate) { c.ValidAfter = now + 300 }, false},
		{"host certificate", "kim", caKey, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, false},
		{"other authority", "kim", otherCA, func(*ssh.Certificate) {}, false},
		{"revoked serial", "kim", caKey, func(c *ssh.Certificate) { c.Serial = 7 }, false},
		{"revoked id", "kim", caKey, func(c *ssh.Certificate) { c.KeyId = "lost" }, false},
		{"right address", "kim", caKey, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "127.0.0.0/8,::1"} }, true},
		{"wrong address", "kim", caKey, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "203.0.113.1"} }, false},
		{"unknown option", "kim", caKey, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} }, false},
		{"authority of the account", "own", userCA, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"team"} }, true},
		{"that authority for another account", "kim", userCA, func(*ssh.Certificate) {}, false},
		{"that authority without the principal", "own", userCA, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"own"} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, _ := newKey(t)
			cert := base
			cert.ValidPrincipals = slices.Clone(base.ValidPrincipals)
			cert.Key = key.PublicKey()
			tt.change(&cert)
			if err := cert.SignCert(rand.Reader, tt.by); err != nil {
				t.Fatal(err)
			}
			signer, err := ssh.NewCertSigner(&cert, key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.dial(tt.user, ssh.PublicKeys(signer))
			if err == nil {
				c.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("log-in: %v, want success %v", err, tt.ok)
			}
		})
	}
}

func TestLoginDeadline(t *testing.T) {
	r := newRig(t, func(o *Options) { o.LoginTimeout = 300 * time.Millisecond })
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.Write([]byte("SSH-2.0-slow\r\n"))
	began := time.Now()
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	for {
		if _, err = nc.Read(buf); err != nil {
			break
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Fatal("the connection is still open")
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("closed after %v", d)
	}
}

// algorithmsOf are those of a dated policy.
func algorithmsOf(c *config.Config) Algorithms {
	p := c.Crypto()
	return Algorithms{KeyExchanges: p.KeyExchanges, Ciphers: p.Ciphers, MACs: p.MACs, HostKeys: p.HostKeys, UserKeys: p.UserKeys}
}

// TestPolicy holds the offer of every dated policy to what audits accept, and
// to what the library can do.
func TestPolicy(t *testing.T) {
	p := policy(algorithmsOf(config.Default()))
	if p.KeyExchanges[0] != ssh.KeyExchangeMLKEM768X25519 || p.Ciphers[0] != ssh.CipherAES128GCM {
		t.Errorf("first are %s and %s", p.KeyExchanges[0], p.Ciphers[0])
	}
	for _, name := range config.CryptoNames() {
		c := config.Default()
		c.CryptoPolicy = name
		alg := algorithmsOf(c)
		if missing := alg.check(); len(missing) > 0 {
			t.Errorf("%s names %v, which the library does not have", name, missing)
		}
		p := policy(alg)
		legacy, fips := strings.HasPrefix(string(name), "legacy-"), strings.HasSuffix(string(name), "-fips")
		for _, list := range [][]string{p.KeyExchanges, p.Ciphers, p.MACs, p.PublicKeyAuthAlgorithms} {
			for _, a := range list {
				if strings.Contains(a, "cbc") || strings.HasSuffix(a, "sha1") || strings.Contains(a, "sha1-") || a == "ssh-rsa" || a == "ssh-dss" ||
					!legacy && !fips && strings.Contains(a, "nistp") && !slices.Contains(p.PublicKeyAuthAlgorithms, a) ||
					!legacy && strings.HasPrefix(a, "hmac") && !strings.Contains(a, "etm") ||
					fips && (strings.Contains(a, "chacha") || strings.Contains(a, "25519")) {
					t.Errorf("%s offers %s", name, a)
				}
			}
		}
	}
	if _, err := New(nil, Options{HostKeys: []HostKey{hostKey(t)}, Algorithms: Algorithms{Ciphers: []string{"rot13"}}}); err == nil || !strings.Contains(err.Error(), "rot13") {
		t.Errorf("an unknown algorithm: %v", err)
	}
}
