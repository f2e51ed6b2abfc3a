package sshd

import (
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// announceHostKeys tells the client all host keys, so that it knows the new
// one before the old one goes (PROTOCOL of OpenSSH, section 2.5).
func (c *conn) announceHostKeys() {
	var keys []byte
	for _, k := range c.s.opt.HostKeys {
		if k.Offered(c.s.opt.Algorithms.HostKeys) {
			keys = append(keys, ssh.Marshal(struct{ K []byte }{k.signer.PublicKey().Marshal()})...)
		}
	}
	c.ssh.SendRequest("hostkeys-00@openssh.com", false, keys)
}

// proveHostKeys signs for the keys that the client has not seen before.
func (c *conn) proveHostKeys(r *ssh.Request) {
	var answer []byte
	d := decoder{b: r.Payload}
	for n := 0; len(d.b) > 0 && n < 16; n++ {
		want := d.bytes()
		sig := c.hostSignature(want)
		if d.bad || sig == nil {
			r.Reply(false, nil)
			return
		}
		answer = append(answer, ssh.Marshal(struct{ S []byte }{ssh.Marshal(sig)})...)
	}
	r.Reply(len(answer) > 0, answer)
}

func (c *conn) hostSignature(key []byte) *ssh.Signature {
	for _, k := range c.s.opt.HostKeys {
		pub := k.signer.PublicKey()
		if string(pub.Marshal()) != string(key) || !k.Offered(c.s.opt.Algorithms.HostKeys) {
			continue
		}
		text := ssh.Marshal(struct {
			Name    string
			Session []byte
			Key     []byte
		}{"hostkeys-prove-00@openssh.com", c.ssh.SessionID(), key})
		algorithm := pub.Type()
		if algorithm == ssh.KeyAlgoRSA {
			algorithm = ssh.KeyAlgoRSASHA512
		}
		as, ok := k.signer.(ssh.AlgorithmSigner)
		if !ok {
			return nil
		}
		sig, err := as.SignWithAlgorithm(rand.Reader, text, algorithm)
		if err != nil {
			return nil
		}
		return sig
	}
	return nil
}
