package ftp

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRedactOddSpellings: a password must not reach the log in any spelling of
// PASS that the parser does not know as PASS.
func TestRedactOddSpellings(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"PASS hunter2", "PASS ***"},
		{"pass hunter2", "pass ***"},
		{"ACCT hunter2", "ACCT ***"},
		{"PASS\thunter2", "PASS ***"},
		{"PASS:hunter2", "PASS ***"},
		{"P\x00ASS hunter2", "P ***"},
		{" PASS hunter2", "***"},
		{"\xffPASS hunter2", "***"},
		{"PASSWORD hunter2", "PASS ***"},
		{"PASShunter2", "PASS ***"},
		{"passhunter", "pass ***"},
		{"XYZZY", "XYZZY"},
		{"PASS", "PASS"},
		{"RETR hunter2", "RETR hunter2"},
		{"SITE PSWD old hunter2", "SITE PSWD ***"},
		{"site  pswd\thunter2", "site pswd ***"},
		{"SITE CHMOD 600 a", "SITE CHMOD 600 a"},
		{"SITE", "SITE"},
		{"SITE PSWD", "SITE PSWD"},
		{"SITE PSWDhunter2", "SITE PSWD ***"},
		{"SITE PASSWD old hunter2", "SITE PASS ***"},
		{"site cpwd hunter2", "site cpwd ***"},
		{"SITE ADDUSER ann hunter2", "SITE ADDUSER ***"},
		{"SITE \tPSWD hunter2", "SITE  ***"},
		{"SITE idle 5", "SITE idle 5"},
		{"", ""},
	} {
		if got := redact(tc.line); got != tc.want {
			t.Errorf("redact(%q) = %q, want %q", tc.line, got, tc.want)
		}
	}
}

// TestForeignRequestLines: the methods of HTTP and its relatives are more than
// a list can name, so the version at the end of the line decides.
func TestForeignRequestLines(t *testing.T) {
	_, addr := startEngine(t, Config{Backend: newMemBackend()})
	for _, l := range []string{"MKCOL / HTTP/1.1", "PRI * HTTP/2.0", "DESCRIBE rtsp://x/ RTSP/1.0", "INVITE sip:a@b SIP/2.0", "get / http/1.1"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write([]byte(l + "\r\nX: y\r\n\r\nUSER a\r\n"))
		var all strings.Builder
		b := make([]byte, 4096)
		for err = nil; err == nil; {
			var n int
			n, err = c.Read(b)
			all.Write(b[:n])
		}
		c.Close()
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() || !strings.Contains(all.String(), "\r\n421 ") || strings.Contains(all.String(), "331") {
			t.Errorf("%q was answered %q, then %v; want 421 and the end", l, all.String(), err)
		}
	}
}

// TestRNTOFollowsAtOnce: no command between RNFR and RNTO keeps the name alive,
// not even one that is possible during a transfer.
func TestRNTOFollowsAtOnce(t *testing.T) {
	for _, between := range []string{"NOOP", "STAT", "HELP", "PWD", "ABOR", "XYZZY"} {
		c := &Conn{srv: &Server{Config: Config{Backend: newMemBackend()}}, ctx: context.Background()}
		c.srv.init()
		c.sess = &memSession{}
		c.once.rnfr = "/f"
		if cmd := byName[between]; cmd != nil && cmd.run == nil {
			t.Fatal(between)
		}
		c.local, c.remote = addrPort(&net.TCPAddr{}), addrPort(&net.TCPAddr{})
		c.dispatch(between)
		if r := c.dispatch("RNTO /g"); r.Code != 503 {
			t.Errorf("RNTO after RNFR and %s: %d %s, want 503", between, r.Code, r.Text)
		}
	}
}

// TestRepliesNeverRead: a client that sends commands and reads no reply before
// log-in is gone when the time for the log-in is.
func TestRepliesNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // nothing is buffered: a write waits for a reader
		s := &Server{Config: Config{Backend: newMemBackend(), LoginTimeout: 5 * time.Second}}
		begin := time.Now()
		s.ServeConn(near)
		if took := time.Since(begin); took > 7*time.Second {
			t.Errorf("the connection lasted %s, the time for the log-in was 5 s", took)
		}
		far.Close()
	})
}

// TestHashesTakeTurns: hashes of endless files leave processors to others.
func TestHashesTakeTurns(t *testing.T) {
	for range cap(hashing) { // all places are taken
		hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	tr := &transfer{ctx: ctx}
	src := &countingReader{}
	done := make(chan error)
	go func() {
		_, err := tr.consume(sha256.New(), src)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("a hash ended without a place: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel(errAbort)
	if err := <-done; !errors.Is(err, errAbort) || src.n != 1 {
		t.Errorf("a waiting hash ended with %v after %d reads; want ABOR at once, with the first block in hand", err, src.n)
	}
	for range cap(hashing) {
		<-hashing
	}
}

type countingReader struct{ n int }

func (r *countingReader) Read(p []byte) (int, error) { r.n++; return len(p), nil }

// TestLoginAgainMuchLater: a user who leaves long after the time for the first
// log-in has that time again for the next.
func TestLoginAgainMuchLater(t *testing.T) {
	for _, again := range []string{"USER bob", "REIN"} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s := &Server{Config: Config{Backend: newMemBackend(), LoginTimeout: 5 * time.Second}}
			go s.ServeConn(near)
			r := bufio.NewReader(far)
			reply := func(send string) string {
				if send != "" {
					far.Write([]byte(send + "\r\n"))
				}
				l, _ := r.ReadString('\n')
				return l
			}
			reply("")
			reply("USER bob")
			if got := reply("PASS secret"); got[:3] != "230" {
				t.Fatal(got)
			}
			time.Sleep(time.Minute)
			reply(again)
			time.Sleep(time.Second)
			reply("USER bob")
			if got := reply("PASS secret"); got == "" || got[:3] != "230" {
				t.Errorf("log-in after %s a minute later: %q", again, got)
			}
			reply("REIN")
			if got := reply(""); !strings.HasPrefix(got, "421 ") {
				t.Errorf("after REIN the time for a log-in did not run: %q", got)
			}
			far.Close()
			s.Close()
		})
	}
}

// TestDyingClientStoresNothing: when a client ends its control connection and
// then the data, the end of the data is not that of the file, though in the
// clear it looks the same. (Ended the other way round within microseconds, as
// by kill -9, only confirm helps, which spares uploads of less than 50 ms.)
func TestDyingClientStoresNothing(t *testing.T) {
	b := newMemBackend()
	s, addr := startEngine(t, Config{Backend: b, Passive: testPorts})
	for i := range 100 {
		name := "/dying" + strconv.Itoa(i)
		c := dialRaw(t, addr)
		c.expect(220)
		c.do(331, "USER ann")
		c.do(230, "PASS secret")
		c.do(200, "TYPE I")
		epsv := c.do(229, "EPSV")
		var port int
		if _, err := fmt.Sscanf(epsv[strings.Index(epsv, "(|||"):], "(|||%d|)", &port); err != nil {
			t.Fatal(epsv)
		}
		d, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		c.do(150, "STOR %s", name)
		d.Write(make([]byte, 100<<10))
		c.Close()
		d.Close()
		defer func() {
			if _, there := b.Content(name); there {
				t.Errorf("%s was stored", name)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Shutdown(ctx)
}
