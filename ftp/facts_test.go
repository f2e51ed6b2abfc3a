package ftp

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"
)

// RFC 3659 section 7.2: entry = [ facts ] SP pathname.
func TestParseFacts(t *testing.T) {
	tests := []struct {
		in, name string
		facts    Facts
	}{
		{"type=file;size=6; a.txt", "a.txt", Facts{{"type", "file"}, {"size", "6"}}},
		{"Type=dir;  two  spaces", " two  spaces", Facts{{"Type", "dir"}}},
		{"type=file; a; b=c; d", "a; b=c; d", Facts{{"type", "file"}}},
		{" no facts", "no facts", nil},
		{"  a name with a space before", " a name with a space before", nil},
		{"x.new=;type=file; n", "n", Facts{{"x.new", ""}, {"type", "file"}}},
		{"a=b=c; n", "n", Facts{{"a", "b=c"}}},
		{"type=OS.unix=slink:/a b;size=1; n", "n", Facts{{"type", "OS.unix=slink:/a b"}, {"size", "1"}}},
		{"type=file; \xff\xfe", "\xff\xfe", Facts{{"type", "file"}}},
		{"type=file;", "", nil},
		{"type=file; ", "", nil},
		{"type=file a", "", nil},
		{"type; a", "", nil},
		{"=x; a", "", nil},
		{";; a", "", nil},
		{"", "", nil},
		{" ", "", nil},
		{"type=file; a\nb", "", nil},
	}
	for _, tt := range tests {
		facts, name, err := ParseFacts(tt.in)
		if (err == nil) != (tt.name != "") || name != tt.name || !reflect.DeepEqual(facts, tt.facts) {
			t.Errorf("ParseFacts(%q) = %v, %q, %v", tt.in, facts, name, err)
		}
		if err == nil && FormatFacts(facts, name) != tt.in {
			t.Errorf("FormatFacts: %q became %q", tt.in, FormatFacts(facts, name))
		}
	}
}

func FuzzFacts(f *testing.F) {
	for _, s := range []string{"type=file;size=6;modify=20240506070809; a.txt", "  x", "a=b;c=d;  e; f", "type=OS.unix=slink:/a b; l", "unique=1gff;UNIX.mode=0644; n", "size=-1;modify=x;unix.mode=9; n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		facts, name, err := ParseFacts(s)
		if err != nil {
			return
		}
		back := FormatFacts(facts, name)
		if back != s {
			t.Fatalf("%q became %q", s, back)
		}
		in := facts.Info(name)
		if in.Size < 0 || in.Name != name || strings.ContainsAny(name, "\r\n") {
			t.Fatalf("%q: %+v", s, in)
		}
	})
}

// RFC 3659 section 7.5: the facts.
func TestFactsInfo(t *testing.T) {
	mod := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	tests := []struct {
		in   string
		want Info
	}{
		{"Type=file;Size=6;Modify=20240506070809;Perm=r;UNIX.mode=0640;UNIX.ownername=ann;UNIX.owner=1000;UNIX.group=100; a",
			Info{Name: "a", Size: 6, ModTime: mod, Perm: "r", Mode: 0o640, Owner: "ann", Group: "100"}},
		{"type=dir;create=20240506070809;unique=1gff; d", Info{Name: "d", Mode: fs.ModeDir, Created: mod, Dev: 1, Inode: 255}},
		{"type=cdir;sizd=4096; .", Info{Name: ".", Mode: fs.ModeDir, Size: 4096}},
		{"type=pdir;unique=803U1a; ..", Info{Name: "..", Mode: fs.ModeDir, Dev: 0x803, Inode: 0x1a}},
		{"type=OS.unix=slink:/Target; l", Info{Name: "l", Mode: fs.ModeSymlink, Target: "/Target"}},
		{"type=OS.unix=symlink; l", Info{Name: "l", Mode: fs.ModeSymlink}},
		{"type=OS.unix=chr-5/1; c", Info{Name: "c", Mode: fs.ModeDevice | fs.ModeCharDevice}},
		{"size=x;modify=y;unix.mode=4755;unique=opaque; a", Info{Name: "a", Mode: 0o755}},
		{"size=-5;unix.mode=777777; a", Info{Name: "a"}},
	}
	for _, tt := range tests {
		facts, name, err := ParseFacts(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := facts.Info(name); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// What the server writes, the client reads (RFC 3659 section 7).
func TestFactsOfServer(t *testing.T) {
	in := Info{Name: "a b", Size: 6, Mode: 0o640, ModTime: memTime, Created: memTime, Owner: "ann", Group: "users", Dev: 0x10, Inode: 0xabc, Perm: "adfrw"}
	facts, name, err := ParseFacts(string(factSet(allFacts).append(nil, &in)) + in.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got := facts.Info(name); !reflect.DeepEqual(got, in) {
		t.Errorf("%+v, want %+v", got, in)
	}
}

// RFC 959 section 4.1.3 leaves the form of LIST open; these are seen in practice.
func TestParseListLine(t *testing.T) {
	now := time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)
	at := func(y int, m time.Month, d, h, min int) time.Time { return time.Date(y, m, d, h, min, 0, 0, time.UTC) }
	tests := []struct {
		in   string
		want Info
	}{
		{"-rw-r--r--   1 ann      users           6 May  6 07:08 a.txt", Info{Name: "a.txt", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2024, 5, 6, 7, 8)}},
		{"-rw-r--r-- 1 0 0 6 May 07 11:00 future within a day", Info{Name: "future within a day", Size: 6, Mode: 0o644, Links: 1, Owner: "0", Group: "0", ModTime: at(2024, 5, 7, 11, 0)}},
		{"-rw-r--r-- 1 ann users 6 Dec 24 18:00 last year", Info{Name: "last year", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2023, 12, 24, 18, 0)}},
		{"-rw-r--r-- 1 ann users 6 Feb 29 18:00 leap", Info{Name: "leap", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2024, 2, 29, 18, 0)}},
		{"drwxrwsr-t+ 2 ann users 4096 Jan  1  2020  two  spaces", Info{Name: " two  spaces", Size: 4096, Mode: fs.ModeDir | fs.ModeSetgid | fs.ModeSticky | 0o775, Links: 2, Owner: "ann", Group: "users", ModTime: at(2020, 1, 1, 0, 0)}},
		{"lrwxrwxrwx 1 ann users 5 Jan 1 2020 l -> a -> b", Info{Name: "l", Target: "a -> b", Size: 5, Mode: fs.ModeSymlink | 0o777, Links: 1, Owner: "ann", Group: "users", ModTime: at(2020, 1, 1, 0, 0)}},
		{"-rw-r--r-- 1 ann 6 Jan 1 2020 no group", Info{Name: "no group", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", ModTime: at(2020, 1, 1, 0, 0)}},
		{"-rw-r--r-- 1 ann users 6 2020-01-02 03:04 iso", Info{Name: "iso", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2020, 1, 2, 3, 4)}},
		{"-rw-r--r-- 1 ann users 99999999999 Jan 1 2020 big", Info{Name: "big", Size: 99999999999, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2020, 1, 1, 0, 0)}},
		{"-rw-r--r-- 1 ann users 6 Jan 1 2020 Jan 1 2020 x", Info{Name: "Jan 1 2020 x", Size: 6, Mode: 0o644, Links: 1, Owner: "ann", Group: "users", ModTime: at(2020, 1, 1, 0, 0)}},
		{"crw-rw-rw- 1 root root 1, 3 Jan 1 2020 null", Info{Name: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Links: 1, Owner: "root", Group: "root", ModTime: at(2020, 1, 1, 0, 0)}},
		{"04-27-24  09:09PM       <DIR>          dir name", Info{Name: "dir name", Mode: fs.ModeDir, ModTime: at(2024, 4, 27, 21, 9)}},
		{"04-14-2024  03:47PM               589 readme.htm", Info{Name: "readme.htm", Size: 589, ModTime: at(2024, 4, 14, 15, 47)}},
		{"04-14-24  15:47  1,589 a", Info{Name: "a", Size: 1589, ModTime: at(2024, 4, 14, 15, 47)}},
		{"total 12", Info{}},
		{"", Info{}},
		{"drwxr-xr-x 2 a b 4096 Jan 1 2020 .", Info{}},
		{"drwxr-xr-x 2 a b 4096 Jan 1 2020 ..", Info{}},
		{"drwxr-xr-x 2 a b 4096 Jan 1 2020 ", Info{}},
		{"-rw-r--r-- 1 ann users x Jan 1 2020 a", Info{}},
		{"-rw-r--r-- 1 ann users 6 Jan 41 2020 a", Info{}},
		{"-rw-q--r-- 1 ann users 6 Jan 1 2020 a", Info{}},
		{"-rw-r--r--", Info{}},
		{"04-14-24  03:47PM  <DIR>", Info{}},
		{"04-14-24  03:47PM  x y", Info{}},
		{"-rw-r--r-- 1 ann users -6 Jan 1 2020 a", Info{}},
	}
	for _, tt := range tests {
		got, err := ParseListLine(tt.in, now)
		if (err == nil) != (tt.want.Name != "") || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseListLine(%q) = %+v, %v\nwant %+v", tt.in, got, err, tt.want)
		}
	}
}

func FuzzParseListLine(f *testing.F) {
	for _, s := range []string{"-rw-r--r-- 1 ann users 6 May  6 07:08 a.txt", "04-27-24  09:09PM  <DIR>  d", "lrwxrwxrwx 1 a b 5 Jan 1 2020 l -> t"} {
		f.Add(s)
	}
	now := time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if in, err := ParseListLine(s, now); err == nil && (in.Name == "" || in.Name == "." || in.Name == ".." || in.Size < 0) {
			t.Fatalf("%q: %+v", s, in)
		}
	})
}
