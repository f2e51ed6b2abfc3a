package sshd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// HostKey is a key the server proves itself with.
type HostKey struct {
	signer    ssh.Signer
	certified ssh.Signer // with its certificate, nil when it has none
}

// HostKeyKinds are the kinds that a first start makes, in this order.
var HostKeyKinds = []string{"ed25519", "ecdsa", "rsa"}

// NewHostKey makes a key of a kind and returns it as a file in OpenSSH's form.
func NewHostKey(kind string) ([]byte, error) {
	var key crypto.PrivateKey
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		err = fmt.Errorf("there is no host key of kind %q", kind)
	}
	if err != nil {
		return nil, err
	}
	b, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(b), nil
}

// ParseHostKey reads a private key file (OpenSSH, PKCS#1, PKCS#8, SEC 1; not
// encrypted) and, if there is one, its host certificate (a line as in
// ssh_host_ed25519_key-cert.pub; empty: none).
func ParseHostKey(file, certificate []byte) (HostKey, error) {
	signer, err := ssh.ParsePrivateKey(file)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return HostKey{}, errors.New("the key is encrypted, and nobody is there to type its passphrase when the server starts; remove it with: ssh-keygen -p -f FILE")
	case err != nil:
		return HostKey{}, errors.New("not a private key that this server can read; make one with: ssh-keygen -t ed25519 -f FILE -N ''")
	}
	k := HostKey{signer: signer}
	switch t := signer.PublicKey().Type(); t {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
	case ssh.KeyAlgoRSA:
		// SHA-1 signatures are not offered.
		as, ok := signer.(ssh.AlgorithmSigner)
		if !ok {
			return k, errors.New("the RSA key cannot sign with SHA-2")
		}
		if k.signer, err = ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}); err != nil {
			return k, err
		}
	default:
		return k, fmt.Errorf("host keys of type %s are not safe any more; make one with: ssh-keygen -t ed25519 -f FILE -N ''", t)
	}
	if len(strings.TrimSpace(string(certificate))) == 0 {
		return k, nil
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(certificate)
	cert, ok := pub.(*ssh.Certificate)
	if err != nil || !ok || cert.CertType != ssh.HostCert {
		return k, errors.New("the certificate beside the key is not a host certificate")
	}
	if k.certified, err = ssh.NewCertSigner(cert, k.signer); err != nil {
		return k, errors.New("the certificate beside the key belongs to another key")
	}
	return k, nil
}

// Type is the name of the key's type, "ssh-ed25519".
func (k HostKey) Type() string { return k.signer.PublicKey().Type() }

// Offered reports whether clients are shown the key, which is when its type is
// in the list ("ssh-rsa" stands for RSA keys; they sign with SHA-2).
func (k HostKey) Offered(types []string) bool { return slices.Contains(types, k.Type()) }

// Fingerprint is what SSH clients show, "SHA256:...".
func (k HostKey) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// Line is the public key as known_hosts has it behind the host's name.
func (k HostKey) Line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// SSHFP returns the resource records of RFC 4255 and RFC 7479, without the
// name: "SSHFP 4 2 HEX". Digest 2 is SHA-256, 1 is SHA-1, which some resolvers'
// clients still ask for.
func (k HostKey) SSHFP() []string {
	algorithm := map[string]int{ssh.KeyAlgoRSA: 1, ssh.KeyAlgoECDSA256: 3, ssh.KeyAlgoECDSA384: 3, ssh.KeyAlgoECDSA521: 3, ssh.KeyAlgoED25519: 4}[k.Type()]
	raw := k.signer.PublicKey().Marshal()
	long, short := sha256.Sum256(raw), sha1.Sum(raw)
	prefix := "SSHFP " + strconv.Itoa(algorithm) + " "
	return []string{prefix + "2 " + hex.EncodeToString(long[:]), prefix + "1 " + hex.EncodeToString(short[:])}
}
