package ftp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// fuzzStates are what comes before the fuzzed lines.
var fuzzStates = []string{
	"",
	"USER ann\r\n",
	"USER ann\r\nPASS secret\r\n",
	"USER ann\r\nPASS secret\r\nTYPE I\r\nREST 3\r\n",
	"USER ann\r\nPASS secret\r\nRNFR f\r\n",
	"USER ann\r\nPASS secret\r\nSITE CPFR f\r\n",
	"USER ann\r\nPASS secret\r\nEPSV ALL\r\nCWD dir\r\n",
	"USER bob\r\nPASS secret\r\nRANG 1 2\r\n",
}

// FuzzCommands sends arbitrary bytes in every state. Whatever arrives, replies
// keep the grammar of RFC 959 section 4.2, the server meets no fault of its
// own, and the connection ends or answers on.
func FuzzCommands(f *testing.F) {
	for i := range commands {
		cmd := &commands[i]
		for state := range fuzzStates {
			f.Add(uint8(state), []byte(cmd.name+" "+cmd.syntax+"\r\n"))
		}
	}
	for _, s := range siteCommands {
		f.Add(uint8(2), []byte("SITE "+s.name+" "+s.syntax+"\r\n"))
	}
	f.Add(uint8(2), []byte("MKD a\x00b\r\nPWD\r\nCWD \"a\"\"b\"\r\nRETR -la\r\n"))
	f.Add(uint8(2), []byte("\xff\xf4\xff\xf2ABOR\r\n\xff\xfb\x01\xff\xfd\x01NOOP\r\n"))
	f.Add(uint8(2), []byte("XCRC \"f\" 0 3\r\nCOMB \"x\" \"f\"\r\nMFF modify=20200101000000;UNIX.mode=644; f\r\n"))
	f.Fuzz(func(t *testing.T, state uint8, script []byte) {
		b := newMemBackend()
		b.File("/f", "content\nof a file\n")
		b.Dir("/dir")
		srv := &Server{Config: Config{Backend: b, TLS: serverTLS(), Passive: &PortRange{First: 47000, Last: 47999}, LoginTimeout: 300 * time.Millisecond}}
		here, there := net.Pipe()
		go srv.ServeConn(halfPipe{there})
		here.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			io.WriteString(here, fuzzStates[int(state)%len(fuzzStates)])
			here.Write(script)
			io.WriteString(here, "\r\nQUIT\r\n")
		}()
		got, err := io.ReadAll(here)
		here.Close()
		if err != nil && !bytes.Contains(bytes.ToUpper(script), []byte("AUTH")) {
			t.Fatalf("the connection did not end: %v after %q", err, got)
		}
		if bytes.Contains(bytes.ToUpper(script), []byte("AUTH")) {
			return // what follows 234 is TLS
		}
		if err := replyGrammar(string(got)); err != nil {
			t.Fatalf("%v in %q", err, got)
		}
		srv.Close()
	})
}

// halfPipe ends its sending side as TCP does, which net.Pipe cannot.
type halfPipe struct{ net.Conn }

func (p halfPipe) CloseWrite() error { return p.Close() }

// replyGrammar checks a whole transcript of replies.
func replyGrammar(s string) error {
	open := ""
	for l := range strings.SplitSeq(strings.TrimSuffix(s, "\r\n"), "\r\n") {
		for len(l) >= 3 && l[0] == telnetIAC && (l[1] == telnetDONT || l[1] == telnetWONT) {
			l = l[3:] // Telnet refusals stand between replies
		}
		if strings.Contains(l, "fault of its own") {
			return fmt.Errorf("the server met a fault")
		}
		if i := strings.IndexFunc(l, func(r rune) bool { return r < 0x20 && r != 0 && r != '\t' }); i >= 0 {
			return fmt.Errorf("a control byte at %d of %q", i, l)
		}
		isReply := len(l) >= 4 && l[0] >= '1' && l[0] <= '6' && l[1] >= '0' && l[1] <= '5' && l[2] >= '0' && l[2] <= '9'
		switch {
		case open != "" && strings.HasPrefix(l, open+" "):
			open = ""
		case open != "":
			if isReply && l[3] == ' ' {
				return fmt.Errorf("a line inside a multi-line reply looks like its end: %q", l)
			}
		case isReply && l[3] == '-':
			open = l[:3]
		case isReply && l[3] == ' ':
		default:
			return fmt.Errorf("no reply line: %q", l)
		}
	}
	if open != "" {
		return fmt.Errorf("the multi-line reply %s has no end", open)
	}
	return nil
}
