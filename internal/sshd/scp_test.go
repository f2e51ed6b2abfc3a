package sshd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

func TestScpSink(t *testing.T) {
	for _, tt := range []struct {
		name, command, in, out string // out: what the client reads; "\x01" stands for any complaint
		files                  map[string]string
		code                   int
	}{
		{"file", "scp -t /x", "C0644 5 any\nhello\x00", "\x00\x00\x00", map[string]string{"x": "hello"}, 0},
		{"empty file", "scp -t /x", "C0644 0 any\n\x00", "\x00\x00\x00", map[string]string{"x": ""}, 0},
		{"into a directory", "scp -t /d", "C0600 2 a b\nhi\x00", "\x00\x00\x00", map[string]string{"d/a b": "hi"}, 0},
		{"quoted target", `scp -t -- '/d'/"a b"\ c`, "C0600 2 x\nhi\x00", "\x00\x00\x00", map[string]string{"d/a b c": "hi"}, 0},
		{"tree", "scp -r -p -t /d", "T1000000000 0 1000000001 0\nD0755 0 sub\nC0644 1 f\nx\x00E\n", "\x00\x00\x00\x00\x00\x00", map[string]string{"d/sub/f": "x"}, 0},
		{"-d on a file", "scp -d -t /f", "", "\x01", map[string]string{"f": "old"}, 1},
		{"name with a slash", "scp -t /d", "C0644 1 ../x\nx\x00", "\x00\x01", nil, 1},
		{"name ..", "scp -r -t /d", "D0755 0 ..\n", "\x00\x01", nil, 1},
		{"name .", "scp -r -t /d", "D0755 0 .\n", "\x00\x01", nil, 1},
		{"absolute name", "scp -t /d", "C0644 1 /etc/x\nx\x00", "\x00\x01", nil, 1},
		{"name with an escape", "scp -t /d", "C0644 1 a\x1b[2Jb\nx\x00", "\x00\x01", nil, 1},
		{"empty name", "scp -t /d", "C0644 1 \nx\x00", "\x00\x01", nil, 1},
		{"negative size", "scp -t /d", "C0644 -1 x\nx\x00", "\x00\x01", nil, 1},
		{"size of 65 bits", "scp -t /d", "C0644 99999999999999999999 x\nx\x00", "\x00\x01", nil, 1},
		{"bad mode", "scp -t /d", "C0x44 1 x\nx\x00", "\x00\x01", nil, 1},
		{"directory without -r", "scp -t /d", "D0755 0 x\n", "\x00\x01", nil, 1},
		{"E too many", "scp -r -t /d", "E\n", "\x00\x01", nil, 1},
		{"noise", "scp -t /d", "hello\n", "\x00\x01", nil, 1},
		{"line without end", "scp -t /d", strings.Repeat("C", 9000), "\x00", nil, 1},
		{"cut short", "scp -t /x", "C0644 5 any\nhel", "\x00\x00", nil, 1},
		{"client could not read", "scp -t /x", "C0644 5 any\nhel\x00\x00\x01scp: read error\n", "\x00\x00\x00", nil, 1},
		{"no target", "scp -t", "", "", nil, 1},
		{"bad option", "scp -S evil -t /x", "", "", nil, 1},
		{"neither way", "scp /x /y", "", "", nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.put("d/.k", "")
			r.put("f", "old")
			out, errs, code := r.run(r.client(), tt.in, tt.command)
			if i := strings.IndexByte(out, 1); i >= 0 && strings.HasSuffix(tt.out, "\x01") {
				out = out[:i+1]
			}
			if out != tt.out || code != tt.code {
				t.Errorf("answered %q (%q), exit %d; want %q, exit %d", out, errs, code, tt.out, tt.code)
			}
			for name, text := range tt.files {
				if got := r.get(name); got != text {
					t.Errorf("%s holds %q, want %q", name, got, text)
				}
			}
			if _, err := os.Stat(filepath.Join(r.dir, "x")); err == nil && tt.files["x"] == "" && tt.name != "empty file" {
				t.Error("a file was made that should not be there")
			}
			if es, _ := os.ReadDir(filepath.Join(r.dir, "d")); len(tt.files) == 0 && len(es) != 1 {
				t.Errorf("left in d: %v", es)
			}
		})
	}
}

func TestScpAttributes(t *testing.T) {
	r := newRig(t, nil)
	in := "T1000000000 0 1000000000 0\nD0500 0 sub\nT1100000000 0 1100000000 0\nC4755 1 f\nx\x00E\n"
	if out, errs, code := r.run(r.client(), in, "scp -r -p -t /"); code != 0 {
		t.Fatalf("%q %q %d", out, errs, code)
	}
	f, _ := os.Stat(filepath.Join(r.dir, "sub/f"))
	d, _ := os.Stat(filepath.Join(r.dir, "sub"))
	if f.Mode() != 0o755 || f.ModTime().Unix() != 1100000000 || d.Mode().Perm() != 0o500 || d.ModTime().Unix() != 1000000000 {
		t.Errorf("file %v %v, directory %v %v", f.Mode(), f.ModTime(), d.Mode(), d.ModTime())
	}
	out, _, code := r.run(r.client(), strings.Repeat("\x00", 20), "scp -r -p -f /sub")
	want := "T1000000000 0 1000000000 0\nD0500 0 sub\nT1100000000 0 1100000000 0\nC0755 1 f\nx\x00E\n"
	if out != want || code != 0 {
		t.Errorf("sent %q, exit %d, want %q", out, code, want)
	}
	os.Chmod(filepath.Join(r.dir, "sub"), 0o755)
}

func TestScpSource(t *testing.T) {
	r := newRig(t, nil)
	r.put("a.txt", "one")
	r.put("b.txt", "two")
	r.put("with space", "three")
	r.put("new\nline", "x")
	ok := strings.Repeat("\x00", 50)
	for _, tt := range []struct {
		command, in, out string
		code             int
	}{
		{"scp -f /a.txt", ok, "C0644 3 a.txt\none\x00", 0},
		{"scp -f a.txt b.txt", ok, "C0644 3 a.txt\none\x00C0644 3 b.txt\ntwo\x00", 0},
		{"scp -f '*.txt'", ok, "\x01scp: /*.txt: no such file or directory\n", 1},
		{"scp -f /*.txt", ok, "C0644 3 a.txt\none\x00C0644 3 b.txt\ntwo\x00", 0},
		{`scp -f with\ space`, ok, "C0644 5 with space\nthree\x00", 0},
		{"scp -f /nix", ok, "\x01scp: /nix: no such file or directory\n", 1},
		{"scp -f /", ok, "\x01scp: /: not a regular file; -r copies directories\n", 1},
		{"scp -f 'new\nline'", ok, "\x01scp: /new?line: " + errScpName.Error() + "\n", 1},
		{"scp -f ../../../etc/passwd", ok, "\x01scp: /etc/passwd: no such file or directory\n", 1},
		{"scp -f /a.txt", "\x00\x01no thanks\n", "C0644 3 a.txt\n", 1},
		{"scp -f /a.txt", "\x02die\n", "", 1},
	} {
		out, errs, code := r.run(r.client(), tt.in, tt.command)
		if out != tt.out || code != tt.code {
			t.Errorf("%s: sent %q (%q), exit %d; want %q, exit %d", tt.command, out, errs, code, tt.out, tt.code)
		}
	}
}

// TestScpRights: what is refused over SFTP is refused here.
func TestScpRights(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", "old")
	for _, tt := range []struct {
		rights      account.Rights
		command, in string
		code        int
	}{
		{account.All &^ account.Download, "scp -f /f", strings.Repeat("\x00", 9), 1},
		{account.Download, "scp -f /f", strings.Repeat("\x00", 9), 0},
		{account.All &^ account.Overwrite, "scp -t /f", "C0644 1 f\nx\x00", 1},
		{account.Overwrite, "scp -t /f", "C0644 3 f\nold\x00", 0},
		{account.All &^ account.Upload, "scp -t /g", "C0644 1 f\nx\x00", 1},
		{account.All &^ account.Mkdir, "scp -r -t /", "D0755 0 d\nE\n", 1},
		{account.All &^ account.Times, "scp -p -t /f", "T1 0 1 0\nC0644 3 f\nold\x00", 1},
		{account.All &^ account.Download, "sha256sum /f", "", 1},
	} {
		r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: tt.rights}}})
		if out, errs, code := r.run(r.client(), tt.in, tt.command); code != tt.code {
			t.Errorf("%s with %s: exit %d (%q %q), want %d", tt.command, tt.rights, code, out, errs, tt.code)
		}
	}
	if got := r.names(); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left on disk: %q", got)
	}
}

func TestScpQuotaAndVanishing(t *testing.T) {
	r := newRig(t, nil)
	r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 1000}})
	out, _, code := r.run(r.client(), "C0644 5000 x\n"+strings.Repeat("x", 5000)+"\x00", "scp -t /x")
	if code != 1 || !strings.Contains(out, "\x01scp: ") {
		t.Errorf("over quota: %q, exit %d", out, code)
	}
	c := r.client()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	if err := s.Start("scp -t /y"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(in, "C0644 500 y\n%s", strings.Repeat("y", 300))
	time.Sleep(50 * time.Millisecond)
	c.Close()
	for _, e := range r.events(events.Upload, 1) {
		if e.Fault == fault.None {
			t.Errorf("a short upload counts as done: %+v", e)
		}
	}
	for end := time.Now().Add(5 * time.Second); len(r.names()) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if got := r.names(); len(got) != 0 {
		t.Errorf("left on disk: %q", got)
	}
}

func TestParseScpLine(t *testing.T) {
	l, err := parseScpLine("C7777 9223372036854775807 a name ")
	if err != nil || l.mode != 0o777 || l.size != 1<<63-1 || l.name != "a name " {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err = parseScpLine("T12 500000 34 0"); err != nil || l.mtime != time.Unix(12, 500000000) || l.atime != time.Unix(34, 0) {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"", "X", "C", "C0644", "C0644 1", "C0644 1 ", "C644 1 x", "C0644 +1 x", "C0644 9223372036854775808 x", "C-644 1 x", "E ", "T1 0 1",
		"T1 0 1 1000000", "T-1 0 1 0", "T99999999999999 0 1 0", "D0755 0 a/b", "D0755 0 a\x00b", "D0755 0 " + strings.Repeat("x", 256)} {
		if l, err := parseScpLine(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, l)
		}
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		`scp -f a  b`: "[scp -f a b]", `'a b' "c d" e\ f`: "[a b c d e f]", `"a\"b\\c\x"`: `[a"b\c\x]`, `a'b'"c"d`: "[abcd]", "": "[]",
		`$(reboot) ; rm -rf / | x > y`: "[$(reboot) ; rm -rf / | x > y]", `''`: "[]",
	} {
		ws, err := words(in)
		var got []string
		for _, w := range ws {
			got = append(got, w.text)
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %q, %v, want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{`'a`, `"a`, `a\`, `"a\`} {
		if ws, err := words(bad); err == nil {
			t.Errorf("%q was read as %v", bad, ws)
		}
	}
	if ws, _ := words(`*.txt '*.txt' \*.txt`); !ws[0].magic || ws[1].magic || ws[2].magic {
		t.Errorf("patterns: %+v", ws)
	}
	if !match("a*b*c", "aXbXbXc") || match("a*b", "aXbX") || !match("???", "abc") || match("?", "") || !match("*", "") {
		t.Error("match is wrong")
	}
	began := time.Now()
	match(strings.Repeat("*a", 500)+"b", strings.Repeat("a", 5000))
	if d := time.Since(began); d > time.Second {
		t.Errorf("a hostile pattern took %v", d)
	}
}

func FuzzScpLine(f *testing.F) {
	for _, s := range []string{"C0644 5 name", "D0755 0 dir", "E", "T1 2 3 4", "C0644 1 ../x", "C0644 99999999999999999999 x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		l, err := parseScpLine(line)
		if err != nil {
			return
		}
		if l.size < 0 || l.mode&^0o777 != 0 {
			t.Errorf("%q: size %d, mode %o", line, l.size, l.mode)
		}
		if (l.kind == 'C' || l.kind == 'D') && (l.name == "" || l.name == "." || l.name == ".." || strings.ContainsAny(l.name, "/\n\r\x00")) {
			t.Errorf("%q: the name %q got through", line, l.name)
		}
	})
}
