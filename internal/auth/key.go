package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/internal/fault"
)

// KeyVerifier logs users in by SSH public key: one of the lines of their
// account, or a certificate of a trusted authority. The transport has verified
// the signature. Fields are set before first use.
type KeyVerifier struct {
	Users Users
	CA    func() *UserCA   // authorities in force; nil, or returning nil: none
	Now   func() time.Time // nil: time.Now
}

// Prober is an optional ability of a Verifier: it tells whether a key would be
// accepted, before the client has proved that it holds it. SSH clients ask
// that about each key they have, so a refusal is no failed log-in.
type Prober interface {
	Probe(ctx context.Context, from Origin, k PublicKey) error
}

// Accepts implements Accepter.
func (v *KeyVerifier) Accepts(c Credential) bool { _, ok := c.(PublicKey); return ok }

// Verify implements Verifier. Other credentials than PublicKey are refused with ErrBad.
func (v *KeyVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	k, ok := c.(PublicKey)
	if !ok {
		return Identity{}, bad("not a public key")
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	user, reason, err := lookUp(ctx, v.Users, from, k.User, now)
	switch {
	case err != nil:
		return Identity{}, err
	case reason != "":
		return Identity{}, bad(reason)
	}
	key, err := ssh.ParsePublicKey(k.Key)
	if err != nil {
		return Identity{}, bad("the public key cannot be read")
	}
	if cert, is := key.(*ssh.Certificate); is {
		if err := v.certificate(user.Name, user.Keys, cert, from, now); err != nil {
			return Identity{}, bad(err.Error())
		}
		return Identity{User: user, Method: "ssh-certificate"}, nil
	}
	if err := v.listed(user.Keys, key, from, now); err != nil {
		return Identity{}, bad(err.Error())
	}
	return Identity{User: user, Method: "key"}, nil
}

// Probe implements Prober.
func (v *KeyVerifier) Probe(ctx context.Context, from Origin, k PublicKey) error {
	_, err := v.Verify(ctx, from, k)
	return err
}

// Probe asks the verifiers that can tell. ErrBad when none would accept the key.
func (ch Chain) Probe(ctx context.Context, from Origin, k PublicKey) error {
	err := bad("no way to log in with a key")
	for _, v := range ch {
		p, ok := v.(Prober)
		if !ok {
			continue
		}
		if err = p.Probe(ctx, from, k); err == nil || !errors.Is(err, ErrBad) {
			return err
		}
	}
	return err
}

// listed looks for key among an account's lines. A line that cannot be read
// any more is passed over: it was checked when it was added.
func (v *KeyVerifier) listed(lines []string, key ssh.PublicKey, from Origin, now time.Time) error {
	err := errors.New("the account does not list this key")
	if ca := v.authorities(); ca != nil && ca.revoked(key) {
		return errors.New("the key is revoked")
	}
	raw := string(key.Marshal())
	for _, line := range lines {
		k, perr := ParseKey(line)
		if perr != nil || k.Authority || string(k.key.Marshal()) != raw {
			continue
		}
		if err = k.usable(from, now); err == nil {
			return nil
		}
	}
	return err
}

func (v *KeyVerifier) authorities() *UserCA {
	if v.CA == nil {
		return nil
	}
	return v.CA()
}

// certificate checks a user certificate: a trusted authority has signed it, for
// this principal, this time and this address, and nobody has revoked it.
func (v *KeyVerifier) certificate(user string, lines []string, cert *ssh.Certificate, from Origin, now time.Time) error {
	ca := v.authorities()
	principals := []string{user}
	signer := string(cert.SignatureKey.Marshal())
	trusted := ca != nil && ca.trusted[signer]
	for _, line := range lines {
		k, err := ParseKey(line)
		if trusted || err != nil || !k.Authority || string(k.key.Marshal()) != signer {
			continue
		}
		if err := k.usable(from, now); err != nil {
			return err
		}
		trusted = true
		if len(k.Principals) > 0 {
			principals = k.Principals
		}
	}
	switch {
	case !trusted:
		return errors.New("the certificate is of an authority that is not trusted")
	case cert.CertType != ssh.UserCert:
		return errors.New("the certificate is not for a user")
	case len(cert.ValidPrincipals) == 0:
		return errors.New("the certificate names no principal, so it would be anybody's")
	case ca != nil && ca.revokedCert(cert):
		return errors.New("the certificate is revoked")
	}
	i := slices.IndexFunc(principals, func(p string) bool { return slices.Contains(cert.ValidPrincipals, p) })
	if i < 0 {
		return fmt.Errorf("the certificate is for %s, not for %s", strings.Join(cert.ValidPrincipals, ", "), strings.Join(principals, ", "))
	}
	c := ssh.CertChecker{SupportedCriticalOptions: []string{"source-address"}, Clock: func() time.Time { return now }}
	if err := c.CheckCert(principals[i], cert); err != nil {
		return err
	}
	if list, limited := cert.CriticalOptions["source-address"]; limited && !addressIn(list, from.Remote.Addr()) {
		return fmt.Errorf("the certificate may be used from %s only", list)
	}
	return nil
}

// Key is one line of an authorized_keys file, understood.
type Key struct {
	Line        string // without space around it
	Type        string // "ssh-ed25519", ...
	Fingerprint string // "SHA256:..."
	Comment     string
	From        string    // addresses it may be used from; "": any
	Expires     time.Time // zero: never
	Authority   bool      // signs certificates instead of logging in itself
	Principals  []string  // of an authority: names its certificates may bear; empty: the account's name

	key ssh.PublicKey
}

// keyTypes are those that log in; RSA keys sign with SHA-2 only.
var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSA}

const minRSA = 2048

// ParseKey reads a line of an authorized_keys file. Options that forbid what
// this server never does (no-pty, restrict, ...) have no effect; from,
// expiry-time, cert-authority and principals do; one that would loosen or
// change what a log-in is (command, verify-required) is an error, because
// ignoring it would give more than was meant. The error is for people.
func ParseKey(line string) (Key, error) {
	line = strings.TrimSpace(line)
	if strings.Contains(line, "PRIVATE KEY") {
		return Key{}, errors.New("this is a private key, which must stay where it is; give the public one, in the file whose name ends in .pub")
	}
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(rest) > 0 {
		return Key{}, errors.New("not an SSH public key; it is one line that begins like \"ssh-ed25519 AAAA\", as in ~/.ssh/id_ed25519.pub")
	}
	k := Key{Line: line, Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), Comment: comment, key: key}
	switch {
	case strings.HasSuffix(k.Type, "-cert-v01@openssh.com"):
		return k, errors.New("this is a certificate; add the key of its authority with the option cert-authority, or name the authority in sftp.trusted_user_ca")
	case !slices.Contains(keyTypes, k.Type):
		return k, fmt.Errorf("keys of type %s are not accepted; make one with: ssh-keygen -t ed25519", k.Type)
	case k.Type == ssh.KeyAlgoRSA && bits(key) < minRSA:
		return k, fmt.Errorf("an RSA key of %d bits is too short; the least is %d, and ed25519 is better", bits(key), minRSA)
	}
	for _, o := range options {
		if err := k.option(o); err != nil {
			return k, err
		}
	}
	if len(k.Principals) > 0 && !k.Authority {
		return k, errors.New("the option principals needs cert-authority")
	}
	return k, nil
}

func bits(key ssh.PublicKey) int {
	var w struct {
		Name string
		E, N []byte
	}
	if ssh.Unmarshal(key.Marshal(), &w) != nil {
		return 0
	}
	n := w.N
	for len(n) > 0 && n[0] == 0 {
		n = n[1:]
	}
	return len(n) * 8
}

func (k *Key) option(o string) (err error) {
	name, value, has := strings.Cut(o, "=")
	value = strings.ReplaceAll(strings.Trim(value, `"`), `\"`, `"`)
	switch name = strings.ToLower(name); name {
	case "from":
		k.From = value
		if value == "" {
			return errors.New("the option from is empty; write from=\"192.0.2.0/24\"")
		}
		for p := range strings.SplitSeq(value, ",") {
			if err := checkAddressPattern(strings.TrimPrefix(strings.TrimSpace(p), "!")); err != nil {
				return err
			}
		}
	case "expiry-time":
		if k.Expires, err = parseExpiry(value); err != nil {
			return err
		}
	case "cert-authority":
		k.Authority = true
	case "principals":
		k.Principals = strings.Split(value, ",")
	case "restrict", "no-pty", "no-port-forwarding", "no-x11-forwarding", "no-agent-forwarding", "no-user-rc", "no-touch-required",
		"pty", "port-forwarding", "x11-forwarding", "agent-forwarding", "user-rc", "permitopen", "permitlisten", "environment":
	default:
		if has {
			o = name + "=..."
		}
		return fmt.Errorf("the option %s cannot be honoured here, so the key is not taken with it; known are from, expiry-time, cert-authority, principals", o)
	}
	return nil
}

// usable checks the options of a line.
func (k *Key) usable(from Origin, now time.Time) error {
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return errors.New("the key expired on " + k.Expires.Format(time.DateTime))
	}
	if k.From != "" && !addressIn(k.From, from.Remote.Addr()) {
		return fmt.Errorf("the key may be used from %s only", k.From)
	}
	return nil
}

// checkAddressPattern accepts an address, a network or an address with * and ?.
// Host names are refused: reverse DNS is no proof of anything.
func checkAddressPattern(p string) error {
	if _, err := netip.ParsePrefix(p); err == nil {
		return nil
	}
	if strings.Trim(p, "0123456789abcdefABCDEF.:*?") == "" && p != "" && strings.ContainsAny(p, ".:*") {
		return nil
	}
	return fmt.Errorf("from=%q: %q is not an IP address or network; host names are not looked up", p, p)
}

// addressIn matches an address against a list as OpenSSH does: one match is
// needed, and a match with "!" before it refuses.
func addressIn(list string, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	found := false
	for p := range strings.SplitSeq(list, ",") {
		p, not := strings.CutPrefix(strings.TrimSpace(p), "!")
		hit := false
		if n, err := netip.ParsePrefix(p); err == nil {
			hit = n.Contains(a)
		} else if x, err := netip.ParseAddr(p); err == nil {
			hit = x.Unmap() == a
		} else {
			hit, _ = path.Match(strings.ToLower(p), a.String())
		}
		if hit && not {
			return false
		}
		found = found || hit
	}
	return found
}

// parseExpiry reads YYYYMMDD[HHMM[SS]], in UTC with a Z behind it, else in the server's zone.
func parseExpiry(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) != len(digits) {
			continue
		}
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("expiry-time=%q is not a time; write it like 20271231 or 202712311800Z", s)
}

// KeyFault returns err of ParseKey as a fault.
func KeyFault(err error) error { return &fault.Error{Kind: fault.Invalid, Err: err} }
