package account

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Verdict is yes or no to one question about an account, with the setting that
// decided.
type Verdict struct {
	What    string `json:"what"` // a right, or "enabled", "expiry", "protocol", "network", "hours", "factors"
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
}

// Explanation tells what an account may do at one path, and why.
type Explanation struct {
	User    string    `json:"user"`
	Path    string    `json:"path"`
	Mount   string    `json:"mount,omitempty"`   // the mount the path is in, "" when in none
	Storage string    `json:"storage,omitempty"` // its host directory
	Login   []Verdict `json:"login"`
	Rights  []Verdict `json:"rights"` // every right, in the order of the bits
}

// Question says what Explain is asked about. What is zero is not judged:
// without a protocol the verdict names the protocols that are open.
type Question struct {
	Path     string // clean absolute path as the user sees it
	Protocol string
	From     netip.Addr
	At       time.Time
}

// Explain answers q for a user with these groups, by the same rules that a
// session applies: Inherit, Fold, CheckName.
func Explain(u User, groups []Group, q Question) Explanation {
	p := Fold(u, groups)
	x := Explanation{User: u.Name, Path: q.Path}
	x.Login = explainLogin(u, groups, q)
	mount := -1
	for i, m := range p.Mounts {
		if covers(m.Path, q.Path) && (mount < 0 || len(m.Path) > len(p.Mounts[mount].Path)) {
			mount = i
		}
	}
	if mount >= 0 {
		x.Mount, x.Storage = p.Mounts[mount].Path, p.Mounts[mount].Source
	}
	rule, why := p.Decide(q.Path)
	why += ", " + ruleOrigin(u, groups, rule.Path)
	for i, word := range rightNames {
		r := Rights(1) << i
		v := Verdict{What: word, Allowed: rule.Rights.Has(r), Why: why}
		dir := r&(List|Mkdir|Rmdir) != 0
		switch verdict, by, what := p.checkName(q.Path, dir); {
		case verdict != NameAllowed:
			v.Allowed, v.Why = false, what+", "+ruleOrigin(u, groups, by)
		case r&(Delete|Rename|Rmdir) != 0 && leadsToMount(p.Mounts, q.Path):
			v.Allowed, v.Why = false, "a mount point, and a directory on the way to one, cannot be removed or renamed"
		case mount < 0 && r&ReadOnly == 0:
			v.Allowed, v.Why = false, "no storage is mounted here"
		case mount >= 0 && p.Mounts[mount].ReadOnly && r&ReadOnly == 0:
			v.Allowed, v.Why = false, fmt.Sprintf("the mount at %s is read-only, %s", x.Mount, mountOrigin(u, groups, x.Mount))
		}
		x.Rights = append(x.Rights, v)
	}
	return x
}

// leadsToMount is vfs.Mounts.Protect for all but the root, where the question
// is about what is in it.
func leadsToMount(ms []Mount, path string) bool {
	return path != "/" && slices.ContainsFunc(ms, func(m Mount) bool { return covers(path, m.Path) })
}

// ruleOrigin names who gave the rule at path; the first to have one wins.
func ruleOrigin(u User, groups []Group, path string) string {
	has := func(rs []Rule) bool { return slices.ContainsFunc(rs, func(r Rule) bool { return r.Path == path }) }
	if has(u.Rules) {
		return "set for the user"
	}
	if g := firstGroup(u, groups, func(g Group) bool { return has(g.Rules) }); g != "" {
		return "from group " + g
	}
	return "the default"
}

func mountOrigin(u User, groups []Group, path string) string {
	has := func(ms []Mount) bool { return slices.ContainsFunc(ms, func(m Mount) bool { return m.Path == path }) }
	if has(u.Mounts) {
		return "set for the user"
	}
	if g := firstGroup(u, groups, func(g Group) bool { return has(g.Mounts) }); g != "" {
		return "from group " + g
	}
	return "the home"
}

// firstGroup finds the first of the user's groups, in its order, that has something to say.
func firstGroup(u User, groups []Group, says func(Group) bool) string {
	for _, name := range u.Groups {
		if i := slices.IndexFunc(groups, func(g Group) bool { return g.Name == name }); i >= 0 && says(groups[i]) {
			return name
		}
	}
	return ""
}

func explainLogin(u User, groups []Group, q Question) []Verdict {
	e := u.Inherit(groups)
	origin := func(own bool, says func(Group) bool) string {
		if own {
			return ", set for the user"
		}
		if g := firstGroup(u, groups, says); g != "" {
			return ", from group " + g
		}
		return ""
	}
	out := []Verdict{{"enabled", !u.Disabled, "the account is enabled"}}
	if u.Disabled {
		out[0].Why = "the account is disabled"
	}
	at := q.At
	switch {
	case u.Expires.IsZero():
		out = append(out, Verdict{"expiry", true, "the account does not expire"})
	default:
		out = append(out, Verdict{"expiry", at.IsZero() || at.Before(u.Expires), "the account expires on " + u.Expires.Format(time.DateTime)})
	}
	v := Verdict{"protocol", q.Protocol == "" || e.AllowsProtocol(q.Protocol), "every protocol is open"}
	if len(e.Protocols) > 0 {
		v.Why = "only " + strings.Join(e.Protocols, ", ") + origin(len(u.Protocols) > 0, func(g Group) bool { return len(g.Protocols) > 0 })
	}
	out = append(out, v)
	v = Verdict{"network", !q.From.IsValid() || e.AllowedFrom(q.From), "from any address"}
	if len(e.Networks) > 0 {
		var words []string
		for _, n := range e.Networks {
			words = append(words, n.String())
		}
		v.Why = "only from " + strings.Join(words, ", ") + origin(len(u.Networks) > 0, func(g Group) bool { return len(g.Networks) > 0 })
	}
	out = append(out, v)
	v = Verdict{"hours", at.IsZero() || e.AllowedAt(at), "at any time"}
	if len(e.Hours) > 0 {
		var words []string
		for _, h := range e.Hours {
			words = append(words, h.String())
		}
		v.Why = "only " + strings.Join(words, "; ") + origin(len(u.Hours) > 0, func(g Group) bool { return len(g.Hours) > 0 })
	}
	out = append(out, v)
	if len(e.Auth) > 0 || u.KeyOnly || u.TOTP {
		out = append(out, explainFactors(u, e, groups))
	}
	return out
}

// explainFactors says what a log-in must prove; nobody is refused by it alone.
func explainFactors(u, e User, groups []Group) Verdict {
	v := Verdict{"factors", true, "a key alone, or a password and a code"}
	switch {
	case len(e.Auth) > 0:
		v.Why = "needs " + strings.Join(e.Auth, ", then ") + ", set for the user"
		if len(u.Auth) == 0 {
			v.Why = "needs " + strings.Join(e.Auth, ", then ") + ", from group " + firstGroup(u, groups, func(g Group) bool { return len(g.Auth) > 0 })
		}
		if slices.Contains(e.Auth, FactorCode) && !u.TOTP {
			v.Allowed, v.Why = false, v.Why+"; but the account has no second factor yet"
		}
	case u.KeyOnly:
		v.Why = "a key or client certificate only; no password, set for the user"
	}
	return v
}
