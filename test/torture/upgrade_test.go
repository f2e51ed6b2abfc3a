package torture

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// TestUpgrades replaces the process again and again under busy sessions: no
// log-in may fail and no transfer may be cut.
func TestUpgrades(t *testing.T) {
	w := newWorld(t, 4, "[limits]\nnever_ban = [\"127.0.0.1\"]\nper_address = 0\nhalf_open = 0\nmax_half_open = 0\n")
	w.start()
	// Hundreds of log-ins in one moment are refused by the bound on costly
	// hashes, with or without an upgrade; that is not the question here.
	hashing := make(chan struct{}, 4)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var logins, moved, failed atomic.Int64
	fail := func(what string, err error) {
		if failed.Add(1) <= 5 {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range busy {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				hashing <- struct{}{}
				c, err := w.login(i % w.users)
				<-hashing
				if err != nil {
					fail("log-in", err)
					return
				}
				logins.Add(1)
				if err := transfer(w, c, fmt.Sprintf("/b%d-%d", i, n%3)); err != nil {
					fail("transfer", err)
				}
				moved.Add(1)
				c.Quit(w.ctx())
			}
		})
	}
	pid := w.cmd.Process.Pid
	took := regexp.MustCompile(`process (\d+) serves now`)
	var pids []int
	for range upgrades {
		time.Sleep(time.Duration(200+rand.IntN(300)) * time.Millisecond)
		out, err := w.portreeve("upgrade")
		m := took.FindStringSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("upgrade: %v\n%s", err, out)
		}
		next, _ := strconv.Atoi(m[1])
		if next == pid {
			t.Fatal("the process is the same")
		}
		pids = append(pids, pid)
		pid = next
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()
	for _, old := range pids[1:] {
		for end := time.Now().Add(20 * time.Second); syscall.Kill(old, 0) == nil && !zombie(old); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("process %d does not end although its sessions have", old)
				break
			}
		}
	}
	w.cmd.Wait()
	w.cmd = nil
	if out, err := w.portreeve("event", "verify"); err != nil {
		t.Errorf("the event chain after %d processes: %v\n%s", upgrades+1, err, out)
	}
	if out, err := w.portreeve("stop"); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if logins.Load() < int64(busy) {
		t.Errorf("only %d log-ins", logins.Load())
	}
	result("upgrades", fmt.Sprintf("%d upgrades under %d busy sessions (%d log-ins, %d uploads and as many downloads)", upgrades, busy, logins.Load(), moved.Load()),
		fmt.Sprintf("%d failed; old processes ended by themselves; the event chain is whole", failed.Load()))
}

// transfer uploads a file slowly enough to be in the middle of an upgrade now
// and then, and reads it back.
func transfer(w *world, c *ftp.Client, name string) error {
	data := noise(50_000 + rand.IntN(200_000))
	if _, err := c.Store(w.ctx(), name, &slow{r: bytes.NewReader(data), pause: time.Duration(rand.IntN(30)) * time.Millisecond}, 0); err != nil {
		return fmt.Errorf("STOR: %w", err)
	}
	r, err := c.Retrieve(w.ctx(), name, 0)
	if err != nil {
		return fmt.Errorf("RETR: %w", err)
	}
	got, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err == nil && sha256.Sum256(got) != sha256.Sum256(data) {
		err = fmt.Errorf("%d octets came back changed", len(got))
	}
	return err
}

type slow struct {
	r     io.Reader
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.r.Read(p[:min(len(p), 32<<10)])
}

// TestUpgradeShared upgrades while all data connections share one port: the
// sessions of the old and of the new process transfer through it at the same
// time, also a transfer that was running, and an upgrade of the upgrade.
func TestUpgradeShared(t *testing.T) {
	w := newWorld(t, 1, "[limits]\nnever_ban = [\"127.0.0.1\"]\n")
	shared := freePort(t)
	b, err := os.ReadFile(w.config())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "[ftp.passive]\n", fmt.Sprintf("[ftp.passive]\nshared = \"127.0.0.1:%d\"\n", shared), 1) + "data_session = \"require\"\n"
	if err := os.WriteFile(w.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	login := func() *ftp.Client {
		t.Helper()
		c, err := ftp.Dial(w.ctx(), w.address(), ftp.ClientOptions{TLS: ftp.ExplicitTLS, TLSConfig: &tls.Config{InsecureSkipVerify: true}, Timeout: 30 * time.Second})
		if err == nil {
			err = c.Login(w.ctx(), user(0), password)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var clients []*ftp.Client
	pid := w.cmd.Process.Pid
	var pids []int
	move := func() {
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				for range 3 {
					if err := transfer(w, c, fmt.Sprintf("/s%d", i)); err != nil {
						t.Errorf("client %d of %d, after %d upgrades: %v", i, len(clients), len(pids), err)
						return
					}
					if p := int(c.LastData().Remote.Port()); p != shared {
						t.Errorf("data went to port %d, not to %d", p, shared)
					}
				}
			})
		}
		wg.Wait()
	}
	for range 3 {
		clients = append(clients, login(), login())
	}
	move()
	for range 2 {
		running := make(chan error, 1)
		mid, release := io.Pipe()
		go func() {
			_, err := clients[0].Store(w.ctx(), "/running", mid, 0)
			running <- err
		}()
		mid2 := noise(40_000)
		if _, err := release.Write(mid2); err != nil {
			t.Fatal(err)
		}
		out, err := w.portreeve("upgrade")
		m := regexp.MustCompile(`process (\d+) serves now`).FindStringSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("upgrade: %v\n%s", err, out)
		}
		pids = append(pids, pid)
		pid, _ = strconv.Atoi(m[1])
		release.Write(mid2)
		release.Close()
		if err := <-running; err != nil {
			t.Errorf("the transfer that was running: %v", err)
		}
		clients = append(clients, login(), login())
		move()
	}
	for _, c := range clients {
		c.Quit(w.ctx())
		c.Close()
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	w.cmd.Wait()
	w.cmd = nil
	if out, err := w.portreeve("stop"); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
}
