package tlsrec

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// Wide reports whether the processor has what wide needs: 512-bit VAES and
// VPCLMULQDQ, as of AMD's Zen 4 and Intel's Ice Lake.
func Wide() bool { return hasWide }

var hasWide = cpu.X86.HasAES && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL &&
	cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ

const (
	blockLen = 16
	groupLen = 16 * blockLen
)

// wide is AES-GCM (NIST SP 800-38D) with 12-octet nonces and 16-octet tags, 16
// blocks at a time, at twice the speed of the standard library, which is its
// oracle in the tests. The assembly knows the offsets. Not for concurrent use.
type wide struct {
	rk     [15 * blockLen]byte // round keys; 11 of them with AES-128
	rounds uint64              // at 240
	_      uint64
	powers [groupLen]byte // at 256: the hash key to the 16th power down to the first, times x

	group     [groupLen]byte // scratch; holds nothing secret between calls
	hash      [groupLen]byte
	header    header
	headerSum [blockLen]byte
}

//go:noescape
func sealGroups(k *wide, dst, src *byte, groups int, ctr, sum *[16]byte)

//go:noescape
func openGroups(k *wide, dst, src *byte, groups int, ctr, sum *[16]byte)

// encryptGroup encrypts each block by itself.
//
//go:noescape
func encryptGroup(k *wide, blocks *[256]byte)

// hashGroup sets sum to the sum of the blocks times their powers.
//
//go:noescape
func hashGroup(k *wide, blocks *[256]byte, sum *[16]byte)

// substitute applies the S-box of AES to each octet, in constant time.
func substitute(w uint32) uint32

// newWide takes a key of 16 or 32 octets.
func newWide(key []byte) *wide {
	k := &wide{}
	k.expand(key)
	k.group = [groupLen]byte{}
	encryptGroup(k, &k.group) // the first block is the hash key now
	hi, lo := binary.BigEndian.Uint64(k.group[:]), binary.BigEndian.Uint64(k.group[8:])
	carry := hi >> 63
	hi, lo = hi<<1|lo>>63, lo<<1
	hi, lo = hi^carry*0xc200000000000000, lo^carry
	// Each power is the one before times the first, which alone is known yet.
	var p [groupLen]byte
	const last = groupLen - blockLen
	binary.LittleEndian.PutUint64(k.powers[last:], lo)
	binary.LittleEndian.PutUint64(k.powers[last+8:], hi)
	for at := last - blockLen; at >= 0; at -= blockLen {
		reverse(p[last:], k.powers[at+blockLen:])
		first := k.powers
		clear(k.powers[:last])
		var sum [blockLen]byte
		hashGroup(k, &p, &sum)
		k.powers = first
		reverse(k.powers[at:], sum[:])
	}
	clear(p[:])
	clear(k.group[:])
	return k
}

func reverse(dst, src []byte) {
	hi, lo := binary.BigEndian.Uint64(src), binary.BigEndian.Uint64(src[8:])
	binary.LittleEndian.PutUint64(dst, lo)
	binary.LittleEndian.PutUint64(dst[8:], hi)
}

// expand computes the round keys (FIPS 197 section 5.2).
func (k *wide) expand(key []byte) {
	nk := len(key) / 4
	k.rounds = uint64(nk + 6)
	copy(k.rk[:], key)
	rcon := uint32(1)
	for i := nk; i < 4*int(k.rounds+1); i++ {
		t := binary.BigEndian.Uint32(k.rk[4*(i-1):])
		switch {
		case i%nk == 0:
			t = substitute(bits.RotateLeft32(t, 8)) ^ rcon<<24
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case nk > 6 && i%nk == 4:
			t = substitute(t)
		}
		binary.BigEndian.PutUint32(k.rk[4*i:], t^binary.BigEndian.Uint32(k.rk[4*(i-nk):]))
	}
}

// begin returns the hash of h. Full records all have the same header.
func (k *wide) begin(h header) [blockLen]byte {
	if h != k.header {
		clear(k.hash[:])
		copy(k.hash[groupLen-blockLen:], h[:])
		hashGroup(k, &k.hash, &k.headerSum)
		k.header = h
	}
	return k.headerSum
}

// maxRest is how much rest takes: the tag needs one block of the key stream,
// the lengths one of the hash.
const maxRest = groupLen - blockLen

// rest encrypts or decrypts src, which ends the text or is whole blocks, to dst
// and adds the ciphertext to sum. Unless total, the length of the whole text, is
// negative, src is its end, and it returns the tag.
func (k *wide) rest(dst, src []byte, ctr, sum *[blockLen]byte, total int, open bool) (tag [blockLen]byte) {
	n := (len(src) + blockLen - 1) / blockLen
	next := binary.BigEndian.Uint32(ctr[12:])
	for i := range n + 1 {
		b := k.group[i*blockLen:]
		copy(b, ctr[:12])
		binary.BigEndian.PutUint32(b[12:], next+uint32(i)-1)
	}
	binary.BigEndian.PutUint32(k.group[12:], 1) // that of the tag
	binary.BigEndian.PutUint32(ctr[12:], next+uint32(n))
	encryptGroup(k, &k.group)
	clear(k.hash[:])
	at := groupLen - n*blockLen
	if total >= 0 {
		at -= blockLen
		binary.BigEndian.PutUint64(k.hash[groupLen-16:], uint64(len(header{}))*8)
		binary.BigEndian.PutUint64(k.hash[groupLen-8:], uint64(total)*8)
	}
	if open {
		copy(k.hash[at:], src)
	}
	subtle.XORBytes(dst, src, k.group[blockLen:])
	if !open {
		copy(k.hash[at:], dst[:len(src)])
	}
	subtle.XORBytes(k.hash[at:], k.hash[at:at+blockLen], sum[:])
	hashGroup(k, &k.hash, sum)
	subtle.XORBytes(tag[:], sum[:], k.group[:blockLen])
	clear(k.group[:])
	return tag
}

// last is rest for up to a group.
func (k *wide) last(dst, src []byte, ctr, sum *[blockLen]byte, total int, open bool) [blockLen]byte {
	if len(src) > maxRest {
		const half = groupLen / 2
		k.rest(dst[:half], src[:half], ctr, sum, -1, open)
		dst, src = dst[half:], src[half:]
	}
	return k.rest(dst, src, ctr, sum, total, open)
}

// seal encrypts text and then the octet typ to dst, which has room for both and
// the tag. dst may be text, octet for octet.
func (k *wide) seal(dst, text []byte, typ byte, nonce [12]byte, h header) {
	sum := k.begin(h)
	var ctr [blockLen]byte
	copy(ctr[:], nonce[:])
	ctr[15] = 2
	total := len(text) + 1
	dst = dst[:total+tagLen]
	if groups := len(text) / groupLen; groups > 0 {
		sealGroups(k, &dst[0], &text[0], groups, &ctr, &sum)
		binary.BigEndian.PutUint32(ctr[12:], 2+uint32(groups)*16)
		dst, text = dst[groups*groupLen:], text[groups*groupLen:]
	}
	var end [groupLen]byte
	n := copy(end[:], text)
	end[n] = typ
	tag := k.last(dst[:n+1], end[:n+1], &ctr, &sum, total, false)
	clear(end[:])
	copy(dst[n+1:], tag[:])
}

// open decrypts text, which ends with the tag, to dst, and reports whether the
// tag is right; if not, dst is cleared. dst may be text, octet for octet.
func (k *wide) open(dst, text []byte, nonce [12]byte, h header) bool {
	sum := k.begin(h)
	var ctr [blockLen]byte
	copy(ctr[:], nonce[:])
	ctr[15] = 2
	total := len(text) - tagLen
	want := text[total:]
	text = text[:total]
	whole := dst[:total]
	dst = whole
	if groups := (total - 1) / groupLen; groups > 0 {
		openGroups(k, &dst[0], &text[0], groups, &ctr, &sum)
		binary.BigEndian.PutUint32(ctr[12:], 2+uint32(groups)*16)
		dst, text = dst[groups*groupLen:], text[groups*groupLen:]
	}
	tag := k.last(dst, text, &ctr, &sum, total, true)
	if subtle.ConstantTimeCompare(tag[:], want) != 1 {
		clear(whole)
		return false
	}
	return true
}

// wipe forgets the key.
func (k *wide) wipe() { *k = wide{} }

func newSealer(key []byte, asWide bool) sealer {
	if asWide {
		return newWide(key)
	}
	return newStandard(key)
}
