package config

import (
	"encoding"
	"math"
	"strings"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	tests := []struct {
		into encoding.TextUnmarshaler
		text string
		want string // as written back, or "error: " and a part of the text
	}{
		{new(Duration), "90s", "1m30s"},
		{new(Duration), "15m", "15m"},
		{new(Duration), "1h", "1h"},
		{new(Duration), "1h0m5s", "1h0m5s"},
		{new(Duration), "2d", "2d"},
		{new(Duration), "1d12h", "36h"},
		{new(Duration), "0d", "error: not a time span"},
		{new(Duration), "0", "0s"},
		{new(Duration), "500ms", "500ms"},
		{new(Duration), "-1d", "error: not a time span"},
		{new(Duration), "-5m", "error: negative"},
		{new(Duration), "99999d", "error: not a time span"},
		{new(Duration), "36500d2000000h", "error: too long"},
		{new(Duration), "", "error: not a time span"},
		{new(Duration), "1.5", "error: no unit"},
		{new(Size), "10 GiB", "10 GiB"},
		{new(Size), "10GB", "10 GB"},
		{new(Size), "1.5 GiB", "1536 MiB"},
		{new(Size), "500 mb", "error: bits or bytes"},
		{new(Size), "500M", "500 MB"},
		{new(Size), "1024", "1 KiB"},
		{new(Size), "1000", "1 kB"},
		{new(Size), "7", "7 B"},
		{new(Size), "0", "0"},
		{new(Size), "-1", "error: negative"},
		{new(Size), "10 XB", "error: not a size"},
		{new(Size), "GiB", "error: not a size"},
		{new(Size), "1.2.3", "error: not a size"},
		{new(Size), "1e9", "error: not a size"},
		{new(Size), "1/2", "error: not a size"},
		{new(Size), strings.Repeat("9", 23) + "PB", "error: largest size"},
		{new(Size), "9223372036854775807", "9223372036854775807 B"},
		{new(Size), "8Mbit", "error: in bits"},
		{new(Rate), "10MB/s", "10 MB/s"},
		{new(Rate), "80Mbit/s", "10 MB/s"},
		{new(Rate), "1 MiB", "1 MiB/s"},
		{new(Rate), "0", "0"},
		{new(Rate), "10Mb/s", "error: bits or bytes"},
		{new(PortRange), "50000-50999", "50000-50999"},
		{new(PortRange), " 1024 - 65535 ", "1024-65535"},
		{new(PortRange), "2121", "2121"},
		{new(PortRange), "2121-2121", "2121"},
		{new(PortRange), "1023-2000", "error: below 1024"},
		{new(PortRange), "2000-65536", "error: does not exist"},
		{new(PortRange), "2-1", "error: first port 2 is above last 1"},
		{new(PortRange), "a-b", "error: not a range"},
		{new(PortRange), "1-2-3", "error: not a range"},
		{new(PortRange), "-5", "error: not a range"},
		{new(PortRange), "", "error: not a range"},
		{new(PortRange), "99999999999999999999-1", "error: not a range"},
		{new(Prefix), "10.0.0.0/8", "10.0.0.0/8"},
		{new(Prefix), "10.0.0.5", "10.0.0.5/32"},
		{new(Prefix), "::1", "::1/128"},
		{new(Prefix), "::ffff:10.0.0.5", "10.0.0.5/32"},
		{new(Prefix), "::ffff:10.0.0.0/104", "error: IPv4 network in IPv6 form"},
		{new(Prefix), "2001:db8::/32", "2001:db8::/32"},
		{new(Prefix), "0.0.0.0/0", "0.0.0.0/0"},
		{new(Prefix), "10.0.0.5/8", "error: write 10.0.0.0/8"},
		{new(Prefix), "fe80::1%eth0", "error: not a network"},
		{new(Prefix), "10.0.0.0/33", "error: not a network"},
		{new(Prefix), "any", "error: not a network"},
	}
	for _, tt := range tests {
		err := tt.into.UnmarshalText([]byte(tt.text))
		if part, bad := strings.CutPrefix(tt.want, "error: "); bad {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%T %q: error %v, want %q", tt.into, tt.text, err, part)
			}
			continue
		}
		if err != nil {
			t.Errorf("%T %q: %v", tt.into, tt.text, err)
			continue
		}
		out, err := tt.into.(encoding.TextMarshaler).MarshalText()
		if err != nil || string(out) != tt.want {
			t.Errorf("%T %q: written back as %q, %v; want %q", tt.into, tt.text, out, err, tt.want)
		}
		before := string(out)
		if err := tt.into.UnmarshalText(out); err != nil {
			t.Errorf("%T %q does not read back: %v", tt.into, out, err)
		}
		if out, _ := tt.into.(encoding.TextMarshaler).MarshalText(); string(out) != before {
			t.Errorf("%T: %q became %q", tt.into, before, out)
		}
	}
}

func TestDurationRange(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("36500d")); err != nil || d.Std() != 36500*24*time.Hour {
		t.Errorf("%v, %v", d, err)
	}
	if Duration(math.MaxInt64).String() == "" {
		t.Error("no text")
	}
}

func TestPortRange(t *testing.T) {
	p := PortRange{5000, 5002}
	if p.Len() != 3 || !p.Contains(5000) || !p.Contains(5002) || p.Contains(4999) || p.Contains(5003) {
		t.Error(p)
	}
	if all := (PortRange{1024, 65535}); all.Len() != 64512 {
		t.Error(all.Len())
	}
}

func TestNearest(t *testing.T) {
	known := []string{"idle_timeout", "login_timeout", "ports", "address", "tls"}
	for s, want := range map[string]string{"idle_timeot": "idle_timeout", "prots": "ports", "adress": "address", "Address": "address", "tsl": "tls", "zzz": "", "x": "", strings.Repeat("a", 100): ""} {
		if got := nearest(s, known); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
