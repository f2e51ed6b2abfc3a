package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// expirySoon is when a certificate that should have been renewed by now deserves a warning.
const expirySoon = 21 * 24 * time.Hour

// Description is one certificate for the status page.
type Description struct {
	Source      string    `json:"source"` // the certificate file
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"` // DNS names, then addresses
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	KeyType     string    `json:"key_type"`    // "ECDSA P-256"
	Fingerprint string    `json:"fingerprint"` // as of Fingerprint
	SelfSigned  bool      `json:"self_signed"`
	Warnings    []string  `json:"warnings,omitempty"` // each continues "certificate ..."
}

// Fingerprint returns the SHA-256 of a DER certificate as pairs of capital
// hexadecimal digits with colons, as openssl and most clients show it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// Describe tells what is served, the default certificate first.
func (s *Store) Describe() []Description {
	st, now := s.state.Load(), time.Now()
	out := make([]Description, len(st.certs))
	for i, c := range st.certs {
		out[i] = c.describe(now)
	}
	return out
}

func (c *certificate) describe(now time.Time) Description {
	leaf := c.Leaf
	d := Description{
		Source: c.certFile, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Fingerprint: Fingerprint(leaf.Raw), SelfSigned: bytes.Equal(leaf.RawSubject, leaf.RawIssuer),
	}
	d.Names = append(d.Names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		d.Names = append(d.Names, ip.String())
	}
	warn := func(format string, args ...any) { d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...)) }
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		warn("expired on %s; clients refuse it, renew it", leaf.NotAfter.Format(time.DateOnly))
	case left < expirySoon && !c.selfSigned: // ours renews itself
		warn("expires in %d days, on %s; renew it", int(left/(24*time.Hour)), leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		warn("is not valid before %s; is the clock right?", leaf.NotBefore.Format(time.RFC3339))
	}
	var weak bool
	d.KeyType, weak = keyType(leaf)
	switch {
	case weak:
		warn("has a short key (%s); have it issued again for ECDSA P-256", d.KeyType)
	case strings.HasPrefix(d.KeyType, "RSA"):
		warn("has an RSA key, which makes each handshake several times as costly as ECDSA P-256")
	}
	if len(d.Names) == 0 {
		warn("has no subject alternative name; clients that check names refuse it")
	}
	if c.keyMode&0o007 != 0 {
		warn("has a private key that everybody on this machine can read; chmod 640 %s", c.keyFile)
	}
	return d
}

// keyType names the key and tells whether it is too weak.
func keyType(leaf *x509.Certificate) (string, bool) {
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen()), k.N.BitLen() < 2048
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name, k.Curve.Params().BitSize < 256
	case ed25519.PublicKey:
		return "Ed25519", false
	}
	return leaf.PublicKeyAlgorithm.String(), false
}
