package server

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// rawClient speaks lines.
type rawClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dialRaw(t *testing.T, addr string) *rawClient {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return &rawClient{t: t, c: c, r: bufio.NewReader(c)}
}

func (l *rawClient) send(line string) {
	l.t.Helper()
	if _, err := io.WriteString(l.c, line+"\r\n"); err != nil {
		l.t.Fatal(err)
	}
}

// expect reads one reply and checks the beginning of its last line.
func (l *rawClient) expect(code string) string {
	l.t.Helper()
	for {
		line, err := l.r.ReadString('\n')
		if err != nil {
			l.t.Fatalf("waiting for %s: %v", code, err)
		}
		if len(line) > 3 && line[3] == '-' || strings.HasPrefix(line, " ") {
			continue
		}
		if !strings.HasPrefix(line, code) {
			l.t.Fatalf("got %q, want %s", line, code)
		}
		return strings.TrimSpace(line)
	}
}

func (l *rawClient) login() {
	l.t.Helper()
	l.send("USER " + testUser)
	l.expect("331")
	l.send("PASS " + testPassword)
	l.expect("230")
}

func (l *rawClient) eof() {
	l.t.Helper()
	if rest, err := io.ReadAll(l.r); err != nil || len(rest) > 0 {
		l.t.Errorf("expected the end of the connection, got %q, %v", rest, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}
