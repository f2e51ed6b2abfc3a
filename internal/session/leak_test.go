package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
	"github.com/portreeve/portreeve/internal/limits"
	"github.com/portreeve/portreeve/internal/vfs"
)

// TestTenThousandSessions ends sessions in random places and counts what is
// left: goroutines, slots, pins, reservations, open storages. It also checks
// that each opened file has published exactly one event.
func TestTenThousandSessions(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	r.user(account.User{Name: "ann", Quota: account.Quota{Bytes: 1 << 30}})
	r.user(account.User{Name: "bob"})
	r.quota["ann"] = [2]int64{12, 1}
	for _, u := range []string{"ann", "bob"} {
		r.put("/srv/"+u, "/old", "some content")
	}
	before := runtime.NumGoroutine()
	var opened, logins atomic.Int64
	var wg sync.WaitGroup
	const sessions, workers = 10_000, 16
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 11))
			for i := range sessions / workers {
				one(r, rnd, fmt.Sprintf("/f%d-%d", w, i%8), &opened, &logins)
			}
		})
	}
	wg.Wait()
	r.idle()
	r.user(account.User{Name: "cid", Quota: account.Quota{Bytes: 1}})
	s := r.login("ann")
	if sp, err := s.Space(bg, "/"); err != nil {
		t.Error(err)
	} else if u := r.used(s, "/srv/ann"); sp.Free != u.MaxBytes-u.UsedBytes {
		t.Errorf("free %d, used %d", sp.Free, u.UsedBytes)
	}
	s.g.Close(nil)
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines before, %d after", before, n)
	}
	if n := int64(len(r.events(events.Upload, events.Download))); n != opened.Load() {
		t.Errorf("%d files opened, %d events", opened.Load(), n)
	}
	in, out := len(r.events(events.Login)), len(r.events(events.Logout))
	if in != out || int64(in) != logins.Load()+1 {
		t.Errorf("%d log-ins, events: %d in, %d out", logins.Load(), in, out)
	}
}

// one is the life of one connection; it returns at a random point and leaves
// open what it has, as a front that lost its client does.
func one(r *rig, rnd *rand.Rand, name string, opened, logins *atomic.Int64) {
	g, err := r.m.Connect(bg, origin(rnd.IntN(500)))
	if err != nil {
		r.t.Error(err)
		return
	}
	defer g.Close(errors.New("client is gone"))
	g.OnKick(func(string) {})
	if rnd.IntN(10) == 0 {
		return
	}
	if rnd.IntN(10) == 0 {
		g.Login(bg, auth.Password{User: "ann", Secret: "wrong"})
		return
	}
	s, err := g.Login(bg, auth.Password{User: []string{"ann", "bob"}[rnd.IntN(2)], Secret: "secret"})
	if err != nil {
		r.t.Error(err)
		return
	}
	logins.Add(1)
	for range rnd.IntN(4) {
		var f *File
		switch rnd.IntN(5) {
		case 0:
			f, err = s.Open(bg, "/old", 0)
		case 1:
			f, err = s.Create(bg, name, vfs.CreateOptions{Append: true})
		case 2:
			f, err = s.OpenHandle(bg, name, os.O_RDWR|os.O_CREATE, 0o644)
		default:
			f, err = s.Create(bg, name, vfs.CreateOptions{})
		}
		if err != nil {
			if k := fault.KindOf(err); k != fault.Busy && k != fault.Canceled && k != fault.NotExist {
				r.t.Error(err)
			} else if k != fault.NotExist { // a refusal is told as well
				opened.Add(1)
			}
			continue
		}
		opened.Add(1)
		if rnd.IntN(8) == 0 {
			r.m.Kick(s.ID(), "random")
		}
		switch rnd.IntN(5) {
		case 0:
			f.Grant(bg, 1000)
		case 1:
			io.WriteString(f, "some octets")
		case 2:
			io.WriteString(f, "some octets")
			f.Commit(bg)
		case 3:
			io.WriteString(f, "some octets")
			f.Close(f.Commit(bg))
		case 4:
			f.Close(io.ErrUnexpectedEOF)
		}
		for range s.List(bg, "/") {
			if rnd.IntN(3) == 0 {
				break
			}
		}
	}
	if rnd.IntN(3) == 0 {
		s.Close(nil)
	}
}

// closing counts how often storages are opened and closed.
type closing struct {
	vfs.FS
	open *atomic.Int64
}

func (c closing) Close() error { c.open.Add(-1); return nil }

func TestStoragesAreClosed(t *testing.T) {
	r := newRig(t, Config{}, testLimits)
	var open atomic.Int64
	fail := atomic.Bool{}
	opener := func(ctx context.Context, m account.Mount, p account.Policy) (vfs.FS, error) {
		if fail.Load() && m.Path == "/m" {
			return nil, fault.Text(fault.Unavailable, "the disk is gone")
		}
		f, err := r.open(ctx, m, p)
		open.Add(1)
		return closing{f, &open}, err
	}
	r.m = NewManager(Config{Users: r}, r, opener, r.l, r.bus)
	r.user(account.User{Name: "ann", Mounts: []account.Mount{{Path: "/m", Source: "/srv/m"}}})
	s := r.login("ann")
	if n := open.Load(); n != 2 {
		t.Errorf("%d storages open", n)
	}
	r.want(r.m.Refresh(bg, "ann"), fault.None)
	s.Close(nil)
	if n := open.Load(); n != 0 {
		t.Errorf("%d storages left open", n)
	}
	fail.Store(true)
	_, err := s.g.Login(bg, auth.Password{User: "ann", Secret: "secret"})
	r.want(err, fault.Unavailable)
	if n := open.Load(); n != 0 {
		t.Errorf("%d storages left open after a failed log-in", n)
	}
	s.g.Close(nil)
	r.idle()
	if c := r.l.Counts(); c != (limits.Counts{}) {
		t.Errorf("%+v", c)
	}
}
