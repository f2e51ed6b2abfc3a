package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"image"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// Codes by time (RFC 6238) as every authenticator application makes them: six
// digits of HMAC-SHA-1, a new one every 30 seconds. A clock may be one step off.
const (
	codeDigits = 6
	codePeriod = 30 // seconds
	codeSkew   = 1  // steps
)

// TOTP is a new secret.
type TOTP struct {
	Secret string // base32, to type in
	URI    string // otpauth://..., what a QR code shows
}

// NewTOTP makes a secret of 160 random bits for an account.
func NewTOTP(issuer, name string) (TOTP, error) {
	k, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: name, Period: codePeriod, SecretSize: 20,
		Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return TOTP{}, fmt.Errorf("make a TOTP secret: %w", err)
	}
	return TOTP{Secret: k.Secret(), URI: k.URL()}, nil
}

// QR draws a URI for a terminal of dark background, two modules to a character.
func QR(uri string) (string, error) {
	k, err := otp.NewKeyFromURL(uri)
	if err != nil {
		return "", err
	}
	img, err := drawn(k)
	if err != nil {
		return "", err
	}
	const quiet = 2 // modules of light border; a phone needs some, the standard says 4
	side := img.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= side || y >= side {
			return true
		}
		r, _, _, _ := img.At(x, y).RGBA()
		return r > 0x7fff
	}
	var b strings.Builder
	for y := -quiet; y < side+quiet; y += 2 {
		for x := -quiet; x < side+quiet; x++ {
			switch top, bottom := light(x, y), light(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// drawn returns the code with one pixel for a module: the library refuses
// sizes that are too small, and leaves a border on those that are too large.
func drawn(k *otp.Key) (image.Image, error) {
	var err error
	for side := 21; side <= 177; side += 4 { // QR versions 1 to 40
		var img image.Image
		if img, err = k.Image(side, side); err == nil {
			return img, nil
		}
	}
	return nil, fmt.Errorf("draw a QR code: %w", err)
}

// matchCode finds the step whose code was given, the nearest to now first.
func matchCode(secret, code string, now time.Time) (step int64, ok bool) {
	if len(code) != codeDigits {
		return 0, false
	}
	at := now.Unix() / codePeriod
	for _, d := range [...]int64{0, -codeSkew, codeSkew} {
		want, err := hotp.GenerateCodeCustom(secret, uint64(at+d), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return at + d, true
		}
	}
	return 0, false
}

// Recovery codes are four groups of four letters and digits: 80 random bits, so
// that a hash without salt can stand for them.
const (
	recoveryCodes  = 10
	recoveryGroups = 4
	recoveryLen    = recoveryGroups*5 - 1
)

var recoveryAlphabet = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewRecovery makes recovery codes and the hashes that are kept of them.
func NewRecovery() (codes, hashes []string) {
	for range recoveryCodes {
		var b [recoveryGroups * 4 * 5 / 8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		s := strings.ToLower(recoveryAlphabet.EncodeToString(b[:]))
		code := s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
		codes, hashes = append(codes, code), append(hashes, RecoveryHash(code))
	}
	return codes, hashes
}

// RecoveryHash is what is kept of a recovery code. Case, hyphens and spaces do not count.
func RecoveryHash(code string) string {
	sum := sha256.Sum256([]byte(strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))))
	return hex.EncodeToString(sum[:])
}

// splitCode takes the code from the end of a password that was sent with one.
func splitCode(joined string) (secret, code string, ok bool) {
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	if n := len(joined) - codeDigits; n >= 0 && digits(joined[n:]) {
		return joined[:n], joined[n:], true
	}
	if n := len(joined) - recoveryLen; n >= 0 && joined[n+4] == '-' && joined[n+9] == '-' && joined[n+14] == '-' {
		return joined[:n], joined[n:], true
	}
	return joined, "", false
}

// TOTPCode returns the code of a secret at a time, as an authenticator shows it.
func TOTPCode(secret string, at time.Time) (string, error) {
	return totp.GenerateCodeCustom(secret, at, totp.ValidateOpts{Period: codePeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// CheckCode says whether a code is right for a secret. step marks the time
// step of it as used and recovery uses up a recovery code; each says false
// when that had happened before, which refuses the code.
func CheckCode(secret, code string, now time.Time, step func(int64) (bool, error), recovery func(hash string) (bool, error)) (bool, error) {
	code = strings.TrimSpace(code)
	if secret == "" {
		return false, nil
	}
	if len(strings.NewReplacer("-", "", " ", "").Replace(code)) == recoveryGroups*4 {
		return recovery(RecoveryHash(code))
	}
	at, ok := matchCode(secret, strings.ReplaceAll(code, " ", ""), now)
	if !ok {
		return false, nil
	}
	return step(at)
}
