package vfs

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/portreeve/portreeve/internal/fault"
)

func TestClean(t *testing.T) {
	long, wide := strings.Repeat("n", MaxName), strings.Repeat("/"+strings.Repeat("w", 255), 16)
	tests := []struct {
		in, want string
		kind     fault.Kind
	}{
		{"/", "/", 0},
		{"//", "/", 0},
		{"/a", "/a", 0},
		{"/a/", "/a", 0},
		{"//a///b//", "/a/b", 0},
		{"/a/./b/.", "/a/b", 0},
		{"/a/../b", "/b", 0},
		{"/..", "/", 0},
		{"/../../..", "/", 0},
		{"/../etc/passwd", "/etc/passwd", 0},
		{"/a/b/../../../../c", "/c", 0},
		{"/...", "/...", 0},
		{"/..a", "/..a", 0},
		{"/a..", "/a..", 0},
		{"/ ", "/ ", 0},
		{"/-la", "/-la", 0},
		{`/a\..\b`, `/a\..\b`, 0},
		{"/%2e%2e/x", "/%2e%2e/x", 0},
		{"/\xff\xfe", "/\xff\xfe", 0},
		{"/\u202e\x80\x9f", "/\u202e\x80\x9f", 0},
		{"/\xc0\xae\xc0\xae/x", "/\xc0\xae\xc0\xae/x", 0}, // overlong dots are bytes, not dots
		{"/" + long, "/" + long, 0},
		{wide, wide, 0}, // 4096 bytes
		{strings.Repeat("/d", MaxDepth), strings.Repeat("/d", MaxDepth), 0},
		{strings.Repeat("/d/..", 5000) + "/x", "/x", 0}, // limits hold for the result
		{"", "", fault.Invalid},
		{".", "", fault.Invalid},
		{"a", "", fault.Invalid},
		{"../a", "", fault.Invalid},
		{"\x00/a", "", fault.Invalid},
		{"/\x00", "", fault.NameRefused},
		{"/a\x00/../b", "", fault.NameRefused}, // even if it would be cleaned away
		{"/a\nb", "", fault.NameRefused},
		{"/a\rb", "", fault.NameRefused},
		{"/\x1b[2J", "", fault.NameRefused},
		{"/\x01", "", fault.NameRefused},
		{"/\x1f", "", fault.NameRefused},
		{"/\x7f", "", fault.NameRefused},
		{"/" + long + "n", "", fault.NameRefused},
		{"/a/" + long + "n/b", "", fault.NameRefused},
		{wide + "/x", "", fault.NameRefused},
		{strings.Repeat("/d", MaxDepth+1), "", fault.NameRefused},
	}
	for _, tt := range tests {
		got, err := Clean(tt.in)
		if got != tt.want || fault.KindOf(err) != tt.kind {
			t.Errorf("Clean(%.60q) = %.60q, %v; want %.60q, %v", tt.in, got, err, tt.want, tt.kind)
		}
	}
}

func TestCleanExisting(t *testing.T) {
	for in, want := range map[string]string{"/a\nb": "/a\nb", "/x/../\x7f\x01/": "/\x7f\x01", "/ok": "/ok"} {
		if got, err := CleanExisting(in); got != want || err != nil {
			t.Errorf("CleanExisting(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]fault.Kind{
		"/a\x00b": fault.NameRefused, "a\nb": fault.Invalid, "/" + strings.Repeat("\n", 256): fault.NameRefused,
	} {
		if _, err := CleanExisting(in); fault.KindOf(err) != want {
			t.Errorf("CleanExisting(%q) gives %v, want %v", in, err, want)
		}
	}
}

// checkClean holds for every input.
func checkClean(t *testing.T, in string) {
	t.Helper()
	got, err := Clean(in)
	loose, lerr := CleanExisting(in)
	if err != nil {
		if k := fault.KindOf(err); got != "" || k != fault.Invalid && k != fault.NameRefused {
			t.Fatalf("Clean(%q) = %q, %v", in, got, err)
		}
		return
	}
	if loose != got || lerr != nil {
		t.Fatalf("CleanExisting(%q) = %q, %v; Clean gives %q", in, loose, lerr, got)
	}
	if again, err := Clean(got); again != got || err != nil {
		t.Fatalf("Clean(%q) = %q, but Clean of that is %q, %v", in, got, again, err)
	}
	if got[0] != '/' || got != "/" && strings.HasSuffix(got, "/") || len(got) > MaxPath || path.Clean(got) != got {
		t.Fatalf("Clean(%q) = %q", in, got)
	}
	if got != "/" {
		parts := strings.Split(got[1:], "/")
		if len(parts) > MaxDepth {
			t.Fatalf("Clean(%q) is %d deep", in, len(parts))
		}
		for _, p := range parts {
			if p == "" || p == "." || p == ".." || len(p) > MaxName || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("Clean(%q) = %q holds %q", in, got, p)
			}
		}
		dir, base := Split(got)
		if Join(dir, base) != got || !Under(dir, got) || Under(got, dir) {
			t.Fatalf("Split(%q) = %q, %q", got, dir, base)
		}
	}
}

var cleanParts = []string{"/", "/", "/", "..", ".", "a", "bb", "...", "..a", " ", "\\", "\x00", "\n", "\x7f", "\xff", "ü", strings.Repeat("x", 255)}

func TestCleanProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		var b strings.Builder
		if r.IntN(10) > 0 {
			b.WriteByte('/')
		}
		for range r.IntN(24) {
			b.WriteString(cleanParts[r.IntN(len(cleanParts))])
		}
		checkClean(t, b.String())
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"/", "", "a", "/a/../b", "//./..//x/", "/a\x00b", "/\r\n", "/\xff/\xc0\xaf", "/" + strings.Repeat("n", 256), strings.Repeat("/d", 257)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) { checkClean(t, in) })
}

func TestJoin(t *testing.T) {
	tests := []struct{ cwd, arg, want string }{
		{"/", "a", "/a"},
		{"/d", "a", "/d/a"},
		{"/d", "", "/d"},
		{"/d", ".", "/d"},
		{"/d", "..", "/"},
		{"/d/e", "../f", "/d/f"},
		{"/d", "/a", "/a"},
		{"/d", "/", "/"},
		{"/", "../../x", "/x"},
		{"/d", "a//b/", "/d/a/b"},
		{"/d", "-la", "/d/-la"},
		{"/d ", " x", "/d / x"},
	}
	for _, tt := range tests {
		if got := Join(tt.cwd, tt.arg); got != tt.want {
			t.Errorf("Join(%q, %q) = %q, want %q", tt.cwd, tt.arg, got, tt.want)
		}
	}
}

func TestUnder(t *testing.T) {
	tests := []struct {
		dir, name string
		want      bool
	}{
		{"/", "/", true}, {"/", "/a", true}, {"/a", "/a", true}, {"/a", "/a/b", true},
		{"/home/u", "/home/u-evil", false}, {"/a/b", "/a", false}, {"/a", "/", false}, {"/a", "/b", false},
	}
	for _, tt := range tests {
		if got := Under(tt.dir, tt.name); got != tt.want {
			t.Errorf("Under(%q, %q) = %v", tt.dir, tt.name, got)
		}
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string][2]string{"/": {"/", ""}, "/a": {"/", "a"}, "/a/b": {"/a", "b"}, "/a/b/c": {"/a/b", "c"}} {
		if dir, base := Split(in); dir != want[0] || base != want[1] {
			t.Errorf("Split(%q) = %q, %q", in, dir, base)
		}
	}
}
