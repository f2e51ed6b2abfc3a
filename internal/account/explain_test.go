package account

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseHours(t *testing.T) {
	for in, want := range map[string]string{
		"08:00-18:00": "08:00-18:00", "mon-fri 08:00-18:00": "mon,tue,wed,thu,fri 08:00-18:00", "SAT,Sunday 22:00-06:00": "sun,sat 22:00-06:00",
		"fri-mon 00:00-24:00": "sun,mon,fri,sat 00:00-24:00", "mon-mon 10:00-11:00": "mon 10:00-11:00",
	} {
		h, err := ParseHours(in)
		if err != nil || h.String() != want {
			t.Errorf("ParseHours(%q) = %q, %v; want %q", in, h, err, want)
		}
		if again, err := ParseHours(h.String()); err != nil || again.String() != want {
			t.Errorf("%q does not read back: %v, %v", want, again, err)
		}
	}
	for _, in := range []string{"", "mon", "mo 08:00-09:00", "08:00", "8:00-9:00", "25:00-26:00", "mon 08:00 09:00", "mon,,tue 08:00-09:00", "mon-xyz 08:00-09:00"} {
		if h, err := ParseHours(in); err == nil {
			t.Errorf("ParseHours(%q) = %v", in, h)
		}
	}
}

// TestExplainAgrees: what Explain says about every right is what the policy of
// a session says, and the reason names who gave the rule.
func TestExplainAgrees(t *testing.T) {
	u := User{Name: "ann", Home: "/srv/ann", Groups: []string{"staff", "temps"}, Rules: []Rule{{Path: "/in", Rights: Upload}}, Mounts: []Mount{{Path: "/pub", Source: "/srv/pub", ReadOnly: true}}}
	groups := []Group{
		{Name: "temps", Rules: []Rule{{Path: "/in", Rights: All}, {Path: "/out", Rights: ReadOnly, Deny: []string{"*.exe"}, Hide: []string{".*"}}}, Hours: []Hours{{From: "08:00", Until: "18:00"}}},
		{Name: "staff", Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}
	p := Fold(u, groups)
	for path, origin := range map[string]string{"/": "the default", "/in/x": "set for the user", "/out/x": "from group temps", "/out/a.exe": "from group temps", "/out/.x": "from group temps", "/pub/x": "set for the user", "/inbox": "the default"} {
		x := Explain(u, groups, Question{Path: path})
		if len(x.Rights) != len(rightNames) {
			t.Fatalf("%d rights", len(x.Rights))
		}
		for i, v := range x.Rights {
			r := Rights(1) << i
			verdict, _ := p.CheckName(path, r&(List|Mkdir|Rmdir) != 0)
			want := p.At(path).Has(r) && verdict == NameAllowed && !(strings.HasPrefix(path, "/pub") && r&ReadOnly == 0)
			if v.Allowed != want || v.What != rightNames[i] {
				t.Errorf("%s at %s: %+v, want %v", rightNames[i], path, v, want)
			}
		}
		if w := x.Rights[2].Why; !strings.Contains(w, origin) { // upload
			t.Errorf("%s: %q does not name %q", path, w, origin)
		}
	}
	noon := time.Date(2030, 1, 7, 12, 0, 0, 0, time.UTC)
	x := Explain(u, groups, Question{Path: "/", From: netip.MustParseAddr("192.0.2.1"), At: noon.Add(8 * time.Hour), Protocol: "ftp"})
	want := map[string]bool{"enabled": true, "expiry": true, "protocol": true, "network": false, "hours": false}
	for _, v := range x.Login {
		if v.Allowed != want[v.What] {
			t.Errorf("%+v", v)
		}
	}
	u.Disabled, u.Expires = true, noon
	for _, v := range Explain(u, groups, Question{Path: "/", At: noon}).Login[:2] {
		if v.Allowed {
			t.Errorf("a disabled and expired account: %+v", v)
		}
	}
}

// TestExplainNamesTheDecider: with rules and mounts from three places, the one
// that decides is the one that is named.
func TestExplainNamesTheDecider(t *testing.T) {
	u := User{Name: "ann", Home: "/srv/ann", Groups: []string{"staff", "temps"}, Rules: []Rule{{Path: "/a.tmp", Rights: All}, {Path: "/in", Rights: ReadWrite, Allow: []string{"*.csv"}}}}
	groups := []Group{
		{Name: "staff", Rules: []Rule{{Path: "/", Rights: All, Deny: []string{"*.tmp"}, Hide: []string{".*"}}}},
		{Name: "temps", Mounts: []Mount{{Path: "/far/away", Source: "/srv/away"}, {Path: "/ro", Source: "/srv/ro", ReadOnly: true}}, Rules: []Rule{{Path: "/", Rights: ReadOnly}}},
	}
	for _, c := range []struct {
		path, right string
		allowed     bool
		why         string
	}{
		{"/in/report.csv", "upload", true, "the rule for /in is the longest that covers /in/report.csv: read-write, set for the user"},
		{"/in/report.doc", "upload", false, "the rule for /in allows only *.csv, set for the user"},
		{"/in/dir", "mkdir", true, "set for the user"},
		{"/x", "delete", true, "from group staff"}, // the first group with a rule wins over the second
		// The name is denied by the rule of its directory, not by the user's own rule for it.
		{"/a.tmp", "download", false, `the rule for / denies "*.tmp", from group staff`},
		{"/.ssh/key", "list", false, `the rule for / hides ".*", from group staff`},
		{"/ro/x", "upload", false, "the mount at /ro is read-only, from group temps"},
		{"/ro/x", "download", true, "from group staff"},
		{"/ro", "rmdir", false, "a mount point"},
		{"/far", "rename", false, "on the way to one"},
		{"/far/away/x", "rename", true, "from group staff"},
	} {
		for _, v := range Explain(u, groups, Question{Path: c.path}).Rights {
			if v.What == c.right && (v.Allowed != c.allowed || !strings.Contains(v.Why, c.why)) {
				t.Errorf("%s at %s: %+v, want %v and %q", c.right, c.path, v, c.allowed, c.why)
			}
		}
	}
}
