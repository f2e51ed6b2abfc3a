package security

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Section 1.2: the FTP protocol.

func TestBounce(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.login("ann")
	victim, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	port := victim.Addr().(*net.TCPAddr).Port
	for _, line := range []string{
		fmt.Sprintf("PORT 127,0,0,2,%d,%d", port>>8, port&255), fmt.Sprintf("EPRT |1|127.0.0.2|%d|", port), fmt.Sprintf("EPRT |2|::ffff:127.0.0.2|%d|", port),
		"PORT 127,0,0,1,0,22", "PORT 127,0,0,1,3,231", "EPRT |1|127.0.0.1|25|", "EPRT |1|localhost|4000|", "PORT 0,0,0,0,16,0", "PORT 255,255,255,255,16,0",
		"PORT 127,0,0,1,256,1", "PORT 127,0,0,1,-1,1", "PORT 127.0.0.1,4000", "EPRT |3|127.0.0.1|4000|", "EPRT |1|127.0.0.1|99999|", "EPRT |1|0127.0.0.1|4000|",
	} {
		c.do(line, "5")
	}
	victim.(*net.TCPListener).SetDeadline(time.Now().Add(200 * time.Millisecond))
	if conn, err := victim.Accept(); err == nil {
		conn.Close()
		t.Error("the server connected to a third host")
	}
}

func TestPassivePortTheft(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "f"), "for ann alone")
	c := r.login("ann")
	seen := map[string]bool{}
	for range 6 {
		addr := c.passive()
		if seen[addr] {
			t.Errorf("the port %s came twice in a row", addr)
		}
		seen[addr] = true
		thief, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 5 * time.Second}).Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		thief.SetDeadline(time.Now().Add(10 * time.Second))
		rightful, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		rightful.SetDeadline(time.Now().Add(10 * time.Second))
		c.send("RETR f")
		if got, _ := io.ReadAll(thief); len(got) > 0 {
			t.Fatalf("the thief got %q", got)
		}
		if got, _ := io.ReadAll(rightful); string(got) != "for ann alone" {
			t.Errorf("the client got %q", got)
		}
		c.want("1")
		c.want("226")
		thief.Close()
		rightful.Close()
	}
	// A port is used once.
	addr := c.passive()
	d, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.send("RETR f")
	io.ReadAll(d)
	c.want("1")
	c.want("226")
	if late, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		late.SetDeadline(time.Now().Add(5 * time.Second))
		if n, _ := late.Read(make([]byte, 1)); n > 0 {
			t.Error("the port of a finished transfer still serves")
		}
		late.Close()
	}
}

func TestSTARTTLSInjection(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.connect(secure)
	c.want("220")
	io.WriteString(c.c, "AUTH TLS\r\nUSER ann\r\nPASS x\r\n")
	reply, err := c.read()
	if err == nil && strings.HasPrefix(reply, "234") {
		// It may go on only if nothing of the text is carried out behind TLS.
		c.shake()
		c.c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if line, _ := c.r.ReadString('\n'); line != "" {
			t.Errorf("text in front of TLS was answered behind it: %q", line)
		}
	} else {
		c.gone()
	}
	// State from before TLS is dropped, too.
	c = r.connect(clear)
	c.want("220")
	c.do("USER ann", "331")
	c.authTLS()
	c.do("PASS "+password, "503")
	r.alive()
}

func TestTLSDowngrade(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.connect(secure)
	c.want("220")
	c.do("USER ann", "530")
	c.do("USER nobody-like-this", "530")
	c.do("PASS "+password, "503", "530")
	c.authTLS()
	c.do("USER ann", "331")
	c.do("PASS "+password, "230")
	c.do("CCC", "533", "534")
	c.do("PBSZ 0", "200")
	c.do("PROT C", "534", "536", "521", "431")
	c.do("PROT S", "504", "536")
	if _, reply := c.fetch("NLST"); !refused(reply) {
		t.Errorf("a listing went in the clear: %q", reply)
	}
	// Old versions and suites are refused by the handshake.
	c = r.connect(secure)
	c.want("220")
	c.do("AUTH TLS", "234")
	old := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if old.Handshake() == nil {
		t.Error("TLS 1.1 is accepted")
	}
	c = r.connect(secure)
	c.want("220")
	c.do("AUTH TLS", "234")
	weak := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}})
	if weak.Handshake() == nil {
		t.Error("a suite without forward secrecy is accepted")
	}
}

func TestReplyInjectionByNames(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	for _, n := range []string{"a\r\n230 forged", "b\n226 forged", "c\x1b[2J", "d\x7f"} {
		r.file(filepath.Join(r.home, n), "x")
	}
	c := r.login("ann")
	for _, n := range []string{"n\x01x", "n\x1bx", "n\x7fx", "n\tx"} {
		if reply := c.store("STOR "+n, "x"); !refused(reply) {
			t.Errorf("a name with %q is made: %q", n, reply)
		}
		c.do("MKD "+n, "5")
	}
	// RFC 2640 and Telnet: CR NUL is CR.
	if reply := c.store("STOR x\r\x00y", "x"); !refused(reply) {
		t.Errorf("a name with CR is made: %q", reply)
	}
	for _, cmd := range []string{"LIST", "NLST", "MLSD"} {
		list, reply := c.fetch(cmd)
		if refused(reply) {
			t.Fatalf("%s: %q", cmd, reply)
		}
		for line := range strings.Lines(list) {
			if strings.HasPrefix(line, "230 forged") || strings.HasPrefix(line, "226 forged") || strings.ContainsAny(line, "\x1b\x7f") {
				t.Errorf("%s lets a name forge %q", cmd, line)
			}
		}
	}
	for _, line := range []string{"STAT .", "STAT /"} {
		reply := c.do(line, "2")
		for l := range strings.Lines(reply) {
			if strings.HasPrefix(l, "230 ") || strings.HasPrefix(l, "226 ") {
				t.Errorf("%s lets a name forge a reply: %q", line, reply)
			}
		}
	}
	// What is echoed is escaped.
	reply := c.do("CWD no\x1b]0;x\x07such", "5")
	if strings.ContainsAny(reply, "\x1b\x07") {
		t.Errorf("control characters are echoed: %q", reply)
	}
}

func TestCrossProtocol(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	for _, first := range []string{"GET / HTTP/1.1", "POST /x HTTP/1.1", "HEAD / HTTP/1.0", "PUT /x HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT x:1 HTTP/1.1", "SSH-2.0-OpenSSH_9.9", "EHLO x"} {
		c := r.connect(clear)
		c.want("220")
		c.send(first)
		c.send("Host: x")
		c.send("USER ann")
		reply, _ := c.read()
		if !strings.HasPrefix(reply, "421") && !strings.HasPrefix(reply, "5") {
			t.Errorf("%q: %q", first, reply)
		}
		c.gone()
	}
	// A browser's ALPN is refused by the handshake.
	c := r.connect(secure)
	c.want("220")
	c.do("AUTH TLS", "234")
	web := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if web.Handshake() == nil {
		t.Error("a handshake for HTTP succeeds")
	}
}

func TestFormatStringsAndShell(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.login("ann")
	marker := filepath.Join(r.dir, "pwned")
	for _, s := range []string{"%s%s%s%n%x", "%d%!s(MISSING)", "`touch " + marker + "`", "$(touch " + marker + ")", "; touch " + marker, "| touch " + marker, "&& touch " + marker} {
		for _, verb := range []string{"CWD ", "RETR ", "SIZE ", "SITE ", "SITE EXEC ", "HOST ", "CLNT ", "HELP ", "STAT ", "OPTS ", "ACCT ", "LANG ", "ALLO "} {
			c.send(verb + s)
			reply := c.want("2", "3", "4", "5")
			if strings.Contains(reply, "%!") && !strings.Contains(s, "%!") {
				t.Errorf("%s%s is taken for a format: %q", verb, s, reply)
			}
		}
		c.fetch("LIST " + s)
		c.store("STOR "+strings.ReplaceAll(s, "/", "_"), "x")
	}
	c.do("SITE EXEC ls", "5")
	if _, err := os.Stat(marker); err == nil {
		t.Error("text from a client was run by a shell")
	}
	r.alive()
}

func TestGlobBomb(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	for i := range 200 {
		r.file(filepath.Join(r.home, fmt.Sprintf("%s%03d", strings.Repeat("a", 200), i)), "")
	}
	c := r.login("ann")
	began := time.Now()
	for _, p := range []string{strings.Repeat("*a", 60) + "b", strings.Repeat("a*", 100) + "b", strings.Repeat("{a,b}", 40), strings.Repeat("[a-z]", 60) + "*", strings.Repeat("*/", 100), strings.Repeat("../*/", 50), strings.Repeat("?", 255), "*" + strings.Repeat("?*", 120)} {
		c.fetch("NLST " + p)
		c.fetch("LIST " + p)
		c.send("STAT " + p)
		c.want("2", "4", "5")
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("the patterns took %v", d)
	}
	r.alive()
}

func TestListOptions(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "plain"), "")
	r.file(filepath.Join(r.home, "-la"), "")
	c := r.login("ann")
	for _, opt := range []string{"", "-a", "-l", "-la", "-al", "-1", "-B", "-C", "-lR", "-F", strings.Repeat("-a ", 500), "-" + strings.Repeat("l", 2000), "-l -- plain", "--", "-\x01"} {
		list, reply := c.fetch("LIST " + opt)
		if strings.HasPrefix(reply, "2") && strings.Contains(list, "secret") {
			t.Errorf("LIST %.20q shows the outside", opt)
		}
	}
	if list, _ := c.fetch("NLST ./-la"); !strings.Contains(list, "-la") {
		t.Errorf("a file called -la cannot be listed: %q", list)
	}
	r.alive()
}

func TestMLSxBuffers(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	long := strings.Repeat("n", 255)
	r.file(filepath.Join(r.home, long), "")
	c := r.login("ann")
	if list, _ := c.fetch("MLSD"); !strings.Contains(list, long) {
		t.Errorf("MLSD lost a name of 255 octets")
	}
	c.do("MLST "+long, "250")
	for _, facts := range []string{"", "type;", strings.Repeat("type;", 700), "nonsense;", ";;;;", "type", strings.Repeat("x", 3000)} {
		c.send("OPTS MLST " + facts)
		c.want("2", "5")
		c.do("MLST "+long, "250")
	}
	c.do("MLST "+strings.Repeat("n", 256), "5")
	c.do("MLST "+strings.Repeat("d/", 1900), "5")
	r.alive()
}

func TestStateLeaks(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "f"), "0123456789")
	r.file(filepath.Join(r.home, "g"), "abcdefghij")
	c := r.login("ann")
	// RNFR does not survive another command.
	c.do("RNFR f", "350")
	c.do("PWD", "257")
	c.do("RNTO stolen", "503")
	// REST is used up by one transfer, and dropped by others.
	c.do("REST 5", "350")
	if d, _ := c.fetch("RETR f"); d != "56789" {
		t.Errorf("after REST 5: %q", d)
	}
	if d, _ := c.fetch("RETR g"); d != "abcdefghij" {
		t.Errorf("REST leaked into the next transfer: %q", d)
	}
	// REIN and a new USER start from nothing.
	c.do("RNFR f", "350")
	c.do("REIN", "220", "502")
	c.do("RNTO stolen", "503", "530")
	c = r.login("ann")
	c.do("CWD /", "250")
	c.send("USER somebody")
	c.want("3", "5")
	c.send("PASS wrong")
	c.want("5")
	c.send("RETR f")
	if reply := c.want("1", "4", "5"); !refused(reply) {
		t.Errorf("after USER and a wrong password the old session goes on: %q", reply)
	}
	// EPSV ALL holds until the end.
	c = r.login("ann")
	c.do("EPSV ALL", "200")
	c.do("PORT 127,0,0,1,200,1", "5")
	c.do("PASV", "5")
}

func TestCommandFlood(t *testing.T) {
	r := start(t, "")
	c := r.connect(clear)
	c.want("220")
	go io.WriteString(c.c, strings.Repeat("A", 1<<20)+"\r\n"+strings.Repeat("B", 1<<20)+"\r\n"+strings.Repeat("C", 1<<20)+"\r\n")
	reply, _ := c.read()
	if !strings.HasPrefix(reply, "500") && !strings.HasPrefix(reply, "421") {
		t.Errorf("a line of a mebibyte: %q", reply)
	}
	c.gone()
	// Commands nobody reads the answers of must not use memory without end.
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	d := r.connect(clear)
	d.want("220")
	d.c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	block := strings.Repeat("HELP\r\nFEAT\r\n\xff\xf4\xff\xf2NOOP\r\n", 1000)
	for range 500 {
		if _, err := io.WriteString(d.c, block); err != nil {
			break
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	// Unknown commands by the dozen end the connection.
	e := r.connect(clear)
	e.want("220")
	go func() {
		for i := range 200 {
			if _, err := fmt.Fprintf(e.c, "XYZ%d\r\n", i); err != nil {
				return
			}
		}
	}()
	e.gone()
	r.alive()
}

func TestModeZBomb(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	c := r.login("ann")
	c.send("MODE Z")
	if reply := c.want("2", "5"); !refused(reply) {
		t.Errorf("compression is accepted: %q", reply)
	}
	c.do("MODE B", "504", "5")
	c.do("STRU R", "504", "5")
}

func TestHandshakeStarvation(t *testing.T) {
	t.Parallel()
	r := start(t, "[ftp]\nlogin_timeout = \"1s\"\n")
	began := time.Now()
	silent := r.connect(clear) // says nothing
	silent.want("220")
	half := r.connect(secure) // stops in the middle of TLS
	half.want("220")
	half.do("AUTH TLS", "234")
	half.raw.Write([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01})
	drip := r.connect(clear) // sends a letter now and then
	drip.want("220")
	go func() {
		for range 100 {
			if _, err := drip.c.Write([]byte("N")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	busy := r.connect(clear) // commands without a log-in
	busy.want("220")
	go func() {
		for range 100 {
			if _, err := busy.c.Write([]byte("NOOP\r\n")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	for _, c := range []*client{silent, half, drip, busy} {
		c.gone()
	}
	if d := time.Since(began); d > 8*time.Second {
		t.Errorf("the last of them was let go after %v, with a log-in time of 1 s", d)
	}
}

func TestTruncatedUpload(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	r.file(filepath.Join(r.home, "kept"), "the old content")
	c := r.login("ann")
	d := c.dialData()
	c.send("STOR kept")
	c.want("1")
	io.WriteString(d, strings.Repeat("half of the new content", 1000))
	d.(*net.TCPConn).SetLinger(0) // a reset, not an end
	d.Close()
	c.want("4")
	if b, err := os.ReadFile(filepath.Join(r.home, "kept")); err != nil || string(b) != "the old content" {
		t.Errorf("a broken upload changed the file: %.40q, %v", b, err)
	}
	es, _ := os.ReadDir(r.home)
	if len(es) != 1 {
		t.Errorf("a broken upload left %v", es)
	}
}

func TestLogInjection(t *testing.T) {
	t.Parallel()
	r := start(t, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	c := r.connect(clear)
	c.want("220")
	c.do("USER x\ty\x1b[31m\"}", "331", "501", "530")
	c.send("PASS se-cret-77")
	c.want("5")
	c.do("USER ann", "331")
	c.do("PASS another-secret-88", "530")
	for line := range strings.Lines(r.logs.String()) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") || strings.ContainsAny(line, "\x1b\t") {
			t.Errorf("a log line was forged: %q", line)
		}
		if strings.Contains(line, "se-cret-77") || strings.Contains(line, "another-secret-88") {
			t.Errorf("a password is in the log: %q", line)
		}
	}
	if !strings.Contains(r.logs.String(), "log-in failed") {
		t.Error("failed log-ins are not in the log")
	}
}
