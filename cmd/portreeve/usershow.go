package main

import (
	"fmt"
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
func showUser(w io.Writer, u account.User) error {
	rows := [][]string{
		{"name:", u.Name}, {"state:", userState(u)}, {"home:", u.Home},
	}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name + ":", value})
		}
	}
	add("comment", u.Comment)
	add("groups", strings.Join(u.Groups, ", "))
	if len(u.Rules) == 0 {
		add("rights", account.ReadWrite.String())
	}
	for _, r := range u.Rules {
		add("rights "+r.Path, r.Rights.String())
	}
	for _, m := range u.Mounts {
		text := m.Source
		if m.ReadOnly {
			text += " (read-only)"
		}
		add("mount "+m.Path, text)
	}
	if u.Quota.Bytes > 0 {
		add("quota", size(u.Quota.Bytes))
	}
	if u.Quota.Files > 0 {
		add("quota files", strconv.FormatInt(u.Quota.Files, 10))
	}
	if u.Bandwidth.Down > 0 {
		add("bandwidth down", rate(u.Bandwidth.Down))
	}
	if u.Bandwidth.Up > 0 {
		add("bandwidth up", rate(u.Bandwidth.Up))
	}
	if u.MaxSessions > 0 {
		add("max sessions", strconv.Itoa(u.MaxSessions))
	}
	add("protocols", strings.Join(u.Protocols, ", "))
	var nets []string
	for _, n := range u.Networks {
		nets = append(nets, n.String())
	}
	add("networks", strings.Join(nets, ", "))
	for _, h := range u.Hours {
		add("hours", hoursText(h))
	}
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
	if u.MustChange {
		add("password", "must be changed")
	}
	add("made", when(u.CreatedAt))
	add("changed", when(u.UpdatedAt))
	add("last login", when(u.LastLogin))
	return table(w, rows)
}

func hoursText(h account.Hours) string {
	days := "every day"
	if len(h.Days) > 0 {
		var names []string
		for _, d := range h.Days {
			names = append(names, d.String()[:3])
		}
		days = strings.Join(names, " ")
	}
	return fmt.Sprintf("%s %s-%s", days, h.From, h.Until)
}
