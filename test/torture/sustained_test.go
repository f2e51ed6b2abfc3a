package torture

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// TestSustained lets 64 sessions move small files over 100 passive ports for
// long. Each port is used again and again while the kernel still keeps its
// earlier connections in TIME_WAIT; a server that lets go of listeners, or
// asks the kernel for ports, gets slower with each minute, or runs out (425).
func TestSustained(t *testing.T) {
	const sessions, ports = 64, 100
	w := newWorldPorts(t, sessions, ports, "[limits]\nper_address = 0\n")
	w.start()
	body := noise(4096)
	for i := range sessions {
		if err := os.WriteFile(filepath.Join(w.home(i), "small"), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	clients := make([]*ftp.Client, sessions)
	for i := range clients {
		c, err := w.login(i)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[i] = c
	}
	const windows = 3
	var files [windows]atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := 0; ; n++ {
				if err := small(w, c, n, body); err != nil {
					t.Errorf("session %d, file %d, after %v: %v", i, n, time.Since(begin).Round(time.Millisecond), err)
					return
				}
				k := int(time.Since(begin) * windows / sustained)
				if k >= windows {
					return
				}
				files[k].Add(1)
			}
		})
	}
	wg.Wait()
	var rates []string
	for i := range files {
		rates = append(rates, fmt.Sprintf("%.0f", float64(files[i].Load())*windows/sustained.Seconds()))
	}
	ratio := float64(files[windows-1].Load()) / float64(max(1, files[0].Load()))
	waits := timeWaits(t)
	result("sustained", fmt.Sprintf("%d sessions, files of 4 KiB down and up over %d ports for %v", sessions, ports, time.Duration(sustained)),
		fmt.Sprintf("%s files/s in each third (last to first %.2f), no 425, %d sockets in TIME_WAIT at the end", strings.Join(rates, ", "), ratio, waits))
	t.Logf("files/s in each third: %s; last to first %.2f; %d in TIME_WAIT", strings.Join(rates, ", "), ratio, waits)
	// The short form is too short for a rate; that it needs no 425 is shown all the same.
	if sustained >= time.Minute && ratio < 0.9 {
		t.Errorf("the last minute had %.2f of the rate of the first, want 0.9", ratio)
	}
}

// small fetches a file, or stores one every fourth time.
func small(w *world, c *ftp.Client, n int, body []byte) error {
	if n%4 == 3 {
		_, err := c.Store(w.ctx(), "/up", bytes.NewReader(body), 0)
		return err
	}
	r, err := c.Retrieve(w.ctx(), "/small", 0)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err2 := r.Close(); err == nil {
		err = err2
	}
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("%d octets that are not those of the file", len(got))
	}
	return err
}

// timeWaits is the number of IPv4 sockets of this host in TIME_WAIT.
func timeWaits(t *testing.T) int {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		t.Log(err)
		return -1
	}
	var n int
	for line := range strings.Lines(string(b)) {
		if _, after, ok := strings.Cut(line, " tw "); ok && strings.HasPrefix(line, "TCP:") {
			fmt.Sscan(after, &n)
		}
	}
	return n
}
