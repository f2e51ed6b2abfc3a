package torture

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// talk makes log lines: each refused command is several of them at level debug.
func (w *world) talk(c *ftp.Client, n int) {
	w.t.Helper()
	for i := range n {
		if _, err := c.Size(w.ctx(), fmt.Sprintf("/%s-%d", strings.Repeat("x", 200), i)); err == nil {
			w.t.Fatal("a file that is not there has a size")
		}
	}
}

// metric reads one value of the metrics page.
func (w *world) metric(address, name string) (value string) {
	w.t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// TestLogPipeBlocked: nobody reads the log. Log-ins and transfers go on, the
// lines that are lost are counted, and the server still stops.
func TestLogPipeBlocked(t *testing.T) {
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w := newWorld(t, 1, fmt.Sprintf("[metrics]\naddress = %q\n", metrics))
	w.setLog("level = \"debug\"")
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	w.out = wr
	w.start()
	wr.Close()
	c, err := w.login(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(20 * time.Second); ; {
		w.talk(c, 500)
		if v := w.metric(metrics, "portreeve_log_lost_total"); v != "0" && v != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no line is lost although nobody reads")
		}
	}
	if _, err := c.Store(w.ctx(), "/f", bytes.NewReader(noise(2<<20)), 0); err != nil {
		t.Errorf("an upload while the log is stuck: %v", err)
	}
	d, err := w.login(0)
	if err != nil {
		t.Fatalf("a log-in while the log is stuck: %v", err)
	}
	d.Quit(w.ctx())
	c.Quit(w.ctx())
	w.ends(syscall.SIGTERM, 15*time.Second)
}

// TestLogDiskFull: the same with a log file that takes nothing.
func TestLogDiskFull(t *testing.T) {
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w := newWorld(t, 1, fmt.Sprintf("[metrics]\naddress = %q\n", metrics))
	w.setLog("level = \"debug\"\nfile = \"/dev/full\"")
	w.start()
	c, err := w.login(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.talk(c, 20)
	if _, err := c.Store(w.ctx(), "/f", bytes.NewReader(noise(2<<20)), 0); err != nil {
		t.Errorf("an upload while the log's disk is full: %v", err)
	}
	if v := w.metric(metrics, "portreeve_log_lost_total"); v == "0" || v == "" {
		t.Errorf("portreeve_log_lost_total is %q", v)
	}
	c.Quit(w.ctx())
	w.ends(syscall.SIGTERM, 15*time.Second)
}

// setLog replaces what [log] says.
func (w *world) setLog(lines string) {
	w.t.Helper()
	b, err := os.ReadFile(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.config(), bytes.Replace(b, []byte(`level = "info"`), []byte(lines), 1), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// ends sends a signal and waits for an orderly end.
func (w *world) ends(sig os.Signal, within time.Duration) {
	w.t.Helper()
	w.cmd.Process.Signal(sig)
	done := make(chan error, 1)
	cmd := w.cmd
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		w.cmd = nil
		if err != nil {
			w.t.Errorf("the server ended with %v", err)
		}
	case <-time.After(within):
		cmd.Process.Kill()
		<-done
		w.cmd = nil
		w.t.Errorf("the server does not end within %s", within)
	}
}
