package auth

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// UserCA is the authorities whose user certificates log in, and what has been
// revoked. It does not change.
type UserCA struct {
	trusted map[string]bool // public keys in wire form
	keys    map[string]bool // revoked: fingerprints of keys, certified keys and authorities
	ids     map[string]bool // revoked: key ids of certificates
	serials []serialRange   // revoked, of whatever authority
}

type serialRange struct{ first, last uint64 }

// ParseUserCA reads a file of authorities, one public key a line, and a file
// of what is revoked, a line each: a public key, "SHA256:..." of one,
// "serial: 5", "serial: 5-9" or "id: NAME". Lines beginning with # are
// comments. Either may be empty. The error names the line.
func ParseUserCA(authorities, revoked []byte) (*UserCA, error) {
	ca := &UserCA{trusted: map[string]bool{}, keys: map[string]bool{}, ids: map[string]bool{}}
	err := eachLine(authorities, func(line string) error {
		k, err := ParseKey(line)
		if err == nil {
			ca.trusted[string(k.key.Marshal())] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("trusted_user_ca: %w", err)
	}
	if bytes.HasPrefix(revoked, []byte("SSHKRL")) {
		return nil, fmt.Errorf("revoked_keys: this is a binary list of ssh-keygen; write the text that it was made of")
	}
	if err := eachLine(revoked, ca.revoke); err != nil {
		return nil, fmt.Errorf("revoked_keys: %w", err)
	}
	return ca, nil
}

func eachLine(text []byte, f func(line string) error) error {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

func (ca *UserCA) revoke(line string) error {
	what, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case ok && what == "SHA256":
		ca.keys["SHA256:"+strings.TrimRight(value, "=")] = true
		return nil
	case ok && what == "id":
		ca.ids[value] = true
		return nil
	case ok && what == "serial":
		a, b, two := strings.Cut(value, "-")
		first, err := strconv.ParseUint(strings.TrimSpace(a), 0, 64)
		last := first
		if two && err == nil {
			last, err = strconv.ParseUint(strings.TrimSpace(b), 0, 64)
		}
		if err != nil || last < first {
			return fmt.Errorf("%q is not a serial number or a range of them", value)
		}
		ca.serials = append(ca.serials, serialRange{first, last})
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return fmt.Errorf("%q is neither a public key nor SHA256:, serial: or id:", line)
	}
	if c, is := key.(*ssh.Certificate); is {
		key = c.Key
	}
	ca.keys[ssh.FingerprintSHA256(key)] = true
	return nil
}

func (ca *UserCA) revoked(key ssh.PublicKey) bool { return ca.keys[ssh.FingerprintSHA256(key)] }

func (ca *UserCA) revokedCert(c *ssh.Certificate) bool {
	if ca.revoked(c.Key) || ca.revoked(c.SignatureKey) || ca.ids[c.KeyId] {
		return true
	}
	for _, r := range ca.serials {
		if c.Serial >= r.first && c.Serial <= r.last {
			return true
		}
	}
	return false
}
