package importer

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// ab64 is base64 as passlib writes it in PBKDF2 hashes.
func ab64(b []byte) string {
	return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(b), "+", ".")
}

// unbase64 reads base64 with or without padding.
func unbase64(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// pbkdf2 writes a hash in the form that auth reads.
func pbkdf2(digest string, rounds int, salt, key []byte) string {
	return fmt.Sprintf("$pbkdf2-%s$%d$%s$%s", digest, rounds, ab64(salt), ab64(key))
}

// saltedSHA512 turns FileZilla's SHA512(password + salt), in hexadecimal, into {SSHA512}.
func saltedSHA512(digest, salt string) (string, error) {
	b, err := hex.DecodeString(digest)
	if err != nil || len(b) != 64 {
		return "", fmt.Errorf("the password is not a SHA-512 digest of 128 hexadecimal digits")
	}
	return "{SSHA512}" + base64.StdEncoding.EncodeToString(append(b, salt...)), nil
}
