//go:build clients

package clients

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// callBudget is how many system calls the whole server may make for a small
// plain download, its control connection, accounts and records included
// (docs/design/performance.md section 4). Lines of the log do not count, since
// the tests have the debug level on, nor do the calls of the Go scheduler, of
// which the tracing itself makes more.
const callBudget = 28

var schedulerCalls = regexp.MustCompile(`^\d+ +(futex|nanosleep|epoll_pwait|sched_yield|madvise|tgkill|getpid|rt_sig\w+|sigaltstack|clone3?|mmap|munmap)\(`)

// TestCalls traces the server while a client fetches small files one after
// another: the calls for each stay within the budget, its two replies are one
// write, listeners are kept, and no socket is bound to port 0, for which the
// kernel would search a port, slower with each socket in TIME_WAIT.
func TestCalls(t *testing.T) {
	Tool(t, "python3", "python3")
	strace := Tool(t, "strace", "strace")
	s := Start(t, Config{Listen: []Listener{{Name: "plain", Protocol: "ftp", Keys: `tls = "off"`}}})
	u := s.AddUser(t, "ann")
	writeFile(t, filepath.Join(u.Home, "f"), bytes.Repeat([]byte("x"), 4096))
	fetch := func(n int) {
		dir := TempDir(t)
		Cmd{Args: []string{"python3", testdata(t, "tree.py"), "plain", "127.0.0.1", portText(s, "plain"), "EPSV", u.Name, u.Password, "-", "", dir},
			Stdin: strings.Repeat("f\n", n), Dir: dir}.Must(t)
	}
	trace := func(n int) string {
		out := filepath.Join(TempDir(t), "trace")
		cmd := exec.Command(strace, "-f", "-qq", "-s", "200", "-o", out, "-p", strconv.Itoa(s.Pid()))
		cmd.SysProcAttr = ours()
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "strace is attached", func() bool {
			b, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/status")
			return err == nil && !strings.Contains(string(b), "TracerPid:\t0\n")
		})
		fetch(n)
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatalf("strace wrote nothing: %v %s", err, said.String())
		}
		return string(b)
	}
	fetch(20) // the pool's listeners are open after this
	const few, many = 20, 220
	a, b := trace(few), trace(many)
	each := float64(calls(b)-calls(a)) / (many - few)
	t.Logf("a small download takes %.1f system calls", each)
	if each > callBudget {
		t.Errorf("a small download takes %.1f system calls, %d are the budget", each, callBudget)
	}
	if each < 8 {
		t.Errorf("only %.1f system calls for each download were seen; the trace cannot be whole", each)
	}
	// The client connects before it asks, so both replies leave in one write.
	if n := len(regexp.MustCompile(`write\(\d+, "150 [^"]*\\r\\n226 `).FindAllString(b, -1)); n < many*3/4 {
		t.Errorf("only %d of %d downloads had 150 and 226 in one write, three of four are right", n, many)
	}
	if n := strings.Count(b, " bind("); n > many/2 {
		t.Errorf("%d sockets were bound for %d downloads; kept listeners need far fewer, %d are the limit", n, many, many/2)
	}
	if m := regexp.MustCompile(`.*bind\(.*htons\(0\).*`).FindString(a + b); m != "" {
		t.Errorf("a socket was bound to a port of the kernel's choice:\n%s", m)
	}
}

// calls counts the system calls of a trace.
func calls(trace string) (n int) {
	for line := range strings.Lines(trace) {
		switch {
		case strings.Contains(line, "resumed>"), strings.Contains(line, "write(2, "), strings.Contains(line, "+++"), strings.Contains(line, "---"), schedulerCalls.MatchString(line):
		default:
			n++
		}
	}
	return n
}
