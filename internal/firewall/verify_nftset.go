package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/portreeve/portreeve/internal/ports"
)

// resolve replaces a reference to a named set or map by its elements.
func (n *nftParser) resolve(v any) any {
	if s, ok := v.(string); ok && strings.HasPrefix(s, "@") {
		if elems, ok := n.sets[n.scope+" "+s[1:]]; ok {
			return elems
		}
	}
	return v
}

// items returns the elements of a value, set or named set.
func (n *nftParser) items(v any) []any {
	switch x := n.resolve(v).(type) {
	case []any:
		return x
	case map[string]any:
		if s, ok := x["set"].([]any); ok {
			return s
		}
		return []any{x}
	case nil:
		return nil
	default:
		return []any{x}
	}
}

func (n *nftParser) portSet(v any) ([]ports.PortRange, bool) {
	var out []ports.PortRange
	for _, it := range n.items(v) {
		if m, ok := it.(map[string]any); ok {
			if e, ok := m["elem"].(map[string]any); ok {
				it = e["val"]
			}
		}
		switch x := it.(type) {
		case float64:
			out = append(out, ports.PortRange{First: uint16(x), Last: uint16(x)})
		case map[string]any:
			r, _ := x["range"].([]any)
			if len(r) != 2 {
				return nil, false
			}
			a, ok1 := r[0].(float64)
			b, ok2 := r[1].(float64)
			if !ok1 || !ok2 {
				return nil, false
			}
			out = append(out, ports.PortRange{First: uint16(a), Last: uint16(b)})
		default:
			return nil, false
		}
	}
	return out, true
}

func (n *nftParser) addrSet(v any) ([]netip.Prefix, bool) {
	var out []netip.Prefix
	for _, it := range n.items(v) {
		if m, ok := it.(map[string]any); ok {
			if e, ok := m["elem"].(map[string]any); ok {
				it = e["val"]
			}
		}
		switch x := it.(type) {
		case string:
			a, err := netip.ParseAddr(x)
			if err != nil {
				return nil, false
			}
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		case map[string]any:
			p, _ := x["prefix"].(map[string]any)
			a, err := netip.ParseAddr(fmt.Sprint(p["addr"]))
			bits, ok := p["len"].(float64)
			if err != nil || !ok {
				return nil, false
			}
			out = append(out, netip.PrefixFrom(a, int(bits)))
		default:
			return nil, false
		}
	}
	return out, true
}

// words returns the strings and numbers in a value, however nested.
func words(v any) []string {
	switch x := v.(type) {
	case string:
		return []string{x}
	case float64:
		return []string{fmt.Sprint(x)}
	case []any:
		var out []string
		for _, e := range x {
			out = append(out, words(e)...)
		}
		return out
	case map[string]any:
		var out []string
		for _, e := range x {
			out = append(out, words(e)...)
		}
		return out
	}
	return nil
}
