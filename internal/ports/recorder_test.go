package ports

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

func tryOf(client, mode string, tls bool, port uint16, code string) Attempt {
	a := NewAttempt("ftp-21", "s-"+client, "ann", netip.MustParseAddrPort("10.0.0.1:21"), ftp.DataAttempt{
		Time: time.Unix(1000, 0), Mode: mode, TLS: tls, Control: netip.AddrPortFrom(netip.MustParseAddr(client), 40000),
		Local: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port), Code: code,
	})
	if code == "PR-D02" {
		a.Stranger = netip.MustParseAddrPort("198.51.100.99:5")
	}
	return a
}

func TestRecorderFindings(t *testing.T) {
	many := func(r *Recorder, n int, client, mode string, tls bool, code string) {
		for i := range n {
			r.Add(tryOf(client, mode, tls, uint16(50000+i%7), code))
		}
	}
	tests := []struct {
		name string
		fill func(r *Recorder)
		want []string
	}{
		{"all fine", func(r *Recorder) { many(r, 20, "198.51.100.1", "EPSV", true, "ok") }, nil},
		{"two failures are no pattern", func(r *Recorder) { many(r, 2, "198.51.100.1", "EPSV", false, "PR-D10") }, nil},
		{"nobody ever", func(r *Recorder) {
			many(r, 3, "198.51.100.1", "EPSV", false, "PR-D10")
			many(r, 3, "203.0.113.1", "PASV", false, "PR-D01")
		}, []string{"RANGE_UNREACHED"}},
		{"one network", func(r *Recorder) {
			many(r, 3, "198.51.100.1", "EPSV", false, "PR-D10")
			many(r, 30, "203.0.113.1", "EPSV", false, "ok")
		}, []string{"CLIENT_FW_OUT_HIGH"}},
		{"helper", func(r *Recorder) {
			many(r, 5, "198.51.100.1", "PASV", false, "ok")
			many(r, 3, "198.51.100.1", "PASV", true, "PR-D10")
		}, []string{"SERVER_ALG_BLIND_TLS"}},
		{"address", func(r *Recorder) {
			many(r, 5, "198.51.100.1", "EPSV", false, "ok")
			many(r, 3, "198.51.100.1", "PASV", false, "PR-D10")
		}, []string{"PASV_ADDR_STALE"}},
		{"extended commands", func(r *Recorder) {
			many(r, 5, "198.51.100.1", "PASV", false, "ok")
			many(r, 3, "198.51.100.1", "EPSV", false, "PR-D01")
		}, []string{"MBOX_EXT"}},
		{"dead port", func(r *Recorder) {
			many(r, 70, "198.51.100.1", "EPSV", false, "ok")
			for range 3 {
				r.Add(tryOf("198.51.100.1", "EPSV", false, 50060, "PR-D10"))
			}
		}, []string{"RANGE_PARTIAL"}},
		{"private PORT", func(r *Recorder) { many(r, 3, "198.51.100.1", "PORT", false, "PR-D11") }, []string{"CLIENT_NAT_ACTIVE"}},
		{"client's helper", func(r *Recorder) {
			many(r, 3, "198.51.100.1", "PORT", false, "ok")
			many(r, 3, "198.51.100.1", "PORT", true, "PR-D11")
		}, []string{"CLIENT_ALG_BLIND_TLS"}},
		{"active silence", func(r *Recorder) { many(r, 3, "198.51.100.1", "EPRT", false, "PR-D06") }, []string{"ACTIVE_BLOCKED"}},
		{"strangers", func(r *Recorder) { many(r, 3, "198.51.100.1", "EPSV", false, "PR-D02") }, []string{"SOURCE_MISMATCH"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRecorder()
			tt.fill(r)
			var got []string
			for _, f := range r.Matrix().Findings {
				got = append(got, f.Code)
				if f.Cause == "" || f.Cure == "" {
					t.Errorf("%s lacks cause or cure", f.Code)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("findings %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRecorderIsBounded(t *testing.T) {
	r := NewRecorder()
	for i := range 3 * keptAttempts {
		r.Add(tryOf(fmt.Sprintf("10.%d.%d.1", i/256%256, i%256), "EPSV", false, 50000, "ok"))
	}
	if len(r.ring) != keptAttempts || len(r.cells) > keptCells {
		t.Errorf("%d attempts and %d cells are kept", len(r.ring), len(r.cells))
	}
	got := r.Recent(2)
	i := 3*keptAttempts - 1
	if want := fmt.Sprintf("10.%d.%d.1", i/256%256, i%256); len(got) != 2 || got[1].Control.Addr().String() != want {
		t.Errorf("newest is %v, want %s", got, want)
	}
	if m := r.Matrix(); m.Total != 3*keptAttempts {
		t.Errorf("total %d", m.Total)
	}
}

func TestRecorderViews(t *testing.T) {
	r := NewRecorder()
	r.Add(tryOf("198.51.100.1", "EPSV", false, 50000, "ok"))
	r.Add(tryOf("198.51.100.2", "EPSV", false, 50001, "PR-D10"))
	r.Add(tryOf("2001:db8::7", "EPSV", true, 50002, "ok"))
	if got := r.Session("s-198.51.100.2"); len(got) != 1 || got[0].Local.Port() != 50001 {
		t.Errorf("session: %v", got)
	}
	if got := r.Client(netip.MustParseAddr("::ffff:198.51.100.1"), 5); len(got) != 1 || got[0].Code != "ok" {
		t.Errorf("client: %v", got)
	}
	if ok, bad := r.Others(netip.MustParseAddr("198.51.100.77")); ok != 1 || bad != 0 {
		t.Errorf("others: %d %d", ok, bad)
	}
	a := NewAttempt("l", "s", "u", netip.AddrPort{}, ftp.DataAttempt{Err: errors.New("why")})
	if a.Text != "why" {
		t.Errorf("text %q", a.Text)
	}
	if n := NetworkOf(netip.MustParseAddr("2001:db8:0:1::7%eth0")); n.String() != "2001:db8:0:1::/64" {
		t.Error(n)
	}
}

func BenchmarkRecorderAdd(b *testing.B) {
	r := NewRecorder()
	a := tryOf("198.51.100.1", "EPSV", false, 50000, "ok")
	b.ReportAllocs()
	for b.Loop() {
		r.Add(a)
	}
}
