package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// CertMapping says which names inside a certificate may stand for a user.
type CertMapping uint8

// The mappings; they can be combined. They count only for a certificate whose
// chain the handshake verified.
const (
	MapCommonName CertMapping = 1 << iota // Subject CN equals the user's name
	MapEmail                              // a SAN e-mail address equals the user's name
	MapDNS                                // a SAN DNS name equals the user's name
)

// CertVerifier logs users in by TLS client certificate: the account that the
// client names must list the certificate's SHA-256 fingerprint, or, when a
// mapping is on and the chain is verified, the certificate must bear the name.
// The transport has checked validity dates of a verified chain; for a listed
// fingerprint they are checked here. Fields are set before first use.
type CertVerifier struct {
	Users   Users
	Mapping CertMapping
	Now     func() time.Time // nil: time.Now
}

// CertFingerprint returns the SHA-256 of the certificate in small hexadecimal
// digits, as account.User.Certificates holds it.
func CertFingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Verify implements Verifier. Other credentials than ClientCert are refused with ErrBad.
func (v *CertVerifier) Verify(ctx context.Context, from Origin, c Credential) (Identity, error) {
	cc, ok := c.(ClientCert)
	if !ok || cc.Leaf == nil {
		return Identity{}, bad("no client certificate")
	}
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	user, reason, err := lookUp(ctx, v.Users, from, cc.User, now)
	switch {
	case err != nil:
		return Identity{}, err
	case reason != "":
		return Identity{}, bad(reason)
	case now.Before(cc.Leaf.NotBefore) || now.After(cc.Leaf.NotAfter):
		return Identity{}, bad("the client certificate is not valid now")
	case slices.Contains(user.Certificates, CertFingerprint(cc.Leaf)):
	case len(cc.Chains) > 0 && v.names(cc.Leaf, user):
	default:
		return Identity{}, bad("the client certificate does not belong to the account")
	}
	return Identity{User: user, Method: "certificate"}, nil
}

func (v *CertVerifier) names(leaf *x509.Certificate, user account.User) bool {
	return v.Mapping&MapCommonName != 0 && leaf.Subject.CommonName == user.Name ||
		v.Mapping&MapEmail != 0 && slices.Contains(leaf.EmailAddresses, user.Name) ||
		v.Mapping&MapDNS != 0 && slices.Contains(leaf.DNSNames, user.Name)
}
