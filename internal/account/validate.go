package account

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portreeve/portreeve/internal/fault"
)

// Validate checks every field that can be wrong by itself and returns all
// faults joined, or nil. The kind is fault.Invalid.
func (u User) Validate() error {
	var bad problems
	bad.err("", ValidName(u.Name))
	bad.text("comment", u.Comment)
	bad.source("home", u.Home)
	bad.shared(u.Mounts, u.Rules, u.Quota, u.Bandwidth, u.MaxSessions, u.Protocols, u.Networks, u.Hours)
	if u.Home != "" && slices.ContainsFunc(u.Mounts, func(m Mount) bool { return m.Path == "/" }) {
		bad.add("there is a mount at / besides the home; only one of them can be shown there")
	}
	for i, g := range u.Groups {
		bad.err("group", ValidName(g))
		if slices.Contains(u.Groups[:i], g) {
			bad.add(fmt.Sprintf("group %s is listed twice", g))
		}
	}
	for i, c := range u.Certificates {
		if b, err := hex.DecodeString(c); err != nil || len(b) != 32 || strings.ToLower(c) != c {
			bad.add(fmt.Sprintf("certificate %q is not a SHA-256 fingerprint of 64 small hexadecimal digits", c))
		}
		if slices.Contains(u.Certificates[:i], c) {
			bad.add(fmt.Sprintf("certificate %s is listed twice", c))
		}
	}
	bad.checkAuth(u.Auth, u.KeyOnly)
	for _, k := range u.Keys {
		if strings.ContainsAny(k, "\r\n\x00") || strings.TrimSpace(k) == "" {
			bad.add("an SSH key must be one line")
		}
	}
	return bad.join("user", u.Name)
}

// Validate checks every field that can be wrong by itself; see User.Validate.
func (g Group) Validate() error {
	var bad problems
	bad.err("", ValidName(g.Name))
	bad.text("comment", g.Comment)
	bad.template("home", g.Home)
	bad.shared(g.Mounts, g.Rules, g.Quota, g.Bandwidth, g.MaxSessions, g.Protocols, g.Networks, g.Hours)
	bad.checkAuth(g.Auth, false)
	for _, m := range g.Mounts {
		bad.template("mount "+m.Path, m.Source)
	}
	return bad.join("group", g.Name)
}

type problems []error

func (p *problems) add(text string) { *p = append(*p, errors.New(text)) }

func (p *problems) err(what string, err error) {
	if err == nil {
		return
	}
	if what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	*p = append(*p, err)
}

func (p problems) join(what, name string) error {
	if len(p) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, fmt.Sprintf("%s %q", what, name), "", errors.Join(p...))
}

func (p *problems) text(what, s string) {
	if !utf8.ValidString(s) {
		p.add(what + " is not UTF-8 text")
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		p.add(what + " contains control characters")
	}
}

// source checks a host directory or "mem:"; empty is allowed, a group may give it.
func (p *problems) source(what, s string) {
	switch {
	case s == "" || strings.HasPrefix(s, "mem:"):
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		p.add(what + " is not UTF-8 text or contains a NUL; the database could not keep it")
	case !filepath.IsAbs(s):
		p.add(fmt.Sprintf("%s %q is not an absolute path", what, s))
	}
}

func (p *problems) template(what, s string) {
	_, err := ExpandHome(s, "u", "g")
	p.err(what, err)
	p.source(what, s)
}

func (p *problems) shared(mounts []Mount, rules []Rule, q Quota, b Bandwidth, sessions int, protocols []string, networks []netip.Prefix, hours []Hours) {
	for i, m := range mounts {
		if !cleanAbs(m.Path) || !utf8.ValidString(m.Path) {
			p.add(fmt.Sprintf("mount path %q is not a clean absolute path", m.Path))
		}
		if slices.ContainsFunc(mounts[:i], func(o Mount) bool { return o.Path == m.Path }) {
			p.add(fmt.Sprintf("two mounts at %s", m.Path))
		}
		if m.Source == "" {
			p.add(fmt.Sprintf("mount %s has no source", m.Path))
		}
		p.source("source of mount "+m.Path, m.Source)
		p.negative("quota of mount "+m.Path, m.Quota.Bytes, m.Quota.Files)
	}
	for i, r := range rules {
		if !cleanAbs(r.Path) || !utf8.ValidString(r.Path) {
			p.add(fmt.Sprintf("rule path %q is not a clean absolute path", r.Path))
		}
		if slices.ContainsFunc(rules[:i], func(o Rule) bool { return o.Path == r.Path }) {
			p.add(fmt.Sprintf("two rules for %s", r.Path))
		}
		for _, pat := range slices.Concat(r.Allow, r.Deny, r.Hide) {
			if pat == "" || strings.ContainsAny(pat, "/\x00") || !utf8.ValidString(pat) {
				p.add(fmt.Sprintf("rule %s: name pattern %q is empty or contains a slash; patterns match one name", r.Path, pat))
			}
		}
	}
	p.negative("quota", q.Bytes, q.Files)
	p.negative("bandwidth", b.Down, b.Up)
	p.negative("max_sessions", int64(sessions), 0)
	for _, s := range protocols {
		if s == "" || strings.ToLower(s) != s || strings.ContainsAny(s, " ,\t\r\n") {
			p.add(fmt.Sprintf("protocol %q is not a name like ftp, ftps or sftp", s))
		}
	}
	for _, n := range networks {
		if !n.IsValid() {
			p.add("a network is not valid; write it like 192.0.2.0/24")
		}
	}
	for _, h := range hours {
		_, err := clock(h.From)
		p.err("hours", err)
		_, err = clock(h.Until)
		p.err("hours", err)
		if slices.ContainsFunc(h.Days, func(d time.Weekday) bool { return d < time.Sunday || d > time.Saturday }) {
			p.add("hours: a day is 0 (Sunday) to 6 (Saturday)")
		}
	}
}

func (p *problems) negative(what string, a, b int64) {
	if a < 0 || b < 0 {
		p.add(what + " is negative; 0 means no limit")
	}
}
