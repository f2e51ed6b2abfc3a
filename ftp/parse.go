package ftp

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrFamily is matched by the error of ParseEPRT when the network protocol is
// neither 1 (IPv4) nor 2 (IPv6): the answer is then 522, not 501.
var ErrFamily = errors.New("unknown network protocol, use 1 (IPv4) or 2 (IPv6)")

// readDecimal reads a decimal number of at most max that consists of 1 to width
// digits and nothing else.
func readDecimal(s string, width int, max int) (int, bool) {
	if s == "" || len(s) > width {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		d := s[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int(d)
	}
	return n, n <= max
}

// ParsePort reads the argument of PORT, "h1,h2,h3,h4,p1,p2", as RFC 959
// section 5.3.2 writes it: six decimal numbers of 0 to 255, separated by
// commas, without spaces or signs. It says nothing about whether the address
// may be used.
func ParsePort(arg string) (netip.AddrPort, error) {
	var b [6]byte
	rest := arg
	for i := range b {
		f, tail, more := strings.Cut(rest, ",")
		n, ok := readDecimal(f, 3, 255)
		if !ok || more != (i < len(b)-1) {
			return netip.AddrPort{}, fmt.Errorf("%q is not an address of the form h1,h2,h3,h4,p1,p2 with six numbers from 0 to 255", clip(arg))
		}
		b[i] = byte(n)
		rest = tail
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), nil
}

// FormatPort writes an IPv4 address (or an IPv4-mapped one) as PORT and the
// 227 reply need it: "h1,h2,h3,h4,p1,p2". Any other address becomes 0,0,0,0,
// which clients read as "the address you are connected to".
func FormatPort(ap netip.AddrPort) string {
	var a [4]byte
	if ip := ap.Addr().Unmap(); ip.Is4() {
		a = ip.As4()
	}
	out := make([]byte, 0, 23)
	for _, n := range a {
		out = append(strconv.AppendUint(out, uint64(n), 10), ',')
	}
	out = append(strconv.AppendUint(out, uint64(ap.Port()>>8), 10), ',')
	return string(strconv.AppendUint(out, uint64(ap.Port()&0xff), 10))
}

// ParseEPRT reads the argument of EPRT, "|1|192.0.2.1|6446|", as RFC 2428
// section 2 defines it: any delimiter from ASCII 33 to 126, network protocol 1
// or 2, an address of that protocol, a port of 1 to 5 digits. IPv6 zones are
// refused. The error matches ErrFamily for another network protocol.
func ParseEPRT(arg string) (netip.AddrPort, error) {
	bad := func(why string) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address of the form |1|a.b.c.d|port| or |2|address|port|: %s", clip(arg), why)
	}
	if arg == "" || arg[0] < 33 || arg[0] > 126 {
		return bad("it does not start with a delimiter")
	}
	d := arg[:1]
	proto, rest, ok := strings.Cut(arg[1:], d)
	family, isNum := readDecimal(proto, 5, 65535)
	if !ok || !isNum {
		return bad("the network protocol is not a number")
	}
	if !strings.HasSuffix(rest, d) {
		return bad("it does not end with the delimiter")
	}
	if family != 1 && family != 2 {
		// The rest cannot be judged: its form depends on the protocol.
		return netip.AddrPort{}, fmt.Errorf("network protocol %d: %w", family, ErrFamily)
	}
	host, rest, ok := strings.Cut(rest, d)
	if !ok {
		return bad("the port is missing")
	}
	n, ok := readDecimal(strings.TrimSuffix(rest, d), 5, 65535)
	if !ok {
		return bad("the port is not a number from 0 to 65535")
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" || ip.Is4() != (family == 1) {
		return bad(fmt.Sprintf("the address is not one of network protocol %d", family))
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

// FormatEPRT writes an address as the argument of EPRT, with the delimiter "|".
func FormatEPRT(ap netip.AddrPort) string {
	ip := ap.Addr().Unmap().WithZone("")
	family := 1
	if ip.Is6() {
		family = 2
	}
	return fmt.Sprintf("|%d|%s|%d|", family, ip, ap.Port())
}

// ParsePASVReply finds the address in the text of a 227 reply. RFC 1123
// section 4.1.2.6 tells clients not to count on parentheses, so the first six
// numbers that commas join are taken, wherever they stand.
func ParsePASVReply(text string) (netip.AddrPort, error) {
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) || i > 0 && (isDigit(text[i-1]) || text[i-1] == ',') {
			continue
		}
		j, commas := i, 0
		for j < len(text) && (isDigit(text[j]) || text[j] == ',') {
			if text[j] == ',' {
				if commas++; commas == 6 {
					break // a comma of the sentence, not of the address
				}
			}
			j++
		}
		if ap, err := ParsePort(text[i:j]); err == nil {
			return ap, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no address of the form h1,h2,h3,h4,p1,p2 in the reply %q", clip(text))
}

// ParseEPSVReply finds the port in the text of a 229 reply, "(|||6446|)"
// (RFC 2428 section 3). The delimiter may be any of ASCII 33 to 126 and the
// parentheses may be missing. Port 0 is an error.
func ParseEPSVReply(text string) (uint16, error) {
	for i := 0; i+4 < len(text); i++ {
		d := text[i]
		if d < 33 || d > 126 || isDigit(d) || text[i+1] != d || text[i+2] != d {
			continue
		}
		p, _, ok := strings.Cut(text[i+3:], string(d))
		if n, num := readDecimal(p, 5, 65535); ok && num && n > 0 {
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("no port of the form (|||port|) in the reply %q", clip(text))
}

// FormatEPSVReply writes what a 229 reply carries, "(|||6446|)".
func FormatEPSVReply(port uint16) string { return fmt.Sprintf("(|||%d|)", port) }

// ParseTimeVal reads a time-val of RFC 3659 section 2.3: YYYYMMDDHHMMSS with
// an optional fraction, always UTC. Every field is range-checked, including
// the day against its month; second 60 (a leap second) becomes second 0 of the
// next minute. Digits of the fraction beyond nanoseconds are dropped.
func ParseTimeVal(s string) (time.Time, error) {
	bad := func() (time.Time, error) {
		return time.Time{}, fmt.Errorf("%q is not a time of the form YYYYMMDDHHMMSS", clip(s))
	}
	whole, frac, hasFrac := strings.Cut(s, ".")
	if len(whole) != 14 || hasFrac && frac == "" {
		return bad()
	}
	var f [6]int // year, month, day, hour, minute, second
	max := [6]int{9999, 12, 31, 23, 59, 60}
	for i, from := 0, 0; i < len(f); i++ {
		to := from + 2
		if i == 0 {
			to = 4
		}
		n, ok := readDecimal(whole[from:to], 4, max[i])
		if !ok {
			return bad()
		}
		f[i], from = n, to
	}
	nano := 0
	for i := 0; i < len(frac); i++ {
		if !isDigit(frac[i]) {
			return bad()
		}
		if i < 9 {
			nano = nano*10 + int(frac[i]-'0')
		}
	}
	for i := len(frac); i < 9 && hasFrac; i++ {
		nano *= 10
	}
	day := time.Date(f[0], time.Month(f[1]), f[2], 0, 0, 0, 0, time.UTC)
	if f[1] == 0 || f[2] == 0 || day.Day() != f[2] {
		return bad()
	}
	return time.Date(f[0], time.Month(f[1]), f[2], f[3], f[4], f[5], nano, time.UTC), nil
}

// FormatTimeVal writes t as a time-val of RFC 3659 section 2.3, in whole
// seconds (truncated) and UTC. Years outside 0 to 9999 cannot be written and
// are moved to the nearest time that can.
func FormatTimeVal(t time.Time) string {
	t = t.UTC()
	switch y := t.Year(); {
	case y < 0:
		return "00000101000000"
	case y > 9999:
		return "99991231235959"
	}
	return t.Format("20060102150405")
}

func isDigit(b byte) bool { return b-'0' <= 9 }

// clip shortens what is quoted in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
