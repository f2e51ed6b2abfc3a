package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/transcript"
)

// TestTranscriptOfHostileClient: passwords in every place where clients put
// them, and what else should not reach a terminal, over a raw connection that
// is recorded from its first line on; data connections with TLS; and a live
// session that is asked for by its id.
func TestTranscriptOfHostileClient(t *testing.T) {
	r := start(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	tapes := r.s.Transcripts()
	early := r.dial(0, ftp.ClientOptions{})
	if _, err := tapes.Ask(transcript.Request{Network: netip.MustParsePrefix("127.0.0.1/32")}, time.Minute); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", r.address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	in.ReadString('\n')
	const secret = "Tr0ub4dor"
	for _, line := range []string{"PASS " + secret, "PASS" + secret, "PASS:" + secret, "pass\t" + secret, "ACCT " + secret, "ADAT " + secret, "AUTH " + "TLS-C\x1b[2J",
		"\x1bPASS " + secret, "USER " + testUser, "SITE PSWD " + secret + " " + secret + "2", "PASS " + testPassword, "SITE PSWD " + secret + " " + secret + "2",
		"SITE PSWD" + secret, "SITE PSWD\t" + secret, "SITE PASSWD old " + secret, "SITE HELP PSWD" + secret, "NOOP \x1b[31m\u202e", "QUIT"} {
		fmt.Fprintf(nc, "%s\r\n", line)
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		for {
			l, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if strings.Contains(strings.ToLower(l), strings.ToLower(secret)) {
				t.Errorf("%q is answered with the secret: %q", line, l)
			}
			if len(l) > 3 && l[3] == ' ' {
				break
			}
		}
	}
	io.Copy(io.Discard, in) // until the server has hung up

	c := r.dial(0, ftp.ClientOptions{TLS: ftp.ExplicitTLS})
	put(t, c, "/up.txt", []byte("what nobody may read"))
	for _, err := range c.List(t.Context(), "/") {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Quit(t.Context())

	early.Quit(t.Context())
	all := r.transcripts(2)
	for _, bad := range []string{secret, strings.ToUpper(secret), strings.ToLower(secret), testPassword, "what nobody may read", "\x1b", "\u202e"} {
		if strings.Contains(all, bad) {
			t.Errorf("the transcripts hold %q:\n%s", bad, all)
		}
	}
	contains(t, all, "> USER "+testUser+"\n", "> PASS ***\n", "< 230 ", "> NOOP ", `\x1b[31m`, "> QUIT\n", "< 221 ", "> AUTH TLS\n", "- protected by TLS 1.3 ",
		"TLS resumed from the control connection", "- STOR moved 20 octets in ", "- MLSD moved ", "- upload /up.txt: ok, 20 octets in ", "- the connection ended\n")

	// A session that is live already, by its id.
	late := r.dial(0, ftp.ClientOptions{})
	ids := r.s.Sessions()
	if len(ids) != 1 {
		t.Fatalf("%d sessions", len(ids))
	}
	for _, q := range tapes.Requests() {
		tapes.Stop(q.ID)
	}
	if err := tapes.Remove(ids[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := tapes.Ask(transcript.Request{Session: ids[0].ID}, time.Minute); err != nil || !r.s.Manager().Transcribe(ids[0].ID) {
		t.Fatal(err)
	}
	put(t, late, "/live.txt", []byte("x"))
	_, text, err := tapes.Read(ids[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, text, "user: "+testUser+"\n", "> STOR /live.txt\n")
	late.Quit(t.Context())
}

// TestTranscriptOfSFTP: the thousands of reads and writes of a large file are a
// few lines, failures stay visible between them, and nothing of the file or the
// password is there.
func TestTranscriptOfSFTP(t *testing.T) {
	r := start(t, listenTOML("sftp", "127.0.0.1:0", ""))
	if _, err := r.s.Transcripts().Ask(transcript.Request{User: testUser}, time.Minute); err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", r.address(0), &ssh.ClientConfig{User: testUser, Auth: []ssh.AuthMethod{ssh.Password(testPassword)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	const phrase = "what nobody may read "
	f, err := x.Create("/big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(strings.NewReader(strings.Repeat(phrase, 100_000))); err != nil {
		t.Fatal(err)
	}
	f.Close()
	x.Chmod("/big", 0o640)
	x.Stat("/nothing\nhere")
	if f, err = x.Open("/big"); err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteTo(io.Discard); n != 100_000*int64(len(phrase)) || err != nil {
		t.Fatal(n, err)
	}
	x.PosixRename("/big", "/bigger")
	c.Close()
	all := r.transcripts(1)
	if lines := strings.Count(all, "\n"); lines > 80 {
		t.Errorf("%d lines:\n%.4000s", lines, all)
	}
	for _, bad := range []string{strings.TrimSpace(phrase), testPassword} {
		if strings.Contains(all, bad) {
			t.Errorf("the transcript holds %q", bad)
		}
	}
	contains(t, all, "- log-in as "+testUser+" with a password\n", "- protected by SSH ", "- the client is SSH-2.0-Go\n", "> INIT version 3\n", "OPEN /big flags READ+WRITE+CREATE+TRUNC\n",
		"more such requests, answered in the same way: WRITE handle 1, ", "more such requests, answered in the same way: READ handle 2, ", "SETSTAT /big mode 0640\n", `STAT /nothing\x0ahere`, "STATUS NO_SUCH_FILE: ", "EXTENDED posix-rename@openssh.com /big and /bigger\n",
		"- upload /big: ok, 2100000 octets in ", "- rename /big to /bigger: ok\n")
}

// transcripts waits until that many have ended and returns them.
func (r *rig) transcripts(n int) string {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(r.dir, "data", "transcripts", "*"))
		if len(files) == n && !r.s.Transcripts().Active() {
			var all strings.Builder
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					r.t.Fatal(err)
				}
				all.Write(b)
			}
			return all.String()
		}
		if time.Now().After(end) {
			r.t.Fatalf("%d transcripts, not %d, or they do not end", len(files), n)
		}
	}
}
