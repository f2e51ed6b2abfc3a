package nat

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// router answers UDP packets by a function; nil answers are silence.
func router(t *testing.T, answer func(req []byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range answer(append([]byte(nil), buf[:n]...)) {
				c.WriteTo(a, from)
			}
		}
	}()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func control(at netip.AddrPort) *PortControl {
	return &PortControl{Gateway: at.Addr(), port: at.Port()}
}

// oldRouter speaks NAT-PMP only; it maps to port+1000 and says result.
func oldRouter(result uint16) func([]byte) [][]byte {
	return func(req []byte) [][]byte {
		switch {
		case req[0] != 0:
			return [][]byte{{0, response, 0, 1, 0, 0, 0, 9}}
		case req[1] == 0:
			b := []byte{0, response, byte(result >> 8), byte(result), 0, 0, 0, 9, 198, 51, 100, 20}
			return [][]byte{b}
		}
		b := make([]byte, 16)
		b[1] = response | 2
		binary.BigEndian.PutUint16(b[2:], result)
		copy(b[8:10], req[4:6])
		binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(req[4:])+1000)
		copy(b[12:16], req[8:12])
		return [][]byte{b}
	}
}

// newRouter speaks PCP; every request is remembered.
func newRouter(result byte, seen *[][]byte, mu *sync.Mutex) func([]byte) [][]byte {
	return func(req []byte) [][]byte {
		mu.Lock()
		*seen = append(*seen, req)
		mu.Unlock()
		if req[0] != 2 {
			return [][]byte{{2, req[1] | response, 0, 1, 0, 0, 0, 0}}
		}
		b := make([]byte, 60)
		copy(b, req)
		b[1], b[3] = response|opMap, result
		a := netip.MustParseAddr("198.51.100.20").As16()
		copy(b[8:24], make([]byte, 16))
		copy(b[44:], a[:])
		strange := append([]byte(nil), b...) // another nonce: not for us
		strange[24] ^= 1
		short := append([]byte(nil), b[:20]...)
		return [][]byte{[]byte("nonsense"), strange, short, b}
	}
}

func TestPCP(t *testing.T) {
	var seen [][]byte
	var mu sync.Mutex
	p := control(router(t, newRouter(0, &seen, &mu)))
	m, err := p.Map(t.Context(), 50000, 50000, time.Hour, Mapping{})
	if err != nil {
		t.Fatal(err)
	}
	if m.External != 50000 || m.Addr != ip("198.51.100.20") || m.Lifetime != time.Hour || m.Source != FromPCP {
		t.Errorf("%+v", m)
	}
	again, err := p.Map(t.Context(), 50000, m.External, time.Hour, m)
	if err != nil || again.nonce != m.nonce {
		t.Errorf("the renewal has another nonce: %v", err)
	}
	if err := p.Unmap(t.Context(), m); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	last := seen[len(seen)-1]
	if len(last) != 60 || binary.BigEndian.Uint32(last[4:]) != 0 || string(last[24:36]) != string(m.nonce[:]) {
		t.Errorf("removal is % x", last)
	}
	if got := netip.AddrFrom16([16]byte(seen[0][8:24])).Unmap(); got != ip("127.0.0.1") {
		t.Errorf("client address %v", got)
	}
}

func TestPCPRefusals(t *testing.T) {
	for code, word := range map[byte]string{2: "switched off", 7: "no outer address", 12: "second NAT", 99: "unknown"} {
		var seen [][]byte
		var mu sync.Mutex
		p := control(router(t, newRouter(code, &seen, &mu)))
		_, err := p.Map(t.Context(), 50000, 50000, time.Hour, Mapping{})
		var r *RefusedError
		if !errors.As(err, &r) || r.Code != int(code) || !strings.Contains(err.Error(), word) || !Refused(err) {
			t.Errorf("code %d: %v", code, err)
		}
	}
}

func TestNATPMPFallback(t *testing.T) {
	p := control(router(t, oldRouter(0)))
	m, err := p.Map(t.Context(), 50000, 50000, time.Hour, Mapping{})
	if err != nil {
		t.Fatal(err)
	}
	if m.External != 51000 || m.Addr != ip("198.51.100.20") || m.Source != FromNATPMP || p.Source() != FromNATPMP {
		t.Errorf("%+v", m)
	}
	if err := p.Unmap(t.Context(), m); err != nil {
		t.Error(err)
	}
	p = control(router(t, oldRouter(3))) // its own WAN is private: a refusal, not an address
	if _, err := p.External(t.Context()); !Refused(err) || !strings.Contains(err.Error(), "no outer address") {
		t.Errorf("%v", err)
	}
	if _, err := p.Map(t.Context(), 0, 0, time.Hour, Mapping{}); err == nil {
		t.Error("port 0 was mapped")
	}
	var seen [][]byte
	var mu sync.Mutex
	p = control(router(t, newRouter(0, &seen, &mu)))
	if _, err := p.External(t.Context()); err == nil || Refused(err) {
		t.Errorf("a router that speaks PCP only: %v", err)
	}
}

// TestNonsenseRouters: whatever a router answers, the end is an error in time.
func TestNonsenseRouters(t *testing.T) {
	for name, answer := range map[string]func([]byte) [][]byte{
		"silent": func([]byte) [][]byte { return nil },
		"empty":  func([]byte) [][]byte { return [][]byte{{}} },
		"echo":   func(b []byte) [][]byte { return [][]byte{b} },
		"zeroes": func([]byte) [][]byte { return [][]byte{make([]byte, 60), make([]byte, 1500)} },
		"port zero": func(b []byte) [][]byte {
			r := oldRouter(0)(b)
			r[0] = append(r[0][:min(10, len(r[0]))], 0, 0, 0, 0, 0, 60)
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := control(router(t, answer))
			ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
			defer cancel()
			start := time.Now()
			if m, err := p.Map(ctx, 50000, 50000, time.Hour, Mapping{}); err == nil {
				t.Errorf("mapped %+v", m)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	p := control(netip.MustParseAddrPort("127.0.0.1:1")) // nobody there: ICMP says so at once
	if _, err := p.External(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}

func TestSTUN(t *testing.T) {
	answer := func(xor bool, spoil func([]byte)) func([]byte) [][]byte {
		return func(req []byte) [][]byte {
			b := append([]byte(nil), req...)
			b[0], b[1] = 1, 1
			attr := []byte{0x80, 0x22, 0, 3, 'a', 'b', 'c', 0, 0, 1, 0, 8, 0, 1, 0, 0, 198, 51, 100, 20}
			if xor {
				x := binary.BigEndian.Uint32([]byte{198, 51, 100, 21}) ^ stunCookie
				attr = append(attr, 0, 0x20, 0, 8, 0, 1, 0, 0)
				attr = binary.BigEndian.AppendUint32(attr, x)
			}
			binary.BigEndian.PutUint16(b[2:], uint16(len(attr)))
			b = append(b, attr...)
			spoil(b)
			return [][]byte{[]byte("x"), b}
		}
	}
	tests := []struct {
		name  string
		xor   bool
		spoil func([]byte)
		want  string
	}{
		{"xor", true, func([]byte) {}, "198.51.100.21"},
		{"plain", false, func([]byte) {}, "198.51.100.20"},
		{"other request", true, func(b []byte) { b[9] ^= 1 }, ""},
		{"error response", true, func(b []byte) { b[1] = 0x11 }, ""},
		{"attribute too long", true, func(b []byte) { b[22], b[23] = 0xff, 0xff }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			a, err := STUN(ctx, router(t, answer(tt.xor, tt.spoil)).String())
			if tt.want == "" && err == nil || tt.want != "" && (err != nil || a != ip(tt.want)) {
				t.Errorf("%v %v, want %q", a, err, tt.want)
			}
		})
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add([]byte{1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 8, 0, 1, 0, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := stunAnswer(b, make([]byte, 12)); ok && !a.Is4() {
			t.Errorf("%v", a)
		}
	})
}

func TestCloud(t *testing.T) {
	tests := []struct {
		name, want, provider string
		handle               http.HandlerFunc
	}{
		{"EC2", "198.51.100.20", "EC2", func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "60":
				w.Write([]byte("TOKEN"))
			case r.URL.Path == "/latest/meta-data/public-ipv4" && r.Header.Get("X-aws-ec2-metadata-token") == "TOKEN":
				w.Write([]byte("198.51.100.20\n"))
			default:
				http.NotFound(w, r)
			}
		}},
		{"GCE", "198.51.100.21", "GCE", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata-Flavor") != "Google" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			w.Write([]byte("198.51.100.21"))
		}},
		{"Azure", "198.51.100.22", "Azure", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata") != "true" || r.URL.Query().Get("format") != "text" {
				http.NotFound(w, r)
				return
			}
			w.Write([]byte("198.51.100.22"))
		}},
		{"private answer", "", "", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("10.0.0.1")) }},
		{"a captive portal", "", "", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>" + strings.Repeat("x", 1<<16))) }},
		{"redirect", "", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.handle)
			defer s.Close()
			a, provider, err := (&Cloud{base: s.URL}).Address(t.Context())
			if tt.want == "" && err == nil || tt.want != "" && (err != nil || a != ip(tt.want) || provider != tt.provider) {
				t.Errorf("%v %q %v, want %q", a, provider, err, tt.want)
			}
		})
	}
}

// fakeMapper is a router that grants short leases and can change its mind.
type fakeMapper struct {
	mu      sync.Mutex
	maps    int
	unmaps  int
	fail    error
	addr    netip.Addr
	offset  uint16
	granted time.Duration
}

func (f *fakeMapper) Source() Source { return FromPCP }

func (f *fakeMapper) External(context.Context) (netip.Addr, error) { return f.addr, f.fail }

func (f *fakeMapper) Map(_ context.Context, internal, external uint16, _ time.Duration, _ Mapping) (Mapping, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maps++
	return Mapping{Internal: internal, External: internal + f.offset, Addr: f.addr, Lifetime: f.granted, Source: FromPCP}, f.fail
}

func (f *fakeMapper) Unmap(context.Context, Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unmaps++
	return nil
}

func (f *fakeMapper) count() (maps, unmaps int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.maps, f.unmaps
}

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeMapper{addr: ip("198.51.100.20"), granted: 10 * time.Minute}
		var events []Event
		k := &Keeper{Mapper: f, Ports: []uint16{21, 50000}, Notify: func(e Event) { events = append(events, e) }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()
		synctest.Wait()
		if n, _ := f.count(); n != 2 || len(events) != 2 || events[0].Kind != Mapped {
			t.Fatalf("%d requests, events %+v", n, events)
		}
		time.Sleep(5*time.Minute + time.Second) // half the life that was granted, not that asked for
		synctest.Wait()
		if n, _ := f.count(); n != 4 || len(events) != 2 {
			t.Errorf("after half the life: %d requests, %d events", n, len(events))
		}
		f.mu.Lock()
		f.offset = 5
		f.mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(events) != 4 || events[2].Kind != Moved || events[2].Mapping.External != 26 {
			t.Errorf("the router moved the ports: %+v", events)
		}
		f.mu.Lock()
		f.fail = errors.New("gone")
		f.mu.Unlock()
		time.Sleep(5*time.Minute + 3*retryMapping)
		synctest.Wait()
		failures := 0
		for _, e := range events {
			if e.Kind == Failed {
				failures++
			}
		}
		if failures != 2 {
			t.Errorf("%d failures are reported of two ports that go on failing", failures)
		}
		before, _ := f.count()
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		time.Sleep(retryMapping + time.Second)
		synctest.Wait()
		if n, _ := f.count(); n != before+2 || events[len(events)-1].Kind != Mapped {
			t.Errorf("the router is back: %d requests more, last event %+v", n-before, events[len(events)-1])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, n := f.count(); n != 2 || events[len(events)-1].Kind != Removed {
			t.Errorf("%d removals, last event %+v", n, events[len(events)-1])
		}
	})
	if err := (&Keeper{Mapper: &fakeMapper{}, Ports: make([]uint16, MaxMappings+1)}).Run(t.Context()); err == nil {
		t.Error("a whole range was mapped port by port")
	}
}
