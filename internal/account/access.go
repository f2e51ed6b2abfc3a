package account

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// Usable tells whether the account may log in now, from this address, by this
// protocol ("ftp", "ftps", "sftp", ...): not disabled, not expired, protocol,
// network and hours allowed. The error is fault.Login and says why; it is for
// the log, a client must not see it. Hours are judged in now's location, so
// pass the server's zone. Settings of groups count only after Inherit.
func (u User) Usable(now time.Time, from netip.Addr, protocol string) error {
	switch {
	case u.Disabled:
		return fault.Text(fault.Login, "the account is disabled")
	case !u.Expires.IsZero() && !now.Before(u.Expires):
		return fault.Text(fault.Login, "the account expired on "+u.Expires.Format(time.DateOnly))
	case !u.AllowsProtocol(protocol):
		return fault.Text(fault.Login, fmt.Sprintf("the account may not use %s, only %s", protocol, strings.Join(u.Protocols, ", ")))
	case !u.AllowedFrom(from):
		return fault.Text(fault.Login, fmt.Sprintf("the account may not log in from %s", from))
	case !u.AllowedAt(now):
		return fault.Text(fault.Login, fmt.Sprintf("the account may not log in on %s at %s", now.Weekday(), now.Format("15:04")))
	}
	return nil
}

// AllowsProtocol reports whether the protocol is open to the account.
func (u User) AllowsProtocol(protocol string) bool {
	return len(u.Protocols) == 0 || slices.Contains(u.Protocols, protocol)
}

// AllowedFrom reports whether addr is in one of the account's networks. An
// IPv4 address that arrived on an IPv6 socket counts as IPv4, a zone is ignored.
func (u User) AllowedFrom(addr netip.Addr) bool {
	if len(u.Networks) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range u.Networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// AllowedAt reports whether now lies in one of the account's windows.
func (u User) AllowedAt(now time.Time) bool {
	return len(u.Hours) == 0 || slices.ContainsFunc(u.Hours, func(h Hours) bool { return h.Contains(now) })
}

// Contains reports whether t, in its own location, lies in the window. From is
// included, Until is not. A window past midnight belongs to the day it begins
// on; From equal to Until is the whole day. Malformed times contain nothing.
func (h Hours) Contains(t time.Time) bool {
	from, err1 := clock(h.From)
	until, err2 := clock(h.Until)
	if err1 != nil || err2 != nil {
		return false
	}
	m, day := t.Hour()*60+t.Minute(), t.Weekday()
	on := func(d time.Weekday) bool { return len(h.Days) == 0 || slices.Contains(h.Days, d) }
	switch {
	case from == until:
		return on(day)
	case from < until:
		return on(day) && m >= from && m < until
	}
	return m >= from && on(day) || m < until && on((day+6)%7)
}

// clock reads "HH:MM" (00:00 to 24:00) as minutes after midnight.
func clock(s string) (int, error) {
	hh, mm, ok := strings.Cut(s, ":")
	if ok && len(hh) == 2 && len(mm) == 2 {
		h, err1 := strconv.ParseUint(hh, 10, 8)
		m, err2 := strconv.ParseUint(mm, 10, 8)
		if v := int(h)*60 + int(m); err1 == nil && err2 == nil && m < 60 && v <= 24*60 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%q is not a time of day; write it like 08:00", s)
}

// AnonymousNames are the user names that mean the anonymous account.
var AnonymousNames = [...]string{"anonymous", "ftp"}

// Anonymous builds the account behind the names of AnonymousNames. It is not a
// row: ID is 0 and it has no password. Links and changes of mode stay off
// whatever rights say.
func Anonymous(home string, rights Rights) User {
	return User{
		Name:    AnonymousNames[0],
		Comment: "anonymous access",
		Home:    home,
		Rules:   []Rule{{Path: "/", Rights: rights &^ (Link | Chmod)}},
	}
}
