package torture

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/store"
)

// ledger is what the clients of one user know.
type ledger struct {
	mu       sync.Mutex
	tried    map[string][]sum // every content ever sent for a name, in order
	acked    map[string]int   // index in tried of the last acknowledged one; -1 deleted
	unsure   map[string]bool  // a delete was sent and not answered
	uploads  int64            // acknowledged
	logins   int64
	attempts int64
	last     error // of a log-in, for the message when nothing works
}

// work logs in, uploads, overwrites and deletes until the server is gone.
func (w *world) work(i int, l *ledger, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, err := w.login(i)
		if err != nil {
			l.mu.Lock()
			l.last = err
			l.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			continue
		}
		l.mu.Lock()
		l.logins++
		l.mu.Unlock()
		for range 1 + rand.IntN(6) {
			if w.step(c, l) != nil {
				break
			}
		}
		c.Close()
	}
}

func (w *world) step(c *ftp.Client, l *ledger) error {
	name := fmt.Sprintf("/f%d", rand.IntN(40))
	if rand.IntN(8) == 0 {
		l.mu.Lock()
		at, there := l.acked[name]
		if !there || at < 0 {
			l.mu.Unlock()
			return nil
		}
		l.unsure[name] = true
		l.mu.Unlock()
		if err := c.Remove(w.ctx(), name); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.acked[name] = -1
		l.unsure[name] = false
		return nil
	}
	data := noise(1 + rand.IntN(300_000))
	l.mu.Lock()
	l.tried[name] = append(l.tried[name], sha256.Sum256(data))
	at := len(l.tried[name]) - 1
	l.attempts++
	l.mu.Unlock()
	if _, err := c.Store(w.ctx(), name, bytes.NewReader(data), 0); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[name] = at
	l.unsure[name] = false
	l.uploads++
	return nil
}

// check compares the disk with what was acknowledged: one client for each user,
// so at most the last request of each is in doubt.
func (w *world) check(i int, l *ledger) {
	w.t.Helper()
	files, _ := w.visible(i)
	for name, at := range l.acked {
		got, there := files[name]
		switch {
		case at >= 0 && !there && !l.unsure[name]:
			w.t.Errorf("%s%s was acknowledged and is gone", user(i), name)
		case at >= 0 && there && !slices.Contains(l.tried[name][at:], got):
			w.t.Errorf("%s%s is not what was acknowledged, nor a later upload", user(i), name)
		}
	}
	for name, got := range files {
		if !slices.Contains(l.tried[name], got) {
			w.t.Errorf("%s%s is no complete upload: a part is visible", user(i), name)
		}
		// What is there now is the truth to go on from.
		l.acked[name] = slices.Index(l.tried[name], got)
		l.unsure[name] = false
	}
	for name := range l.acked {
		if _, there := files[name]; !there {
			l.acked[name] = -1
			l.unsure[name] = false
		}
	}
}

// TestKills kills the server at random moments under concurrent uploads,
// overwrites, deletions and log-ins.
func TestKills(t *testing.T) {
	const users = 4
	w := newWorld(t, users, "[audit]\nrequired = true\n[limits]\nnever_ban = [\"127.0.0.1\"]\nper_address = 0\nhalf_open = 0\n")
	ledgers := make([]*ledger, users)
	for i := range ledgers {
		ledgers[i] = &ledger{tried: map[string][]sum{}, acked: map[string]int{}, unsure: map[string]bool{}}
	}
	for round := range kills {
		w.start()
		w.checkQuota(round)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i, l := range ledgers {
			wg.Go(func() { w.work(i, l, stop) })
		}
		// Mostly in the middle of the work, which a busy machine begins late; now
		// and then while it begins.
		if rand.IntN(4) > 0 {
			before := acknowledged(ledgers)
			for end := time.Now().Add(10 * time.Second); acknowledged(ledgers) == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		w.kill()
		close(stop)
		wg.Wait()
		for i, l := range ledgers {
			w.check(i, l)
		}
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	w.start()
	w.checkQuota(kills)
	w.kill()
	var uploads, logins, attempts int64
	for _, l := range ledgers {
		uploads, logins, attempts = uploads+l.uploads, logins+l.logins, attempts+l.attempts
	}
	w.checkTrail(uploads, logins)
	if uploads < int64(kills) || attempts == uploads {
		t.Errorf("%d of %d uploads were acknowledged: the load was not what it should be; a log-in failed with: %v", uploads, attempts, ledgers[0].last)
	}
	result("kill -9", fmt.Sprintf("%d kills at random moments; %d log-ins and %d uploads by %d clients", kills, logins, attempts, users),
		fmt.Sprintf("%d uploads acknowledged, %d cut; none missing or short, none partly visible; database and event chain whole each time; quotas agree with the disk; every acknowledged log-in and upload in the trail", uploads, attempts-uploads))
}

func acknowledged(ls []*ledger) (n int64) {
	for _, l := range ls {
		l.mu.Lock()
		n += l.uploads
		l.mu.Unlock()
	}
	return n
}

// checkQuota waits for the recount after a crash and compares with the disk.
func (w *world) checkQuota(round int) {
	w.t.Helper()
	db := w.store()
	defer db.Close()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := db.MarkedQuota(w.ctx())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			w.t.Fatalf("quotas in doubt are not counted: %v", left)
		}
	}
	for i := range w.users {
		files, octets := w.visible(i)
		b, f, err := db.QuotaUsed(w.ctx(), user(i))
		if err != nil || b != octets || f != int64(len(files)) {
			log, _ := os.ReadFile(w.logs.Name())
			w.t.Logf("recounts and refused marks in the log:\n%s", quotaLines(log))
			w.t.Fatalf("after kill %d: the books of %s say %d octets in %d files, the disk has %d in %d (%v)", round, user(i), b, f, octets, len(files), err)
		}
	}
}

// quotaLines are the lines of the last starts that tell of quotas.
func quotaLines(log []byte) string {
	var out []string
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "quota") {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(0, len(out)-12):], "")
}

// checkTrail looks for an event of everything that was acknowledged.
func (w *world) checkTrail(uploads, logins int64) {
	w.t.Helper()
	db := w.store()
	defer db.Close()
	if v, err := db.VerifyEvents(w.ctx()); err != nil || v.Err() != nil {
		w.t.Errorf("the event chain: %v, %v", v.Err(), err)
	}
	if err := db.Check(w.ctx()); err != nil {
		w.t.Error(err)
	}
	for kind, least := range map[events.Kind]int64{events.Upload: uploads, events.Login: logins} {
		var n, after int64
		for {
			es, err := db.ListEvents(w.ctx(), store.EventFilter{Kinds: []events.Kind{kind}, After: after, Oldest: true, Limit: 1000})
			if err != nil {
				w.t.Fatal(err)
			}
			for _, e := range es {
				if e.Result == "ok" {
					n++
				}
				after = e.ID
			}
			if len(es) == 0 {
				break
			}
		}
		if n < least {
			w.t.Errorf("%d events of %s, %d were acknowledged", n, kind, least)
		}
	}
}
