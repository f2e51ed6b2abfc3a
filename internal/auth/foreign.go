package auth

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/GehirnInc/crypt/apr1_crypt"
	"golang.org/x/crypto/scrypt"
)

// foreign reads the hash formats that only other servers write; imported
// passwords are verified with them once and then stored anew. ok is false when
// the hash is of no such format.
//
//	$apr1$SALT$HASH            htpasswd of Apache (vsftpd with pam_pwdfile)
//	$7$...                     scrypt of libsodium (Pure-FTPd)
//	{MD5} {SHA} {SHA256} {SHA512}   digest, hex or base64 (SFTPGo, FileZilla)
//	{SSHA} {SSHA256} {SSHA512}      digest of password and salt, then the salt, base64 (RFC 2307 style)
func foreign(stored string) (match func(password string) bool, ok bool, err error) {
	switch {
	case strings.HasPrefix(stored, "$apr1$"):
		parts := strings.Split(stored, "$")
		if len(parts) != 4 || len(parts[3]) != 22 || len(parts[2]) > 8 {
			return nil, true, errors.New("apr1 has another form than $apr1$SALT$HASH")
		}
		return func(p string) bool { return apr1_crypt.New().Verify(stored, []byte(p)) == nil }, true, nil
	case strings.HasPrefix(stored, "$7$"):
		match, err := sodiumScrypt(stored)
		return match, true, err
	case strings.HasPrefix(stored, "{"):
		match, err := digestScheme(stored)
		return match, true, err
	}
	return nil, false, nil
}

var digests = map[string]struct {
	new    func() hash.Hash
	salted bool
}{
	"MD5": {md5.New, false}, "SHA": {sha1.New, false}, "SHA256": {sha256.New, false}, "SHA512": {sha512.New, false},
	"SMD5": {md5.New, true}, "SSHA": {sha1.New, true}, "SSHA256": {sha256.New, true}, "SSHA512": {sha512.New, true},
}

func digestScheme(stored string) (func(string) bool, error) {
	name, text, _ := strings.Cut(stored[1:], "}")
	d, ok := digests[strings.ToUpper(name)]
	if !ok {
		return nil, fmt.Errorf("the scheme {%.20s} is unknown", name)
	}
	size := d.new().Size()
	want, err := hex.DecodeString(text)
	if err != nil || len(text) != 2*size {
		if want, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("the digest of {%s} is neither hexadecimal nor base64", name)
		}
	}
	if len(want) < size || !d.salted && len(want) != size || len(want) > size+256 {
		return nil, fmt.Errorf("the digest of {%s} has %d octets", name, len(want))
	}
	sum, salt := want[:size], want[size:]
	return func(p string) bool {
		h := d.new()
		h.Write([]byte(p))
		h.Write(salt)
		return subtle.ConstantTimeCompare(h.Sum(nil), sum) == 1
	}, nil
}

// crypt64 is the alphabet of crypt(3), least significant six bits first.
const crypt64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// sodiumScrypt reads $7$ N r p salt $ hash: one letter for log2 N, five each
// for r and p, a salt that is used as it is written, 43 letters of hash.
func sodiumScrypt(stored string) (func(string) bool, error) {
	setting, sum, ok := strings.Cut(stored[3:], "$")
	if !ok || len(setting) < 12 || len(sum) != 43 {
		return nil, errors.New("scrypt has another form than libsodium writes")
	}
	number := func(s string) (v uint64) {
		for i := len(s) - 1; i >= 0; i-- {
			d := strings.IndexByte(crypt64, s[i])
			if d < 0 {
				return 1 << 40
			}
			v = v<<6 | uint64(d)
		}
		return v
	}
	ln, r, p := number(setting[:1]), number(setting[1:6]), number(setting[6:11])
	if ln == 0 || ln > 24 || r == 0 || r > 64 || p == 0 || p > maxLanes || (128*r<<ln)>>10 > maxMemoryKiB {
		return nil, fmt.Errorf("scrypt with ln=%d, r=%d, p=%d is above what is allowed", ln, r, p)
	}
	salt := []byte(setting[11:])
	return func(password string) bool {
		key, err := scrypt.Key([]byte(password), salt, 1<<ln, int(r), int(p), 32)
		return err == nil && subtle.ConstantTimeCompare(encode64(key), []byte(sum)) == 1
	}, nil
}

// encode64 writes groups of three octets as four letters, low bits first.
func encode64(b []byte) []byte {
	var out bytes.Buffer
	for i := 0; i < len(b); i += 3 {
		var v, bits uint32
		for j := i; j < i+3 && j < len(b); j++ {
			v |= uint32(b[j]) << bits
			bits += 8
		}
		for ; bits > 0; bits -= min(6, bits) {
			out.WriteByte(crypt64[v&63])
			v >>= 6
		}
	}
	return out.Bytes()
}
