package sshd

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	rand.NewChaCha8(seed).Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	for _, n := range []int{0, 1, 32 << 10, 255 << 10, 3<<20 + 17} {
		want := noise(n)
		f, err := x.Create("/file")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadFrom(bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := r.get("file"); got != string(want) {
			t.Fatalf("%d octets: what arrived differs", n)
		}
		g, err := x.Open("/file")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := g.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%d octets: what came back differs (%v)", n, err)
		}
		g.Close()
	}
	if got := r.names(); !slices.Equal(got, []string{"file"}) {
		t.Errorf("left on disk: %q", got)
	}
	up := r.events(events.Upload, 5)
	if up[4].Bytes != 3<<20+17 || up[4].Fault != fault.None || up[4].Protocol != "sftp" {
		t.Errorf("event of the last upload: %+v", up[4])
	}
}

// TestUploadIsAtomic: nobody sees an upload before CLOSE, and one whose client
// vanishes leaves nothing, or what was there before.
func TestUploadIsAtomic(t *testing.T) {
	r := newRig(t, nil)
	r.put("old", "the old contents")
	c := r.client()
	x, err := pkgsftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/new", "/old"} {
		f, err := x.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(noise(300 << 10)); err != nil {
			t.Fatal(err)
		}
		// The client itself sees what it has written so far.
		if i, err := x.Stat(name); err != nil || i.Size() != 300<<10 {
			t.Errorf("%s while it is written: %v, %v", name, i, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the upload is visible before CLOSE (%v)", err)
	}
	if got := r.get("old"); got != "the old contents" {
		t.Errorf("the old file was touched: %.20q", got)
	}
	c.Close()
	for _, e := range r.events(events.Upload, 2) {
		if e.Fault == fault.None {
			t.Errorf("an upload without CLOSE counts as done: %+v", e)
		}
	}
	if got := r.names(); !slices.Equal(got, []string{"old"}) {
		t.Errorf("left on disk: %q", got)
	}
	if got := r.get("old"); got != "the old contents" {
		t.Errorf("after the connection went: %.20q", got)
	}
}

func TestResumeAppendAndRandomWrites(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	want := noise(500 << 10)
	r.put("part", string(want[:200<<10]))
	f, err := x.OpenFile("/part", os.O_WRONLY|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(want[200<<10:], 200<<10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if r.get("part") != string(want) {
		t.Error("the resumed file differs")
	}
	if f, err = x.OpenFile("/part", os.O_WRONLY|os.O_APPEND); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("tail"))
	f.Close()
	if r.get("part") != string(want)+"tail" {
		t.Error("appending went wrong")
	}
	// Blocks in any order into a new file.
	if f, err = x.OpenFile("/mixed", os.O_RDWR|os.O_CREATE|os.O_TRUNC); err != nil {
		t.Fatal(err)
	}
	const block = 10 << 10
	for _, i := range rand.Perm(len(want) / block) {
		if _, err := f.WriteAt(want[i*block:(i+1)*block], int64(i*block)); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, block)
	if _, err := f.ReadAt(got, 7*block); err != nil || !bytes.Equal(got, want[7*block:8*block]) {
		t.Errorf("reading back while writing: %v", err)
	}
	if err := f.Truncate(100); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r.get("mixed") != string(want[:100]) {
		t.Error("the file written in blocks differs")
	}
	// A gap beyond reason is refused.
	f, _ = x.Create("/sparse")
	if _, err := f.WriteAt([]byte("x"), 1<<40); err == nil {
		t.Error("a write a TiB past the end was taken")
	}
	if err := f.Close(); err == nil {
		t.Error("an upload with a failed write was made visible")
	}
	if _, err := x.Stat("/sparse"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the failed upload is there: %v", err)
	}
}

func TestNames(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	r.put("a.txt", "A")
	r.put("b.txt", "B")
	check := func(what string, err error, want error) {
		t.Helper()
		if !errors.Is(err, want) && !(want == nil && err == nil) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	failure := &pkgsftp.StatusError{Code: statusFailure}
	isFailure := func(what string, err error) {
		t.Helper()
		var s *pkgsftp.StatusError
		if !errors.As(err, &s) || s.Code != failure.Code {
			t.Errorf("%s: %v, want a failure", what, err)
		}
	}
	isFailure("rename over a file", x.Rename("/a.txt", "/b.txt"))
	check("posix rename over a file", x.PosixRename("/a.txt", "/b.txt"), nil)
	if r.get("b.txt") != "A" {
		t.Error("posix-rename did not replace")
	}
	check("rename of nothing", x.Rename("/nix", "/y"), fs.ErrNotExist)
	check("mkdir", x.Mkdir("/d"), nil)
	isFailure("mkdir again", x.Mkdir("/d"))
	check("symlink", x.Symlink("b.txt", "/l"), nil)
	if to, err := x.ReadLink("/l"); err != nil || to != "b.txt" {
		t.Errorf("readlink: %q, %v", to, err)
	}
	if i, err := x.Lstat("/l"); err != nil || i.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("lstat of a link: %v, %v", i, err)
	}
	if i, err := x.Stat("/l"); err != nil || !i.Mode().IsRegular() {
		t.Errorf("stat of a link: %v, %v", i, err)
	}
	if x.Symlink("../../../etc/passwd", "/evil") == nil {
		if _, err := x.Open("/evil"); err == nil {
			t.Error("a link led out of the tree")
		}
	}
	for in, want := range map[string]string{".": "/", "": "/", "/..": "/", "/d/../../x": "/x", "d//e/": "/d/e", "/nowhere/.": "/nowhere"} {
		if got, err := x.RealPath(in); err != nil || got != want {
			t.Errorf("realpath %q: %q, %v, want %q", in, got, err, want)
		}
	}
	if err := x.Chmod("/b.txt", 0o4711); err != nil {
		t.Error(err)
	}
	when := time.Unix(1_000_000_000, 0)
	if err := x.Chtimes("/b.txt", when, when); err != nil {
		t.Error(err)
	}
	st, _ := os.Stat(filepath.Join(r.dir, "b.txt"))
	if st.Mode() != 0o711 || !st.ModTime().Equal(when) {
		t.Errorf("mode %v, time %v", st.Mode(), st.ModTime())
	}
	check("rmdir", x.RemoveDirectory("/d"), nil)
	isFailure("rmdir of a file", x.RemoveDirectory("/b.txt"))
	check("remove", x.Remove("/b.txt"), nil)
	check("remove again", x.Remove("/b.txt"), fs.ErrNotExist)
	check("open above the root", func() error { _, err := x.Open("/../../etc/passwd"); return err }(), fs.ErrNotExist)
	if _, err := x.Create("/bad\nname"); err == nil {
		t.Error("a name with a newline was made")
	}
}

// TestAttributesOfAnUpload: what "put -p" sets before CLOSE holds after it.
func TestAttributesOfAnUpload(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	f, err := x.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("text"))
	when := time.Unix(1_234_567_890, 0)
	if err := f.Chmod(0o600); err != nil {
		t.Fatal(err)
	}
	if err := x.Chtimes("/f", when, when); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(r.dir, "f"))
	if err != nil || st.Mode() != 0o600 || !st.ModTime().Equal(when) {
		t.Errorf("%v %v %v", st.Mode(), st.ModTime(), err)
	}
	// Renamed while it is open, as sshfs may: it goes on under its new name.
	if f, err = x.Create("/tmp1"); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("one "))
	if err := x.Rename("/tmp1", "/final"); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("two"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.get("final"); got != "one two" {
		t.Errorf("renamed while open: %q", got)
	}
}

func TestListing(t *testing.T) {
	r := newRig(t, nil)
	x := r.sftp()
	const n = 3000
	for i := range n {
		r.put(filepath.Join("d", strings.Repeat("x", 20)+string(rune('a'+i%26))+time.Duration(i).String()), "")
	}
	l, err := x.ReadDir("/d")
	if err != nil || len(l) != n {
		t.Errorf("%d entries, %v; want %d", len(l), err, n)
	}
	if _, err := x.ReadDir("/nix"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("listing of nothing: %v", err)
	}
	if _, err := x.ReadDir("/d/" + l[0].Name()); err == nil {
		t.Error("a file was listed")
	}
	r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: account.Upload | account.Download}}})
	if _, err := r.sftp().ReadDir("/"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("listing without the right: %v", err)
	}
}

func TestRights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rights account.Rights
		do     func(x *pkgsftp.Client) error
		ok     bool
	}{
		{"download", account.Download, func(x *pkgsftp.Client) error { _, err := x.Open("/f"); return err }, true},
		{"no download", account.All &^ account.Download, func(x *pkgsftp.Client) error { _, err := x.Open("/f"); return err }, false},
		{"upload", account.Upload, func(x *pkgsftp.Client) error { return put(x, "/new") }, true},
		{"no upload", account.All &^ account.Upload, func(x *pkgsftp.Client) error { return put(x, "/new") }, false},
		{"overwrite", account.Overwrite, func(x *pkgsftp.Client) error { return put(x, "/f") }, true},
		{"no overwrite", account.All &^ account.Overwrite, func(x *pkgsftp.Client) error { return put(x, "/f") }, false},
		{"append", account.Append, func(x *pkgsftp.Client) error { return add(x, "/f", 4) }, true},
		{"append below the end", account.Append, func(x *pkgsftp.Client) error { return add(x, "/f", 0) }, false},
		{"delete", account.Delete, func(x *pkgsftp.Client) error { return x.Remove("/f") }, true},
		{"no delete", account.All &^ account.Delete, func(x *pkgsftp.Client) error { return x.Remove("/f") }, false},
		{"no rename", account.All &^ account.Rename, func(x *pkgsftp.Client) error { return x.Rename("/f", "/g") }, false},
		{"no mkdir", account.All &^ account.Mkdir, func(x *pkgsftp.Client) error { return x.Mkdir("/d") }, false},
		{"no rmdir", account.All &^ account.Rmdir, func(x *pkgsftp.Client) error { return x.RemoveDirectory("/e") }, false},
		{"no chmod", account.All &^ account.Chmod, func(x *pkgsftp.Client) error { return x.Chmod("/f", 0o600) }, false},
		{"no times", account.All &^ account.Times, func(x *pkgsftp.Client) error { return x.Chtimes("/f", time.Now(), time.Now()) }, false},
		{"no link", account.All &^ account.Link, func(x *pkgsftp.Client) error { return x.Symlink("f", "/l") }, false},
		{"no hard link", account.All &^ account.Link, func(x *pkgsftp.Client) error { return x.Link("/f", "/l") }, false},
		{"truncate without overwrite", account.All &^ account.Overwrite, func(x *pkgsftp.Client) error { return x.Truncate("/f", 0) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.put("f", "text")
			r.put("e/.keep", "")
			os.Remove(filepath.Join(r.dir, "e/.keep"))
			r.user(account.User{Name: "ann", Rules: []account.Rule{{Path: "/", Rights: tt.rights}}})
			err := tt.do(r.sftp())
			if (err == nil) != tt.ok {
				t.Errorf("%v, want success %v", err, tt.ok)
			}
			if err != nil && !tt.ok && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("refused with %v, want permission denied", err)
			}
		})
	}
}

func put(x *pkgsftp.Client, name string) error {
	f, err := x.Create(name)
	if err != nil {
		return err
	}
	f.Write([]byte("new text"))
	return f.Close()
}

func add(x *pkgsftp.Client, name string, off int64) error {
	f, err := x.OpenFile(name, os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("more"), off)
	return errors.Join(err, f.Close())
}

func TestQuota(t *testing.T) {
	r := newRig(t, nil)
	r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 100 << 10}})
	x := r.sftp()
	f, err := x.Create("/big")
	if err != nil {
		t.Fatal(err)
	}
	_, werr := f.ReadFrom(bytes.NewReader(noise(300 << 10)))
	cerr := f.Close()
	if werr == nil || cerr == nil || !strings.Contains(werr.Error(), "quota") && !strings.Contains(strings.ToLower(werr.Error()), "used") {
		t.Errorf("over quota: write %v, close %v", werr, cerr)
	}
	if got := r.names(); len(got) != 0 {
		t.Errorf("left on disk: %q", got)
	}
	if err := put(x, "/small"); err != nil {
		t.Errorf("a small file after the refusal: %v", err)
	}
	if b, _, _ := r.QuotaUsed(t.Context(), ""); b > 8 {
		t.Errorf("%d octets are charged, want 8 at most", b)
	}
	if v, err := x.StatVFS("/"); err != nil || v.FreeSpace() > 100<<10 {
		t.Errorf("statvfs: %v, %v", v, err)
	}
}

func TestManyHandles(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", "x")
	x := r.sftp()
	var open []*pkgsftp.File
	for i := range maxHandles + 1 {
		f, err := x.Open("/f")
		if (err == nil) != (i < maxHandles) {
			t.Fatalf("handle %d: %v", i, err)
		}
		open = append(open, f)
	}
	for _, f := range open[:maxHandles] {
		f.Close()
	}
	if f, err := x.Open("/f"); err != nil {
		t.Errorf("after closing them: %v", err)
	} else {
		f.Close()
	}
}

// TestExtensions speaks raw packets: pkg/sftp's client does not know these.
func TestExtensions(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", "hello")
	p := r.raw(r.client())
	if v := p.hello(); !strings.Contains(v, "copy-data") || !strings.Contains(v, "limits@openssh.com") {
		t.Errorf("extensions: %q", v)
	}
	d := p.ask(fxpExtended, str("limits@openssh.com"))
	if d.u64() != maxPacket || d.u64() != maxRead || d.u64() != maxRead || d.u64() != maxHandles {
		t.Error("limits differ")
	}
	in, out := p.open("/f", openRead), p.open("/copy", openWrite|openCreate|openTrunc)
	p.status(fxpExtended, statusOK, str("copy-data"), str(in), u64(1), u64(3), str(out), u64(0))
	p.status(fxpExtended, statusOK, str("fsync@openssh.com"), str(out))
	p.status(fxpClose, statusOK, str(out))
	if got := r.get("copy"); got != "ell" {
		t.Errorf("copied %q", got)
	}
	d = p.ask(fxpExtended, str("check-file-name"), str("/f"), str("nix,md5"), u64(0), u64(0), u32(0))
	want := md5.Sum([]byte("hello"))
	if d.str() != "check-file" || d.str() != "md5" || !bytes.Equal(d.b, want[:]) {
		t.Errorf("check-file-name: %x", d.b)
	}
	sum := sha256.Sum256([]byte("ello"))
	d = p.ask(fxpExtended, str("check-file-handle"), str(in), str("sha256"), u64(1), u64(0), u32(256))
	if d.str() != "check-file" || d.str() != "sha256" || !bytes.Equal(d.b, sum[:]) {
		t.Errorf("check-file-handle: %x", d.b)
	}
	p.status(fxpExtended, statusOpUnsupported, str("check-file-name"), str("/f"), str("whirlpool"), u64(0), u64(0), u32(0))
	for in, want := range map[string]string{"~": "/", "~/x": "/x", "~ann/y/..": "/", "z": "/z"} {
		d = p.ask(fxpExtended, str("expand-path@openssh.com"), str(in))
		if d.u32() != 1 || d.str() != want {
			t.Errorf("expand-path %q is not %q", in, want)
		}
	}
	p.status(fxpExtended, statusNoSuchFile, str("expand-path@openssh.com"), str("~bob"))
	p.status(fxpExtended, statusOK, str("lsetstat@openssh.com"), str("/f"), u32(attrPerm), u32(0o600))
	p.status(fxpExtended, statusOpUnsupported, str("made-up@example.org"))
	p.status(99, statusOpUnsupported)
	p.status(fxpClose, statusOK, str(in))
	p.status(fxpClose, statusFailure, str(in)) // a second time
	p.status(fxpRead, statusFailure, str("no such"), u64(0), u32(1))
	d = p.ask(fxpExtended, str("users-groups-by-id@openssh.com"), str("\x00\x00\x00\x00"), str(""))
	if d.u32() != 4 || d.u32() != 0 || d.u32() != 0 {
		t.Error("users-groups-by-id: names of the host are told")
	}
}

// TestMalformedEndsTheChannel: the channel ends, the connection lives.
func TestMalformedEndsTheChannel(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", "x")
	c := r.client()
	for name, packet := range map[string][]byte{
		"length 0":              {0, 0, 0, 0},
		"length 4 GiB":          {0xff, 0xff, 0xff, 0xff, 3},
		"just too long":         append(u32(maxPacket+1), make([]byte, 64)...),
		"no id":                 {0, 0, 0, 1, fxpStat},
		"string past the end":   {0, 0, 0, 9, fxpStat, 0, 0, 0, 1, 0, 0, 1, 0},
		"string of 4 GiB":       {0, 0, 0, 9, fxpStat, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
		"offset of 64 bits":     append([]byte{0, 0, 0, 25, fxpRead, 0, 0, 0, 1, 0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 16)...),
		"attributes missing":    {0, 0, 0, 15, fxpOpen, 0, 0, 0, 1, 0, 0, 0, 2, '/', 'x', 0, 0, 0, 10},
		"endless extended attr": append([]byte{0, 0, 0, 19, fxpMkdir, 0, 0, 0, 1, 0, 0, 0, 2, '/', 'x', 0x80, 0, 0, 0}, 0xff, 0xff, 0xff, 0xff),
		"greeting again":        {0, 0, 0, 5, fxpInit, 0, 0, 0, 3},
	} {
		p := r.raw(c)
		p.hello()
		p.rw.Write(packet)
		if rest, err := io.ReadAll(p.rw); err != nil || len(rest) != 0 {
			t.Errorf("%s: %d octets came back (%v), want the end of the channel", name, len(rest), err)
		}
	}
	if _, _, code := r.run(c, "", "md5sum /f"); code != 0 {
		t.Error("the connection did not survive")
	}
}

// raw is an SFTP client that sends what it is told.
type raw struct {
	t  *testing.T
	rw interface {
		io.Reader
		io.Writer
	}
	id uint32
}

func str(s string) []byte { return appendString(nil, s) }
func u32(v uint32) []byte { return appendU32(nil, v) }
func u64(v uint64) []byte { return appendU64(nil, v) }

func (p *raw) send(t byte, fields ...[]byte) {
	b := slices.Concat(append([][]byte{{0, 0, 0, 0, t}}, fields...)...)
	putU32(b, uint32(len(b)-4))
	if _, err := p.rw.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *raw) receive() (byte, *decoder) {
	p.t.Helper()
	var head [5]byte
	if _, err := io.ReadFull(p.rw, head[:]); err != nil {
		p.t.Fatal(err)
	}
	d := decoder{b: head[:4]}
	body := make([]byte, d.u32()-1)
	if _, err := io.ReadFull(p.rw, body); err != nil {
		p.t.Fatal(err)
	}
	return head[4], &decoder{b: body}
}

func (p *raw) hello() string {
	p.t.Helper()
	p.send(fxpInit, u32(3))
	t, d := p.receive()
	if t != fxpVersion || d.u32() != 3 {
		p.t.Fatal("no version 3")
	}
	return string(d.b)
}

func (p *raw) ask(t byte, fields ...[]byte) *decoder {
	p.t.Helper()
	p.id++
	p.send(t, append([][]byte{u32(p.id)}, fields...)...)
	_, d := p.receive()
	if id := d.u32(); id != p.id {
		p.t.Fatalf("answer to request %d, want %d", id, p.id)
	}
	return d
}

func (p *raw) status(t byte, code uint32, fields ...[]byte) {
	p.t.Helper()
	d := p.ask(t, fields...)
	if got := d.u32(); got != code {
		p.t.Errorf("type %d, %q: status %d (%s), want %d", t, fields, got, d.str(), code)
	}
}

func (p *raw) open(name string, flags uint32) string {
	p.t.Helper()
	d := p.ask(fxpOpen, str(name), u32(flags), u32(0))
	h := d.str()
	if d.bad || len(h) != 8 {
		p.t.Fatalf("open %s failed", name)
	}
	return h
}

func (r *rig) raw(c interface {
	OpenChannel(string, []byte) (sshChannel, <-chan *sshRequest, error)
}) *raw {
	r.t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	go func() {
		for range reqs {
		}
	}()
	if ok, err := ch.SendRequest("subsystem", true, str("sftp")); err != nil || !ok {
		r.t.Fatalf("subsystem sftp: %v %v", ok, err)
	}
	return &raw{t: r.t, rw: ch}
}

// TestNoAllocationPerPacket: reading and writing allocate nothing in our code
// but what the storage and the session need.
func TestNoAllocationPerPacket(t *testing.T) {
	r := newRig(t, nil)
	r.put("f", string(noise(1<<20)))
	g, err := r.m.Connect(t.Context(), originOf("127.0.0.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(nil)
	s, err := g.Login(t.Context(), passwordOf("ann"))
	if err != nil {
		t.Fatal(err)
	}
	x := newSFTP(s, discard{}, r.s.opt.Log)
	h, err := x.openRead("/f")
	if err != nil {
		t.Fatal(err)
	}
	id := x.handles.add(h)
	packet := slices.Concat([]byte{fxpRead, 0, 0, 0, 1}, str(string(u64(id))), u64(4096), u32(maxRead))
	if n := testing.AllocsPerRun(200, func() {
		if err := x.packet(packet); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for a READ, want 1 at most", n)
	}
	w, err := x.start("/w", openWrite|openCreate|openTrunc, &attrs{})
	if err != nil {
		t.Fatal(err)
	}
	id = x.handles.add(w)
	packet = slices.Concat([]byte{fxpWrite, 0, 0, 0, 1}, str(string(u64(id))), u64(0), str(string(noise(32<<10))))
	if n := testing.AllocsPerRun(200, func() {
		if err := x.packet(packet); err != nil {
			t.Fatal(err)
		}
		x.out = x.out[:0]
	}); n > 1 {
		t.Errorf("%v allocations for a WRITE, want 1 at most", n)
	}
	x.closeAll(syscall.EPIPE)
}

type discard struct{}

func (discard) Read([]byte) (int, error)    { return 0, io.EOF }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
