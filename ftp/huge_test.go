package ftp

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"
)

// hugeBackend has a directory of a million entries everywhere.
type hugeBackend struct {
	*memBackend
	given chan int // how many were listed
}

type hugeSession struct {
	Session
	b *hugeBackend
}

func (b *hugeBackend) Login(ctx context.Context, c *Conn, cred Credentials) (Session, error) {
	s, err := b.memBackend.Login(ctx, c, cred)
	if err != nil {
		return nil, err
	}
	return hugeSession{s, b}, nil
}

const million = 1_000_000

func (s hugeSession) List(ctx context.Context, _ string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		n := 0
		defer func() { s.b.given <- n }()
		for ; n < million && ctx.Err() == nil; n++ {
			if !yield(Info{Name: fmt.Sprintf("file-%07d-with-a-name-of-usual-length.dat", n), Size: 1, Mode: 0o644, ModTime: time.Unix(1e9, 0)}, nil) {
				return
			}
		}
	}
}

// TestMillionEntries: a listing is streamed. It begins at once, takes no
// memory to speak of, and ABOR ends it in the middle.
func TestMillionEntries(t *testing.T) {
	b := &hugeBackend{newMemBackend(), make(chan int, 2)}
	_, addr := startEngine(t, Config{Backend: b})
	for _, command := range []string{"MLSD", "LIST", "NLST"} {
		c := dialRaw(t, addr).login()
		d := c.passive()
		began := time.Now()
		c.do(150, "%s", command)
		r := bufio.NewReader(d)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: the first entry came after %s", command, took)
		}
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 50_000 {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > before.HeapAlloc+2<<20 {
			t.Errorf("%s: %d octets more are in use after 50,000 entries", command, now.HeapAlloc-before.HeapAlloc)
		}
		c.say("ABOR")
		c.expect(426)
		c.expect(226)
		select {
		case n := <-b.given:
			if n >= million {
				t.Errorf("%s: all entries were made although the client was gone", command)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the listing goes on after ABOR", command)
		}
		d.Close()
		c.do(221, "QUIT")
	}
}
