package main

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// userState is one word about an account.
func userState(u account.User) string {
	switch {
	case u.Disabled:
		return "disabled"
	case !u.Expires.IsZero() && time.Now().After(u.Expires):
		return "expired"
	}
	return "active"
}

// rightsText is what the user may do at /, with a plus when rules say
// something else further down.
func rightsText(u account.User) string {
	text, more := account.ReadWrite.String(), ""
	for _, r := range u.Rules {
		if r.Path == "/" {
			text = r.Rights.String()
		} else {
			more = " +" + strconv.Itoa(len(u.Rules))
		}
	}
	if strings.Contains(text, ",") {
		text = "some"
	}
	return text + more
}

// showUser prints every setting that says something.
func showUser(w io.Writer, u account.User, home string) error {
	rows := [][]string{
		{"name:", u.Name}, {"state:", userState(u)}, {"home:", home},
	}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name + ":", value})
		}
	}
	add("comment", u.Comment)
	add("groups", strings.Join(u.Groups, ", "))
	rows = append(rows, settingRows(account.Group{Mounts: u.Mounts, Rules: u.Rules, Quota: u.Quota, Bandwidth: u.Bandwidth, MaxSessions: u.MaxSessions,
		Protocols: u.Protocols, Networks: u.Networks, Hours: u.Hours, Auth: u.Auth}, len(u.Groups) == 0)...)
	if !u.Expires.IsZero() {
		add("expires", when(u.Expires))
	}
	for _, c := range u.Certificates {
		add("certificate", c)
	}
	if n := len(u.Keys); n > 0 {
		add("SSH keys", strconv.Itoa(n))
	}
	if u.KeyOnly {
		add("password", "not accepted")
	}
	if u.TOTP {
		add("second factor", "codes (TOTP)")
	}
	if u.MustChange {
		add("password", "must be changed")
	}
	add("made", when(u.CreatedAt))
	add("changed", when(u.UpdatedAt))
	add("last login", when(u.LastLogin))
	return table(w, rows)
}

// settingRows are the settings that users and groups have in common. Without a
// rule the default rights are named when defaults is set.
func settingRows(g account.Group, defaults bool) (rows [][]string) {
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name + ":", value})
		}
	}
	if len(g.Rules) == 0 && defaults {
		add("rights", account.ReadWrite.String())
	}
	for _, r := range g.Rules {
		add("rights "+r.Path, r.Rights.String())
		add("allow "+r.Path, strings.Join(r.Allow, ", "))
		add("deny "+r.Path, strings.Join(r.Deny, ", "))
		add("hide "+r.Path, strings.Join(r.Hide, ", "))
	}
	for _, m := range g.Mounts {
		text := m.Source
		if m.ReadOnly {
			text += " (read-only)"
		}
		if m.Quota.Bytes > 0 {
			text += " (quota " + size(m.Quota.Bytes) + ")"
		}
		if m.Quota.Files > 0 {
			text += " (at most " + count(int(m.Quota.Files), "file") + ")"
		}
		add("mount "+m.Path, text)
	}
	if g.Quota.Bytes > 0 {
		add("quota", size(g.Quota.Bytes))
	}
	if g.Quota.Files > 0 {
		add("quota files", strconv.FormatInt(g.Quota.Files, 10))
	}
	if g.Bandwidth.Down > 0 {
		add("bandwidth down", rate(g.Bandwidth.Down))
	}
	if g.Bandwidth.Up > 0 {
		add("bandwidth up", rate(g.Bandwidth.Up))
	}
	if g.MaxSessions > 0 {
		add("max sessions", strconv.Itoa(g.MaxSessions))
	}
	add("protocols", strings.Join(g.Protocols, ", "))
	var nets []string
	for _, n := range g.Networks {
		nets = append(nets, n.String())
	}
	add("networks", strings.Join(nets, ", "))
	add("log-in needs", strings.Join(g.Auth, ", then "))
	for _, h := range g.Hours {
		add("hours", h.String())
	}
	return rows
}
