package security

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/store"
)

// Section 1.3: authentication and abuse.

func TestAuthBypassByOddCommand(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "f"), "x")
	c := r.connect(clear)
	c.want("220")
	for _, line := range []string{
		"RETR f", "STOR g", "APPE f", "STOU", "LIST", "NLST", "MLSD", "MLST f", "STAT f", "SIZE f", "MDTM f", "MFMT 20200101000000 f", "MFF Modify=20200101000000; f", "DELE f",
		"RNFR f", "RNTO g", "MKD d", "RMD d", "CWD /", "CDUP", "PWD", "XPWD", "XMKD d", "XRMD d", "XCWD /", "PASV", "EPSV", "PORT 127,0,0,1,200,1", "EPRT |1|127.0.0.1|50000|",
		"SITE CHMOD 777 f", "SITE CPFR f", "SITE CPTO g", "SITE SYMLINK f g", "SITE UTIME 20200101000000 f", "SITE QUOTA", "SITE DIAG", "HASH f", "XCRC f", "XMD5 f", "XSHA256 f",
		"REST 5", "ALLO 5", "ABOR", "AVBL", "CSID x", "COMB a b", "RANG 0 1", "PASS", "PASS " + password, "ACCT x",
	} {
		c.send(line)
		reply := c.want("2", "3", "5")
		if !refused(reply) && !strings.HasPrefix(line, "ABOR") && !strings.HasPrefix(line, "CSID") {
			t.Errorf("%q before the log-in: %q", line, reply)
		}
	}
	// And after a log-in that failed.
	c = r.connect(clear)
	c.want("220")
	c.do("USER ann", "331")
	c.do("PASS wrong", "530")
	c.do("PWD", "530")
	c.do("PASS "+password, "503")
	c.do("PWD", "530")
}

func TestNULInUserName(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	for _, name := range []string{"ann\x00x", "ann\x00", "\x00ann", "ann\x01", "ann\tx", "ann;x", "ann'--", "ann]", "ann\xff\xf0x"} {
		c := r.connect(clear)
		c.want("220")
		c.send("USER " + name)
		if refused(c.want("3", "5")) {
			continue
		}
		if reply := c.do("PASS "+password, "2", "5"); !refused(reply) {
			t.Errorf("USER %q logs in: %q", name, reply)
		}
	}
}

func TestInjectionInLogin(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	for _, s := range []string{`' OR '1'='1`, `ann'--`, `ann'; DROP TABLE users; --`, `" OR ""="`, `*)(uid=*`, `ann UNION SELECT 1`, `${jndi:ldap://x}`} {
		for _, pair := range [][2]string{{s, password}, {"ann", s}, {s, s}} {
			c := r.connect(clear)
			c.want("220")
			c.send("USER " + pair[0])
			if refused(c.want("3", "5")) {
				continue
			}
			if reply := c.do("PASS "+pair[1], "2", "5"); !refused(reply) {
				t.Errorf("%q logs in: %q", pair, reply)
			}
		}
	}
	r.alive()
}

func TestEmptyPassword(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n", account.User{Name: "keys", Home: t.TempDir(), PasswordHash: "none"})
	for _, name := range []string{"ann", "keys", "nobody"} {
		for _, pass := range []string{"PASS", "PASS ", "PASS *", "PASS !", "PASS x"} {
			c := r.connect(clear)
			c.want("220")
			c.do("USER "+name, "331")
			if reply := c.do(pass, "2", "5"); !refused(reply) {
				t.Errorf("USER %s, %q: %q", name, pass, reply)
			}
		}
	}
}

func TestUserEnumeration(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	off, old, far := t.TempDir(), t.TempDir(), t.TempDir()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n", account.User{Name: "off", Home: off, Disabled: true}, account.User{Name: "old", Home: old, Expires: past},
		account.User{Name: "far", Home: far, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, account.User{Name: "none", Home: far, PasswordHash: "none"})
	replies := map[string]string{}
	took := map[string]time.Duration{}
	for _, name := range []string{"ann", "nobody", "off", "old", "far", "none"} {
		pass := "wrong"
		if name == "off" || name == "old" || name == "far" {
			pass = password // right, and refused all the same
		}
		var times []time.Duration
		for range 5 {
			c := r.connect(clear)
			c.want("220")
			user := strings.ReplaceAll(c.do("USER "+name, "331"), name, "NAME")
			began := time.Now()
			reply := c.do("PASS "+pass, "530")
			times = append(times, time.Since(began))
			replies[name] = user + reply
			c.c.Close()
		}
		slices.Sort(times)
		took[name] = times[0]
	}
	for name, reply := range replies {
		if reply != replies["nobody"] {
			t.Errorf("%s is told apart by words: %q, nobody gets %q", name, reply, replies["nobody"])
		}
		// The race detector, which runs with -short, makes a hash take as long
		// as the step that answers are padded to.
		if d := took[name] - took["nobody"]; d.Abs() > 100*time.Millisecond && !testing.Short() {
			t.Errorf("%s is told apart by time: %v, nobody takes %v", name, took[name], took["nobody"])
		}
	}
}

func TestGuessingIsBanned(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nlogin_failures = 6\nban_time = \"1h\"\n")
	for i := range 10 {
		c, hello := r.from("192.0.2.1")
		if hello == "" {
			if i < 2 {
				t.Fatal("banned at once")
			}
			break
		}
		c.do(fmt.Sprintf("USER user%d", i), "331") // a spray: each name once
		c.send("PASS wrong")
		c.want("530", "421")
	}
	if _, hello := r.from("192.0.2.1"); hello != "" {
		t.Errorf("still greeted after a spray: %q", hello)
	}
	if _, hello := r.from("192.0.2.2"); !strings.HasPrefix(hello, "220") {
		t.Errorf("a neighbour is shut out: %q", hello)
	}
	db, err := store.Open(t.Context(), filepath.Join(r.dir, "data", store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if bans, err := db.ListBans(t.Context(), time.Now()); err != nil || len(bans) != 1 || bans[0].Network.String() != "192.0.2.1/32" {
		t.Errorf("the ban would not survive a restart: %v, %v", bans, err)
	}
}

func TestHostileUseIsBanned(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nlogin_failures = 6\n")
	for range 3 {
		c, hello := r.from("192.0.2.1")
		if hello == "" {
			break
		}
		c.send("GET / HTTP/1.1")
		c.gone()
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, hello := r.from("192.0.2.1"); hello == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("an address that speaks another protocol again and again is not banned")
		}
	}
	// Scans of passive ports count, too, against the scanner and not the client.
	r.s.Manager().Stranger(context.Background(), originOf(), netip.MustParseAddrPort("198.51.100.9:4000"))
	if points, _ := r.s.Limits().Score(netip.MustParseAddr("198.51.100.9")); points < 2.9 {
		t.Errorf("a stranger at a data port has %v points", points)
	}
}

func TestSlowHashAsWeapon(t *testing.T) {
	r := start(t, "[limits]\nhalf_open = 0\nper_address = 0\nlogin_failures = 0\n")
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var most uint64
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.ReadMemStats(&peak)
				most = max(most, peak.HeapInuse)
			}
		}
	}()
	for i := range 100 {
		c, hello := r.from(fmt.Sprintf("192.0.2.%d", i))
		if hello == "" {
			t.Fatal("not greeted")
		}
		wg.Go(func() {
			c.send(fmt.Sprintf("USER nobody%d", i))
			c.read()
			c.send("PASS " + strings.Repeat("x", 900))
			c.read()
		})
	}
	wg.Wait()
	close(stop)
	<-sampled
	// 19 MiB for each hash; unbounded it would be 1,900.
	if grown := int64(most) - int64(before.HeapInuse); grown > 400<<20 {
		t.Errorf("100 log-ins at once use %d MiB", grown>>20)
	}
	c := r.connect(clear)
	c.want("220")
	c.do("USER ann", "331")
	c.send("PASS " + strings.Repeat("y", 3000))
	c.want("5")
	r.alive()
}

func TestLockoutAsDenialOfService(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nlogin_failures = 0\n")
	login := func(addr string) time.Duration {
		c, hello := r.from(addr)
		if hello == "" {
			t.Fatal("not greeted")
		}
		began := time.Now()
		c.do("USER ann", "331")
		c.do("PASS "+password, "230")
		c.do("QUIT", "221")
		return time.Since(began)
	}
	login("192.0.2.1") // the owner is known here
	var wg sync.WaitGroup
	for i := range 40 { // attackers elsewhere guess the password of the same account
		c, _ := r.from(fmt.Sprintf("198.51.100.%d", i))
		wg.Go(func() {
			c.send("USER ann")
			c.read()
			c.send("PASS wrong")
			c.read()
		})
	}
	wg.Wait()
	if d := login("192.0.2.1"); d > 2*time.Second && !testing.Short() {
		t.Errorf("the owner waits %v because others guess", d)
	}
	login("203.0.113.5") // and from a new place the log-in is late at worst, never refused
}

func TestFloodOfConnections(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nhalf_open = 5\nper_address = 8\nmax_half_open = 40\n")
	keep := r.login("ann")
	open := 0
	for range 12 {
		if _, hello := r.from("192.0.2.1"); strings.HasPrefix(hello, "220") {
			open++
		} else if !strings.HasPrefix(hello, "421") {
			t.Errorf("a refusal without a word: %q", hello)
		}
	}
	if open != 5 {
		t.Errorf("%d half-open connections from one address, want 5", open)
	}
	for i := range 120 {
		if _, hello := r.from(fmt.Sprintf("198.51.100.%d", i)); strings.HasPrefix(hello, "220") {
			open++
		}
	}
	if open > 40 || open < 20 {
		t.Errorf("%d half-open connections in all, the ceiling is 40", open)
	}
	keep.do("NOOP", "200") // who is in does not notice
}

func TestClientCertificateBypass(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	// The listener does not take certificates: one changes nothing.
	c := r.connect(secure)
	c.want("220")
	c.authTLS()
	c.do("USER ann", "331")
	c.do("PASS", "5")
	c.do("PWD", "530")
}

func TestDefaultCredentials(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	for _, name := range []string{"admin", "root", "ftp", "anonymous", "guest", "test", "user", "portreeve", "administrator"} {
		for _, pass := range []string{"", name, "admin", "password", "me@example.org"} {
			c := r.connect(clear)
			c.want("220")
			c.send("USER " + name)
			if refused(c.want("3", "5")) {
				c.c.Close()
				break
			}
			if reply := c.do("PASS "+pass, "2", "5"); !refused(reply) {
				t.Errorf("%s with %q logs in", name, pass)
			}
			c.c.Close()
			if pass == name { // two of them show it; each costs a quarter of a second
				break
			}
		}
	}
}

func TestBanSurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix("192.0.2.0/24")
	if err := db.SaveBan(t.Context(), p, time.Time{}, "for ever"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r := startIn(t, dir)
	if _, hello := r.from("192.0.2.77"); hello != "" {
		t.Errorf("greeted: %q", hello)
	}
	if _, hello := r.from("192.0.3.77"); !strings.HasPrefix(hello, "220") {
		t.Errorf("shut out: %q", hello)
	}
}

func TestPlainPasswordNeedsTLS(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	ctx := context.Background()
	c, err := ftp.Dial(ctx, r.address(secure), ftp.ClientOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", password); err == nil {
		t.Error("a log-in in the clear on a listener with the default settings")
	}
	if fi, err := os.Stat(filepath.Join(r.dir, "data", store.FileName)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the database: %v, %v", fi.Mode(), err)
	}
}
