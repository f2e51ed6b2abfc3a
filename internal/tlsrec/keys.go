// Package tlsrec is the record layer of TLS 1.3 (RFC 8446 section 5) for data
// connections, with AES-GCM. crypto/tls does the handshake; this takes the
// connection over when it is done, with the secrets that crypto/tls gives to
// the key log. It encrypts from the caller's block straight into what is
// written and decrypts straight into the caller's block, and uses 512-bit
// registers where the processor has them (Wide).
//
// The secrets stay in the memory of crypto/tls, and in the line it made of them
// for the key log, until these are collected; what is held here is overwritten
// by Release, but for the key schedule of the standard library's cipher.
package tlsrec

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Secrets catches the secrets of one handshake and counts the records that
// crypto/tls has sent under them: those of its tickets. It is the
// tls.Config.KeyLogWriter of that handshake's own configuration. Not for
// concurrent use, which a handshake does not make of it.
type Secrets struct {
	client, server []byte
	sent           uint64
	odd            bool // a ticket may have taken more than one record
}

// Write takes a line of the key log (the format of NSS).
func (s *Secrets) Write(line []byte) (int, error) {
	f := bytes.Fields(line)
	if len(f) == 3 {
		switch string(f[0]) {
		case "CLIENT_TRAFFIC_SECRET_0":
			s.client, _ = hex.AppendDecode(make([]byte, 0, 48), f[2])
		case "SERVER_TRAFFIC_SECRET_0":
			s.server, _ = hex.AppendDecode(make([]byte, 0, 48), f[2])
		}
	}
	return len(line), nil
}

// maxTicket is what fits into one record with the message around it.
const maxTicket = 16000

// Count has tickets counted that wrap makes; it becomes tls.Config.WrapSession.
func (s *Secrets) Count(wrap func(tls.ConnectionState, *tls.SessionState) ([]byte, error)) func(tls.ConnectionState, *tls.SessionState) ([]byte, error) {
	return func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ticket, err := wrap(cs, ss)
		s.sent++
		s.odd = s.odd || len(ticket) > maxTicket
		return ticket, err
	}
}

// Wipe overwrites the secrets.
func (s *Secrets) Wipe() {
	clear(s.client)
	clear(s.server)
}

// suite is what a cipher suite means here.
type suite struct {
	hash   crypto.Hash
	keyLen int
}

var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256: {crypto.SHA256, 16},
	tls.TLS_AES_256_GCM_SHA384: {crypto.SHA384, 32},
}

// Fits reports whether a connection whose handshake ended so can be taken over:
// TLS 1.3 with AES-GCM. In FIPS 140-3 mode none can, since only crypto/tls is
// in the module's boundary.
func (s *Secrets) Fits(cs tls.ConnectionState) bool {
	u := suites[cs.CipherSuite]
	return cs.Version == tls.VersionTLS13 && u != nil && !fips140.Enabled() && !s.odd &&
		len(s.client) == u.hash.Size() && len(s.server) == u.hash.Size()
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func (u *suite) expandLabel(secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(make([]byte, 0, 32), uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(append(append(info, "tls13 "...), label...), 0)
	out, err := hkdf.Expand(func() hash.Hash { return u.hash.New() }, secret, string(info), n)
	if err != nil {
		panic(err) // n is one of four small numbers
	}
	return out
}

// header of a record; it is what a record's tag covers beside the text.
type header [5]byte

// tagLen is what AES-GCM adds to a text.
const tagLen = 16

// sealer encrypts and decrypts records. Wide and standard are alike but for
// their speed.
type sealer interface {
	seal(dst, text []byte, typ byte, nonce [12]byte, h header)
	open(dst, text []byte, nonce [12]byte, h header) bool
	wipe()
}

// half is one direction of a connection.
type half struct {
	suite  *suite
	wide   bool
	secret []byte
	iv     []byte
	seq    uint64
	sealer sealer // nil until it is needed
}

// ready makes the keys of the secret.
func (h *half) ready() {
	if h.sealer != nil {
		return
	}
	key := h.suite.expandLabel(h.secret, "key", h.suite.keyLen)
	h.iv = h.suite.expandLabel(h.secret, "iv", 12)
	h.sealer = newSealer(key, h.wide)
	clear(key)
}

// update goes on to the next secret (RFC 8446 section 7.2).
func (h *half) update() {
	next := h.suite.expandLabel(h.secret, "traffic upd", len(h.secret))
	h.wipe()
	h.secret, h.seq = next, 0
	h.ready()
}

// nonce is that of the next record (RFC 8446 section 5.3).
func (h *half) nonce() (n [12]byte) {
	binary.BigEndian.PutUint64(n[4:], h.seq)
	h.seq++
	for i := range n {
		n[i] ^= h.iv[i]
	}
	return n
}

func (h *half) wipe() {
	clear(h.secret)
	clear(h.iv)
	if h.sealer != nil {
		h.sealer.wipe()
		h.sealer = nil
	}
}

// standard is the standard library's AES-GCM.
type standard struct{ aead cipher.AEAD }

func newStandard(key []byte) *standard {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the length is one of two
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return &standard{g}
}

func (s *standard) seal(dst, text []byte, typ byte, nonce [12]byte, h header) {
	n := copy(dst, text)
	dst[n] = typ
	s.aead.Seal(dst[:0], nonce[:], dst[:n+1], h[:])
}

func (s *standard) open(dst, text []byte, nonce [12]byte, h header) bool {
	_, err := s.aead.Open(dst[:0:len(text)-tagLen], nonce[:], text, h[:])
	return err == nil
}

func (s *standard) wipe() { s.aead = nil }
