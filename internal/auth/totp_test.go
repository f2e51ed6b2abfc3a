package auth

import (
	"strings"
	"testing"
	"time"
)

// TestCodes are the vectors of RFC 6238 appendix B for SHA-1, cut to six digits.
func TestCodes(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // "12345678901234567890"
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got, err := TOTPCode(secret, time.Unix(at, 0)); got != want || err != nil {
			t.Errorf("code at %d: %s, %v, want %s", at, got, err, want)
		}
		for d, ok := range map[int64]bool{-60: false, -30: true, 0: true, 30: true, 60: false} {
			if at+d < 0 {
				continue
			}
			step, match := matchCode(secret, want, time.Unix(at+d, 0))
			if match != ok || match && step != at/30 {
				t.Errorf("code of %d, %d s later: step %d, %v", at, d, step, match)
			}
		}
	}
	if _, ok := matchCode(secret, "", time.Unix(59, 0)); ok {
		t.Error("an empty code is right")
	}
}

func TestSplitCode(t *testing.T) {
	for in, want := range map[string][2]string{
		"secret123456":                 {"secret", "123456"},
		"12345678":                     {"12", "345678"},
		"secret":                       {"secret", ""},
		"":                             {"", ""},
		"12345":                        {"12345", ""},
		"pass wordabcd-efgh-ijkl-mnop": {"pass word", "abcd-efgh-ijkl-mnop"},
		"secretabcd-efgh-ijkl-234567":  {"secretabcd-efgh-ijkl-", "234567"}, // six digits are a code; recovery codes have four behind the last hyphen
		"secretabcd-efgh-ijkl-2345":    {"secret", "abcd-efgh-ijkl-2345"},
		"secret١٢٣٤٥٦":                 {"secret١٢٣٤٥٦", ""},
	} {
		secret, code, ok := splitCode(in)
		if secret != want[0] || code != want[1] || ok != (want[1] != "") {
			t.Errorf("splitCode(%q) = %q, %q, %v", in, secret, code, ok)
		}
	}
}

func TestNewTOTP(t *testing.T) {
	k, err := NewTOTP("Portreeve", "ann@example.org")
	if err != nil || len(k.Secret) != 32 || !strings.HasPrefix(k.URI, "otpauth://totp/Portreeve:ann@example.org?") {
		t.Fatalf("%+v, %v", k, err)
	}
	qr, err := QR(k.URI)
	lines := strings.Split(strings.TrimSpace(qr), "\n")
	if err != nil || len(lines) < 12 || !strings.Contains(qr, "█") {
		t.Fatalf("%v\n%s", err, qr)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n != len([]rune(lines[0])) {
			t.Fatalf("a line of %d characters:\n%s", n, qr)
		}
	}
	codes, hashes := NewRecovery()
	seen := map[string]bool{}
	for i, c := range codes {
		if len(c) != recoveryLen || seen[c] || hashes[i] != RecoveryHash(strings.ToUpper(strings.ReplaceAll(c, "-", " "))) {
			t.Errorf("code %q", c)
		}
		seen[c] = true
	}
	if len(codes) != recoveryCodes || len(hashes) != recoveryCodes {
		t.Errorf("%d codes, %d hashes", len(codes), len(hashes))
	}
}

func TestPolicy(t *testing.T) {
	p := Policy{MinLength: 8, RefuseCommon: true}
	for _, bad := range []string{"short", "größer1", "password", "PassWord", "password!", "Welcome2027", "aaaaaaaa", "12345678", "87654321", "abcdefgh", "johndoe1", "JohnDoe!!", "qwertyuiop"} {
		if p.Check("johndoe", bad) == nil {
			t.Errorf("%q is allowed", bad)
		}
	}
	for _, good := range []string{"correct horse", "Zürich-7-Uhr", "wq9zzkL1", RandomPassword(), "12345679810"} {
		if err := p.Check("johndoe", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if err := (Policy{}).Check("a", "a"); err != nil {
		t.Error("no policy:", err)
	}
}
