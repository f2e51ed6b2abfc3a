package tlsrec

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
)

// oracle is the standard library's AES-GCM.
func oracle(t testing.TB, key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func needWide(t testing.TB) {
	if !Wide() {
		t.Skip("this processor has no 512-bit VAES")
	}
}

func random(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

// TestWideEqualsStandard: every length around the borders of blocks and groups,
// and those of records, both key sizes, out of place and in place.
func TestWideEqualsStandard(t *testing.T) {
	needWide(t)
	r := rand.NewChaCha8([32]byte{7})
	for _, keyLen := range []int{16, 32} {
		for range 4 {
			key := random(r, keyLen)
			std, k := oracle(t, key), newWide(key)
			lengths := []int{16383, 16384, 16385, 8192, 4096, 1000}
			for n := range 3*groupLen + 40 {
				lengths = append(lengths, n)
			}
			for _, n := range lengths {
				nonce, h := [12]byte(random(r, 12)), header(random(r, 5))
				if n%3 == 0 {
					h = header{23, 3, 3, 64, 17}
				}
				text, typ := random(r, n), byte(n)
				want := std.Seal(nil, nonce[:], append(bytes.Clone(text), typ), h[:])
				got := make([]byte, n+1+tagLen)
				k.seal(got, text, typ, nonce, h)
				if !bytes.Equal(got, want) {
					t.Fatalf("AES-%d, %d octets: sealed otherwise than the standard library", keyLen*8, n)
				}
				in := append(bytes.Clone(text), make([]byte, 1+tagLen)...)
				k.seal(in, in[:n], typ, nonce, h)
				if !bytes.Equal(in, want) {
					t.Fatalf("AES-%d, %d octets: sealed in place otherwise", keyLen*8, n)
				}
				back := make([]byte, n+1)
				if !k.open(back, want, nonce, h) || !bytes.Equal(back[:n], text) || back[n] != typ {
					t.Fatalf("AES-%d, %d octets: opened otherwise", keyLen*8, n)
				}
				if !k.open(in, in, nonce, h) || !bytes.Equal(in[:n], text) {
					t.Fatalf("AES-%d, %d octets: opened in place otherwise", keyLen*8, n)
				}
				bad := bytes.Clone(want)
				bad[r.Uint64()%uint64(len(bad))] ^= 1 << (r.Uint64() % 8)
				if k.open(back, bad, nonce, h) {
					t.Fatalf("AES-%d, %d octets: one bit was changed and it opened", keyLen*8, n)
				}
				if !bytes.Equal(back, make([]byte, n+1)) {
					t.Fatalf("AES-%d, %d octets: what failed was left to be read", keyLen*8, n)
				}
				if n == 0 { // no text at all, not even a type
					bare := std.Seal(nil, nonce[:], nil, h[:])
					if !k.open(nil, bare, nonce, h) {
						t.Fatalf("AES-%d: an empty text was not opened", keyLen*8)
					}
				}
				h[3] ^= 1
				if k.open(back, want, nonce, h) {
					t.Fatalf("AES-%d, %d octets: opened with another header", keyLen*8, n)
				}
			}
		}
	}
}

// TestKeyExpansion checks the round keys of FIPS 197, appendices A.1 and A.3.
func TestKeyExpansion(t *testing.T) {
	needWide(t)
	for key, last := range map[string]string{
		"2b7e151628aed2a6abf7158809cf4f3c":                                 "d014f9a8c9ee2589e13f0cc8b6630ca6",
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": "fe4890d1e6188d0b046df344706c631e",
	} {
		raw, _ := hex.DecodeString(key)
		k := newWide(raw)
		if got := hex.EncodeToString(k.rk[k.rounds*16:][:16]); got != last {
			t.Errorf("%s: last round key %s, want %s", key, got, last)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, keyLen := range []int{16, 32} {
		key, text := make([]byte, keyLen), make([]byte, 16<<10)
		dst := make([]byte, len(text)+1+tagLen)
		h := header{23, 3, 3, 64, 17}
		b.Run(fmt.Sprintf("AES-%d/wide", keyLen*8), func(b *testing.B) {
			needWide(b)
			k := newWide(key)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				k.seal(dst, text, 23, [12]byte{}, h)
			}
		})
		b.Run(fmt.Sprintf("AES-%d/standard", keyLen*8), func(b *testing.B) {
			std := oracle(b, key)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				std.Seal(dst[:0], make([]byte, 12), text, h[:])
			}
		})
		b.Run(fmt.Sprintf("AES-%d/key", keyLen*8), func(b *testing.B) {
			needWide(b)
			for b.Loop() {
				newWide(key)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	key, text := make([]byte, 16), make([]byte, 16<<10)
	h := header{23, 3, 3, 64, 17}
	sealed := make([]byte, len(text)+1+tagLen)
	back := make([]byte, len(text)+1)
	std := oracle(b, key)
	std.Seal(sealed[:0], make([]byte, 12), append(text, 23), h[:])
	b.Run("wide", func(b *testing.B) {
		needWide(b)
		k := newWide(key)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if !k.open(back, sealed, [12]byte{}, h) {
				b.Fatal("not opened")
			}
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := std.Open(back[:0], make([]byte, 12), sealed, h[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
