package account

import (
	"encoding/json"
	"errors"
	"net/netip"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

func TestParseRights(t *testing.T) {
	tests := []struct {
		in   string
		want Rights
		out  string // String of want
		bad  bool
	}{
		{in: "all", want: All, out: "all"},
		{in: "rw", want: ReadWrite, out: "read-write"},
		{in: "read-write", want: ReadWrite, out: "read-write"},
		{in: "ro", want: ReadOnly, out: "read-only"},
		{in: "read-only", want: List | Download, out: "read-only"},
		{in: "none", want: 0, out: "none"},
		{in: "List, UPLOAD", want: List | Upload, out: "list,upload"},
		{in: "rw,-delete", want: ReadWrite &^ Delete, out: "list,download,upload,overwrite,append,rename,mkdir,rmdir,chmod,times"},
		{in: "-delete", want: ReadWrite &^ Delete, out: "list,download,upload,overwrite,append,rename,mkdir,rmdir,chmod,times"},
		{in: "-delete,delete", want: ReadWrite, out: "read-write"},
		{in: "ro +upload", want: ReadOnly | Upload, out: "list,download,upload"},
		{in: "none,list", want: List, out: "list"},
		{in: "all,-all", want: 0, out: "none"},
		{in: "rw,link", want: All, out: "all"},
		{in: "", bad: true},
		{in: " , ", bad: true},
		{in: "read", bad: true},
		{in: "list,--delete", bad: true},
		{in: "4095", bad: true},
	}
	for _, tt := range tests {
		got, err := ParseRights(tt.in)
		if (err != nil) != tt.bad || got != tt.want && !tt.bad {
			t.Errorf("ParseRights(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
		if !tt.bad && got.String() != tt.out {
			t.Errorf("ParseRights(%q).String() = %q, want %q", tt.in, got.String(), tt.out)
		}
	}
}

func TestRightsRoundTrip(t *testing.T) {
	for r := Rights(0); r <= All; r++ {
		if got, err := ParseRights(r.String()); err != nil || got != r {
			t.Fatalf("ParseRights(%q) = %v, %v; want %v", r.String(), got, err, r)
		}
	}
	b, err := json.Marshal(Rule{Path: "/in", Rights: List | Upload})
	if err != nil || string(b) != `{"path":"/in","rights":"list,upload"}` {
		t.Errorf("json = %s, %v", b, err)
	}
	var r Rule
	if err := json.Unmarshal([]byte(`{"rights":"nonsense"}`), &r); err == nil {
		t.Error("an unknown right was read without an error")
	}
}

func FuzzParseRights(f *testing.F) {
	for _, s := range []string{"", "all", "rw,-delete", "list,upload", "-", "+", ",,", "none -link"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRights(s)
		if err != nil {
			if r != 0 {
				t.Fatalf("ParseRights(%q) gives %v with an error", s, r)
			}
			return
		}
		if r&^All != 0 {
			t.Fatalf("ParseRights(%q) has unknown bits %b", s, r)
		}
		if again, err := ParseRights(r.String()); err != nil || again != r {
			t.Fatalf("%q -> %v -> %q -> %v, %v", s, r, r.String(), again, err)
		}
	})
}

func TestValidName(t *testing.T) {
	for _, s := range []string{"a", "ann", "Ann.Lee_2@example-x", strings.Repeat("x", 64), "...", "0", "_", ".hidden"} {
		if err := ValidName(s); err != nil {
			t.Errorf("ValidName(%q) = %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "..", "-x", "a/b", `a\b`, "a b", "a\x00", "ann\n", "änn", "a%u", "a:b", strings.Repeat("x", 65)} {
		if err := ValidName(s); fault.KindOf(err) != fault.Invalid {
			t.Errorf("ValidName(%q) = %v, want fault.Invalid", s, err)
		}
	}
}

func TestExpandHome(t *testing.T) {
	tests := []struct{ tmpl, user, group, want string }{
		{"/srv/%u", "ann", "", "/srv/ann"},
		{"/srv/%g/%u", "ann", "staff", "/srv/staff/ann"},
		{"/srv/100%%/%u%u", "ann", "", "/srv/100%/annann"},
		{"/srv/x", "../..", "", "/srv/x"},
		{"/srv/%u", "..", "", ""},
		{"/srv/%u", "a/../../etc", "", ""},
		{"/srv/%g", "ann", "", ""},
		{"/srv/%x", "ann", "", ""},
		{"/srv/%", "ann", "", ""},
	}
	for _, tt := range tests {
		got, err := ExpandHome(tt.tmpl, tt.user, tt.group)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ExpandHome(%q, %q, %q) = %q, %v; want %q", tt.tmpl, tt.user, tt.group, got, err, tt.want)
		}
	}
}

func TestMatchName(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "anything", true}, {"**", "", true},
		{"*.csv", "a.csv", true}, {"*.csv", ".csv", true}, {"*.csv", "a.csv.exe", false}, {"*.CSV", "a.csv", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a?c", "aäc", true}, {"?", "\xff", true}, {"??", "ä", false},
		{"*?", "ä", true}, {"*??", "ä", false}, {"*a*b*c", "xxaxxbxxc", true}, {"*a*b*c", "xxaxxbxx", false},
		{".*", ".hidden", true}, {".*", "a", false}, {"[ab]", "a", false}, {"[ab]", "[ab]", true}, {"{a,b}", "a", false},
		{`\*`, "*", false}, {"*ab", "aab", true}, {"*abab", "abababab", true}, {"a*", "b", false},
	}
	for _, tt := range tests {
		if got := MatchName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("MatchName(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

// A glob bomb must not cost more than pattern times name.
func TestMatchNameBomb(t *testing.T) {
	pattern := strings.Repeat("*a", 2000) + "b"
	name := strings.Repeat("a", 20000)
	began := time.Now()
	if MatchName(pattern, name) {
		t.Error("matched")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzMatchName compares with path.Match where the two agree on the language.
func FuzzMatchName(f *testing.F) {
	for _, s := range [][2]string{{"*", "a"}, {"a?c", "abc"}, {"*.txt", "x.txt"}, {"*a*b", "aab"}, {"?*?", "äö"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := MatchName(pattern, name)
		if strings.ContainsAny(pattern, `[]\/`) || strings.Contains(name, "/") || strings.Contains(pattern+name, "\uFFFD") ||
			strings.ToValidUTF8(pattern, "") != pattern || strings.ToValidUTF8(name, "") != name {
			return
		}
		if want, err := path.Match(pattern, name); err == nil && got != want {
			t.Fatalf("MatchName(%q, %q) = %v, path.Match says %v", pattern, name, got, want)
		}
	})
}

func TestFoldPrecedence(t *testing.T) {
	g1 := Group{
		Name: "one", Home: "/srv/%g/%u", Quota: Quota{Bytes: 10}, Bandwidth: Bandwidth{Up: 7}, Protocols: []string{"ftps"},
		Mounts: []Mount{{Path: "/shared", Source: "/data/%g"}, {Path: "/mine", Source: "/g1"}},
		Rules:  []Rule{{Path: "/shared", Rights: ReadOnly}, {Path: "/mine", Rights: 0}},
	}
	g2 := Group{
		Name: "two", Home: "/never", Quota: Quota{Bytes: 99, Files: 5}, MaxSessions: 3, Protocols: []string{"sftp"},
		Mounts: []Mount{{Path: "/shared", Source: "/never"}, {Path: "/two", Source: "/two"}},
		Rules:  []Rule{{Path: "/shared", Rights: All}},
	}
	other := Group{Name: "other", MaxSessions: 1, Bandwidth: Bandwidth{Down: 1}}
	u := User{
		ID: 4, Name: "ann", Groups: []string{"one", "gone", "two"}, Bandwidth: Bandwidth{Down: 8},
		Mounts: []Mount{{Path: "/mine", Source: "/own"}},
		Rules:  []Rule{{Path: "/mine", Rights: Upload}},
	}
	got := Fold(u, []Group{other, g2, g1}) // the user's order counts, not this one
	want := Policy{
		User: "ann", UserID: 4, Groups: []string{"one", "gone", "two"}, Quota: Quota{Bytes: 10, Files: 5}, Bandwidth: Bandwidth{Down: 8, Up: 7}, MaxSessions: 3,
		Mounts: []Mount{{Path: "/", Source: "/srv/one/ann"}, {Path: "/mine", Source: "/own"}, {Path: "/shared", Source: "/data/one"}, {Path: "/two", Source: "/two"}},
		Rules:  []Rule{{Path: "/shared", Rights: ReadOnly}, {Path: "/mine", Rights: Upload}, {Path: "/", Rights: ReadWrite}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Fold =\n%+v\nwant\n%+v", got, want)
	}
	if in := u.Inherit([]Group{g1, g2}); !reflect.DeepEqual(in.Protocols, []string{"ftps"}) {
		t.Errorf("protocols = %v", in.Protocols)
	}
	if len(u.Mounts) != 1 || len(u.Rules) != 1 || u.Home != "" {
		t.Error("Fold changed the user it was given")
	}
}

func TestFoldHome(t *testing.T) {
	p := Fold(User{Name: "ann", Home: "/own", Groups: []string{"g"}}, []Group{{Name: "g", Home: "/other", Mounts: []Mount{{Path: "/", Source: "/third"}}}})
	if len(p.Mounts) != 1 || p.Mounts[0].Source != "/own" {
		t.Errorf("mounts = %v, want the own home alone at /", p.Mounts)
	}
	p = Fold(User{Name: "ann", Mounts: []Mount{{Path: "/a", Source: "/a"}, {Path: "/", Source: "mem:"}}}, nil)
	if len(p.Mounts) != 2 || p.Mounts[0].Path != "/" {
		t.Errorf("mounts = %v, want / first", p.Mounts)
	}
	p = Fold(User{Name: "..", Groups: []string{"g"}}, []Group{{Name: "g", Home: "/srv/%u"}})
	if len(p.Mounts) != 0 {
		t.Errorf("mounts = %v, want none for a name that is a path", p.Mounts)
	}
}

func TestDecide(t *testing.T) {
	p := Fold(User{Name: "ann", Rules: []Rule{
		{Path: "/in", Rights: Upload}, {Path: "/in/deep", Rights: ReadOnly}, {Path: "/inbox/x", Rights: 0},
	}}, nil)
	tests := []struct {
		name string
		rule string
		want Rights
	}{
		{"/", "/", ReadWrite}, {"/in", "/in", Upload}, {"/in/a", "/in", Upload}, {"/inbox", "/", ReadWrite}, {"/inbox/xy", "/", ReadWrite},
		{"/inbox/x", "/inbox/x", 0}, {"/in/deeper", "/in", Upload}, {"/in/deep/a/b", "/in/deep", ReadOnly}, {"/In", "/", ReadWrite},
	}
	for _, tt := range tests {
		r, why := p.Decide(tt.name)
		if r.Path != tt.rule || p.At(tt.name) != tt.want || !strings.Contains(why, tt.rule) {
			t.Errorf("%s: rule %s (%s), rights %v; want %s, %v", tt.name, r.Path, why, p.At(tt.name), tt.rule, tt.want)
		}
	}
	if (Policy{}).At("/x") != 0 {
		t.Error("a policy without rules grants something")
	}
}

func TestCheckName(t *testing.T) {
	p := Fold(User{Name: "ann", Rules: []Rule{
		{Path: "/", Rights: ReadWrite, Hide: []string{".git"}, Deny: []string{"*.exe"}},
		{Path: "/in", Rights: Upload, Allow: []string{"*.csv"}},
	}}, nil)
	tests := []struct {
		name string
		dir  bool
		want NameVerdict
	}{
		{"/", true, NameAllowed}, {"/a", false, NameAllowed}, {"/.git", true, NameHidden}, {"/a/.git/config", false, NameHidden},
		{"/a.exe", false, NameDenied}, {"/x.exe/a", false, NameDenied}, {"/x.exe/.git", false, NameHidden},
		{"/in", true, NameAllowed}, {"/in/a.csv", false, NameAllowed}, {"/in/a.txt", false, NameDenied}, {"/in/sub", true, NameAllowed},
		{"/in/sub/a.txt", false, NameDenied}, {"/in/sub/a.csv", false, NameAllowed}, {"/inbox.txt", false, NameAllowed},
	}
	for _, tt := range tests {
		v, why := p.CheckName(tt.name, tt.dir)
		if v != tt.want || (why == "") != (v == NameAllowed) {
			t.Errorf("CheckName(%s, %v) = %v (%s), want %v", tt.name, tt.dir, v, why, tt.want)
		}
		if p.Hidden(tt.name) != (tt.want == NameHidden) {
			t.Errorf("Hidden(%s) = %v", tt.name, p.Hidden(tt.name))
		}
	}
}

func TestHours(t *testing.T) {
	day := func(d int, clock string) time.Time { // 1 June 2026 is a Monday
		at, err := time.ParseInLocation("2006-01-02 15:04", time.Date(2026, 6, d, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)+" "+clock, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	weekdays := []time.Weekday{1, 2, 3, 4, 5}
	tests := []struct {
		h    Hours
		at   time.Time
		want bool
	}{
		{Hours{From: "08:00", Until: "18:00"}, day(1, "08:00"), true},
		{Hours{From: "08:00", Until: "18:00"}, day(1, "17:59"), true},
		{Hours{From: "08:00", Until: "18:00"}, day(1, "18:00"), false},
		{Hours{From: "08:00", Until: "18:00"}, day(1, "07:59"), false},
		{Hours{Days: weekdays, From: "08:00", Until: "18:00"}, day(6, "10:00"), false},
		{Hours{Days: weekdays, From: "22:00", Until: "06:00"}, day(5, "23:00"), true},
		{Hours{Days: weekdays, From: "22:00", Until: "06:00"}, day(6, "05:00"), true},  // Friday's night
		{Hours{Days: weekdays, From: "22:00", Until: "06:00"}, day(7, "23:00"), false}, // Sunday
		{Hours{Days: weekdays, From: "22:00", Until: "06:00"}, day(8, "05:00"), false}, // Sunday's night
		{Hours{From: "00:00", Until: "24:00"}, day(1, "23:59"), true},
		{Hours{From: "09:00", Until: "09:00"}, day(1, "03:00"), true},
		{Hours{From: "8:00", Until: "18:00"}, day(1, "10:00"), false},
		{Hours{}, day(1, "10:00"), false},
	}
	for _, tt := range tests {
		if got := tt.h.Contains(tt.at); got != tt.want {
			t.Errorf("%+v at %s: %v", tt.h, tt.at.Format("Mon 15:04"), got)
		}
	}
}

func TestUsable(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	in := netip.MustParseAddr("192.0.2.7")
	nets := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::ffff:198.51.100.0/120")}
	tests := []struct {
		name string
		u    User
		from netip.Addr
		want string // part of the reason; empty: usable
	}{
		{"open", User{}, in, ""},
		{"disabled", User{Disabled: true}, in, "disabled"},
		{"expired", User{Expires: now}, in, "expired"},
		{"expires later", User{Expires: now.Add(time.Second)}, in, ""},
		{"protocol", User{Protocols: []string{"sftp"}}, in, "may not use ftp"},
		{"network", User{Networks: nets}, in, ""},
		{"mapped", User{Networks: nets}, netip.MustParseAddr("::ffff:192.0.2.7"), ""},
		{"mapped prefix", User{Networks: nets}, netip.MustParseAddr("198.51.100.9"), ""},
		{"zone", User{Networks: nets}, netip.MustParseAddr("2001:db8::1%eth0"), ""},
		{"other network", User{Networks: nets}, netip.MustParseAddr("192.0.3.7"), "192.0.3.7"},
		{"no address", User{Networks: nets}, netip.Addr{}, "may not log in from"},
		{"hours", User{Hours: []Hours{{From: "13:00", Until: "14:00"}}}, in, "Monday at 12:00"},
		{"second window", User{Hours: []Hours{{From: "13:00", Until: "14:00"}, {From: "11:00", Until: "13:00"}}}, in, ""},
	}
	for _, tt := range tests {
		err := tt.u.Usable(now, tt.from, "ftp")
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case err != nil && fault.KindOf(err) != fault.Login:
			t.Errorf("%s: kind %v", tt.name, fault.KindOf(err))
		}
	}
}

func TestAnonymous(t *testing.T) {
	u := Anonymous("/srv/pub", All)
	if p := Fold(u, nil); p.At("/x") != All&^(Link|Chmod) || p.Mounts[0].Source != "/srv/pub" {
		t.Errorf("policy = %+v", p)
	}
	if err := u.Validate(); err != nil || u.PasswordHash != "" {
		t.Errorf("Validate = %v", err)
	}
}

func TestValidate(t *testing.T) {
	good := User{
		Name: "ann", Home: "/srv/ann", Groups: []string{"g"}, Mounts: []Mount{{Path: "/m", Source: "mem:"}},
		Rules: []Rule{{Path: "/in", Deny: []string{"*.exe"}}}, Certificates: []string{strings.Repeat("ab", 32)},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Hours: []Hours{{From: "08:00", Until: "24:00"}}, Keys: []string{"ssh-ed25519 AAAA ann"},
	}
	if err := good.Validate(); err != nil {
		t.Fatalf("good user: %v", err)
	}
	tests := map[string]func(*User){
		"name":             func(u *User) { u.Name = "a/b" },
		"home relative":    func(u *User) { u.Home = "srv" },
		"home octets":      func(u *User) { u.Home = "/srv/\xff" },
		"comment":          func(u *User) { u.Comment = "a\nb" },
		"group twice":      func(u *User) { u.Groups = []string{"g", "g"} },
		"group name":       func(u *User) { u.Groups = []string{".."} },
		"mount path":       func(u *User) { u.Mounts[0].Path = "/m/.." },
		"mount at root":    func(u *User) { u.Mounts[0].Path = "/" },
		"mount source":     func(u *User) { u.Mounts[0].Source = "" },
		"rule path":        func(u *User) { u.Rules[0].Path = "in" },
		"pattern":          func(u *User) { u.Rules[0].Deny = []string{"a/b"} },
		"negative quota":   func(u *User) { u.Quota.Files = -1 },
		"fingerprint":      func(u *User) { u.Certificates[0] = "xyz" },
		"fingerprint case": func(u *User) { u.Certificates[0] = strings.Repeat("AB", 32) },
		"network":          func(u *User) { u.Networks = []netip.Prefix{{}} },
		"hours":            func(u *User) { u.Hours[0].Until = "25:00" },
		"protocol":         func(u *User) { u.Protocols = []string{"FTP"} },
		"key":              func(u *User) { u.Keys = []string{"a\nb"} },
	}
	for name, spoil := range tests {
		u := good
		u.Mounts, u.Rules, u.Hours = append([]Mount(nil), good.Mounts...), append([]Rule(nil), good.Rules...), append([]Hours(nil), good.Hours...)
		u.Certificates = append([]string(nil), good.Certificates...)
		spoil(&u)
		if err := u.Validate(); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v, want fault.Invalid", name, err)
		}
	}
	err := User{Name: "..", Home: "x"}.Validate()
	var fe *fault.Error
	if !errors.As(err, &fe) || !strings.Contains(err.Error(), "directory") || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("not all faults are listed: %v", err)
	}
	if err := (Group{Name: "g", Home: "/srv/%x"}).Validate(); err == nil {
		t.Error("a bad template was accepted")
	}
	if err := (Group{Name: "g", Home: "/srv/%g/%u"}).Validate(); err != nil {
		t.Errorf("good group: %v", err)
	}
}
