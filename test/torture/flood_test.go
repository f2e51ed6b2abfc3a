package torture

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// TestFlood opens far more connections than the server has descriptors.
func TestFlood(t *testing.T) {
	w := newWorld(t, 5, "[limits]\nnever_ban = [\"127.0.0.1\"]\nper_address = 0\nhalf_open = 0\nmax_half_open = 0\n")
	w.limit = floodLimit
	w.start()
	var inside []*ftp.Client
	for i := range w.users {
		c, err := w.login(i)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		inside = append(inside, c)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var moved atomic.Int64
	for i, c := range inside {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Store(w.ctx(), fmt.Sprintf("/f%d", n%5), bytes.NewReader(noise(20_000)), 0); err != nil {
					t.Errorf("session %d inside: %v", i, err)
					return
				}
				moved.Add(1)
			}
		})
	}
	var greeted, refused, silent atomic.Int64
	var mu sync.Mutex
	var open []net.Conn
	slots := make(chan struct{}, 200)
	var attempts sync.WaitGroup
	began := time.Now()
	for range floodAttempts {
		slots <- struct{}{}
		attempts.Go(func() {
			defer func() { <-slots }()
			c, err := net.DialTimeout("tcp", w.address(), 20*time.Second)
			if err != nil {
				silent.Add(1)
				return
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			b := make([]byte, 200)
			n, _ := c.Read(b)
			switch {
			case bytes.HasPrefix(b[:n], []byte("220")):
				greeted.Add(1)
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
				return
			case bytes.HasPrefix(b[:n], []byte("421")):
				refused.Add(1)
			default:
				silent.Add(1)
			}
			c.Close()
		})
	}
	attempts.Wait()
	took := time.Since(began)
	during := moved.Load()
	time.Sleep(500 * time.Millisecond)
	if moved.Load() == during {
		t.Error("the sessions inside stand still while the flood is there")
	}
	close(stop)
	wg.Wait()
	for _, c := range open {
		c.Close()
	}
	if greeted.Load() == 0 || greeted.Load() > floodLimit || refused.Load() == 0 {
		t.Errorf("%d greeted, %d refused, %d without a word, with %d descriptors", greeted.Load(), refused.Load(), silent.Load(), floodLimit)
	}
	if silent.Load() > floodAttempts/50 {
		t.Errorf("%d of %d attempts got no answer", silent.Load(), floodAttempts)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := w.login(0)
		if err == nil {
			c.Quit(w.ctx())
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no recovery after the flood: %v", err)
		}
	}
	result("flood", fmt.Sprintf("%d connections against a limit of %d descriptors, in %s", floodAttempts, floodLimit, took.Round(time.Second)),
		fmt.Sprintf("%d greeted, %d refused with 421, %d without an answer; %d uploads by the %d sessions inside, none failed; log-ins work again afterwards", greeted.Load(), refused.Load(), silent.Load(), moved.Load(), w.users))
}
