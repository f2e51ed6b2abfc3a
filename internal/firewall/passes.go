package firewall

import "fmt"

// Passes says what the rules do with a new TCP connection of this machine: out
// to port on some other machine, or, with out false, in to port here. reason
// names the rule when the status is not Open. Rules of a format that does not
// concern the family let everything pass.
func Passes(format, text string, out, v6 bool, port uint16) (status Status, reason string, err error) {
	var rs *ruleset
	switch format {
	case FormatNftables:
		rs, err = parseNft(text)
	case FormatIptables, FormatIp6tables:
		if v6 != (format == FormatIp6tables) {
			return Open, "", nil
		}
		rs, err = parseIptables(text, map[bool]string{false: "ipv4", true: "ipv6"}[v6])
	default:
		err = fmt.Errorf("firewall: unknown rule set format %q", format)
	}
	if err != nil {
		return Unclear, "", err
	}
	v := rs.judge(&packet{out: out, v6: v6, dport: port})
	return v.status, v.reason, nil
}
