package ftp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// RFC 959 section 5.3.2: host-port.
func TestParsePort(t *testing.T) {
	tests := []struct{ in, want string }{
		{"127,0,0,1,200,1", "127.0.0.1:51201"},
		{"0,0,0,0,0,0", "0.0.0.0:0"},
		{"255,255,255,255,255,255", "255.255.255.255:65535"},
		{"010,001,1,1,004,000", "10.1.1.1:1024"},
		{"", ""},
		{"127,0,0,1,200", ""},
		{"127,0,0,1,200,1,1", ""},
		{"127,0,0,1,200,1,", ""},
		{",127,0,0,1,200,1", ""},
		{"127,0,0,256,200,1", ""},
		{"127,0,0,1,200,0001", ""},
		{"127,0,0,+1,200,1", ""},
		{"127,0,0,-1,200,1", ""},
		{" 127,0,0,1,200,1", ""},
		{"127, 0,0,1,200,1", ""},
		{"127,0,0,1,200,1 ", ""},
		{"127,,0,1,200,1", ""},
		{"127.0.0.1,200,1", ""},
		{"a,b,c,d,e,f", ""},
		{"１,0,0,1,200,1", ""},
	}
	for _, tt := range tests {
		got, err := ParsePort(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && got.String() != tt.want {
			t.Errorf("ParsePort(%q) = %v, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestFormatPort(t *testing.T) {
	tests := []struct{ in, want string }{
		{"127.0.0.1:51201", "127,0,0,1,200,1"},
		{"[::ffff:10.1.2.3]:80", "10,1,2,3,0,80"},
		{"[2001:db8::1]:51201", "0,0,0,0,200,1"},
		{"255.255.255.255:65535", "255,255,255,255,255,255"},
	}
	for _, tt := range tests {
		if got := FormatPort(netip.MustParseAddrPort(tt.in)); got != tt.want {
			t.Errorf("FormatPort(%s) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"127,0,0,1,200,1", "0,0,0,0,0,0", "256,0,0,1,1,1", "1,2,3,4,5", "01,02,03,04,05,06", ",,,,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ap, err := ParsePort(s)
		if err != nil {
			return
		}
		if !ap.Addr().Is4() || strings.Count(s, ",") != 5 || strings.Trim(s, "0123456789,") != "" {
			t.Fatalf("ParsePort(%q) accepted %v", s, ap)
		}
		if back, err := ParsePort(FormatPort(ap)); err != nil || back != ap {
			t.Fatalf("%q: %v became %v, %v", s, ap, back, err)
		}
	})
}

// RFC 2428 section 2: EPRT.
func TestParseEPRT(t *testing.T) {
	tests := []struct {
		in, want string
		family   bool
	}{
		{"|1|132.235.1.2|6275|", "132.235.1.2:6275", false},
		{"|2|1080::8:800:200C:417A|5282|", "[1080::8:800:200c:417a]:5282", false},
		{"!1!127.0.0.1!80!", "127.0.0.1:80", false},
		{"~2~::1~65535~", "[::1]:65535", false},
		{"x1x127.0.0.1x0x", "127.0.0.1:0", false},
		{"|2|::ffff:1.2.3.4|80|", "[::ffff:1.2.3.4]:80", false},
		{"|3|anything|80|", "", true},
		{"|0||80|", "", true},
		{"|65535|x|", "", true},
		{"", "", false},
		{"|", "", false},
		{"||", "", false},
		{"|1|", "", false},
		{"|1|127.0.0.1|", "", false},
		{"|1|127.0.0.1|80", "", false},
		{"|1|127.0.0.1|80||", "", false},
		{"|1|127.0.0.1|80| ", "", false},
		{"|1|127.0.0.1|65536|", "", false},
		{"|1|127.0.0.1|-1|", "", false},
		{"|1|127.0.0.1||", "", false},
		{"|1|127.0.0.1|000080|", "", false},
		{"|1|127.1|80|", "", false},
		{"|1|localhost|80|", "", false},
		{"|1|::1|80|", "", false},
		{"|2|127.0.0.1|80|", "", false},
		{"|2|fe80::1%eth0|80|", "", false},
		{"|2|[::1]|80|", "", false},
		{"|x|127.0.0.1|80|", "", false},
		{"|-1|127.0.0.1|80|", "", false},
		{" 1 127.0.0.1 80 ", "", false},
		{"\x7f1\x7f127.0.0.1\x7f80\x7f", "", false},
		{":2:::1:80:", "", false},
	}
	for _, tt := range tests {
		got, err := ParseEPRT(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && got.String() != tt.want || errors.Is(err, ErrFamily) != tt.family {
			t.Errorf("ParseEPRT(%q) = %v, %v; want %q, family %v", tt.in, got, err, tt.want, tt.family)
		}
	}
}

func FuzzParseEPRT(f *testing.F) {
	for _, s := range []string{"|1|132.235.1.2|6275|", "|2|1080::8:800:200C:417A|5282|", "|3|x|1|", "|1||1|", "1111111", "|2|::1%lo|1|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ap, err := ParseEPRT(s)
		if err != nil {
			return
		}
		if ap.Addr().Zone() != "" || s[0] < 33 || s[0] > 126 || s[len(s)-1] != s[0] {
			t.Fatalf("ParseEPRT(%q) accepted %v", s, ap)
		}
		back, err := ParseEPRT(FormatEPRT(ap))
		if err != nil || back.Addr() != ap.Addr().Unmap() || back.Port() != ap.Port() {
			t.Fatalf("%q: %v became %v, %v", s, ap, back, err)
		}
	})
}

// RFC 959 section 4.1.2 with RFC 1123 section 4.1.2.6: the parentheses of 227 cannot be relied on.
func TestParsePASVReply(t *testing.T) {
	tests := []struct{ in, want string }{
		{"Entering Passive Mode (127,0,0,1,200,1).", "127.0.0.1:51201"},
		{"Entering Passive Mode 127,0,0,1,200,1", "127.0.0.1:51201"},
		{"=127,0,0,1,200,1", "127.0.0.1:51201"},
		{"127,0,0,1,200,1, and welcome", "127.0.0.1:51201"},
		{"In 5 minutes, or 3,4: (127,0,0,1,200,1)", "127.0.0.1:51201"},
		{"Entering Passive Mode (127,0,0,1,200)", ""},
		{"Entering Passive Mode (127,0,0,1,200,256)", ""},
		{"Entering Passive Mode (1127,0,0,1,200,1)", ""},
		{"Entering Passive Mode", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := ParsePASVReply(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && got.String() != tt.want {
			t.Errorf("ParsePASVReply(%q) = %v, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

// RFC 2428 section 3: the reply to EPSV.
func TestParseEPSVReply(t *testing.T) {
	tests := []struct {
		in   string
		want uint16
	}{
		{"Entering Extended Passive Mode (|||6446|)", 6446},
		{"Entering Extended Passive Mode (!!!6446!).", 6446},
		{"Entering Extended Passive Mode |||6446|", 6446},
		{"Ready... (|||65535|)", 65535},
		{"(|||0|)", 0},
		{"(|||65536|)", 0},
		{"(|||6446)", 0},
		{"(||6446|)", 0},
		{"(|||+6446|)", 0},
		{"(|||x|)", 0},
		{"1112221", 0},
		{"", 0},
	}
	for _, tt := range tests {
		got, err := ParseEPSVReply(tt.in)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("ParseEPSVReply(%q) = %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
	if got, err := ParseEPSVReply(FormatEPSVReply(6446)); got != 6446 || err != nil {
		t.Error(got, err)
	}
}

// RFC 3659 section 2.3: time-val.
func TestTimeVal(t *testing.T) {
	tests := []struct{ in, want string }{
		{"19980705132316", "1998-07-05T13:23:16Z"},
		{"19980705132316.123", "1998-07-05T13:23:16.123Z"},
		{"19980705132316.1234567891", "1998-07-05T13:23:16.123456789Z"},
		{"20000229000000", "2000-02-29T00:00:00Z"},
		{"20161231235960", "2017-01-01T00:00:00Z"}, // a leap second
		{"00000101000000", "0000-01-01T00:00:00Z"},
		{"99991231235959", "9999-12-31T23:59:59Z"},
		{"19980705132361", ""},
		{"19980705136016", ""},
		{"19980705242316", ""},
		{"19980732132316", ""},
		{"19980700132316", ""},
		{"19981305132316", ""},
		{"19980005132316", ""},
		{"19990229000000", ""},
		{"1998070513231", ""},
		{"199807051323160", ""},
		{"19980705132316.", ""},
		{"19980705132316.x", ""},
		{"19980705132316Z", ""},
		{"+9980705132316", ""},
		{" 19980705132316", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := ParseTimeVal(tt.in)
		if (err == nil) != (tt.want != "") || err == nil && got.Format(time.RFC3339Nano) != tt.want {
			t.Errorf("ParseTimeVal(%q) = %v, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	zone := time.FixedZone("", 2*3600)
	for _, tt := range []struct {
		in   time.Time
		want string
	}{
		{time.Date(2024, 5, 6, 7, 8, 9, 999, zone), "20240506050809"},
		{time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), "00000101000000"},
		{time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), "99991231235959"},
	} {
		if got := FormatTimeVal(tt.in); got != tt.want {
			t.Errorf("FormatTimeVal(%v) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
