package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// cheap keeps the tests fast; the defaults are tested where they matter.
var cheap = Params{MemoryKiB: 64, Passes: 1, Lanes: 1}

func newHasher(t testing.TB, o HasherOptions) *Hasher {
	t.Helper()
	if o.Params == (Params{}) {
		o.Params = cheap
	}
	h, err := NewHasher(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The vectors were made by other implementations: libxcrypt's crypt(3), the
// argon2 reference tests, Python's hashlib.
func TestVerifyFormats(t *testing.T) {
	const pw = "Größe & Maß"
	tests := []struct{ name, hash, password string }{
		{"argon2id", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
		{"argon2i", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", "password"},
		{"md5crypt", "$1$saltsalt$E7tuPffYxMbt4fMfdM.LA.", pw},
		{"sha256crypt", "$5$saltstring$p6gQR0jAikvMztWGitN9A90KLlwBMyr3PNfr9Ve6Gb2", pw},
		{"sha256crypt rounds", "$5$rounds=10000$saltstringsaltst$9YWmciVLRCkucM4fFFtTakv/VXbv9poMibJRAbgR1b7", pw},
		{"sha512crypt", "$6$saltstring$8E/NKpyGJe4UXu4MbR1SiWCEWSvUY3XIrrC0Xfx5/DFpQTt3qbBls/fyhVht.HjuUfPcqts7egJQUANvlyWxq0", pw},
		{"sha512crypt rounds", "$6$rounds=5000$toolongsaltstrin$B7u9kBAGsHFruKIAAcciiDdmaUdfTZynHyyAQnqVwbt9HijQYoHsVcF0KLNaNdg0wqoBVSre6ORdqd4OAoYVM0", pw},
		{"yescrypt", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$Pu6Pt3ZjGXqzaBsnvVgtWx5GKL1x37C1MoamAUiSVf3", pw},
		{"yescrypt small", "$y$j75$z7ztFz2FayrKI79/jEwlL.$enZygWw3gm..KM7aJkqNGFUbImPmIUFj.wz5TMv/465", pw},
		{"bcrypt 2b", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.7vGxMiLjFzNntEHfr5kpGzCutJOdGQS", pw},
		{"bcrypt 2y", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.7vGxMiLjFzNntEHfr5kpGzCutJOdGQS", pw},
		{"bcrypt 2a", "$2a$04$abcdefghijklmnopqrstuuhZ0uXKhyp.JAl8plNgbTsU9zIIReQDS", pw},
		{"pbkdf2 sha1", "$pbkdf2$1000$AAECAwQFBgcICQoLDA0ODw$ra1ap2WGwDeLEVbTWik/mnmLHQQ", pw},
		{"pbkdf2 sha256", "$pbkdf2-sha256$1000$AAECAwQFBgcICQoLDA0ODw$jhna4Fe/zQqA/Ht4nA5cvTaUjKI3QLeUh4kZfrLcr/Y", pw},
		{"pbkdf2 sha512", "$pbkdf2-sha512$1000$AAECAwQFBgcICQoLDA0ODw$Hqhz04iihPWlT7OqU0VhoAYzYQNlSMZGMSa/MhMcHAhTvkIYfEwdvuuMbPGB7nM4SFUy61p6iRIvHRqmLzADcQ", pw},
		{"scrypt", "$scrypt$ln=12,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$WGS2jtDcaFLDmkFXEM9YnSFB70W16ZoQgz7V0w6uJB4", pw},
	}
	h := newHasher(t, HasherOptions{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := h.Check(tt.hash); err != nil {
				t.Errorf("Check = %v", err)
			}
			for password, want := range map[string]bool{tt.password: true, tt.password + "x": false, strings.ToUpper(tt.password): false, "": false} {
				if got, err := h.Verify(t.Context(), tt.hash, password); got != want || err != nil {
					t.Errorf("Verify(%q) = %v, %v; want %v", password, got, err, want)
				}
			}
			if strings.HasPrefix(tt.name, "argon2id") == h.Outdated(tt.hash) {
				t.Errorf("Outdated = %v", h.Outdated(tt.hash))
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	for _, hash := range []string{
		"x", "*", "!", "!$6$saltstring$abc", "secret", "$", "$$", "$$$", "$1", "$1$", "$1$a", "$9$a$b", "$apr1$saltsalt$abc",
		"$plaintext$secret", "$2b$05$", "$2b$05$short", "$2b$xx$CCCCCCCCCCCCCCCCCCCCC.7vGxMiLjFzNntEHfr5kpGzCutJOdGQS",
		"$argon2id$v=19$m=64,t=1,p=1$!!$!!", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$", "$argon2id$v=18$m=64,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHQ",
		"$y$", "$y$j9T$", "$y$j9T$salt$", "$y$zzz$salt$key", "$scrypt$ln=99$AAEC$AAEC", "$pbkdf2$x$AAEC$AAEC",
		// cost bombs
		"$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=64,t=4000000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$m=4194304,t=1,p=1$v=19$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$scrypt$ln=24,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$WGS2jtDcaFLDmkFXEM9YnSFB70W16ZoQgz7V0w6uJB4",
		"$scrypt$ln=12,r=8,p=0$AAECAwQFBgcICQoLDA0ODw$WGS2jtDcaFLDmkFXEM9YnSFB70W16ZoQgz7V0w6uJB4",
		"$y$jzT$F5Jx5fExrKuPp53xLKQ..1$Pu6Pt3ZjGXqzaBsnvVgtWx5GKL1x37C1MoamAUiSVf3",
		"$2b$31$CCCCCCCCCCCCCCCCCCCCC.7vGxMiLjFzNntEHfr5kpGzCutJOdGQS",
		"$bcrypt-sha256$v=2,t=2b,r=31$CCCCCCCCCCCCCCCCCCCCC.$7vGxMiLjFzNntEHfr5kpGzCutJOdGQS",
		"$pbkdf2-sha256$999999999$AAECAwQFBgcICQoLDA0ODw$jhna4Fe/zQqA/Ht4nA5cvTaUjKI3QLeUh4kZfrLcr/Y",
		"$6$rounds=999999999$salt$8E/NKpyGJe4UXu4MbR1SiWCEWSvUY3XIrrC0Xfx5",
	} {
		began := time.Now()
		got, err := h.Verify(t.Context(), hash, "secret")
		if got || fault.KindOf(err) != fault.Unsupported {
			t.Errorf("Verify(%q) = %v, %v; want fault.Unsupported", hash, got, err)
		}
		if err != nil && len(hash) > 30 && strings.Contains(err.Error(), hash[len(hash)-20:]) {
			t.Errorf("the error shows the hash: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%q took %v", hash, took)
		}
	}
	// An empty hash is no password at all, not an unreadable one.
	if got, err := h.Verify(t.Context(), "", "secret"); got || err != nil {
		t.Errorf("empty hash: %v, %v", got, err)
	}
}

func FuzzDecodeHash(f *testing.F) {
	for _, s := range []string{"", "$1$a$b", "$y$j75$a$b", "$2b$05$x", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "$scrypt$ln=4,r=1,p=1$AAEC$AAEC",
		"$pbkdf2$1$AA$AA", "$5$rounds=1$a$b", "{CRYPT}$1$a$b", "$bcrypt-sha256$v=2,t=2b,r=4$a$b"} {
		f.Add(s)
	}
	h := newHasher(f, HasherOptions{})
	f.Fuzz(func(t *testing.T, s string) {
		if err := h.Check(s); err != nil && fault.KindOf(err) != fault.Unsupported {
			t.Fatalf("Check(%q) = %v", s, err)
		}
	})
}

func TestHash(t *testing.T) {
	h := newHasher(t, HasherOptions{Params: DefaultParams})
	a, err := h.Hash(t.Context(), "secret")
	if err != nil || !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("Hash = %q, %v", a, err)
	}
	b, err := h.Hash(t.Context(), "secret")
	if err != nil || a == b {
		t.Errorf("two hashes of one password are equal: %v", err)
	}
	if ok, err := h.Verify(t.Context(), a, "secret"); !ok || err != nil {
		t.Errorf("Verify = %v, %v", ok, err)
	}
	if h.Outdated(a) {
		t.Error("a new hash is called outdated")
	}
	if weak, err := newHasher(t, HasherOptions{}).Hash(t.Context(), "secret"); err != nil || !h.Outdated(weak) {
		t.Errorf("a cheaper hash is not called outdated: %v", err)
	}
	for _, password := range []string{"", strings.Repeat("x", MaxPassword+1), "a\x00b"} {
		if _, err := h.Hash(t.Context(), password); fault.KindOf(err) != fault.Invalid {
			t.Errorf("Hash of a bad password (%d octets) = %v", len(password), err)
		}
	}
	long := strings.Repeat("x", MaxPassword)
	if a, err = h.Hash(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	if ok, _ := h.Verify(t.Context(), a, long); !ok {
		t.Error("the longest password does not match")
	}
	if ok, err := h.Verify(t.Context(), a, long+"x"); ok || err != nil {
		t.Errorf("a too long password: %v, %v", ok, err)
	}
}

func TestSlots(t *testing.T) {
	h := newHasher(t, HasherOptions{Slots: 2, Wait: 50 * time.Millisecond})
	h.slots <- struct{}{}
	h.slots <- struct{}{}
	hash := h.dummy
	began := time.Now()
	_, err := h.Verify(t.Context(), hash, "x")
	if fault.KindOf(err) != fault.Limit || !strings.Contains(err.Error(), "busy, try again") || time.Since(began) < 50*time.Millisecond {
		t.Errorf("no slot: %v after %v", err, time.Since(began))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Verify(ctx, hash, "x"); fault.KindOf(err) != fault.Canceled {
		t.Errorf("ended context: %v", err)
	}
	<-h.slots
	<-h.slots
	// However it ends, a slot must come back.
	for range 20 {
		_, _ = h.Verify(t.Context(), "nonsense", "x")
		_, _ = h.Verify(ctx, hash, "x")
		if _, err := compute(t.Context(), h, func() (int, error) { panic("x") }); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("panic = %v", err)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(h.slots) > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if len(h.slots) != 0 {
		t.Errorf("%d slots are lost", len(h.slots))
	}
}

func TestSlotsBoundConcurrency(t *testing.T) {
	h := newHasher(t, HasherOptions{Slots: 2, Wait: 10 * time.Second})
	var mu sync.Mutex
	running, most := 0, 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := compute(t.Context(), h, func() (int, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
				mu.Lock()
				running--
				mu.Unlock()
				return 0, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 2 {
		t.Errorf("%d ran at once, want 2", most)
	}
}

func TestNewHasherRefuses(t *testing.T) {
	if _, err := NewHasher(HasherOptions{Params: Params{MemoryKiB: 1, Passes: 1, Lanes: 1}}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("1 KiB of memory: %v", err)
	}
}

func TestRandomPassword(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]int{}
	for range 1000 {
		p := RandomPassword()
		if len(p) != 24 || seen[p] || strings.ContainsAny(p, "01lo") {
			t.Fatalf("RandomPassword = %q", p)
		}
		seen[p] = true
		for _, c := range p {
			letters[c]++
		}
	}
	if len(letters) != 32 {
		t.Errorf("%d different letters, want 32", len(letters))
	}
}

func TestReasonText(t *testing.T) {
	err := bad("the account is disabled")
	if !errors.Is(err, ErrBad) || err.Error() != ErrBad.Error() || Reason(err) != "the account is disabled" || fault.KindOf(err) != fault.Login {
		t.Errorf("refusal: %v, reason %q, kind %v", err, Reason(err), fault.KindOf(err))
	}
	if Reason(ErrBad) != "" || Reason(nil) != "" {
		t.Error("a reason out of nothing")
	}
}

// TestStandIn: an unknown user costs what a known one with a new password does.
func TestStandIn(t *testing.T) {
	h := newHasher(t, HasherOptions{})
	if h.Outdated(h.dummy) {
		t.Errorf("the stand-in %s has another cost than new passwords", h.dummy)
	}
	if ok, err := h.Verify(t.Context(), h.dummy, "secret"); ok || err != nil {
		t.Errorf("a password matches the stand-in: %v, %v", ok, err)
	}
	if standIn(DefaultParams) == standIn(DefaultParams) {
		t.Error("the stand-in is always the same")
	}
}
