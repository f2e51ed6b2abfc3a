package tlsrec

import (
	"bytes"
	"testing"
)

// script reads a fuzzer's octets as what is to be done.
type script struct{ b []byte }

func (s *script) one() int {
	if len(s.b) == 0 {
		return 0
	}
	n := s.b[0]
	s.b = s.b[1:]
	return int(n)
}

func (s *script) two() int { return s.one()<<8 | s.one() }

func (s *script) some() []byte {
	n := min(s.one(), len(s.b))
	p := s.b[:n]
	s.b = s.b[n:]
	return p
}

// step has p send something. It reports whether we may be stricter than
// crypto/tls from here on (see stricter): in sealed records of odd types, and
// in handshake messages that are no KeyUpdate or come in pieces.
func (s *script) step(p *peer) (odd bool) {
	at := p.sent.Len()
	switch s.one() % 12 {
	case 0:
		p.record(typeData, typeData, make([]byte, s.two()%16700), 0)
	case 1:
		p.record(typeData, typeData, s.some(), s.two()%16700)
	case 2:
		p.update(byte(s.one() % 2))
	case 3:
		inner := s.some()
		last := bytes.TrimRight(inner, "\x00")
		odd = len(inner) == 0 || len(last) > 0 && last[len(last)-1] != typeData && last[len(last)-1] != typeAlert
		p.raw(typeData, inner)
	case 4:
		p.sent.Write([]byte{typeChangeCipherSpec, 3, 3, 0, 1, byte(s.one() % 3)})
	case 5:
		p.record(typeData, typeAlert, []byte{byte(s.one()), byte(s.one())}, s.one())
	case 6:
		p.record(typeData, typeData, s.some(), 0)
		p.sent.Bytes()[at+s.two()%(p.sent.Len()-at)] ^= 1 << (s.one() % 8)
		odd = p.sent.Bytes()[at] == typeChangeCipherSpec
	case 7:
		m := s.some()
		odd = !(len(m) == 5 && m[0] == typeKeyUpdate && m[1] == 0 && m[2] == 0 && m[3] == 1) && len(m) != 0
		p.record(typeData, typeHandshake, m, 0)
		if !odd && len(m) == 5 && m[4] < 2 {
			p.out.update()
		}
	case 8:
		p.sent.Write(s.some())
	case 9:
		p.sent.Truncate(p.sent.Len() - s.two()%(p.sent.Len()+1))
	case 10:
		p.record(byte(s.one()), typeData, s.some(), 0)
		odd = p.sent.Bytes()[at] == typeChangeCipherSpec
	case 11:
		p.record(typeData, byte(s.one()), nil, 0)
		odd = true
	}
	return odd
}

// FuzzReadsAsCryptoTLS: whatever comes, Conn takes the same data as crypto/tls,
// finds the same end and sends the same octets back.
func FuzzReadsAsCryptoTLS(f *testing.F) {
	f.Add([]byte{0, 64, 0, 1, 3, 'a', 'b', 'c', 0, 100, 2, 1, 0, 0, 9, 5, 1, 0, 0})
	f.Add([]byte{2, 1, 2, 1, 4, 1, 4, 1, 0, 65, 1})
	f.Add([]byte{3, 3, 1, 23, 0, 7, 5, 24, 0, 0, 1, 1, 6, 4, 1, 2, 3, 4, 0, 9, 3})
	f.Add([]byte{0, 1, 0, 9, 0, 3, 10, 23, 1, 7, 8, 3, 23, 3, 3})
	f.Add([]byte{5, 1, 90, 0, 11, 22, 5, 2, 40, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		sh := shake(t)
		p := newPeer(sh.secrets, sh.state)
		s := &script{in}
		step, finish := 1+s.two(), s.one()%4 != 0
		odd := false
		for i := 0; len(s.b) > 0 && i < 100; i++ {
			odd = s.step(p) || odd
		}
		if finish {
			p.record(typeData, typeAlert, []byte{1, 0}, 0)
		}
		want := theirs(sh, p.sent.Bytes())
		for _, wide := range []bool{false, Wide()} {
			got := ours(sh, p.sent.Bytes(), step, wide)
			if odd && !got.good && bytes.HasPrefix(want.data, got.data) {
				continue
			}
			compare(t, "the same octets", got, want)
		}
	})
}

// FuzzWritesForCryptoTLS: whatever is written, in whatever pieces and with keys
// that change whenever, crypto/tls reads it.
func FuzzWritesForCryptoTLS(f *testing.F) {
	f.Add([]byte{9, 0, 64, 0, 1, 64, 1, 0, 255, 255}, uint16(3))
	f.Add([]byte{0, 0, 1, 1, 0, 0, 2, 1, 0, 3, 0, 0}, uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, after uint16) {
		was := updateAfter
		updateAfter = max(1, uint64(after))
		defer func() { updateAfter = was }()
		sh := shake(t)
		s := &script{in}
		raw := &stream{Reader: bytes.NewReader(nil)}
		c := New(raw, sh.state, sh.secrets, nil, Wide() && len(in)%2 == 0)
		defer c.Release()
		var want []byte
		for i := 0; len(s.b) > 0 && i < 40; i++ {
			how, n := s.one(), s.two()
			if how&2 != 0 {
				n *= 8
			}
			p := bytes.Repeat([]byte{byte(how), byte(i)}, n/2+1)[:n]
			send := c.Write
			if how&1 != 0 {
				send = c.Hold
			}
			if k, err := send(p); k != n || err != nil {
				t.Fatalf("wrote %d of %d: %v", k, n, err)
			}
			want = append(want, p...)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, good := received(t, sh, raw.out.Bytes())
		if !bytes.Equal(got, want) || !good {
			t.Fatalf("%d octets of %d arrived, a good end %v", len(got), len(want), good)
		}
	})
}

// FuzzWide: AES-GCM on 512-bit registers and that of the standard library agree.
func FuzzWide(f *testing.F) {
	f.Add(make([]byte, 16), make([]byte, 12), []byte("text"), byte(23), true)
	f.Add(make([]byte, 32), make([]byte, 12), make([]byte, 1000), byte(0), false)
	f.Fuzz(func(t *testing.T, key, nonce, text []byte, typ byte, long bool) {
		needWide(t)
		n := 16
		if long {
			n = 32
		}
		key, nonce = append(key, make([]byte, n)...)[:n], append(nonce, make([]byte, 12)...)[:12]
		text = bytes.Repeat(text, 1+int(typ)%20)
		text = text[:min(len(text), maxText)]
		h := header{23, 3, 3, byte(len(text) >> 8), byte(len(text))}
		a, b := make([]byte, len(text)+1+tagLen), make([]byte, len(text)+1+tagLen)
		k, s := newWide(key), newStandard(key)
		k.seal(a, text, typ, [12]byte(nonce), h)
		s.seal(b, text, typ, [12]byte(nonce), h)
		if !bytes.Equal(a, b) {
			t.Fatal("sealed otherwise than the standard library")
		}
		if !k.open(a, a, [12]byte(nonce), h) || !bytes.Equal(a[:len(text)], text) || a[len(text)] != typ {
			t.Fatal("opened otherwise")
		}
	})
}
