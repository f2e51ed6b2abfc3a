package tlsrec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// stream is one end of a connection: what it reads, and what it has written.
type stream struct {
	io.Reader
	out bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *stream) Close() error                     { return nil }
func (s *stream) LocalAddr() net.Addr              { return nil }
func (s *stream) RemoteAddr() net.Addr             { return nil }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// queue is one direction of a handshake's connection.
type queue struct {
	mu   sync.Mutex
	more *sync.Cond
	buf  bytes.Buffer
}

func newQueue() *queue {
	q := &queue{}
	q.more = sync.NewCond(&q.mu)
	return q
}

func (q *queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.more.Broadcast()
	return q.buf.Write(p)
}

func (q *queue) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.buf.Len() == 0 {
		q.more.Wait()
	}
	return q.buf.Read(p)
}

// ends is a connection whose two directions can be exchanged for others.
type ends struct {
	stream
	r io.Reader
	w io.Writer
}

func (e *ends) Read(p []byte) (int, error)  { return e.r.Read(p) }
func (e *ends) Write(p []byte) (int, error) { return e.w.Write(p) }

// shaken is a connection whose handshake has just ended.
type shaken struct {
	client, server *tls.Conn
	a, b           *ends // below them
	secrets        *Secrets
	state          tls.ConnectionState
	unread         []byte // of the server's; its ticket
}

func shake(t testing.TB) *shaken {
	t.Helper()
	there, back := newQueue(), newQueue()
	s := &shaken{a: &ends{r: back, w: there}, b: &ends{r: there, w: back}, secrets: &Secrets{}}
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: tls.VersionTLS13, KeyLogWriter: s.secrets, CurvePreferences: []tls.CurveID{tls.X25519}}
	cfg.WrapSession = s.secrets.Count(cfg.EncryptTicket)
	s.server = tls.Server(s.b, cfg)
	s.client = tls.Client(s.a, &tls.Config{ServerName: "x", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), CurvePreferences: []tls.CurveID{tls.X25519}})
	done := make(chan error, 1)
	go func() { done <- s.client.Handshake() }()
	err := s.server.Handshake()
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	s.unread = back.buf.Bytes()
	if s.state = s.server.ConnectionState(); !s.secrets.Fits(s.state) {
		t.Fatal("the connection cannot be taken over")
	}
	return s
}

// peer makes the records of a client, right ones and wrong ones.
type peer struct {
	out  half
	sent bytes.Buffer
}

func newPeer(s *Secrets, cs tls.ConnectionState) *peer {
	p := &peer{out: half{suite: suites[cs.CipherSuite], secret: bytes.Clone(s.client)}}
	p.out.ready()
	return p
}

// record seals text with its type and padding zeros under outer, the type in the clear.
func (p *peer) record(outer, typ byte, text []byte, padding int) {
	inner := append(append(bytes.Clone(text), typ), make([]byte, padding)...)
	p.raw(outer, inner)
}

func (p *peer) raw(outer byte, inner []byte) {
	h := header{outer, 3, 3}
	binary.BigEndian.PutUint16(h[3:], uint16(len(inner)+tagLen))
	n := p.out.nonce()
	p.sent.Write(h[:])
	p.sent.Write(p.out.sealer.(*standard).aead.Seal(nil, n[:], inner, h[:]))
}

func (p *peer) update(ask byte) {
	p.record(typeData, typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, ask}, 0)
	p.out.update()
}

// found is what one implementation made of a client's records.
type found struct {
	data []byte
	good bool // ended by close_notify
	sent []byte
}

// ours has Conn read what the client sent, in pieces of up to step octets.
func ours(s *shaken, sent []byte, step int, wide bool) found {
	raw := &stream{Reader: &stepReader{bytes.NewReader(sent), step}}
	c := New(raw, s.state, &Secrets{client: bytes.Clone(s.secrets.client), server: bytes.Clone(s.secrets.server), sent: s.secrets.sent}, nil, wide)
	defer c.Release()
	var f found
	buf := make([]byte, 3*Room)
	for {
		n, err := c.Read(buf)
		f.data = append(f.data, buf[:n]...)
		if err != nil {
			f.good = err == io.EOF
			break
		}
	}
	if f.good {
		c.CloseWrite()
	}
	f.sent = raw.out.Bytes()
	return f
}

// theirs has crypto/tls read the same.
func theirs(s *shaken, sent []byte) found {
	var out bytes.Buffer
	end := &eofMark{Reader: bytes.NewReader(sent)}
	s.b.r, s.b.w = end, &out
	var f found
	var err error
	f.data, err = io.ReadAll(s.server)
	f.good = err == nil && !end.seen // FIN between records is none, see ftp
	if f.good {
		s.server.CloseWrite()
	}
	f.sent = out.Bytes()
	return f
}

type eofMark struct {
	io.Reader
	seen bool
}

func (e *eofMark) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.seen = e.seen || err == io.EOF
	return n, err
}

type stepReader struct {
	io.Reader
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	return r.Reader.Read(p[:min(len(p), max(1, r.step))])
}

func compare(t *testing.T, what string, got, want found) {
	t.Helper()
	if !bytes.Equal(got.data, want.data) {
		t.Errorf("%s: %d octets of data, crypto/tls got %d", what, len(got.data), len(want.data))
	}
	if got.good != want.good {
		t.Errorf("%s: a good end: %v, crypto/tls says %v", what, got.good, want.good)
	}
	if !bytes.Equal(got.sent, want.sent) {
		t.Errorf("%s: sent % x, crypto/tls % x", what, got.sent, want.sent)
	}
}

// kinds are all that may be done to a receiver; each must end as with
// crypto/tls: the same data, the same end, and the same octets sent back.
var kinds = map[string]func(p *peer){
	"data and close_notify": func(p *peer) {
		p.record(typeData, typeData, make([]byte, 16384), 0)
		p.record(typeData, typeData, []byte("end"), 0)
	},
	"padding":                func(p *peer) { p.record(typeData, typeData, []byte("x"), 9000) },
	"the most padding":       func(p *peer) { p.record(typeData, typeData, nil, 16384) },
	"full and too padded":    func(p *peer) { p.record(typeData, typeData, make([]byte, 16384), 1) },
	"16,385 octets":          func(p *peer) { p.record(typeData, typeData, make([]byte, 16385), 0) },
	"the longest ciphertext": func(p *peer) { p.record(typeData, typeData, make([]byte, 16384+256-tagLen-1), 0) },
	"a longer ciphertext":    func(p *peer) { p.record(typeData, typeData, make([]byte, 16384+256-tagLen), 0) },
	"nothing but zeros":      func(p *peer) { p.raw(typeData, make([]byte, 100)) },
	"a few empty records": func(p *peer) {
		for range maxUseless {
			p.record(typeData, typeData, nil, 0)
		}
		p.record(typeData, typeData, []byte("x"), 0)
	},
	"too many empty records": func(p *peer) {
		for range maxUseless + 1 {
			p.record(typeData, typeData, nil, 0)
		}
	},
	"KeyUpdate":          func(p *peer) { p.update(0); p.record(typeData, typeData, []byte("new"), 0) },
	"KeyUpdate, asking":  func(p *peer) { p.update(1); p.record(typeData, typeData, []byte("new"), 0); p.update(1) },
	"KeyUpdate for ever": func(p *peer) { forEver(p, func() { p.update(1) }) },
	"KeyUpdate of 2":     func(p *peer) { p.update(2) },
	"KeyUpdate and more": func(p *peer) { p.record(typeData, typeHandshake, []byte{24, 0, 0, 1, 0, 24}, 0) },
	"two KeyUpdates":     func(p *peer) { p.record(typeData, typeHandshake, []byte{24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, 0) },
	"old keys": func(p *peer) {
		old := p.out.seq
		p.update(0)
		p.out.seq = old + 7
		p.record(typeData, typeData, []byte("x"), 0)
	},
	"pieces of KeyUpdate": func(p *peer) { pieces(p); p.record(typeData, typeData, []byte("new"), 0) },
	"data amid KeyUpdate": func(p *peer) {
		p.record(typeData, typeHandshake, []byte{24, 0}, 0)
		p.record(typeData, typeData, []byte("x"), 0)
	},
	"Finished":               func(p *peer) { p.record(typeData, typeHandshake, []byte{20, 0, 0, 1, 0}, 0) },
	"empty handshake":        func(p *peer) { p.record(typeData, typeHandshake, nil, 0) },
	"ChangeCipherSpec":       func(p *peer) { p.sent.Write([]byte{20, 3, 3, 0, 1, 1}); p.record(typeData, typeData, []byte("x"), 0) },
	"ChangeCipherSpec of 2":  func(p *peer) { p.sent.Write([]byte{20, 3, 3, 0, 1, 2}) },
	"empty ChangeCipherSpec": func(p *peer) { p.sent.Write([]byte{20, 3, 3, 0, 0}) },
	"ChangeCipherSpec for ever": func(p *peer) {
		forEver(p, func() { p.sent.Write([]byte{20, 3, 3, 0, 1, 1}) })
	},
	"outer type of an alert": func(p *peer) { p.record(typeAlert, typeAlert, []byte{2, 40}, 0) },
	"an alert in the clear":  func(p *peer) { p.sent.Write([]byte{21, 3, 3, 0, 2, 1, 0}) },
	"a fatal alert":          func(p *peer) { p.record(typeData, typeAlert, []byte{2, 40}, 0) },
	"user_canceled":          func(p *peer) { p.record(typeData, typeAlert, []byte{1, 90}, 0) },
	"user_canceled for ever": func(p *peer) { forEver(p, func() { p.record(typeData, typeAlert, []byte{1, 90}, 0) }) },
	"a long alert":           func(p *peer) { p.record(typeData, typeAlert, []byte{1, 0, 0}, 0) },
	"close_notify amid": func(p *peer) {
		p.record(typeData, typeAlert, []byte{1, 0}, 0)
		p.record(typeData, typeData, []byte("x"), 0)
	},
	"unknown inner type": func(p *peer) { p.record(typeData, 77, []byte("x"), 0) },
	"another version": func(p *peer) {
		at := p.sent.Len()
		p.record(typeData, typeData, []byte("x"), 0)
		p.sent.Bytes()[at+2] = 1
	},
	"a flipped bit": func(p *peer) {
		at := p.sent.Len()
		p.record(typeData, typeData, []byte("text"), 0)
		p.sent.Bytes()[at+7] ^= 1
	},
	"a flipped tag": func(p *peer) { p.record(typeData, typeData, []byte("text"), 0); p.sent.Bytes()[p.sent.Len()-1] ^= 1 },
	"a record twice": func(p *peer) {
		at := p.sent.Len()
		p.record(typeData, typeData, []byte("text"), 0)
		p.sent.Write(bytes.Clone(p.sent.Bytes()[at:]))
	},
	"a record left out": func(p *peer) { p.out.seq++; p.record(typeData, typeData, []byte("text"), 0) },
	"clear text":        func(p *peer) { p.sent.WriteString("QUIT\r\nQUIT\r\n") },
}

// stricter are those that crypto/tls takes for something better than RFC 8446
// does: a sealed ChangeCipherSpec (section 5), a record without a type (section
// 5.4), and messages that no client may send, which it parses first.
var stricter = map[string]func(p *peer){
	"ChangeCipherSpec, sealed": func(p *peer) { p.record(typeData, typeChangeCipherSpec, []byte{1}, 0) },
	"no octet at all":          func(p *peer) { p.raw(typeData, nil) },
	"ClientHello":              func(p *peer) { p.record(typeData, typeHandshake, []byte{1, 0, 0, 1, 0}, 0) },
	"a ticket":                 func(p *peer) { p.record(typeData, typeHandshake, []byte{4, 0, 0, 1, 0}, 0) },
}

func TestStricterThanCryptoTLS(t *testing.T) {
	for name, do := range stricter {
		for _, wide := range []bool{false, Wide()} {
			s := shake(t)
			p := newPeer(s.secrets, s.state)
			do(p)
			c := New(&stream{Reader: bytes.NewReader(p.sent.Bytes())}, s.state, s.secrets, nil, wide)
			_, err := c.Read(make([]byte, Room))
			var a *Alert
			if !errors.As(err, &a) || a.Code != alertUnexpectedMessage || a.Received {
				t.Errorf("%s: %v, want unexpected_message", name, err)
			}
			c.Release()
		}
	}
}

func forEver(p *peer, do func()) {
	for range 40 {
		do()
	}
}

func pieces(p *peer) {
	for _, b := range []byte{24, 0, 0, 1, 0} {
		p.record(typeData, typeHandshake, []byte{b}, 0)
	}
	p.out.update()
}

func TestReadsAsCryptoTLS(t *testing.T) {
	for name, do := range kinds {
		for _, end := range []string{"close_notify", "FIN"} {
			t.Run(name+", "+end, func(t *testing.T) {
				s := shake(t)
				p := newPeer(s.secrets, s.state)
				p.record(typeData, typeData, []byte("first"), 0)
				do(p)
				if end == "close_notify" {
					p.record(typeData, typeAlert, []byte{1, 0}, 0)
				}
				want := theirs(s, p.sent.Bytes())
				for _, step := range []int{1, 7, 1000, 1 << 20} {
					compare(t, "standard", ours(s, p.sent.Bytes(), step, false), want)
					if Wide() {
						compare(t, "wide", ours(s, p.sent.Bytes(), step, true), want)
					}
				}
			})
		}
	}
}

// TestTruncated: wherever a stream is cut off, its end is no good one.
func TestTruncated(t *testing.T) {
	s := shake(t)
	p := newPeer(s.secrets, s.state)
	p.record(typeData, typeData, []byte("some text"), 3)
	p.record(typeData, typeData, make([]byte, 300), 0)
	p.record(typeData, typeAlert, []byte{1, 0}, 0)
	all := p.sent.Bytes()
	for n := range len(all) {
		if f := ours(s, all[:n], 1<<20, Wide()); f.good {
			t.Errorf("cut off after %d of %d octets: a good end", n, len(all))
		}
	}
	if f := ours(s, all, 1<<20, Wide()); !f.good || len(f.data) != 309 {
		t.Errorf("whole: good %v, %d octets", f.good, len(f.data))
	}
}

// TestSomeReadBefore: what came with the handshake's last record is not lost.
func TestSomeReadBefore(t *testing.T) {
	s := shake(t)
	p := newPeer(s.secrets, s.state)
	p.record(typeData, typeData, []byte("early"), 0)
	cut := p.sent.Len() + 9
	p.record(typeData, typeData, []byte("late"), 0)
	all := p.sent.Bytes()
	c := New(&stream{Reader: bytes.NewReader(all[cut:])}, s.state, s.secrets, all[:cut], Wide())
	defer c.Release()
	buf := make([]byte, Room)
	n, err := c.Read(buf)
	if string(buf[:n]) != "early" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if n, err = c.Read(buf); string(buf[:n]) != "late" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if _, err = c.Read(buf); err != io.ErrUnexpectedEOF {
		t.Errorf("%v at the end without close_notify", err)
	}
	if _, err = c.Read(buf[:Room-1]); err != io.ErrShortBuffer {
		t.Errorf("%v for a short buffer", err)
	}
}

// received has the client's crypto/tls read what was sent.
func received(t *testing.T, s *shaken, sent []byte) (data []byte, good bool) {
	t.Helper()
	end := &eofMark{Reader: io.MultiReader(bytes.NewReader(s.unread), bytes.NewReader(sent))}
	s.a.r = end
	data, err := io.ReadAll(s.client)
	if err != nil {
		t.Errorf("the client: %v", err)
	}
	return data, err == nil && !end.seen
}

// TestWritesForCryptoTLS: blocks of all sorts of lengths, with keys that change
// every few records, arrive as they were.
func TestWritesForCryptoTLS(t *testing.T) {
	was := updateAfter
	defer func() { updateAfter = was }()
	for _, wide := range []bool{false, Wide()} {
		for _, after := range []uint64{was, 5, 1, 16} {
			updateAfter = after
			s := shake(t)
			raw := &stream{}
			c := New(raw, s.state, s.secrets, nil, wide)
			r := rand.NewChaCha8([32]byte{byte(after)})
			var want []byte
			for i, n := range []int{1, 0, 5, 16383, 16384, 16385, 40000, 256 << 10, 256<<10 - 1, 256<<10 + 1, 600 << 10, 3, 1, 1, 256 << 10} {
				p := make([]byte, n)
				r.Read(p)
				send := c.Write
				if i%3 == 2 {
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
			if err := c.CloseWrite(); err == nil {
				sent := raw.out.Len()
				if c.CloseWrite(); raw.out.Len() != sent {
					t.Error("close_notify went out twice")
				}
			}
			got, good := received(t, s, raw.out.Bytes())
			if !bytes.Equal(got, want) || !good {
				t.Errorf("wide %v, new keys after %d: %d octets of %d, good end %v", wide, after, len(got), len(want), good)
			}
			c.Release()
		}
	}
}

// countWrites counts writes.
type countWrites struct {
	stream
	n int
}

func (w *countWrites) Write(p []byte) (int, error) { w.n++; return len(p), nil }

// TestOneWriteForABlock: 256 KiB, the last one with close_notify, take one
// write, and nothing is allocated for it.
func TestOneWriteForABlock(t *testing.T) {
	s := shake(t)
	raw := &countWrites{}
	c := New(raw, s.state, s.secrets, nil, Wide())
	block := make([]byte, 256<<10)
	c.Write(block)
	if a := testing.AllocsPerRun(20, func() { c.Write(block) }); a > 0 {
		t.Errorf("%v allocations for a block", a)
	}
	raw.n = 0
	for range 9 {
		c.Write(block)
	}
	c.Hold(block)
	c.CloseWrite()
	if raw.n != 10 {
		t.Errorf("%d writes for 10 blocks and close_notify, want 10", raw.n)
	}
	c.Release()
}

// TestReadsAllocateNothing: an upload takes no memory for each record.
func TestReadsAllocateNothing(t *testing.T) {
	s := shake(t)
	p := newPeer(s.secrets, s.state)
	for range 3000 {
		p.record(typeData, typeData, make([]byte, 1000), 0)
	}
	c := New(&stream{Reader: bytes.NewReader(p.sent.Bytes())}, s.state, s.secrets, nil, Wide())
	buf := make([]byte, Room)
	c.Read(buf)
	total := 0
	if a := testing.AllocsPerRun(100, func() {
		n, err := c.Read(buf)
		total += n
		if err != nil {
			t.Fatal(err)
		}
	}); a > 0 || total < 101*1000 {
		t.Errorf("%v allocations for a read; %d octets", a, total)
	}
	c.Release()
}

// TestReleaseOverwrites: no secret stays behind, and nothing works any more.
func TestReleaseOverwrites(t *testing.T) {
	s := shake(t)
	client, server := s.secrets.client, s.secrets.server
	c := New(&stream{Reader: bytes.NewReader(nil)}, s.state, s.secrets, nil, Wide())
	c.Write([]byte("x"))
	c.Read(make([]byte, Room))
	iv := c.out.iv
	c.Release()
	for what, b := range map[string][]byte{"client secret": client, "server secret": server, "iv": iv} {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("the %s is still there", what)
		}
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a write after Release went through")
	}
	if _, err := c.Read(make([]byte, Room)); err == nil || err == io.EOF {
		t.Errorf("a read after Release: %v", err)
	}
}

// TestLargeTicketStays: a ticket that takes more than one record cannot be
// counted, so the connection stays with crypto/tls.
func TestLargeTicketStays(t *testing.T) {
	s := &Secrets{client: make([]byte, 32), server: make([]byte, 32)}
	cs := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	if !s.Fits(cs) {
		t.Fatal("does not fit")
	}
	for what, other := range map[string]tls.ConnectionState{
		"TLS 1.2":  {Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		"ChaCha20": {Version: tls.VersionTLS13, CipherSuite: tls.TLS_CHACHA20_POLY1305_SHA256},
		"SHA-384":  {Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_256_GCM_SHA384},
	} {
		if s.Fits(other) {
			t.Errorf("%s fits", what)
		}
	}
	s.Count(func(tls.ConnectionState, *tls.SessionState) ([]byte, error) { return make([]byte, 20000), nil })(cs, nil)
	if s.Fits(cs) {
		t.Error("fits after a ticket of 20,000 octets")
	}
}
