package sshd

import "golang.org/x/crypto/ssh"

// identity is the version line (RFC 4253 section 4.2). It names no version:
// that would help nobody but an attacker.
const identity = "SSH-2.0-Portreeve"

// maxAuthTries is how many keys and passwords a client may try. An agent with
// several keys offers them all.
const maxAuthTries = 12

// policy returns the algorithms. No CBC, no SHA-1, no key exchange below 128
// bits of strength, post-quantum first. The MACs are all encrypt-then-MAC; the
// library adds strict key exchange by itself. Compatible adds what auditors
// object to and some old clients need: NIST curves, a 2048-bit group, MACs
// over the plain text.
func policy(compatible bool) ssh.ServerConfig {
	c := ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeDH16SHA512},
			Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256CTR, ssh.CipherAES192CTR, ssh.CipherAES128CTR},
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
		},
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		},
		MaxAuthTries:  maxAuthTries,
		ServerVersion: identity,
	}
	if compatible {
		c.KeyExchanges = append(c.KeyExchanges, ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521, ssh.KeyExchangeDH14SHA256)
		c.MACs = append(c.MACs, ssh.HMACSHA256, ssh.HMACSHA512)
	}
	return c
}
