package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/fault"
)

// directory is Users and Groups in memory.
type directory struct {
	users  map[string]account.User
	groups []account.Group
	down   error
}

func (d *directory) UserByName(_ context.Context, name string) (account.User, error) {
	if d.down != nil {
		return account.User{}, d.down
	}
	u, ok := d.users[name]
	if !ok {
		return account.User{}, fault.New(fault.NotExist, "load user", "", nil)
	}
	return u, nil
}

func (d *directory) GroupsOf(context.Context, account.User) ([]account.Group, error) {
	return d.groups, nil
}

var here = Origin{Protocol: "ftp", Remote: netip.MustParseAddrPort("192.0.2.7:4711"), TLS: true}

// people returns a directory in which everybody's password is "secret".
func people(t testing.TB, h *Hasher) *directory {
	t.Helper()
	hash, err := h.Hash(context.Background(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	d := &directory{users: map[string]account.User{}, groups: []account.Group{{Name: "lan", Networks: elsewhere}}}
	for i, u := range []account.User{
		{Name: "ann"},
		{Name: "disabled", Disabled: true},
		{Name: "expired", Expires: time.Now().Add(-time.Hour)},
		{Name: "elsewhere", Networks: elsewhere},
		{Name: "ingroup", Groups: []string{"lan"}},
		{Name: "keyonly", KeyOnly: true},
		{Name: "sftponly", Protocols: []string{"sftp"}},
		{Name: "ftpsonly", Protocols: []string{"ftps"}},
		{Name: "nopassword"},
		{Name: "broken"},
	} {
		u.ID, u.PasswordHash = int64(i+1), hash
		switch u.Name {
		case "nopassword":
			u.PasswordHash = ""
		case "broken":
			u.PasswordHash = "$6$truncat"
		}
		d.users[u.Name] = u
	}
	return d
}

func TestPasswordVerifier(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	v := &PasswordVerifier{Users: people(t, h), Hasher: h}
	plain := here
	plain.TLS = false
	tests := []struct {
		user, secret string
		from         Origin
		reason       string // "" is success
	}{
		{"ann", "secret", here, ""},
		{"ann", "Secret", here, "wrong password"},
		{"ann", "secret ", here, "wrong password"},
		{"ann", "", here, "empty"},
		{"ann", "secret\x00", here, "NUL"},
		{"ann", strings.Repeat("x", 2000), here, "octets long"},
		{"Ann", "secret", here, "no such account"},
		{"nobody", "secret", here, "no such account"},
		{"", "secret", here, "such a name"},
		{"ann\x00", "secret", here, "such a name"},
		{"../ann", "secret", here, "such a name"},
		{"ann' OR 1=1 --", "secret", here, "such a name"},
		{"disabled", "secret", here, "disabled"},
		{"expired", "secret", here, "expired"},
		{"elsewhere", "secret", here, "192.0.2.7"},
		{"ingroup", "secret", here, "192.0.2.7"},
		{"keyonly", "secret", here, "key only"},
		{"sftponly", "secret", here, "may not use"},
		{"ftpsonly", "secret", here, ""},
		{"ftpsonly", "secret", plain, "may not use"},
		{"nopassword", "secret", here, "no password"},
		{"nopassword", "", here, "empty"},
		{"broken", "secret", here, "cannot be read"},
	}
	for _, tt := range tests {
		id, err := v.Verify(t.Context(), tt.from, Password{User: tt.user, Secret: tt.secret})
		if tt.reason == "" {
			if err != nil || id.User.Name != tt.user || id.Method != "password" {
				t.Errorf("%q: %+v, %v (%s)", tt.user, id, err, Reason(err))
			}
			continue
		}
		if !errors.Is(err, ErrBad) || err.Error() != ErrBad.Error() || id.User.Name != "" {
			t.Errorf("%q: %+v, %v; want ErrBad and nobody", tt.user, id, err)
		}
		if !strings.Contains(Reason(err), tt.reason) {
			t.Errorf("%q: reason %q, want %q", tt.user, Reason(err), tt.reason)
		}
	}
	if _, err := v.Verify(t.Context(), here, ClientCert{User: "ann"}); !errors.Is(err, ErrBad) {
		t.Errorf("a certificate: %v", err)
	}
	v.Users = &directory{down: errors.New("no database")}
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "secret"}); errors.Is(err, ErrBad) || err == nil {
		t.Errorf("database down: %v; it must not look like a wrong password", err)
	}
}

// What is refused must say Limit when no slot is free, for all accounts alike.
func TestPasswordVerifierBusy(t *testing.T) {
	h := newHasher(t, HasherOptions{Slots: 1, Wait: 10 * time.Millisecond})
	v := &PasswordVerifier{Users: people(t, h), Hasher: h}
	h.slots <- struct{}{}
	for _, name := range []string{"ann", "nobody", "disabled", "nopassword", "broken"} {
		if _, err := v.Verify(t.Context(), here, Password{User: name, Secret: "secret"}); fault.KindOf(err) != fault.Limit {
			t.Errorf("%s: %v, want fault.Limit", name, err)
		}
	}
}

func TestRehash(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	old := "$1$saltsalt$E7tuPffYxMbt4fMfdM.LA."
	d := &directory{users: map[string]account.User{"ann": {Name: "ann", PasswordHash: old}}}
	var got [][2]string
	fail := error(nil)
	v := &PasswordVerifier{Users: d, Hasher: h, Rehash: func(_ context.Context, u account.User, o, n string) error {
		got = append(got, [2]string{o, n})
		return fail
	}}
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "wrong"}); err == nil || len(got) != 0 {
		t.Errorf("a wrong password: %v, hook %v", err, got)
	}
	fail = errors.New("read-only")
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "Größe & Maß"}); err != nil || len(got) != 1 || got[0][0] != old {
		t.Fatalf("a failing hook: %v, hook %v", err, got)
	}
	if ok, _ := h.Verify(t.Context(), got[0][1], "Größe & Maß"); !ok {
		t.Error("the new hash does not match")
	}
	d.users["ann"] = account.User{Name: "ann", PasswordHash: got[0][1]}
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "Größe & Maß"}); err != nil || len(got) != 1 {
		t.Errorf("a present hash was renewed: %v, %d", err, len(got))
	}
}

func TestFloor(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	v := &PasswordVerifier{Users: people(t, h), Hasher: h, Floor: 60 * time.Millisecond}
	began := time.Now()
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "wrong"}); !errors.Is(err, ErrBad) || time.Since(began) < 60*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	v.Floor = time.Hour
	if _, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: "secret"}); err != nil {
		t.Errorf("a success waits for the floor: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, here, Password{User: "ann", Secret: "wrong"}); fault.KindOf(err) != fault.Canceled {
		t.Errorf("ended context: %v", err)
	}
}

// Unknown and closed accounts must take as long as a wrong password. Without
// the stand-in hash they are hundreds of times faster, so the bounds are wide
// enough for a busy machine; medians of interleaved runs.
func TestTimingEqual(t *testing.T) {
	h := newHasher(t, HasherOptions{Params: Params{MemoryKiB: 4 * 1024, Passes: 2, Lanes: 1}})
	v := &PasswordVerifier{Users: people(t, h), Hasher: h}
	names := []string{"ann", "nobody", "a/b", "disabled", "expired", "elsewhere", "ingroup", "keyonly", "nopassword", "broken"}
	took := map[string][]time.Duration{}
	for range 15 {
		for _, name := range names {
			began := time.Now()
			if _, err := v.Verify(t.Context(), here, Password{User: name, Secret: "wrong"}); !errors.Is(err, ErrBad) {
				t.Fatalf("%s: %v", name, err)
			}
			took[name] = append(took[name], time.Since(began))
		}
	}
	median := func(name string) time.Duration {
		slices.Sort(took[name])
		return took[name][len(took[name])/2]
	}
	want := median("ann")
	for _, name := range names[1:] {
		if got := median(name); got < want/3 || got > want*3 {
			t.Errorf("%s takes %v, a wrong password %v", name, got, want)
		}
	}
}

// certificate makes a self-signed one.
func certificate(t *testing.T, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if edit != nil {
		edit(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertVerifier(t *testing.T) {
	listed := certificate(t, nil)
	old := certificate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	named := certificate(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "ann"}
		c.EmailAddresses = []string{"bob@example.org"}
		c.DNSNames = []string{"carol"}
	})
	d := &directory{users: map[string]account.User{
		"ann":             {Name: "ann", Certificates: []string{CertFingerprint(listed), CertFingerprint(old)}},
		"bob@example.org": {Name: "bob@example.org"},
		"carol":           {Name: "carol", KeyOnly: true},
		"closed":          {Name: "closed", Disabled: true, Certificates: []string{CertFingerprint(listed)}},
	}}
	chain := [][]*x509.Certificate{{named}}
	all := MapCommonName | MapEmail | MapDNS
	tests := []struct {
		name    string
		cred    Credential
		mapping CertMapping
		ok      bool
	}{
		{"fingerprint", ClientCert{User: "ann", Leaf: listed}, 0, true},
		{"fingerprint of another user", ClientCert{User: "carol", Leaf: listed}, all, false},
		{"expired certificate", ClientCert{User: "ann", Leaf: old}, 0, false},
		{"unknown user", ClientCert{User: "nobody", Leaf: listed}, all, false},
		{"closed account", ClientCert{User: "closed", Leaf: listed}, 0, false},
		{"no certificate", ClientCert{User: "ann"}, all, false},
		{"common name", ClientCert{User: "ann", Leaf: named, Chains: chain}, MapCommonName, true},
		{"common name, chain not verified", ClientCert{User: "ann", Leaf: named}, all, false},
		{"common name, not mapped", ClientCert{User: "ann", Leaf: named, Chains: chain}, MapEmail | MapDNS, false},
		{"e-mail", ClientCert{User: "bob@example.org", Leaf: named, Chains: chain}, MapEmail, true},
		{"e-mail, not mapped", ClientCert{User: "bob@example.org", Leaf: named, Chains: chain}, MapCommonName | MapDNS, false},
		{"DNS name", ClientCert{User: "carol", Leaf: named, Chains: chain}, MapDNS, true},
		{"password", Password{User: "ann", Secret: "x"}, all, false},
	}
	for _, tt := range tests {
		v := &CertVerifier{Users: d, Mapping: tt.mapping}
		id, err := v.Verify(t.Context(), here, tt.cred)
		switch {
		case tt.ok && (err != nil || id.User.Name != tt.cred.Username() || id.Method != "certificate"):
			t.Errorf("%s: %+v, %v (%s)", tt.name, id, err, Reason(err))
		case !tt.ok && (!errors.Is(err, ErrBad) || id.User.Name != ""):
			t.Errorf("%s: %+v, %v; want ErrBad", tt.name, id, err)
		}
	}
}

func TestAnonymousVerifier(t *testing.T) {
	v := &AnonymousVerifier{Account: account.Anonymous("/srv/pub", account.ReadOnly)}
	for name, want := range map[string]bool{"anonymous": true, "ftp": true, "Anonymous": false, "ann": false, "": false} {
		id, err := v.Verify(t.Context(), here, Password{User: name, Secret: "me@example.org"})
		if want && (err != nil || id.User.Name != "anonymous" || id.Method != "anonymous") || !want && !errors.Is(err, ErrBad) {
			t.Errorf("%q: %+v, %v", name, id, err)
		}
	}
	v.Account.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	if _, err := v.Verify(t.Context(), here, Password{User: "ftp", Secret: ""}); !errors.Is(err, ErrBad) {
		t.Errorf("from outside: %v", err)
	}
}

func TestChain(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	d := people(t, h)
	leaf := certificate(t, nil)
	ann := d.users["ann"]
	ann.Certificates = []string{CertFingerprint(leaf)}
	d.users["ann"] = ann
	pw := &PasswordVerifier{Users: d, Hasher: h}
	ch := Chain{&AnonymousVerifier{Account: account.Anonymous("/p", account.ReadOnly)}, &CertVerifier{Users: d}, pw}
	for _, tt := range []struct {
		cred   Credential
		method string
	}{
		{Password{User: "ann", Secret: "secret"}, "password"}, {Password{User: "ftp", Secret: ""}, "anonymous"}, {ClientCert{User: "ann", Leaf: leaf}, "certificate"},
		{Password{User: "ann", Secret: "wrong"}, ""}, {PublicKey{User: "ann"}, ""},
	} {
		id, err := ch.Verify(t.Context(), here, tt.cred)
		if id.Method != tt.method || (tt.method == "") != errors.Is(err, ErrBad) {
			t.Errorf("%T %s: %+v, %v", tt.cred, tt.cred.Username(), id, err)
		}
	}
	if _, err := (Chain{}).Verify(t.Context(), here, Password{User: "ann", Secret: "secret"}); !errors.Is(err, ErrBad) {
		t.Errorf("an empty chain: %v", err)
	}
	if _, err := (Chain{pw}).Verify(t.Context(), here, Password{User: "anonymous", Secret: "x"}); !errors.Is(err, ErrBad) {
		t.Errorf("anonymous without its verifier: %v", err)
	}
	down := &PasswordVerifier{Users: &directory{down: fault.Text(fault.Unavailable, "down")}, Hasher: h}
	if _, err := (Chain{down, pw}).Verify(t.Context(), here, Password{User: "ann", Secret: "secret"}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a verifier that is down was passed over: %v", err)
	}
}

func TestVerifyConcurrently(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	v := &PasswordVerifier{Users: people(t, h), Hasher: h}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			secret := []string{"secret", "wrong"}[i%2]
			_, err := v.Verify(t.Context(), here, Password{User: "ann", Secret: secret})
			if (err == nil) != (secret == "secret") {
				t.Errorf("%s: %v", secret, err)
			}
		})
	}
	wg.Wait()
}

func TestPasswordNeverPrinted(t *testing.T) {
	p := Password{User: "ann", Secret: "geheim"}
	for _, f := range []string{"%v", "%+v", "%s", "%#v"} {
		if s := fmt.Sprintf(f, p); strings.Contains(s, "geheim") {
			t.Errorf("%s prints %q", f, s)
		}
	}
	if b, err := json.Marshal(p); err != nil || strings.Contains(string(b), "geheim") {
		t.Errorf("JSON is %s, %v", b, err)
	}
}

func BenchmarkVerifyDefault(b *testing.B) {
	h := newHasher(b, HasherOptions{Params: DefaultParams})
	hash, err := h.Hash(b.Context(), "secret")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, err := h.Verify(b.Context(), hash, "secret"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
