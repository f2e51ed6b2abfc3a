package security

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
)

// Section 1.1: paths and files.

func TestDotDotInAnySpelling(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.login("ann")
	for _, p := range []string{
		"../ann-secret/secret.txt", "/../ann-secret/secret.txt", "x/../../ann-secret/secret.txt", "./../ann-secret/secret.txt", "....//ann-secret/secret.txt",
		`..\ann-secret\secret.txt`, `..\/ann-secret/secret.txt`, "%2e%2e/ann-secret/secret.txt", "%252e%252e%252fann-secret/secret.txt", "..%2fann-secret/secret.txt",
		"..%c0%af/ann-secret/secret.txt", "../ann-secret/./secret.txt", "/../../../../../../../../etc/passwd", "/etc/passwd", "..;/ann-secret/secret.txt",
		"-secret/secret.txt", "../ann/../ann-secret/secret.txt", filepath.Join(r.outside, "secret.txt"), "~/../ann-secret/secret.txt", "..\x00/ann-secret/secret.txt",
	} {
		if data, reply := c.fetch("RETR " + p); data != "" || !refused(reply) {
			t.Errorf("RETR %q: %q, %q", p, data, reply)
		}
		for _, verb := range []string{"SIZE", "MDTM", "DELE", "RNFR"} {
			if c.send(verb + " " + p); !refused(c.want("2", "3", "4", "5")) {
				t.Errorf("%s %q is not refused", verb, p)
			}
		}
		c.store("STOR "+p, "overwritten") // what is stored must stay inside
	}
	for _, dir := range []string{"..", "/..", "../..", "../ann-secret", "a/../../ann-secret"} {
		c.do("CWD /", "250")
		c.send("CWD " + dir)
		c.want("2", "5")
		if reply := c.do("PWD", "257"); strings.Contains(reply, "secret") || strings.Contains(reply, "..") {
			t.Errorf("CWD %q leads to %q", dir, reply)
		}
		if list, _ := c.fetch("NLST " + dir); strings.Contains(list, "/secret.txt") {
			t.Errorf("NLST %q: %q", dir, list)
		}
	}
	r.untouched()
}

func TestNormaliserDisagreement(t *testing.T) {
	t.Parallel()
	home := account.User{Name: "rob", Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: "/locked", Rights: account.List}}}
	dir := t.TempDir()
	home.Home = dir
	r := start(t, "", home)
	if err := os.MkdirAll(filepath.Join(dir, "locked"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.file(filepath.Join(dir, "locked", "f"), "locked up")
	c := r.login("rob")
	c.do("MKD /free", "257")
	for _, p := range []string{"/locked/f", "//locked/f", "/locked//f", "/./locked/f", "/free/../locked/f", "/locked/../locked/f", "/locked/./f", "locked/f", "free/../locked/f", "/locked/f/", "/locked/f/."} {
		if data, reply := c.fetch("RETR " + p); data != "" || !refused(reply) {
			t.Errorf("RETR %q: %q, %q", p, data, reply)
		}
		if reply := c.store("STOR "+p, "x"); !refused(reply) {
			t.Errorf("STOR %q: %q", p, reply)
		}
		c.do("DELE "+p, "5")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "locked", "f")); err != nil || string(b) != "locked up" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestUserNameInPath(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	for _, name := range []string{"..", ".", "../ann-secret", "ann/../ann-secret", "/", "ann/", `ann\..\x`, "ann%2f..", "", " ann", "ANN/"} {
		if err := account.ValidName(name); err == nil {
			t.Errorf("an account may be called %q", name)
		}
		c := r.connect(clear)
		c.want("220")
		c.send("USER " + name)
		if reply := c.want("3", "5"); strings.HasPrefix(reply, "3") {
			c.do("PASS "+password, "530")
		}
		c.c.Close()
	}
	es, err := os.ReadDir(filepath.Join(r.dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if strings.Contains(e.Name(), "ann") {
			t.Errorf("a log-in made %s", e.Name())
		}
	}
	r.untouched()
}

func TestSymlinkToOutside(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	for name, target := range map[string]string{"rel": "../ann-secret", "abs": r.outside, "proc": "/proc/self/root" + r.outside, "file": "../ann-secret/secret.txt", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(r.home, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := r.login("ann")
	for _, p := range []string{"rel/secret.txt", "abs/secret.txt", "proc/secret.txt", "file", "loop", "loop/x", "rel/../rel/secret.txt"} {
		if data, reply := c.fetch("RETR " + p); data != "" || !refused(reply) {
			t.Errorf("RETR %s: %q, %q", p, data, reply)
		}
		if reply := c.store("STOR "+p, "overwritten"); !refused(reply) && strings.Contains(p, "/") {
			t.Errorf("STOR %s: %q", p, reply)
		}
		c.send("SITE CHMOD 777 " + p)
		c.want("2", "5")
	}
	for _, d := range []string{"rel", "abs", "proc"} {
		c.do("CWD /"+d, "5")
		if list, _ := c.fetch("MLSD /" + d); strings.Contains(list, "secret.txt") {
			t.Errorf("MLSD /%s shows the outside: %q", d, list)
		}
		c.do("MKD /"+d+"/made", "5")
	}
	// A link to the outside is shown without its target.
	if list, _ := c.fetch("LIST"); strings.Contains(list, "ann-secret") {
		t.Errorf("a listing tells where a link leads: %q", list)
	}
	// And a client cannot make one.
	c.send("SITE SYMLINK ../ann-secret mine")
	c.want("5")
	r.untouched()
}

func TestCheckThenUseRace(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	real, link, swap := filepath.Join(r.home, "real"), filepath.Join(r.home, "link"), filepath.Join(r.home, "dir")
	if err := os.MkdirAll(real, 0o755); err != nil {
		t.Fatal(err)
	}
	r.file(filepath.Join(real, "secret.txt"), "harmless")
	if err := os.Symlink(r.outside, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(real, swap); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // swaps the directory for the link and back, as fast as it can
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(swap, real)
			os.Rename(link, swap)
			os.Rename(swap, link)
			os.Rename(real, swap)
		}
	})
	defer func() { close(stop); wg.Wait() }()
	c := r.login("ann")
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		if data, _ := c.fetch("RETR dir/secret.txt"); data == "secret" {
			t.Fatal("the file outside was read")
		}
		c.store("STOR dir/new.txt", "planted")
		c.send("DELE dir/secret.txt.gone")
		c.want("5")
		if _, err := os.Stat(filepath.Join(r.outside, "new.txt")); err == nil {
			t.Fatal("a file was made outside")
		}
	}
}

func TestRootGaps(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	if err := os.Mkdir(filepath.Join(r.home, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := r.login("ann")
	for _, p := range []string{"d/../", "d/../../", "d/..", "/../", "d/../../ann-secret/", ".//..//"} {
		if list, _ := c.fetch("MLSD " + p); strings.Contains(list, "secret") {
			t.Errorf("MLSD %q leaves the root: %q", p, list)
		}
		c.send("MLST " + p)
		if reply := c.want("2", "5"); !refused(reply) && strings.Contains(reply, "ann-secret") {
			t.Errorf("MLST %q: %q", p, reply)
		}
	}
	c.do("RMD /", "5")
	c.do("DELE /", "5")
	c.send("RNFR /")
	if !refused(c.want("3", "5")) {
		c.do("RNTO /x", "5")
	}
	r.untouched()
}

func TestFIFODeviceSocket(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	if err := syscall.Mkfifo(filepath.Join(r.home, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := os.Symlink("/dev/zero", filepath.Join(r.home, "zero")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Join(r.home, "sock")}); err != nil {
		t.Fatal(err)
	}
	c := r.login("ann")
	began := time.Now()
	for _, n := range []string{"fifo", "sock", "zero"} {
		if data, reply := c.fetch("RETR " + n); data != "" || !refused(reply) {
			t.Errorf("RETR %s: %q", n, reply)
		}
		if reply := c.store("APPE "+n, "x"); !refused(reply) {
			t.Errorf("APPE %s: %q", n, reply)
		}
		c.send("SIZE " + n)
		c.want("2", "5")
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it took %v: something blocked", d)
	}
	r.alive()
}

func TestServerSideCopyPermissions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := account.User{Name: "rob", Home: dir, Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: "/secret", Rights: account.List}, {Path: "/fixed", Rights: account.ReadOnly}}}
	for _, d := range []string{"secret", "fixed"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, d, "f"), []byte(d), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, "", u)
	// Not before log-in (CVE-2015-3306).
	g := r.connect(clear)
	g.want("220")
	g.do("SITE CPFR /secret/f", "530", "5")
	g.do("SITE CPTO /x", "530", "5")
	c := r.login("rob")
	for _, pair := range [][2]string{{"/secret/f", "/got"}, {"/fixed/f", "/fixed/new"}, {"/secret/../secret/f", "/got"}} {
		c.send("SITE CPFR " + pair[0])
		if refused(c.want("2", "3", "5")) {
			continue
		}
		c.do("SITE CPTO "+pair[1], "5")
	}
	for _, n := range []string{"got", "fixed/new"} {
		if _, err := os.Stat(filepath.Join(dir, n)); err == nil {
			t.Errorf("%s was copied", n)
		}
	}
}

func TestSetattrBypassesRights(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := account.User{Name: "rob", Home: dir, Rules: []account.Rule{{Path: "/", Rights: account.ReadOnly}}}
	f := filepath.Join(dir, "f")
	if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(f)
	r := start(t, "", u)
	c := r.login("rob")
	for _, line := range []string{"SITE CHMOD 600 f", "MFMT 20000101000000 f", "MFF Modify=20000101000000;UNIX.mode=0600; f", "SITE UTIME 20000101000000 f", "DELE f", "MKD d", "SITE SYMLINK f g"} {
		c.do(line, "5")
	}
	c.send("RNFR f")
	if !refused(c.want("3", "5")) {
		c.do("RNTO g", "5")
	}
	after, err := os.Stat(f)
	if err != nil || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() {
		t.Errorf("a read-only user changed the file: %v, %v", after, err)
	}
}

func TestSetuidModeBits(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "f"), "x")
	c := r.login("ann")
	for _, mode := range []string{"4777", "2755", "1777", "7777", "37777777777", "04755", "-1", "99999999999999999999", "0x1ff", "u+s", "777 777", "8"} {
		c.send("SITE CHMOD " + mode + " f")
		c.want("2", "5")
		c.send("MFF UNIX.mode=" + mode + "; f")
		c.want("2", "5")
		fi, err := os.Stat(filepath.Join(r.home, "f"))
		if err != nil || fi.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != 0 {
			t.Fatalf("mode %s: %v, %v", mode, fi.Mode(), err)
		}
	}
}

func TestRenameAcrossStorages(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	u := account.User{Name: "rob", Home: dir, Mounts: []account.Mount{{Path: "/m", Source: "mem:x"}, {Path: "/other", Source: other}}}
	r := start(t, "", u)
	if err := os.Symlink(filepath.Join(r.outside, "secret.txt"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("content", 10000)
	r.file(filepath.Join(dir, "f"), body)
	c := r.login("rob")
	for _, to := range []string{"/m/f", "/other/f"} {
		c.do("RNFR /f", "350")
		c.send("RNTO " + to)
		if refused(c.want("2", "4", "5")) {
			if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != body {
				t.Fatalf("a refused move to %s changed the file: %d octets, %v", to, len(b), err)
			}
			continue
		}
		if data, _ := c.fetch("RETR " + to); data != body {
			t.Fatalf("moved to %s in part: %d octets", to, len(data))
		}
		c.do("RNFR "+to, "350")
		c.do("RNTO /f", "250")
	}
	c.send("RNFR /link")
	if strings.HasPrefix(c.want("3", "5"), "3") {
		c.send("RNTO /m/link")
		c.want("2", "4", "5")
		if data, _ := c.fetch("RETR /m/link"); strings.Contains(data, "secret") {
			t.Error("a move followed a link to the outside")
		}
	}
	r.untouched()
}

func TestQuotaBypass(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const most = 1 << 20
	r := start(t, "[limits]\nper_address = 0\nhalf_open = 0\n", account.User{Name: "rob", Home: dir, Quota: account.Quota{Bytes: most}})
	c := r.login("rob")
	// Many uploads at the limit at once.
	var wg sync.WaitGroup
	body := strings.Repeat("x", most/10)
	for i := range 32 {
		c := r.login("rob")
		wg.Go(func() { c.store(fmt.Sprintf("STOR f%d", i), body) })
	}
	wg.Wait()
	used := func() (n int64) {
		filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error {
			if err == nil && fi.Mode().IsRegular() {
				n += fi.Size()
			}
			return err
		})
		return n
	}
	if n := used(); n > most || n < most/2 {
		t.Errorf("%d octets are stored, the quota is %d", n, most)
	}
	if reply := c.store("STOR more", strings.Repeat("y", most)); !strings.HasPrefix(reply, "552") {
		t.Errorf("beyond the quota: %q", reply)
	}
	c.do(fmt.Sprintf("ALLO %d", 10*most), "2", "5")
	// By growing in steps, by copies, and by offsets.
	for range 40 {
		c.store("APPE grown", strings.Repeat("z", most/20))
	}
	c.send("SITE CPFR grown")
	if strings.HasPrefix(c.want("3", "5"), "3") {
		for i := range 20 {
			c.send(fmt.Sprintf("SITE CPTO copy%d", i))
			c.want("2", "3", "5")
			c.send("SITE CPFR grown")
			c.want("2", "3", "5")
		}
	}
	if n := used(); n > most {
		t.Errorf("after steps and copies %d octets are stored, the quota is %d", n, most)
	}
}

func TestOffsetAbuse(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "f"), "0123456789")
	c := r.login("ann")
	for _, off := range []string{"-1", "18446744073709551615", "9223372036854775808", "99999999999999999999999", "0x10", "1e3", ""} {
		c.send("REST " + off)
		if !refused(c.want("3", "5")) {
			t.Errorf("REST %q is accepted", off)
		}
	}
	for _, off := range []string{"1099511627776", "11", "9223372036854775807"} {
		c.do("REST "+off, "350", "5")
		reply := c.store("STOR f", "x")
		if fi, err := os.Stat(filepath.Join(r.home, "f")); err != nil || fi.Size() > 10 {
			t.Fatalf("REST %s and STOR (%q) made a file of %d octets", off, reply, fi.Size())
		}
		if !refused(reply) {
			t.Errorf("STOR beyond the end: %q", reply)
		}
		c.do("REST "+off, "350", "5")
		if data, _ := c.fetch("RETR f"); len(data) > 10 {
			t.Errorf("RETR behind the end gives %d octets", len(data))
		}
	}
	for _, arg := range []string{"-5 3", "5 3", "0 99999999999999999999", "-1 -1"} {
		c.send("RANG " + arg)
		c.want("3", "5")
		if data, _ := c.fetch("RETR f"); len(data) > 10 {
			t.Errorf("RANG %s: %d octets", arg, len(data))
		}
	}
	for _, arg := range []string{"-1", "99999999999999999999", "9223372036854775807"} {
		c.send("ALLO " + arg)
		c.want("2", "4", "5")
	}
	r.alive()
}

func TestNameFolding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := account.User{Name: "rob", Home: dir, Rules: []account.Rule{{Path: "/", Rights: account.All}, {Path: "/Caf\u00e9", Rights: account.List}}}
	if err := os.Mkdir(filepath.Join(dir, "Caf\u00e9"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Caf\u00e9", "f"), []byte("locked"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := start(t, "", u)
	c := r.login("rob")
	for _, n := range []string{"Caf\u00e9", "Cafe\u0301", "caf\u00e9", "CAF\u00c9", "Caf\u00e9.", "Caf\u00e9 ", "Caf\u00e9::$DATA", "CAF~1"} {
		if data, _ := c.fetch("RETR /" + n + "/f"); data != "" {
			t.Errorf("RETR through %q reads what a rule locks", n)
		}
	}
}
