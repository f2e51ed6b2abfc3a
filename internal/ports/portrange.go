package ports

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PortRange is a range of ports, both ends included. Unlike config.PortRange
// it also holds control ports, so any port from 1 on is valid.
type PortRange struct{ First, Last uint16 }

// String writes "21" or "50000-50999".
func (r PortRange) String() string { return r.Join("-") }

// Join writes the range with the given sign between its ends: firewalls differ.
func (r PortRange) Join(sign string) string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d%s%d", r.First, sign, r.Last)
}

// Len returns the number of ports.
func (r PortRange) Len() int { return int(r.Last) - int(r.First) + 1 }

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// MarshalText writes what UnmarshalText reads.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "21" or "50000-50999".
func (r *PortRange) UnmarshalText(b []byte) error {
	first, last, two := strings.Cut(string(b), "-")
	if !two {
		last = first
	}
	x := PortRange{port16(first), port16(last)}
	if x.First == 0 || x.Last < x.First {
		return fmt.Errorf("%q is not a range of ports; write it like \"50000-50999\"", b)
	}
	*r = x
	return nil
}

// MergeRanges sorts ranges and joins those that touch or overlap.
func MergeRanges(rs []PortRange) []PortRange {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b PortRange) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last)) })
	var out []PortRange
	for _, r := range rs {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// JoinRanges writes ranges for a tool: sign between the ends, sep between ranges.
func JoinRanges(rs []PortRange, sign, sep string) string {
	var s []string
	for _, r := range rs {
		s = append(s, r.Join(sign))
	}
	return strings.Join(s, sep)
}

// port16 reads a port number; 0 when it is none.
func port16(s string) uint16 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
