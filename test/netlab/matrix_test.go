//go:build lab

package netlab

import "strings"

// letters of the matrix: "." works; data connection: T timeout, R refused,
// U unreachable; P the command is refused, p it gets no answer; D the server's
// connection to the client fails; A AUTH is refused; L the TLS handshake fails;
// control connection: t timeout, r refused, u unreachable; l log-in refused;
// 4 the data connection is accepted and then 425; S stalled; - not tried.
func (r *report) matrix() string {
	var b strings.Builder
	for _, group := range []struct {
		family, security string
		modes            []string
	}{
		{"ipv4", "plain", []string{"PASV", "EPSV", "PORT", "EPRT"}},
		{"ipv4", "explicit", []string{"PASV", "EPSV", "PORT", "EPRT"}},
		{"ipv4", "implicit", []string{"PASV", "EPSV"}},
		{"ipv6", "plain", []string{"EPSV", "EPRT"}},
		{"ipv6", "explicit", []string{"EPSV", "EPRT"}},
	} {
		s := ""
		last := "-"
		for _, m := range group.modes {
			for _, p := range r.Probes {
				if p.Family == group.family && p.Security == group.security && p.Mode == m {
					last = p.letter()
				}
			}
			s += last
			if strings.Contains(".TRUPpD4SE", last) {
				last = "-"
			}
		}
		if strings.Trim(s, "-") == "" && group.family == "ipv6" {
			continue
		}
		b.WriteString(s + " ")
	}
	return strings.TrimSpace(b.String())
}

func (p *probe) letter() string {
	active := p.Mode == "PORT" || p.Mode == "EPRT"
	switch {
	case p.Outcome == "ok":
		return "."
	case p.Stage == "connect":
		return map[string]string{"timeout": "t", "refused": "r", "unreachable": "u"}[p.Outcome]
	case p.Stage == "auth":
		return "A"
	case p.Stage == "tls":
		return "L"
	case p.Stage == "login":
		return "l"
	case p.Stage == "setup" && p.Outcome == "rejected":
		return "P"
	case p.Stage == "setup":
		return "p"
	case active:
		return "D"
	case p.Stage == "data" && p.Outcome == "rejected":
		return "4"
	case p.Stage == "data":
		return map[string]string{"timeout": "T", "refused": "R", "unreachable": "U", "tls": "L"}[p.Outcome]
	case p.Outcome == "rejected" && p.Reply == 425:
		return "4"
	case p.Outcome == "stalled":
		return "S"
	}
	return "?"
}
