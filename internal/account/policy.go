package account

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Inherit fills what the user leaves open from its groups. The rule of
// precedence, setting by setting:
//
//  1. what the user says itself wins;
//  2. else the first group, in the order listed, that says something;
//  3. else the default (no limit, everywhere, any time, read-write).
//
// A zero field says nothing. Bytes and files of a quota and the two directions
// of a bandwidth are settings of their own. Mounts and rules are settled path
// by path: a group's mount at /shared is added unless the user, or an earlier
// group, has one at /shared. Lists (protocols, networks, hours, auth) are taken
// whole, never mixed. Homes and mount sources of groups are templates (%u, %g);
// one that cannot be expanded is left out, so the user has no home rather than
// a wrong one. Groups that u does not name are ignored; groups may be in any order.
func (u User) Inherit(groups []Group) User {
	u.Mounts, u.Rules = slices.Clone(u.Mounts), slices.Clone(u.Rules)
	for _, name := range u.Groups {
		i := slices.IndexFunc(groups, func(g Group) bool { return g.Name == name })
		if i < 0 {
			continue
		}
		g := groups[i]
		if u.Home == "" && g.Home != "" {
			if home, err := ExpandHome(g.Home, u.Name, g.Name); err == nil {
				u.Home = home
			}
		}
		for _, m := range g.Mounts {
			source, err := ExpandHome(m.Source, u.Name, g.Name)
			if err != nil || slices.ContainsFunc(u.Mounts, func(o Mount) bool { return o.Path == m.Path }) {
				continue
			}
			m.Source = source
			u.Mounts = append(u.Mounts, m)
		}
		for _, r := range g.Rules {
			if !slices.ContainsFunc(u.Rules, func(o Rule) bool { return o.Path == r.Path }) {
				u.Rules = append(u.Rules, r)
			}
		}
		u.Quota.Bytes = cmp.Or(u.Quota.Bytes, g.Quota.Bytes)
		u.Quota.Files = cmp.Or(u.Quota.Files, g.Quota.Files)
		u.Bandwidth.Down = cmp.Or(u.Bandwidth.Down, g.Bandwidth.Down)
		u.Bandwidth.Up = cmp.Or(u.Bandwidth.Up, g.Bandwidth.Up)
		u.MaxSessions = cmp.Or(u.MaxSessions, g.MaxSessions)
		u.Protocols = firstList(u.Protocols, g.Protocols)
		u.Networks = firstList(u.Networks, g.Networks)
		u.Hours = firstList(u.Hours, g.Hours)
		u.Auth = firstList(u.Auth, g.Auth)
	}
	return u
}

func firstList[T any](own, group []T) []T {
	if len(own) > 0 {
		return own
	}
	return group
}

// Fold makes the policy of a session from a user and its groups; Inherit says
// which value wins. The home comes first as the mount "/" and gives way to no
// other mount there. Where no rule covers "/", ReadWrite at "/" is added: a rule
// for one folder does not take away the rest.
func Fold(u User, groups []Group) Policy {
	u = u.Inherit(groups)
	p := Policy{User: u.Name, UserID: u.ID, Groups: u.Groups, Quota: u.Quota, Bandwidth: u.Bandwidth, MaxSessions: u.MaxSessions}
	if u.Home != "" {
		p.Mounts = append(p.Mounts, Mount{Path: "/", Source: u.Home})
	}
	for _, m := range u.Mounts {
		switch {
		case m.Path != "/":
			p.Mounts = append(p.Mounts, m)
		case u.Home == "":
			p.Mounts = slices.Insert(p.Mounts, 0, m)
		}
	}
	p.Rules = u.Rules
	if !slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Path == "/" }) {
		p.Rules = append(p.Rules, Rule{Path: "/", Rights: ReadWrite})
	}
	slices.SortStableFunc(p.Rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), strings.Compare(a.Path, b.Path))
	})
	return p
}

// Decide returns the rule that governs name (a clean absolute path) and a
// sentence that says why: the rule with the longest path that name is or lies
// below, by whole components. A Policy that was not made by Fold and has no
// rule for name grants nothing.
func (p Policy) Decide(name string) (rule Rule, why string) {
	i := p.ruleFor(name)
	if i < 0 {
		return Rule{Path: "/"}, "no rule covers " + name
	}
	r := p.Rules[i]
	if len(p.Rules) == 1 {
		return r, fmt.Sprintf("the rule for %s is the only one: %s", r.Path, r.Rights)
	}
	return r, fmt.Sprintf("the rule for %s is the longest that covers %s: %s", r.Path, name, r.Rights)
}

// At returns the rights that hold at name, a clean absolute path.
func (p Policy) At(name string) Rights {
	if i := p.ruleFor(name); i >= 0 {
		return p.Rules[i].Rights
	}
	return 0
}

// ruleFor does not rely on the order of Rules, so that a hand-made Policy is right too.
func (p Policy) ruleFor(name string) int {
	best := -1
	for i := range p.Rules {
		if covers(p.Rules[i].Path, name) && (best < 0 || len(p.Rules[i].Path) > len(p.Rules[best].Path)) {
			best = i
		}
	}
	return best
}

// NameVerdict is what the name patterns say about a path.
type NameVerdict uint8

// The verdicts.
const (
	NameAllowed NameVerdict = iota
	NameDenied              // exists for the user, but cannot be used: fault.NameRefused
	NameHidden              // does not exist for the user: fault.NotExist
)

// CheckName applies the name patterns to name, a clean absolute path. Each
// component is judged by the rule that governs the directory it is in; a
// hidden or denied directory takes all below it along. Allow patterns are for
// the last component and for files only (dir false), else no directory could
// be entered. why names pattern and rule, "" when allowed.
func (p Policy) CheckName(name string, dir bool) (v NameVerdict, why string) {
	v, _, why = p.checkName(name, dir)
	return v, why
}

// checkName is CheckName and the path of the rule that decided.
func (p Policy) checkName(name string, dir bool) (v NameVerdict, rule, why string) {
	if name == "/" || !p.hasPatterns() {
		return NameAllowed, "", ""
	}
	for end := 1; end <= len(name); end++ {
		if end < len(name) && name[end] != '/' {
			continue
		}
		parent, last := path.Split(name[:end])
		if len(parent) > 1 {
			parent = parent[:len(parent)-1]
		}
		i := p.ruleFor(parent)
		if i < 0 {
			continue
		}
		r := &p.Rules[i]
		if pat, ok := matchAny(r.Hide, last); ok {
			return NameHidden, r.Path, fmt.Sprintf("the rule for %s hides %q", r.Path, pat)
		}
		if pat, ok := matchAny(r.Deny, last); ok && v == NameAllowed {
			v, rule, why = NameDenied, r.Path, fmt.Sprintf("the rule for %s denies %q", r.Path, pat)
		}
		if end == len(name) && !dir && v == NameAllowed && len(r.Allow) > 0 {
			if _, ok := matchAny(r.Allow, last); !ok {
				v, rule, why = NameDenied, r.Path, fmt.Sprintf("the rule for %s allows only %s", r.Path, strings.Join(r.Allow, ", "))
			}
		}
	}
	return v, rule, why
}

// Hidden reports whether name does not exist for the user. Listings ask it for each entry.
func (p Policy) Hidden(name string) bool {
	for i := range p.Rules {
		if len(p.Rules[i].Hide) > 0 {
			v, _ := p.CheckName(name, true)
			return v == NameHidden
		}
	}
	return false
}

func (p Policy) hasPatterns() bool {
	for i := range p.Rules {
		if r := &p.Rules[i]; len(r.Allow)+len(r.Deny)+len(r.Hide) > 0 {
			return true
		}
	}
	return false
}
