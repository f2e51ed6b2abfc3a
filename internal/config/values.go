package config

import (
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span, written like "90s", "15m", "1h30m" or "2d". It is never negative.
type Duration time.Duration

// Size is a number of bytes, written like "10 GiB", "500MB" or 1048576.
type Size int64

// Rate is bytes per second, written like "10MB/s" or "80Mbit/s".
type Rate int64

// PortRange is a range of TCP ports, both ends included, written "50000-50999" or "50000".
type PortRange struct{ First, Last uint16 }

// Prefix is a network such as 10.0.0.0/8; a single address is a network of one.
type Prefix struct{ netip.Prefix }

// Protocol is what a listener speaks.
type Protocol string

// The protocols.
const (
	ProtocolFTP  Protocol = "ftp"
	ProtocolFTPS Protocol = "ftps"
	ProtocolSFTP Protocol = "sftp"
)

// Policy says whether TLS is refused, possible or demanded.
type Policy string

// The policies.
const (
	Off      Policy = "off"
	Offered  Policy = "offered"
	Required Policy = "required"
)

// Binding says whether data connections must resume the TLS session of their control connection.
type Binding string

// The bindings.
const (
	BindOff     Binding = "off"
	BindPrefer  Binding = "prefer"
	BindRequire Binding = "require"
)

// Records says who makes the TLS records of data connections.
type Records string

// The record layers.
const (
	RecordsAuto     Records = "auto"
	RecordsOwn      Records = "own"
	RecordsStandard Records = "standard"
)

// SharedFallback says what becomes of a client that does not resume its TLS
// session on the shared data port.
type SharedFallback string

// The fallbacks.
const (
	SharedAddress SharedFallback = "address"
	SharedRange   SharedFallback = "range"
	SharedRefuse  SharedFallback = "refuse"
)

// Demand says whether client certificates are asked for.
type Demand string

// The demands.
const (
	CertOff      Demand = "off"
	CertOptional Demand = "optional"
	CertRequired Demand = "required"
)

// ActiveSource says which local port active data connections start from.
type ActiveSource string

// The sources.
const (
	SourceControl ActiveSource = "control-1"
	SourceAny     ActiveSource = "any"
)

// TLSVersion is "1.2" or "1.3".
type TLSVersion string

// The versions.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// UploadMode says when an upload is visible.
type UploadMode string

// The modes.
const (
	UploadAtomic       UploadMode = "atomic"
	UploadVisible      UploadMode = "visible"
	UploadAtomicResume UploadMode = "atomic-resume"
)

// SyncMode says when uploads are made durable.
type SyncMode string

// The modes.
const (
	SyncNone  SyncMode = "none"
	SyncClose SyncMode = "close"
)

// Challenge is how an ACME authority is shown that a name is ours.
type Challenge string

// The challenges.
const (
	ChallengeHTTP Challenge = "http-01"
	ChallengeTLS  Challenge = "tls-alpn-01"
)

func (Challenge) choices() []string { return []string{"http-01", "tls-alpn-01"} }

// Landlock says whether the process keeps itself to its files.
type Landlock string

// The choices.
const (
	LandlockAuto     Landlock = "auto"
	LandlockRequired Landlock = "required"
	LandlockOff      Landlock = "off"
)

func (Landlock) choices() []string { return []string{"auto", "required", "off"} }

// LogLevel is debug, info, warn or error.
type LogLevel string

// LogFormat is text or json.
type LogFormat string

// AuditFormat is json, text, xferlog or w3c.
type AuditFormat string

// chooser is a value that is one of a few words.
type chooser interface{ choices() []string }

func (AuditFormat) choices() []string    { return []string{"json", "text", "xferlog", "w3c"} }
func (Protocol) choices() []string       { return []string{"ftp", "ftps", "sftp"} }
func (Policy) choices() []string         { return []string{"off", "offered", "required"} }
func (Binding) choices() []string        { return []string{"off", "prefer", "require"} }
func (Records) choices() []string        { return []string{"auto", "own", "standard"} }
func (SharedFallback) choices() []string { return []string{"address", "range", "refuse"} }
func (Demand) choices() []string         { return []string{"off", "optional", "required"} }
func (ActiveSource) choices() []string {
	return []string{"control-1", "any"}
}
func (TLSVersion) choices() []string { return []string{"1.2", "1.3"} }
func (UploadMode) choices() []string {
	return []string{"atomic", "visible", "atomic-resume"}
}
func (SyncMode) choices() []string  { return []string{"none", "close"} }
func (LogLevel) choices() []string  { return []string{"debug", "info", "warn", "error"} }
func (LogFormat) choices() []string { return []string{"text", "json"} }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if s == "0" {
		*d = 0
		return nil
	}
	rest, days := s, time.Duration(0)
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil || n > 36500 {
			return fmt.Errorf("%q is not a time span; write it like \"90s\", \"15m\", \"1h30m\" or \"2d\"", s)
		}
		rest, days = tail, time.Duration(n)*24*time.Hour
	}
	var v time.Duration
	if rest != "" || days == 0 {
		var err error
		if v, err = time.ParseDuration(rest); err != nil {
			if _, nerr := strconv.ParseFloat(s, 64); nerr == nil {
				return fmt.Errorf("%s has no unit; write %q for seconds or %q for minutes", s, s+"s", s+"m")
			}
			return fmt.Errorf("%q is not a time span; write it like \"90s\", \"15m\", \"1h30m\" or \"2d\"", s)
		}
	}
	if v < 0 {
		return fmt.Errorf("%s is negative; a time span is 0 or more", s)
	}
	if v > math.MaxInt64-days {
		return fmt.Errorf("%s is too long", s)
	}
	*d = Duration(days + v)
	return nil
}

// String writes a duration without zero parts: 15m, not 15m0s.
func (d Duration) String() string {
	t := time.Duration(d)
	if t == 0 {
		return "0s"
	}
	if t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

var units = []struct {
	name   string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15}, {"B", 1},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}, {"", 1},
}

// parseBytes reads "10 GiB". Units are case-insensitive but for the difference
// between b and B, which is a factor of eight.
func parseBytes(s, example string) (int64, error) {
	bad := fmt.Errorf("%q is not a size; write it like %s", s, example)
	t := strings.TrimSpace(s)
	i := strings.LastIndexAny(t, "0123456789.") + 1
	number, unit := t[:i], strings.TrimSpace(t[i:])
	if strings.HasPrefix(number, "-") {
		return 0, fmt.Errorf("%s is negative; write 0 for no limit", t)
	}
	if number == "" || len(number) > 24 || strings.Trim(number, "0123456789.") != "" {
		return 0, bad
	}
	divide := int64(1)
	if u, ok := strings.CutSuffix(unit, "bit"); ok {
		unit, divide = u, 8
	} else if strings.HasSuffix(unit, "b") {
		return 0, fmt.Errorf("%q does not say whether bits or bytes are meant; write B for bytes", s)
	}
	v, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, bad
	}
	for _, u := range units {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		v.Mul(v, big.NewRat(u.factor, divide))
		n := new(big.Int).Quo(v.Num(), v.Denom())
		if !n.IsInt64() {
			return 0, fmt.Errorf("%s is more than %d bytes, the largest size there is", t, int64(math.MaxInt64))
		}
		return n.Int64(), nil
	}
	return 0, bad
}

// formatBytes writes n with the largest unit that leaves a whole number.
func formatBytes(n int64) string {
	if n == 0 {
		return "0"
	}
	best, factor := "B", int64(1)
	for _, u := range units[:10] {
		if n%u.factor == 0 && u.factor > factor {
			best, factor = u.name, u.factor
		}
	}
	return strconv.FormatInt(n/factor, 10) + " " + best
}

// UnmarshalText reads a size.
func (z *Size) UnmarshalText(b []byte) error {
	if strings.Contains(string(b), "bit") {
		return fmt.Errorf("%q is in bits; a size is in bytes, such as \"10 GiB\"", b)
	}
	n, err := parseBytes(string(b), `"10 GiB" or "500MB"`)
	if err == nil {
		*z = Size(n)
	}
	return err
}

// String writes a size.
func (z Size) String() string { return formatBytes(int64(z)) }

// MarshalText writes what UnmarshalText reads.
func (z Size) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// UnmarshalText reads a rate; "/s" may be left out.
func (r *Rate) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	n, err := parseBytes(strings.TrimSpace(strings.TrimSuffix(s, "/s")), `"10MB/s" or "80Mbit/s"`)
	if err == nil {
		*r = Rate(n)
	}
	return err
}

// String writes a rate.
func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return formatBytes(int64(r)) + "/s"
}

// MarshalText writes what UnmarshalText reads.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a range of ports within 1024-65535.
func (p *PortRange) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	head, tail, two := strings.Cut(s, "-")
	if !two {
		tail = head
	}
	first, err1 := strconv.ParseUint(strings.TrimSpace(head), 10, 32)
	last, err2 := strconv.ParseUint(strings.TrimSpace(tail), 10, 32)
	switch {
	case err1 != nil || err2 != nil:
		return fmt.Errorf("%q is not a range of ports; write it like \"50000-50999\"", s)
	case first > last:
		return fmt.Errorf("first port %d is above last %d; write the lower one first", first, last)
	case first < 1024:
		return fmt.Errorf("port %d is below 1024, where only well-known services belong; choose ports within 1024-65535", first)
	case last > 65535:
		return fmt.Errorf("port %d does not exist; the last one is 65535", last)
	}
	*p = PortRange{uint16(first), uint16(last)}
	return nil
}

// String writes a range.
func (p PortRange) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// MarshalText writes what UnmarshalText reads.
func (p PortRange) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Len returns the number of ports.
func (p PortRange) Len() int { return int(p.Last) - int(p.First) + 1 }

// Contains reports whether port is in the range.
func (p PortRange) Contains(port uint16) bool { return p.First <= port && port <= p.Last }

// UnmarshalText reads a network or an address.
func (p *Prefix) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%q is not a network; write it like \"10.0.0.0/8\", \"2001:db8::/32\" or one address", s)
		}
		a = a.Unmap()
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	q, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not a network; write it like \"10.0.0.0/8\", \"2001:db8::/32\" or one address", s)
	}
	if q.Addr().Is4In6() {
		return fmt.Errorf("%s is an IPv4 network in IPv6 form; write it as IPv4", s)
	}
	if m := q.Masked(); m != q {
		return fmt.Errorf("%s has bits beyond its length; write %s for the network or %s for the one address", s, m, q.Addr())
	}
	p.Prefix = q
	return nil
}

// Match reports whether a is in one of the networks. IPv4 in IPv6 form counts as IPv4.
func Match(networks []Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
